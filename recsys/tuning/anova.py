"""Divide what tells configurations apart among parameters and pairs of them, and say how much of it chance explains.

The values are explained by a Gaussian process whose kernel is a sum of one part for each parameter and one for each
pair, each of mean zero over the space: Durrande, Ginsbourger, Roustant and Carraro 2013, "ANOVA kernels and RKHS of
zero mean functions for model-based sensitivity analysis". What it believes falls into the same parts, whose expected
variances over the space are the terms of a functional analysis of variance (Sobol 1993; Hutter, Hoos and Leyton-Brown
2014). Chance is what the same process finds where a part is known to be missing: what the other parts leave
unexplained is permuted among the trials (Freedman and Lane 1983).

Letters for shapes: n trials, D parameters, G places of one parameter, Q points of the space, P permutations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, eigh
from scipy.optimize import minimize

from recsys.tuning.encoding import Points
from recsys.tuning.kernel import JITTER, Matrix, Vector, differences, matern

PERMUTED = 999  # how often; p-values are whole multiples of 1 / 1000
SAMPLED = 160  # points of the space at which a parameter's effect is drawn
DRAWN = 400  # draws of it
INTERVAL = (0.05, 0.95)

_WEIGHT = 4.0  # of a number's squared differences: places half a range apart differ by 1
_NOISES = np.geomspace(0.02, 2.0, 24)  # variances that the other parts may leave unexplained

Part = tuple[int, ...]  # the columns of one parameter or of a pair


@dataclass(frozen=True, eq=False)
class Axis:
    """One parameter as it is spread over the space.

    Args:
        places: Equally likely ones, shape [G].
        categorical: Whether they are choices.
        exists: In which part of the space it exists, 0 to 1.
    """

    places: Vector
    categorical: bool
    exists: float = 1.0

    def __call__(self, a: Vector, b: Vector) -> Matrix:
        """Correlate places, so that any effect is 0 in the mean over the parameter. Shapes [n] and [m] to [n, m].

        Where the parameter does not exist, it has no effect.
        """
        here = ~np.isnan(a)[:, None] & ~np.isnan(b)[None, :]
        a, b = np.nan_to_num(a), np.nan_to_num(b)
        centred = self._base(a, b) - np.outer(self._mean(a), self._mean(b)) / self._level  # Durrande et al., eq. 9
        return np.where(here, centred / self._scale, 0.0)

    @cached_property
    def _level(self) -> float:
        return float(self._base(self.places, self.places).mean())

    @cached_property
    def _scale(self) -> float:
        """Mean variance of what is left, which is made 1."""
        return float((1.0 - self._mean(self.places) ** 2 / self._level).mean()) or 1.0

    def _mean(self, a: Vector) -> Vector:
        mean: Vector = self._base(a, self.places).mean(1)
        return mean

    def _base(self, a: Vector, b: Vector) -> Matrix:
        return matern((1.0 if self.categorical else _WEIGHT) * differences(a, b, self.categorical))


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a parameter or a pair explains of the differences between trials.

    Shares are of everything that tells trials apart, over the whole space, with what no parameter explains.
    """

    share: float  # of a parameter: with all its interactions; of a pair: beyond what each does by itself
    low: float
    high: float
    alone: float  # by itself
    p: float  # how often chance looks like as much


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What each parameter and each pair explain, by their columns."""

    parameters: dict[int, Effect]
    pairs: dict[tuple[int, int], Effect]
    curves: dict[int, Vector]  # of a parameter by itself: what is expected at each of its places, shape [G]


def effects(
    points: Points, values: Vector, studies: NDArray[np.int64], axes: Sequence[Axis], *, apart: int, seed: int
) -> Effects:
    """Divide the differences between `values`.

    Args:
        points: Shape [n, D], NaN where a parameter does not exist.
        values: About standard normal within each study, shape [n].
        studies: Which one each value is of; values of one may share an offset. Shape [n].
        axes: One a column.
        apart: Trials in which both of two parameters must exist and vary, or nothing is said of the pair.
        seed: Of permutations and draws.
    """
    pairs = [pair for pair in combinations(range(len(axes)), 2) if _vary(points[:, list(pair)], apart)]
    return _Decomposition(points, values, studies, axes, pairs).effects(np.random.default_rng(seed))


def varies(column: Vector, apart: int) -> bool:
    """Whether a parameter exists in at least `apart` trials, and in a fifth of them is not what it is in most."""
    there = column[~np.isnan(column)]
    if len(there) < max(apart, 1):
        return False
    return bool(np.unique(there, return_counts=True)[1].max() <= 0.8 * len(there))


def _vary(columns: Matrix, apart: int) -> bool:
    both = columns[~np.isnan(columns).any(1)]
    return len(both) >= apart and all(varies(column, apart) for column in both.T)


class _Decomposition:
    """The process with one part for each parameter and pair."""

    def __init__(
        self,
        points: Points,
        values: Vector,
        studies: NDArray[np.int64],
        axes: Sequence[Axis],
        pairs: Sequence[tuple[int, int]],
    ) -> None:
        self._points, self._values, self._studies, self._axes = points, values, studies, axes
        self._parts: list[Part] = [*((column,) for column in range(len(axes))), *pairs]
        self._single = [axis(points[:, j], points[:, j]) for j, axis in enumerate(axes)]
        across = [axis(points[:, j], axis.places) for j, axis in enumerate(axes)]  # [n, G] each
        self._gram = [a @ a.T / a.shape[1] for a in across]
        self._offset = 1.0 + (studies[:, None] == studies[None, :])
        mains = sum(self._single, np.zeros((len(values),) * 2))
        both = sum((self._kernel(pair) for pair in pairs), np.zeros((len(values),) * 2))
        self._main, self._pair, self._noise = _likeliest(values, mains, both, self._offset)
        covariance = self._main * mains + self._pair * both + self._offset
        covariance[np.diag_indices_from(covariance)] += self._noise + JITTER
        self._covariance = covariance
        self._factor = cho_factor(covariance, lower=True)
        self._solved: Vector = cho_solve(self._factor, values)
        self._inverse: Matrix = cho_solve(self._factor, np.eye(len(values)))

    def effects(self, rng: np.random.Generator) -> Effects:
        expected = {part: self._expected(part) for part in self._parts}
        everything = sum(expected.values()) + self._noise
        order = _within(self._studies, rng)  # [n, P]
        found: dict[Part, Effect] = {}
        for part in self._parts:
            own = [other for other in self._parts if set(part) <= set(other)]
            share = sum(expected[other] for other in own) / everything  # parts have nothing in common, so they add up
            drawn = self._draws(own, rng)
            low, high = np.quantile(drawn / drawn.mean(), INTERVAL) * share
            found[part] = Effect(
                share=min(share, 1.0),
                low=min(float(low), 1.0),
                high=min(float(high), 1.0),
                alone=min(expected[part] / everything, 1.0),
                p=self._chance(own, order),
            )
        return Effects(
            parameters={part[0]: effect for part, effect in found.items() if len(part) == 1},
            pairs={(part[0], part[1]): effect for part, effect in found.items() if len(part) == 2},
            curves={column: self._curve(column) for column in range(len(self._axes))},
        )

    def _kernel(self, part: Part) -> Matrix:
        return np.prod([self._single[column] for column in part], axis=0)  # type: ignore[no-any-return]

    def _variance(self, part: Part) -> Matrix:
        """Give the matrix M of which solved' M solved is the variance that the part explains over the space."""
        gram: Matrix = np.prod([self._gram[column] for column in part], axis=0)
        return self._exists(part) * self._signal(part) ** 2 * gram

    def _signal(self, part: Part) -> float:
        return self._main if len(part) == 1 else self._pair

    def _exists(self, part: Part) -> float:
        return float(np.prod([self._axes[column].exists for column in part]))

    def _expected(self, part: Part) -> float:
        """Give the expected variance of the part over the space: of its mean, and of the doubt about it."""
        m = self._variance(part)
        doubt = self._exists(part) * self._signal(part) - float((self._inverse * m).sum())
        return float(self._solved @ m @ self._solved) + max(doubt, 0.0)

    def _curve(self, column: int) -> Vector:
        axis = self._axes[column]
        curve: Vector = self._main * axis(axis.places, self._points[:, column]) @ self._solved
        return curve

    def _draws(self, own: Sequence[Part], rng: np.random.Generator) -> Vector:
        """Draw the variance over the space that the parts explain together, as the trials leave it open."""
        at = np.column_stack([axis.places[rng.integers(len(axis.places), size=SAMPLED)] for axis in self._axes])
        across, prior = np.zeros((len(self._values), SAMPLED)), np.zeros((SAMPLED, SAMPLED))
        for part in own:
            # What exists in a part of the space only counts by that part.
            weight = self._signal(part) * self._exists(part) ** 0.5
            across += weight * np.prod([self._axes[j](self._points[:, j], at[:, j]) for j in part], axis=0)
            prior += (
                self._signal(part)
                * self._exists(part)
                * np.prod([self._axes[j](at[:, j], at[:, j]) for j in part], axis=0)
            )
        left = prior - across.T @ self._inverse @ across
        size, direction = eigh(left)
        root = direction * np.sqrt(np.maximum(size, 0.0))
        drawn = (across.T @ self._solved)[:, None] + root @ rng.standard_normal((SAMPLED, DRAWN))
        variance: Vector = (drawn**2).mean(0)
        return variance

    def _chance(self, own: Sequence[Part], order: NDArray[np.int64]) -> float:
        """Say how often the parts look as important where what they could explain has been permuted."""
        measure = sum((self._variance(part) for part in own), np.zeros_like(self._offset))
        reached = float(self._solved @ measure @ self._solved)
        others = self._covariance - sum(
            (self._signal(part) * self._kernel(part) for part in own), np.zeros_like(self._offset)
        )
        others[np.diag_indices_from(others)] -= self._noise
        noise = _likeliest_noise(self._values, others)
        inverse = np.linalg.inv(others + noise * np.eye(len(others)))
        left = noise * inverse @ self._values  # [n]
        # A fit leaves less than there was: of n degrees of freedom, noise x trace(inverse).
        whole = left * (len(left) / (noise * np.trace(inverse))) ** 0.5
        permuted = (self._values - left)[:, None] + whole[order]  # [n, P]
        solved = cho_solve(self._factor, permuted)
        by_chance = np.einsum("np,np->p", solved, measure @ solved)
        return float((1 + np.sum(by_chance >= reached)) / (1 + len(by_chance)))


