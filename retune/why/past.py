"""Read what a line has written down: its ledger, its records, and the bytes under a key."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from recsys.errors import NotFound, RecsysError
from recsys.ledger import Entry
from recsys.records import parse
from recsys.store import Store

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Past:
    """A line's store, and its ledger as it is read once."""

    store: Store
    entries: Sequence[Entry]

    def told(self, what: str, **evidence: Any) -> list[Entry]:  # noqa: ANN401 - JSON
        """Give the entries of a kind with such evidence, oldest first."""
        return [
            entry
            for entry in self.entries
            if entry.what == what and all(entry.evidence.get(name) == value for name, value in evidence.items())
        ]

    def untold(self, what: str, entries: Sequence[object]) -> tuple[str, ...]:
        """Say that the ledger has no such entry, if it has none."""
        return () if entries else (f"the ledger has no entry “{what}” of it",)

    def record(self, kind: type[Record], at: str) -> tuple[Record | None, tuple[str, ...]]:
        """Read a record, or say why it cannot be."""
        try:
            return parse(kind, at, self.store.get(at).body), ()
        except NotFound:
            return None, (f"{at} is gone",)
        except RecsysError as error:
            return None, (str(error),)

    def sha256(self, at: str) -> str:
        """Hash the bytes that lie under a key; empty: there are none."""
        try:
            return hashlib.sha256(self.store.get(at).body).hexdigest()
        except NotFound:
            return ""


def matching(past: Past, what: str, at: str, expected: str) -> Iterator[str]:
    """Say what is wrong with the bytes under a key that must have a SHA-256."""
    found = past.sha256(at)
    if not found:
        yield f"{what}, {at}, is gone"
    elif found != expected:
        yield f"{what}, {at}, must have the SHA-256 {expected}, but has {found}"
