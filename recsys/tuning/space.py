"""Say where a search may look: the families' own spaces, narrowed by the line."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from recsys.errors import LineError
from recsys.models import COLD, FAMILIES
from recsys.records import Configuration, Plan
from recsys.settings import Line
from recsys.spelling import suggestion
from recsys.tuning.encoding import same

Value = int | float | str | bool

FAMILY = "family"
"""Name of the parameter that picks the family; those of a family are called `<family>.<parameter>`."""


@dataclass(frozen=True, slots=True)
class Space:
    """Where a search looks, as Optuna's distributions by family and parameter."""

    families: Mapping[str, Mapping[str, BaseDistribution]]

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Everything that is searched, by Optuna's names; what hangs on something comes after it."""
        own = {f"{family}.{name}": d for family, searched in self.families.items() for name, d in searched.items()}
        return {FAMILY: CategoricalDistribution(tuple(self.families)), **own}

    @property
    def conditions(self) -> dict[str, tuple[str, Value]]:
        """What each parameter hangs on, by Optuna's names: another parameter and the value that it must have."""
        found: dict[str, tuple[str, Value]] = {}
        for family, searched in self.families.items():
            for name in searched:
                parent, value = FAMILIES[family].conditions.get(name, ("", ""))
                found[f"{family}.{name}"] = (f"{family}.{parent}", value) if parent else (FAMILY, family)
        return found

    @property
    def settled(self) -> dict[str, tuple[BaseDistribution, Value]]:
        """What the line has fixed at one value though its family has more, by Optuna's names: the family's and it."""
        return {
            f"{family}.{name}": (FAMILIES[family].ranges[name], _only(d))
            for family, searched in self.families.items()
            for name, d in searched.items()
            if d.single() and not FAMILIES[family].ranges[name].single()
        }

    @property
    def scales(self) -> dict[str, BaseDistribution]:
        """Where a family has a range and the line lists numbers of it, by Optuna's names: the family's range."""
        return {
            f"{family}.{name}": FAMILIES[family].ranges[name]
            for family, searched in self.families.items()
            for name, d in searched.items()
            if isinstance(d, CategoricalDistribution)
            and not d.single()
            and not isinstance(FAMILIES[family].ranges[name], CategoricalDistribution)
        }

    def suggest(self, trial: optuna.Trial) -> tuple[str, dict[str, Value]]:
        """Let `trial` choose a family and its parameters; what is not searched stays at the family's defaults."""
        family = trial.suggest_categorical(FAMILY, list(self.families))
        configuration: dict[str, Value] = dict(FAMILIES[family].defaults)
        for name, distribution in self.families[family].items():
            if FAMILIES[family].matters(name, configuration):
                configuration[name] = _SUGGEST[type(distribution)](trial, f"{family}.{name}", distribution)
        return family, configuration

    def parameters(self, family: str, configuration: Configuration) -> dict[str, Value] | None:
        """Write a configuration as the parameters that `suggest` would have chosen.

        Returns:
            Values by Optuna's names; nothing where the configuration lies outside the space, so that a sampler could
            not have chosen it.
        """
        if family not in self.families:
            return None
        own = FAMILIES[family]
        searched = {name: d for name, d in self.families[family].items() if own.matters(name, configuration)}
        if not all(allows(d, configuration.get(name)) for name, d in searched.items()):
            return None
        return {FAMILY: family, **{f"{family}.{name}": configuration[name] for name in searched}}

    def start(self, family: str) -> dict[str, Value]:
        """Write the family's defaults as parameters.

        What the line has narrowed to one other value has that one; what it has narrowed to several is left out.
        """
        own = FAMILIES[family]
        configuration: dict[str, Value] = dict(own.defaults)
        found: dict[str, Value] = {FAMILY: family}
        for name, distribution in self.families[family].items():
            settled = distribution.single() and not allows(distribution, own.defaults[name])
            configuration[name] = _only(distribution) if settled else own.defaults[name]
            if own.matters(name, configuration) and allows(distribution, configuration[name]):
                found[f"{family}.{name}"] = configuration[name]
        return found


