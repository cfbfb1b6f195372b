"""Read one landed object as events, or say why it cannot be read.

An object is JSON Lines (`.jsonl`), the same under gzip (`.jsonl.gz`), or Parquet (`.parquet`). It is read whole or not
at all: what a single row may break without harm to the others is for the expectations to judge.
A moment is an ISO 8601 text with its zone, `1997-09-20T03:05:10Z`, or a number of seconds since 1970; of a text, digits
after the sixth of a second's fraction are cut off.
"""

import gzip
import json
import re
import zlib
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys.columns import EVENT, ITEM, KEYS, RELEASE, TIME, USER
from recsys.engine import engine
from recsys.errors import BadObject
from recsys.records import MIB
from recsys.settings import Feedback

_TIME_TYPE = pa.timestamp("us", "UTC")
_Cast = Callable[[pa.ChunkedArray], pa.ChunkedArray]
_COLUMN_TYPES = {"number": pa.float64(), "integer": pa.int64(), "category": pa.string()}


def schema(feedback: Feedback) -> pa.Schema:
    """Give the columns of the line's events and their types, the same for every object and for the table."""
    keys = [(EVENT, pa.string()), (USER, pa.string()), (ITEM, pa.string()), (TIME, _TIME_TYPE), (RELEASE, pa.string())]
    return pa.schema(keys + [(name, _COLUMN_TYPES[column.type]) for name, column in feedback.columns.items()])


def read(feedback: Feedback, key: str, body: bytes) -> pa.Table:
    """Read an object's events, in the types of `schema`.

    Args:
        feedback: Declares the columns and the largest size, packed and unpacked.
        key: The object's key, whose ending says what the object claims to be.
        body: Its bytes.

    Raises:
        BadObject: It is too large, is empty, is not what its key claims, lacks a column that must be there, has one
            twice or one that the line does not declare, or holds values of another type.
    """
    try:
        _check_size(len(body), feedback)
        return _conform(_reader(key)(body, feedback), feedback)
    except _Unreadable as error:
        reason = str(error)
        raise BadObject(f"{key}: {reason}.", key=key, reason=reason) from error
    except _FOREIGN as error:
        reason = f"it must hold what its name claims, but {_said(error)}"
        raise BadObject(f"{key}: {reason}.", key=key, reason=reason) from error


def check_size(feedback: Feedback, key: str, size_bytes: int) -> None:
    """Let nothing be fetched that is larger than the line allows.

    Raises:
        BadObject: It is.
    """
    try:
        _check_size(size_bytes, feedback)
    except _Unreadable as error:
        raise BadObject(f"{key}: {error}.", key=key, reason=str(error)) from error


class _Unreadable(Exception):
    """Says why in words that follow the object's key."""


_FOREIGN = (pa.ArrowException, KeyError, UnicodeError, OverflowError)
"""What the libraries say of bytes that nobody foresaw: one such object must not stop the others."""


def _reader(key: str) -> Callable[[bytes, Feedback], pa.Table]:
    for ending, reader in _READERS.items():
        if key.endswith(ending):
            return reader
    raise _Unreadable(f"its name must end with one of {', '.join(_READERS)}")


def _check_size(size_bytes: int, feedback: Feedback, what: str = "it") -> None:
    if size_bytes > feedback.max_object_mib * MIB:
        raise _Unreadable(f"{what} must not be larger than feedback.max_object_mib = {feedback.max_object_mib:g}")


# --- JSON Lines


def _read_gzip(body: bytes, feedback: Feedback) -> pa.Table:
    unpacked = bytearray()
    try:
        with gzip.GzipFile(fileobj=BytesIO(body)) as file:
            while chunk := file.read(MIB):
                unpacked += chunk
                _check_size(len(unpacked), feedback, "what it unpacks to")
    except (OSError, EOFError, zlib.error) as error:
        raise _Unreadable(f"it must be gzip, but {_said(error)}") from error
    return _read_lines(bytes(unpacked), feedback)


def _read_lines(body: bytes, feedback: Feedback) -> pa.Table:
    # DuckDB and not pyarrow.json, which ends the whole process on a line that says `null`.
    with TemporaryDirectory(prefix="retune-") as folder, engine() as con:
        path = Path(folder, "events.jsonl")
        path.write_bytes(body)
        try:
            con.read_json(str(path), format="newline_delimited", columns={"event": "JSON"}, records="false").create(
                "lines"
            )
            _check_objects(con, feedback)
            return _columns(con, schema(feedback).names)
        except duckdb.ConversionException as error:
            raise _Unreadable(f"every whole number must fit into 64 bits, but {_said(error)}") from error
        except duckdb.Error as error:
            bad = _first_bad_line(body) or _said(error)
            raise _Unreadable(f"it must be JSON, one object a line, but {bad}") from error


