"""Write records as JSON and read them again."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from recsys.errors import BadObject

Record = TypeVar("Record")


def dump(record: object) -> dict[str, Any]:
    """Turn `record` into JSON's types."""
    data: dict[str, Any] = _adapter(type(record)).dump_python(record, mode="json")
    return data


def load(kind: type[Record], data: Mapping[str, Any]) -> Record:
    """Build a record of `kind` again from what `dump` gave.

    Raises:
        pydantic.ValidationError: A field is missing or of the wrong type. Unknown fields, a newer writer's, are passed
            over.

    >>> from recsys.records import ObjectRef
    >>> load(ObjectRef, dump(ObjectRef(key="landing/a.jsonl", etag="e", size_bytes=3)))
    ObjectRef(key='landing/a.jsonl', etag='e', size_bytes=3)
    """
    found: Record = _adapter(kind).validate_python(dict(data))
    return found


def to_json(record: object) -> bytes:
    """Write `record` as the JSON that `parse` reads, a line for each field, so that people can read it too."""
    return json.dumps(dump(record), indent=1).encode()


def parse(kind: type[Record], key: str, body: bytes) -> Record:
    """Build a record of `kind` from the JSON that lies under `key`.

    Raises:
        BadObject: It is not such a record; the message names the key, and each field with its rule and what was found.

    >>> from recsys.records import FileRef
    >>> parse(FileRef, "a.json", b'{"sha256": "5e"}')
    Traceback (most recent call last):
    recsys.errors.BadObject: a.json must hold a record of kind FileRef, but does not: size_bytes: Field required.
    """
    try:
        found: Record = _adapter(kind).validate_json(body)
    except ValidationError as error:
        reason = "; ".join(_explain(one) for one in error.errors(include_url=False))
        message = f"{key} must hold a record of kind {kind.__name__}, but does not: {reason}."
        raise BadObject(message, key=key, reason=reason) from error
    return found


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def _adapter(kind: type) -> TypeAdapter[Any]:
    """Make the adapter of a kind once, as that takes longer than reading a record with it."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def _explain(error: Mapping[str, Any]) -> str:
    """Say field, rule and finding of one of pydantic's errors."""
    field = "".join(f"{part}: " for part in (".".join(str(part) for part in error["loc"]),) if part)
    found = "" if error["type"] in ("missing", "json_invalid") else f", but is {error['input']!r:.80}"
    return f"{field}{error['msg']}{found}"
