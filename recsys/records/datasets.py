"""Define what a frozen dataset is."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A half-open interval of event time with what lies in it."""

    name: str  # train, window-1, …, holdout
    begins: datetime
    ends: datetime
    events: int
    users: int
    items: int  # known to the vocabulary or not


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A frozen, content-addressed snapshot of validated feedback."""

    dataset_id: str
    table_version: int
    train: Span
    windows: tuple[Span, ...]  # validation, oldest first; together they directly precede the holdout
    holdout: Span
    n_items: int
    n_users: int
    files: Mapping[str, str]  # name below datasets/<id>/ to SHA-256
    cache_hit: bool  # whether the same content had been frozen before
    as_of: datetime
