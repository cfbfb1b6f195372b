"""Write parameters as points, so that those of several searches lie in one space however it was edited between them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Parameters = Mapping[str, Any]

Points = NDArray[np.float64]
"""Parameters as numbers: shape [n, D], NaN where a parameter does not exist. A number is its place between the ends of
its distribution, 0 to 1, on the distribution's own scale; one from elsewhere may lie outside. A choice is its place in
the list, and one that the list has no more a place of its own after the last."""


@dataclass(frozen=True, eq=False)
class Encoding:
    """One order, scale and list of choices for every parameter that any search had.

    Args:
        distributions: Where the searches look or looked, by parameter.
        conditions: A parameter that exists only where another one, named first, has the value named second.
        settled: What is searched no more, with the value that it now has; nothing else is drawn for it.
        scales: Of parameters whose distribution is a list of numbers, what these numbers lie on; they are written as
            numbers, and read back as the nearest of the list.
        gone: Values that trials of before have and the lists of other parameters have no more, see `gone_from`.
    """

    distributions: Mapping[str, BaseDistribution]
    conditions: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    settled: Mapping[str, Any] = field(default_factory=dict)
    scales: Mapping[str, BaseDistribution] = field(default_factory=dict)
    gone: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @cached_property
    def names(self) -> list[str]:
        """The parameters in the order of the columns."""
        return list(self.distributions)

    @cached_property
    def categorical(self) -> NDArray[np.bool_]:
        """Which columns hold choices. Shape [D]."""
        listed = (isinstance(d, CategoricalDistribution) for d in self.distributions.values())
        return np.array(
            [kinds and name not in self.scales for name, kinds in zip(self.names, listed, strict=True)], bool
        )

    def points(self, many: Sequence[Parameters]) -> Points:
        """Write each set of parameters as a row. What has no column is passed over, what is missing is NaN."""
        rows = np.full((len(many), len(self.names)), np.nan)
        for row, parameters in zip(rows, many, strict=True):
            for column, name in enumerate(self.names):
                if name in parameters and self.exists(name, parameters):
                    row[column] = self._place(name, parameters[name])
        return rows

    def parameters(self, point: NDArray[np.float64]) -> dict[str, Any]:
        """Read a point back as the parameters that exist there, each rounded to a value it can take."""
        found: dict[str, Any] = {}
        for column, name in enumerate(self.names):
            if name in self.settled:
                found[name] = self.settled[name]
            elif self.exists(name, found) and not np.isnan(point[column]):
                found[name] = self._value(name, float(point[column]))
        return found

    def draw(self, n: int, rng: np.random.Generator) -> Points:
        """Draw points evenly from the space, with NaN where a parameter does not exist. Shape [n, D]."""
        drawn = rng.random((n, len(self.names)))
        for column, (name, distribution) in enumerate(self.distributions.items()):
            if isinstance(distribution, CategoricalDistribution):
                kinds = rng.integers(len(distribution.choices), size=n)
                drawn[:, column] = self._places(name)[kinds] if name in self.scales else kinds
        return self.tidy(drawn)

    def tidy(self, points: Points) -> Points:
        """Put NaN where a parameter does not exist and move everything else to a value that it can take."""
        filled = np.where(np.isnan(points), np.where(self.categorical, 0.0, 0.5), points)
        tidied = np.full_like(filled, np.nan)
        for column, (name, distribution) in enumerate(self.distributions.items()):
            if name in self.settled:
                taken = np.full(len(points), self._place(name, self.settled[name]))
            elif name in self.scales:
                taken = self._places(name)[self._nearest(name, filled[:, column])]
            elif isinstance(distribution, CategoricalDistribution):
                taken = self._kinds(name, filled[:, column]).astype(float)
            else:
                taken = _taken(distribution, filled[:, column])
            tidied[:, column] = np.where(self._exist(name, tidied), taken, np.nan)
        return tidied

    def possible(self, points: Points) -> tuple[Points, NDArray[np.int64]]:
        """Move points to where trials may be proposed.

        Where a choice is gone that no other one is near to, nobody knows which one stands for it, so such a point
        becomes as many as there are choices.

        Returns:
            The points, and of each which of the given ones it was.
        """
        made, of = points, np.arange(len(points))
        for column, name in enumerate(self.names):
            distribution = self.distributions[name]
            if not isinstance(distribution, CategoricalDistribution) or name in {*self.scales, *self.settled}:
                continue
            n = len(distribution.choices)
            lost = np.array([at >= n and self._stand_in(name, at) is None for at in made[:, column]], bool)
            if not lost.any():
                continue
            again = np.repeat(np.arange(len(made)), np.where(lost, n, 1))
            kinds = np.concatenate(
                [np.arange(n) if one else [at] for one, at in zip(lost, made[:, column], strict=True)]
            )
            made, of = made[again], of[again]
            made[:, column] = kinds
        return self.tidy(made), of

    def exists(self, name: str, parameters: Parameters) -> bool:
        """Whether a parameter exists beside the others."""
        if name not in self.conditions:
            return True
        parent, needed = self.conditions[name]
        return parameters.get(parent) == needed and self.exists(parent, parameters)

    def _exist(self, name: str, points: Points) -> NDArray[np.bool_]:
        """Say of each point whether a parameter exists there; what it hangs on comes before it. Shape [n]."""
        if name not in self.conditions:
            return np.ones(len(points), bool)
        parent, needed = self.conditions[name]
        at: NDArray[np.float64] = points[:, self.names.index(parent)]
        return np.isclose(at, self._place(parent, needed))  # NaN is close to nothing

    def _place(self, name: str, value: object) -> float:
        if name in self.scales:
            return place(self.scales[name], value)
        at = place(self.distributions[name], value)
        return at + next((n for n, lost in enumerate(self.gone.get(name, ())) if same(lost, value)), 0)

    def _value(self, name: str, at: float) -> object:
        distribution = self.distributions[name]
        if not isinstance(distribution, CategoricalDistribution):
            return value(distribution, at)
        find = self._nearest if name in self.scales else self._kinds
        return distribution.choices[int(find(name, np.array([at]))[0])]

    def _places(self, name: str) -> NDArray[np.float64]:
        """Give the places of a list's numbers on their scale. Shape [choices]."""
        return np.array([place(self.scales[name], choice) for choice in self._choices(name)])

    def _nearest(self, name: str, places: NDArray[np.float64]) -> NDArray[np.int64]:
        """Say which number of a list lies nearest to each place. Shape [n]."""
        nearest: NDArray[np.int64] = np.abs(places[:, None] - self._places(name)[None, :]).argmin(axis=1)
        return nearest

    def _kinds(self, name: str, places: NDArray[np.float64]) -> NDArray[np.int64]:
        """Say which choice each place stands for: what is gone for the nearest number, else the last one. Shape [n]."""
        n = len(self._choices(name))
        kinds = np.minimum(np.rint(places), n - 1).astype(int)
        for row in np.flatnonzero(places >= n):
            stand_in = self._stand_in(name, float(places[row]))
            kinds[row] = kinds[row] if stand_in is None else stand_in
        return kinds

    def _stand_in(self, name: str, at: float) -> int | None:
        """Say which choice is nearest to one that is gone; nothing where they are no numbers, or it is not known."""
        choices, lost = self._choices(name), self.gone.get(name, ())
        n = round(at) - len(choices)
        if n >= len(lost) or not all(map(is_number, (lost[n], *choices))):
            return None
        return min(range(len(choices)), key=lambda kind: abs(choices[kind] - lost[n]))

    def _choices(self, name: str) -> Sequence[Any]:
        distribution = self.distributions[name]
        assert isinstance(distribution, CategoricalDistribution)
        return distribution.choices