def _check_objects(con: duckdb.DuckDBPyConnection, feedback: Feedback) -> None:
    kinds = {kind or "NULL" for (kind,) in con.sql("select distinct json_type(event) from lines").fetchall()}
    if kinds - {"OBJECT"}:
        words = _A_KIND.get(min(kinds - {"OBJECT"}), "a number")
        raise _Unreadable(f"every line must be a JSON object, but one is {words}")
    con.sql("select distinct json_keys(event) as names from lines").create("shapes")
    _check_declared({name for (name,) in con.sql("select distinct unnest(names) from shapes").fetchall()}, feedback)
    twice = con.sql("select names from shapes where len(names) > len(list_distinct(names)) limit 1").fetchall()
    if twice:
        raise _Unreadable(f"no name may stand twice in an event, but one has the names {', '.join(twice[0][0])}")


def _columns(con: duckdb.DuckDBPyConnection, names: list[str]) -> pa.Table:
    """Take every column of the JSON events as the one type that all its values have."""
    con.table("lines").project(f"json_extract(event, {[f'$.{name}' for name in names]}) as values").create("events")
    events = con.table("events")
    found = events.aggregate(
        ", ".join(f"list(distinct json_type(values[{n}]))" for n, _ in enumerate(names, 1))
    ).fetchall()[0]
    types = [_type(name, set(kinds or ()) - {None, "NULL"}) for name, kinds in zip(names, found, strict=True)]
    return events.project(
        ", ".join(
            f"""(values[{n}] ->> '$')::{kind} as "{name}\""""
            for n, (name, kind) in enumerate(zip(names, types, strict=True), 1)
        )
    ).to_arrow_table()


def _type(name: str, kinds: set[str]) -> str:
    for kind, those in _JSON_TYPES.items():
        if kinds <= those:
            return kind
    words = sorted({_A_KIND.get(kind, "a number") for kind in kinds})
    raise _Unreadable(f"{name} must have values of one type, but some are {' and '.join(words)}")


_JSON_TYPES: Mapping[str, set[str]] = {
    "varchar": {"VARCHAR"},
    "bigint": {"BIGINT", "UBIGINT"},
    "double": {"BIGINT", "UBIGINT", "DOUBLE"},
    "boolean": {"BOOLEAN"},
}

_A_KIND = {"VARCHAR": "a text", "BOOLEAN": "true or false", "ARRAY": "an array", "OBJECT": "an object", "NULL": "null"}


def _first_bad_line(body: bytes) -> str | None:
    """Find what the engine stumbled over; its own line numbers are not those of the object."""
    for number, line in enumerate(body.splitlines(), start=1):
        if line.startswith(BOM_UTF8):
            return f"line {number} begins with a byte order mark"
        try:
            event = json.loads(line or b"{}")
        except json.JSONDecodeError as error:
            return f"line {number} is not: {error.msg} at character {error.pos + 1}"
        except (ValueError, RecursionError) as error:
            return f"line {number} is not: {_said(error)}"
        if name := _broken_text(event):
            return f"{name} in line {number} is no text of Unicode: it has one half of a surrogate pair"
    return None


def _broken_text(event: object) -> str | None:
    """Name the first column whose JSON has characters that no text may hold."""
    for name, value in event.items() if isinstance(event, dict) else [("a value", event)]:
        if _HALF_A_PAIR.search(json.dumps([name, value], ensure_ascii=False)):
            return str(name).encode("ascii", "backslashreplace").decode()
    return None


_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


# --- Parquet


def _read_parquet(body: bytes, feedback: Feedback) -> pa.Table:
    try:
        claimed = pq.read_metadata(pa.BufferReader(body)).schema.to_arrow_schema()
        names = claimed.names
        _check_declared(names, feedback)
        _check_once(names)
        for field in schema(feedback):
            if field.name in names:
                _check_type(claimed.field(field.name).type, field)
        # Texts stay in dictionaries until their full length is known: a few bytes may stand for gigabytes.
        file = pq.ParquetFile(pa.BufferReader(body), read_dictionary=names)
        batches, size_bytes = [], 0
        for batch in file.iter_batches(batch_size=1 << 13):
            size_bytes += sum(_unpacked_bytes(column) for column in batch.columns)
            _check_size(size_bytes, feedback, "what it unpacks to")
            batches.append(batch)
        table = pa.Table.from_batches(batches, file.schema_arrow)
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise _Unreadable(f"it must be Parquet, but {_said(error)}") from error
    return table


def _unpacked_bytes(column: pa.Array) -> int:
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    return int(pc.sum(pc.binary_length(column.dictionary).take(column.indices)).as_py() or 0)


_READERS: Mapping[str, Callable[[bytes, Feedback], pa.Table]] = {
    ".jsonl": _read_lines,
    ".jsonl.gz": _read_gzip,
    ".parquet": _read_parquet,
}


# --- types


def _check_declared(names: Iterable[str], feedback: Feedback) -> None:
    undeclared = sorted(set(names) - set(schema(feedback).names))
    if undeclared:
        raise _Unreadable(f"every column must be declared in feedback.columns, but {', '.join(undeclared)} is not")


def _check_once(names: Iterable[str]) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise _Unreadable(f"no column may stand twice, but {', '.join(twice)} does")


