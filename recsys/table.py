"""Keep events in the feedback table, a Delta table to which every batch is appended once, and every event once."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from recsys.engine import engine
from recsys.errors import NotFound, StoreError
from recsys.store import Store

log = logging.getLogger(__name__)

TABLE = "feedback"

ATTEMPTS = 20
"""How often an append begins anew because another was first."""

_BATCH_ID, _ROWS_ADDED = "retune.batch_id", "retune.rows_added"  # in the commit's own metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """What one batch made of the table."""

    version: int
    rows_added: int
    rows: int  # in the whole table at that version


def append(store: Store, batch_id: str, schema: pa.Schema, accepted: Callable[[], pa.Table]) -> Appended:
    """Append the rows whose events the table does not have yet; for a batch that is there, say when it came.

    The batch's id stands in the same Delta commit as its rows. Appends follow each other one at a time, each looking at
    all that the one before it left.

    Args:
        store: The line's part of the store.
        batch_id: Names the batch for ever.
        schema: Columns and types of the rows; columns that the table does not have yet are added to it.
        accepted: Reads the rows, each event once.

    Raises:
        NotFound: `accepted` raised it, and the batch is not in the table.
        StoreError: The table cannot be written, or others kept on writing first.
    """
    with _translated(store):
        for _ in range(ATTEMPTS):
            table = _open(store) or _create(store, schema)
            done = _find(table, batch_id)
            if done:
                return done
            try:
                rows = accepted()
            except NotFound:  # another append of the same batch may just have ended, its stage cleared
                done = _find(_open(store) or table, batch_id)
                if done:
                    return done
                raise
            fresh = _fresh(table, rows)
            with suppress(CommitFailedError):  # somebody else's commit came first, perhaps with some of these events
                write_deltalake(
                    table,
                    fresh.select(schema.names).cast(schema),
                    mode="append",
                    schema_mode="merge",
                    commit_properties=CommitProperties(
                        custom_metadata={_BATCH_ID: batch_id, _ROWS_ADDED: str(len(fresh))},
                        max_commit_retries=0,
                        app_transactions=[Transaction(batch_id, 1)],
                    ),
                )
                return Appended(version=table.version(), rows_added=len(fresh), rows=table.count())
    raise StoreError(f"{store.url}/{TABLE} was written by others first {ATTEMPTS} times.", key=TABLE)


def events(store: Store, version: int | None = None) -> ds.Dataset | None:
    """Open the table's rows at `version`, or as they are now; None where nothing was ever appended.

    Raises:
        StoreError: The table cannot be read.
    """
    with _translated(store):
        table = _open(store, version)
        return table.to_pyarrow_dataset() if table else None


def _fresh(table: DeltaTable, rows: pa.Table) -> pa.Table:
    with engine() as con:
        con.register("accepted", rows)
        con.register("known", table.to_pyarrow_dataset())
        return con.sql("from accepted anti join known using (event_id)").to_arrow_table()


def _find(table: DeltaTable, batch_id: str) -> Appended | None:
    """Say when the batch was appended, if it was."""
    if table.transaction_version(batch_id) is None:
        return None
    for commit in table.history():
        if commit.get(_BATCH_ID) == batch_id:
            table.load_as_version(commit["version"])
            return Appended(version=commit["version"], rows_added=int(commit[_ROWS_ADDED]), rows=table.count())
    log.warning("batch %s is in the table, but the log that says since when has gone", batch_id)
    return Appended(version=table.version(), rows_added=0, rows=table.count())


def _open(store: Store, version: int | None = None) -> DeltaTable | None:
    at = store.table(TABLE)
    try:
        return DeltaTable(at.uri, version=version, storage_options=dict(at.options))
    except TableNotFoundError:
        return None


def _create(store: Store, schema: pa.Schema) -> DeltaTable:
    # Without partitions: batches follow each other in time, so each file's statistics narrow a read by time as well.
    at = store.table(TABLE)
    with suppress(CommitFailedError):  # somebody else created it
        return DeltaTable.create(at.uri, schema=schema, mode="ignore", storage_options=dict(at.options))
    return DeltaTable(at.uri, storage_options=dict(at.options))


@contextmanager
def _translated(store: Store) -> Iterator[None]:
    """Say of what `deltalake` met that it was the store's table."""
    try:
        yield
    except (DeltaError, OSError) as error:
        raise StoreError(f"{store.url}/{TABLE} could not be read or written: {error}", key=TABLE) from error
