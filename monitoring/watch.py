"""Judge whether the release in production does worse than the one before, and take it back where the line says so."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from monitoring import sequential, served
from monitoring.sequential import Evidence
from monitoring.served import Windows
from recsys import channel, ledger, release
from recsys.channel import Pointer
from recsys.errors import LostRace, NoRelease
from recsys.records import Health, Release, WatchedValue, WatchVerdict, dump, to_json
from recsys.settings import Line, Watch
from recsys.settings import WatchedValue as Asked
from recsys.store import Store

log = logging.getLogger(__name__)

LEAST_PAST = 7
"""Windows of the release before without which windows cannot be compared that are not of the same time."""

WATCH = "watch"
"""Who took a release back, where it was no person."""


def judge(line: Line, store: Store, *, by: str, as_of: datetime) -> WatchVerdict:
    """Compare what became of what the release in production served with the release before it.

    Where both served in the same windows, as with a canary, these are compared pair by pair, and what a day does to
    both does not count. Else the release's windows are held against those of the release before, and how much days
    differ by themselves is taken from the latter. Only whole windows after the one in which production changed are
    looked at.

    The verdict lies under `watch/<release_id>/` and in the ledger; the same windows give the same verdict.

    Args:
        line: Says what is watched.
        store: The line's part of the store.
        by: Who asks; a person, or `schedule`.
        as_of: When, in UTC.

    Raises:
        NoRelease: The channel is empty.
        StoreError: The feedback table cannot be read.
    """
    moves = channel.history(store)
    if not moves:
        raise NoRelease("There must be a release to watch, but the channel names none.")
    now, watch = moves[-1], line.watch
    width = timedelta(hours=watch.window_hours)
    newest = served.newest(store)
    until = served.number(newest, width) if newest else 0  # the window of the newest event is not over
    since = served.number(now.at, width) + 1
    values: tuple[WatchedValue, ...] = ()
    if now.replaced is not None and until > since:
        values = tuple(_value(store, watch, name, now, since, until) for name in watch.values)
    health, because = _conclude(watch, now, values, any_window=until > since)
    verdict = WatchVerdict(
        release_id=now.release_id,
        generation=now.generation,
        previous=now.replaced,
        health=health,
        values=values,
        because=because,
        rolls_back=health is Health.REGRESSED and _may_roll_back(watch, moves, as_of),
        through=served.begin(until, width) if until > since else None,
        as_of=as_of,
    )
    _keep(store, verdict, by)
    return verdict


def take_back(line: Line, store: Store, verdict: WatchVerdict) -> Release | None:
    """Put the release before back into production, if the verdict says so and is still about what is in production.

    Called again for the same verdict, it moves nothing and gives what the first call gave.

    Args:
        line: Whose channel moves.
        store: The line's part of the store.
        verdict: Of `judge`.

    Returns:
        What is in production then; None: nothing was to be moved.

    Raises:
        BadBundle: The bytes of the release before are not those of its manifest; production stays as it is.
    """
    if not verdict.rolls_back or verdict.previous is None:
        return None
    nonce = f"{WATCH}-{verdict.generation}-{verdict.release_id}"
    moves = channel.history(store)
    followed = [move for move in moves if move.generation == verdict.generation + 1]
    if followed and followed[0].by != WATCH:
        log.info("%s is in production no longer, so nothing is taken back", verdict.release_id)
        return None
    try:
        return release.rollback(
            line,
            store,
            to=verdict.previous,
            expect=verdict.release_id,
            reason=verdict.because,
            by=WATCH,
            nonce=nonce,
        )
    except LostRace as moved:  # somebody else decided meanwhile
        log.info("nothing is taken back: %s", moved)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Windows made comparable, and what they tell."""

    evidence: Evidence
    before: float
    now: float
    numbers: Sequence[int]  # of the windows
    side_by_side: bool


