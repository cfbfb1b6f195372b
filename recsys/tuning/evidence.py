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
UNFINISHED = "unfinished"  # its worker or its time was lost, which says nothing of its configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class PastTrial:
    """One configuration that an earlier search tried."""

    parameters: Mapping[str, Any]  # by Optuna's names
    value: float | None  # objective, less the incumbent's in the same stage where that is known; higher is better
    state: str = COMPLETE  # or pruned, failed, infeasible
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PastStudy:
    """All that one earlier search tried, once for each configuration: at the stage where most was paid for it."""

    name: str
    trials: tuple[PastTrial, ...]
    doubt: float = 1.0  # how much less its values are worth than fresh ones: 1 or more, growing with drift and age


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
