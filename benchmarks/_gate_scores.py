"""Give real scores, case by case, of models trained on MovieLens-1M once, on which the gate's errors are measured."""

import logging

import numpy as np
from numpy.typing import NDArray

from benchmarks._data import find
from benchmarks._table import ROOT
from benchmarks.quality import load
from recsys.metrics import evaluate
from recsys.models import FAMILIES, Configuration, TorchScorer
from recsys.sequences import Cases, Sequences
from recsys.training import train

logger = logging.getLogger(__name__)

CASES = 10  # newest ratings of each user that are held out, as a holdout of a week or two holds several
KEPT = ROOT / "var" / "bench" / "gate-scores.npz"
_SASREC: Configuration = {
    **FAMILIES["sasrec"].defaults,
    "dim": 64,
    "layers": 1,
    "heads": 1,
    "history_length": 50,
    "batch_size": 1024,
    "lr": 3e-3,
    "softmax": "sampled",
    "negatives": 512,
    "epochs": 12,
}
MODELS: dict[str, tuple[str, Configuration, int]] = {
    "sasrec, seed 0": ("sasrec", _SASREC, 0),
    "sasrec, seed 1": ("sasrec", _SASREC, 1),
    "markov": ("markov", FAMILIES["markov"].defaults, 0),
}


def scores() -> dict[str, NDArray[np.float64]]:
    """Give NDCG@10 of each model on each held-out case, oldest first; train the models where nothing is kept.

    Returns:
        Shape [U, CASES] for each model.
    """
    if not KEPT.exists():
        known, cases = hold_out(load(find("ml-1m/sequences.txt")))
        found = {name: _scored(name, known, cases) for name in MODELS}
        KEPT.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(KEPT, allow_pickle=False, **found)
    with np.load(KEPT) as kept:
        return {name: kept[name].astype(np.float64) for name in MODELS}


def hold_out(sequences: Sequences) -> tuple[Sequences, Cases]:
    """Take the newest items of every user away, each to be named from all before it."""
    ends = sequences.offsets[1:]
    positions = (ends[:, None] + np.arange(-CASES, 0)).ravel()
    kept = np.ones(sequences.n_events, bool)
    kept[positions] = False
    known = Sequences(
        items=sequences.items[kept],
        times=sequences.times[kept],
        offsets=np.concatenate([[0], np.cumsum(np.diff(sequences.offsets) - CASES)]),
        n_items=sequences.n_items,
    )
    return known, Cases(sequences=sequences, positions=positions)


def _scored(name: str, known: Sequences, cases: Cases) -> NDArray[np.float32]:
    family, configuration, seed = MODELS[name]
    network = FAMILIES[family].build(configuration, n_items=known.n_items)
    train(network, known, configuration, seed=seed)
    found = evaluate(TorchScorer(network), cases).ndcg
    logger.info("%s: NDCG@10 %.4f.", name, found.mean())
    return found.reshape(-1, CASES).astype(np.float32)
