"""Hash a table by what it holds, so that no library's version or file format changes the hash."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def fingerprint(table: pa.Table | pa.RecordBatchReader) -> str:
    """Give the SHA-256 of the table's columns and rows, in their order.

    Texts count as UTF-8, integers, moments and booleans as 64-bit integers and other numbers as doubles, all little
    endian; how the rows lie in batches does not count.

    >>> in_one = pa.table({"item": ["a", None], "n": pa.array([1, 2], pa.int8())})
    >>> in_two = pa.concat_tables([in_one.slice(0, 1), in_one.slice(1)])
    >>> fingerprint(in_one) == fingerprint(in_two.set_column(1, "n", in_two["n"].cast(pa.int32())))
    True
    >>> fingerprint(in_one) == fingerprint(in_one.rename_columns(["item", "m"]))
    False
    """
    columns = [_Column(field) for field in table.schema]
    batches = table.to_batches() if isinstance(table, pa.Table) else table
    for batch in batches:
        for column, values in zip(columns, batch.columns, strict=True):
            column.add(values)
    return hashlib.sha256("\n".join(column.digest() for column in columns).encode()).hexdigest()


class _Column:
    def __init__(self, field: pa.Field) -> None:
        self._name = field.name
        self._text = pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
        self._target = pa.large_string() if self._text else _number_type(field.type)
        self._type = field.type
        self._valid, self._sizes, self._values = (hashlib.sha256() for _ in range(3))

    def add(self, values: pa.Array) -> None:
        self._valid.update(values.is_valid().to_numpy(zero_copy_only=False).astype(np.uint8).tobytes())
        if pa.types.is_timestamp(self._type):
            values = values.cast(pa.timestamp("us", tz=self._type.tz))
        if self._text:
            filled = pc.fill_null(values.cast(self._target), "")
            offsets = np.frombuffer(filled.buffers()[1], "<i8")[filled.offset : filled.offset + len(filled) + 1]
            self._sizes.update(np.diff(offsets).astype("<i8").tobytes())
            if len(filled) and offsets[-1] > offsets[0]:
                self._values.update(memoryview(filled.buffers()[2])[offsets[0] : offsets[-1]])
        else:
            numbers = values.cast(self._target).fill_null(0).to_numpy(zero_copy_only=False)
            self._values.update(numbers.astype(numbers.dtype.newbyteorder("<"), copy=False).tobytes())

    def digest(self) -> str:
        kind = "text" if self._text else str(self._target)
        return " ".join(
            [repr(self._name), kind, *(part.hexdigest() for part in (self._valid, self._sizes, self._values))]
        )


def _number_type(found: pa.DataType) -> pa.DataType:
    return pa.float64() if pa.types.is_floating(found) else pa.int64()
