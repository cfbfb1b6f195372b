"""Foresee from the learning curves of earlier searches what a trial will end with, and say when it cannot go on.

Scores of different datasets cannot be compared, so a curve is kept as differences to the incumbent's own curve, quarter
by quarter of each one's training. Of an earlier curve nothing is used before the incumbent has been measured here, too.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.stats import chi2
from scipy.stats import t as student

from recsys.records import Evidence, Plan, TrialResult
from recsys.settings import Past, Stage
from recsys.tuning.evidence import COMPLETE
from recsys.tuning.ranking import identity
from recsys.tuning.readings import unseen

HOPELESS = 0.03  # a chance below this of going on stops a trial
LEAST_PAIRS = 8.0  # of a family at a quarter, each counting as much as it is believed
LEAST_CHECKED = 3  # trials of this search that ended, on which the earlier curves must have proved right
SURPRISING = 0.05  # how seldom chance may explain what they missed by


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What one trial had gained over the incumbent after a quarter of its training, and what it ended with."""

    family: str
    quarter: int
    gain: float
    end: float
    doubt: float = 1.0  # how much less it is worth than one of this search


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a trial will end with: a Student distribution of the gain over the incumbent."""

    mean: float
    scale: float
    freedom: float

    def chance_over(self, limit: float) -> float:
        """Give the chance of ending above `limit`."""
        return float(student.sf((limit - self.mean) / self.scale, self.freedom))


@dataclass(frozen=True, slots=True, kw_only=True)
class Foresight:
    """Stops trials of a search whose curves, by those of earlier ones, do not lead among the best that go on.

    It is silent until the incumbent, as many trials as go on, and some of the trial's own family have ended here, and
    as long as the earlier curves have not foreseen how those ended.
    """

    plan: Plan
    stage: str
    goes_on: int  # challengers that the next stage takes
    past: Sequence[Pair]
    results: Callable[[], Sequence[TrialResult]]  # of this search, as they are at the moment

    def objection(self, family: str, quarter: int, reached: float) -> str:
        """Say why a trial cannot be among the best any more; an empty text lets it go on.

        Args:
            family: Of the trial's configuration.
            quarter: How many quarters of its training it has had.
            reached: Its score.
        """
        own, others = self._ended()
        level = None if own is None else level_at(own, quarter)
        if own is None or level is None:
            return ""
        ends = sorted((end for other in others if (end := _end(other, own)) is not None), reverse=True)
        own_kind = partial(filter, lambda pair: (pair.family, pair.quarter) == (family, quarter))
        here = list(own_kind(pair for other in others for pair in _pairs(other, own)))
        there = list(own_kind(self.past))
        if len(ends) < self.goes_on or not proved(there, here):
            return ""
        limit, found = ends[self.goes_on - 1], foresee([*there, *here], reached - level)
        if found is None or found.chance_over(limit) >= HOPELESS:
            return ""
        return (
            f"a chance of {100 * found.chance_over(limit):.1f} % to be among the {self.goes_on} that go on: after "
            f"quarter {quarter} it is at {reached - level:+.4f} NDCG@10 beside the incumbent, by "
            f"{len(there) + len(here)} curves it would end at {found.mean:+.4f} with a scale of {found.scale:.4f}, and "
            f"{limit:+.4f} goes on so far"
        )

    def _ended(self) -> tuple[TrialResult | None, list[TrialResult]]:
        """Give the incumbent's complete trial, if there is one, and those of the others."""
        name = identity(self.plan.family, self.plan.configuration)
        complete = [r for r in self.results() if r.stage == self.stage and r.state == COMPLETE]
        own = next((r for r in complete if identity(r.family, r.configuration) == name), None)
        return own, [r for r in complete if identity(r.family, r.configuration) != name]


