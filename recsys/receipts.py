"""Account for every landed object: what became of it, and where that lies which was refused.

A receipt is written last of all. Whatever dies before, the next run meets the same object again.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from recsys import ledger
from recsys.errors import Conflict, NotFound
from recsys.records import ObjectRef, Refusal, dump, parse, to_json
from recsys.store import Entry, Store

_READERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of one version of one landed object."""

    object: ObjectRef
    outcome: str  # committed or refused
    batch_id: str  # empty where the object could not be read
    refused: tuple[Refusal, ...]  # the object itself, or rows of its batch
    as_of: datetime


def settle(
    store: Store,
    objects: Sequence[ObjectRef],
    outcome: str,
    *,
    batch_id: str = "",
    refused: Sequence[Refusal] = (),
    as_of: datetime,
) -> None:
    """Write the receipts of `objects`; where there is one already, the first stays.

    Args:
        store: The line's part of the store.
        objects: Each gets a receipt that says the following.
        outcome: committed or refused.
        batch_id: The batch that they came in, if they could be read.
        refused: What of them is in quarantine.
        as_of: The moment of the batch.
    """
    for ref in objects:
        receipt = Receipt(object=ref, outcome=outcome, batch_id=batch_id, refused=tuple(refused), as_of=as_of)
        with suppress(Conflict):
            store.create(_key(ref), to_json(receipt))


def unsettled(store: Store, prefix: str) -> list[Entry]:
    """List the objects under `prefix` that have no receipt, by key."""
    known = {entry.key for entry in store.list("receipts/")}
    return [entry for entry in store.list(prefix) if _key(ref(entry)) not in known]


def receipt(store: Store, ref: ObjectRef) -> Receipt | None:
    """Say what became of one version of a landed object; None while nothing is settled.

    Raises:
        BadObject: The receipt cannot be read.
    """
    try:
        return _read(store, _key(ref))
    except NotFound:
        return None


def receipts(store: Store) -> tuple[Receipt, ...]:
    """List what became of every landed object, in the order of their keys.

    Raises:
        BadObject: A receipt cannot be read.
    """
    with ThreadPoolExecutor(_READERS) as pool:  # a receipt is small, so reading it is all waiting
        found = list(pool.map(lambda entry: _read(store, entry.key), store.list("receipts/")))
    return tuple(sorted(found, key=lambda receipt: (receipt.object.key, receipt.as_of)))


def quarantined(store: Store) -> tuple[Refusal, ...]:
    """List what was refused for good, objects and rows, in the order of their places in quarantine."""
    found = {refusal.kept_at: refusal for receipt in receipts(store) for refusal in receipt.refused}
    return tuple(found[key] for key in sorted(found))


def quarantine_key(mark: str, file: str, as_of: datetime) -> str:
    """Say where to keep `file` of what was refused.

    Args:
        mark: Names the place, the same whenever the same thing is refused again.
        file: Name for the refused bytes.
        as_of: The moment of the batch.
    """
    return f"quarantine/{as_of:%Y-%m-%d}/{mark}/{file}"


def explain(store: Store, refusal: Refusal) -> None:
    """Write the reasons beside the refused bytes and into the ledger; only a receipt makes the refusal final."""
    folder = refusal.kept_at.rpartition("/")[0]
    store.put(f"{folder}/reasons.json", to_json(refusal))
    ledger.append(
        store,
        ledger.Entry(
            what="refused",
            who="feedback",
            why=f"{refusal.landed}: {'; '.join(refusal.reasons)}",
            evidence=dump(refusal),
            id=folder.rpartition("/")[2],
        ),
    )


def ref(entry: Entry) -> ObjectRef:
    """Name the version of the object that a listing showed."""
    return ObjectRef(key=entry.key, etag=entry.etag, size_bytes=entry.size_bytes)


def mark(ref: ObjectRef) -> str:
    """Give one version of one object a name of its own that can stand in a key."""
    return hashlib.sha256(f"{ref.key}|{ref.etag}".encode()).hexdigest()


def _read(store: Store, key: str) -> Receipt:
    return parse(Receipt, key, store.get(key).body)


def _key(ref: ObjectRef) -> str:
    return f"receipts/{mark(ref)}.json"
