"""Count the trials that searches need, cold and with a past, on tables of real trainings.

A search runs on one window of MovieLens-1M; its past are cold searches on the windows before. It is over when a trial
has closed 95 % of the gap between the table's median and its best configuration.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, TPESampler

from benchmarks._replay import Parameters, Table, needed, search, table
from benchmarks._synetune import QuantileSampler
from benchmarks._table import show
from benchmarks.trainings import WINDOWS
from recsys.tuning.evidence import PastStudy, PastTrial
from recsys.tuning.warm import WarmSampler

SEEDS = 100
GP_SEEDS = 20  # Optuna's process takes seconds a trial
LIMIT = 100  # a search that has not reached its target by then counts as one that takes a trial more
TRIALS = 40  # of each earlier search
SHORT = 15  # of the only one, where the past is short
FOREIGN = "100k"


@dataclass(frozen=True, slots=True)
class Task:
    """One search: which, with which seed."""

    case: str
    seed: int

    @property
    def window(self) -> int:
        """The window that is searched; every one with three before it takes its turn."""
        return 4 + self.seed % (WINDOWS - 3)


def main() -> None:
    """Replay all searches, print the table and write its figures."""
    tasks = [Task(case, seed) for case in CASES for seed in range(GP_SEEDS if case == "gp" else SEEDS)]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        counts: dict[str, list[int]] = {case: [] for case in CASES}
        for task, count in zip(tasks, pool.map(run, tasks, chunksize=5), strict=True):
            counts[task.case].append(count)
    medians = {case: float(np.median(found)) for case, found in counts.items()}
    rows = [[case, len(found), medians[case], *_quartiles(found), _unfinished(found)] for case, found in counts.items()]
    cold, ours = medians["optuna"], medians["ours"]
    edits = [case for case in CASES if case.startswith("edited: ")]
    show(
        "warmstart",
        title="Trials until 95 % of the gap between median and best is closed",
        columns=["search", "seeds", "median", "25 %", "75 %", f"not within {LIMIT}"],
        rows=rows,
        figures={
            "cold_over_ours": cold / ours,
            "enqueue_over_ours": medians["enqueue the last best"] / ours,
            "synetune_over_ours": medians["Syne Tune"] / ours,
            "import_over_ours": medians["import past trials"] / ours,
            "harm_inverted": medians["ours, past inverted"] / cold,
            "harm_shuffled": medians["ours, past shuffled"] / cold,
            "harm_foreign": medians["ours, past foreign"] / cold,
            "edited_space_cold_over_ours": min(medians[f"optuna, {case}"] / medians[case] for case in edits),
            "short_history_cold_over_ours": cold / medians["ours, short past"],
        },
    )


def run(task: Task) -> int:
    """Run one search and count its trials."""
    return CASES[task.case](task)


def cold(task: Task) -> int:
    """Search with Optuna's default, knowing nothing."""
    return _count(table(f"1m-{task.window}"), TPESampler(seed=task.seed))


def gaussian(task: Task) -> int:
    """Search with Optuna's Gaussian process, knowing nothing."""
    return _count(table(f"1m-{task.window}"), GPSampler(seed=task.seed, deterministic_objective=True))


def enqueue(task: Task) -> int:
    """Search with Optuna's default, the best of the last search first."""
    return _count(table(f"1m-{task.window}"), TPESampler(seed=task.seed), first=[best(history(task)[-1])])


def import_all(task: Task) -> int:
    """Search with Optuna's default in a study that holds all earlier trials with their values of then."""
    past = [(dict(t.parameters), float(t.value)) for s in history(task) for t in s.trials if t.value is not None]
    answers = table(f"1m-{task.window}")
    tried = search(answers, TPESampler(seed=task.seed), limit=LIMIT, imported=past, until=answers.target)
    return needed(answers, tried, LIMIT)


def quantiles(task: Task) -> int:
    """Search with Syne Tune's quantile-based transfer from the same past."""
    answers = table(f"1m-{task.window}")
    return _count(answers, QuantileSampler(history(task), space=answers.space.distributions, seed=task.seed))


def alone(task: Task) -> int:
    """Search with ours, knowing nothing."""
    return _count(table(f"1m-{task.window}"), ours(task, ()))


def warm(task: Task) -> int:
    """Search with ours and the past as it was."""
    return _warm(task, history(task))


def inverted(task: Task) -> int:
    """Search with ours and a past in which the worst was best."""
    return _warm(task, [_changed(study, lambda values: -values) for study in history(task)])


def shuffled(task: Task) -> int:
    """Search with ours and a past that says nothing."""
    rng = np.random.default_rng(task.seed)
    return _warm(task, [_changed(study, rng.permutation) for study in history(task)])


def foreign(task: Task) -> int:
    """Search with ours and a past of another data set."""
    return _warm(task, [_searched(table(FOREIGN), 1000 * number + task.seed % 25) for number in range(3)])


