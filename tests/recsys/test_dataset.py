import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest

from recsys import dataset, feedback, ledger, parts, synthetic
from recsys.errors import BadObject, NoFeedback, NotFound
from recsys.holdout import contexts, load_holdout, window_events
from recsys.records import CheckedBatch, dump, load
from recsys.settings import read_line
from recsys.split import EPOCH
from recsys.store import open_store

AS_OF = datetime(2026, 1, 25, tzinfo=UTC)


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    path = tmp_path_factory.mktemp("lines") / "shop.toml"
    path.write_text(synthetic.LINE)
    return read_line(path)


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path.as_uri()).under("shop")


def commit(line, store, events, as_of=AS_OF):
    """Take events into the table unchecked; the stage is as good as what a check accepts."""
    store.put(f"landing/{len(list(store.list('landing/')))}.jsonl", synthetic.jsonl(events))
    batch = feedback.pull(line, store, as_of=as_of)
    unchecked = CheckedBatch(
        batch=batch, accepted_key=batch.events_key, accepted_rows=batch.rows, refused=(), findings=()
    )
    return feedback.commit(line, store, unchecked)


@pytest.fixture
def version(line, store):
    return commit(line, store, synthetic.events(days=14, events_per_day=60))


def test_the_record_counts_what_the_parts_hold(line, store, version):
    frozen = dataset.freeze(line, store, version)
    events = synthetic.events(days=14, events_per_day=60)
    spans = [frozen.train, *frozen.windows, frozen.holdout]
    assert [span.name for span in spans] == ["train", "window-1", "window-2", "holdout"]
    assert spans[0].begins == events["timestamp"].min()
    assert spans[-1].ends == events["timestamp"].max() + timedelta(microseconds=1)
    for earlier, later in pairwise(spans):
        assert earlier.ends == later.begins
    for span in spans:
        inside = events[(events["timestamp"] >= span.begins) & (events["timestamp"] < span.ends)]
        assert (span.events, span.users, span.items) == (
            len(inside),
            inside["user_id"].nunique(),
            inside["item_id"].nunique(),
        )
    before = events[events["timestamp"] < frozen.holdout.begins]
    assert frozen.n_users == before["user_id"].nunique()
    assert frozen.n_items == before["item_id"].nunique()
    assert (frozen.cache_hit, frozen.as_of, frozen.table_version) == (False, AS_OF, version.version)
    assert load(dataset.Dataset, dump(frozen)) == frozen


def test_what_was_frozen_can_be_loaded(line, shared_store):
    store = shared_store.under("shop")
    frozen = dataset.freeze(line, store, commit(line, store, synthetic.events(days=14, events_per_day=60)))
    loaded = dataset.load(store, frozen)
    events = synthetic.events(days=14, events_per_day=60)
    before = events[events["timestamp"] < frozen.holdout.begins]
    everything = loaded.before_holdout
    for user, (_, theirs) in enumerate(sorted(before.groupby("user_id"), key=lambda found: found[1].index[0])):
        items = everything.items[everything.offsets[user] : everything.offsets[user + 1]]
        assert [loaded.vocabulary[item - 1] for item in items] == theirs["item_id"].tolist()
    assert [len(window) for window in loaded.windows] == [window.events for window in frozen.windows]
    assert loaded.train.n_events == frozen.train.events
    counts = before["item_id"].value_counts()
    head = [item for item, popular in zip(loaded.vocabulary, loaded.head[1:], strict=True) if popular]
    assert len(head) == np.ceil(0.2 * frozen.n_items)
    assert counts[head].min() >= counts.drop(head).max()
    assert not loaded.head[0]


def test_a_search_does_not_touch_the_files_of_the_holdout(line, store, version):
    frozen = dataset.freeze(line, store, version)
    for entry in list(store.list(f"datasets/{frozen.dataset_id}/holdout/")):
        store.delete(entry.key)
    dataset.load(store, frozen)
    with pytest.raises(NotFound):
        load_holdout(store, frozen, by="operator", why="to see")


@pytest.mark.parametrize("name", ["holdout/holdout.parquet", "holdout/newest.parquet"])
def test_what_reads_the_rest_of_a_dataset_does_not_read_its_holdout(line, store, version, name):
    frozen = dataset.freeze(line, store, version)
    assert name in frozen.files
    with pytest.raises(ValueError, match="locked"):
        parts.read(store, frozen, name)


