"""Move production: forward to a candidate that passed the gate, back to an earlier release, or to the baseline."""

import hashlib
import json
import logging
import uuid
from collections.abc import Callable

from recsys import channel, gate, ledger
from recsys.bundles import find_bundle, read_bundle
from recsys.channel import Pointer
from recsys.errors import Held, LostRace, NoRelease
from recsys.records import Candidate, Dataset, Outcome, Release, Verdict, dump
from recsys.settings import Line
from recsys.store import Store

log = logging.getLogger(__name__)

BASELINE = "baseline-"  # how the nonce begins with which the baseline is installed


def current(store: Store) -> Release | None:
    """Give the release in production, or None before the first.

    Raises:
        BadBundle: The manifest of what is in production cannot be read.
    """
    pointer = channel.current(store)
    return _release(store, pointer) if pointer else None


def release(line: Line, store: Store, verdict: Verdict) -> Release:
    """Put a candidate into production if its verdict is a pass and the incumbent it was measured against still serves.

    Called again with the same verdict it moves nothing, gives what the first call gave, and writes into the ledger what
    that call may not have come to.

    Args:
        line: Whose channel moves.
        store: The line's part of the store.
        verdict: What the gate said.

    Raises:
        Held: The verdict is not a pass; the ledger says so.
        LostRace: Production has changed since the candidate was measured.
        BadBundle: The candidate's bytes are not those of its manifest.
        NoRelease: The candidate's bundle is gone.
    """
    nonce = _digest(json.dumps(dump(verdict), sort_keys=True))
    if verdict.outcome is not Outcome.PASS:
        ledger.append(
            store,
            ledger.Entry(
                what="held",
                who=verdict.by,
                why=verdict.because,
                evidence=dump(verdict),
                id=f"held-{nonce}",
            ),
        )
        log.info("%s: %s", line.name, verdict.because)
        raise Held(verdict.because)
    read_bundle(store, verdict.candidate)
    return _move(
        store,
        to=verdict.candidate,
        expect=verdict.incumbent,
        by=verdict.by,
        reason=verdict.because,
        nonce=nonce,
        what="released",
    )


def rollback(
    line: Line, store: Store, *, to: str | None = None, reason: str, by: str, nonce: str | None = None
) -> Release:
    """Put an earlier release back into production.

    Called again with the same nonce it moves nothing, gives what the first call gave, and writes into the ledger what
    that call may not have come to.

    Args:
        line: Whose channel moves.
        store: The line's part of the store.
        to: A release that was in production before or passed the gate; None: the one before the present one.
        reason: Why, in one sentence; the ledger keeps it.
        by: Who asks.
        nonce: Any text that names this decision; None: a decision of its own.

    Raises:
        NoRelease: There is nothing to go back to, or `to` never passed the gate.
        BadBundle: The bytes of the release are not those of its manifest; production stays as it is.
        LostRace: Production changed while this ran.
        ValueError: The reason or the name is empty, or `to` is in production already.
    """
    if not reason.strip() or not by.strip():
        raise ValueError(f"A rollback must say why and by whom, but says {reason!r} by {by!r}.")
    nonce = f"{channel.ROLLBACK}{_digest(nonce or uuid.uuid4().hex)}"
    if made := _made(store, lambda move: move.nonce == nonce):
        return _written(store, made, what="rolled back")
    now = channel.current(store)
    if now is None:
        raise NoRelease(f"{line.name} must have a release to roll back from, but has none.")
    target = _way_back(store, now) if to is None else to
    if target == now.release_id:
        raise ValueError(f"to must be another release than the one in production, but both are {target!r}.")
    if to is not None and not _was_good(store, target):
        raise NoRelease(f"{target!r} must have been in production or have passed the gate, but has not.")
    read_bundle(store, target)
    return _move(store, to=target, expect=now.release_id, by=by, reason=reason, nonce=nonce, what="rolled back")


