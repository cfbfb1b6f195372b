"""Account for a search's seconds: what they went into, and what each stage found for them."""

from collections.abc import Iterable, Iterator, Sequence

from optuna.trial import FrozenTrial

from recsys.records import Plan, Spending, StageGain, TrialResult
from recsys.tuning.evidence import COMPLETE, PRUNED
from recsys.tuning.outcomes import LOST, NOT_BEGUN, interval, result
from recsys.tuning.promotion import STAGES, is_incumbent
from recsys.tuning.ranking import rank

CAUSES = (
    "useful",  # trials that came to their end
    "pruned",  # given up half-way
    "out of time",  # stopped half-way, because the time of its stage was over
    "failed",
    "infeasible",  # measured, and not trained
    "unsound",  # trained, and not counted
    "duplicate",  # given an earlier trial's result
    "lost",  # with their worker; what was taken up again is in the trial that did so
    "after the plateau",  # screening on when no better configuration was to be expected any more
    "overhead",  # of trials that a worker held: proposing, fetching, writing down
)
"""What seconds of trials go into; each second of each trial goes into one of them."""

LEAST_S = 1.0  # useful seconds from which a gain is divided by hours


def spending(trials: Iterable[FrozenTrial], *, plateau_at: float | None = None) -> tuple[Spending, ...]:
    """Account for all seconds of all trials; those of trials side by side count each.

    Args:
        trials: Of a search that has ended.
        plateau_at: When screening had come to a plateau, in seconds since 1970; None: it never had.

    Returns:
        The causes in the order of `CAUSES`, those with no trial left out. Their seconds add up to those of all trials.
    """
    parts = [part for trial in trials for part in _parts(trial, plateau_at)]
    found = []
    for cause in CAUSES:
        own = [(seconds, saved_s, first) for name, seconds, saved_s, first in parts if name == cause]
        if own:
            seconds, saved_s = sum(one[0] for one in own), sum(one[1] for one in own)
            n = sum(one[2] for one in own)
            found.append(Spending(cause=cause, trials=n, seconds=round(seconds, 4), saved_s=round(saved_s, 4)))
    return tuple(found)


def stage_gains(plan: Plan, results: Sequence[TrialResult]) -> tuple[StageGain, ...]:
    """Say what each stage that began found over the incumbent's configuration, and what it took."""
    found = []
    for stage in STAGES:
        own = [trial for trial in results if trial.stage == stage]
        if own:
            seconds = sum(trial.seconds for trial in own)
            gain = gain_of(plan, own, stage)
            per_hour = _per_hour(gain, own)
            found.append(StageGain(stage=stage, trials=len(own), seconds=seconds, gain=gain, gain_per_hour=per_hour))
    return (*found, *_whole(found, [trial for trial in results if trial.stage in STAGES]))


def _per_hour(gain: float | None, trials: Sequence[TrialResult]) -> float | None:
    """Give a gain for each hour; nothing where nearly all that it came from was paid for by other searches."""
    useful_s = sum(trial.seconds for trial in trials if _cause(trial) == "useful")
    return 3600 * gain / sum(trial.seconds for trial in trials) if gain is not None and useful_s >= LEAST_S else None


def _whole(stages: Sequence[StageGain], results: Sequence[TrialResult]) -> Iterator[StageGain]:
    """Sum the stages up: what the last of them found that has a value, for the seconds of all."""
    seconds = sum(stage.seconds for stage in stages)
    gain = next((stage.gain for stage in reversed(stages) if stage.gain is not None), None)
    if stages:
        yield StageGain(
            stage="all",
            trials=sum(stage.trials for stage in stages),
            seconds=seconds,
            gain=gain,
            gain_per_hour=_per_hour(gain, results),
        )


def gain_of(plan: Plan, results: Sequence[TrialResult], stage: str) -> float | None:
    """Give the best NDCG@10 of a stage less that of the incumbent's configuration in it; 0 where that is the best."""
    ranked = rank(results, stage)
    own = next((standing for standing in ranked if is_incumbent(plan, standing)), None)
    return ranked[0].ndcg_at_10 - own.ndcg_at_10 if own else None


def _parts(trial: FrozenTrial, plateau_at: float | None) -> Iterator[tuple[str, float, float, bool]]:
    """Divide one trial's seconds: cause, seconds, seconds saved, and whether the trial is counted there."""
    if trial.datetime_start is None or NOT_BEGUN in trial.user_attrs:
        return
    begin, end = interval(trial)
    whole = max(0.0, end - begin)
    if LOST in trial.user_attrs:
        yield "lost", whole, 0.0, True
        return
    found = result(trial)
    known = min(whole, found.seconds)
    late = 0.0
    if plateau_at is not None and found.stage == STAGES[0]:
        late = min(known, max(0.0, end - max(begin, plateau_at)))
    yield _cause(found), known - late, found.saved_s, True
    if late:
        yield "after the plateau", late, 0.0, True
    yield "overhead", whole - known, 0.0, False


def _cause(trial: TrialResult) -> str:
    if trial.reused:
        return "duplicate"
    if trial.infeasible:
        return "unsound" if trial.unsound else "infeasible"
    if trial.unfinished:
        return "out of time"
    return {COMPLETE: "useful", PRUNED: "pruned"}.get(trial.state, "failed")
