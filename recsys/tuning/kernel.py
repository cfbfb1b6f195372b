"""Say how alike two configurations are, and learn from measured ones which parameters matter for that."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from recsys.tuning.encoding import Points

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

JITTER = 1e-6
_SQRT5 = 5**0.5
_ARC = np.pi / 3  # on it, the ends of a range are as far apart as each is from the middle


@dataclass(frozen=True, eq=False)
class Kernel:
    """Matern 5/2 on weighted squared differences (Rasmussen and Williams 2006, equation 4.17).

    Two numbers lie on an arc, whose ends are 1 apart, and what does not exist lies in its middle, 1 from each of them
    (Hutter and Osborne 2013, arXiv:1310.5738). Two choices differ by 0 or 1, and so does one from none. All of these
    are distances between points, so that every covariance can be factored.

    Args:
        weights: How much each parameter matters, 1 / lengthscale^2, shape [D].
        categorical: Which columns hold choices, shape [D].
    """

    weights: Vector
    categorical: NDArray[np.bool_]

    def __call__(self, a: Points, b: Points) -> Matrix:
        """Give the correlations of all pairs. Shapes [n, D] and [m, D] to [n, m]."""
        return matern(np.maximum(self._squared(a, b), 0.0))

    def _squared(self, a: Points, b: Points) -> Matrix:
        """Add up what `differences` gives for each parameter, by products of matrices."""
        numbers, choices = self.weights * ~self.categorical, self.weights * self.categorical
        here, there = (~np.isnan(a)).astype(float), (~np.isnan(b)).astype(float)  # 1 where a parameter exists
        x, y = np.nan_to_num(a), np.nan_to_num(b)
        apart: Matrix = (here @ numbers)[:, None] + (there @ numbers)[None, :] + choices.sum()
        for side in (np.cos, np.sin):
            apart -= 2 * (here * side(_ARC * x) * numbers) @ (there * side(_ARC * y)).T
        kinds_a, kinds_b = np.where(np.isnan(a), -1.0, a), np.where(np.isnan(b), -1.0, b)  # none is a kind of its own
        for kind in np.unique(kinds_a[:, self.categorical]):
            same = np.abs(kinds_a - kind) < 0.5
            apart -= (same * choices) @ (np.abs(kinds_b - kind) < 0.5).T
        return apart


def differences(a: Vector, b: Vector, categorical: bool) -> Matrix:
    """Give the squared differences of one parameter between all pairs. Shapes [n] and [m] to [n, m]."""
    apart = a[:, None] - b[None, :]
    squared = (np.abs(apart) > 0.5).astype(float) if categorical else 2 * (1 - np.cos(_ARC * apart))
    missing = np.isnan(apart)
    if missing.any():
        here, there = np.isnan(a)[:, None], np.isnan(b)[None, :]
        squared = np.where(missing, (here ^ there).astype(float), squared)
    return squared


def matern(squared: Matrix) -> Matrix:
    """Turn weighted squared differences into correlations."""
    scaled = _SQRT5 * np.sqrt(squared)
    return (1 + scaled + scaled**2 / 3) * np.exp(-scaled)


@dataclass(frozen=True, eq=False)
class Fit:
    """A kernel with the size of what it explains and of what it does not."""

    kernel: Kernel
    signal: float  # variance that the parameters explain
    noise: float  # variance that they do not


def fit(
    points: Points, values: Vector, categorical: NDArray[np.bool_], *, groups: NDArray[np.int64] | None = None
) -> Fit:
    """Learn the weights, signal and noise of a Gaussian process that makes the values likely.

    Maximum a posteriori: log-normal priors keep a parameter of which little is known at a weight of about 1, so that
    few values suffice.

    Args:
        points: Shape [n, D].
        values: About standard normal, shape [n].
        categorical: Shape [D].
        groups: Values of one group share an unknown offset, shape [n].
    """
    n, dims = points.shape
    parts = np.stack([differences(points[:, j], points[:, j], bool(categorical[j])) for j in range(dims)])  # [D, n, n]
    shared = np.ones((n, n)) if groups is None else (groups[:, None] == groups[None, :]).astype(float)
    offset = np.ones((n, n)) + shared  # one of all, one of each group

    def loss(theta: Vector) -> tuple[float, Vector]:
        weights, signal, noise = np.exp(theta[:dims]), np.exp(theta[dims]), np.exp(theta[dims + 1])
        scaled = _SQRT5 * np.sqrt(np.tensordot(weights, parts, 1))
        decay = np.exp(-scaled)
        correlation = (1 + scaled + scaled**2 / 3) * decay
        covariance = signal * correlation + offset + (noise + JITTER) * np.eye(n)
        factor = cho_factor(covariance, lower=True)
        solved = cho_solve(factor, values)
        inverse = cho_solve(factor, np.eye(n))
        spread = np.array([*np.full(dims, 1.5), 1.0, 1.5])
        centre = np.array([*np.full(dims, 0.0), 0.0, -2.0])
        prior = (theta - centre) / spread
        value = 0.5 * values @ solved + np.log(np.diag(factor[0])).sum() + 0.5 * prior @ prior
        outer = 0.5 * (inverse - np.outer(solved, solved))  # d loss / d covariance
        slope = -signal * (5 / 6) * (1 + scaled) * decay  # d covariance / d weighted squared difference
        by_weight = np.tensordot(parts, outer * slope, 2) * weights
        gradient = np.array([*by_weight, (outer * correlation).sum() * signal, np.trace(outer) * noise])
        return float(value), gradient + prior / spread

    start = np.array([*np.full(dims, 0.0), 0.0, -2.0])
    bounds = [*[(-6.0, 4.0)] * dims, (-4.0, 3.0), (-7.0, 1.5)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60}).x
    kernel = Kernel(np.exp(found[:dims]), categorical)
    return Fit(kernel, float(np.exp(found[dims])), float(np.exp(found[dims + 1])))
