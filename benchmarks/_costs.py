"""Time what a search pays beside training: a proposal from a long past, and the keeping of a trial."""

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.samplers import RandomSampler

from benchmarks import trainings
from benchmarks._replay import Window, window
from recsys.tuning.evidence import PastStudy, PastTrial
from recsys.tuning.storage import open_storage
from recsys.tuning.warm import WarmSampler

PAST_STUDIES, PAST_TRIALS = 25, 40  # 1,000 together
NEW_TRIALS = 30
STORED = 200


@dataclass(frozen=True, slots=True)
class Costs:
    """Milliseconds."""

    first_proposal: float  # learns the past, once a process
    proposal: float  # median of the others
    storage: float  # median of a trial's keeping


def costs() -> Costs:
    """Time them."""
    proposals = proposal_ms()
    return Costs(proposals[0], float(np.median(proposals[1:])), float(np.median(storage_ms())))


def proposal_ms() -> list[float]:
    """Time each proposal of one search that has 1,000 trials of earlier ones behind it."""
    answers = _answers()
    rng = np.random.default_rng(0)
    rows = [rng.choice(len(answers.values), PAST_TRIALS, replace=False) for _ in range(PAST_STUDIES)]
    past = [PastStudy(name=f"{number}", trials=_trials(own)) for number, own in enumerate(rows)]
    sampler = WarmSampler(past, space=answers.space.distributions, conditions=answers.space.conditions, seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    took = []
    for number in range(NEW_TRIALS):
        began = time.perf_counter()
        trial = study.ask()
        answers.space.suggest(trial)
        took.append(1000 * (time.perf_counter() - began))
        row = answers.nearest(trial.params, set())
        study.tell(trial, float(answers.values[row]) + 1e-4 * number)
    return took


def storage_ms() -> list[float]:
    """Time the keeping of a trial with all its parameters in the journal that a search uses by default."""
    space = trainings.space()
    took = []
    with TemporaryDirectory() as folder:
        storage = open_storage(str(Path(folder) / "studies.journal"))
        study = optuna.create_study(storage=storage, direction="maximize", sampler=RandomSampler(seed=0))
        for _ in range(STORED):
            began = time.perf_counter()
            trial = study.ask()
            space.suggest(trial)
            study.tell(trial, 0.5)
            took.append(1000 * (time.perf_counter() - began))
    return took


def _trials(rows: NDArray[np.int64]) -> tuple[PastTrial, ...]:
    answers = _answers()
    return tuple(PastTrial(parameters=answers.parameters[row], value=float(answers.values[row])) for row in rows)


def _answers() -> Window:
    return window("1m-1", trainings.space())
