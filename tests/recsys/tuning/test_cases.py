import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from recsys import channel
from recsys.dataset import load
from recsys.metrics import evaluate
from recsys.records import to_json
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
    cases.keep(store, "d", "t", evaluations, source="trial 3 of r1", seconds=1.5)
    found = cases.find(store, "d", "t")
    assert found.ndcg.tolist() == [value for evaluation in evaluations for value in evaluation.ndcg]
    assert (found.source, found.seconds) == ("trial 3 of r1", 1.5)
    assert len(cases.users(frozen)) == len(found.ndcg)
    assert cases.find(store, "d", "another") is None
    assert cases.find(store, "another", "t") is None


def test_the_objective_counts_every_window_alike(seen):
    _, [first, second] = seen
    many = replace(first, ndcg=np.array([1.0, 1.0, 1.0, 0.0]))
    few = replace(second, ndcg=np.array([0.25]))
    store = MemoryStore()
    cases.keep(store, "d", "t", [many, few], source="", seconds=0.0)
    assert cases.find(store, "d", "t").objective == (0.75 + 0.25) / 2


@pytest.fixture
def produce(keep_bundle):
    """Put a release of each dataset into production, one after the other."""

    def move(store, *dataset_ids):
        before = None
        for name in dataset_ids:
            files = {"model.onnx": name.encode()}
            bundle = keep_bundle(store, files, family="markov", configuration={}, dataset_id=name)
            channel.move(store, to=bundle.release_id, expect=before, by="tests", reason="a test", nonce=name)
            before = bundle.release_id

    return move


def kept_of(store, *dataset_ids):
    """Lay a training's cases of each dataset."""
    for name in dataset_ids:
        store.put(f"cases/{name}/t.parquet", b"cases")


def left(store):
    return {entry.key.split("/")[1] for entry in store.list("cases/")}


def days_from_now(days):
    return datetime.now(UTC) + timedelta(days=days)


def test_cases_of_a_dataset_that_nothing_is_compared_on_go_when_they_were_not_used_for_30_days():
    store = MemoryStore()
    kept_of(store, "old")
    assert cases.sweep(store, now=days_from_now(29.9)) == 0
    assert cases.sweep(store, now=days_from_now(30.1)) == 1
    assert left(store) == set()


def test_cases_of_production_and_of_what_it_replaced_stay(produce):
    store = MemoryStore()
    produce(store, "first", "second", "third")
    kept_of(store, "first", "second", "third")
    assert cases.sweep(store, now=days_from_now(31)) == 1
    assert left(store) == {"second", "third"}


def test_cases_of_the_newest_three_searches_stay(search_evidence):
    store = MemoryStore()
    for week in range(1, 6):
        found = search_evidence(plan_id=f"r{week}", dataset_id=f"d{week}", as_of=days_from_now(7 * week))
        store.put(f"evidence/r{week}.json", to_json(found))
        kept_of(store, f"d{week}")
    cases.sweep(store, now=days_from_now(31))
    assert left(store) == {"d3", "d4", "d5"}


def test_a_release_that_is_gone_keeps_no_cases_and_stops_no_sweep(produce, caplog):
    store = MemoryStore()
    produce(store, "first", "second")
    [gone] = [entry.key for entry in store.list("releases/") if entry.key.endswith("manifest.json")][:1]
    store.delete(gone)
    kept_of(store, "first", "second")
    assert cases.sweep(store, now=days_from_now(31)) == 1
    assert "the dataset of" in caplog.text


def test_a_search_that_is_closed_sweeps(shop, retune, search):
    aged = shop.folder / "shop" / "store" / "cases" / "gone" / "t.parquet"
    kept_of(shop.store, "gone")
    then = days_from_now(-31).timestamp()
    os.utime(aged, (then, then))
    search(retune(incumbent="markov"))
    assert "gone" not in left(shop.store)
