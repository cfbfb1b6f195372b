"""Train several hundred configurations on consecutive windows of MovieLens and keep what each one reached.

The tables lie in `benchmarks/tables/`, one file a window, with seconds of processor time. Searches are replayed on
them thousands of times without training anything again. A window whose table is there is left as it is; delete the file
to measure it anew.
"""

import logging
import os
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
from torch import nn

from benchmarks._data import find
from benchmarks._table import ROOT, show
from recsys.metrics import evaluate
from recsys.models import FAMILIES, Configuration, TorchScorer
from recsys.sequences import Cases, Sequences
from recsys.settings import Line
from recsys.training import train
from recsys.tuning.space import Space, search_space

logger = logging.getLogger(__name__)

TABLES = ROOT / "benchmarks" / "tables"

TRAIN, VALIDATION, STRIDE = 16_000, 3_000, 70_000  # events
WINDOWS = 6  # of MovieLens-1M, oldest first, called 1m-1 to 1m-6; 100k is the foreign data set
COUNTS = {"hybrid": 240, "markov": 64}  # configurations of each family
PARTS = 2  # each training is measured at its half and at its end

LINE: Mapping[str, Any] = {
    "name": "trainings",
    "task": "retrieval",
    "owner": "benchmarks",
    "feedback": {"columns": {}},
    "split": {"holdout_days": 1, "window_days": 1, "windows": 1},
    "search": {
        "families": list(COUNTS),
        "budget_s": 1,
        "screen": {"trials": 1},
        "refine": {"trials": 1},
        "confirm": {"trials": 1},
        "space": {
            "hybrid": {
                "epochs": [2, 8],
                "lr": [0.0005, 0.02],
                "start": ["cold"],
                "dim": [16, 32, 64],
                "layers": [1, 2],
                "heads": [1, 2],
                "history_length": [20],
                "negatives": [64, 512],
            }
        },
    },
    "budgets": {"p99_ms": 10, "size_mib": 100},
}


def main() -> None:
    """Train whatever has no table yet, print what each window shows and write the figures."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    names = [*(f"1m-{number}" for number in range(1, WINDOWS + 1)), "100k"]
    for name in names:
        if not (TABLES / f"{name}.parquet").exists():
            measure(name)
    tables = {name: pd.read_parquet(TABLES / f"{name}.parquet") for name in names}
    rows = [_row(name, table, tables[names[max(0, at - 1)]]) for at, (name, table) in enumerate(tables.items())]
    show(
        "trainings",
        title=f"{sum(map(len, tables.values())):,} trainings of {sum(COUNTS.values())} configurations",
        columns=["window", "median NDCG@10", "best", "best family", "rank correlation with the window before", "hours"],
        rows=rows,
        figures={"trainings": sum(map(len, tables.values())), "hours": sum(map(_hours, tables.values()))},
    )


def space() -> Space:
    """Give the space that the configurations were drawn from."""
    return search_space(Line.model_validate(LINE))


def configurations() -> list[tuple[str, Configuration]]:
    """Draw the configurations, which are the same for every window: uniform, those of one family together."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn: dict[str, list[Configuration]] = {family: [] for family in COUNTS}
    while any(len(drawn[family]) < count for family, count in COUNTS.items()):
        family, configuration = space().suggest(study.ask())
        if len(drawn[family]) < COUNTS[family]:
            drawn[family].append(configuration)
    return [(family, configuration) for family, own in drawn.items() for configuration in own]


def measure(name: str) -> None:
    """Train every configuration on one window, two at a time, and write its table; go on where it was broken off."""
    journal = ROOT / "var" / "bench" / "trainings" / f"{name}.jsonl"
    journal.parent.mkdir(parents=True, exist_ok=True)
    done = set(pd.read_json(journal, lines=True)["number"]) if journal.exists() else set()
    left = [number for number in range(sum(COUNTS.values())) if number not in done]
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin, initargs=(name,)) as pool:
        for found in pool.map(_train, left):
            with journal.open("a", encoding="utf-8") as file:
                file.write(pd.Series(found).to_json() + "\n")
            logger.warning("%s %s", name, found)
    TABLES.mkdir(exist_ok=True)
    table = pd.read_json(journal, lines=True).sort_values("number").reset_index(drop=True)
    table.to_parquet(TABLES / f"{name}.parquet", index=False)


