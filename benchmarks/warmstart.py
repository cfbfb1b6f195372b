"""Count the trials that searches need, cold and with a past, on tables of real trainings.

A search runs on one window of MovieLens-1M; its past are cold searches on the windows before, carried over as the loop
does it. It is over when a trial has closed 95 % of the gap between the table's median and its best configuration.
"""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache, partial
from multiprocessing import get_context
from typing import Any

import numpy as np
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from scipy.stats import bootstrap

from benchmarks import trainings
from benchmarks._costs import costs
from benchmarks._replay import Parameters, Tried, Window, carried, evidence, needed, search, window
from benchmarks._synetune import QuantileSampler
from benchmarks._table import show
from recsys.records import Evidence
from recsys.settings import Line, Past
from recsys.tuning.evidence import PastStudy
from recsys.tuning.space import Space, search_space
from recsys.tuning.warm import WarmSampler

SEEDS = 100
GP_SEEDS = 20  # Optuna's process takes seconds a trial
LIMIT = 100  # a search that has not reached its target by then counts as one that takes a trial more
TRIALS = 40  # of each earlier search
SHORT = 15  # of the only one, where the past is short
PASTS = 25  # histories, which the seeds share
FOREIGN = "100k"


@dataclass(frozen=True, slots=True)
class Task:
    """One search: which, with which seed."""

    case: str
    seed: int

    @property
    def number(self) -> int:
        """The window that is searched; every one with three before it takes its turn."""
        return 4 + self.seed % (trainings.WINDOWS - 3)


@dataclass(frozen=True)
class Edit:
    """What a line searched then, what it searches now, and what its file says about the difference."""

    then: Mapping[str, Any] = field(default_factory=dict)
    now: Mapping[str, Any] = field(default_factory=dict)
    past: Mapping[str, Past] = field(default_factory=dict)
    names_of_then: Callable[[Evidence], Evidence] = lambda found: found


def main() -> None:
    """Replay all searches, print the table and write its figures."""
    tasks = [Task(case, seed) for case in CASES for seed in range(GP_SEEDS if case == GP else SEEDS)]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        counts: dict[str, list[int]] = {case: [] for case in CASES}
        for task, count in zip(tasks, pool.map(run, tasks, chunksize=5), strict=True):
            counts[task.case].append(count)
    medians = {case: float(np.median(found)) for case, found in counts.items()}
    paid = costs()
    cold, ours = medians[COLD], medians[OURS]
    show(
        "warmstart",
        title="Trials until 95 % of the gap between median and best is closed",
        columns=["search", "seeds", "median", "95 %", "half of them", f"not within {LIMIT}"],
        rows=[_row(case, found) for case, found in counts.items()],
        figures={
            "cold_over_ours": cold / ours,
            "enqueue_over_ours": medians[ENQUEUE] / ours,
            "synetune_over_ours": medians[SYNE_TUNE] / ours,
            "import_over_ours": medians[IMPORT] / ours,
            "gp_over_ours": medians[GP] / ours,
            "harm_inverted": medians["ours, past inverted"] / cold,
            "harm_shuffled": medians["ours, past shuffled"] / cold,
            "harm_foreign": medians["ours, past foreign"] / cold,
            "edited_space_cold_over_ours": min(
                medians[f"{COLD}, {name}"] / medians[f"{OURS}, {name}"] for name in EDITS
            ),
            "short_history_cold_over_ours": cold / medians["ours, short past"],
            "proposal_ms": paid.proposal,
            "first_proposal_ms": paid.first_proposal,
            "storage_ms": paid.storage,
        },
    )


def run(task: Task) -> int:
    """Run one search and count its trials."""
    return CASES[task.case](task)


def cold(task: Task, edit: str = "") -> int:
    """Search with Optuna's default, knowing nothing."""
    return _count(_window(task.number, _edit(edit).now), TPESampler(seed=task.seed))


def gaussian(task: Task) -> int:
    """Search with Optuna's Gaussian process, knowing nothing."""
    with warnings.catch_warnings(category=ExperimentalWarning, action="ignore"):
        return _count(_window(task.number), GPSampler(seed=task.seed, deterministic_objective=True))


