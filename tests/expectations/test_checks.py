import json
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import expectations
from recsys import feedback, ledger, parquet, receipts, synthetic, table
from recsys.errors import NoFeedback, RefusedBatch, Unjudged
from recsys.settings import Column, read_line
from recsys.store import open_store

AS_OF = synthetic.START.to_pydatetime() + timedelta(days=10)


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    path = tmp_path_factory.mktemp("lines") / "shop.toml"
    path.write_text(synthetic.LINE)
    return read_line(path)


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path.as_uri()).under("shop")


def land(store, name, events):
    store.put(f"landing/{name}.jsonl", synthetic.jsonl(events))


def week(**changes):
    events = synthetic.events(days=10, events_per_day=20)
    for column, by_row in changes.items():
        for row, value in by_row.items():
            events.loc[row, column] = value
    return events


def pull_and_check(line, store, as_of=AS_OF):
    return expectations.check(line, store, feedback.pull(line, store, as_of=as_of))


def rows_of(store, key):
    return pq.read_table(pa.BufferReader(store.get(key).body))


def test_a_sound_batch_passes_whole_and_leaves_the_evidence(line, store):
    land(store, "a", week())
    checked = pull_and_check(line, store)
    assert (checked.accepted_rows, checked.refused, checked.findings) == (200, (), ())
    assert rows_of(store, checked.accepted_key).drop_columns("release_id").num_rows == 200
    assert feedback.SOURCE not in rows_of(store, checked.accepted_key).column_names
    evidence = json.loads(store.get(f"checks/{checked.batch.batch_id}.json").body)
    assert evidence["rows"]["success"]
    assert evidence["batch"]["success"]
    judged = {one["expectation_config"]["type"] for part in ("rows", "batch") for one in evidence[part]["results"]}
    assert judged >= {
        "expect_table_columns_to_match_set",
        "expect_column_values_to_be_of_type",
        "expect_column_values_to_not_be_null",
        "expect_column_values_to_be_unique",
        "expect_column_values_to_be_between",
        "expect_column_values_to_be_in_set",
        "expect_column_max_to_be_between",
        "expect_table_row_count_to_be_between",
    }


BROKEN = [  # column, row, value, what is said of the row
    ("user_id", 3, None, "user_id must be given"),
    ("item_id", 13, "", "item_id must have 1 to 256 characters"),
    ("release_id", 23, "r" * 257, "release_id must have 1 to 256 characters"),
    ("timestamp", 33, AS_OF + timedelta(minutes=61), "timestamp must lie between 1970 and 60 minutes after the batch"),
    (
        "timestamp",
        43,
        datetime(1969, 12, 31, tzinfo=UTC),
        "timestamp must lie between 1970 and 60 minutes after the batch",
    ),
    ("value", 53, 1.01, "value must lie between 0 and 1"),
    ("value", 63, -0.01, "value must lie between 0 and 1"),
    ("value", 73, None, "value must be given"),
    ("device", 83, "fridge", "device must be one of phone, desktop"),
    ("age", 93, 121, "age must lie between 0 and 120"),
    ("age", 53, -1, "age must lie between 0 and 120"),
    ("event_id", 104, "e0-0-103", "event_id must not stand for several different events"),
]


def test_rows_that_break_a_critical_expectation_are_quarantined_with_their_reasons_and_the_others_pass(line, store):
    changes = defaultdict(dict)
    for column, row, value, _ in BROKEN:
        changes[column][row] = value
    events = week(**changes)
    land(store, "a", events)
    checked = pull_and_check(line, store)

    [refusal] = checked.refused
    assert (refusal.source, refusal.rows) == (checked.batch.batch_id, 12)
    assert "value must lie between 0 and 1: 2 of 200 rows break it" in refusal.reasons
    quarantined = rows_of(store, refusal.kept_at).to_pylist()
    expected = defaultdict(set)
    for _, row, _, reason in BROKEN:
        expected[events["event_id"][row], events["user_id"][row]].add(reason)
    expected["e0-0-103", events["user_id"][103]] = {"event_id must not stand for several different events"}
    assert {(row["event_id"], row["user_id"]): set(row["_reasons"]) for row in quarantined} == expected
    assert {row["_source"] for row in quarantined} == {"landing/a.jsonl"}

    accepted = rows_of(store, checked.accepted_key)["event_id"].to_pylist()
    assert sorted(accepted) == sorted(set(events["event_id"]) - {event for event, _ in expected})
    assert checked.accepted_rows == len(accepted) == 188
    assert {finding.expectation: finding.rows for finding in checked.findings} == Counter(
        [reason for _, _, _, reason in BROKEN] + ["event_id must not stand for several different events"]
    )
    assert {finding.severity for finding in checked.findings} == {"critical"}
    [entry] = ledger.read(store, what="refused")
    assert entry.evidence["rows"] == 12
    assert entry.why.startswith("landing/a.jsonl: ")


