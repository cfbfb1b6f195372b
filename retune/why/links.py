"""Define what a chain is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One thing that led to a release: what it was, who did it and when, and what is wrong with it."""

    what: str
    says: str
    who: str = ""
    at: datetime | None = None
    ids: Mapping[str, Any] = field(default_factory=dict)
    wrong: tuple[str, ...] = ()  # a sentence for each thing that is missing or does not match


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file of the bundle, as it lies in the store."""

    name: str
    size_bytes: int
    sha256: str  # as the manifest has it
    found: str  # of the bytes that lie there; empty: there are none

    @property
    def right(self) -> bool:
        """Whether the bytes are those of the manifest."""
        return self.found == self.sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Objects that came into the feedback table together."""

    batch_id: str
    version: int  # of the table, that it made
    rows_added: int
    at: datetime
    objects: tuple[str, ...]  # their keys
