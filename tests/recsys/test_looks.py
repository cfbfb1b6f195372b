import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys import ledger
from recsys.errors import Conflict
from recsys.looks import YEAR, level, looks, take
from recsys.records import Look, load
from recsys.store.memory import MemoryStore

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def look(store, candidate="c", *, dataset="d", incumbent="i", at=NOON, budget=0.05, year=50):
    return take(
        store,
        dataset_id=dataset,
        candidate=candidate,
        incumbent=incumbent,
        who="schedule",
        budget=budget,
        looks_a_year=year,
        at=at,
    )


def test_a_line_that_looks_as_often_as_expected_spends_the_same_each_time():
    store = MemoryStore()
    levels = [look(store, f"c{day}", at=NOON + day * 7.3 * DAY).level for day in range(120)]
    assert levels == pytest.approx([0.05 / 55] * 120)  # a tenth of the looks is spared


def test_the_same_pair_on_the_same_holdout_is_one_look_and_any_other_another():
    store = MemoryStore()
    first = look(store)
    assert look(store, at=NOON + 3 * DAY, budget=0.2) == first
    others = [look(store, "c2"), look(store, dataset="d2"), look(store, incumbent="i2")]
    assert [each.number for each in (first, *others)] == [1, 2, 3, 4]
    assert looks(store) == [first, *others]


def test_the_level_of_every_look_follows_from_the_ledger_alone():
    store = MemoryStore()
    for day in range(12):
        look(store, f"c{day}", at=NOON + day * 40 * DAY, year=10)
    told = [load(Look, entry.evidence) for entry in ledger.read(store, what="looked")]
    assert [each.number for each in told] == list(range(1, 13))
    for n, each in enumerate(told):
        assert each.level == level(told[:n], each.at, budget=0.05, looks_a_year=10)


def test_the_ledger_says_who_looked_at_what_and_what_it_may_spend():
    store = MemoryStore()
    look(store)
    [entry] = ledger.read(store)
    assert (entry.what, entry.who, entry.at) == ("looked", "schedule", NOON)
    assert entry.why == "look 1 at a holdout, that of d, at c against i, may spend 0.000909 of a year's 0.05"


@given(gaps=st.lists(st.floats(0, 60), max_size=120), year=st.integers(1, 60))
def test_the_looks_of_any_year_never_spend_more_than_its_budget(gaps, year):
    taken, at = [], NOON
    for number, gap in enumerate(gaps):
        at += gap * DAY
        spends = level(taken, at, budget=0.05, looks_a_year=year)
        known = Look(
            number=number,
            at=at,
            who="w",
            dataset_id="d",
            candidate="c",
            incumbent="i",
            level=spends,
            budget=0.05,
            looks_a_year=year,
        )
        taken.append(known)
        assert spends >= 0
        assert sum(each.level for each in taken if at - YEAR < each.at <= at) <= 0.05 + 1e-12


def test_a_line_that_looks_twice_as_often_is_not_stopped():
    store = MemoryStore()
    levels = [look(store, f"c{n}", at=NOON + n * 3.65 * DAY).level for n in range(300)]
    assert levels[:50] == pytest.approx([0.05 / 55] * 50)
    assert 0 < levels[99] < levels[50]
    assert levels[130] > 100 * levels[99]  # the year rolls


def test_a_line_that_looks_once_a_year_has_looks_to_spare():
    store = MemoryStore()
    levels = [look(store, f"c{n}", at=NOON + n * DAY, year=1).level for n in range(3)]
    assert levels[0] == pytest.approx(0.05 / 3)
    assert min(levels) > 0.05 / 10


def test_a_look_has_the_number_after_the_last_one_even_where_one_is_missing():
    store = MemoryStore()
    for name in ("c1", "c2", "c3"):
        look(store, name)
    for entry in [*store.list("ledger/"), *store.list("looks/")]:
        if b"c2" in store.get(entry.key).body:
            store.delete(entry.key)
    assert look(store, "c4").number == 4
    assert [each.number for each in looks(store)] == [1, 3, 4]


def test_a_smaller_budget_counts_what_the_larger_one_has_spent():
    store = MemoryStore()
    for n in range(20):
        look(store, f"c{n}")
    assert look(store, "later", budget=0.01).level == 0.0
    assert look(store, "next year", budget=0.01, at=NOON + YEAR).level > 0


def test_several_at_once_share_no_level(shared_store):
    start, found = threading.Barrier(6), []

    def one(name):
        start.wait()
        found.append(look(shared_store, name))

    threads = [threading.Thread(target=one, args=(f"c{n % 5}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = looks(shared_store)
    assert [each.number for each in told] == [1, 2, 3, 4, 5]  # two of the six looked at the same
    assert {each.candidate for each in told} == {f"c{n}" for n in range(5)}
    assert all(each in told for each in found)
    assert sum(each.level for each in told) <= 0.05


def test_a_look_whose_taker_died_counts_and_is_entered_by_whoever_comes_next(dies):
    for writes in range(2):
        store = MemoryStore()
        assert dies(store, writes, look)
        assert look(store, "other").number == 1 + writes  # with no write nothing was taken
        assert [each.candidate for each in looks(store)] == ["c", "other"][1 - writes :]
        assert len(ledger.read(store, what="looked")) == 1 + writes


def test_whoever_is_told_of_a_conflict_with_himself_has_his_look():
    class Forgetful(MemoryStore):
        """Writes, and then says that somebody else was first."""

        def create(self, key, body):
            super().create(key, body)
            if key.startswith("looks/"):
                raise Conflict("the answer was lost", key=key)

    store = Forgetful()
    assert replace(look(store), number=1) == look(store)
    assert len(looks(store)) == 1
