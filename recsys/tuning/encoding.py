"""Write parameters as points, so that those of several searches lie in one space however it was edited between them."""

from collections.abc import Mapping, Sequence
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
the list."""


@dataclass(frozen=True, eq=False)
class Encoding:
    """One order, scale and list of choices for every parameter that any search had.

    Args:
        distributions: Where the searches look or looked, by parameter.
        conditions: A parameter that exists only where another one, named first, has the value named second.
        settled: What is searched no more, with the value that it now has; nothing else is drawn for it.
    """

    distributions: Mapping[str, BaseDistribution]
    conditions: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    settled: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def names(self) -> list[str]:
        """The parameters in the order of the columns."""
        return list(self.distributions)

    @cached_property
    def categorical(self) -> NDArray[np.bool_]:
        """Which columns hold choices. Shape [D]."""
        return np.array([isinstance(d, CategoricalDistribution) for d in self.distributions.values()], bool)

    def points(self, many: Sequence[Parameters]) -> Points:
        """Write each set of parameters as a row. What has no column is passed over, what is missing is NaN."""
        rows = np.full((len(many), len(self.names)), np.nan)
        for row, parameters in zip(rows, many, strict=True):
            for column, name in enumerate(self.names):
                if name in parameters and self.exists(name, parameters):
                    row[column] = place(self.distributions[name], parameters[name])
        return rows

    def parameters(self, point: NDArray[np.float64]) -> dict[str, Any]:
        """Read a point back as the parameters that exist there, each rounded to a value it can take."""
        found: dict[str, Any] = {}
        for column, name in enumerate(self.names):
            if name in self.settled:
                found[name] = self.settled[name]
            elif self.exists(name, found) and not np.isnan(point[column]):
                found[name] = value(self.distributions[name], float(point[column]))
        return found

    def draw(self, n: int, rng: np.random.Generator) -> Points:
        """Draw points evenly from the space, with NaN where a parameter does not exist. Shape [n, D]."""
        drawn = rng.random((n, len(self.names)))
        for column, distribution in enumerate(self.distributions.values()):
            if isinstance(distribution, CategoricalDistribution):
                drawn[:, column] = rng.integers(len(distribution.choices), size=n)
        return self.tidy(drawn)

    def tidy(self, points: Points) -> Points:
        """Put NaN where a parameter does not exist and move everything else to a value that it can take."""
        filled = np.where(np.isnan(points), np.where(self.categorical, 0.0, 0.5), points)
        tidied = np.full_like(filled, np.nan)
        for column, (name, distribution) in enumerate(self.distributions.items()):
            if name in self.settled:
                taken = np.full(len(points), place(distribution, self.settled[name]))
            else:
                taken = _taken(distribution, filled[:, column])
            tidied[:, column] = np.where(self._exist(name, tidied), taken, np.nan)
        return tidied

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
        return np.isclose(at, place(self.distributions[parent], needed))  # NaN is close to nothing


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
        same = [n for n, choice in enumerate(distribution.choices) if type(choice) is type(value) and choice == value]
        return float(same[0] if same else len(distribution.choices))
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if isinstance(value, bool) or not isinstance(value, int | float) or (distribution.log and value <= 0):
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
    """Give the place of the `value` at each place. Shape [n]."""
    if isinstance(distribution, CategoricalDistribution):
        return np.minimum(np.rint(places), len(distribution.choices) - 1)
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