def gone_from(distributions: Mapping[str, BaseDistribution], many: Iterable[Parameters]) -> dict[str, tuple[Any, ...]]:
    """List the values that parameters have and their lists of choices have no more, each once and in a fixed order."""
    found: dict[str, dict[str, Any]] = {}
    for parameters in many:
        for name, choice in parameters.items():
            listed = distributions.get(name)
            if isinstance(listed, CategoricalDistribution) and not any(same(choice, each) for each in listed.choices):
                found.setdefault(name, {}).setdefault(
                    f"{float(choice)!r}" if is_number(choice) else repr(choice), choice
                )
    return {name: tuple(lost[key] for key in sorted(lost)) for name, lost in found.items()}


def same(a: object, b: object) -> bool:
    """Whether two values are equal: numbers by what they amount to, anything else of one type.

    >>> same(0, 0.0), same(1, True), same("a", "a")
    (True, False, True)
    """
    return a == b and (type(a) is type(b) or (is_number(a) and is_number(b)))


def is_number(value: object) -> bool:
    """Whether a value is a number; truth is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def place(distribution: BaseDistribution, value: object) -> float:
    """Give the place of a value.

    A choice that the distribution does not have gets one after the last, so that it is like no other; a value that is
    no number where one is needed has none.

    >>> place(FloatDistribution(0.001, 0.1, log=True), 0.01)
    0.5
    >>> place(CategoricalDistribution(["a", "b"]), "gone")
    2.0
    """
    if isinstance(distribution, CategoricalDistribution):
        equal = [n for n, choice in enumerate(distribution.choices) if same(choice, value)]
        return float(equal[0] if equal else len(distribution.choices))
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if not isinstance(value, int | float) or not is_number(value) or (distribution.log and value <= 0):
        return float("nan")
    low, high, at = (_scaled(distribution, number) for number in (distribution.low, distribution.high, value))
    return float((at - low) / (high - low)) if high > low else 0.5


def value(distribution: BaseDistribution, at: float) -> object:
    """Give the value at a place, rounded to the distribution's grid and moved into its range.

    >>> value(IntDistribution(0, 10, step=5), 0.6)
    5
    """
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[min(round(at), len(distribution.choices) - 1)]
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high = (_scaled(distribution, number) for number in (distribution.low, distribution.high))
    exact = low + min(max(at, 0.0), 1.0) * (high - low)
    number = float(np.exp(exact)) if distribution.log else float(exact)
    if distribution.step is not None:
        number = distribution.low + distribution.step * round((number - distribution.low) / distribution.step)
    number = min(max(number, distribution.low), distribution.high)
    return round(number) if isinstance(distribution, IntDistribution) else number


def _taken(distribution: BaseDistribution, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the place of the number at each place. Shape [n]."""
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    low, high = (_scaled(distribution, number) for number in (distribution.low, distribution.high))
    if high <= low:
        return np.full(len(places), 0.5)
    numbers = low + np.clip(places, 0.0, 1.0) * (high - low)
    if distribution.log:
        numbers = np.exp(numbers)
    if distribution.step is not None:
        numbers = distribution.low + distribution.step * np.rint((numbers - distribution.low) / distribution.step)
    numbers = np.clip(numbers, distribution.low, distribution.high)
    return ((np.log(numbers) if distribution.log else numbers) - low) / (high - low)


def _scaled(distribution: IntDistribution | FloatDistribution, number: float) -> float:
    return float(np.log(number)) if distribution.log else float(number)
