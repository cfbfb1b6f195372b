"""Define what is known, user by user, of how candidate and incumbent differ, and what a look at a holdout may spend."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Sums over users from which any test of candidate against incumbent follows, whatever its margin and level.

    Of each user there are three totals over the cases: the candidate's metric, the incumbent's, and the number of
    cases. Summed are their products, in the order of `itertools.combinations_with_replacement`.
    """

    users: int
    first: tuple[float, ...]  # [3]
    second: tuple[float, ...]  # [6] of two totals
    third: tuple[float, ...]  # [10] of three


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortResult:
    """What was measured of some of the holdout's cases, such as those of one device."""

    cohort: str  # as the line calls it
    group: str  # which of its groups
    paired: Paired | None  # None: no case is in it
    missing: str = ""  # why its cases cannot be told; empty: they can


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One candidate held against one incumbent on one locked holdout, and the chance of error that this may spend."""

    number: int  # counts the line's looks, from 1
    at: datetime
    who: str  # a person, or `schedule`
    dataset_id: str  # whose holdout
    candidate: str
    incumbent: str
    level: float  # chance of promoting a candidate that is no better
    budget: float  # of a year's looks together, when this was taken
    looks_a_year: int  # that the budget was divided among