def short(task: Task) -> int:
    """Search with ours and a past of one small search."""
    return _warm(task, [_first(history(task)[-1], SHORT)])


def edited(then: Callable[[Parameters], bool], now: Callable[[Parameters], bool]) -> Callable[[Task], int]:
    """Search with ours where the past saw some configurations and today's space holds others."""

    def run_edited(task: Task) -> int:
        past = [
            _searched(table(f"1m-{number}").where(then), 1000 * number + task.seed % 25)
            for number in range(1, task.window)
        ]
        return _warm(task, past, answers=table(f"1m-{task.window}").where(now))

    return run_edited


def cold_in(now: Callable[[Parameters], bool]) -> Callable[[Task], int]:
    """Search with Optuna's default in an edited space."""
    return lambda task: _count(table(f"1m-{task.window}").where(now), TPESampler(seed=task.seed))


def ours(task: Task, past: Sequence[PastStudy]) -> WarmSampler:
    """Make our sampler for the tables' space."""
    space = table("1m-1").space
    distributions: dict[str, BaseDistribution] = space.distributions
    return WarmSampler(past, space=distributions, conditions=space.conditions, seed=task.seed)


def history(task: Task) -> list[PastStudy]:
    """Search every earlier window cold, oldest first."""
    return [_searched(table(f"1m-{number}"), 1000 * number + task.seed % 25) for number in range(1, task.window)]


def best(study: PastStudy) -> Parameters:
    """Give the configuration that an earlier search would have released."""
    return dict(max(study.trials, key=lambda trial: -np.inf if trial.value is None else trial.value).parameters)


def _count(answers: Table, sampler: BaseSampler, *, first: Sequence[Parameters] = ()) -> int:
    tried = search(answers, sampler, limit=LIMIT, first=first, until=answers.target)
    return needed(answers, tried, LIMIT)


def _warm(task: Task, past: Sequence[PastStudy], *, answers: Table | None = None) -> int:
    aged = [replace(study, doubt=2.0 ** ((len(past) - 1 - at) / 6)) for at, study in enumerate(past)]
    return _count(answers or table(f"1m-{task.window}"), ours(task, aged), first=[best(past[-1])])


def _searched(answers: Table, seed: int) -> PastStudy:
    return _cold_studies(answers.name, tuple(answers.rows), seed)


@cache
def _cold_studies(name: str, rows: tuple[int, ...], seed: int) -> PastStudy:
    answers = table(name).take(rows)
    tried = search(answers, TPESampler(seed=seed), limit=TRIALS)
    trials = [PastTrial(parameters=answers.parameters[row], value=float(answers.values[row])) for row in tried]
    return PastStudy(name=name, trials=tuple(trials))


def _changed(study: PastStudy, change: Callable[[np.ndarray], np.ndarray]) -> PastStudy:
    values = change(np.array([trial.value for trial in study.trials]))
    pairs = zip(study.trials, values, strict=True)
    return replace(study, trials=tuple(replace(trial, value=float(value)) for trial, value in pairs))


def _first(study: PastStudy, n: int) -> PastStudy:
    return replace(study, trials=study.trials[:n])


def _quartiles(found: Sequence[int]) -> tuple[float, float]:
    low, high = np.quantile(found, [0.25, 0.75])
    return float(low), float(high)


def _unfinished(found: Sequence[int]) -> str:
    return f"{np.mean(np.array(found) > LIMIT):.0%}"


def _anything(_: Parameters) -> bool:
    return True


def _rate(parameters: Parameters) -> float:
    return float(parameters.get("hybrid.lr", 0.004))


EDITS: dict[str, tuple[Callable[[Parameters], bool], Callable[[Parameters], bool]]] = {
    "a range widened": (lambda p: 0.001 <= _rate(p) <= 0.008, _anything),
    "a range narrowed": (_anything, lambda p: 0.001 <= _rate(p) <= 0.01),
    "a choice added": (lambda p: p.get("hybrid.dim") != 64, _anything),
    "a choice removed": (_anything, lambda p: p.get("hybrid.dim") != 16),
    "a parameter added": (lambda p: p.get("hybrid.softmax") != "sampled", _anything),
    "a parameter retired": (_anything, lambda p: p.get("hybrid.softmax") != "sampled"),
    "a family added": (lambda p: p["family"] == "hybrid", _anything),
}
"""What the past saw, and what today's space holds."""

CASES: dict[str, Callable[[Task], int]] = {
    "optuna": cold,
    "gp": gaussian,
    "ours, cold": alone,
    "enqueue the last best": enqueue,
    "import past trials": import_all,
    "Syne Tune": quantiles,
    "ours": warm,
    "ours, short past": short,
    "ours, past inverted": inverted,
    "ours, past shuffled": shuffled,
    "ours, past foreign": foreign,
    **{f"edited: {name}": edited(then, now) for name, (then, now) in EDITS.items()},
    **{f"optuna, edited: {name}": cold_in(now) for name, (_, now) in EDITS.items()},
}


if __name__ == "__main__":
    main()
