"""Keep what searches found in a form that outlives their studies, and make values of it that can be compared.

Scores of different datasets cannot be compared, differences to a configuration that both tried can. So every trial is
kept with the score that the incumbent's configuration reached in the same stage of the same search.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Vector = NDArray[np.float64]

COMPLETE, PRUNED, FAILED, INFEASIBLE = "complete", "pruned", "failed", "infeasible"
LARGEST = 1e100  # no value can be computed with beyond it, where squares are not finite, nor can NaN
UNFINISHED = "unfinished"  # its worker or its time was lost, which says nothing of its configuration

MOST = 1500  # trials of earlier searches that are learned from, because what that costs grows with their cube


@dataclass(frozen=True, slots=True, kw_only=True)
class PastTrial:
    """One configuration that an earlier search tried; one with a value that nothing can be computed with has failed."""

    parameters: Mapping[str, Any]  # by Optuna's names
    value: float | None  # objective, less the incumbent's in the same stage where that is known; higher is better
    state: str = COMPLETE  # or pruned, failed, infeasible
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.value is not None and not abs(self.value) < LARGEST:
            object.__setattr__(self, "value", None)
            object.__setattr__(self, "state", FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class PastStudy:
    """All that one earlier search tried, once for each configuration: at the stage where most was paid for it."""

    name: str
    trials: tuple[PastTrial, ...]
    doubt: float = 1.0  # how much less its values are worth than fresh ones: 1 or more, growing with drift and age


def learned(sizes: Sequence[int], doubts: Sequence[float], *, most: int = MOST) -> list[int]:
    """Say how many trials of each search are learned from; no more than `most` altogether.

    Searches that are doubted least come first, the newer of equals. One that no longer fits leaves its place to those
    after it that do; what is left of the room after them goes to such searches in part, in the same order.

    Args:
        sizes: Trials of each search, oldest first.
        doubts: How much less each one's values are worth than fresh ones.
        most: Trials that are learned from.

    >>> learned([400, 1200, 300, 300], [1.0, 1.0, 1.0, 1.0])
    [400, 500, 300, 300]
    """
    kept, room = [0] * len(sizes), most
    by_worth = sorted(range(len(sizes)), key=lambda n: (doubts[n], -n))
    for number in by_worth:
        if sizes[number] <= room:
            kept[number], room = sizes[number], room - sizes[number]
    for number in by_worth:
        if kept[number] < sizes[number]:
            kept[number], room = room, 0
    return kept


def thinned(values: Vector, n: int) -> NDArray[np.int64]:
    """Choose `n` of the values, or all where there are no more: half of them the best, the others evenly by value.

    >>> thinned(np.array([5.0, 1.0, 4.0, 2.0, 3.0]), 4).tolist()
    [0, 1, 2, 4]
    """
    if len(values) <= n:
        return np.arange(len(values))
    order = np.argsort(-values, kind="stable")
    best, rest = order[: n // 2], order[n // 2 :]
    return np.sort(np.concatenate([best, rest[np.linspace(0, len(rest) - 1, n - n // 2).astype(int)]]))


def standardised(trials: Sequence[PastTrial]) -> Vector:
    """Give each trial a standard normal value by its rank within the search. Shape [n], NaN where nothing is known.

    Ranks survive what drift and outliers do to scores. A pruned trial ranks below the median of the complete ones, in
    the order of what it had reached; one that failed or would cost too much to serve ranks last.

    >>> [round(float(value), 2) for value in standardised([PastTrial(parameters={}, value=v) for v in (0.1, 0.3, 0.2)])]
    [-0.97, 0.97, 0.0]
    """
    ranked = np.array([_standing(trial) for trial in trials], dtype=float).reshape(-1, 2)
    complete = np.array([trial.state == COMPLETE and trial.value is not None for trial in trials], bool)
    if complete.any():
        middle = np.median([trial.value for trial in trials if trial.state == COMPLETE and trial.value is not None])
        pruned = np.array([trial.state == PRUNED for trial in trials], bool)
        ranked[pruned, 1] = np.minimum(ranked[pruned, 1], middle)
    order = np.lexsort((ranked[:, 1], ranked[:, 0])) if len(trials) else np.array([], int)
    places = np.empty(len(trials))
    places[order] = np.arange(len(trials))
    # Equals get the mean of their places.
    for key in {tuple(row) for row in ranked}:
        same = (ranked == key).all(1)
        places[same] = places[same].mean()
    n = len(trials)
    values: Vector = ndtri((places + 1 - 0.5) / n) if n else np.array([])
    return values


def spread(trials: Sequence[PastTrial]) -> float | None:
    """Say how many of the objective's units a standard normal value of 1 is worth, among the better half."""
    values = np.sort([t.value for t in trials if t.state == COMPLETE and t.value is not None])
    if len(values) < 4:
        return None
    upper = values[len(values) // 2 :]
    # The mean of the upper half of a normal distribution lies 0.8 standard deviations over its median.
    width = float(upper.mean() - np.median(values)) / 0.798
    return width or None


def _standing(trial: PastTrial) -> tuple[float, float]:
    if trial.state in (FAILED, INFEASIBLE) or trial.value is None:
        return 0.0, 0.0
    return 1.0, trial.value
