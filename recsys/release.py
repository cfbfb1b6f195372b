"""Move production: forward to a candidate that passed the gate, back to an earlier release, or to the baseline."""

import hashlib
import json
import logging
import uuid
from collections.abc import Callable

from pydantic import JsonValue

from recsys import channel, decisions, gate, ledger, people
from recsys.bundles import GOLDEN, find_bundle, read_bundle
from recsys.channel import Pointer
from recsys.errors import Held, LostRace, NoRelease
from recsys.records import Answer, Bundle, Candidate, Dataset, Outcome, Override, Release, Said, Verdict, dump
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


def release(
    line: Line,
    store: Store,
    verdict: Verdict,
    *,
    answer: Answer | None = None,
    override: Override | None = None,
) -> Release:
    """Put a candidate into production if its verdict is a pass and the incumbent it was measured against still serves.

    A person may override another verdict, unless it is about what is broken; that gives back nothing of what the look
    at the holdout spent. On a line that asks people, one of them must have approved, whatever the verdict.

    Called again with the same verdict it moves nothing, gives what the first call gave, and writes into the ledger what
    that call may not have come to.

    Args:
        line: Whose channel moves.
        store: The line's part of the store.
        verdict: What the gate said.
        answer: What people said, on a line that asks them.
        override: Who wants it released although the verdict is no pass; nothing where it is one.

    Raises:
        Held: The verdict is not a pass and nobody overrides it, or people did not approve; the ledger says so.
        LostRace: Production has changed since the candidate was measured.
        BadBundle: The candidate's bytes are not those of its manifest, or its graph answers its golden requests
            otherwise than when it was packaged.
        NoRelease: The candidate's bundle is gone.
    """
    nonce = people.digest(verdict)
    override = override if verdict.outcome is not Outcome.PASS else None
    if verdict.outcome is not Outcome.PASS:
        require_pass(line, store, verdict, override)
    bundle = _as_packaged(store, verdict.candidate)
    if line.approval is not None:
        _hear(line, store, verdict, answer, bundle, nonce, override)
    reason = people.overridden(verdict, override) if override else verdict.because
    moved = _move(
        store,
        to=verdict.candidate,
        expect=verdict.incumbent,
        by=override.by if override else verdict.by,
        reason=reason,
        nonce=f"override-{nonce}" if override else nonce,
        what="released",
    )
    if override:
        _say(store, verdict, Said(what="overridden", who=moved.by, why=moved.reason, at=moved.at), nonce)
    return moved


def require_pass(line: Line, store: Store, verdict: Verdict, override: Override | None) -> None:
    """Hold what is no pass, unless a person overrides what may be overridden; the ledger says so.

    Each gating is held once, and each wish to override it that is refused once: the same words of the same person are
    the same wish.

    Args:
        line: Whose production stays as it is.
        store: The line's part of the store.
        verdict: What the gate said, no pass.
        override: Who wants it released all the same, and why.

    Raises:
        Held: Nobody overrides the verdict, or nobody may.
    """
    if override is None:
        raise _held(line, store, verdict, who=verdict.by, why=verdict.because)
    try:
        people.check_override(verdict, override)
    except Held as held:
        refused = f"{str(held).rstrip('.')}. The reason was: {override.reason.strip().rstrip('.')}."
        raise _held(line, store, verdict, who=override.by, why=refused, override=override) from held


def _held(
    line: Line, store: Store, verdict: Verdict, *, who: str, why: str, override: Override | None = None, also: str = ""
) -> Held:
    """Write down that a candidate is held, and give what to raise."""
    evidence = {**dump(verdict), **({"override": dump(override)} if override else {})}
    entry_id = f"held-{people.digest(verdict)}{also}{_turn(store, verdict)}{_wish(override)}"
    ledger.append(store, ledger.Entry(what="held", who=who, why=why, evidence=evidence, id=entry_id))
    log.info("%s: %s", line.name, why)
    return Held(why)


def _turn(store: Store, verdict: Verdict) -> str:
    """Tell gatings with the same verdict apart, by when each was judged."""
    at = next((record.at for record in decisions.records(store, verdict.candidate) if record.verdict == verdict), None)
    return f"-{at:%Y%m%dT%H%M%S.%f}" if at else ""


def _wish(override: Override | None) -> str:
    """Name a wish to override by who and why."""
    return f"-override-{_digest(json.dumps(dump(override)))}" if override else ""


