"""Sum up window by window what became of what each release served."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys import table
from recsys.columns import RELEASE, TIME, USER
from recsys.engine import engine
from recsys.settings import WatchedValue
from recsys.store import Store

Floats = NDArray[np.float64]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Windows:
    """Means of a value in the windows of one release, oldest first.

    A user's events are alike, so users and not events count as independent: the variance of a mean is that of a ratio
    of the users' sums.
    """

    numbers: NDArray[np.int64]  # [K] of the windows, counted from 1970
    events: NDArray[np.int64]  # [K]
    means: Floats  # [K]
    variances: Floats  # [K] of the means, above 0

    def at(self, which: NDArray[np.bool_] | NDArray[np.int64] | slice) -> "Windows":
        """Give some of them."""
        return Windows(self.numbers[which], self.events[which], self.means[which], self.variances[which])


def number(at: datetime, width: timedelta) -> int:
    """Give the number of the window in which an instant lies."""
    return (at - _EPOCH) // width


def begin(window: int, width: timedelta) -> datetime:
    """Give the instant at which a window begins."""
    return _EPOCH + window * width


def newest(store: Store) -> datetime | None:
    """Give the time of the newest event that names its release; None where there is none.

    Raises:
        StoreError: The feedback table cannot be read.
    """
    rows = table.events(store)
    if rows is None or RELEASE not in rows.schema.names:
        return None
    scanner = rows.scanner(columns={"happened": pc.field(TIME)}, filter=pc.field(RELEASE).is_valid())
    with engine() as con:
        con.register("events", scanner)
        [[found]] = con.sql("select max(happened) from events").fetchall()
    return found if isinstance(found, datetime) else None


def read(
    store: Store,
    value: WatchedValue,
    releases: Sequence[str],
    *,
    width: timedelta,
    since: int,
    until: int,
    min_events: int,
) -> dict[str, Windows]:
    """Read the windows of releases from the feedback table.

    Args:
        store: The line's part of the store.
        value: What is averaged. Events without it do not count, as a label that is not due yet.
        releases: Whose; events name the release that served them.
        width: How long a window is.
        since: Number of the first window.
        until: Number of the first one that is not read.
        min_events: A window with fewer is left out, and so is one in which all users are alike.

    Returns:
        The windows of each release, which may be none.

    Raises:
        StoreError: The feedback table cannot be read.
    """
    rows = table.events(store)
    if rows is None or value.column not in rows.schema.names:
        return {release: _windows(None, release, min_events) for release in releases}
    y = pc.field(value.column).cast(pa.float64())
    if value.predicted is not None:
        y = pc.power(y - pc.field(value.predicted).cast(pa.float64()), 2.0)
    at = pc.field(TIME)
    scanner = rows.scanner(
        columns={"happened": at, "release": pc.field(RELEASE), "who": pc.field(USER), "y": y},
        filter=pc.field(RELEASE).isin(releases) & (at >= begin(since, width)) & (at < begin(until, width)),
    )
    with engine() as con:
        con.register("events", scanner)
        found = con.sql(_SUMMED, params=[width // timedelta(microseconds=1)]).to_arrow_table()
    return {release: _windows(found, release, min_events) for release in releases}


def _windows(found: pa.Table | None, release: str, min_events: int) -> Windows:
    rows = [] if found is None else [row for row in found.to_pylist() if row["release"] == release]
    columns = {name: np.array([row[name] for row in rows], np.float64) for name in _SUMS}
    n, users = columns["n"], columns["users"]
    means = columns["y"] / np.maximum(n, 1)
    squares = columns["yy"] - 2 * means * columns["ny"] + means**2 * columns["nn"]  # of users' sums less the mean's
    variances = squares / np.maximum(n, 1) ** 2 * users / np.maximum(users - 1, 1)
    told = (n >= min_events) & (users > 1) & (variances > 0)
    every = Windows(columns["number"].astype(np.int64), n.astype(np.int64), means, variances)
    return every.at(told)


_SUMS = ("number", "users", "n", "y", "nn", "ny", "yy")

_SUMMED = """
    with users as (
        select epoch_us(happened) // ? as number, release, who, count(*)::double as n, sum(y) as y
        from events where y is not null group by all
    )
    select number, release, count(*) as users, sum(n) as n, sum(y) as y,
           sum(n * n) as nn, sum(n * y) as ny, sum(y * y) as yy
    from users group by all order by number
"""
