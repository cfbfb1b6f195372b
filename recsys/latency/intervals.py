"""Give quantiles of times that come in blocks, and their ratios, with intervals.

Times that follow each other are alike, so that whole blocks are drawn and not single times (Künsch 1989, "The Jackknife
and the Bootstrap for General Stationary Observations"). Blocks of the same round are drawn together, because what
slows one slows the other.

Letters for shapes: R rounds, n times in a block, S resamples.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from recsys.records import Estimate

Floats = NDArray[np.float64]


class Resampled:
    """Draws of rounds, the same for all that is compared.

    Args:
        rounds: R.
        resamples: S.
        seed: Fixes the draws.
    """

    def __init__(self, rounds: int, *, resamples: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(rounds, np.full(rounds, 1 / rounds), size=resamples)
        self._weights = np.vstack([np.ones(rounds, np.int64), drawn]).astype(np.float64)  # [1 + S, R]

    def quantiles(self, blocks: Floats, quantiles: Sequence[float]) -> Floats:
        """Give quantiles of all times, and then those of each resample. Shapes [R, n] to [len(quantiles), 1 + S].

        Each is the least time that at least so large a part of all times does not exceed, so that it is one of them.
        """
        n = blocks.shape[1]
        order = np.argsort(blocks, axis=None)
        times, of = blocks.reshape(-1)[order], order // n
        wanted = np.array([np.ceil(quantile * len(times) - 1e-9) - 0.5 for quantile in quantiles])
        found = [times[np.searchsorted(np.cumsum(weights[of]), wanted)] for weights in self._weights]
        return np.array(found).T

    def means(self, blocks: Floats) -> Floats:
        """Give the mean of all times, and then that of each resample. Shapes [R, n] to [1 + S]."""
        found: Floats = self._weights @ blocks.mean(axis=1) / len(blocks)
        return found


def estimate(values: Floats, confidence: float) -> Estimate:
    """Take the first value as measured and the others as its resamples."""
    low, high = np.quantile(values[1:], [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value=float(values[0]), low=float(low), high=float(high))


def estimate_ratio(values: Floats, confidence: float) -> Estimate:
    """Take the first value as the ratio that was measured, and a normal distribution of its logarithm.

    A quantile far out is one of few times, so that its resamples jump between these and their own quantiles are coarse;
    their spread is not.
    """
    centre = float(np.log(values[0]))
    away = float(ndtri((1 + confidence) / 2) * np.log(values[1:]).std())
    return Estimate(value=float(values[0]), low=float(np.exp(centre - away)), high=float(np.exp(centre + away)))


def estimate_of_few(values: Floats, rounds: int, confidence: float) -> Estimate:
    """Do so for what comes from few rounds, whose spread is itself not known well (Student's distribution).

    Args:
        values: As measured, and then its resamples.
        rounds: How many there were.
        confidence: Of the interval.
    """
    centre = float(np.log(values[0]))
    spread = float(np.log(values[1:]).std()) * (rounds / max(rounds - 1, 1)) ** 0.5
    away = float(stdtrit(max(rounds - 1, 1), (1 + confidence) / 2)) * spread
    return Estimate(value=float(values[0]), low=float(np.exp(centre - away)), high=float(np.exp(centre + away)))
