import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from threading import Barrier

import pytest

from recsys import channel
from recsys.channel import Pointer
from recsys.errors import BadObject, LostRace
from recsys.records import dump
from recsys.store import open_store
from recsys.store.memory import MemoryStore

NOON = datetime(1997, 9, 20, 12, tzinfo=UTC)
move = partial(channel.move, by="operator", reason="better", at=NOON)


def moved(store, *releases: str):
    """Move the channel through `releases`, one after the other."""
    found = channel.current(store)
    named = found.release_id if found else None
    for number, release in enumerate(releases):
        move(store, to=release, expect=named, nonce=f"{len(channel.history(store))}-{number}")
        named = release
    return store


def test_before_the_first_release_the_channel_names_nothing(store):
    assert channel.current(store) is None
    assert channel.history(store) == ()


def test_a_move_names_the_release_and_remembers_the_one_before(store):
    first = move(store, to="a", expect=None, nonce="1")
    second = move(store, to="b", expect="a", nonce="2")
    assert first == Pointer(
        release_id="a", generation=1, previous=None, by="operator", reason="better", at=NOON, nonce="1"
    )
    assert second == Pointer(
        release_id="b", generation=2, previous="a", replaced="a", by="operator", reason="better", at=NOON, nonce="2"
    )
    assert channel.current(store) == second
    assert channel.history(store) == (first, second)
    assert [entry.key for entry in store.list("")] == ["channel/production.json"]


@pytest.mark.parametrize("expect", [None, "a", "c"])
def test_a_move_against_another_release_than_expected_is_a_lost_race(expect):
    store = moved(MemoryStore(), "a", "b")
    with pytest.raises(LostRace, match=f"expected to name {expect!r} but names 'b'") as caught:
        move(store, to="d", expect=expect, nonce="x")
    assert (caught.value.expected, caught.value.found) == (expect, "b")
    assert channel.current(store).release_id == "b"


def test_a_first_move_that_expects_a_release_is_a_lost_race():
    with pytest.raises(LostRace):
        move(MemoryStore(), to="b", expect="a", nonce="x")


def test_a_move_to_the_same_release_is_a_wrong_argument():
    with pytest.raises(ValueError, match="to must differ from expect but both are 'a'"):
        move(moved(MemoryStore(), "a"), to="a", expect="a", nonce="x")


def test_a_move_made_twice_is_made_once(store):
    first = move(store, to="a", expect=None, nonce="1")
    second = move(store, to="b", expect="a", nonce="2")
    assert move(store, to="a", expect=None, nonce="1") == first
    assert move(store, to="b", expect="a", nonce="2") == second
    assert channel.current(store) == second


@pytest.mark.parametrize(
    ("path", "previous"),
    [
        ("a", None),
        ("ab", "a"),
        ("abc", "b"),
        ("abcb", "a"),  # back to b: c is not where the next rollback may lead
        ("abcba", None),
        ("abcbd", "b"),
        ("abcbdb", "a"),
        ("abca", None),  # two releases back at once
        ("abcbc", "b"),
    ],
)
def test_a_rollback_never_leads_to_what_was_rolled_back(path, previous):
    assert channel.current(moved(MemoryStore(), *path)).previous == previous


@pytest.mark.parametrize(
    ("path", "given_up"),
    [
        ("a b c", {}),
        ("a b <a", {"b": 3}),
        ("a b c <b", {"c": 4}),
        ("a b c <b <a", {"c": 4, "b": 5}),
        ("a b c <a", {"b": 4, "c": 4}),  # two releases back at once
        ("a b <a c", {"b": 3}),
        ("a b <a c <a", {"b": 3, "c": 5}),
        ("a b <a b", {}),  # released again
        ("a b <a <b", {}),  # brought back
        ("a b <a <b <a", {"b": 5}),
        ("a b c <b <a <c", {"b": 5}),  # a is not given up by the way forward
        ("a b a <b", {"a": 4}),
        ("a b <x", {"b": 3}),  # to what had passed the gate but never been in production
        ("a b <x c <x", {"b": 3, "c": 5}),
    ],
)
def test_a_rollback_gives_up_what_came_after_the_release_that_it_leads_to(path, given_up):
    store, named = MemoryStore(), None
    for number, step in enumerate(path.split()):
        back, to = step.startswith("<"), step.removeprefix("<")
        move(store, to=to, expect=named, nonce=f"{channel.ROLLBACK if back else ''}{number}")
        named = to
    found = channel.given_up(channel.history(store))
    assert {release: made.generation for release, made in found.items()} == given_up