def test_an_unreadable_record_is_named(line, store, version):
    frozen = dataset.freeze(line, store, version)
    key = f"datasets/{frozen.dataset_id}/dataset.json"
    for body in (b"oops", b"[]", b"\xff", b'{"dataset_id": 1}'):
        store.put(key, body)
        with pytest.raises(BadObject, match=f"{key} must hold a record of kind Dataset, but does not: ") as bad:
            dataset.dataset(store, frozen.dataset_id)
        assert bad.value.key == key


def test_the_same_content_is_the_same_dataset_and_is_counted(line, store, version):
    first = dataset.freeze(line, store, version)
    again = dataset.freeze(line, store, replace(version, as_of=AS_OF + timedelta(days=1)))
    assert again == replace(first, cache_hit=True, as_of=AS_OF + timedelta(days=1))
    assert dataset.cache_counts(store) == {"hits": 1, "misses": 1}
    late = synthetic.events(days=1, events_per_day=60, first_day=13)
    commit(line, store, late.assign(event_id=[f"late{n}" for n in range(60)]))
    other = dataset.freeze(line, store, commit(line, store, synthetic.events(days=1, first_day=14)))
    assert other.dataset_id != first.dataset_id
    assert dataset.cache_counts(store) == {"hits": 1, "misses": 2}


def test_the_same_events_make_the_same_dataset_in_another_store_whatever_the_order_they_came_in(line, tmp_path):
    events = synthetic.events(days=14, events_per_day=60)
    found = []
    for name, shares in (("a", [events]), ("b", [events[300:], events[:300].sample(frac=1, random_state=1)])):
        store = open_store((tmp_path / name).as_uri()).under("shop")
        for share in shares:
            version = commit(line, store, share)
        found.append(dataset.freeze(line, store, version))
    assert found[0].dataset_id == found[1].dataset_id


@pytest.mark.parametrize(
    "other",
    [
        {"split": {"window_days": 2.0}},
        {"split": {"min_item_events": 2}},
        {"split": {"head_share": 0.3}},
        {"feedback": {"positive": {"column": "value", "at_least": 0.2}}},
    ],
    ids=["window_days", "min_item_events", "head_share", "positive"],
)
def test_other_settings_make_another_dataset(line, store, version, other):
    settings = line.model_dump(mode="json")
    for table, changes in other.items():
        settings[table] |= changes
    changed = type(line).model_validate_json(json.dumps(settings))
    one, two = dataset.freeze(line, store, version), dataset.freeze(changed, store, version)
    assert one.dataset_id != two.dataset_id
    assert not two.cache_hit


def test_the_newest_dataset_is_that_of_the_latest_version(line, store, version):
    with pytest.raises(NoFeedback, match=r"There must be a dataset in .*, but there is none"):
        dataset.dataset(store)
    first = dataset.freeze(line, store, version)
    assert dataset.dataset(store) == first
    second = dataset.freeze(line, store, commit(line, store, synthetic.events(days=1, first_day=14)))
    assert dataset.dataset(store) == second
    dataset.freeze(line, store, version)  # somebody looks back
    assert dataset.dataset(store) == second
    assert dataset.dataset(store, first.dataset_id) == first
    with pytest.raises(NoFeedback, match="'gone'"):
        dataset.dataset(store, "gone")


def test_a_dataset_is_seen_whole_or_not_at_all_whenever_its_freezing_dies(line, store, version, dies):
    writes = 0
    while dies(store, writes, lambda store: dataset.freeze(line, store, version)):
        writes += 1
        for entry in store.list("datasets/"):
            if entry.key.endswith("/dataset.json"):
                dataset.load(store, dataset.dataset(store, entry.key.split("/")[1]))
    assert writes == 10  # eight files, dataset.json, latest.json; whoever finds them writes the last and the ledger
    frozen = dataset.dataset(store)
    assert frozen == dataset.dataset(store, frozen.dataset_id)
    dataset.load(store, frozen)
    [entry] = ledger.read(store, what="frozen")
    assert entry.evidence["dataset_id"] == frozen.dataset_id
    assert dataset.cache_counts(store) == {"hits": 0, "misses": 1}  # it was new, however often it was begun


