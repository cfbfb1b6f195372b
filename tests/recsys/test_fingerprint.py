from datetime import UTC, datetime

import pyarrow as pa
import pytest

from recsys.fingerprint import fingerprint

TABLE = pa.table(
    {
        "text": ["a", None, "bc"],
        "number": [1.5, None, -2.0],
        "count": pa.array([1, 2, None], pa.int32()),
        "at": pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 3, pa.timestamp("us", "UTC")),
        "good": [True, False, None],
    }
)


def changed(column, values):
    return TABLE.set_column(TABLE.column_names.index(column), column, pa.array(values, TABLE.schema.field(column).type))


@pytest.mark.parametrize(
    "same",
    [
        pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1, 0), TABLE.slice(1)]),
        TABLE.set_column(0, "text", TABLE["text"].cast(pa.large_string())),
        TABLE.set_column(2, "count", TABLE["count"].cast(pa.int64())),
        TABLE.set_column(3, "at", TABLE["at"].cast(pa.timestamp("ms", "UTC"))),
        pa.RecordBatchReader.from_batches(TABLE.schema, TABLE.to_batches(max_chunksize=2)),
    ],
    ids=["chunks", "large texts", "wider integers", "milliseconds", "stream"],
)
def test_the_same_content_has_the_same_fingerprint_however_it_is_laid_out(same):
    assert fingerprint(same) == fingerprint(TABLE)


@pytest.mark.parametrize(
    "other",
    [
        TABLE.slice(0, 2),
        TABLE.take([1, 0, 2]),
        TABLE.rename_columns(["text", "number", "count", "at", "well"]),
        TABLE.select(["number", "text", "count", "at", "good"]),
        changed("text", ["a", "", "bc"]),
        changed("text", ["ab", None, "c"]),
        changed("number", [1.5, 0.0, -2.0]),
        changed("count", [1, None, 2]),
        changed("good", [True, False, False]),
        TABLE.set_column(0, "text", pa.array([1, None, 2])),
    ],
    ids=range(10),
)
def test_other_content_has_another(other):
    assert fingerprint(other) != fingerprint(TABLE)


def test_the_fingerprint_is_this_number_on_every_machine_and_version():
    """A change of this number makes every dataset a new one: raise `recsys.dataset.FORMAT` instead."""
    assert fingerprint(TABLE) == "fe4617bddce1c1e77ae15e530139a92f72f44f5845082b53d2c50358faa9e215"
