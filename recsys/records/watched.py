"""Define what is said of a release that serves."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Health(StrEnum):
    """What is known of how a release does beside the one before it."""

    WELL = "well"  # nothing shows that it does worse
    REGRESSED = "regressed"
    UNKNOWN = "unknown"  # too little feedback names it, or what was before it


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedValue:
    """One value that a line watches, of the release beside the one before."""

    value: str  # its name in the line
    health: Health
    because: str  # one sentence
    windows: int = 0  # of the release that were looked at
    before: float | None = None  # in the windows of the release before
    now: float | None = None
    change: float | None = None  # now less before, by all windows together
    low: float | None = None  # of the interval of the change, which holds whenever one stops
    high: float | None = None
    log_e: float | None = None  # logarithm of the e-value after the last window
    side_by_side: bool = False  # whether both served in the same windows, as a canary does
    since: datetime | None = None  # begin of the window that showed it


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchVerdict:
    """How a release does in production."""

    release_id: str
    generation: int  # of the move that put it into production
    previous: str | None  # what served before
    health: Health
    values: tuple[WatchedValue, ...]
    because: str  # one sentence
    rolls_back: bool  # whether the line wants it back out of production without being asked
    through: datetime | None  # end of the last window that was looked at
    as_of: datetime
