"""Define what the gate says, and what is in production."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Outcome(StrEnum):
    """What a check of the gate found; only PASS lets a candidate through."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that the gate looked at."""

    name: str
    outcome: Outcome
    because: str  # one sentence with the numbers
    evidence: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a candidate may replace the incumbent."""

    candidate: str  # release id of the candidate's bundle
    incumbent: str
    outcome: Outcome
    checks: tuple[Check, ...]
    because: str
    by: str
    as_of: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What the channel names: the bundle in production."""

    release_id: str
    generation: int  # counts the moves of the pointer
    previous: str | None  # where the next rollback leads
    replaced: str | None  # what was in production until then
    family: str
    dataset_id: str
    reason: str
    by: str
    at: datetime
