"""Say in words why a search ended, how far it had come, and what decided that no further trial began."""

from collections.abc import Sequence

from recsys.records import Action, Plan, TrialResult
from recsys.tuning.contract import Contract
from recsys.tuning.outcomes import CLOSED, LOST, NOT_BEGUN, RESUMES
from recsys.tuning.promotion import STAGES, contenders
from recsys.tuning.trials import Trials


def ending(contract: Contract, plan: Plan, trials: Trials, results: Sequence[TrialResult]) -> str:
    """Say why the search ended, and how far it had come.

    Args:
        contract: What the search could take.
        plan: Whose search.
        trials: All of them, ended or given up.
        results: Those that began and ended.
    """
    begun, listed, lost = {}, {}, False
    for stage in STAGES:
        own = [trial for trial in trials.of(stage) if RESUMES not in trial.user_attrs]
        listed[stage] = len(own)
        begun[stage] = sum(NOT_BEGUN not in trial.user_attrs for trial in own)
        lost = lost or any(LOST in trial.user_attrs for trial in trials.of(stage))
    how_far = ", ".join(f"{begun[stage]} of {listed[stage]} in {stage}" for stage in STAGES if listed[stage])
    after = f"{trials.spent_s:.1f} of {trials.reservation.seconds:g} s"
    plateau = trials.plateau
    left = [stage for stage in STAGES if begun[stage] != listed[stage] and not (plateau and stage == STAGES[0])]
    levelled = f" {plateau.said}" if plateau else ""
    if left:
        last = _stood_at(trials, [stage for stage in STAGES if listed[stage]])
        short = [stage for stage in STAGES[: STAGES.index(last)] if stage in left]
        why = (
            _budgets_end(contract, trials, last, after)
            if last in left
            else (f"The search ended after {after} with every trial of {last}")
        )
        gave_way = f" Trials of {' and '.join(short)} were left, to keep time for the stages after." if short else ""
        workers = " Workers were lost, which may be why." if lost else ""
        return f"{why}: the trials begun are {how_far}.{gave_way}{levelled}{workers}"
    for stage in STAGES:
        if not listed[stage] and not (plan.action is Action.SENTINELS and stage == "refine"):
            because = "it was closed" if contenders(plan, results, before=stage) else "no trial could be promoted"
            why = f"The search ended before {stage} after {after}, because {because}"
            return f"{why}: the trials begun are {how_far}.{levelled}"
    whole = f"{plateau.said} Every other" if plateau else "Every"
    return f"{whole} listed trial has ended after {after}: {how_far}."


def _stood_at(trials: Trials, listed: Sequence[str]) -> str:
    """Say which stage was worked on when the search was closed; trials of later ones may have ended before that."""
    left = {
        trial.user_attrs.get("stage")
        for trial in trials.all()
        if NOT_BEGUN in trial.user_attrs and trial.user_attrs.get("reason", "").endswith(CLOSED)
    }
    return next((stage for stage in listed if stage in left), listed[-1])


def _budgets_end(contract: Contract, trials: Trials, stage: str, after: str) -> str:
    """Say what kept the trials that the last stage had left from beginning."""
    left_s = contract.left_s(stage)
    if left_s <= 0:
        return f"The budget ended the search after {after}"
    waiting = [trial for trial in trials.of(stage) if NOT_BEGUN in trial.user_attrs]
    if any(contract.may_begin(stage, trial, left_s) for trial in waiting):
        return f"The search was closed after {after}, before every trial of {stage} had begun"
    foreseen = [contract.foreseen(stage, trial) for trial in waiting]
    seconds, family = min((seconds, family) for seconds, family in foreseen if seconds is not None)
    return (
        f"The budget ended the search after {after}, because no trial left was forecast to end in the {left_s:.1f} s "
        f"that remained (the cheapest, {family} in {stage}, may take {seconds:.1f} s)"
    )
