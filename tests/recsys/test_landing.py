import gzip
import io
import json
from contextlib import suppress
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import BadObject
from recsys.landing import read, schema
from recsys.settings import Feedback

FEEDBACK = Feedback.model_validate(
    {
        "max_object_mib": 1,
        "columns": {
            "rating": {"role": "label", "type": "number"},
            "age": {"role": "context", "type": "integer", "nullable": True},
            "genre": {"role": "context", "type": "category", "nullable": True},
        },
    }
)
WHEN = datetime(1997, 9, 20, 3, 5, 10, tzinfo=UTC)
EVENT = {"event_id": "e1", "user_id": "u1", "item_id": "i1", "timestamp": "1997-09-20T03:05:10Z", "rating": 3.5}
ROW = EVENT | {"timestamp": WHEN, "release_id": None, "age": None, "genre": None}


def lines(*events):
    return "\n".join(json.dumps(event) for event in events).encode()


def parquet(table, **options):
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def table(**changes):
    columns = {
        "event_id": ["e1", "e2"],
        "user_id": ["u1", "u1"],
        "item_id": ["i1", "i2"],
        "timestamp": pa.array([WHEN, WHEN], pa.timestamp("us", "UTC")),
        "rating": [3.5, 4.0],
    }
    return pa.table({name: values for name, values in (columns | changes).items() if values is not None})


def reason(key, body):
    with pytest.raises(BadObject) as caught:
        read(FEEDBACK, key, body)
    assert caught.value.key == key
    assert str(caught.value) == f"{key}: {caught.value.reason}."
    return caught.value.reason


@pytest.mark.parametrize(
    ("key", "body"),
    [
        ("landing/a.jsonl", lines(EVENT)),
        ("landing/a.jsonl", lines(EVENT).replace(b"}", b"}\r\n\r\n")),
        ("landing/a.jsonl.gz", gzip.compress(lines(EVENT), mtime=0)),
        ("landing/a.parquet", parquet(table().slice(0, 1))),
    ],
)
def test_the_same_event_reads_the_same_in_every_format(key, body):
    found = read(FEEDBACK, key, body)
    assert found.schema == schema(FEEDBACK)
    assert found.to_pylist() == [ROW]


@pytest.mark.parametrize(
    ("column", "given", "read_as"),
    [
        ("item_id", 50, "50"),
        ("rating", 4, 4.0),
        ("rating", "4.5", 4.5),
        ("rating", True, 1.0),
        ("age", 30.0, 30),
        ("age", "30", 30),
        ("genre", 7, "7"),
        ("genre", "2020-01-01", "2020-01-01"),
        ("timestamp", "1997-09-20 05:05:10+02:00", WHEN),
        ("timestamp", "1997-09-20T03:05:10.250000Z", WHEN.replace(microsecond=250_000)),
        ("timestamp", "1997-09-20T03:05:10.123456789Z", WHEN.replace(microsecond=123_456)),
        ("timestamp", "1997-09-20T03:05:10.999999999+00:00", WHEN.replace(microsecond=999_999)),
        ("timestamp", "1997-09-20t03:05:10.25z", WHEN.replace(microsecond=250_000)),
        ("timestamp", 874724710, WHEN),
        ("timestamp", 874724710.25, WHEN.replace(microsecond=250_000)),
    ],
)
def test_values_are_cast_where_nothing_is_lost(column, given, read_as):
    [row] = read(FEEDBACK, "landing/a.jsonl", lines(EVENT | {column: given})).to_pylist()
    assert row == ROW | {column: read_as}


def test_a_value_that_is_missing_from_some_events_is_null():
    first, second = read(FEEDBACK, "a.jsonl", lines(EVENT, {"event_id": "e2", "age": 3})).to_pylist()
    assert first == ROW
    assert second == dict.fromkeys(ROW) | {"event_id": "e2", "age": 3}


def test_parquet_keeps_texts_in_dictionaries_moments_of_other_zones_and_no_nans():
    odd = table(
        user_id=pa.array(["u1", None]).dictionary_encode(),
        timestamp=pa.array([WHEN, WHEN], pa.timestamp("ns", "Europe/Lisbon")),
        rating=[3.5, float("nan")],
    )
    first, second = read(FEEDBACK, "a.parquet", parquet(odd)).to_pylist()
    assert first == ROW
    assert second == ROW | {"event_id": "e2", "item_id": "i2", "user_id": None, "rating": None}


