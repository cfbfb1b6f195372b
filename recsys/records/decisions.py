"""Define what is kept of a gating, and what people said to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from recsys.records.paired import Look
from recsys.records.releases import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back when people were asked whether a candidate may be released."""

    approved: bool
    by: str  # their login; empty: nobody answered in time
    name: str  # as people know them
    asked_by: str  # who started the run that asks, or `schedule` or `asset`
    run: str  # that asks
    of: str  # digest of the verdict that was shown
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A person's wish to release what the gate does not pass."""

    by: str
    reason: str

    def __post_init__(self) -> None:
        if not self.by.strip() or not self.reason.strip():
            raise ValueError(f"An override must say why and by whom, but says {self.reason!r} by {self.by!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a person, or nobody in time, decided about a candidate that had been judged."""

    what: str  # approved, rejected or overridden
    who: str
    why: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRecord:
    """One gating: what was judged, by which policy, what it took, and what became of it."""

    line: str
    verdict: Verdict
    policy: Mapping[str, Any]  # the tables gate, budgets and approval of the line as they were
    dataset_id: str  # whose holdout
    look: Look | None  # that was taken at it, with the level that it spent; None: there was none, or it was not counted
    comparison_key: str  # where what was judged lies; empty: it was not kept
    comparison_sha256: str  # empty: nothing was measured, as the bundle is not sound
    again: str | None  # why a release that was rolled back might come back
    measured_s: float | None  # seconds that the measurement took; None: there was none, or an older version made it
    judged_s: float
    at: datetime  # when it was judged
    said: tuple[Said, ...] = ()  # by people afterwards, oldest first
