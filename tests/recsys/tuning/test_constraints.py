import json

import numpy as np
import pytest
import torch

from recsys.graph import to_onnx
from recsys.models import FAMILIES
from recsys.quantize import quantisations
from recsys.sequences import Cases, Sequences
from recsys.settings import Budgets
from recsys.store.memory import MemoryStore
from recsys.tuning.constraints import Cost, Costs, served_bytes, smallest_bytes

BUDGETS = Budgets(p99_ms=1000, size_mib=1)
TOWER, MARKOV = FAMILIES["two_tower"], FAMILIES["markov"]
SMALL = {**TOWER.defaults, "dim": 32, "hidden": 64, "history_length": 20}


def costs(store, n_items=300, budgets=BUDGETS):
    items = np.arange(1, 21, dtype=np.int32)
    sequences = Sequences(items=items, times=np.arange(20), offsets=np.array([0, 20]), n_items=n_items)
    cases = Cases(sequences=sequences, positions=np.array([5, 19]))
    return Costs(store, prefix="costs", n_items=n_items, budgets=budgets, cases=cases)


@pytest.mark.parametrize("name", ["two_tower", "sasrec"])
def test_the_estimate_is_what_quantising_gives(name, tmp_path):
    family = FAMILIES[name]
    network = family.build({**family.defaults, "dim": 64, "history_length": 20}, n_items=4000)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    graph = to_onnx(network, tmp_path / "m.onnx").read_bytes()
    assert served_bytes(graph) == pytest.approx(len(quantisations(graph)["int8"]), rel=0.05)
    assert smallest_bytes(network) < served_bytes(graph) < len(graph)


def test_what_is_too_large_is_refused_before_it_is_exported():
    # 2^22 embeddings of 64 bytes and biases of 4 bytes
    cost = costs(MemoryStore(), n_items=2**22).of(TOWER, {**SMALL, "dim": 64})
    assert cost.p99_ms is None
    [missed] = cost.misses(BUDGETS)
    assert missed.startswith("size of about 272.")
    assert missed.endswith("MiB is over the budget of 1 MiB")


def test_equal_shapes_are_measured_once_whatever_else_differs():
    store = MemoryStore()
    first = costs(store)
    cost = first.of(TOWER, SMALL)
    assert cost.misses(BUDGETS) == ()
    assert 0 < cost.p50_ms <= cost.p99_ms
    [entry] = store.list("costs/")
    assert json.loads(store.get(entry.key).body)["size_mib"] == cost.size_mib

    store.put(entry.key, json.dumps({"size_mib": 0.5, "p50_ms": 1.0, "p99_ms": 2.0}).encode())
    known = Cost(size_mib=0.5, p50_ms=1.0, p99_ms=2.0)
    assert costs(store).of(TOWER, {**SMALL, "lr": 0.005, "epochs": 3}) == known  # another worker reads it
    assert first.of(TOWER, SMALL) == cost  # this one remembers

    too_small = Budgets(p99_ms=1000, size_mib=1e-6)
    for other in (
        costs(store, n_items=301, budgets=too_small),
        costs(store, budgets=Budgets(p99_ms=1000, size_mib=1e-6, batch_sizes=(2,))),
        costs(store, budgets=Budgets(p99_ms=1000, size_mib=1e-6, threads=2)),
    ):
        assert other.of(TOWER, SMALL) != known
    assert costs(store, budgets=too_small).of(TOWER, {**SMALL, "dim": 64}) != known


def test_each_missed_budget_is_said_with_its_numbers():
    cost = Cost(size_mib=2.5, p50_ms=3.0, p99_ms=9.5)
    budgets = Budgets(p99_ms=8, size_mib=2)
    assert cost.excesses(budgets) == {"size_mib": 0.5, "p99_ms": 1.5}
    assert cost.misses(budgets) == (
        "size of about 2.50 MiB is over the budget of 2 MiB",
        "p99 of about 9.50 ms is over the budget of 8 ms",
    )
    assert Cost(size_mib=2.0, p50_ms=3.0, p99_ms=8.0).misses(budgets) == ()


def test_a_configuration_that_cannot_be_built_is_a_value_error():
    with pytest.raises(ValueError, match="steps of markov"):
        costs(MemoryStore()).of(MARKOV, {**MARKOV.defaults, "steps": 0})
