"""Keep a record and a page of every gating beside the candidate's bundle, and what people said to it afterwards."""

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from recsys.bundles import key
from recsys.decision_page import render
from recsys.errors import BadObject, Conflict, NotFound
from recsys.records import Comparison, GateRecord, Said, Verdict, dump, parse, to_json
from recsys.settings import Line
from recsys.store import Store

log = logging.getLogger(__name__)

FOLDER = "decisions/"
COMPARISONS = "comparisons/"
POLICY = {"gate", "budgets", "approval"}
"""The tables of a line that judge."""

_TIME = "%Y%m%dT%H%M%S.%fZ"  # sorts as text


def keep(
    line: Line,
    store: Store,
    verdict: Verdict,
    comparison: Comparison | None,
    *,
    dataset_id: str,
    again: str | None,
    judged_s: float,
    at: datetime | None = None,
) -> GateRecord:
    """Write down what was judged, by which policy, and what came out; the same as the newest record is no new one.

    Args:
        line: Whose policy judged.
        store: The line's part of the store.
        verdict: What came out.
        comparison: What was judged; None: the bundle is not sound and was therefore not measured.
        dataset_id: Whose holdout it was, or would have been.
        again: Why a release that was rolled back might come back.
        judged_s: Seconds that judging took.
        at: When; None: now.

    Returns:
        The record that is kept.
    """
    body_key, sha256 = _kept(store, comparison) if comparison else ("", "")
    made = GateRecord(
        line=line.name,
        verdict=verdict,
        policy=line.model_dump(mode="json", include=POLICY),
        dataset_id=dataset_id,
        look=comparison.look if comparison else None,
        comparison_key=body_key,
        comparison_sha256=sha256,
        again=again,
        measured_s=comparison.seconds if comparison else None,
        judged_s=judged_s,
        at=at or datetime.now(UTC),
    )
    newest = next(_records(store, verdict.candidate), None)
    if newest is not None and _decision(newest[1]) == _decision(made):
        return newest[1]
    at_key = key(verdict.candidate, f"{FOLDER}{made.at.strftime(_TIME)}-{_digest(made)}.json")
    store.create(at_key, to_json(made))
    store.put(page_key(at_key), render(made).encode())
    log.info("%s keeps why %s is %s.", at_key, verdict.candidate, verdict.outcome)
    return made


def records(store: Store, release_id: str) -> list[GateRecord]:
    """Give the records of all gatings of a bundle that can be read, newest first; `unreadable` names the others."""
    return [record for _, record in _records(store, release_id)]


def unreadable(store: Store, release_id: str) -> list[BadObject]:
    """Say which records of a bundle cannot be read, and why, newest first."""
    return [found for _, found in _read(store, release_id) if isinstance(found, BadObject)]


def where(store: Store, release_id: str) -> list[str]:
    """Say under which keys the records of a bundle lie, newest first."""
    found = (entry.key for entry in store.list(key(release_id, FOLDER)))
    return sorted((at for at in found if at.endswith(".json")), reverse=True)


def lies(store: Store, record: GateRecord) -> str:
    """Say under which key a record of a gating lies.

    Raises:
        NotFound: Nowhere.
    """
    for at, found in _records(store, record.verdict.candidate):
        if found == record:
            return at
    raise NotFound(f"A record of {record.verdict.candidate} of {record.at.isoformat()} must be kept, but is gone.")


def page_key(at: str) -> str:
    """Say where the page of the record under `at` lies."""
    return f"{at.removesuffix('.json')}.html"


def add(store: Store, verdict: Verdict, said: Said) -> GateRecord | None:
    """Add what a person said to the newest record of `verdict`, once.

    Returns:
        The record as it is then; None where an older version judged, which kept none, or where it cannot be read.
    """
    found = next((at for at, record in _records(store, verdict.candidate) if record.verdict == verdict), None)
    if found is None:
        return None
    while True:  # each further turn means that somebody else has said something
        lies = store.get(found)
        record = parse(GateRecord, found, lies.body)
        if said not in record.said:
            record = replace(record, said=(*record.said, said))
            try:
                store.replace(found, to_json(record), etag=lies.etag)
            except Conflict:
                continue
        store.put(page_key(found), render(record).encode())
        return record


def _records(store: Store, release_id: str) -> Iterator[tuple[str, GateRecord]]:
    for at, found in _read(store, release_id):
        if isinstance(found, BadObject):
            log.warning("A record of a gating is passed over: %s", found)
        else:
            yield at, found


def _read(store: Store, release_id: str) -> Iterator[tuple[str, GateRecord | BadObject]]:
    for at in where(store, release_id):
        try:
            yield at, parse(GateRecord, at, store.get(at).body)
        except BadObject as error:
            yield at, error


def _kept(store: Store, comparison: Comparison) -> tuple[str, str]:
    """Find where a comparison lies, and the SHA-256 of its bytes there; where it was not kept, of what it would be."""
    for entry in store.list(key(comparison.candidate.release_id, COMPARISONS)):
        body = store.get(entry.key).body
        try:
            same = parse(Comparison, entry.key, body) == comparison
        except BadObject as error:
            log.warning("A comparison is passed over: %s", error)
            continue
        if same:
            return entry.key, hashlib.sha256(body).hexdigest()
    return "", hashlib.sha256(to_json(comparison)).hexdigest()


def _decision(record: GateRecord) -> str:
    """Give what makes two gatings one: the same verdict on the same evidence by the same policy, whoever asks."""
    made_of = [
        dump(replace(record.verdict, by="")),
        record.policy,
        record.comparison_sha256,
        record.again,
    ]
    return json.dumps(made_of, sort_keys=True)


def _digest(record: GateRecord) -> str:
    return hashlib.sha256(_decision(record).encode()).hexdigest()[:8]
