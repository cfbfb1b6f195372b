"""Say in words why a search ended, how far it had come, and what decided that no further trial began."""

from collections.abc import Sequence
from statistics import median

from optuna.trial import FrozenTrial

from recsys.records import Plan, TrialResult
from recsys.settings import Line, Stage
from recsys.tuning.budget import SAFETY, Forecast, fits
from recsys.tuning.outcomes import CLOSED, LOST, NOT_BEGUN, RESUMES, paid
from recsys.tuning.promotion import STAGES, contenders
from recsys.tuning.trials import Trials


def ending(line: Line, plan: Plan, trials: Trials, results: Sequence[TrialResult]) -> str:
    """Say why the search ended, and how far it had come.

    Args:
        line: Says what each stage gives a trial.
        plan: Whose budget.
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
    after = f"{trials.spent_s:.1f} of {plan.budget_s:g} s"
    if begun != listed:
        last = _stood_at(trials, [stage for stage in STAGES if listed[stage]])
        short = [stage for stage in STAGES[: STAGES.index(last)] if begun[stage] != listed[stage]]
        why = (
            _budgets_end(line, plan, trials, results, last, after)
            if begun[last] != listed[last]
            else (f"The search ended after {after} with every trial of {last}")
        )
        gave_way = f" Trials of {' and '.join(short)} were left, to keep time for the stages after." if short else ""
        workers = " Workers were lost, which may be why." if lost else ""
        return f"{why}: the trials begun are {how_far}.{gave_way}{workers}"
    for stage in STAGES:
        if not listed[stage]:
            because = "it was closed" if contenders(plan, results, before=stage) else "no trial could be promoted"
            return f"The search ended before {stage} after {after}, because {because}: the trials begun are {how_far}."
    return f"Every listed trial has ended after {after}: {how_far}."


def _stood_at(trials: Trials, listed: Sequence[str]) -> str:
    """Say which stage was worked on when the search was closed; trials of later ones may have ended before that."""
    left = {
        trial.user_attrs.get("stage")
        for trial in trials.all()
        if NOT_BEGUN in trial.user_attrs and trial.user_attrs.get("reason", "").endswith(CLOSED)
    }
    return next((stage for stage in listed if stage in left), listed[-1])


def _budgets_end(line: Line, plan: Plan, trials: Trials, results: Sequence[TrialResult], stage: str, after: str) -> str:
    """Say what kept the trials that the last stage had left from beginning."""
    left_s = plan.budget_s - trials.spent_s
    if left_s <= 0:
        return f"The budget ended the search after {after}"
    forecast = Forecast.of(paid(trials.all()))
    rung: Stage = getattr(line.search, stage)
    waiting = [trial for trial in trials.of(stage) if NOT_BEGUN in trial.user_attrs]
    foreseen = [_foreseen(trial, forecast, rung, stage, results) for trial in waiting]
    if any(fits(seconds, left_s) for seconds, _ in foreseen):
        return f"The search was closed after {after}, before every trial of {stage} had begun"
    seconds, family = min((seconds, family) for seconds, family in foreseen if seconds is not None)
    return (
        f"The budget ended the search after {after}, because no trial left was forecast to end in the {left_s:.1f} s "
        f"that remained (the cheapest, {family} in {stage}, at {seconds:.1f} s, "
        f"which counts {SAFETY:g} times to be safe)"
    )


def _foreseen(
    trial: FrozenTrial, forecast: Forecast, rung: Stage, stage: str, results: Sequence[TrialResult]
) -> tuple[float | None, str]:
    """Give the seconds that a trial would have taken, as far as they can be known, and what it is called."""
    facts = trial.user_attrs
    if "configuration" in facts:
        return forecast.trial(facts["family"], facts["configuration"], rung), facts["family"]
    seconds = [found.seconds for found in results if found.stage == stage and not found.reused]
    return median(seconds) if seconds else None, "a new configuration"
