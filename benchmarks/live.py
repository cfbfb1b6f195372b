"""Retune a line on MovieLens-1M as it lands, and count the seconds until a search reaches what a cold one does.

Each chain is the feedback of other people. Its line is retuned cold at the first moments, which gives it a past and an
incumbent. At each later moment the next dataset is searched twice: by a cold search, which is the first of a line that
has just begun, with the popularity baseline in production, no past and no weights; and by the line's own, which has all
three and whose candidate goes through the gate, so that the chain goes on from it. With `--told` the cold search has
production's configuration as its first trial, as if somebody had written it down, and still no past and no weights.
Seconds are of the processor and of training alone, so that nothing else that runs on the machine decides.
"""

import argparse
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from benchmarks._data import find
from benchmarks._table import show
from recsys.columns import EVENT, ITEM, TIME, USER
from recsys.errors import Held
from recsys.records import Action, Dataset, Plan
from recsys.settings import Line
from recsys.store import open_store
from recsys.tuning.trials import Trials
from retune import replay, search, stages

BEGIN = datetime(2000, 7, 31, tzinfo=UTC)  # the first search; before it lie three months of feedback
STEP_DAYS = 14
COLD = 2  # first searches of a chain, without a past and without weights
WHY = "How soon does a search reach what a cold one does?"
DRAWS = 10_000  # of the bootstrap

SHAPE = {"dim": [32], "history_length": [50], "softmax": ["full"], "epochs": [1, 24]}
SEARCH: dict[str, Any] = {
    "families": ["two_tower", "sasrec", "hybrid"],
    "budget_s": 100_000,  # which no search here comes near: what it reaches ends nothing
    "workers": 1,
    "screen": {"trials": 8, "share": 0.5, "epochs": 0.5},
    "refine": {"trials": 3, "epochs": 0.6},
    "confirm": {"trials": 2, "seeds": 2},
    "space": {
        "two_tower": {**SHAPE, "hidden": [64]},
        "sasrec": {**SHAPE, "layers": [1], "heads": [2]},
        "hybrid": {**SHAPE, "layers": [1], "heads": [2]},
    },
}
LINE: dict[str, Any] = {
    "name": "live",
    "task": "retrieval",
    "owner": "benchmarks",
    "feedback": {"columns": {}, "freshness_days": 60},
    "split": {"holdout_days": 7, "window_days": 7, "windows": 2, "train_days": 90, "min_train_events": 100},
    "search": SEARCH,
    "budgets": {"p99_ms": 10_000, "size_mib": 1_000},
    # What is asked is how soon, not whether: every candidate is released.
    "gate": {
        "min_users": 2,
        "min_ndcg_gain": -1,
        "error_budget": 0.4,
        "max_p50_ratio": 1_000,
        "max_p99_ratio": 1_000,
        "max_quantisation_loss": 1,
    },
    "schedule": {"timeout_minutes": 5_000},
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """What both searches of one dataset took and reached."""

    chain: int
    moment: str
    cold_ndcg: float  # what the cold search chose had reached on the validation windows
    ours_ndcg: float
    cold_holdout: float
    ours_holdout: float
    cold_s: float  # of training until a trial had reached `cold_ndcg`
    ours_s: float
    reached: bool  # whether ours did; else its seconds are all that it took
    transfer: str  # NDCG@10 of the incumbent's configuration from its weights, less cold; or why there is none

    @property
    def ratio(self) -> float:
        """Cold over ours."""
        return self.cold_s / max(self.ours_s, 1e-3)


def main() -> None:
    """Run the chains side by side, print each comparison and write the figures."""
    parser = argparse.ArgumentParser(prog="live")
    parser.add_argument("--chains", type=int, default=2, help="lines, each with other people and other seeds")
    parser.add_argument("--moments", type=int, default=5, help="searches of each line, the first two of them cold")
    parser.add_argument("--people", type=float, default=0.15, help="share of MovieLens-1M's people in each line")
    parser.add_argument("--told", action="store_true", help="tell the cold searches production's configuration")
    asked = parser.parse_args()
    if asked.moments <= COLD:
        parser.error(f"--moments must be over {COLD}, because so many only make a past, but is {asked.moments}")
    logging.basicConfig(level=logging.ERROR)
    run = partial(chain, moments=asked.moments, people=asked.people, told=asked.told)
    workers = min(os.cpu_count() or 1, asked.chains)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        found = [one for each in pool.map(run, range(asked.chains)) for one in each]
    _show(found, told=asked.told)


def chain(number: int, *, moments: int, people: float, told: bool) -> list[Comparison]:
    """Take one line through all its moments.

    Args:
        number: Of the chain: whose feedback, and the seed of everything that is drawn.
        moments: How many searches.
        people: Share of the people.
        told: Whether cold searches are told production's configuration.
    """
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[number % len(cores)]})  # one thread each, so that neither takes the other's core
    with tempfile.TemporaryDirectory(prefix="retune-live-") as folder:
        return list(_compared(number, Path(folder), moments=moments, people=people, told=told))


