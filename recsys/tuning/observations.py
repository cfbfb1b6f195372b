"""Read a study's trials as points: what ended with what it showed, and what is under way, as soon as it is proposed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna import Study
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from recsys.tuning.encoding import Encoding, Parameters, Points
from recsys.tuning.evidence import LARGEST
from recsys.tuning.kernel import Vector
from recsys.tuning.outcomes import LOST, OUT_OF_TIME

PROPOSAL = "warm:proposal"  # the system attribute that keeps all that was proposed for a trial, before it takes it up


@dataclass(frozen=True, eq=False)
class Observations:
    """What a study's other trials say.

    Args:
        points: Of the trials that ended, shape [n, D].
        values: What they reached, higher is better, shape [n].
        running: Points of trials under way, shape [k, D].
    """

    points: Points
    values: Vector
    running: Points


def observe(study: Study, encoding: Encoding, number: int, settled: Parameters) -> Observations:
    """Read all trials but the one called `number`, each with what is settled for all of them."""
    sign = 1.0 if study.direction is StudyDirection.MAXIMIZE else -1.0
    trials = [trial for trial in _telling(study, but=number) if _known(trial)]
    ended = [trial for trial in trials if trial.state.is_finished()]
    running = [trial for trial in trials if trial.state is TrialState.RUNNING]
    reached = [_reached(trial, sign) for trial in ended]
    worst = min((value for value in reached if value is not None), default=0.0)
    return Observations(
        points=encoding.points([{**settled, **trial.params} for trial in ended]),
        values=np.array([worst if value is None else value for value in reached]),
        running=encoding.points([{**settled, **_known(trial)} for trial in running]),
    )


def tried(study: Study, *, but: int) -> dict[int, Parameters]:
    """Give what is known of the parameters of all trials but one, under way or ended, by number."""
    return {trial.number: parameters for trial in _telling(study, but=but) if (parameters := _known(trial))}


def given(trial: FrozenTrial) -> Mapping[str, Any]:
    """Give the parameters that a trial was enqueued with, which Optuna prefers to any proposal."""
    fixed: Mapping[str, Any] = trial.system_attrs.get("fixed_params", {})
    return fixed


def _telling(study: Study, *, but: int) -> list[FrozenTrial]:
    """Leave out what did not come to its end for want of a worker or of time: it says nothing of its configuration."""
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.number != but and not {LOST, OUT_OF_TIME} & set(trial.user_attrs)]


def _known(trial: FrozenTrial) -> Parameters:
    """Optuna stores a parameter when the trial asks for it, which may be long after all were proposed."""
    if trial.state is not TrialState.RUNNING:
        return trial.params
    return {**trial.system_attrs.get(PROPOSAL, {}), **given(trial), **trial.params}


def _reached(trial: FrozenTrial, sign: float) -> float | None:
    """Say what a trial showed: a pruned one what it had reached, one that failed or is too costly nothing.

    One that ended with a value that nothing can be computed with has failed, whatever its state says.
    """
    if any(excess > 0 for excess in trial.constraints.values()):
        return None
    steps = trial.intermediate_values
    if trial.state is TrialState.COMPLETE:
        value = trial.value
    else:
        value = steps[max(steps)] if trial.state is TrialState.PRUNED and steps else None
    return sign * value if value is not None and abs(value) < LARGEST else None  # NaN is not less than anything