PACKED = gzip.compress(lines(*[EVENT | {"event_id": str(n)} for n in range(1000)]), mtime=0)
DEEP = b'{"event_id": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize(
    ("key", "body", "because"),
    [
        ("a.csv", b"event_id", "its name must end with one of .jsonl, .jsonl.gz, .parquet"),
        # size
        ("a.jsonl", b"", "it must hold events, but holds none"),
        ("a.jsonl", b"\n\n", "it must hold events, but holds none"),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0), "it must hold events, but holds none"),
        ("a.parquet", parquet(table().slice(0, 0)), "it must hold events, but holds none"),
        ("a.jsonl", b" " * (1 << 20) + b"x", "it must not be larger than feedback.max_object_mib = 1"),
        (
            "a.jsonl.gz",
            gzip.compress(b" " * (64 << 20), mtime=0),
            "what it unpacks to must not be larger than feedback.max_object_mib = 1",
        ),
        (
            "a.parquet",
            parquet(table(genre=pa.array(["x" * 600_000] * 2)), compression="zstd"),
            "what it unpacks to must not be larger than feedback.max_object_mib = 1",
        ),
        # gzip
        ("a.jsonl.gz", lines(EVENT), "it must be gzip, but Not a gzipped file"),
        ("a.jsonl.gz", PACKED[:-9], "it must be gzip, but Compressed file ended before"),
        ("a.jsonl.gz", PACKED[:200] + b"\0\0\0" + PACKED[203:], "it must be gzip, but Error -3"),
        ("a.jsonl.gz", PACKED[:-8] + b"\0" * 8, "it must be gzip, but CRC check failed"),
        # JSON
        ("a.jsonl", lines(EVENT, EVENT)[:-1], "it must be JSON, one object a line, but line 2 is not: "),
        (
            "a.jsonl",
            b"\xef\xbb\xbf" + lines(EVENT),
            "it must be JSON, one object a line, but line 1 begins with a byte order mark",
        ),
        (
            "a.jsonl",
            lines(EVENT) + b"\n" + lines(EVENT).replace(b"i1", b"\\ud800"),
            "it must be JSON, one object a line, but item_id in line 2 is no text of Unicode: it has one half of a "
            "surrogate pair",
        ),
        ("a.jsonl", lines(EVENT).replace(b"u1", b"\xff"), "it must be JSON, one object a line, but line 1 is not"),
        ("a.jsonl", lines(EVENT) + b" " + lines(EVENT), "it must be JSON, one object a line, but line 1 is not"),
        ("a.jsonl", b"null", "every line must be a JSON object, but one is null"),
        ("a.jsonl", lines(EVENT) + b"\n17", "every line must be a JSON object, but one is a number"),
        ("a.jsonl", b'["e1"]', "every line must be a JSON object, but one is an array"),
        ("a.jsonl", DEEP, "event_id must have values of one type, but some are an array"),
        (
            "a.jsonl",
            lines(EVENT).replace(b"}", b', "rating": 5}'),
            "no name may stand twice in an event, but one has the names event_id, user_id, item_id, timestamp, rating, "
            "rating",
        ),
        # Parquet
        ("a.parquet", b"PAR1", "it must be Parquet, but Parquet file size is 4 bytes"),
        ("a.parquet", parquet(table())[:-20], "it must be Parquet, but Parquet magic bytes not found in footer"),
        ("a.parquet", b"PAR1" + b"\0" * 200 + b"\x20\0\0\0PAR1", "it must be Parquet, but "),
        (
            "a.parquet",
            parquet(table()).replace(b"rating", b"r\xffting"),
            "it must hold what its name claims, but 'utf-8' codec can't decode byte 0xff",
        ),
        # columns
        ("a.jsonl", lines(EVENT | {"price": 1}), "every column must be declared in feedback.columns, but price is not"),
        (
            "a.parquet",
            parquet(table(price=[1, 2])),
            "every column must be declared in feedback.columns, but price is not",
        ),
        (
            "a.jsonl",
            lines({name: value for name, value in EVENT.items() if name != "user_id"}),
            "user_id must be given, but is missing from every event",
        ),
        ("a.parquet", parquet(table(rating=None)), "rating must be given, but is missing from every event"),
        (
            "a.parquet",
            parquet(table().append_column("rating", pa.array([1.0, 2.0]))),
            "no column may stand twice, but rating does",
        ),
        # types
        ("a.jsonl", lines(EVENT | {"rating": "good"}), "rating must be a number, but one is 'good'"),
        ("a.jsonl", lines(EVENT | {"age": 2.5}), "age must be an integer, but one is 2.5, which is not whole"),
        ("a.jsonl", lines(EVENT | {"age": 1 << 63}), "every whole number must fit into 64 bits, but Conversion Error"),
        ("a.jsonl", lines(EVENT | {"user_id": 2.5}), "user_id must be a text, but is of type double"),
        (
            "a.jsonl",
            lines(EVENT, EVENT | {"rating": "5"}),
            "rating must have values of one type, but some are a number and a text",
        ),
        (
            "a.jsonl",
            lines(EVENT | {"timestamp": "1997-09-20T03:05:10"}),
            "timestamp must be a moment with its zone, or seconds since 1970, but one is '1997-09-20T03:05:10', "
            "which has no zone",
        ),
        (
            "a.jsonl",
            lines(EVENT | {"timestamp": 874724710_000}),
            "timestamp must be a moment with its zone, or seconds since 1970, but one is 874724710000, which lies "
            "outside the years 1 to 9999, as milliseconds taken for seconds do",
        ),
        (
            "a.jsonl",
            lines(EVENT, EVENT, EVENT | {"timestamp": 1e40}, EVENT).replace(b'"1997-09-20T03:05:10Z"', b"0"),
            "timestamp must be a moment with its zone, or seconds since 1970, but one is 1e+40, which lies outside",
        ),
        (
            "a.jsonl",
            lines(EVENT, EVENT | {"timestamp": "0000-00-00T00:00:00Z"}),
            "timestamp must be a moment with its zone, or seconds since 1970, but one is '0000-00-00T00:00:00Z'",
        ),
        ("a.jsonl", lines(EVENT | {"age": 1e40}), "age must be an integer, but one is 1e+40, which is not whole, or"),
        ("a.jsonl", lines(EVENT | {"rating": float("nan")}), "rating must be given, but is NaN or missing in every"),
        (
            "a.parquet",
            parquet(table(rating=[[1], [2]])),
            "rating must be a number, but is of type list<element: int64>",
        ),
        (
            "a.parquet",
            parquet(table(timestamp=pa.array([1 << 62] * 2, pa.timestamp("ms", "UTC")))),
            "timestamp must be a moment with its zone, or seconds since 1970, but one is ",
        ),
        (
            "a.parquet",
            parquet(table(timestamp=pa.array([WHEN.replace(tzinfo=None)] * 2, pa.timestamp("us")))),
            "timestamp must be a moment with its zone, or seconds since 1970, but is of type timestamp[us]",
        ),
    ],
)
def test_what_cannot_be_read_says_why(key, body, because):
    found = reason(key, body)
    assert found.startswith(because)
    assert "/tmp" not in found


