"""Say how much of what the best of several configurations gained is the luck of having been chosen.

All of them are judged on the windows that choose the best, so the best is on average better there than it is, even
where all are alike: the optimizer's curse (Smith and Winkler 2006, Management Science 52(3), section 2).
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.integrate import quad
from scipy.special import ndtr

from recsys.records import TrialResult
from recsys.tuning.evidence import COMPLETE
from recsys.tuning.ranking import Standing, identity

UNSEEN = 0.01  # standard deviation of one trial's NDCG@10 as a share, where no two seeds tell it
REACH = 3.5  # of deviations: of nine alike, all lie so near to the best in nineteen of twenty stages (Gupta 1965)


@dataclass(frozen=True, slots=True, kw_only=True)
class Luck:
    """What a choice was made among."""

    rivals: int  # configurations that chance could have put first, the best itself included
    noise: float  # standard deviation by chance of what each of them reached, as a share of the incumbent's NDCG@10

    @property
    def expected(self) -> float:
        """What the best of them is expected to gain by chance alone: noise x E[max of rivals], a share."""
        return self.noise * expected_maximum(self.rivals)


def luck(ranked: Sequence[Standing], results: Sequence[TrialResult], level: float) -> Luck:
    """Say how much luck there was in choosing the first of `ranked`.

    The noise is what is left of the trials' values without the mean of each configuration and of each seed, over the
    square root of the number of seeds; `UNSEEN` for one trial where there are no two seeds. A configuration further
    than `REACH` of it behind the best is no rival (Gupta 1965, Technometrics 7(2), the subset that holds the best).

    Args:
        ranked: Configurations of one stage, the best first; at least one.
        results: The search's trials.
        level: NDCG@10 that the noise is a share of, positive.
    """
    seeds = max(standing.seeds for standing in ranked)
    left = _left(ranked, results)
    one = UNSEEN if left is None else left / level
    noise = one / math.sqrt(seeds)
    reach = ranked[0].ndcg_at_10 - REACH * noise * level
    return Luck(rivals=sum(standing.ndcg_at_10 >= reach for standing in ranked), noise=noise)


@cache
def expected_maximum(n: int) -> float:
    """Give the mean of the largest of n standard normal draws (David and Nagaraja 2003, section 3.1).

    It is the integral of n x phi(x) Phi(x)^(n-1) over x.

    >>> [round(expected_maximum(n), 4) for n in (1, 2, 3, 9)]
    [0.0, 0.5642, 0.8463, 1.485]
    """
    density = n / math.sqrt(2 * math.pi)
    found, _ = quad(lambda x: x * density * math.exp(-x * x / 2) * ndtr(x) ** (n - 1), -10, 10)
    return float(found)


def _left(ranked: Sequence[Standing], results: Sequence[TrialResult]) -> float | None:
    """Give the standard deviation of a trial by chance, from those with several seeds; None: there are no two such."""
    names = {identity(standing.family, standing.configuration) for standing in ranked}
    values: dict[str, dict[int, float]] = defaultdict(dict)
    for trial in results:
        if trial.stage == ranked[0].stage and trial.state == COMPLETE and trial.ndcg_at_10 is not None:
            values[identity(trial.family, trial.configuration)][trial.seed] = trial.ndcg_at_10
    several = [own for name, own in values.items() if name in names and len(own) > 1]
    shared = sorted(set.intersection(*(set(own) for own in several))) if several else []
    if len(several) < 2 or len(shared) < 2:
        return None
    found = np.array([[own[seed] for seed in shared] for own in several])  # [configurations, seeds]
    left = found - found.mean(axis=1, keepdims=True) - found.mean(axis=0, keepdims=True) + found.mean()
    freedom = (len(several) - 1) * (len(shared) - 1)
    return float(np.sqrt((left**2).sum() / freedom))
