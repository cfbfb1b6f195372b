import gzip
import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys import feedback, landing, ledger, receipts, table
from recsys.errors import BadObject, NoFeedback, NotFound, StoreError
from recsys.records import MIB, CheckedBatch
from recsys.settings import Line
from recsys.store import open_store
from recsys.store.memory import MemoryStore

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
LINE = Line.model_validate(
    {
        "name": "shop",
        "task": "retrieval",
        "owner": "tests",
        "feedback": {"columns": {"value": {"role": "label", "type": "number"}}},
        "search": {"budget_s": 1, "screen": {"trials": 1}, "refine": {"trials": 1}, "confirm": {"trials": 1}},
        "budgets": {"p99_ms": 1, "size_mib": 1},
    }
)


@pytest.fixture
def files(tmp_path):
    return open_store(tmp_path.as_uri()).under("shop")


def body(*numbers, user="u"):
    return "\n".join(
        json.dumps(
            {
                "event_id": f"e{n}",
                "user_id": user,
                "item_id": f"i{n % 3}",
                "timestamp": (AS_OF - timedelta(hours=n)).isoformat(),
                "value": n,
            }
        )
        for n in numbers
    ).encode()


def passed(store, batch):
    """A check that finds nothing."""
    accepted_key = batch.events_key.replace("-events", "-accepted")
    staged = pq.read_table(pa.BufferReader(store.get(batch.events_key).body)).drop_columns([feedback.SOURCE])
    sink = pa.BufferOutputStream()
    pq.write_table(staged, sink)
    store.put(accepted_key, bytes(sink.getvalue()))
    return CheckedBatch(
        batch=batch, accepted_key=accepted_key, accepted_rows=len(staged), refused=batch.refused, findings=()
    )


def take(store, as_of=AS_OF):
    return feedback.commit(LINE, store, passed(store, feedback.pull(LINE, store, as_of=as_of)))


def ids(store):
    events = table.events(store)
    return sorted(events.to_table(["event_id"])["event_id"].to_pylist(), key=lambda e: int(e[1:])) if events else []


def staged(store, batch):
    return pq.read_table(pa.BufferReader(store.get(batch.events_key).body))


# --- pull


def test_a_batch_holds_what_is_new_each_event_once_in_the_order_of_time_with_its_source(store):
    store.put("landing/b.jsonl", body(2, 3))
    store.put("landing/a.jsonl", body(3, 1))
    batch = feedback.pull(LINE, store, as_of=AS_OF)
    assert (batch.rows, batch.refused, batch.as_of) == (3, (), AS_OF)
    assert [ref.key for ref in batch.objects] == ["landing/a.jsonl", "landing/b.jsonl"]
    events = staged(store, batch)
    assert events.schema.remove(len(events.schema) - 1) == landing.schema(LINE.feedback)
    assert events["event_id"].to_pylist() == ["e3", "e2", "e1"]
    assert events[feedback.SOURCE].to_pylist() == ["landing/a.jsonl", "landing/b.jsonl", "landing/a.jsonl"]


def test_the_same_objects_make_the_same_batch_and_other_versions_another():
    store = MemoryStore()
    store.put("landing/a.jsonl", body(1))
    first = feedback.pull(LINE, store, as_of=AS_OF)
    assert feedback.pull(LINE, store, as_of=AS_OF) == first
    store.put("landing/a.jsonl", body(2))
    assert feedback.pull(LINE, store, as_of=AS_OF).batch_id != first.batch_id


def test_a_file_whose_name_is_not_utf_8_stops_no_other(files, tmp_path):
    files.put("landing/a.jsonl", body(1))
    (tmp_path / "shop" / "landing" / os.fsdecode(b"b\xff.jsonl")).write_bytes(body(2))
    assert [ref.key for ref in feedback.pull(LINE, files, as_of=AS_OF).objects] == ["landing/a.jsonl"]


def test_a_parquet_object_with_a_name_twice_is_refused_and_stops_no_other(store):
    events = pa.table([pa.array(["e1"]), pa.array(["e2"])], names=["event_id", "event_id"])
    sink = pa.BufferOutputStream()
    pq.write_table(events, sink)
    store.put("landing/a.parquet", bytes(sink.getvalue()))
    store.put("landing/b.jsonl", body(1))
    batch = feedback.pull(LINE, store, as_of=AS_OF)
    assert [ref.key for ref in batch.objects] == ["landing/b.jsonl"]
    assert [refusal.reasons for refusal in batch.refused] == [("no column may stand twice, but event_id does",)]


