"""Define what becomes of events from where they land to the feedback table."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRef:
    """One version of one object under `landing/`."""

    key: str
    etag: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Something that was put into quarantine, and why."""

    source: str  # key of the landed object, or the batch for refused rows
    kept_at: str  # key under quarantine/ where the refused bytes or rows lie
    reasons: tuple[str, ...]
    rows: int = 0  # rows refused; 0 where not even rows could be read
    brought_by: str = ""  # of rows: the landed objects that they came from, some by key and the others counted

    @property
    def landed(self) -> str:
        """What people know the refused thing by: the landed object, or the objects of the rows."""
        return self.brought_by or self.source


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """New events, read but not yet believed."""

    batch_id: str  # hash of the objects' keys and ETags, so the same objects are the same batch
    objects: tuple[ObjectRef, ...]  # the readable ones
    refused: tuple[Refusal, ...]  # the unreadable ones
    events_key: str  # parquet of the events under staging/
    rows: int
    as_of: datetime  # the moment the batch was asked for; freshness counts from it


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One expectation that did not hold."""

    expectation: str
    column: str | None
    severity: str  # critical or warning
    observed: str
    rows: int  # rows that broke it; 0 where it speaks of the whole batch


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedBatch:
    """A batch that may be committed, less the rows that broke a critical expectation."""

    batch: Batch
    accepted_key: str  # parquet under staging/
    accepted_rows: int
    refused: tuple[Refusal, ...]  # what pull and check put into quarantine
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableVersion:
    """A version of the feedback table and what the commit that made it added."""

    version: int
    batch_id: str
    rows_added: int
    rows: int  # in the whole table
    refused: tuple[Refusal, ...]
    as_of: datetime
