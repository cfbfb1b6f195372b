"""Compare how a stratified and a random part of the users rank configurations with how all users rank them.

What the configurations reach with all users stands in the tables of `trainings`. Here they are trained on parts of the
same windows, drawn again and again in both ways; the rankings are compared by Kendall's tau-b.
"""

import argparse
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import product
from multiprocessing import get_context
from types import MappingProxyType

import numpy as np
import optuna
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import kendalltau

from benchmarks import trainings
from benchmarks._table import show
from recsys.metrics import evaluate
from recsys.models import FAMILIES, TorchScorer
from recsys.sequences import Cases, Sequences
from recsys.subsample import only, portion
from recsys.training import train

WINDOWS = ("1m-2", "1m-4", "1m-6")
SHARE = 0.25  # of the users
DRAWS, CONFIGURATIONS = 5, 24
BOOTSTRAP = 10_000

Draw = Callable[[Sequences, int], Sequences]
Task = tuple[str, str, int, int]  # window, kind of draw, number of the draw, number of the configuration


def main() -> None:
    """Train, print what each window and all together show, and write the figures."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    asked = _arguments()
    chosen = configurations(asked.configurations)
    tasks = list(product(asked.windows, KINDS, range(asked.draws), chosen))
    with ProcessPoolExecutor(os.cpu_count() or 1, mp_context=get_context("spawn"), initializer=_begin) as pool:
        reached = dict(zip(tasks, pool.map(_train, tasks, chunksize=4), strict=True))
    found = pd.DataFrame(_draws(reached, asked.windows, asked.draws, chosen))
    rows = [_row(name, found[found["window"] == name]) for name in asked.windows] + [_row("all", found)]
    show(
        "subsample",
        title=f"{len(chosen)} configurations ranked by {SHARE:g} of the users, {asked.draws} draws a window",
        columns=["window", *KINDS, "stratified less random", "95 %", *(f"{kind}: lost by its best" for kind in KINDS)],
        rows=rows,
        figures=_figures(found),
    )


def configurations(count: int) -> list[int]:
    """Draw numbers of configurations, each family in proportion."""
    table = pd.read_parquet(trainings.TABLES / f"{WINDOWS[0]}.parquet")
    rng = np.random.default_rng(0)
    sizes = table["family"].value_counts()
    drawn = [
        rng.choice(table.loc[table["family"] == family, "number"], round(count * size / len(table)), replace=False)
        for family, size in sizes.items()
    ]
    return sorted(int(number) for numbers in drawn for number in numbers)


def at_random(sequences: Sequences, seed: int) -> Sequences:
    """Keep users whatever they are like."""
    n = math.ceil(SHARE * sequences.n_users)
    return only(sequences, np.sort(np.random.default_rng(seed).permutation(sequences.n_users)[:n]))


def stratified(sequences: Sequences, seed: int) -> Sequences:
    """Keep users as a search does."""
    return portion(sequences, SHARE, seed=seed)


KINDS: Mapping[str, Draw] = MappingProxyType({"random": at_random, "stratified": stratified})


def _begin() -> None:
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@cache
def _window(name: str) -> tuple[Sequences, Cases]:
    return trainings.window(name)


_configurations = cache(trainings.configurations)


def _train(task: Task) -> float:
    """Give NDCG@10 of one configuration that has learned from one part."""
    name, kind, draw, number = task
    known, cases = _window(name)
    family, configuration = _configurations()[number]
    network = FAMILIES[family].build(configuration, n_items=known.n_items)
    train(network, KINDS[kind](known, draw), configuration, seed=draw)
    return float(evaluate(TorchScorer(network), cases).ndcg.mean())


def _draws(
    reached: Mapping[Task, float], windows: list[str], draws: int, chosen: list[int]
) -> Iterator[dict[str, object]]:
    """Compare each draw's ranking with that of all users."""
    for name, kind, draw in product(windows, KINDS, range(draws)):
        table = pd.read_parquet(trainings.TABLES / f"{name}.parquet").set_index("number")
        whole = table.loc[chosen, f"ndcg_{trainings.PARTS}"].to_numpy()
        part = np.array([reached[name, kind, draw, number] for number in chosen])
        tau = float(kendalltau(part, whole).statistic)
        lost = float(whole.max() - whole[part.argmax()])
        yield {"window": name, "kind": kind, "draw": draw, "tau": tau, "lost": lost}


def _row(name: str, found: pd.DataFrame) -> list[object]:
    gain, low, high = _gain(found)
    tau, lost = (found.groupby("kind")[what].mean() for what in ("tau", "lost"))
    return [name, *(tau[kind] for kind in KINDS), gain, f"{low:.3f} to {high:.3f}", *(lost[kind] for kind in KINDS)]


def _gain(found: pd.DataFrame) -> tuple[float, float, float]:
    """Give how much higher tau is with strata, with the interval of a bootstrap over draws."""
    one, other = (found.loc[found["kind"] == kind, "tau"].to_numpy() for kind in KINDS)
    rng = np.random.default_rng(0)

    def means(values: NDArray[np.float64]) -> NDArray[np.float64]:
        drawn: NDArray[np.float64] = values[rng.integers(len(values), size=(BOOTSTRAP, len(values)))].mean(1)
        return drawn

    low, high = np.quantile(means(other) - means(one), [0.025, 0.975])
    return float(other.mean() - one.mean()), float(low), float(high)


def _figures(found: pd.DataFrame) -> dict[str, float]:
    gain, low, high = _gain(found)
    tau = {kind: found.loc[found["kind"] == kind, "tau"].to_numpy() for kind in KINDS}
    means = {f"tau_{kind}": float(values.mean()) for kind, values in tau.items()}
    spreads = {f"tau_{kind}_std": float(values.std(ddof=1)) for kind, values in tau.items()}
    return {**means, **spreads, "gain": gain, "gain_low": low, "gain_high": high}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", nargs="+", default=list(WINDOWS), help="tables in benchmarks/tables/")
    parser.add_argument("--draws", type=int, default=DRAWS, help="parts of each kind and window")
    parser.add_argument("--configurations", type=int, default=CONFIGURATIONS, help="how many are ranked")
    return parser.parse_args()


if __name__ == "__main__":
    main()
