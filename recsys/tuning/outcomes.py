"""Read what Optuna keeps of a trial: its record, how long it ran, and how far its stage has come."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from recsys.records import Covered, TrialResult, Use, load
from recsys.tuning.forecast import Paid, shape

CLOSED = "the search was closed"  # why the last stage ended
NOT_BEGUN = "not_begun"  # its stage ended while it waited
RESUMES = "resumes"  # number of the trial of the worker that died
LOST = "lost"  # its worker died
OUT_OF_TIME = "out_of_time"  # the time of its stage was over before it ended
CONSTRAINTS = "constraints"  # the cause of the seconds in which what serving costs was measured
TRAINING = ("training", "checkpoints")  # the causes of a trial's seconds that grow with what it trains
SEEN_AT = "seen_at"  # last sign of life, in seconds since 1970


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far one stage has come."""

    stage: str
    listed: int
    running: int
    ended: int
    best_ndcg_at_10: float | None


def result(trial: FrozenTrial) -> TrialResult:
    """Turn a trial that ended into a record."""
    facts = trial.user_attrs
    seconds = facts.get("seconds", {})
    intermediate = trial.intermediate_values
    value = trial.value if trial.value is not None else intermediate[max(intermediate)] if intermediate else None
    return TrialResult(
        number=trial.number,
        stage=facts.get("stage", ""),
        state=trial.state.name.lower(),
        family=facts.get("family", ""),
        configuration=facts.get("configuration", {}),
        seed=facts.get("seed", 0),
        ndcg_at_10=value,
        seconds=sum(seconds.values()),
        infeasible=tuple(facts.get("infeasible", ())),
        reason=facts.get("reason", ""),
        unfinished=LOST in facts or OUT_OF_TIME in facts,
        training=facts.get("training", ""),
        reused=facts.get("reused", ""),
        curve=dict(intermediate),
        saved_s=facts.get("saved_s", 0.0),
        units=facts.get("units", 0.0),
        evaluation_s=sum(s for cause, s in seconds.items() if cause not in TRAINING),
        constraints_s=seconds.get(CONSTRAINTS, 0.0),
        use=Use(**facts["use"]) if "use" in facts else None,
        block=facts.get("block", ""),
        windows=tuple(facts.get("windows", ())),
        covered=load(Covered, facts["covered"]) if "covered" in facts else None,
    )


def interval(trial: FrozenTrial) -> tuple[float, float]:
    """Begin and end of a trial in seconds since 1970; of one whose worker was lost, its last sign of life."""
    assert trial.datetime_start is not None
    begin = trial.datetime_start.timestamp()
    if LOST in trial.user_attrs:
        return begin, trial.user_attrs.get(SEEN_AT, begin)
    return begin, trial.datetime_complete.timestamp() if trial.datetime_complete else time.time()


def progress(stage: str, trials: Sequence[FrozenTrial]) -> Progress:
    """Count the trials of one stage; one that was taken up again is one."""
    states = [trial.state for trial in trials]
    values = [trial.value for trial in trials if trial.state is TrialState.COMPLETE and trial.value is not None]
    superseded = sum(RESUMES in trial.user_attrs for trial in trials)  # each is listed twice
    return Progress(
        stage=stage,
        listed=len(trials) - superseded,
        running=states.count(TrialState.RUNNING),
        ended=sum(t.state.is_finished() and NOT_BEGUN not in t.user_attrs for t in trials) - superseded,
        best_ndcg_at_10=max(values, default=None),
    )


def paid(trials: Iterable[FrozenTrial]) -> Iterator[Paid]:
    """Say what the trials that ended had cost, from which the next ones are forecast."""
    for trial in trials:
        facts = trial.user_attrs
        if trial.state.is_finished() and facts.get("units"):
            found = result(trial)
            yield Paid(
                family=found.family,
                units=found.units,
                training_s=found.seconds - found.evaluation_s,
                evaluation_s=found.evaluation_s - found.constraints_s,
                constraints_s=found.constraints_s,
                configuration=found.configuration,
            )


def measured(trials: Iterable[FrozenTrial]) -> frozenset[str]:
    """Name the shapes of which some trial knows what serving them costs."""
    known = (trial.user_attrs for trial in trials if "size_mib" in trial.user_attrs)
    return frozenset(shape(facts["family"], facts["configuration"]) for facts in known)