def rollback(
    line: Line,
    store: Store,
    *,
    to: str | None = None,
    expect: str | None = None,
    reason: str,
    by: str,
    nonce: str | None = None,
) -> Release:
    """Put an earlier release back into production.

    Called again with the same nonce it moves nothing, gives what the first call gave, and writes into the ledger what
    that call may not have come to.

    Args:
        line: Whose channel moves.
        store: The line's part of the store.
        to: A release that was in production before or passed the gate, where people need not approve that; None: the
            one before the present one.
        expect: The release that must be in production still; None: whichever is.
        reason: Why, in one sentence; the ledger keeps it.
        by: Who asks.
        nonce: Any text that names this decision; None: a decision of its own.

    Raises:
        NoRelease: There is nothing to go back to, or `to` was never let through.
        BadBundle: The bytes of the release are not those of its manifest, or its graph, if it has never served, answers
            its golden requests otherwise than when it was packaged; production stays as it is.
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
    if expect is not None and now.release_id != expect:
        raise LostRace(
            f"{expect!r} was to be taken back, but {now.release_id!r} is in production, so nothing was.",
            expected=expect,
            found=now.release_id,
        )
    target = _way_back(store, now) if to is None else to
    if target == now.release_id:
        raise ValueError(f"to must be another release than the one in production, but both are {target!r}.")
    if to is not None and not _was_good(line, store, target):
        raise NoRelease(f"{target!r} must have been in production{_or_passed(line)}, but has not.")
    if _has_served(store, target):
        read_bundle(store, target)  # in haste, and serving asks for itself
    else:
        _as_packaged(store, target)
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


def _hear(
    line: Line,
    store: Store,
    verdict: Verdict,
    answer: Answer | None,
    bundle: Bundle,
    nonce: str,
    override: Override | None,
) -> None:
    """Hold what people have not approved, and write down what they said."""
    assert line.approval is not None  # else nobody is asked
    if answer is None:
        why = (
            f"{line.name} needs the approval of one of {list(line.approval.users)}, for which only the DAG "
            f"promote_{line.name} can ask, so {verdict.incumbent} stays instead of {verdict.candidate}."
        )
        who = override.by if override else verdict.by
        raise _held(line, store, verdict, who=who, why=why, override=override, also="-unasked")
    said = people.hear(line.approval, verdict, answer, searched_by=bundle.by)
    _say(store, verdict, said, f"{nonce}-{_digest(answer.run + answer.at.isoformat())}", answer)
    if said.what != "approved":
        raise Held(said.why)


def _say(store: Store, verdict: Verdict, said: Said, name: str, answer: Answer | None = None) -> None:
    """Write what people said into the ledger and into the record of the gating, once."""
    evidence: dict[str, JsonValue] = {
        "candidate": verdict.candidate,
        "incumbent": verdict.incumbent,
        "outcome": verdict.outcome,
        "verdict": dump(verdict),
        **({"answer": dump(answer)} if answer else {}),
    }
    decisions.add(store, verdict, said)
    ledger.append(
        store,
        ledger.Entry(
            at=said.at, what=said.what, who=said.who, why=said.why, evidence=evidence, id=f"{said.what}-{name}"
        ),
    )
    log.info("%s: %s", said.what, said.why)


def _move(store: Store, *, to: str, expect: str | None, by: str, reason: str, nonce: str, what: str) -> Release:
    """Move the pointer and write it down; a second call with the same nonce moves and writes nothing twice."""
    ledger.Entry(what=what, who=by, why=reason)  # what the ledger would not take shall not move production
    pointer = channel.move(store, to=to, expect=expect, by=by, reason=reason, nonce=nonce)
    log.info("Generation %d: %s %s: %s", pointer.generation, what, pointer.release_id, reason)
    return _written(store, pointer, what=what)


def _as_packaged(store: Store, release_id: str) -> Bundle:
    """Refuse a bundle of other bytes, and one whose graph does not answer here as when it was packaged."""
    bundle, files = read_bundle(store, release_id)
    if GOLDEN in files:
        from recsys import golden
        from recsys.ranker import Ranker

        golden.require(Ranker.of(bundle, files), files)
    return bundle


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


def _has_served(store: Store, release_id: str) -> bool:
    """Whether a release was in production, as far as the channel remembers."""
    return any(move.release_id == release_id for move in channel.history(store))


def _was_good(line: Line, store: Store, release_id: str) -> bool:
    """Whether a release was in production, as far as the channel remembers, or passed the gate and needs no more."""
    if _has_served(store, release_id):
        return True
    if line.approval is not None:
        return False
    try:
        return gate.verdict(store, release_id).outcome is Outcome.PASS
    except NoRelease:
        return False


def _or_passed(line: Line) -> str:
    return " or have passed the gate" if line.approval is None else ""


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