def test_different_events_under_one_id_are_both_staged_for_the_checks_to_see():
    store = MemoryStore()
    store.put("landing/a.jsonl", body(1, user="u"))
    store.put("landing/b.jsonl", body(1, user="v"))
    assert feedback.pull(LINE, store, as_of=AS_OF).rows == 2


def test_an_object_that_cannot_be_read_is_quarantined_once_and_the_others_go_on(store):
    store.put("landing/a.jsonl", body(1))
    store.put("landing/b.jsonl", b"oops")
    batch = feedback.pull(LINE, store, as_of=AS_OF)
    [refusal] = batch.refused
    assert (refusal.source, refusal.rows) == ("landing/b.jsonl", 0)
    assert refusal.reasons == ("it must be JSON, one object a line, but line 1 is not: Expecting value at character 1",)
    assert refusal.kept_at.startswith("quarantine/2026-03-01/")
    assert refusal.kept_at.endswith("/object")
    assert store.get(refusal.kept_at).body == b"oops"
    reasons = json.loads(store.get(refusal.kept_at.replace("/object", "/reasons.json")).body)
    assert reasons["reasons"] == list(refusal.reasons)
    [entry] = ledger.read(store, what="refused")
    assert entry.evidence["source"] == "landing/b.jsonl"
    assert entry.why == f"landing/b.jsonl: {refusal.reasons[0]}"

    again = feedback.pull(LINE, store, as_of=AS_OF + timedelta(days=1))
    assert (again.batch_id, again.refused) == (batch.batch_id, ())
    assert receipts.quarantined(store) == (refusal,)


def test_no_feedback_tells_what_was_refused_on_the_way():
    store = MemoryStore()
    with pytest.raises(NoFeedback, match="Nothing new has landed") as nothing:
        feedback.pull(LINE, store, as_of=AS_OF)
    assert nothing.value.refused == ()
    store.put("landing/a.txt", b"x")
    store.put("landing/b.jsonl", b"")
    with pytest.raises(NoFeedback, match="2 went to quarantine") as refused:
        feedback.pull(LINE, store, as_of=AS_OF)
    assert [refusal.source for refusal in refused.value.refused] == ["landing/a.txt", "landing/b.jsonl"]
    assert [(r.object.key, r.outcome) for r in receipts.receipts(store)] == [
        ("landing/a.txt", "refused"),
        ("landing/b.jsonl", "refused"),
    ]
    with pytest.raises(NoFeedback) as again:
        feedback.pull(LINE, store, as_of=AS_OF)
    assert again.value.refused == ()


def test_what_is_too_large_is_refused_without_being_read():
    class Unread(MemoryStore):
        def get(self, key):
            assert key != "landing/a.jsonl"
            return super().get(key)

        def fetch(self, key, path):
            path.write_bytes(MemoryStore.get(self, key).body)

    store = Unread()
    store.put("landing/a.jsonl", b"x" * (1 + (1 << 20)))
    small = LINE.model_copy(update={"feedback": LINE.feedback.model_copy(update={"max_object_mib": 1.0})})
    with pytest.raises(NoFeedback) as nothing:
        feedback.pull(small, store, as_of=AS_OF)
    [refusal] = nothing.value.refused
    assert refusal.reasons == ("it must not be larger than feedback.max_object_mib = 1",)


def test_an_object_that_changes_while_it_is_pulled_waits_for_the_next_batch():
    class Rewritten(MemoryStore):
        def get(self, key):
            if key == "landing/b.jsonl":
                self.put(key, body(5))
            return super().get(key)

    store = Rewritten()
    store.put("landing/a.jsonl", body(1))
    store.put("landing/b.jsonl", body(4))
    batch = feedback.pull(LINE, store, as_of=AS_OF)
    assert [ref.key for ref in batch.objects] == ["landing/a.jsonl"]
    assert receipts.receipts(store) == ()


def test_more_events_than_a_batch_holds_wait_for_the_next_however_small_they_are_packed(monkeypatch):
    store = MemoryStore()
    for name in "abc":  # 20,000 events take more than 1 MiB in memory, and a tenth of that as gzip
        store.put(f"landing/{name}.jsonl.gz", gzip.compress(body(*range(20_000), user=name)))
    sizes = [entry.size_bytes for entry in store.list("landing/")]
    monkeypatch.setattr(feedback, "MAX_BATCH_MIB", 1)
    assert sum(sizes) < MIB
    batch = feedback.pull(LINE, store, as_of=AS_OF)
    assert [ref.key for ref in batch.objects] == ["landing/a.jsonl.gz"]  # one goes, whatever it takes
    receipts.settle(store, batch.objects, "committed", as_of=AS_OF)
    assert [ref.key for ref in feedback.pull(LINE, store, as_of=AS_OF).objects] == ["landing/b.jsonl.gz"]