def alone(task: Task) -> int:
    """Search with ours, knowing nothing."""
    answers = _window(task.number)
    return _count(answers, ours(task, (), answers))


def enqueue(task: Task) -> int:
    """Search with Optuna's default, the best of the last search first."""
    return _count(_window(task.number), TPESampler(seed=task.seed), first=[best(history(task)[-1])])


def import_all(task: Task) -> int:
    """Search with Optuna's default in a study that holds all earlier trials with their values of then."""
    earlier = [(dict(t.parameters), float(t.value)) for s in history(task) for t in s.trials if t.value is not None]
    return _count(_window(task.number), TPESampler(seed=task.seed), imported=earlier)


def quantiles(task: Task) -> int:
    """Search with Syne Tune's quantile-based transfer from the same past."""
    answers = _window(task.number)
    return _count(answers, QuantileSampler(history(task), answers, seed=task.seed))


def warm(task: Task, edit: str = "") -> int:
    """Search with ours and the past as it was."""
    return _warm(task, history(task, edit), edit)


def untold(task: Task) -> int:
    """Search with ours, not told which configurations there are, as Optuna's samplers cannot be."""
    return _warm(task, history(task), told=False)


def short(task: Task) -> int:
    """Search with ours and a past of one small search."""
    last = history(task)[-1]
    return _warm(task, [replace(last, trials=last.trials[:SHORT])])


def inverted(task: Task) -> int:
    """Search with ours and a past in which the worst was best."""
    return _warm(task, [_changed(study, lambda values: -values) for study in history(task)])


def shuffled(task: Task) -> int:
    """Search with ours and a past that says nothing."""
    rng = np.random.default_rng(task.seed)
    return _warm(task, [_changed(study, rng.permutation) for study in history(task)])


def foreign(task: Task) -> int:
    """Search with ours and a past of another data set."""
    return _warm(task, [_past(FOREIGN, "", 100 * number + task.seed % PASTS) for number in range(3)])


def ours(task: Task, past: Sequence[PastStudy], answers: Window, *, told: bool = True) -> WarmSampler:
    """Make our sampler as the loop does, and tell it which configurations there are."""
    return WarmSampler(
        past,
        space=answers.space.distributions,
        conditions=answers.space.conditions,
        settled=answers.space.settled,
        candidates=answers.parameters if told else None,
        seed=task.seed,
    )


def history(task: Task, edit: str = "") -> list[PastStudy]:
    """Search every earlier window cold, oldest first, in the space of then, and carry it into that of now."""
    return [_past(f"1m-{number}", edit, task.seed % PASTS) for number in range(1, task.number)]


def best(study: PastStudy) -> Parameters:
    """Give the configuration that an earlier search would have released."""
    return dict(max(study.trials, key=lambda trial: -np.inf if trial.value is None else trial.value).parameters)


def space_of(changes: Mapping[str, Any] | None = None) -> Space:
    """Give the tables' space with some of a line's `search` settings changed."""
    search_settings = trainings.LINE["search"]
    changed = {**search_settings, **(changes or {})}
    changed["space"] = {
        family: {**search_settings["space"].get(family, {}), **changed["space"].get(family, {})}
        for family in changed["families"]
    }
    return search_space(Line.model_validate({**trainings.LINE, "search": changed}))


def _window(number: int, changes: Mapping[str, Any] | None = None) -> Window:
    return window(f"1m-{number}", space_of(changes))


def _warm(task: Task, past: Sequence[PastStudy], edit: str = "", *, told: bool = True) -> int:
    aged = [replace(study, doubt=2.0 ** ((len(past) - 1 - at) / 6)) for at, study in enumerate(past)]
    answers = _window(task.number, _edit(edit).now)
    return _count(answers, ours(task, aged, answers, told=told), first=[best(past[-1])])


def _count(
    answers: Window,
    sampler: BaseSampler,
    *,
    first: Sequence[Parameters] = (),
    imported: Tried = (),
) -> int:
    tried = search(answers, sampler, limit=LIMIT, first=first, imported=imported, until=answers.target)
    return needed(answers, tried, LIMIT)


def _edit(name: str) -> Edit:
    return EDITS[name] if name else Edit()


