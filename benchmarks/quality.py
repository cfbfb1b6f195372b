"""Measure the families on MovieLens-1M: leave-one-out, the whole catalogue ranked, items that the user had removed."""

import logging
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks._data import find
from benchmarks._table import show
from recsys.metrics import Evaluation, TailShare, evaluate, interval
from recsys.models import FAMILIES, Configuration, TorchScorer
from recsys.sequences import Cases, Sequences
from recsys.training import train

logger = logging.getLogger(__name__)

MARKOV_TRIALS, MARKOV_SEARCH_S = 30, 40.0

SASREC: Configuration = {
    **FAMILIES["sasrec"].defaults,
    "history_length": 200,
    "layers": 2,
    "batch_size": 2048,
    "lr": 2e-3,
    "dropout": 0.2,
    "softmax": "sampled",
    "negatives": 1024,
    "epochs": 30,
}
TWO_TOWER: Configuration = {
    **FAMILIES["two_tower"].defaults,
    "batch_size": 2048,
    "softmax": "sampled",
    "negatives": 512,
    "epochs": 10,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one family showed."""

    family: str
    evaluation: Evaluation
    minutes: float  # wall clock, search, training and counting together
    cpu_minutes: float  # of all threads

    def cells(self, tail: TailShare) -> list[object]:
        """Give the row as the table shows it."""
        means = self.evaluation.over_cases
        low, high = interval(self.evaluation.ndcg, self.evaluation.users, seed=0)
        return [
            self.family,
            means["ndcg_at_10"],
            f"{low:.3f}-{high:.3f}",
            means["recall_at_10"],
            means["mrr"],
            self.evaluation.coverage,
            tail.of(self.evaluation.recommended),
            f"{self.minutes:.2f}",
            f"{self.cpu_minutes:.2f}",
        ]


def main() -> None:
    """Measure every family, print the table and write its figures."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    everything = load(find("ml-1m/sequences.txt"))
    known, test = hold_out(everything)
    tail = TailShare(most_popular(known))

    popularity, _ = measured("popularity", FAMILIES["popularity"].defaults, known, test)
    began, cpu_began = time.monotonic(), time.process_time()
    best = search_markov(known)
    markov, counted = measured("markov", best, known, test, since=(began, cpu_began))
    two_tower, _ = measured("two_tower", TWO_TOWER, known, test)
    sasrec, attention = measured("sasrec", SASREC, known, test)
    hybrid = interpolated(attention, counted, {**best, **SASREC}, test, parts=(sasrec, markov))

    figures = {
        f"{row.family}_{name}": round(row.evaluation.over_cases[key], 4)
        for row in (popularity, markov, two_tower, sasrec, hybrid)
        for name, key in (("ndcg_at_10", "ndcg_at_10"), ("hr_at_10", "recall_at_10"))
    }
    figures |= {
        "sasrec_minutes": round(sasrec.minutes, 2),
        "sasrec_cpu_minutes": round(sasrec.cpu_minutes, 2),
        "markov_seconds": round(60 * markov.minutes, 1),
        "markov_cpu_seconds": round(60 * markov.cpu_minutes, 1),
    }
    show(
        "quality",
        title=f"MovieLens-1M, {len(test):,} users, {everything.n_items:,} items, leave-one-out, full ranking",
        columns=["family", "NDCG@10", "95 %", "HR@10", "MRR", "coverage", "tail", "minutes", "CPU minutes"],
        rows=[row.cells(tail) for row in (popularity, markov, two_tower, sasrec, hybrid)],
        figures=figures,
    )


def load(path: Path) -> Sequences:
    """Read lines of `user item`, users together and oldest first; places stand for the times that the file lacks."""
    users, items = np.loadtxt(path, dtype=np.int64).T
    return Sequences(
        items=items.astype(np.int32),
        times=np.arange(len(items)),
        offsets=np.concatenate([[0], np.cumsum(np.bincount(users)[1:])]),
        n_items=int(items.max()),
    )


def hold_out(sequences: Sequences) -> tuple[Sequences, Cases]:
    """Take the last item of every user away, to be named from all before it."""
    lengths = np.diff(sequences.offsets)
    kept = np.ones(sequences.n_events, bool)
    kept[sequences.offsets[1:] - 1] = False
    known = Sequences(
        items=sequences.items[kept],
        times=sequences.times[kept],
        offsets=np.concatenate([[0], np.cumsum(lengths - 1)]),
        n_items=sequences.n_items,
    )
    return known, Cases(sequences=sequences, positions=sequences.offsets[1:] - 1)


def most_popular(known: Sequences) -> NDArray[np.bool_]:
    """Mark the fifth of the items that were taken most often. Shape [N + 1]."""
    taken = np.bincount(known.items, minlength=known.n_items + 1)
    head = np.zeros(known.n_items + 1, bool)
    head[1 + np.argsort(-taken[1:], kind="stable")[: math.ceil(known.n_items / 5)]] = True
    return head


def search_markov(known: Sequences) -> Configuration:
    """Find the best Markov configuration for the last item of `known`, from the rest of it."""
    earlier, validation = hold_out(known)
    family = FAMILIES["markov"]
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))

    ends = time.monotonic() + MARKOV_SEARCH_S
    while len(study.trials) < MARKOV_TRIALS and time.monotonic() < ends:
        trial = study.ask(dict(family.space))
        _, evaluation = fitted({**family.defaults, **trial.params}, family.name, earlier, validation)
        study.tell(trial, evaluation.over_cases["ndcg_at_10"])
    logger.info("Markov: %d configurations, best %s.", len(study.trials), study.best_params)
    return {**family.defaults, **study.best_params}


