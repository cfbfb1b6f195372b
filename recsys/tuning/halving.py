"""Promote configurations while the stage below still runs, and say where a worker takes its next trial from.

Asynchronous successive halving (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", algorithm 2):
of n configurations that have ended on a rung the best n / eta are promoted, whatever the others are doing.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial

from optuna.trial import FrozenTrial, TrialState

from recsys.records import Configuration, Plan
from recsys.settings import Line
from recsys.tuning.promotion import STAGES, due
from recsys.tuning.trials import Trials

log = logging.getLogger(__name__)


def promote(
    line: Line, plan: Plan, stage: str, trials: Trials, *, at_once: Sequence[Configuration] | None = None
) -> None:
    """Put on the lists of the stages after `stage` what is due there; several workers may do so at once.

    Args:
        line: Whose search.
        plan: Whose study.
        stage: The stage that is being worked on.
        trials: Of the study.
        at_once: Configurations of the incumbent that there is time to confirm before anything else; None: all.
    """
    for higher in STAGES[STAGES.index(stage) + 1 :]:
        there = {trial.user_attrs.get("entry") for trial in trials.of(higher)}
        now = due(line, plan, higher, trials.settled(), at_once=at_once)
        fresh = [entry for entry in now if entry.name not in there]
        trials.enter(higher, fresh)
        for entry in fresh:
            log.info("%s of %s is promoted before %s has ended", entry.name, plan.plan_id, stage)


def sources(stage: str, trials: Trials, fits: Callable[[str, FrozenTrial], bool]) -> Sequence[str]:
    """List the stages that a worker of `stage` takes its next trial from, the highest first; none: its part is done.

    A worker goes on while its own stage has trials that run, or wait and fit. Then it stops, although others may wait
    on the rungs above: the next stage shares those among all its workers.
    """
    unfinished = trials.of(stage, TrialState.RUNNING) or any(
        map(partial(fits, stage), trials.of(stage, TrialState.WAITING))
    )
    return tuple(reversed(STAGES[STAGES.index(stage) :])) if unfinished else ()
