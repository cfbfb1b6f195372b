"""Take what has landed into the feedback table: every event once, every object accounted for.

A receipt says what became of one version of one object, and is written last. Whatever dies before, the next run begins
with the same objects again: rows that are in the table already are dropped there by their event ids.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from recsys import landing, ledger
from recsys.columns import EVENT, TIME
from recsys.engine import engine
from recsys.errors import BadObject, Conflict, NoFeedback, NotFound, StoreError
from recsys.records import Batch, CheckedBatch, ObjectRef, Refusal, TableVersion, dump, load
from recsys.settings import Line
from recsys.store import Entry, Store

log = logging.getLogger(__name__)

SOURCE = "_source"
"""Column of staged and quarantined rows: the key of the object that brought the event."""

TABLE = "feedback"

MAX_BATCH_MIB = 1024
"""Objects beyond this wait for the next batch, so that a batch fits into memory however much has landed."""


STAGE_DAYS = 7
"""Staged rows older than this belong to nobody."""

ATTEMPTS = 20
"""How often a commit begins anew because another was first."""

_BATCH_ID, _ROWS_ADDED = "retune.batch_id", "retune.rows_added"  # in the commit's own metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of one version of one landed object."""

    object: ObjectRef
    outcome: str  # committed or refused
    batch_id: str  # empty where the object could not be read
    refused: tuple[Refusal, ...]  # the object itself, or rows of its batch
    as_of: datetime


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
    with TemporaryDirectory(prefix="retune-") as folder:
        for entry in _new(store):
            try:
                try:
                    events = _read(line, store, entry)
                except BadObject as error:
                    refused.append(_refuse(store, entry, error, folder, as_of))
                else:
                    pq.write_table(events, Path(folder, f"{len(objects)}.parquet"))
                    objects.append(_ref(entry))
            except NotFound:
                log.info("%s changed or went while it was pulled and waits for the next batch", entry.key)
        if not objects:
            raise NoFeedback(
                f"There must be a new object that can be read under {store.url}/landing, but there is none"
                + (f": {len(refused)} went to quarantine." if refused else "."),
                refused=tuple(refused),
            )
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

    The batch's id stands in the same Delta commit as its rows. Rows whose event the table has already are left out:
    commits follow each other one at a time, each looking at all that the one before it left.

    Args:
        line: Declares the columns.
        store: The line's part of the store.
        checked: What the expectations let through.

    Raises:
        StoreError: The table cannot be written, or others kept on writing first.
    """
    batch = checked.batch
    with _translated(store):
        version = _append(line, store, checked)
    ledger.append(
        store,
        ledger.Entry(
            what="committed",
            who="feedback",
            why=f"{version.rows_added} of {batch.rows} events passed the checks and were new",
            evidence={
                "batch_id": batch.batch_id,
                "version": version.version,
                "objects": len(batch.objects),
                "rows_added": version.rows_added,
                "duplicates": checked.accepted_rows - version.rows_added,
                "rows_refused": batch.rows - checked.accepted_rows,
                "rows": version.rows,
            },
            id=batch.batch_id,
        ),
    )
    account(store, batch, "committed", refused=[r for r in checked.refused if r.source == batch.batch_id])
    for key in (batch.events_key, checked.accepted_key):
        store.delete(key)
    return version


def events(store: Store, version: int | None = None) -> ds.Dataset | None:
    """Open the table's rows at `version`, or as they are now; None where nothing was ever committed.

    Raises:
        StoreError: The table cannot be read.
    """
    with _translated(store):
        table = _open(store, version)
        return table.to_pyarrow_dataset() if table else None


def receipt(store: Store, ref: ObjectRef) -> Receipt | None:
    """Say what became of one version of a landed object; None while nothing is settled."""
    try:
        return load(Receipt, json.loads(store.get(_receipt_key(ref)).body))
    except NotFound:
        return None


def receipts(store: Store) -> tuple[Receipt, ...]:
    """List what became of every landed object, in the order of their keys."""
    found = [load(Receipt, json.loads(store.get(entry.key).body)) for entry in store.list("receipts/")]
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


def quarantine(store: Store, refusal: Refusal) -> None:
    """Write the reasons beside the refused bytes; a receipt must follow, for only that makes the refusal final."""
    folder = refusal.kept_at.rpartition("/")[0]
    store.put(f"{folder}/reasons.json", json.dumps(dump(refusal), indent=1).encode())
    why = "; ".join(refusal.reasons)
    ledger.append(
        store,
        ledger.Entry(
            what="refused",
            who="feedback",
            why=why,
            evidence=dump(refusal),
            id=folder.rpartition("/")[2],
        ),
    )


def account(store: Store, batch: Batch, outcome: str, *, refused: Sequence[Refusal]) -> None:
    """Write the receipts of a batch's objects; where there is one, the first stays.

    Args:
        store: The line's part of the store.
        batch: Its readable objects get the receipts.
        outcome: committed or refused.
        refused: Rows of the batch in quarantine.
    """
    for ref in batch.objects:
        _receipt(store, ref, outcome, batch.batch_id, refused, batch.as_of)


# --- pull


def _sweep(store: Store) -> None:
    """Remove what runs that died have left on the stage."""
    for entry in store.list("staging/"):
        if datetime.now(UTC) - entry.modified > timedelta(days=STAGE_DAYS):
            store.delete(entry.key)


def _new(store: Store) -> Iterator[Entry]:
    """List objects without a receipt by key, as many as make a batch."""
    known = {entry.key for entry in store.list("receipts/")}
    size_bytes = 0
    for entry in store.list("landing/"):
        if _receipt_key(_ref(entry)) in known:
            continue
        size_bytes += entry.size_bytes
        if size_bytes > MAX_BATCH_MIB * landing.MIB and size_bytes > entry.size_bytes:
            log.info("%s and what follows it wait for the next batch", entry.key)
            return
        yield entry


def _read(line: Line, store: Store, entry: Entry) -> pa.Table:
    landing.check_size(line.feedback, entry.key, entry.size_bytes)
    found = store.get(entry.key)
    if found.etag != entry.etag:
        raise NotFound(f"{entry.key} is no longer the object that was listed.", key=entry.key)
    table = landing.read(line.feedback, entry.key, found.body)
    return table.append_column(SOURCE, pa.array([entry.key]).dictionary_encode().take(pa.array([0] * len(table))))


def _refuse(store: Store, entry: Entry, error: BadObject, folder: str, as_of: datetime) -> Refusal:
    ref, copy = _ref(entry), Path(folder, "refused")
    refusal = Refusal(
        source=entry.key, kept_at=quarantine_key(_mark(ref), "object", as_of), reasons=(error.reason,), rows=0
    )
    store.fetch(entry.key, copy)
    store.upload(copy, refusal.kept_at)
    quarantine(store, refusal)
    _receipt(store, ref, "refused", "", [refusal], as_of)
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


def _identify(objects: Sequence[ObjectRef]) -> str:
    return hashlib.sha256("".join(sorted(_mark(ref) for ref in objects)).encode()).hexdigest()[:16]


def _staged(batch_id: str, what: str) -> str:
    return f"staging/{batch_id}-{what}.parquet"


# --- receipts


def _receipt(
    store: Store, ref: ObjectRef, outcome: str, batch_id: str, refused: Sequence[Refusal], as_of: datetime
) -> None:
    settled = Receipt(object=ref, outcome=outcome, batch_id=batch_id, refused=tuple(refused), as_of=as_of)
    with suppress(Conflict):
        store.create(_receipt_key(ref), json.dumps(dump(settled), indent=1).encode())


def _receipt_key(ref: ObjectRef) -> str:
    return f"receipts/{_mark(ref)}.json"


def _mark(ref: ObjectRef) -> str:
    """Name one version of one object."""
    return hashlib.sha256(f"{ref.key}|{ref.etag}".encode()).hexdigest()


def _ref(entry: Entry) -> ObjectRef:
    return ObjectRef(key=entry.key, etag=entry.etag, size_bytes=entry.size_bytes)


# --- the table


def _append(line: Line, store: Store, checked: CheckedBatch) -> TableVersion:
    for _ in range(ATTEMPTS):
        table = _open(store) or _create(line, store)
        done = _find(table, checked)
        if done:
            return done
        try:
            accepted = pq.read_table(BytesIO(store.get(checked.accepted_key).body))
        except NotFound:  # a commit of the same batch beside this one has just ended, or there is nothing to commit
            done = _find(_open(store) or table, checked)
            if done:
                return done
            raise
        with engine() as con:
            con.register("accepted", accepted)
            con.register("known", table.to_pyarrow_dataset())
            fresh = con.sql("from accepted anti join known using (event_id)").to_arrow_table()
        with suppress(CommitFailedError):  # somebody else's commit came first, perhaps with some of these events
            write_deltalake(
                table,
                fresh.select(landing.schema(line.feedback).names).cast(landing.schema(line.feedback)),
                mode="append",
                schema_mode="merge",  # a line may declare further columns later
                commit_properties=CommitProperties(
                    custom_metadata={_BATCH_ID: checked.batch.batch_id, _ROWS_ADDED: str(len(fresh))},
                    max_commit_retries=0,
                    app_transactions=[Transaction(checked.batch.batch_id, 1)],
                ),
            )
            return _version(checked, table.version(), len(fresh), table.count())
    raise StoreError(f"{store.url}/{TABLE} was written by others first {ATTEMPTS} times.", key=TABLE)


def _find(table: DeltaTable, checked: CheckedBatch) -> TableVersion | None:
    """Give the version that the batch was committed as, if it was."""
    if table.transaction_version(checked.batch.batch_id) is None:
        return None
    for commit in table.history():
        if commit.get(_BATCH_ID) == checked.batch.batch_id:
            then = DeltaTable(table.table_uri, version=commit["version"], storage_options=table._storage_options)
            return _version(checked, commit["version"], int(commit[_ROWS_ADDED]), then.count())
    log.warning("batch %s is in the table, but the log that says since when has gone", checked.batch.batch_id)
    return _version(checked, table.version(), 0, table.count())


def _version(checked: CheckedBatch, version: int, rows_added: int, rows: int) -> TableVersion:
    return TableVersion(
        version=version,
        batch_id=checked.batch.batch_id,
        rows_added=rows_added,
        rows=rows,
        refused=checked.refused,
        as_of=checked.batch.as_of,
    )


def _open(store: Store, version: int | None = None) -> DeltaTable | None:
    at = store.table(TABLE)
    try:
        return DeltaTable(at.uri, version=version, storage_options=dict(at.options))
    except TableNotFoundError:
        return None


def _create(line: Line, store: Store) -> DeltaTable:
    # Without partitions: batches follow each other in time, so each file's statistics narrow a read by time as well.
    at = store.table(TABLE)
    with suppress(CommitFailedError):  # somebody else created it
        return DeltaTable.create(
            at.uri, schema=landing.schema(line.feedback), mode="ignore", storage_options=dict(at.options)
        )
    return DeltaTable(at.uri, storage_options=dict(at.options))


@contextmanager
def _translated(store: Store) -> Iterator[None]:
    """Say of what `deltalake` met that it was the store's table."""
    try:
        yield
    except (DeltaError, OSError) as error:
        raise StoreError(f"{store.url}/{TABLE} could not be read or written: {error}", key=TABLE) from error