@cache
def _past(name: str, edited: str, seed: int) -> PastStudy:
    edit = _edit(edited)
    answers = window(name, space_of(edit.then))
    tried = search(answers, TPESampler(seed=10_000 + seed), limit=TRIALS)
    return carried(edit.names_of_then(evidence(f"{name}-{seed}", tried)), space_of(edit.now), edit.past)


def _changed(study: PastStudy, change: Callable[[np.ndarray], np.ndarray]) -> PastStudy:
    values = change(np.array([trial.value for trial in study.trials]))
    pairs = zip(study.trials, values, strict=True)
    return replace(study, trials=tuple(replace(trial, value=float(value)) for trial, value in pairs))


def _row(case: str, found: Sequence[int]) -> list[object]:
    sure = bootstrap((found,), np.median, rng=np.random.default_rng(0), method="percentile").confidence_interval
    low, high = np.quantile(found, [0.25, 0.75])
    never = np.mean(np.array(found) > LIMIT)
    return [
        case,
        len(found),
        float(np.median(found)),
        f"{sure.low:g}-{sure.high:g}",
        f"{low:g}-{high:g}",
        f"{never:.0%}",
    ]


def _configurations(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Evidence], Evidence]:
    """Write all configurations of the hybrid as an older version of the code would have."""

    def changed(found: Evidence) -> Evidence:
        trials = (
            replace(trial, configuration=change(dict(trial.configuration))) if trial.family == "hybrid" else trial
            for trial in found.trials
        )
        return replace(found, trials=tuple(trials))

    return changed


def _in_thousandths(configuration: dict[str, Any]) -> dict[str, Any]:
    return {**configuration, "lr": 1000 * configuration["lr"]}


def _learning_rate(configuration: dict[str, Any]) -> dict[str, Any]:
    return {("learning_rate" if name == "lr" else name): value for name, value in configuration.items()}


def _without(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda configuration: {name: value for name, value in configuration.items() if name not in names}


def _hybrid(**space: Sequence[object]) -> dict[str, Any]:
    return {"space": {"hybrid": space}}


EDITS: dict[str, Edit] = {
    "renamed": Edit(
        past={"hybrid": Past(renamed={"learning_rate": "lr"})}, names_of_then=_configurations(_learning_rate)
    ),
    "rescaled": Edit(past={"hybrid": Past(scaled={"lr": (0.001,)})}, names_of_then=_configurations(_in_thousandths)),
    "widened": Edit(then=_hybrid(lr=[0.001, 0.008])),
    # What is taken away is what the best do not have: without them the rest would be an easy search for everybody.
    "narrowed": Edit(now=_hybrid(lr=[0.002, 0.02])),
    "choice added": Edit(then=_hybrid(dim=[16, 32])),
    "choice removed": Edit(now=_hybrid(dim=[16, 32])),
    "parameter added": Edit(
        then=_hybrid(softmax=["full"]),
        past={"hybrid": Past(implied={"softmax": "full"})},
        names_of_then=_configurations(_without("softmax", "negatives")),
    ),
    "parameter retired": Edit(now=_hybrid(softmax=["full"])),
    "family added": Edit(then={"families": ["hybrid"]}),
    "family retired": Edit(now={"families": ["hybrid"]}),
}

COLD, ENQUEUE, IMPORT, SYNE_TUNE, GP, OURS = (
    "Optuna's default, cold",
    "enqueue the last best",
    "import past trials",
    "Syne Tune, quantiles",
    "Optuna's GP, cold",
    "ours",
)

CASES: dict[str, Callable[[Task], int]] = {
    COLD: cold,
    GP: gaussian,
    "ours, cold": alone,
    ENQUEUE: enqueue,
    IMPORT: import_all,
    SYNE_TUNE: quantiles,
    OURS: warm,
    "ours, nearest like Optuna's": untold,
    "ours, short past": short,
    "ours, past inverted": inverted,
    "ours, past shuffled": shuffled,
    "ours, past foreign": foreign,
    **{f"{COLD}, {name}": partial(cold, edit=name) for name in EDITS},
    **{f"{OURS}, {name}": partial(warm, edit=name) for name in EDITS},
}


if __name__ == "__main__":
    main()
