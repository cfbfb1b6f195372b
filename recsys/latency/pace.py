"""Say what an interval of a ratio of times tells: as quick, slower, faster, or not known."""

from enum import StrEnum

from recsys.records import Estimate, Outcome

TWINS = 0.015  # processes that serve the same differ by about so much, so a difference must be shown to be larger


class Pace(StrEnum):
    """What is known of how two compare."""

    EQUAL = "as quick as"
    SLOWER = "slower than"
    FASTER = "faster than"
    UNKNOWN = "perhaps as quick as"


def pace(ratio: Estimate, margin: float) -> Pace:
    """Say what an interval of times over times tells, where what lies within `margin` of 1 does not matter.

    >>> pace(Estimate(value=1.01, low=0.98, high=1.04), margin=0.05) is Pace.EQUAL
    True
    >>> pace(Estimate(value=1.1, low=1.06, high=1.14), margin=0.05) is Pace.SLOWER
    True
    """
    if ratio.low >= 1 - margin and ratio.high <= 1 + margin:
        return Pace.EQUAL
    if ratio.low > 1 + TWINS:
        return Pace.SLOWER
    return Pace.FASTER if ratio.high < 1 - TWINS else Pace.UNKNOWN


def told(ratio: Estimate, control: Estimate, *, limit: float, margin: float) -> Outcome:
    """Say whether a ratio to the incumbent keeps to its limit, where what lies within `margin` of it does not matter.

    Args:
        ratio: The candidate's times over the incumbent's.
        control: The incumbent's in one process over those in another; a machine that tells these apart decides nothing.
        limit: How many times as long the candidate's may be.
        margin: By which share more does not matter.
    """
    if pace(control, margin) in (Pace.SLOWER, Pace.FASTER):
        return Outcome.INCONCLUSIVE
    if ratio.high <= limit * (1 + margin):
        return Outcome.PASS
    return Outcome.FAIL if ratio.low > limit * (1 + TWINS) else Outcome.INCONCLUSIVE


def within(found: Estimate, limit: float) -> Outcome:
    """Say whether the whole interval is within the limit, wholly beyond, or neither."""
    if found.high <= limit:
        return Outcome.PASS
    return Outcome.FAIL if found.low > limit else Outcome.INCONCLUSIVE
