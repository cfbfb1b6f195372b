"""Fit a line to few numbers by a prior that is written down, and foresee the next one with its uncertainty.

Bayesian linear regression with the conjugate prior, normal and inverse gamma (Bishop 2006, section 3.3 and exercise
3.12): nothing is drawn, so the same numbers give the same forecast.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What is believed before there is a number."""

    mean: Vector  # of each coefficient, shape [D]
    sd: Vector  # of each coefficient, shape [D]
    noise: float  # standard deviation of a number around the line
    trust: float  # how many numbers `noise` is worth


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """What the next number will be: Student's t, wider the less is known."""

    centre: float
    scale: float
    freedom: float

    def quantile(self, level: float) -> float:
        """Give the value that the next number stays under with probability `level`."""
        return self.centre + self.scale * float(stdtrit(self.freedom, level))

    def above(self, value: float) -> float:
        """Give the probability that the next number is over `value`."""
        return float(stdtr(self.freedom, (self.centre - value) / self.scale))


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """What is believed after some numbers."""

    mean: Vector  # shape [D]
    covariance: Vector  # in units of the noise's variance, shape [D, D]
    shape: float  # of the inverse gamma distribution of the noise's variance
    rate: float

    @classmethod
    def fit(cls, prior: Prior, rows: ArrayLike, values: Sequence[float], sds: Sequence[float] = ()) -> "Regression":
        """Learn from numbers.

        Args:
            prior: What is believed before.
            rows: What each number depends on, shape [n, D].
            values: The numbers, shape [n].
            sds: Standard deviation of each one's own error, on top of the noise, shape [n]; none: it has none.
        """
        x = np.asarray(rows, dtype=float).reshape(-1, len(prior.mean))
        y = np.asarray(values, dtype=float)
        errors = np.asarray(sds if len(sds) else np.zeros(len(y)), dtype=float)
        weights = prior.noise**2 / (prior.noise**2 + errors**2)
        before = np.diag((prior.noise / prior.sd) ** 2)
        precision = before + x.T @ (weights[:, None] * x)
        pull = before @ prior.mean + x.T @ (weights * y)
        mean = np.linalg.solve(precision, pull)
        left = float(y @ (weights * y) + prior.mean @ before @ prior.mean - mean @ precision @ mean)
        return cls(
            mean=mean,
            covariance=np.linalg.inv(precision),
            shape=(prior.trust + len(y)) / 2,
            rate=prior.trust / 2 * prior.noise**2 + max(0.0, left) / 2,
        )

    def foresee(self, row: ArrayLike) -> Foreseen:
        """Say what the next number with `row`, shape [D], will be, its noise included."""
        x = np.asarray(row, dtype=float)
        variance = self.rate / self.shape * (1 + float(x @ self.covariance @ x))
        return Foreseen(centre=float(x @ self.mean), scale=variance**0.5, freedom=2 * self.shape)
