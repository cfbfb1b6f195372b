"""Verdicts on made feedback: steady, drifted, too little, and the incumbent's own dataset."""

import json
import shutil
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from monitoring import drift, windows
from monitoring.columns import HISTORY, POPULARITY, SCORE
from recsys import bundles, channel, feedback, holdout, ledger, synthetic
from recsys import dataset as datasets
from recsys.errors import BadObject, NoRelease
from recsys.ranker import Ranker
from recsys.records import Bundle, CheckedBatch, Dataset, DriftVerdict, load
from recsys.settings import Line
from recsys.store import Store, open_store

LINE = Line.model_validate(tomllib.loads(synthetic.LINE))
DAYS = 16


def land_and_freeze(store: Store, name: str, events, line: Line = LINE) -> Dataset:
    """Bring `events` through pull and commit, all accepted, and freeze."""
    store.put(f"landing/{name}.jsonl", synthetic.jsonl(events))
    batch = feedback.pull(line, store, as_of=datetime(2026, 3, 1, tzinfo=UTC))
    accepted = CheckedBatch(
        batch=batch, accepted_key=batch.events_key, accepted_rows=batch.rows, refused=(), findings=()
    )
    return datasets.freeze(line, store, feedback.commit(line, store, accepted))


def release_popularity(store: Store, dataset: Dataset, *, previous: str | None = None) -> str:
    """Put a graph into production that scores each item with its number of events, whatever the history."""
    frozen = datasets.load(store, dataset)
    counts = np.bincount(frozen.before_holdout.items, minlength=dataset.n_items + 1).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["history", "axis"], ["sums"], keepdims=1),
            helper.make_node("Cast", ["sums"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["floats", "nought"], ["noughts"]),
            helper.make_node("Add", ["noughts", "counts"], ["scores"]),
        ],
        "popularity",
        [helper.make_tensor_value_info("history", TensorProto.INT64, ["batch", 4])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", len(counts)])],
        [
            numpy_helper.from_array(np.array([1], np.int64), "axis"),
            numpy_helper.from_array(np.array(0, np.float32), "nought"),
            numpy_helper.from_array(counts[None, :], "counts"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    files = {
        bundles.FP32: model.SerializeToString(),
        bundles.VOCABULARY: json.dumps(frozen.vocabulary).encode(),
    }
    what = {
        "family": "popularity",
        "configuration": {},
        "dataset_id": dataset.dataset_id,
        "history_length": 4,
        "files": {name: bundles.refer(body) for name, body in files.items()},
    }
    bundle = Bundle(
        release_id=bundles.identify(**what),
        candidate_id="baseline",
        n_items=dataset.n_items,
        serves=bundles.FP32,
        serves_because="it is the only graph",
        graphs=(),
        largest_error=0.0,
        by="tests",
        as_of=dataset.as_of,
        **what,
    )
    bundles.keep_bundle(store, bundle, files)
    channel.move(
        store, to=bundle.release_id, expect=previous, by="tests", reason="first release", nonce=dataset.dataset_id
    )
    return bundle.release_id


@pytest.fixture(scope="module")
def started(tmp_path_factory) -> tuple[Store, Dataset]:
    """A store with 16 days of feedback, frozen, and popularity in production."""
    store = open_store((tmp_path_factory.mktemp("store") / "shop").as_uri()).under("shop")
    reference = land_and_freeze(store, "first", synthetic.events(days=DAYS, seed=1))
    release_popularity(store, reference)
    return store, reference


def copy(store: Store, folder: Path) -> Store:
    shutil.copytree(urlsplit(store.url).path, folder / "shop")
    return open_store(folder.as_uri()).under("shop")


def later(store: Store, *, drifted: bool) -> Dataset:
    """Five more days, long enough to fill the newest window."""
    return land_and_freeze(store, "later", synthetic.events(days=5, first_day=DAYS, drifted=drifted, seed=2))


@pytest.fixture(scope="module")
def drifted(started, tmp_path_factory) -> tuple[Store, Dataset, DriftVerdict]:
    """The same store after five days of another world, and the verdict on them."""
    store = copy(started[0], tmp_path_factory.mktemp("drifted"))
    dataset = later(store, drifted=True)
    return store, dataset, drift.judge(LINE, store, dataset)


def test_feedback_of_the_same_world_has_not_drifted(started, tmp_path):
    store = copy(started[0], tmp_path)
    verdict = drift.judge(LINE, store, later(store, drifted=False))
    assert not verdict.drifted
    assert [column.column for column in verdict.columns] == ["value", "device", "age", POPULARITY, HISTORY, SCORE]
    assert verdict.reference_id == started[1].dataset_id
    moved = [column.column for column in verdict.columns if column.drifted]
    assert set(moved) <= {HISTORY}  # histories grow, because the same users come back
    assert "within drift.max_share = 0.3" in verdict.because


def test_planted_drift_is_found_in_the_columns_where_it_was_planted(drifted):
    _, _, verdict = drifted
    assert verdict.drifted
    moved = {column.column for column in verdict.columns if column.drifted}
    assert {"value", "device", POPULARITY, SCORE} <= moved
    assert "age" not in moved
    assert "more than drift.max_share = 0.3 allows" in verdict.because
    assert "by PSI" in verdict.because


def test_the_verdict_its_report_and_its_numbers_lie_in_the_store(drifted):
    store, dataset, verdict = drifted
    folder = verdict.report_key.removesuffix("/report.html")
    assert folder.startswith(f"drift/{dataset.dataset_id}/{verdict.release_id}/")
    assert load(DriftVerdict, json.loads(store.get(f"{folder}/verdict.json").body)) == verdict
    assert b"<html" in store.get(verdict.report_key).body[:500]
    metrics = json.loads(store.get(f"{folder}/report.json").body)["metrics"]
    assert {m["config"]["column"]: pytest.approx(m["value"]) for m in metrics} == {
        column.column: column.distance for column in verdict.columns
    }


def test_judging_again_gives_the_same_verdict_and_no_second_entry(drifted):
    store, dataset, verdict = drifted
    report = store.get(verdict.report_key)
    assert drift.judge(LINE, store, dataset) == verdict
    assert store.get(verdict.report_key).modified == report.modified
    [entry] = [entry for entry in ledger.read(store) if entry.what == "judged"]
    assert entry.why == verdict.because
    assert entry.evidence["drifted"] is True
    assert entry.evidence["distances"][POPULARITY] > 0.1
    assert entry.evidence["report_key"] == verdict.report_key


def test_a_new_incumbent_is_judged_anew(drifted, tmp_path):
    store, dataset, first = copy(drifted[0], tmp_path), *drifted[1:]
    second = release_popularity(store, dataset, previous=first.release_id)
    verdict = drift.judge(LINE, store, dataset)
    assert (verdict.release_id, verdict.drifted, verdict.report_key) == (second, False, "")
    evidence = first.report_key.removesuffix("report.html")  # ... of which nothing is written over
    assert load(DriftVerdict, json.loads(store.get(f"{evidence}verdict.json").body)) == first
    assert [entry.evidence["release_id"] for entry in ledger.read(store, what="judged")] == [first.release_id, second]


@pytest.mark.parametrize(
    "changed",
    [
        {"drift": {"max_psi": 50.0}},
        {"feedback": {"columns": {"value": {"role": "label", "type": "number"}}}},
        {"search": {"seed": 7}},  # which cases the incumbent scores
    ],
    ids=["drift", "columns", "seed"],
)
def test_other_settings_are_judged_anew(drifted, tmp_path, changed):
    store, dataset, first = copy(drifted[0], tmp_path), *drifted[1:]
    settings = LINE.model_dump(mode="json")
    for table, values in changed.items():
        settings[table] |= values
    verdict = drift.judge(Line.model_validate_json(json.dumps(settings)), store, dataset)
    assert verdict.report_key != first.report_key
    assert verdict.drifted is ("drift" not in changed)
    assert ("age" in {column.column for column in verdict.columns}) is ("feedback" not in changed)
    for kept in (first.report_key, verdict.report_key):
        assert store.get(kept).body
    assert len(ledger.read(store, what="judged")) == 2
    assert drift.judge(LINE, store, dataset) == first


def test_a_verdict_that_cannot_be_read_is_named(drifted, tmp_path):
    store, dataset, first = copy(drifted[0], tmp_path), *drifted[1:]
    key = first.report_key.replace("report.html", "verdict.json")
    store.put(key, b"oops")
    with pytest.raises(BadObject, match=f"{key} must hold a record of kind DriftVerdict"):
        drift.judge(LINE, store, dataset)


def test_the_incumbents_own_dataset_is_not_compared_with_itself(started, tmp_path):
    store, reference = copy(started[0], tmp_path), started[1]
    verdict = drift.judge(LINE, store, reference)
    assert not verdict.drifted
    assert verdict.because == "The incumbent was made from this very dataset."
    assert (verdict.columns, verdict.report_key) == ((), "")
    assert [entry.key.rpartition("/")[2] for entry in store.list("drift/")] == ["verdict.json"]
    assert [entry.why for entry in ledger.read(store) if entry.what == "judged"] == [verdict.because]


def test_a_window_of_few_events_judges_nothing(started, tmp_path):
    store = copy(started[0], tmp_path)
    dataset = later(store, drifted=True)
    n = len(holdout.window_events(store, dataset))
    demanding = LINE.model_copy(update={"drift": LINE.drift.model_copy(update={"min_events": n + 1})})
    verdict = drift.judge(demanding, store, dataset)
    assert not verdict.drifted
    assert verdict.because == f"The newest window holds {n} events, fewer than drift.min_events = {n + 1}."


def test_without_an_incumbent_there_is_nothing_to_compare_with(started, tmp_path):
    _, reference = started
    with pytest.raises(NoRelease, match="the channel names no release"):
        drift.judge(LINE, open_store(tmp_path.as_uri()), reference)


def test_the_incumbent_scores_the_items_that_were_really_taken(started):
    store, reference = started
    incumbent = Ranker.open(store, channel.current(store).release_id)
    window = windows.read(store, reference, incumbent, seed=0)
    frozen = datasets.load(store, reference)
    counts = np.bincount(frozen.before_holdout.items, minlength=reference.n_items + 1)
    newest = holdout.window_events(store, reference)
    ids = {item: number for number, item in enumerate(frozen.vocabulary, start=1)}
    by_hand = [counts[ids[item]] for item in newest["item_id"].to_pylist() if item in ids]
    assert sorted(window.scores) == pytest.approx(sorted(by_hand))


def test_histories_are_counted_up_to_each_event(started):
    store, reference = started
    incumbent = Ranker.open(store, channel.current(store).release_id)
    window = windows.read(store, reference, incumbent, seed=0)
    events = synthetic.events(days=DAYS, seed=1)
    begins = holdout.window_events(store, reference)["timestamp"][0].as_py()
    by_hand = events.groupby("user_id").cumcount()[events["timestamp"] >= begins]
    assert sorted(window.lengths) == sorted(by_hand)


def test_no_more_cases_are_scored_than_it_takes_and_the_same_ones_each_time(started):
    store, reference = started
    incumbent = Ranker.open(store, channel.current(store).release_id)
    drawn = [windows.read(store, reference, incumbent, seed=seed, scored=50).scores for seed in (3, 3, 4)]
    assert [len(scores) for scores in drawn] == [50, 50, 50]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
