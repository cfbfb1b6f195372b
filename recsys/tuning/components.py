"""Take a configuration apart: each of its components, and how the configuration reads without it."""

from collections.abc import Iterator

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from recsys.models import Family, Value
from recsys.records import Component, Configuration
from recsys.tuning.ranking import identity


def components(family: Family, configuration: Configuration) -> list[Component]:
    """List what a configuration can do without, one component at a time, those of the first tier first.

    A knob that leaves a part of the model out gives that part. Of the others, capacity gives one step less of it, and
    a value that is not the family's default gives the default. What changes nothing, or comes to the same as a
    component before it, is not listed.

    Args:
        family: Of the configuration.
        configuration: A value for every key of the family's defaults.
    """
    seen = {identity(family.name, configuration)}
    found = []
    for component in _candidates(family, configuration):
        name = identity(family.name, {**configuration, **component.changes})
        if name not in seen:
            seen.add(name)
            found.append(component)
    return found


def _candidates(family: Family, configuration: Configuration) -> Iterator[Component]:
    for name, knob in sorted(family.knobs.items(), key=lambda pair: pair[1].tier):
        yield from (Component(name=part.what, knob=name, changes=part.values) for part in knob.without)
        if knob.without:
            continue
        smaller = _smaller(family.space[name], configuration[name]) if knob.capacity else None
        if smaller is not None:
            yield Component(name=f"a step of {name}", knob=name, changes={name: smaller})
        elif not knob.capacity:
            yield Component(name=f"{name} as tuned", knob=name, changes={name: family.defaults[name]})


def _smaller(distribution: BaseDistribution, value: Value) -> Value | None:
    """Give the largest value that is smaller; nothing where there is none."""
    if isinstance(distribution, CategoricalDistribution):
        known = [choice for choice in distribution.choices if choice < value]  # type: ignore[operator]
        return max(known, default=None)  # type: ignore[type-var]
    assert isinstance(distribution, IntDistribution), "capacity is counted in whole numbers"
    smaller = range(distribution.low, min(int(value), distribution.high + 1), distribution.step)
    return smaller[-1] if smaller else None