def test_refused_rows_are_told_by_the_first_objects_that_brought_them(line, store):
    events = week(value=dict.fromkeys((0, 60, 120, 180), 9))
    for n, key in enumerate("abcde"):  # of 40 rows each: the bad ones lie in all but c
        land(store, key, events[40 * n : 40 * (n + 1)])
    [refusal] = pull_and_check(line, store).refused
    assert refusal.brought_by == "landing/a.jsonl, landing/b.jsonl, landing/d.jsonl and 1 more"


def test_too_many_bad_rows_refuse_the_whole_batch_for_good(line, store):
    land(store, "a", week(value=dict.fromkeys(range(20), 9)))  # exactly max_bad_row_share
    assert pull_and_check(line, store).accepted_rows == 180
    land(store, "a", week(value=dict.fromkeys(range(21), 9)))
    batch = feedback.pull(line, store, as_of=AS_OF)
    with pytest.raises(RefusedBatch, match=r"0\.105 of the rows is bad") as refused:
        expectations.check(line, store, batch)
    assert refused.value.batch_id == batch.batch_id
    [refusal] = receipts.quarantined(store)
    assert refusal.reasons == refused.value.reasons
    assert rows_of(store, refusal.kept_at).num_rows == refusal.rows == 200
    assert table.events(store) is None
    with pytest.raises(RefusedBatch) as again:  # a task that is run again
        expectations.check(line, store, batch)
    assert again.value.reasons == refused.value.reasons
    with pytest.raises(NoFeedback):
        feedback.pull(line, store, as_of=AS_OF)


def test_where_nothing_is_left_the_batch_is_refused_whatever_share_may_be_bad(line, store):
    lenient = line.model_copy(update={"feedback": line.feedback.model_copy(update={"max_bad_row_share": 1.0})})
    land(store, "a", week(value=dict.fromkeys(range(200), 9)))
    with pytest.raises(RefusedBatch, match="at least 1 rows must be left: found 0"):
        pull_and_check(lenient, store)


def test_what_great_expectations_cannot_compute_is_not_held_against_the_batch(line, store):
    land(store, "a", week())
    batch = feedback.pull(line, store, as_of=AS_OF)
    staged = store.get(batch.events_key).body
    events = parquet.unpack(staged)
    values = events["value"].cast(pa.string())  # texts, which no number can be compared with
    store.put(batch.events_key, parquet.pack(events.drop_columns(["value"]).append_column("value", values)))
    with pytest.raises(
        Unjudged, match="Whether 'value must lie between 0 and 1' holds could not be found out"
    ) as failed:
        expectations.check(line, store, batch)
    assert failed.value.expectation == "value must lie between 0 and 1"
    assert "must either be None or of the same type" in failed.value.cause
    assert receipts.receipts(store) == ()
    assert list(store.list("quarantine/")) == []
    store.put(batch.events_key, staged)
    assert expectations.check(line, store, batch).accepted_rows == 200


def test_too_few_rows_refuse_the_batch(line, store):
    contract = line.feedback.model_copy(update={"min_batch_rows": 200})
    strict = line.model_copy(update={"feedback": contract})
    land(store, "a", week())
    assert pull_and_check(strict, store).accepted_rows == 200
    land(store, "a", week(value={3: 9}))
    with pytest.raises(RefusedBatch, match="at least 200 rows must be left: found 199"):
        pull_and_check(strict, store)


def test_old_events_are_a_warning(line, store):
    land(store, "a", week())
    checked = pull_and_check(line, store, as_of=AS_OF + timedelta(days=14, minutes=1))
    assert checked.accepted_rows == 200
    [finding] = checked.findings
    assert (finding.expectation, finding.severity, finding.rows) == (
        "the newest event must be at most 14 days older than the batch",
        "warning",
        0,
    )