def search_space(line: Line, plan: Plan | None = None) -> Space:
    """Build the space that the line's `search.families` and `search.space` describe.

    Two numbers are a range with both ends, any other list is the values themselves.

    Args:
        line: Whose search.
        plan: Of the search; where it has no weights to begin from, every training begins cold.

    Raises:
        LineError: A family or parameter does not exist, or a value lies outside what its family can take.
    """
    whole = {name: _narrowed(name, line.search.space.get(name, {})) for name in line.search.families}
    if plan is None or plan.weights is not None:
        return Space(whole)
    cold = CategoricalDistribution((COLD,))
    return Space({name: {**own, **({"start": cold} if "start" in own else {})} for name, own in whole.items()})


def allows(distribution: BaseDistribution, value: object) -> bool:
    """Whether `value` is of the distribution's type, in its range and on its grid."""
    if isinstance(distribution, CategoricalDistribution):
        # A whole number may stand for a fractional one, and not the other way round, as in ranges.
        return any(same(value, choice) and type(choice) in (type(value), float) for choice in distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    types = (int,) if isinstance(distribution, IntDistribution) else (int, float)
    if type(value) not in types or not distribution.low <= value <= distribution.high:  # type: ignore[operator]
        return False
    steps = (value - distribution.low) / (distribution.step or 1)  # type: ignore[operator]
    return distribution.step is None or abs(steps - round(steps)) < 1e-9


def span(distribution: BaseDistribution) -> str:
    """Say for people what may be chosen.

    >>> span(IntDistribution(128, 1024, step=128))
    '128 to 1024 in steps of 128'
    >>> span(FloatDistribution(3e-4, 3e-2, log=True))
    '0.0003 to 0.03, log'
    >>> span(CategoricalDistribution(["full", "sampled"]))
    'full, sampled'
    """
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(map(str, distribution.choices))
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    grid = f" in steps of {distribution.step}" if distribution.step not in (None, 1) else ""
    return f"{distribution.low:g} to {distribution.high:g}{grid}{', log' if distribution.log else ''}"


def _narrowed(family: str, limits: Mapping[str, Sequence[Any]]) -> Mapping[str, BaseDistribution]:
    if family not in FAMILIES:
        raise LineError(f"search.families: must be among {sorted(FAMILIES)}, but one is {family!r}.")
    own, ranges = FAMILIES[family].space, FAMILIES[family].ranges
    for name in limits:
        if name not in ranges:
            raise LineError(
                f"search.space.{family}.{name}: no such parameter is searched; it must be one of {sorted(ranges)}."
                f"{suggestion(name, ranges)}"
            )
    return MappingProxyType(
        {
            name: _narrow(f"search.space.{family}.{name}", distribution, limits[name])
            if name in limits
            else distribution
            for name, distribution in ranges.items()
            if name in own or name in limits
        }
    )


def _narrow(key: str, distribution: BaseDistribution, limits: Sequence[Any]) -> BaseDistribution:
    if not limits:
        raise LineError(f"{key}: must be [low, high] or a list of values, but is empty.")
    for value in limits:
        if not allows(distribution, value):
            raise LineError(f"{key}: must hold {_rule(distribution)}, but holds {value!r}.")
    if isinstance(distribution, CategoricalDistribution):
        return CategoricalDistribution(tuple(limits))
    if len(limits) != 2:
        number = int if isinstance(distribution, IntDistribution) else float
        return CategoricalDistribution(tuple(number(value) for value in limits))
    low, high = limits
    if low > high:
        raise LineError(f"{key}: must be [low, high] with low not over high, but is [{low}, {high}].")
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return type(distribution)(low, high, log=distribution.log, step=distribution.step)  # type: ignore[arg-type]


def _only(distribution: BaseDistribution) -> Value:
    """Give the one value of a distribution that has no other."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]  # type: ignore[return-value]
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return distribution.low


def _rule(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return f"values among {list(distribution.choices)}"
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    kind = "whole numbers" if isinstance(distribution, IntDistribution) else "numbers"
    grid = f" in steps of {distribution.step}" if distribution.step not in (None, 1) else ""
    return f"{kind} within {distribution.low}..{distribution.high}{grid}"


_SUGGEST: Mapping[type[BaseDistribution], Callable[[optuna.Trial, str, Any], Value]] = {
    CategoricalDistribution: lambda trial, name, d: trial.suggest_categorical(name, d.choices),
    IntDistribution: lambda trial, name, d: trial.suggest_int(name, d.low, d.high, step=d.step, log=d.log),
    FloatDistribution: lambda trial, name, d: trial.suggest_float(name, d.low, d.high, step=d.step, log=d.log),
}