def test_an_unreadable_receipt_is_named():
    store = MemoryStore()
    store.put("landing/a.jsonl", body(1))
    [ref] = feedback.pull(LINE, store, as_of=AS_OF).objects
    receipts.settle(store, [ref], "committed", as_of=AS_OF)
    [entry] = store.list("receipts/")
    store.put(entry.key, b'{"outcome": 1}')
    for read in (lambda: receipts.receipts(store), lambda: receipts.receipt(store, ref)):
        with pytest.raises(BadObject, match=f"{entry.key} must hold a record of kind Receipt") as bad:
            read()
        assert bad.value.key == entry.key


def test_a_corrected_object_is_taken_under_the_same_key_and_a_copy_under_another():
    store = MemoryStore()
    store.put("landing/a.jsonl", b"oops")
    with pytest.raises(NoFeedback, match="1 went to quarantine"):
        feedback.pull(LINE, store, as_of=AS_OF)
    store.put("landing/a.jsonl", body(1))
    batch = feedback.pull(LINE, store, as_of=AS_OF)
    assert batch.rows == 1
    receipts.settle(store, batch.objects, "refused", batch_id=batch.batch_id, as_of=AS_OF)
    store.put("landing/a.jsonl", body(1))
    with pytest.raises(NoFeedback, match="Nothing new has landed"):
        feedback.pull(LINE, store, as_of=AS_OF)
    store.put("landing/again/a.jsonl", body(1))
    again = feedback.pull(LINE, store, as_of=AS_OF)
    assert [ref.key for ref in again.objects] == ["landing/again/a.jsonl"]


def test_a_landed_object_may_go_once_it_has_its_receipt(files):
    files.put("landing/a.jsonl", body(1))
    take(files)
    files.delete("landing/a.jsonl")
    files.put("landing/b.jsonl", body(2))
    assert take(files).rows == 2
    assert [receipt.object.key for receipt in receipts.receipts(files)] == ["landing/a.jsonl", "landing/b.jsonl"]
    files.put("landing/a.jsonl", body(1))  # the same bytes come back
    with pytest.raises(NoFeedback):
        feedback.pull(LINE, files, as_of=AS_OF)


def test_what_dead_runs_left_on_the_stage_is_swept_after_a_week(files, tmp_path):
    now = datetime.now(UTC)
    for days in (6, 8):
        files.put(f"staging/{days}-events.parquet", b"x")
        then = (now - timedelta(days=days)).timestamp()
        os.utime(tmp_path / "shop" / "staging" / f"{days}-events.parquet", (then, then))
    with pytest.raises(NoFeedback):
        feedback.pull(LINE, files, as_of=AS_OF)
    assert [entry.key for entry in files.list("staging/")] == ["staging/6-events.parquet"]


def test_a_moment_without_a_zone_is_a_wrong_argument():
    with pytest.raises(ValueError, match="time zone"):
        feedback.pull(LINE, MemoryStore(), as_of=datetime(2026, 3, 1))


# --- commit


def test_a_commit_adds_the_rows_once_and_clears_the_stage(shared_store):
    store = shared_store.under("shop")
    assert table.events(store) is None
    store.put("landing/a.jsonl", body(1, 2))
    checked = passed(store, feedback.pull(LINE, store, as_of=AS_OF))
    accepted = store.get(checked.accepted_key).body
    version = feedback.commit(LINE, store, checked)
    assert (version.rows_added, version.rows, version.as_of) == (2, 2, AS_OF)
    assert feedback.commit(LINE, store, checked) == version
    store.put(checked.accepted_key, accepted)  # as if it had died before it cleared the stage
    assert feedback.commit(LINE, store, checked) == version
    assert ids(store) == ["e1", "e2"]
    assert list(store.list("staging/")) == []
    assert [(r.object.key, r.outcome, r.batch_id) for r in receipts.receipts(store)] == [
        ("landing/a.jsonl", "committed", version.batch_id)
    ]
    [entry] = ledger.read(store, what="committed")
    assert entry.evidence["rows_added"] == 2


