"""Foresee what a configuration will reach in a new search, from earlier searches as far as they prove right.

Two Gaussian processes are added: what the earlier searches say, with a weight, and what only the new one can tell. In
the terms of Bonilla et al. 2007, "Multi-task Gaussian Process Prediction", the earlier and the new search are two tasks
with the correlation r, and r is not fixed: each r on a grid is believed as far as it makes the new values likely. Where
the past does not predict, r goes to 0, and what is left is a search that knows of no other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cholesky, solve_triangular
from scipy.special import ndtr

from recsys.tuning.encoding import Points
from recsys.tuning.evidence import thinned
from recsys.tuning.kernel import JITTER, Fit, Kernel, Matrix, Vector, fit

CORRELATIONS = {0.0: 0.15, 0.3: 0.05, 0.6: 0.1, 0.8: 0.15, 0.9: 0.25, 0.97: 0.3}
"""How far each correlation of the past with the new search is believed before the first trial."""

SCALES = 2.0 ** np.arange(-2, 2.5, 0.5)  # of the new values, in terms of the scale that is expected
NOISE = 0.03  # variance of a new value that no parameter explains, in terms of the variance that they do
OFFSET = 4.0  # standard deviation of the new values' level, likewise
FITTED_ON = 256  # past trials from which the weights of the parameters are learned; all of them are predicted from
OWN_FIT = 8  # new trials from which a search learns the weights of the parameters by itself


@dataclass(frozen=True, eq=False)
class Past:
    """What earlier searches found.

    Args:
        points: Shape [n, D].
        values: About standard normal within each search, shape [n].
        searches: Which search each value is of, shape [n].
        doubts: How much less each value is worth than a fresh one, 1 or more, shape [n].
        categorical: Which columns hold choices, shape [D].
        scale: Standard deviation in the new search's units that a value of 1 stands for.
    """

    points: Points
    values: Vector
    searches: NDArray[np.int64]
    doubts: Vector
    categorical: NDArray[np.bool_]
    scale: float

    @cached_property
    def model(self) -> "PastModel":
        """The process that explains them, learned once."""
        return PastModel(self)


class PastModel:
    """The process behind past values, as the prior of a new one; its variance is 1 where nothing is known."""

    def __init__(self, past: Past) -> None:
        few = thinned(past.values, FITTED_ON)
        self.fit = fit(past.points[few], past.values[few], past.categorical, groups=past.searches[few])
        self._past = past
        signal = max(self.fit.signal, 0.05)
        same = past.searches[:, None] == past.searches[None, :]
        covariance = signal * self.fit.kernel(past.points, past.points) + 1.0 + same
        covariance[np.diag_indices_from(covariance)] += (self.fit.noise + JITTER) * past.doubts
        self._lower = cholesky(covariance, lower=True)
        self._signal = signal
        self._solved = solve_triangular(self._lower, past.values, lower=True)

    def posterior(self, points: Points, candidates: Points) -> tuple[Vector, "Shape"]:
        """Give what the past expects at new trials and candidates, in standard deviations, and what it leaves open.

        Returns:
            Shape [n + m], and the covariance of its doubt.
        """
        n = len(points)
        everything = np.concatenate([points, candidates])
        across = self._signal * self.fit.kernel(self._past.points, everything)
        reduced = solve_triangular(self._lower, across, lower=True, check_finite=False)
        mean = reduced.T @ self._solved
        told = Shape(
            within=reduced[:, :n].T @ reduced[:, :n],
            across=reduced[:, :n].T @ reduced[:, n:],
            ahead=(reduced[:, n:] ** 2).sum(0),
        )
        return mean / self._signal**0.5, Shape.of(self.fit.kernel, points, candidates).mixed(
            1.0, told, -1 / self._signal
        )

    def joint(self, points: Points) -> tuple[Vector, Matrix]:
        """Give what the past expects at `points`, and the covariance of its doubt, in terms of past values.

        What all points share, such as the level of a search, is left out: only differences mean anything.

        Returns:
            Shapes [m] and [m, m].
        """
        across = self._signal * self.fit.kernel(self._past.points, points)
        reduced = solve_triangular(self._lower, across, lower=True, check_finite=False)
        return reduced.T @ self._solved, self._signal * self.fit.kernel(points, points) - reduced.T @ reduced

    def expected(self, points: Points) -> Vector:
        """Give what the past expects at `points`, in standard deviations. Shape [m]."""
        across = self._signal * self.fit.kernel(self._past.points, points)
        reduced = solve_triangular(self._lower, across, lower=True, check_finite=False)
        expected: Vector = reduced.T @ self._solved / self._signal**0.5
        return expected


@dataclass(frozen=True, eq=False)
class Shape:
    """As much of a covariance as is needed to learn from n new trials about m candidates.

    Args:
        within: Of the trials, shape [n, n].
        across: Of the trials with the candidates, shape [n, m].
        ahead: Variances of the candidates, shape [m].
    """

    within: Matrix
    across: Matrix
    ahead: Vector

    @classmethod
    def of(cls, kernel: Kernel, points: Points, candidates: Points) -> "Shape":
        """Give what a kernel says; its variance is 1 everywhere."""
        return cls(kernel(points, points), kernel(points, candidates), np.ones(len(candidates)))

    def mixed(self, share: float, other: "Shape", others: float) -> "Shape":
        """Add two covariances, each with its weight."""
        return Shape(
            share * self.within + others * other.within,
            share * self.across + others * other.across,
            share * self.ahead + others * other.ahead,
        )


@dataclass(frozen=True, eq=False)
class Belief:
    """What a search believes after its trials: several explanations, each with its weight.

    Args:
        weights: Shape [H], they add up to 1.
        correlations: Of the past with the new values, by explanation, shape [H].
        means: Expected values at the candidates, shape [H, m].
        deviations: Their standard deviations, shape [H, m].
    """

    weights: Vector
    correlations: Vector
    means: Matrix
    deviations: Matrix

    @property
    def correlation(self) -> float:
        """How much the past says of the new search, 0 to 1."""
        return float(self.weights @ self.correlations)

    @property
    def mean(self) -> Vector:
        """Expected value at each candidate. Shape [m]."""
        return self.weights @ self.means

    def optimistic(self, deviations: float) -> Vector:
        """Give the value that so many standard deviations over the expected one would be. Shape [m]."""
        return self.weights @ (self.means + deviations * self.deviations)

    def improvement(self, best: float) -> Vector:
        """Give the expected improvement over `best` at each candidate (Jones et al. 1998, equation 15). Shape [m]."""
        gain = (self.means - best) / self.deviations
        density = np.exp(-0.5 * gain**2) / (2 * np.pi) ** 0.5
        expected: Vector = self.weights @ (self.deviations * (gain * ndtr(gain) + density))
        return expected


def believe(
    points: Points, values: Vector, candidates: Points, categorical: NDArray[np.bool_], *, past: Past | None
) -> Belief:
    """Weigh all explanations of the new values and foresee those of the candidates.

    Args:
        points: Of the new trials, shape [n, D].
        values: Of the new trials, shape [n]; n may be 0.
        candidates: Shape [m, D].
        categorical: Which columns hold choices, shape [D].
        past: What is known from before, if anything.
    """
    kernels = _kernels(points, values, categorical, past)
    unit = _unit(values, past)
    level = float(np.mean(values)) if len(values) else 0.0
    none = np.zeros(len(points) + len(candidates))
    told = past.model.posterior(points, candidates) if past is not None else None
    found: list[_Explanations] = []
    for kernel in kernels:
        alone = Shape.of(kernel, points, candidates)
        for correlation, chance in (CORRELATIONS if told is not None else {0.0: 1.0}).items():
            if told is None or correlation == 0.0:
                mean, shape = none, alone
            else:
                mean, shape = correlation * told[0], told[1].mixed(correlation**2, alone, 1 - correlation**2)
            found.append(_explain(values - level, mean, shape, unit, correlation, float(np.log(chance))))
    likely = np.concatenate([each.likely for each in found])
    weights = np.exp(likely - likely.max())
    weights /= weights.sum()
    kept = weights > 0.002
    return Belief(
        weights=weights[kept] / weights[kept].sum(),
        correlations=np.repeat([each.correlation for each in found], len(SCALES))[kept],
        means=np.concatenate([each.means for each in found])[kept] + level,
        deviations=np.concatenate([each.deviations for each in found])[kept],
    )


@dataclass(frozen=True, eq=False)
class _Explanations:
    """One explanation of the new values at each of `SCALES`; S is their number."""

    correlation: float
    likely: Vector  # logarithm of the odds, shape [S]
    means: Matrix  # at the candidates, shape [S, m]
    deviations: Matrix  # shape [S, m]


def _explain(
    values: Vector, mean: Vector, shape: Shape, unit: float, correlation: float, log_chance: float
) -> _Explanations:
    """Learn from the values at all scales at once: a scale multiplies the covariance, so that it factors only once."""
    n = len(values)
    scales = SCALES * unit
    log_odds = log_chance - 0.5 * (np.log(SCALES) / 0.7) ** 2
    covariance = shape.within + OFFSET**2 + (NOISE + JITTER) * np.eye(n)
    try:
        lower = cholesky(covariance, lower=True, check_finite=False)
    except LinAlgError:  # the points explain each other to the last digit: no odds for it
        log_odds, lower = np.full(len(SCALES), -np.inf), np.eye(n)
    shown, foreseen, reduced = (
        solve_triangular(lower, right, lower=True, check_finite=False)
        for right in (values, mean[:n], shape.across + OFFSET**2)
    )
    missed = shown / scales[:, None] - foreseen  # [S, n]
    left = shape.ahead + OFFSET**2 - (reduced**2).sum(0)
    return _Explanations(
        correlation=correlation,
        likely=log_odds - 0.5 * (missed**2).sum(1) - np.log(np.diag(lower)).sum() - n * np.log(scales),
        means=scales[:, None] * (mean[n:] + missed @ reduced),
        deviations=scales[:, None] * np.sqrt(np.maximum(left, 1e-6)),
    )


def _kernels(points: Points, values: Vector, categorical: NDArray[np.bool_], past: Past | None) -> Sequence[Kernel]:
    """Ways in which configurations may be alike: as in the past, all parameters the same, as the new trials say."""
    dims = points.shape[1]
    kernels = [Kernel(np.full(dims, 0.5), categorical)]
    if past is not None:
        kernels.append(past.model.fit.kernel)
    if len(points) >= OWN_FIT and np.std(values) > 0:
        own: Fit = fit(points, (values - np.mean(values)) / np.std(values), categorical)
        kernels.append(own.kernel)
    return kernels


def _unit(values: Vector, past: Past | None) -> float:
    """Expect how far the new values will spread: as in the past, and as they do."""
    if len(values) >= 4 and np.std(values) > 0:
        own = float(np.std(values))
        return (own * past.scale) ** 0.5 if past is not None else own
    if past is not None:
        return past.scale
    return (float(np.std(values)) if len(values) else 0.0) or 1.0
