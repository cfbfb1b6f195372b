"""Follow a bundle over comparison, gate and people to production."""

from collections.abc import Iterator, Mapping
from typing import Any

from recsys import channel, decisions
from recsys.bundles import key
from recsys.gate import VERDICT
from recsys.ledger import Entry
from recsys.measured import SHA256
from recsys.people import NOBODY
from recsys.records import Bundle, GateRecord, Outcome, Verdict, load
from retune.why.links import Link
from retune.why.past import Past, matching


def follow_judgement(past: Past, bundle: Bundle) -> Iterator[Link]:
    """Follow comparison, gate and people."""
    release_id = bundle.release_id
    released = past.told("released", release_id=release_id)
    records = decisions.records(past.store, release_id)
    for error in decisions.unreadable(past.store, release_id):
        yield Link(what="gate", says="A record of it cannot be read.", wrong=(str(error),))
    before = [record for record in records if not released or record.at <= released[-1].at]
    record = next(iter(before or records), None)
    if record is None:
        told = past.told("gated", candidate=release_id)
        says = told[-1].why if told else "Nobody has judged it."
        wrong = ("no record of the gating is kept",) if told or released else ()
        yield Link(what="gate", who=told[-1].who if told else "", says=says, wrong=wrong)
        return
    yield _compared(past, record)
    yield _gated(past, record, newest=records[0].verdict)
    yield from _people(past, record, released=bool(released))


def _compared(past: Past, record: GateRecord) -> Link:
    verdict, look = record.verdict, record.look
    if not record.comparison_sha256:
        return Link(what="comparison", says="Nothing was measured, as the bundle is not sound.")
    told = [
        entry
        for entry in past.told("measured")
        if _named(entry, "candidate") == verdict.candidate and _named(entry, "incumbent") == verdict.incumbent
    ]
    wrong = list(past.untold("measured", told))
    if record.comparison_key:
        wrong += matching(past, "the comparison", record.comparison_key, record.comparison_sha256)
    else:
        wrong.append("the comparison was not kept")
    vouched = [str(entry.evidence[SHA256]) for entry in told if SHA256 in entry.evidence]
    if vouched and record.comparison_sha256 not in vouched:
        wrong.append(
            f"what was judged has the SHA-256 {record.comparison_sha256}, but what was measured has, by the ledger, "
            f"{' or '.join(vouched)}"
        )
    if look is None:
        wrong.append("no look at the holdout was counted")
    elif not past.told("looked", number=look.number, candidate=verdict.candidate, incumbent=verdict.incumbent):
        wrong.append(f"the ledger has no entry “looked” of look {look.number}")
    spent = f" Look {look.number} spent {look.level:.2g} of a year's {look.budget:g}." if look else ""
    return Link(
        what="comparison",
        who=told[-1].who if told else "",
        at=told[-1].at if told else None,
        says=f"{told[-1].why if told else f'Held against {verdict.incumbent}.'}{spent}",
        ids={"comparison": record.comparison_key, "sha256": record.comparison_sha256},
        wrong=tuple(wrong),
    )


def _gated(past: Past, record: GateRecord, *, newest: Verdict) -> Link:
    verdict = record.verdict
    told = [entry for entry in past.told("gated", candidate=verdict.candidate) if _of(entry) == verdict]
    return Link(
        what="gate",
        who=verdict.by,
        at=record.at,
        says=f"{verdict.outcome.capitalize()}: {verdict.because}",
        ids={"outcome": verdict.outcome, "checks": {check.name: check.outcome for check in verdict.checks}},
        wrong=(*past.untold("gated", told), *_newest_verdict(past, newest)),
    )


def _newest_verdict(past: Past, expected: Verdict) -> Iterator[str]:
    """Say what is wrong with the verdict that stands for all of a bundle's gatings."""
    at = key(expected.candidate, VERDICT)
    found, wrong = past.record(Verdict, at)
    yield from wrong
    if found is not None and found != expected:
        yield f"{at} must be the verdict of the newest record, but is another: {found.outcome}, by {found.by}"


def _people(past: Past, record: GateRecord, *, released: bool) -> Iterator[Link]:
    """Say who approved, rejected or overrode, and who should have."""
    verdict, words = record.verdict, ("approved", "rejected", "overridden")
    told = [
        entry for entry in past.entries if entry.what in words and load(Verdict, _table_of(entry, "verdict")) == verdict
    ]
    for entry in told:
        kept = any((said.what, said.who, said.at) == (entry.what, entry.who, entry.at) for said in record.said)
        yield Link(
            what=entry.what,
            who=entry.who if entry.who != NOBODY else "",
            at=entry.at,
            says=entry.why,
            wrong=() if kept else ("the record of the gating does not have it",),
        )
    said = {entry.what for entry in told}
    for said_by_record in record.said:
        if not any((e.what, e.at) == (said_by_record.what, said_by_record.at) for e in told):
            yield Link(
                what=said_by_record.what,
                who=said_by_record.who,
                at=said_by_record.at,
                says=said_by_record.why,
                wrong=("the ledger does not have it",),
            )
    if released and record.policy.get("approval") and "approved" not in said:
        yield Link(
            what="approval", says="It was released all the same.", wrong=("the line needs one, and nobody gave it",)
        )
    if released and verdict.outcome is not Outcome.PASS and "overridden" not in said:
        yield Link(
            what="override",
            says="It was released all the same.",
            wrong=(f"the verdict is {verdict.outcome}, and nobody overrode it",),
        )


def follow_moves(past: Past, release_id: str) -> Iterator[Link]:
    """List the moves of the pointer to the release and away from it, as channel and ledger have them."""
    remembered = channel.history(past.store)
    told = {entry.id: entry for entry in past.entries if entry.what in ("released", "rolled back")}
    moves = {f"move-{move.nonce}": move for move in remembered}
    found = False
    for name, move in moves.items():
        if release_id not in (move.release_id, move.replaced):
            continue
        found = True
        to = "Production became it" if move.release_id == release_id else f"{move.release_id} took its place"
        yield Link(
            what="production",
            who=move.by,
            at=move.at,
            says=f"{to}, generation {move.generation}: {move.reason}",
            ids={"generation": move.generation, "nonce": move.nonce},
            wrong=() if name in told else ("the ledger has no entry of this move",),
        )
    oldest = remembered[0].at if remembered else None
    for name, entry in told.items():
        if name in moves or release_id not in (entry.evidence.get("release_id"), entry.evidence.get("replaced")):
            continue
        found = True
        forgotten = oldest is not None and entry.at < oldest  # the channel remembers no more than it must
        yield Link(
            what="production",
            who=entry.who,
            at=entry.at,
            says=f"{entry.what.capitalize()}, generation {entry.evidence.get('generation')}: {entry.why}",
            wrong=() if forgotten else ("the channel does not remember this move",),
        )
    if not found:
        yield Link(what="production", says="It has never been in production.")


def _table_of(entry: Entry, name: str) -> Mapping[str, Any]:
    found = entry.evidence.get(name)
    assert isinstance(found, Mapping)  # its writer has put it there
    return found


def _named(entry: Entry, role: str) -> str:
    return str(_table_of(entry, role).get("release_id"))


def _of(entry: Entry) -> Verdict:
    return load(Verdict, entry.evidence)