def compare(asked: Asked, own: Windows, other: Windows, *, since: int, level: float) -> Compared | None:
    """Compare a release's windows with those of the release before: beside it where there are any, else before it.

    Args:
        asked: What is watched.
        own: Windows of the release from `since` on.
        other: Windows of the release before, before and after the change.
        since: Number of the first whole window after the change.
        level: Chance of a false alarm, ever.

    Returns:
        What they tell; None where there is too little to compare with.
    """
    found = _side_by_side(own, other.at(other.numbers >= since)) or _after(own, other.at(other.numbers < since - 1))
    if found is None or found.before == 0:  # no share of nothing can be a change that matters
        return None
    evidence = sequential.fallen(
        found.changes if asked.better == "higher" else -found.changes,
        found.variances,
        shared=found.shared,
        scale=asked.change * abs(found.before),
        level=level,
    )
    return Compared(
        evidence=evidence,
        before=found.before,
        now=float(np.average(found.own.means, weights=found.own.events)),
        numbers=found.own.numbers.tolist(),
        side_by_side=found.side_by_side,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Aligned:
    """Windows with what each is held against."""

    own: Windows
    changes: sequential.Floats
    variances: sequential.Floats
    shared: float
    before: float
    side_by_side: bool


def _value(store: Store, watch: Watch, name: str, now: Pointer, since: int, until: int) -> WatchedValue:
    asked, width = watch.values[name], timedelta(hours=watch.window_hours)
    assert now.replaced is not None
    windows = served.read(
        store,
        asked,
        (now.release_id, now.replaced),
        width=width,
        since=since - 1 - watch.past_windows,
        until=until,
        min_events=watch.min_events,
    )
    own, other = windows[now.release_id], windows[now.replaced]
    own = own.at(own.numbers >= since)
    if not len(own.numbers):
        because = (
            f"{name} is not known: no window of {now.release_id} has {watch.min_events} events with {asked.column}."
        )
        return WatchedValue(value=name, health=Health.UNKNOWN, because=because)
    level = watch.error_budget / len(watch.values)
    compared = compare(asked, own, other, since=since, level=level)
    if compared is None:
        because = (
            f"{name} is not known: {now.replaced} must have {LEAST_PAST} windows before {now.release_id}, or one "
            f"beside it, of {watch.min_events} events with {asked.column} that are not all alike."
        )
        return WatchedValue(value=name, health=Health.UNKNOWN, because=because)
    evidence = compared.evidence
    sign = 1 if asked.better == "higher" else -1
    change, radius = sign * float(evidence.change[-1]), float(evidence.radius[-1])
    first = evidence.first(level)
    how = "in the same windows" if compared.side_by_side else "before"
    said = (
        f"{name} is {compared.now:.4g} where {now.replaced} had {compared.before:.4g} {how}, a change of "
        f"{change / compared.before:+.1%} [{(change - radius) / compared.before:+.1%}, "
        f"{(change + radius) / compared.before:+.1%}] in {evidence.windows} windows"
    )
    begins = None if first is None else served.begin(int(compared.numbers[first]), width)
    return WatchedValue(
        value=name,
        health=Health.WELL if begins is None else Health.REGRESSED,
        because=f"{said}." if begins is None else f"{said}, shown to be worse by that of {begins:%Y-%m-%d %H:%M} on.",
        windows=evidence.windows,
        before=compared.before,
        now=compared.now,
        change=change,
        low=change - radius,
        high=change + radius,
        log_e=float(evidence.log_e[-1]),
        side_by_side=compared.side_by_side,
        since=begins,
    )


def _side_by_side(own: Windows, other: Windows) -> _Aligned | None:
    """Pair the windows in which both served."""
    _, mine, theirs = np.intersect1d(own.numbers, other.numbers, return_indices=True)
    if not len(mine):
        return None
    own, other = own.at(mine), other.at(theirs)
    return _Aligned(
        own=own,
        changes=own.means - other.means,
        variances=own.variances + other.variances,
        shared=0.0,
        before=float(np.average(other.means, weights=other.events)),
        side_by_side=True,
    )


def _after(own: Windows, past: Windows) -> _Aligned | None:
    """Hold windows against those of the release before, whose days differ by more than their events do."""
    if len(past.numbers) < LEAST_PAST:
        return None
    days = sequential.between(past.means, past.variances)
    precision = 1 / (past.variances + days)
    shared = float(1 / precision.sum())
    before = float((precision * past.means).sum()) * shared
    return _Aligned(
        own=own,
        changes=own.means - before,
        variances=own.variances + days,
        shared=shared,
        before=before,
        side_by_side=False,
    )


def _conclude(watch: Watch, now: Pointer, values: Sequence[WatchedValue], *, any_window: bool) -> tuple[Health, str]:
    """Say how the release does, in one sentence."""
    worse = [value for value in values if value.health is Health.REGRESSED]
    if worse:
        return Health.REGRESSED, f"{now.release_id} does worse: {' '.join(value.because for value in worse)}"
    if well := [value for value in values if value.health is Health.WELL]:
        return Health.WELL, f"Nothing shows that {now.release_id} does worse: {' '.join(v.because for v in well)}"
    if not watch.values:
        return Health.UNKNOWN, f"{now.release_id} is not watched, because the line names no watch.values."
    if now.replaced is None:
        return Health.UNKNOWN, f"{now.release_id} is the first release, and there is none to compare it with."
    if not any_window:
        return Health.UNKNOWN, (
            f"{now.release_id} has not served a whole window of {watch.window_hours:g} h by feedback that names its "
            "release."
        )
    return Health.UNKNOWN, " ".join(value.because for value in values)


def _may_roll_back(watch: Watch, moves: Sequence[Pointer], as_of: datetime) -> bool:
    """Whether the watch may move production: not so soon after it did, and not to what was itself taken back."""
    own = [move for move in moves if move.by == WATCH]
    cools = bool(own) and as_of - own[-1].at < timedelta(days=watch.cooldown_days)
    return watch.rollback and not cools and moves[-1].replaced not in channel.given_up(moves)


def _keep(store: Store, verdict: WatchVerdict, by: str) -> None:
    """Keep a verdict and enter it into the ledger, once for the windows that it is about."""
    seen = f"{verdict.generation}|{verdict.through}|{[dump(value) for value in verdict.values]}"
    name = hashlib.sha256(seen.encode()).hexdigest()[:16]
    ledger.append(
        store,
        ledger.Entry(
            what="watched",
            who=by,
            why=verdict.because,
            evidence=dump(verdict),
            id=f"watched-{verdict.release_id}-{verdict.generation}-{name}",
        ),
    )
    store.put(f"watch/{verdict.release_id}/{verdict.generation}-{name}.json", to_json(verdict))
    log.info("%s: %s", verdict.health, verdict.because)