def test_events_that_the_table_has_are_dropped_and_counted(files):
    files.put("landing/a.jsonl", body(1, 2))
    take(files)
    files.put("landing/b.jsonl", body(2, 3, 4))
    version = take(files)
    assert (version.rows_added, version.rows) == (2, 4)
    assert ledger.read(files, what="committed")[-1].evidence["duplicates"] == 1
    files.put("landing/c.jsonl", body(4, 1))
    assert take(files).rows_added == 0
    assert ids(files) == ["e1", "e2", "e3", "e4"]
    assert len(receipts.receipts(files)) == 3


def test_an_earlier_version_of_the_table_can_still_be_read(files):
    files.put("landing/a.jsonl", body(1))
    first = take(files)
    files.put("landing/b.jsonl", body(2))
    take(files)
    assert table.events(files, first.version).to_table()["event_id"].to_pylist() == ["e1"]


def test_a_line_may_declare_another_column_later(files):
    files.put("landing/a.jsonl", body(1))
    take(files)
    columns = LINE.feedback.model_dump()["columns"] | {"age": {"role": "context", "type": "integer", "nullable": True}}
    wider = LINE.model_copy(update={"feedback": type(LINE.feedback).model_validate({"columns": columns})})
    files.put("landing/b.jsonl", body(2)[:-1] + b', "age": 30}')
    feedback.commit(wider, files, passed(files, feedback.pull(wider, files, as_of=AS_OF)))
    assert dict(zip(*table.events(files).to_table(["event_id", "age"]).to_pydict().values(), strict=True)) == {
        "e1": None,
        "e2": 30,
    }


def test_one_batch_committed_by_several_at_once_is_in_the_table_once(files):
    files.put("landing/a.jsonl", body(*range(50)))
    checked = passed(files, feedback.pull(LINE, files, as_of=AS_OF))
    barrier = Barrier(4)

    def commit():
        barrier.wait()
        return feedback.commit(LINE, files, checked)

    with ThreadPoolExecutor(4) as pool:
        versions = [future.result() for future in [pool.submit(commit) for _ in range(4)]]
    assert len(set(versions)) == 1
    assert ids(files) == [f"e{n}" for n in range(50)]


def test_batches_that_share_events_and_are_committed_at_once_add_each_event_once(files):
    checked = []
    for n in range(4):
        files.put(f"landing/{n}.jsonl", body(*range(10 * n, 10 * n + 20)))
        checked.append(passed(files, feedback.pull(LINE, files, as_of=AS_OF)))
    barrier = Barrier(4)

    def commit(batch):
        barrier.wait()
        return feedback.commit(LINE, files, batch)

    with ThreadPoolExecutor(4) as pool:
        versions = list(pool.map(commit, checked))
    assert sum(version.rows_added for version in versions) == 50
    assert ids(files) == [f"e{n}" for n in range(50)]


def test_a_table_that_cannot_be_read_is_an_error_of_the_store(tmp_path):
    store = open_store(tmp_path.as_uri())
    store.put("feedback/_delta_log/00000000000000000000.json", b"oops")
    with pytest.raises(StoreError, match="feedback could not be read"):
        table.events(store)


def test_a_batch_that_was_never_staged_cannot_be_committed(files):
    files.put("landing/a.jsonl", body(1))
    checked = passed(files, feedback.pull(LINE, files, as_of=AS_OF))
    files.delete(checked.accepted_key)
    with pytest.raises(NotFound):
        feedback.commit(LINE, files, checked)


# --- crashes


@pytest.mark.parametrize("more_lands", [False, True], ids=["same objects", "another object lands before the re-run"])
def test_whenever_it_dies_a_second_run_leaves_every_event_once_and_every_object_accounted_for(
    tmp_path, more_lands, dies
):
    for writes in range(100):
        files = open_store((tmp_path / str(writes)).as_uri()).under("shop")
        files.put("landing/a.jsonl", body(1, 2))
        files.put("landing/b.jsonl", b"oops")
        files.put("landing/c.jsonl", body(2, 3))
        crashed = dies(files, writes, take)
        if more_lands:
            files.put("landing/d.jsonl", body(3, 4))
        if crashed or more_lands:
            try:
                take(files, as_of=AS_OF + timedelta(days=1))
            except NoFeedback:  # it died after its last receipt
                assert not more_lands
        assert ids(files) == ["e1", "e2", "e3", "e4"][: 3 + more_lands]
        assert Counter(r.object.key for r in receipts.receipts(files)) == Counter(e.key for e in files.list("landing/"))
        assert [r.source for r in receipts.quarantined(files)] == ["landing/b.jsonl"]
        assert {r.outcome for r in receipts.receipts(files) if r.object.key != "landing/b.jsonl"} == {"committed"}
        if not crashed:
            break
    assert writes > 8
