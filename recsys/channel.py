"""Name the release in production, and let it change hands one move at a time.

The pointer is one object, moved only by compare-and-swap. Every move carries its mover's nonce and the object remembers
past moves, so that a mover whose answer was lost finds out that it has moved, even if others have moved since.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import ValidationError

from recsys.errors import BadObject, Conflict, LostRace, NotFound
from recsys.records import load, to_json
from recsys.store import Store

KEY = "channel/production.json"

MOVES_REMEMBERED = 200
"""How far back a move can be recognised as already made; 200 moves take about 60 kB."""

ROLLBACK = "rollback-"
"""How the nonce of a person's move back begins."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """What the channel names, since which move."""

    release_id: str
    generation: int  # counts the moves, from 1
    previous: str | None  # the release to roll back to
    replaced: str | None = None  # what was in production until then
    by: str  # a person, or "schedule"
    reason: str
    at: datetime  # UTC
    nonce: str  # of the mover


@dataclass(frozen=True, slots=True, kw_only=True)
class _Channel:
    moves: tuple[Pointer, ...]  # oldest first, never empty; the last one holds


def current(store: Store) -> Pointer | None:
    """Give the pointer, or None before the first release.

    Raises:
        BadObject: The channel's object cannot be read as one.
    """
    found, _ = _read(store)
    return found[-1] if found else None


def history(store: Store) -> tuple[Pointer, ...]:
    """Give the moves that the channel remembers, oldest first.

    Raises:
        BadObject: The channel's object cannot be read as one.
    """
    found, _ = _read(store)
    return found


def move(
    store: Store,
    *,
    to: str,
    expect: str | None,
    by: str,
    reason: str,
    nonce: str,
    at: datetime | None = None,
) -> Pointer:
    """Let the channel name the release `to`, if it still names `expect`.

    Args:
        store: The line's part of the store.
        to: Id of the release that shall be in production.
        expect: Id of the release that the decision was taken against, None if there was none yet.
        by: A person, or "schedule".
        reason: One sentence.
        nonce: Unique to the decision, the same for every attempt to carry it out: a second attempt changes nothing.
        at: When the decision is carried out; by default now.

    Returns:
        The pointer as this move made it. Others may have moved on since.

    Raises:
        LostRace: The channel names another release than `expect`.
        ValueError: `to` is `expect`.
        BadObject: The channel's object cannot be read as one.
    """
    if to == expect:
        raise ValueError(f"to must differ from expect but both are {to!r}.")
    while True:  # each further turn means that somebody else has moved
        moves, etag = _read(store)
        for made in moves:
            if made.nonce == nonce:
                return made
        named = moves[-1].release_id if moves else None
        if named != expect:
            raise LostRace(
                f"{store.url}/{KEY} was expected to name {expect!r} but names {named!r}, so {to!r} was not released.",
                expected=expect,
                found=named,
            )
        pointer = Pointer(
            release_id=to,
            generation=moves[-1].generation + 1 if moves else 1,
            previous=_behind(to, moves),
            replaced=named,
            by=by,
            reason=reason,
            at=at or datetime.now(UTC),
            nonce=nonce,
        )
        try:
            _write(store, (*moves, pointer)[-MOVES_REMEMBERED:], etag)
        except Conflict:
            continue
        logger.info("%s names %s, generation %d, by %s: %s", store.url, to, pointer.generation, by, reason)
        return pointer


def given_up(moves: Sequence[Pointer]) -> dict[str, Pointer]:
    """Say which releases a person has rolled back, each with the move that did it.

    A rollback gives up all that came forward after the release that it leads to, and whatever it replaces if that
    release had not been in production before. What is put into production again is given up no longer.

    Args:
        moves: Those that the channel remembers, oldest first.
    """
    found: dict[str, Pointer] = {}
    forward: list[str] = []  # in the order in which they last came forward
    named: list[str] = []  # what is in production, if anything
    for move in moves:
        to = move.release_id
        if not move.nonce.startswith(ROLLBACK):
            forward = [*(each for each in forward if each != to), to]
        else:
            left = forward[forward.index(to) + 1 :] if to in forward else named
            found = {**dict.fromkeys(left, move), **found}
        found.pop(to, None)
        named = [to]
    return found


def _behind(to: str, moves: tuple[Pointer, ...]) -> str | None:
    """Say where a rollback from `to` leads.

    A release that has been in production before keeps the one that stood behind it then: coming back to it must not
    make the release that was just given up the next one to go back to.
    """
    came_from = moves[-1].release_id if moves else None
    return next((made.previous for made in reversed(moves) if made.release_id == to), came_from)


def _read(store: Store) -> tuple[tuple[Pointer, ...], str | None]:
    try:
        found = store.get(KEY)
    except NotFound:
        return (), None
    try:
        moves = load(_Channel, json.loads(found.body)).moves
    except (ValueError, TypeError, ValidationError) as error:
        raise BadObject(f"{store.url}/{KEY} names no release: {error}", key=KEY, reason=str(error)) from error
    if not moves:
        raise BadObject(f"{store.url}/{KEY} names no release.", key=KEY, reason="it remembers no move")
    return moves, found.etag


def _write(store: Store, moves: tuple[Pointer, ...], etag: str | None) -> None:
    body = to_json(_Channel(moves=moves))
    if etag is None:
        store.create(KEY, body)
    else:
        store.replace(KEY, body, etag=etag)
