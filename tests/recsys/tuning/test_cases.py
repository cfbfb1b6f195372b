from dataclasses import replace

import numpy as np
import pytest

from recsys.dataset import load
from recsys.metrics import evaluate
from recsys.store.memory import MemoryStore
from recsys.tuning import cases


class Constant:
    """Scores every item by its id."""

    history_length = 1

    def __init__(self, n_items):
        self.scores = np.arange(n_items + 1, dtype=np.float32)

    def __call__(self, history):
        return np.tile(self.scores, (len(history), 1))


@pytest.fixture
def seen(shop):
    frozen = load(shop.store, shop.dataset)
    return frozen, [evaluate(Constant(frozen.train.n_items), window) for window in frozen.windows]


def test_what_is_kept_is_found_again(seen):
    frozen, evaluations = seen
    store = MemoryStore()
    cases.keep(store, "t", evaluations, source="trial 3 of r1", seconds=1.5)
    found = cases.find(store, "t")
    assert found.ndcg.tolist() == [value for evaluation in evaluations for value in evaluation.ndcg]
    assert (found.source, found.seconds) == ("trial 3 of r1", 1.5)
    assert len(cases.users(frozen)) == len(found.ndcg)
    assert cases.find(store, "another") is None


def test_the_objective_counts_every_window_alike(seen):
    _, [first, second] = seen
    many = replace(first, ndcg=np.array([1.0, 1.0, 1.0, 0.0]))
    few = replace(second, ndcg=np.array([0.25]))
    store = MemoryStore()
    cases.keep(store, "t", [many, few], source="", seconds=0.0)
    assert cases.find(store, "t").objective == (0.75 + 0.25) / 2
