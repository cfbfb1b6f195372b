"""Test window by window whether a rate has fallen, so that it may be looked at whenever one likes.

After each window stands an e-value: how many times more likely what was seen is if the rate has fallen than if it has
not. If it has not, the chance that it ever reaches 1 / level is at most the level, however many windows are looked at
(Ville's inequality), which is not so for a p-value that is looked at each day.

How far the rate has fallen is not known beforehand, so falls of all sizes count, weighted by a half-normal distribution
whose scale is the change that matters (Robbins 1970, "Statistical Methods Related to the Law of the Iterated
Logarithm"). The rate before is not known either, but only measured. Any rate before is thought equally likely, and what
remains are the differences, whose ratio of likelihoods is of the same kind (Pérez-Ortiz, Lardy, de Heide and Grünwald
2024, "E-statistics, Group Invariance and Anytime-valid Testing").

Letters for shapes: K windows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What windows tell together, after each of them."""

    log_e: Floats  # [K] logarithm of the e-value
    change: Floats  # [K] how far the rate is above the one before
    radius: Floats  # [K] half of the interval of the change, which holds whenever one stops

    @property
    def windows(self) -> int:
        """K."""
        return len(self.log_e)

    def first(self, level: float) -> int | None:
        """Give the first window, from 0, after which the rate is shown to have fallen; None: it is not shown."""
        over = np.flatnonzero(self.log_e >= -np.log(level))
        return int(over[0]) if len(over) else None


def fallen(changes: Floats, variances: Floats, *, shared: float, scale: float, level: float) -> Evidence:
    """Weigh how far windows lie above or below what was before.

    Args:
        changes: Of each window, its rate less the one before, shape [K].
        variances: Of each window's own rate, shape [K].
        shared: Variance of the rate before, which all windows have in common; 0 where each has its own.
        scale: A fall that matters, above 0, in the rate's unit.
        level: Chance that anything that did not fall is ever said to have.

    Raises:
        ValueError: A variance or the scale is not above 0, or the level not within (0, 1).

    >>> evidence = fallen(np.full(9, -0.01), np.full(9, 1e-5), shared=1e-6, scale=0.01, level=0.01)
    >>> evidence.first(0.01), round(float(evidence.change[-1]), 6)
    (1, -0.01)
    """
    if not (np.all(variances > 0) and shared >= 0 and scale > 0 and 0 < level < 1):
        raise ValueError(
            f"Variances and scale must be above 0, shared at least 0 and level within (0, 1), but are {variances}, "
            f"{scale}, {shared} and {level}."
        )
    precision = np.cumsum(1 / variances)
    held = precision / (1 + shared * precision)  # what is known of the change after each window
    change = np.cumsum(changes / variances) / precision
    spread = 1 + scale**2 * held
    towards = -change * held * scale / np.sqrt(spread)
    log_e = np.log(2) - np.log(spread) / 2 + towards**2 / 2 + log_ndtr(towards)
    radius = np.sqrt(spread * (np.log(spread) - 2 * np.log(level))) / (scale * held)
    return Evidence(log_e=log_e, change=change, radius=radius)


def between(rates: Floats, variances: Floats) -> float:
    """Estimate how much windows differ beyond what their own variances make of them, as a variance.

    The estimate of moments (DerSimonian and Laird 1986, "Meta-analysis in Clinical Trials"); 0 where they do not.

    Args:
        rates: Of each window, shape [K].
        variances: Of each window's rate, shape [K].

    >>> between(np.array([0.1, 0.1, 0.1]), np.full(3, 1e-6))
    0.0
    """
    weights = 1 / variances
    total = weights.sum()
    centre = (weights * rates).sum() / total
    excess = (weights * (rates - centre) ** 2).sum() - (len(rates) - 1)
    return max(float(excess / (total - (weights**2).sum() / total)), 0.0)