def install_baseline(line: Line, store: Store, dataset: Dataset, *, by: str) -> Release:
    """Make sure that something is in production: popularity, counted on everything before the dataset's holdout.

    If it was this that put the baseline there but did not come to the ledger, that is made up for.

    Returns:
        What is in production; the baseline only if there was nothing.

    Raises:
        BadBundle: What is in production cannot be read, or the baseline cannot be exported.
    """
    if made := _made(store, lambda move: move.nonce.startswith(BASELINE)):
        _written(store, made, what="released")
    if found := current(store):
        return found
    from recsys import export

    bundle = export.package(line, store, _popularity(store, dataset, by=by))
    try:
        return _move(
            store,
            to=bundle.release_id,
            expect=None,
            by=by,
            reason=f"The first release of {line.name} is popularity, the baseline.",
            nonce=f"{BASELINE}{bundle.release_id}",
            what="released",
        )
    except LostRace:
        installed = current(store)
        assert installed is not None  # who lost this race lost it to a release
        return installed


def _move(store: Store, *, to: str, expect: str | None, by: str, reason: str, nonce: str, what: str) -> Release:
    """Move the pointer and write it down; a second call with the same nonce moves and writes nothing twice."""
    ledger.Entry(what=what, who=by, why=reason)  # what the ledger would not take shall not move production
    pointer = channel.move(store, to=to, expect=expect, by=by, reason=reason, nonce=nonce)
    log.info("Generation %d: %s %s: %s", pointer.generation, what, pointer.release_id, reason)
    return _written(store, pointer, what=what)


def _written(store: Store, pointer: Pointer, *, what: str) -> Release:
    """Give what a move of the pointer released, once the ledger has it: time and id make it one entry."""
    moved = _release(store, pointer)
    ledger.append(
        store,
        ledger.Entry(
            at=pointer.at,
            what=what,
            who=pointer.by,
            why=pointer.reason,
            evidence=dump(moved),
            id=f"move-{pointer.nonce}",
        ),
    )
    return moved


def _made(store: Store, which: Callable[[Pointer], bool]) -> Pointer | None:
    """Find a move among those that the channel remembers."""
    return next((move for move in channel.history(store) if which(move)), None)


def _digest(decision: str) -> str:
    """Name a decision so that it fits into a key, whatever it was called."""
    return hashlib.sha256(decision.encode()).hexdigest()[:32]


def _release(store: Store, pointer: Pointer) -> Release:
    bundle = find_bundle(store, pointer.release_id)
    return Release(
        release_id=pointer.release_id,
        generation=pointer.generation,
        previous=pointer.previous,
        replaced=pointer.replaced,
        family=bundle.family,
        dataset_id=bundle.dataset_id,
        reason=pointer.reason,
        by=pointer.by,
        at=pointer.at,
    )


def _way_back(store: Store, now: Pointer) -> str:
    if now.previous is None:
        raise NoRelease(f"There must be a release before {now.release_id} to go back to, but it was the first.")
    return now.previous


def _was_good(store: Store, release_id: str) -> bool:
    """Whether a release was in production, as far as the channel remembers, or passed the gate."""
    if any(move.release_id == release_id for move in channel.history(store)):
        return True
    try:
        return gate.verdict(store, release_id).outcome is Outcome.PASS
    except NoRelease:
        return False


def _popularity(store: Store, dataset: Dataset, *, by: str) -> Candidate:
    """Count the baseline and keep its weights where a study would keep a candidate's."""
    from recsys import dataset as datasets
    from recsys.checkpoints import keep_weights
    from recsys.models import FAMILIES

    family = FAMILIES["popularity"]
    known = datasets.load(store, dataset).before_holdout
    network = family.build(family.defaults, n_items=known.n_items)
    network.prepare(known, 0)  # type: ignore[operator]
    plan_id = f"baseline-{dataset.dataset_id}"
    weights_key, digest = keep_weights(store, f"studies/{plan_id}", network)
    return Candidate(
        candidate_id=plan_id,
        plan_id=plan_id,
        dataset_id=dataset.dataset_id,
        family=family.name,
        configuration=family.defaults,
        seed=0,
        weights_key=weights_key,
        weights_sha256=digest,
        validation_ndcg_at_10=None,
        by=by,
        as_of=dataset.as_of,
    )