def level_at(own: TrialResult, quarter: int) -> float | None:
    """Give the incumbent's score after a quarter of its training; what is only counted is the same at all of them."""
    if not own.configuration.get("epochs"):
        return own.ndcg_at_10
    return own.curve.get(quarter)


def rebased(trial: TrialResult, own: TrialResult) -> dict[int, float]:
    """Write a trial's curve as differences to the incumbent's at the same quarters, where both were measured."""
    levels = ((quarter, reached, level_at(own, quarter)) for quarter, reached in trial.curve.items())
    return {quarter: reached - level for quarter, reached, level in levels if level is not None}


def earlier_pairs(
    evidence: Iterable[Evidence], stage: str, rung: Stage, doubt: Callable[[Evidence], float], edits: Mapping[str, Past]
) -> list[Pair]:
    """Gather the pairs of earlier searches whose trials of `stage` had the same share and epochs.

    A trial that stood beside the incumbent with another seed tells what seeds do as well, and is left out.

    Args:
        evidence: Of the earlier searches.
        stage: Whose trials.
        rung: Its share and epochs now.
        doubt: How much less a search's values are worth than fresh ones.
        edits: How a family's name of then reads today.
    """
    return [
        Pair(
            family=unseen(edits, search).get(trial.family, Past()).family or trial.family,
            quarter=quarter,
            gain=gain,
            end=trial.gain,
            doubt=doubt(search),
        )
        for search in evidence
        for trial in search.trials
        if (trial.stage, trial.share, trial.epochs) == (stage, rung.share, rung.epochs)
        and trial.state == COMPLETE
        and trial.gain is not None
        and trial.paired
        and identity(trial.family, trial.configuration) != identity(search.family, search.configuration)
        for quarter, gain in trial.curve.items()
    ]


def foresee(pairs: Sequence[Pair], gain: float) -> Forecast | None:
    """Foresee what a trial with this gain will end with, by a line through the pairs.

    Weighted least squares with the predictive distribution of a flat prior (Gelman et al. 2013, "Bayesian Data
    Analysis", section 14.2): a pair that is doubted twice as much counts half.

    Returns:
        The forecast; None where there are too few pairs, or all have the same gain.
    """
    weights = np.array([1 / pair.doubt for pair in pairs])
    if weights.sum() < LEAST_PAIRS:
        return None
    design = np.array([(1.0, pair.gain) for pair in pairs])
    ends = np.array([pair.end for pair in pairs])
    precision = design.T @ (weights[:, None] * design)
    if np.linalg.cond(precision) > 1e12:
        return None
    line = np.linalg.solve(precision, design.T @ (weights * ends))
    freedom = float(weights.sum()) - 2
    variance = float(weights @ (ends - design @ line) ** 2) / freedom
    at = np.array([1.0, gain])
    scale = math.sqrt(variance * (1 + float(at @ np.linalg.solve(precision, at))))
    return Forecast(mean=float(at @ line), scale=max(scale, 1e-9), freedom=freedom)


def proved(there: Sequence[Pair], here: Sequence[Pair]) -> bool:
    """Whether earlier pairs foresaw how trials of this search ended, as well as they themselves promise."""
    foreseen = [(pair, found) for pair in here if (found := foresee(there, pair.gain))]
    if len(foreseen) < LEAST_CHECKED:
        return False
    missed_by = sum(((pair.end - found.mean) / found.scale) ** 2 for pair, found in foreseen)
    return float(chi2.sf(missed_by, len(foreseen))) >= SURPRISING


def _pairs(trial: TrialResult, own: TrialResult) -> list[Pair]:
    end = _end(trial, own)
    if end is None:
        return []
    return [Pair(family=trial.family, quarter=q, gain=gain, end=end) for q, gain in rebased(trial, own).items()]


def _end(trial: TrialResult, own: TrialResult) -> float | None:
    if trial.ndcg_at_10 is None or own.ndcg_at_10 is None:
        return None
    return trial.ndcg_at_10 - own.ndcg_at_10