def test_many_items_never_seen_before_are_a_warning_but_not_in_the_first_batch(line, store):
    land(store, "a", week())
    first = pull_and_check(line, store)
    assert first.findings == ()
    feedback.commit(line, store, first)
    news = synthetic.events(days=1, events_per_day=20, first_day=9, seed=1)
    for unknown, warned in ((10, False), (11, True)):
        news["item_id"] = first_items(store)[:1] * (20 - unknown) + [f"new{n}" for n in range(unknown)]
        land(store, "b", news)
        found = [finding.observed for finding in pull_and_check(line, store).findings]
        assert found == (["found 0.55"] if warned else [])


def first_items(store):
    return table.events(store).to_table(["item_id"])["item_id"].to_pylist()


def test_a_batch_that_was_committed_is_not_checked_again(line, store):
    land(store, "a", week())
    checked = pull_and_check(line, store)
    feedback.commit(line, store, checked)
    with pytest.raises(NoFeedback, match="committed already"):
        expectations.check(line, store, checked.batch)


def test_refused_rows_become_final_with_the_commit(line, store):
    land(store, "a", week(value={3: 9}))
    checked = pull_and_check(line, store)
    assert receipts.quarantined(store) == ()
    feedback.commit(line, store, checked)
    assert receipts.quarantined(store) == checked.refused


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ({}, float("inf"), "value must be finite"),
        ({"min": 0.5}, 0.25, "value must be finite and at least 0.5"),
        ({"min": 0.5}, float("inf"), "value must be finite and at least 0.5"),
        ({"max": 1234567.25}, 1234567.5, "value must be finite and at most 1234567.25"),
        ({"min": 0.1, "max": 1}, 1.5, "value must lie between 0.1 and 1"),
    ],
)
def test_a_range_is_quoted_as_the_line_writes_it(line, store, column, value, said):
    contract = line.feedback.model_copy(
        update={"columns": {**line.feedback.columns, "value": Column(role="label", type="number", **column)}}
    )
    land(store, "a", week(value=dict.fromkeys(range(200), 0.75)))
    batch = feedback.pull(line, store, as_of=AS_OF)
    events = parquet.unpack(store.get(batch.events_key).body)
    values = pa.array([value] + [0.75] * 199)  # JSON has no infinity, Parquet has
    at = events.column_names.index("value")
    store.put(batch.events_key, parquet.pack(events.set_column(at, "value", values)))
    changed = line.model_copy(update={"feedback": contract})
    assert [(f.expectation, f.rows) for f in expectations.check(changed, store, batch).findings] == [(said, 1)]


def test_refused_rows_that_were_corrected_are_taken_as_a_new_object(line, store):
    land(store, "a", week(value={3: 9}))
    checked = pull_and_check(line, store)
    feedback.commit(line, store, checked)
    rows = rows_of(store, checked.refused[0].kept_at).drop_columns(["_source", "_reasons"])
    at = rows.column_names.index("value")
    store.put("landing/corrected.parquet", parquet.pack(rows.set_column(at, "value", pa.array([0.9]))))
    version = feedback.commit(line, store, pull_and_check(line, store))
    assert (version.rows_added, version.rows) == (1, 200)


# --- crashes


def test_whenever_the_refusal_of_a_batch_dies_checking_again_ends_as_if_it_had_not(line, dies, tmp_path):
    def checked(batch, store):
        with pytest.raises(RefusedBatch) as refused:
            expectations.check(line, store, batch)
        return refused.value.reasons

    ends = []
    for writes in range(100):
        store = open_store((tmp_path / str(writes)).as_uri()).under("shop")
        events = week(value=dict.fromkeys(range(21), 9))
        for part in range(3):
            land(store, part, events[part::3])
        batch = feedback.pull(line, store, as_of=AS_OF)
        crashed = dies(store, writes, partial(checked, batch))
        reasons = checked(batch, store)
        settled = {(r.object.key, r.outcome, r.batch_id) for r in receipts.receipts(store)}
        left = {entry.key for entry in store.list("staging/")}
        refusals = [entry.evidence["rows"] for entry in ledger.read(store, what="refused")]
        ends.append((reasons, settled, left, refusals, receipts.quarantined(store)))
        if not crashed:
            break
    assert writes == 8  # evidence, rows, reasons, ledger, three receipts, the stage
    assert all(end == ends[-1] for end in ends)
    assert settled == {(f"landing/{part}.jsonl", "refused", batch.batch_id) for part in range(3)}
    assert left == set()