def _compared(number: int, folder: Path, *, moments: int, people: float, told: bool) -> Iterator[Comparison]:
    events = _events(number, people)
    ours, cold = _line(number, warm=True), _line(number, warm=False)
    before = events[TIME].min().to_pydatetime()
    for at in range(moments):
        until = BEGIN + timedelta(days=at * STEP_DAYS)
        landed = events[(events[TIME] >= before) & (events[TIME] < until)]
        site = _site(ours if at >= COLD else cold, folder / "line")
        dataset = _land(site, replay.Week(number=at, events=landed, ends=until))
        if at < COLD:
            _release(site, _search(site, dataset))
        else:
            shutil.copytree(folder / "line", folder / f"cold-{at}")
            forgetful = _forgetful(_site(cold, folder / f"cold-{at}"), dataset, told=told)
            yield _compare(number, f"{until:%Y-%m-%d}", site, forgetful, dataset)
        before = until


def _forgetful(site: stages.Site, dataset: Dataset, *, told: bool) -> stages.Site:
    """Take all from a line but its feedback, and what is in production where it may know that."""
    for entry in [*site.store.list("evidence/"), *([] if told else site.store.list("channel/"))]:
        site.store.delete(entry.key)
    stages.baseline(site, dataset, by="benchmarks")
    return site


def _compare(number: int, moment: str, site: stages.Site, forgetful: stages.Site, dataset: Dataset) -> Comparison:
    cold_plan, own_plan = _search(forgetful, dataset), _search(site, dataset)
    told = stages.close_search(site, own_plan).transfer
    chosen = stages.choose(forgetful, cold_plan).validation_ndcg_at_10
    own = stages.choose(site, own_plan).validation_ndcg_at_10
    assert chosen is not None and own is not None  # both were searched for  # noqa: PT018
    cold_s, _ = seconds_until(_trained(forgetful, cold_plan), chosen)
    ours_s, reached = seconds_until(_trained(site, own_plan), chosen)
    return Comparison(
        chain=number,
        moment=moment,
        cold_ndcg=chosen,
        ours_ndcg=own,
        cold_holdout=_release(forgetful, cold_plan),
        ours_holdout=_release(site, own_plan),
        cold_s=cold_s,
        ours_s=ours_s,
        reached=reached,
        transfer=f"{told.ndcg_gain.value:+.4f}" if told else own_plan.cold_because,
    )


def seconds_until(trained: Sequence[tuple[float | None, float]], level: float) -> tuple[float, bool]:
    """Add up seconds until a value is reached.

    Args:
        trained: Of each trial in the order in which they ended, what it reached, if anything, and its seconds.
        level: What is to be reached.

    Returns:
        The seconds, the last trial's included, and whether it was reached at all.

    >>> seconds_until([(0.1, 2.0), (None, 1.0), (0.3, 4.0), (0.9, 8.0)], 0.3)
    (7.0, True)
    """
    spent = 0.0
    for value, seconds in trained:
        spent += seconds
        if value is not None and value >= level:
            return spent, True
    return spent, False


def _trained(site: stages.Site, plan: Plan) -> list[tuple[float | None, float]]:
    ended = [trial for trial in Trials.load(plan, site.studies).all() if trial.datetime_complete]
    return [
        (trial.value if trial.state is TrialState.COMPLETE else None, _cpu_s(trial))
        for trial in sorted(ended, key=lambda trial: str(trial.datetime_complete))
    ]