def window(name: str) -> tuple[Sequences, Cases]:
    """Cut one window: events to train on, and the cases of the events right after them."""
    if name == "100k":
        users, items, times = _read_100k(find("ml-100k/ml-100k.inter"))
        begin = len(items) - TRAIN - VALIDATION
    else:
        table = pd.read_parquet(find("ml-1m/positives.parquet")).sort_values(["timestamp", "user_id", "movie_id"])
        users, items, times = (table[column].to_numpy() for column in ("user_id", "movie_id", "timestamp"))
        begin = int(name.removeprefix("1m-")) * STRIDE - TRAIN
    return cut(users, items, times, begin=begin)


def cut(users: np.ndarray, items: np.ndarray, times: np.ndarray, *, begin: int) -> tuple[Sequences, Cases]:
    """Take TRAIN events from `begin` on, and VALIDATION events after them, whose histories hold what came before."""
    split, end = begin + TRAIN, begin + TRAIN + VALIDATION
    known = np.unique(items[begin:split])
    ids = np.where(np.isin(items, known), np.searchsorted(known, items) + 1, 0).astype(np.int32)
    order = begin + np.lexsort((np.arange(end - begin), users[begin:end]))  # users together, each in time order

    def sequences(at: np.ndarray) -> Sequences:
        lengths = np.unique(users[at], return_counts=True)[1]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return Sequences(items=ids[at], times=times[at], offsets=offsets, n_items=len(known))

    return sequences(order[order < split]), Cases(sequences=sequences(order), positions=np.flatnonzero(order >= split))


def _read_100k(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    table = pd.read_csv(path, sep="\t")
    table.columns = [column.partition(":")[0] for column in table.columns]
    table = table[table["rating"] >= 4].sort_values(["timestamp", "user_id", "item_id"])
    return tuple(table[column].to_numpy() for column in ("user_id", "item_id", "timestamp"))  # type: ignore[return-value]


_HERE: dict[str, Any] = {}  # what a worker has loaded


def _begin(name: str) -> None:
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _HERE["name"], _HERE["configurations"] = name, configurations()
    _HERE["known"], _HERE["cases"] = window(name)


def _train(number: int) -> dict[str, Any]:
    family, configuration = _HERE["configurations"][number]
    network = FAMILIES[family].build(configuration, n_items=_HERE["known"].n_items)
    curve: dict[int, float] = {}
    evaluation_s = 0.0

    def value(network: nn.Module) -> float:
        return float(evaluate(TorchScorer(network), _HERE["cases"]).ndcg.mean())

    def after(epoch: int, network: nn.Module) -> bool:
        nonlocal evaluation_s
        part = PARTS * epoch // int(configuration["epochs"])
        if part > PARTS * (epoch - 1) // int(configuration["epochs"]):
            began = time.process_time()
            curve[part] = value(network)
            evaluation_s += time.process_time() - began
        return False

    training = train(network, _HERE["known"], configuration, seed=0, on_epoch=after)
    if not curve:  # counted, not trained
        began = time.process_time()
        curve[PARTS] = value(network)
        evaluation_s = time.process_time() - began
    return {
        "number": number,
        "family": family,
        **{f"{family}.{name}": configuration[name] for name in FAMILIES[family].space},
        **{f"ndcg_{part}": curve.get(part) for part in range(1, PARTS + 1)},
        "seconds": round(training.cpu_seconds - (evaluation_s if configuration["epochs"] else 0.0), 3),
        "evaluation_s": round(evaluation_s, 3),
    }


def _row(name: str, table: pd.DataFrame, before: pd.DataFrame) -> list[object]:
    reached = table[f"ndcg_{PARTS}"]
    best_family = table["family"].iloc[int(reached.argmax())]
    correlation = float(reached.corr(before[f"ndcg_{PARTS}"], method="spearman"))
    return [name, float(reached.median()), float(reached.max()), best_family, correlation, _hours(table)]


def _hours(table: pd.DataFrame) -> float:
    return float((table["seconds"] + table["evaluation_s"]).sum() / 3600)


if __name__ == "__main__":
    main()