def _likeliest(values: Vector, mains: Matrix, pairs: Matrix, offset: Matrix) -> tuple[float, float, float]:
    """Find the variances of each parameter, each pair and the noise that make the values likely, within reason."""

    def loss(theta: Vector) -> float:
        main, pair, noise = np.exp(theta)
        covariance = main * mains + pair * pairs + offset + (noise + JITTER) * np.eye(len(values))
        factor = cho_factor(covariance, lower=True)
        fit = 0.5 * values @ cho_solve(factor, values) + np.log(np.diag(factor[0])).sum()
        return float(fit + 0.5 * (((theta - centre) / 1.5) ** 2).sum())

    centre = np.log([0.3, 0.03, 0.3])
    bounds = [(np.log(0.01), np.log(4.0)), (np.log(0.001), np.log(2.0)), (np.log(0.02), np.log(2.0))]
    found = minimize(loss, centre, method="L-BFGS-B", bounds=bounds, options={"maxiter": 25}).x
    main, pair, noise = np.exp(found)
    return float(main), float(pair), float(noise)


def _likeliest_noise(values: Vector, covariance: Matrix) -> float:
    """Find the variance of what a process leaves unexplained that makes the values likely."""
    size, direction = eigh(covariance)
    along = (direction.T @ values) ** 2  # [n]
    spread = np.maximum(size, 0.0)[:, None] + _NOISES[None, :]  # [n, noises]
    loss = (along[:, None] / spread + np.log(spread)).sum(0)
    return float(_NOISES[int(np.argmin(loss))])


def _within(studies: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw orders of the trials that leave each in its study. Shape [n, P]."""
    order = np.tile(np.arange(len(studies)), (PERMUTED, 1))
    for study in np.unique(studies):
        places = np.flatnonzero(studies == study)
        order[:, places] = rng.permuted(np.tile(places, (PERMUTED, 1)), axis=1)
    return order.T
