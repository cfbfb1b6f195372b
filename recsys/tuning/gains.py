"""Expect what each action gains, from what earlier ones of the line gained, their drift and the incumbent's age.

One line through all that was seen: a refit gains with drift and age, and a search gains something more, again with
drift and age, of which a few sentinels find a part. The prior below is what a young line goes by. All gains are shares
of the NDCG@10 that they are over, so 0.01 is one percent.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from recsys.ledger import Entry
from recsys.records import Action, Comparison, DriftVerdict, Estimate, load
from recsys.tuning.luck import UNSEEN, Luck
from recsys.tuning.regression import Prior, Regression, Vector

MOST_DRIFT = 3.0  # thresholds: what lies beyond says no more
AGE_DAYS = 28.0  # the unit of age
FOUND = 0.5  # part of a search's gain that sentinels are expected to find
SEEN_SD = 0.02  # standard deviation of a gain that validation windows showed, for few seeds and windows
RIVALS = 9  # that a search is taken to have chosen among, and with one seed, where its entry does not tell
LEVEL = 0.9  # of the intervals

PRIOR = Prior(
    #              a refit                   more by a search          of sentinels
    #              always  drift   age       always  drift   age       their own
    mean=np.array([0.000, 0.015, 0.010, 0.010, 0.010, 0.000, 0.000]),
    sd=np.array([0.010, 0.015, 0.010, 0.015, 0.010, 0.005, 0.005]),
    noise=0.02,  # gains under equal conditions differ by so much
    trust=6,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What an action is decided under."""

    drift: float  # mean distance of the columns in thresholds, each at most `MOST_DRIFT`
    age_days: float  # of feedback, since the incumbent's dataset

    @classmethod
    def of(cls, verdict: DriftVerdict, age_days: float) -> "Conditions":
        """Take them from a verdict; one without columns is as good as a column at its threshold if it drifted."""
        moved = [min(column.distance / column.threshold, MOST_DRIFT) for column in verdict.columns]
        return cls(drift=sum(moved) / len(moved) if moved else float(verdict.drifted), age_days=max(0.0, age_days))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One gain that an action of the line was seen to have."""

    action: Action
    under: Conditions
    gain: float
    sd: float  # of the measurement
    over_refit: bool  # whether it is over the incumbent's configuration on the same data, and not over production


def expect(seen: Sequence[Seen], now: Conditions) -> dict[Action, Estimate]:
    """Give the gain of each action over doing nothing, with the interval in which nine of ten would lie."""
    rows = [_row(one.action, one.under, over_refit=one.over_refit) for one in seen]
    fitted = Regression.fit(PRIOR, rows, [one.gain for one in seen], [one.sd for one in seen])
    found = {Action.NOTHING: Estimate(value=0.0, low=0.0, high=0.0)}
    for action in (Action.REFIT, Action.SENTINELS, Action.RETUNE):
        gain = fitted.foresee(_row(action, now))
        tail = (1 - LEVEL) / 2
        found[action] = Estimate(value=gain.centre, low=gain.quantile(tail), high=gain.quantile(1 - tail))
    return found


def seen_of(entries: Iterable[Entry], families: Sequence[str], confidence: float) -> list[Seen]:
    """Read from a line's ledger what its refits and searches gained.

    Only what was done to the configuration in production counts, if it is of a family that is searched: what a search
    gains over a baseline, or another configuration that a person asked for, tells nothing of the next refit.

    Args:
        entries: Of the ledger, in the order of time.
        families: That the line searches.
        confidence: Level of the intervals that the gate goes by.
    """
    by_kind: dict[str, list[Mapping[str, object]]] = {}
    for entry in entries:
        by_kind.setdefault(entry.what, []).append(entry.evidence)
    decided = {
        str(facts["plan_id"]): facts
        for facts in by_kind.get("decided", ())
        if facts.get("of_incumbent") and facts.get("family") in families
    }
    return [*_measured(by_kind, decided, confidence), *_searched(by_kind, decided)]


def _measured(
    by_kind: Mapping[str, Sequence[Mapping[str, object]]],
    decided: Mapping[str, Mapping[str, object]],
    confidence: float,
) -> Iterable[Seen]:
    """Give the gains over production that were measured for the gate."""
    plans = {facts["candidate_id"]: str(facts["plan_id"]) for facts in by_kind.get("chosen", ())}
    made_by = {facts["release_id"]: plans.get(facts["candidate_id"], "") for facts in by_kind.get("packaged", ())}
    width = 2 * float(ndtri(0.5 + confidence / 2))
    for facts in by_kind.get("measured", ()):
        found = load(Comparison, facts)
        plan = decided.get(made_by.get(found.candidate.release_id, ""))
        level = found.incumbent.ndcg_at_10.value
        if plan is not None and level > 0:
            sd = (found.ndcg_gain.high - found.ndcg_gain.low) / width / level
            yield _seen(plan, found.ndcg_gain.value / level, sd, over_refit=False)


def _searched(
    by_kind: Mapping[str, Sequence[Mapping[str, object]]], decided: Mapping[str, Mapping[str, object]]
) -> Iterable[Seen]:
    """Give the gains over the incumbent's configuration that searches found, less the luck of the choice.

    gain = best / incumbent's - 1 - noise x E[max of n standard normal draws], n being the configurations that chance
    could have put first (Smith and Winkler 2006; `recsys.tuning.luck`). It is 0 on average where all are alike, and so
    below 0 about as often as above; what it takes off too much where they are not makes a search look no better.
    """
    for facts in by_kind.get("searched", ()):
        plan, gain = decided.get(str(facts["plan_id"])), facts.get("relative_gain")
        if plan is not None and isinstance(gain, int | float):
            luck = Luck(rivals=int(str(facts.get("rivals", RIVALS))), noise=float(str(facts.get("noise", UNSEEN))))
            yield _seen(plan, float(gain) - luck.expected, SEEN_SD, over_refit=True)


def _seen(plan: Mapping[str, object], gain: float, sd: float, *, over_refit: bool) -> Seen:
    under = Conditions(drift=float(str(plan["drift"])), age_days=float(str(plan["age_days"])))
    return Seen(action=Action(str(plan["action"])), under=under, gain=gain, sd=sd, over_refit=over_refit)


def _row(action: Action, under: Conditions, *, over_refit: bool = False) -> Vector:
    """Say how much of each coefficient of `PRIOR` the gain of an action has. Shape [7]."""
    conditions = np.array([1.0, under.drift, under.age_days / AGE_DAYS])
    part = {Action.RETUNE: 1.0, Action.SENTINELS: FOUND}.get(action, 0.0)
    refit = conditions * (0.0 if over_refit else 1.0)
    return np.concatenate([refit, part * conditions, [1.0 if action is Action.SENTINELS else 0.0]])