def test_the_number_of_a_broken_line_is_the_one_that_an_editor_shows():
    body = lines(EVENT, EVENT) + b'\n{"event_id": oops}\n' + lines(EVENT)
    assert reason("a.jsonl", body).endswith("line 3 is not: Expecting value at character 14")


SOUND = {
    "a.jsonl": lines(EVENT, EVENT | {"event_id": "e2"}),
    "a.jsonl.gz": gzip.compress(lines(EVENT), mtime=0),
    "a.parquet": parquet(table(genre=pa.array(["x", "y"]).dictionary_encode())),
}


@st.composite
def spoilt(draw):
    """Bytes that were once an object: a few of them replaced, and perhaps its end cut off."""
    key = draw(st.sampled_from(sorted(SOUND)))
    body = bytearray(SOUND[key])
    for _ in range(draw(st.integers(1, 4))):
        body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    return key, bytes(body[: draw(st.integers(len(body) // 2, len(body)))] if draw(st.booleans()) else body)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.one_of(spoilt(), st.tuples(st.sampled_from(sorted(SOUND)), st.binary(max_size=200))))
def test_any_bytes_are_events_or_a_bad_object(found):
    key, body = found
    with suppress(BadObject):
        events = read(FEEDBACK, key, body)
        assert events.schema == schema(FEEDBACK)
        events.validate(full=True)
