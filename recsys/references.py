"""Fit the two models that every release is shown beside, popularity and Markov, on the same data."""

import logging
from collections.abc import Mapping
from itertools import chain
from types import MappingProxyType

import numpy as np
from torch import nn

from recsys.dataset import Frozen
from recsys.metrics import Scorer, evaluate
from recsys.models import FAMILIES, Configuration, TorchScorer
from recsys.sequences import Sequences

log = logging.getLogger(__name__)

MARKOV: tuple[Configuration, ...] = tuple(
    {**FAMILIES["markov"].defaults, **changes}
    for changes in (
        {},
        {"steps": 1, "decay": 1.0},
        {"steps": 3, "smoothing": 20.0},
        {"steps": 5, "smoothing": 200.0},
        {"steps": 9, "smoothing": 20.0},
        {"steps": 9, "smoothing": 200.0},
        {"steps": 16, "decay": 0.9},
        {"steps": 16, "decay": 0.9, "smoothing": 200.0},
    )
)
"""What is tried for Markov; the defaults come first, and a reference that nobody tuned would flatter the release."""

TUNED_ON = 1000  # cases of the validation windows


def references(frozen: Frozen) -> Mapping[str, Scorer]:
    """Fit popularity and Markov, the latter as tuned on the validation windows, to everything before the holdout."""
    popularity = FAMILIES["popularity"]
    tuned = tune_markov(frozen)
    log.info("Markov is shown with %s.", dict(tuned))
    return MappingProxyType(
        {
            "popularity": TorchScorer(_fit("popularity", popularity.defaults, frozen.before_holdout)),
            "markov": TorchScorer(_fit("markov", tuned, frozen.before_holdout)),
        }
    )


def tune_markov(frozen: Frozen) -> Configuration:
    """Choose from `MARKOV` by NDCG@10 on the validation windows, the earlier among equals."""
    windows = [window.spread(TUNED_ON // len(frozen.windows)) for window in frozen.windows]
    scores = []
    for configuration in MARKOV:
        scorer = TorchScorer(_fit("markov", configuration, frozen.train))
        ndcg = list(chain.from_iterable(evaluate(scorer, cases).ndcg for cases in windows))
        scores.append(float(np.mean(ndcg)) if ndcg else 0.0)
    return MARKOV[int(np.argmax(scores))]


def _fit(family: str, configuration: Configuration, sequences: Sequences) -> nn.Module:
    network = FAMILIES[family].build(configuration, n_items=sequences.n_items)
    network.prepare(sequences, 0)  # type: ignore[operator]
    return network.eval()
