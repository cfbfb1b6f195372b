"""Whatever lies in the store where a record should, its reader names it."""

import pytest

from recsys import dataset, gate, ledger, receipts, scorecard, tuning
from recsys.errors import BadObject
from recsys.records import ObjectRef, parse
from recsys.store.memory import MemoryStore
from recsys.tuning import decision, stages

READERS = {
    "datasets/d/dataset.json": lambda store: dataset.dataset(store, "d"),
    "datasets/latest.json": dataset.dataset,
    "ledger/20260101T000000.000000Z-gated-id.json": ledger.read,
    "receipts/hash.json": receipts.receipts,
    "releases/r/comparison.json": lambda store: scorecard.comparison(store, "r"),
    "releases/r/verdict.json": lambda store: gate.verdict(store, "r"),
    "studies/p/ablation.json": lambda store: tuning.ablation(store, "p"),
    "studies/p/candidate.json": lambda store: tuning.candidate(store, "p"),
    "studies/p/plan.json": lambda store: decision.plan(store, "p"),
    "studies/p/study.json": lambda store: stages.study(store, "p"),
}


@pytest.mark.parametrize("body", [b"", b"oops", b"\xff", b"[]", b"null", b"{}"])
@pytest.mark.parametrize("key", READERS)
def test_a_record_that_cannot_be_read_is_named(key, body):
    store = MemoryStore()
    store.put(key, body)
    with pytest.raises(BadObject) as bad:
        READERS[key](store)
    assert bad.value.key == key
    assert str(bad.value).startswith(f"{key} must hold a record of kind ")
    assert bad.value.reason in str(bad.value)


def test_each_field_is_named_with_its_rule_and_what_was_found():
    with pytest.raises(BadObject) as bad:
        parse(ObjectRef, "a.json", b'{"key": 1, "etag": "e", "size_bytes": "many"}')
    assert bad.value.reason == (
        "key: Input should be a valid string, but is 1; size_bytes: Input should be a valid integer, "
        "unable to parse string as an integer, but is 'many'"
    )


def test_what_a_newer_writer_adds_is_passed_over():
    assert parse(ObjectRef, "a.json", b'{"key": "k", "etag": "e", "size_bytes": 1, "colour": "red"}') == ObjectRef(
        key="k", etag="e", size_bytes=1
    )
