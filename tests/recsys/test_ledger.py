from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from recsys import ledger
from recsys.errors import BadObject
from recsys.ledger import Entry
from recsys.store.memory import MemoryStore

NOON = datetime(1997, 9, 20, 12, tzinfo=UTC)
RELEASED = Entry(
    at=NOON,
    what="released",
    who="schedule",
    why="NDCG@10 rose by 0.012",
    evidence={"release_id": "r2", "generation": 2, "gain": 0.012, "passed": True, "checks": [{"low": None}]},
    id="r2",
)


def test_what_is_appended_is_read(store):
    key = ledger.append(store, RELEASED)
    assert key == "ledger/19970920T120000.000000Z-released-r2.json"
    assert ledger.read(store) == [RELEASED]
    assert [entry.key for entry in store.list("")] == [key]


def test_an_empty_ledger_has_no_entries(store):
    assert ledger.read(store) == []


def test_entries_are_read_in_the_order_of_time(store):
    entries = [replace(RELEASED, at=NOON + timedelta(microseconds=shift), id=str(shift)) for shift in range(12)]
    for entry in reversed(entries):
        ledger.append(store, entry)
    assert ledger.read(store) == entries
    assert ledger.read(store, since=entries[5].at) == entries[5:]
    assert ledger.read(store, since=entries[5].at.astimezone(timezone(timedelta(hours=-8)))) == entries[5:]
    assert ledger.read(store, since=NOON + timedelta(days=1)) == []


def test_one_kind_of_decision_can_be_read_alone():
    store = MemoryStore()
    held, back = replace(RELEASED, what="held"), replace(RELEASED, what="rolled back")
    for entry in (RELEASED, held, back):
        ledger.append(store, entry)
    assert ledger.read(store, what="rolled back") == [back]
    assert ledger.read(store, what="held") == [held]
    assert ledger.read(store, what="rolled") == []


def test_only_what_is_asked_for_is_fetched():
    store = MemoryStore()
    kinds = ["judged", "decided", "judged", "decided", "rolled back"]
    entries = [
        replace(RELEASED, what=what, at=NOON + timedelta(hours=hour), id=f"r-{hour}") for hour, what in enumerate(kinds)
    ]
    store.put(entries[0].key, b"whoever reads this stops")
    store.put(entries[1].key, b"and this")
    for entry in entries[2:]:
        ledger.append(store, entry)
    assert ledger.read(store, limit=3) == entries[2:]
    assert ledger.read(store, limit=2) == entries[3:]
    assert ledger.read(store, what="judged", limit=1) == [entries[2]]
    assert ledger.latest(store) == entries[2:]
    with pytest.raises(BadObject):
        ledger.read(store, limit=4)
    with pytest.raises(ValueError, match="limit must be positive but is 0"):
        ledger.read(store, limit=0)


def test_an_empty_ledger_has_no_newest_entry(store):
    assert ledger.latest(store) == []
    assert ledger.read(store, limit=1) == []


def test_a_decision_written_twice_is_one_entry_as_first_written(store):
    again = replace(RELEASED, why="the same decision in other words")
    later = replace(again, at=NOON + timedelta(hours=1))
    assert ledger.append(store, RELEASED) == ledger.append(store, again)
    ledger.append(store, later)
    assert ledger.read(store) == [RELEASED]
    assert ledger.read(store, since=later.at) == []


def test_decisions_of_two_kinds_may_share_an_id():
    store = MemoryStore()
    ledger.append(store, RELEASED)
    ledger.append(store, replace(RELEASED, what="packaged", at=NOON + timedelta(hours=1)))
    assert [entry.what for entry in ledger.read(store)] == ["released", "packaged"]


def test_without_an_id_only_the_very_same_entry_is_one():
    first = Entry(at=NOON, what="held", who="operator", why="too slow", evidence={"p99_ms": 14.5})
    assert first.id == Entry(at=NOON, what="held", who="operator", why="too slow", evidence={"p99_ms": 14.5}).id
    others = [
        Entry(at=NOON, what="held", who="operator", why="too slow", evidence={"p99_ms": 14.6}),
        Entry(at=NOON, what="held", who="another", why="too slow", evidence={"p99_ms": 14.5}),
        Entry(
            at=NOON + timedelta(microseconds=1), what="held", who="operator", why="too slow", evidence={"p99_ms": 14.5}
        ),
    ]
    assert len({first.id, *(entry.id for entry in others)}) == 4


def test_an_entry_is_of_now_unless_it_says_otherwise():
    before = datetime.now(UTC)
    assert before <= Entry(what="held", who="operator", why="too slow").at <= datetime.now(UTC)


def test_writers_at_once_keep_all_their_entries(store):
    entries = [replace(RELEASED, at=NOON + timedelta(seconds=number), id=str(number)) for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda entry: ledger.append(store, entry), entries * 2))
    assert ledger.read(store) == entries


def test_what_is_not_a_number_reads_as_nothing():
    store = MemoryStore()
    ledger.append(
        store, Entry(at=NOON, what="measured", who="operator", why="it diverged", evidence={"ndcg": float("nan")})
    )
    assert ledger.read(store)[0].evidence == {"ndcg": None}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"at": datetime(1997, 9, 20)}, "at must be in UTC"),
        ({"at": NOON.astimezone(timezone(timedelta(hours=2)))}, "at must be in UTC"),
        ({"what": "Released!"}, "what must be words of small letters but got 'Released!'"),
        ({"what": ""}, "what must be words"),
        ({"who": ""}, "who and why must both be said"),
        ({"why": ""}, "who and why must both be said"),
        ({"id": "a/b"}, "id must not contain '/' but got 'a/b'"),
        ({"id": "x" * 256}, "key must have at most"),
    ],
)
def test_a_wrong_entry_says_what_is_wrong(wrong, message):
    with pytest.raises(ValueError, match=message):
        replace(RELEASED, **wrong)


def test_all_words_of_the_loop_itself_make_entries():
    store = MemoryStore()
    for what in ledger.DECISIONS:
        ledger.append(store, replace(RELEASED, what=what))
        assert [entry.what for entry in ledger.read(store, what=what)] == [what]


@pytest.mark.parametrize("body", [b"", b"{", b'{"at": "1997-09-20T12:00:00Z"}', b"\xff"])
def test_an_entry_that_cannot_be_read_is_named(body):
    store = MemoryStore()
    store.put("ledger/19970920T120000.000000Z-held-x.json", body)
    with pytest.raises(BadObject) as caught:
        ledger.read(store)
    assert caught.value.key == "ledger/19970920T120000.000000Z-held-x.json"
