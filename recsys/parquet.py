"""Turn a table into the bytes of a Parquet file, and back."""

import pyarrow as pa
import pyarrow.parquet as pq


def pack(table: pa.Table) -> bytes:
    """Give the bytes of a Parquet file that holds `table`.

    >>> unpack(pack(pa.table({"item": [1, 2]}))).to_pydict()
    {'item': [1, 2]}
    """
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


def unpack(body: bytes) -> pa.Table:
    """Read the table that the bytes of a Parquet file hold."""
    return pq.read_table(pa.BufferReader(body))