def test_the_channel_forgets_its_oldest_moves_but_never_its_generation():
    store, full = MemoryStore(), channel.MOVES_REMEMBERED
    template = move(MemoryStore(), to="0", expect=None, nonce="0")
    moves = [replace(template, release_id=str(n), generation=n, nonce=str(n)) for n in range(1, full + 1)]
    store.put(channel.KEY, json.dumps({"moves": [dump(pointer) for pointer in moves]}).encode())
    newest = [move(store, to=f"new{n}", expect=named, nonce=f"new{n}") for n, named in ((1, str(full)), (2, "new1"))]
    assert [pointer.generation for pointer in newest] == [full + 1, full + 2]
    assert channel.history(store) == (*moves[2:], *newest)


def test_of_several_movers_at_once_one_wins(store):
    moved(store, "a")
    start = Barrier(8)

    def race(number: int) -> bool:
        start.wait()
        try:
            move(store, to=f"b{number}", expect="a", nonce=str(number) + "x")
        except LostRace:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(race, range(8)))
    assert sum(won) == 1
    assert channel.current(store).release_id == f"b{won.index(True)}"
    assert channel.current(store).generation == 2


def keep_moving(store, mover: str, times: int) -> None:
    for turn in range(times):
        while True:
            found = channel.current(store)
            try:
                move(store, to=f"{mover}{turn}", expect=found.release_id, nonce=f"{mover}{turn}")
            except LostRace:
                continue
            break


def assert_that_every_move_is_there_once(store, moves: int) -> None:
    found = channel.history(store)
    assert [pointer.generation for pointer in found] == list(range(1, moves + 1))
    assert len({pointer.nonce for pointer in found}) == moves
    assert all(after.previous == before.release_id for before, after in pairwise(found))


def test_movers_that_retry_lose_no_move(store):
    moved(store, "first")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda mover: keep_moving(store, mover, 5), "abcd"))
    assert_that_every_move_is_there_once(store, 21)


@pytest.mark.parametrize("body", [b"", b"{", b'{"moves": []}', b'{"moves": [{"release_id": "a"}]}', b"[]", b"\xff"])
def test_an_unreadable_channel_is_named_and_never_moved(body):
    store = MemoryStore()
    store.put(channel.KEY, body)
    for call in (channel.current, channel.history, lambda store: move(store, to="b", expect=None, nonce="x")):
        with pytest.raises(BadObject) as caught:
            call(store)
        assert caught.value.key == channel.KEY
    assert store.get(channel.KEY).body == body


@pytest.mark.s3
def test_movers_lose_no_move_when_answers_are_lost(s3_proxy, s3_url, faults):
    store = moved(open_store(s3_url), "first")
    s3_proxy.plan("PUT", *[faults.lose, faults.pass_on, faults.refuse(503, "SlowDown"), faults.pass_on] * 8)
    s3_proxy.plan("GET", *[faults.pass_on, faults.pass_on, faults.cut] * 8)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda mover: keep_moving(store, mover, 4), "abcd"))
    assert_that_every_move_is_there_once(store, 17)


@pytest.mark.s3
def test_a_lost_answer_is_recognised_even_if_others_have_moved_since(s3_proxy, s3_url, faults):
    store = moved(open_store(s3_url), "a")

    def lose_while_others_move(exchange):
        exchange.forward()
        move(store, to="c", expect="b", nonce="theirs")
        exchange.drop()

    s3_proxy.plan("PUT", lose_while_others_move)
    mine = move(store, to="b", expect="a", nonce="mine")
    assert (mine.release_id, mine.generation) == ("b", 2)
    assert [pointer.release_id for pointer in channel.history(store)] == ["a", "b", "c"]
