from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch

from recsys.embeddings import alike, dead, tables
from recsys.errors import BadBundle
from recsys.models import FAMILIES

SMALL = {"dim": 4, "heads": 2, "layers": 1, "history_length": 3}


def bundle(family: str, **changes) -> SimpleNamespace:
    configuration = {**FAMILIES[family].defaults, **changes}
    return SimpleNamespace(release_id="r", family=family, configuration=configuration, n_items=6)


def weights(of: SimpleNamespace) -> bytes:
    network = FAMILIES[of.family].build(of.configuration, n_items=of.n_items)
    return safetensors.torch.save(network.state_dict())


@pytest.mark.parametrize(
    ("family", "changes", "expected"),
    [
        ("two_tower", {"dim": 4, "hidden": 4, "history_length": 3}, {"items.weight": (6, 4)}),
        ("sasrec", SMALL, {"items.weight": (6, 4)}),
        ("hybrid", {**SMALL, "steps": 2}, {"attention.items.weight": (6, 4)}),
        ("markov", {}, {}),
        ("popularity", {}, {}),
    ],
)
def test_the_tables_of_a_family_are_those_with_a_row_for_each_item(family, changes, expected):
    of = bundle(family, **changes)
    assert {name: table.shape for name, table in tables(of, weights(of)).items()} == expected


def test_another_number_of_rows_and_a_missing_table_are_refused():
    of = bundle("sasrec", **SMALL)
    body = weights(of)
    of.n_items = 7
    with pytest.raises(BadBundle, match="must have 8 rows, one more than items, but has 7") as refused:
        tables(of, body)
    assert refused.value.file == "weights.safetensors"
    with pytest.raises(BadBundle, match=r"must hold items\.weight"):
        tables(of, safetensors.torch.save({"bias": torch.zeros(7)}))


def test_rows_that_are_empty_alike_or_no_numbers_are_dead():
    table = np.eye(8, 5) + 1
    assert dead(table[:5]) == 0
    table[2] = 1e-9
    table[3] = np.nan
    assert dead(table) == 5  # and rows 5, 6 and 7 are alike


def test_rows_are_alike_only_in_every_number():
    assert alike(np.array([[1.0, 2.0], [1.0, 2.0000001], [1.0, 2.0]])).tolist() == [True, False, True]