def _cpu_s(trial: FrozenTrial) -> float:
    return float(trial.user_attrs.get("cpu_seconds", {}).get("training", 0.0))


def _search(site: stages.Site, dataset: Dataset) -> Plan:
    plan = stages.decide(site, stages.judge(site, dataset), by="benchmarks", action=Action.RETUNE, reason=WHY)
    search.run(site, plan, on_trial=lambda _: None)
    return plan


def _release(site: stages.Site, plan: Plan) -> float:
    """Take the candidate as far as the gate lets it, and give its NDCG@10 on the holdout."""
    bundle = stages.package(site, stages.choose(site, plan))
    measured = stages.measure(site, bundle, by="benchmarks")
    try:
        stages.release(site, stages.gate(site, measured, by="benchmarks"))
    except Held as held:
        logging.getLogger(__name__).info("%s is held: %s", bundle.release_id, held)
    return measured.candidate.ndcg_at_10.value


def _land(site: stages.Site, week: replay.Week) -> Dataset:
    replay.land(site.store, week)
    dataset = stages.freeze(site, stages.commit(site, stages.check(site, stages.pull(site, as_of=week.ends))))
    stages.baseline(site, dataset, by="benchmarks")
    return dataset


def _site(line: Line, folder: Path) -> stages.Site:
    store = open_store((folder / "store").as_uri()).under(line.name)
    return stages.Site(line=line, store=store, studies=str(folder / "studies.journal"))


def _line(number: int, *, warm: bool) -> Line:
    cold = {} if warm else {"start": ["cold"]}
    space = {family: {**own, **cold} for family, own in SEARCH["space"].items()}
    return Line.model_validate({**LINE, "search": {**SEARCH, "space": space, "warm": warm, "seed": number}})


def _events(number: int, people: float) -> pd.DataFrame:
    """Give the positive ratings of some people, oldest first, as feedback."""
    table = pd.read_parquet(find("ml-1m/positives.parquet")).sort_values(["timestamp", "user_id", "movie_id"])
    everybody = np.unique(table["user_id"])
    some = np.random.default_rng(number).choice(everybody, round(people * len(everybody)), replace=False)
    kept = table[table["user_id"].isin(some)]
    return pd.DataFrame(
        {
            EVENT: kept["user_id"].astype(str) + "-" + kept["movie_id"].astype(str),
            USER: kept["user_id"].astype(str),
            ITEM: kept["movie_id"].astype(str),
            TIME: pd.to_datetime(kept["timestamp"], unit="s", utc=True).astype("datetime64[us, UTC]"),
        }
    )


def _show(found: Sequence[Comparison], *, told: bool) -> None:
    ratios = np.array([one.ratio for one in found])
    draws = np.random.default_rng(0).choice(ratios, (DRAWS, len(ratios)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    rows: list[list[object]] = [
        [
            one.chain,
            one.moment,
            one.cold_ndcg,
            one.ours_ndcg,
            one.cold_holdout,
            one.ours_holdout,
            one.transfer,
            round(one.cold_s, 1),
            f"{one.ours_s:.1f}" if one.reached else f"{one.ours_s:.1f}, not reached",
            round(one.ratio, 1),
        ]
        for one in found
    ]
    rows.append(["all", "median", *[""] * 7, f"{np.median(ratios):.1f} [{low:.1f}, {high:.1f}]"])
    show(
        "live",
        title="Processor seconds of training until a cold search's final NDCG@10, on MovieLens-1M as it lands"
        + (", the cold search told production's configuration" if told else ""),
        columns=[
            "chain",
            "dataset of",
            "cold NDCG@10",
            "ours",
            "cold on the holdout",
            "ours",
            "weights less cold start",
            "cold s",
            "ours s",
            "cold over ours",
        ],
        rows=rows,
        figures={
            f"live_seconds_{'told' if told else 'cold'}_over_ours": round(float(np.median(ratios)), 2),
            "low": round(float(low), 2),
            "high": round(float(high), 2),
            "comparisons": len(found),
            "not_reached": sum(not one.reached for one in found),
            "holdout_gain": round(float(np.mean([one.ours_holdout - one.cold_holdout for one in found])), 4),
        },
    )


if __name__ == "__main__":
    main()
