"""Open the SQL engine behind every step that is heavier than a batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

import duckdb

MEMORY_LIMIT = "2GB"
"""What DuckDB may hold before it spills to disk."""


@contextmanager
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    """Open DuckDB in memory, in UTC, spilling to a folder of its own when `MEMORY_LIMIT` is reached."""
    with (
        TemporaryDirectory(prefix="retune-") as folder,
        duckdb.connect(config={"memory_limit": MEMORY_LIMIT, "temp_directory": folder}) as con,
    ):
        con.execute("set timezone = 'UTC'")
        yield con