def test_freezing_a_version_again_for_the_same_moment_is_the_same_freezing(line, store, version):
    first = dataset.freeze(line, store, version)
    assert dataset.freeze(line, store, version) == first  # as a task does that is run again
    assert dataset.cache_counts(store) == {"hits": 0, "misses": 1}
    late = replace(version, as_of=AS_OF + timedelta(days=1))
    assert dataset.freeze(line, store, late) == dataset.freeze(line, store, late)
    assert dataset.cache_counts(store) == {"hits": 1, "misses": 1}


def test_several_that_freeze_the_same_at_once_agree(line, store, version):
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: dataset.freeze(line, store, version), range(3)))
    assert len({one.dataset_id for one in found}) == 1
    assert all(one.files == found[0].files for one in found)
    dataset.load(store, dataset.dataset(store))


def test_a_file_that_was_changed_is_found_out(line, store, version):
    frozen = dataset.freeze(line, store, version)
    key = f"datasets/{frozen.dataset_id}/train.parquet"
    store.put(key, store.get(key).body[:-1] + b"x")
    with pytest.raises(BadObject, match="not the file that was frozen") as caught:
        dataset.load(store, frozen)
    assert caught.value.key == key


def test_nothing_committed_cannot_be_frozen(line, store, version):
    with pytest.raises(NoFeedback, match="nothing has been committed"):
        dataset.freeze(line, store.under("other"), version)


# --- holdout


def test_whoever_reads_the_holdout_stands_in_the_ledger(line, store, version):
    frozen = dataset.freeze(line, store, version)
    cases = load_holdout(store, frozen, by="operator", why="to measure a bundle")
    [entry] = ledger.read(store, what="holdout read")
    assert (entry.who, entry.why, entry.evidence["dataset_id"]) == (
        "operator",
        "to measure a bundle",
        frozen.dataset_id,
    )
    events = synthetic.events(days=14, events_per_day=60)
    held = events[events["timestamp"] >= frozen.holdout.begins]
    assert len(cases) == len(held) == frozen.holdout.events
    vocabulary = ("unknown", *dataset.load(store, frozen).vocabulary)
    known = held["item_id"].where(held["item_id"].isin(vocabulary), "unknown")
    assert sorted(vocabulary[target] for target in cases.targets) == sorted(known)
    assert cases.sequences.times[cases.positions].min() == cases.sequences.times.max() - (
        held["timestamp"].max() - held["timestamp"].min()
    ) // timedelta(microseconds=1)


def test_the_cases_of_the_holdout_have_the_contexts_of_their_events(line, store, version):
    frozen = dataset.freeze(line, store, version)
    cases, found = load_holdout(store, frozen, by="tests", why="to compare"), contexts(store, frozen)
    assert found.column_names == ["_user", *(n for n, c in line.feedback.columns.items() if c.role == "context")]
    assert found["_user"].to_pylist() == cases.users.tolist()
    events = synthetic.events(days=14, events_per_day=60)
    device = dict(zip((events["timestamp"] - EPOCH) // timedelta(microseconds=1), events["device"], strict=True))
    assert found["device"].to_pylist() == [device[time] for time in cases.sequences.times[cases.positions]]
    before = replace(frozen, files={name: f for name, f in frozen.files.items() if "contexts" not in name})
    assert contexts(store, before) is None  # of a dataset that was frozen without them


def test_the_newest_window_has_all_columns_of_all_its_events(line, store, version):
    frozen = dataset.freeze(line, store, version)
    found = window_events(store, frozen)
    events = synthetic.events(days=14, events_per_day=60)
    newest = events[events["timestamp"] >= frozen.holdout.ends - timedelta(days=3)]
    assert found["event_id"].to_pylist() == newest["event_id"].tolist()
    assert found.column_names == newest.columns.tolist()


def test_coverage_lies_beside_the_dataset(line, store, version):
    frozen = dataset.freeze(line, store, version)
    report = dataset.coverage(store, frozen)
    assert [split["part"] for split in report["splits"]] == ["window-1", "window-2", "holdout"]
    assert list(report["splits"][0]["columns"]) == ["user_id", "item_id", "device", "age"]
    page = store.get(f"datasets/{frozen.dataset_id}/coverage.html").body.decode()
    assert f"shop, dataset {frozen.dataset_id}" in page