def fitted(configuration: Configuration, name: str, known: Sequences, cases: Cases) -> tuple[nn.Module, Evaluation]:
    """Train one network and evaluate it."""
    network = FAMILIES[name].build(configuration, n_items=known.n_items)
    train(network, known, configuration, seed=0)
    return network, evaluate(TorchScorer(network), cases)


def measured(
    name: str,
    configuration: Configuration,
    known: Sequences,
    test: Cases,
    *,
    since: tuple[float, float] | None = None,
) -> tuple[Row, nn.Module]:
    """Train and evaluate one family; `since` is when wall clock and CPU clock began, if before now."""
    began, cpu_began = since or (time.monotonic(), time.process_time())
    network, evaluation = fitted(configuration, name, known, test)
    row = Row(
        family=name,
        evaluation=evaluation,
        minutes=(time.monotonic() - began) / 60,
        cpu_minutes=(time.process_time() - cpu_began) / 60,
    )
    logger.info("%s: %s, %.1f minutes.", name, evaluation.over_cases, row.minutes)
    return row, network


def interpolated(
    attention: nn.Module, counted: nn.Module, configuration: Configuration, test: Cases, *, parts: tuple[Row, Row]
) -> Row:
    """Evaluate the hybrid of two networks that are trained already, which is what training it would give."""
    family = FAMILIES["hybrid"]
    whole = {**family.defaults, **{key: value for key, value in configuration.items() if key in family.defaults}}
    network = family.build(whole, n_items=test.sequences.n_items)
    network.load_state_dict(
        {f"attention.{name}": value for name, value in attention.state_dict().items()}
        | {f"markov.{name}": value for name, value in counted.state_dict().items()}
    )
    began, cpu_began = time.monotonic(), time.process_time()
    evaluation = evaluate(TorchScorer(network), test)
    return Row(
        family="hybrid",
        evaluation=evaluation,
        minutes=sum(part.minutes for part in parts) + (time.monotonic() - began) / 60,
        cpu_minutes=sum(part.cpu_minutes for part in parts) + (time.process_time() - cpu_began) / 60,
    )


if __name__ == "__main__":
    torch.set_num_threads(os.cpu_count() or 1)
    main()
