"""Read the files of a dataset and lay their interactions out as sequences."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from recsys import parquet
from recsys.errors import BadObject
from recsys.records import Dataset
from recsys.sequences import Cases, Sequences
from recsys.store import Store

LOCKED = "holdout/"
"""Where in a dataset the files lie that no search may read."""


def key(dataset_id: str, name: str) -> str:
    """Say where the file `name` of a dataset lies in the line's part of the store."""
    return f"datasets/{dataset_id}/{name}"


def read(store: Store, dataset: Dataset, name: str) -> pa.Table:
    """Read one Parquet file of `dataset` that a search may see.

    Raises:
        ValueError: It belongs to the locked holdout, which `recsys.holdout` reads.
        NotFound: It is gone.
        BadObject: It is not the file that was frozen.
    """
    if name.startswith(LOCKED):
        raise ValueError(f"name must not lie under {LOCKED}, which is locked, but got {name!r}.")
    return verify(dataset, name, store.get(key(dataset.dataset_id, name)).body)


def verify(dataset: Dataset, name: str, body: bytes) -> pa.Table:
    """Give the table in `body`, if these are the bytes of the file that was frozen.

    Raises:
        BadObject: They are not.
    """
    found = hashlib.sha256(body).hexdigest()
    if found != dataset.files[name]:
        at, reason = key(dataset.dataset_id, name), f"its SHA-256 must be {dataset.files[name]}, but is {found}"
        raise BadObject(f"{at} is not the file that was frozen: {reason}.", key=at, reason=reason)
    return parquet.unpack(body)


def join(tables: Sequence[pa.Table], *, n_items: int) -> Sequences:
    """Lay tables of `user`, `item` and `time` out as sequences.

    Args:
        tables: Each ordered by user and then time, and each later in time than the one before it.
        n_items: N, so that ids run 1..N.
    """
    users, items, times = (
        np.concatenate([table[name].to_numpy() for table in tables]) for name in ("user", "item", "time")
    )
    order = np.argsort(users, kind="stable")  # two or three sorted runs, which a stable sort merges
    n_users = int(users.max()) + 1 if len(users) else 0
    offsets = np.searchsorted(users[order], np.arange(n_users + 1))
    return Sequences(items=items[order], times=times[order], offsets=offsets, n_items=n_items)


def until(sequences: Sequences, end: int | None, n_items: int) -> Sequences:
    """Keep what happened before `end`, and of the items the first `n_items`; the others become 0.

    Users are numbered by their first event, so those who come later are the last ones, and are left out.

    Args:
        sequences: Times never decrease within a user.
        end: Microseconds since 1970; None keeps all.
        n_items: How many items are known.
    """
    kept = sequences.times < end if end is not None else np.ones(sequences.n_events, bool)
    before = np.concatenate([[0], np.cumsum(kept)])[sequences.offsets]
    n_users = int(np.searchsorted(before, before[-1], side="left"))
    items = sequences.items[kept]
    return Sequences(
        items=np.where(items <= n_items, items, 0).astype(np.int32),
        times=sequences.times[kept],
        offsets=before[: n_users + 1],
        n_items=n_items,
    )


def cases(sequences: Sequences, begin: int, end: int | None, n_items: int) -> Cases:
    """Ask for every item that was taken from `begin` until `end`, given all that its user did before.

    Args:
        sequences: What happened, later parts included or not.
        begin: Microseconds since 1970.
        end: Microseconds since 1970, exclusive; None goes to the end.
        n_items: How many items are known; the others are 0 as targets and in histories.
    """
    seen = until(sequences, end, n_items)
    return Cases(sequences=seen, positions=np.flatnonzero(seen.times >= begin))
