"""Take what has landed into the feedback table: every event once, every object accounted for.

A run that dies is simply run again: objects without a receipt are new, a batch that the table has is found there, and
events that the table has are left out by their ids.
"""

import hashlib
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq

from recsys import landing, ledger, parquet, receipts, table
from recsys.columns import EVENT, TIME
from recsys.engine import engine
from recsys.errors import BadObject, NoFeedback, NotFound
from recsys.records import MIB, Batch, CheckedBatch, ObjectRef, Refusal, TableVersion
from recsys.settings import Line
from recsys.store import Entry, Store

log = logging.getLogger(__name__)

SOURCE = "_source"
"""Column of staged and quarantined rows: the key of the object that brought the event."""

MAX_BATCH_MIB = 1024
"""Events beyond this, as they lie in memory, wait for the next batch, so that it fits however much has landed."""

STAGE_DAYS = 7
"""Staged rows older than this belong to nobody."""


def pull(line: Line, store: Store, *, as_of: datetime) -> Batch:
    """Read the objects under `landing/` that have no receipt, and stage their events as one batch.

    An object that cannot be read goes to quarantine and gets its receipt at once. The same event in several objects, or
    several times in one, is staged once.

    Args:
        line: Declares what the objects hold.
        store: The line's part of the store.
        as_of: The moment of the batch, with its zone; freshness counts from it.

    Raises:
        NoFeedback: Nothing new can be read; `refused` says what went to quarantine.
    """
    if as_of.tzinfo is None:
        raise ValueError(f"as_of must have a time zone but got {as_of}.")
    _sweep(store)
    objects: list[ObjectRef] = []
    refused: list[Refusal] = []
    unpacked_bytes = 0
    with TemporaryDirectory(prefix="retune-") as folder:
        for entry in receipts.unsettled(store, "landing/"):
            try:
                try:
                    events = _read(line, store, entry)
                except BadObject as error:
                    refused.append(_refuse(store, entry, error, folder, as_of))
                else:
                    unpacked_bytes += events.nbytes
                    if objects and unpacked_bytes > MAX_BATCH_MIB * MIB:
                        log.info("%s and what follows it wait for the next batch", entry.key)
                        break
                    pq.write_table(events, Path(folder, f"{len(objects)}.parquet"))
                    objects.append(receipts.ref(entry))
            except NotFound:
                log.info("%s changed or went while it was pulled and waits for the next batch", entry.key)
        if not objects:
            raise NoFeedback(_nothing(store, refused), refused=tuple(refused))
        batch_id = _identify(objects)
        rows = _stage(store, _staged(batch_id, "events"), folder)
    log.info("batch %s: %d events of %d objects, %d objects refused", batch_id, rows, len(objects), len(refused))
    return Batch(
        batch_id=batch_id,
        objects=tuple(objects),
        refused=tuple(refused),
        events_key=_staged(batch_id, "events"),
        rows=rows,
        as_of=as_of,
    )


def commit(line: Line, store: Store, checked: CheckedBatch) -> TableVersion:
    """Append the accepted rows to the table, exactly once however often and by however many this is called.

    Rows whose event the table has already are left out, and counted in the ledger. Then the objects get their receipts
    and the stage is cleared.

    Args:
        line: Declares the columns.
        store: The line's part of the store.
        checked: What the expectations let through.

    Raises:
        StoreError: The table cannot be written, or others kept on writing first.
    """
    batch = checked.batch
    done = table.append(
        store,
        batch.batch_id,
        landing.schema(line.feedback),
        lambda: parquet.unpack(store.get(checked.accepted_key).body),
    )
    ledger.append(
        store,
        ledger.Entry(
            what="committed",
            who="feedback",
            why=f"{done.rows_added} of {batch.rows} events passed the checks and were new",
            evidence={
                "batch_id": batch.batch_id,
                "version": done.version,
                "objects": len(batch.objects),
                "rows_added": done.rows_added,
                "duplicates": checked.accepted_rows - done.rows_added,
                "rows_refused": batch.rows - checked.accepted_rows,
                "rows": done.rows,
            },
            id=batch.batch_id,
        ),
    )
    refused_rows = [refusal for refusal in checked.refused if refusal.source == batch.batch_id]
    receipts.settle(store, batch.objects, "committed", batch_id=batch.batch_id, refused=refused_rows, as_of=batch.as_of)
    for key in (batch.events_key, checked.accepted_key):
        store.delete(key)
    return TableVersion(
        version=done.version,
        batch_id=batch.batch_id,
        rows_added=done.rows_added,
        rows=done.rows,
        refused=checked.refused,
        as_of=batch.as_of,
    )


def _sweep(store: Store) -> None:
    """Remove what runs that died have left on the stage."""
    for entry in store.list("staging/"):
        if datetime.now(UTC) - entry.modified > timedelta(days=STAGE_DAYS):
            store.delete(entry.key)


def _read(line: Line, store: Store, entry: Entry) -> pa.Table:
    landing.check_size(line.feedback, entry.key, entry.size_bytes)
    found = store.get(entry.key)
    if found.etag != entry.etag:
        raise NotFound(f"{entry.key} is no longer the object that was listed.", key=entry.key)
    events = landing.read(line.feedback, entry.key, found.body)
    return events.append_column(SOURCE, pa.repeat(entry.key, len(events)))


def _refuse(store: Store, entry: Entry, error: BadObject, folder: str, as_of: datetime) -> Refusal:
    ref, copy = receipts.ref(entry), Path(folder, "refused")
    kept_at = receipts.quarantine_key(receipts.mark(ref), "object", as_of)
    refusal = Refusal(source=entry.key, kept_at=kept_at, reasons=(error.reason,))
    store.fetch(entry.key, copy)
    store.upload(copy, kept_at)
    receipts.explain(store, refusal)
    receipts.settle(store, [ref], "refused", refused=[refusal], as_of=as_of)
    return refusal


def _stage(store: Store, key: str, folder: str) -> int:
    """Join the objects' events, each once, into one staged file in the order of time; return their number."""
    joined = Path(folder, "events")
    with engine() as con:
        found = con.read_parquet(f"{folder}/*.parquet")
        columns = ", ".join(f'"{name}"' for name in found.columns if name != SOURCE)
        found.aggregate(f"{columns}, min({SOURCE}) as {SOURCE}", columns).order(f"{TIME}, {EVENT}").write_parquet(
            str(joined)
        )
        rows = int(pq.read_metadata(joined).num_rows)
    store.upload(joined, key)
    return rows


def _nothing(store: Store, refused: Sequence[Refusal]) -> str:
    if not refused:
        return f"Nothing new has landed under {store.url}/landing."
    return f"Nothing that can be read has landed under {store.url}/landing: {len(refused)} went to quarantine."


def _identify(objects: Sequence[ObjectRef]) -> str:
    return hashlib.sha256("".join(sorted(receipts.mark(ref) for ref in objects)).encode()).hexdigest()[:16]


def _staged(batch_id: str, what: str) -> str:
    return f"staging/{batch_id}-{what}.parquet"