def _conform(table: pa.Table, feedback: Feedback) -> pa.Table:
    """Cast the columns to the types of `schema`, where no value is lost by it."""
    if not len(table):
        raise _Unreadable("it must hold events, but holds none")
    columns = []
    for field in schema(feedback):
        if field.name not in table.column_names:
            column = pa.nulls(len(table), field.type)
        else:
            column = _cast(table[field.name], field)
        needed = field.name in KEYS or (field.name != RELEASE and not feedback.columns[field.name].nullable)
        if needed and column.null_count == len(table):
            nothing = "is missing from" if _is_missing(table, field.name) else "is NaN or missing in"
            raise _Unreadable(f"{field.name} must be given, but {nothing} every event")
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema(feedback))


def _is_missing(table: pa.Table, name: str) -> bool:
    """Whether a column is not there or holds nothing at all, as opposed to NaN, which counts as nothing."""
    return name not in table.column_names or table[name].null_count == len(table)


def _check_type(found: pa.DataType, field: pa.Field) -> None:
    in_words, tests, _ = _CASTS[field.type]
    found = found.value_type if pa.types.is_dictionary(found) else found
    if not any(test(found) for test in (pa.types.is_null, *tests)):
        raise _Unreadable(f"{field.name} must be {in_words}, but is of type {found}")


def _cast(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    _check_type(column.type, field)
    in_words, _, cast = _CASTS[field.type]
    try:
        return cast(column)
    except pa.ArrowInvalid as error:
        value = _first_unfit(column, cast)
        raise _Unreadable(
            f"{field.name} must be {in_words}, but one is {_shown(value)}{_hint(value, field)}"
        ) from error


def _first_unfit(column: pa.ChunkedArray, cast: _Cast) -> object:
    """Find the first value that `cast` refuses, given that it refuses the column, by halving."""
    while len(column) > 1:
        first = column.slice(0, len(column) // 2)
        try:
            cast(first)
        except pa.ArrowInvalid:
            column = first
        else:
            column = column.slice(len(first))
    return column[0].as_py() if not pa.types.is_timestamp(column.type) else column[0].cast(pa.string()).as_py()


def _shown(value: object) -> str:
    said = repr(value)
    return said if len(said) <= 100 else f"{said[:100]}…"


def _hint(value: object, field: pa.Field) -> str:
    """Say more of a value that many a program writes by mistake."""
    if field.type == pa.int64():
        return ", which is not whole, or needs more than 64 bits" if isinstance(value, float) else ""
    if field.type != _TIME_TYPE:
        return ""
    if isinstance(value, str):
        return ", which has no zone" if _NO_ZONE.match(value) else ""
    return ", which lies outside the years 1 to 9999, as milliseconds taken for seconds do"


def _to_number(column: pa.ChunkedArray) -> pa.ChunkedArray:
    numbers = column.cast(pa.float64())
    return pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)


def _to_integer(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return (_to_number(column) if pa.types.is_floating(column.type) else column).cast(pa.int64())


def _to_moment(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_integer(column.type):
        column = pc.multiply_checked(column.cast(pa.int64()), 1_000_000)  # raises where 64 bits are too few
    elif pa.types.is_floating(column.type):
        column = pc.round(pc.multiply(_to_number(column), 1e6)).cast(pa.int64())
    elif pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = pc.floor_temporal(column, unit="microsecond")
    elif _is_text(column.type):
        for written, read_as in _ISO_8601.items():
            column = pc.replace_substring_regex(column, written, read_as)
    moments = column.cast(_TIME_TYPE)
    first, last = pc.min_max(moments.cast(pa.int64())).values()
    if first.is_valid and not _YEAR_1 <= first.as_py() <= last.as_py() < _YEAR_10000:
        raise pa.ArrowInvalid("some lie outside the years 1 to 9999")
    return moments


# What the standard allows and Arrow does not read: small letters, and digits after the sixth of a fraction.
_ISO_8601 = {r"^(\d{4}-\d\d-\d\d)t": r"\1T", "z$": "Z", r"(\.\d{6})\d+": r"\1"}

_NO_ZONE = re.compile(r"\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d([.,]\d+)?)?)?$")

_YEAR_1, _YEAR_10000 = -62_135_596_800_000_000, 253_402_300_800_000_000  # microseconds since 1970


def _is_text(found: pa.DataType) -> bool:
    return any(test(found) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _is_zoned(found: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(found) and found.tz is not None)


_NUMERIC = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, _is_text)

_CASTS: Mapping[pa.DataType, tuple[str, tuple[Callable[[pa.DataType], bool], ...], _Cast]] = {
    pa.string(): ("a text", (_is_text, pa.types.is_integer), lambda column: column.cast(pa.string())),
    pa.float64(): ("a number", _NUMERIC, _to_number),
    pa.int64(): ("an integer", _NUMERIC, _to_integer),
    _TIME_TYPE: (
        "a moment with its zone, or seconds since 1970",
        (_is_text, _is_zoned, pa.types.is_integer, pa.types.is_floating),
        _to_moment,
    ),
}


def _said(error: Exception) -> str:
    """Give the first sentence of a foreign error's message, without the names of our own files."""
    message = re.sub(r' in file "[^"]*",?| in line \d+(?=:)', "", str(error).partition("\n")[0])
    return message.partition(". ")[0].rstrip(".")[:300] or type(error).__name__
