"""Divide a search's seconds between its stages, so that what begins can end and the finalists are confirmed.

Seconds count while at least one trial runs, wherever that is. The time in which workers queue, start, or wait to be
started again after a death belongs to whoever runs them.
"""

from collections.abc import Iterable, Sequence

from recsys.records import Configuration
from recsys.settings import Stage

UNKNOWN_RESERVE = 0.4  # share of the budget kept for later stages while nothing has been learned about their cost
MOST_RESERVE = 0.6  # share that later stages may claim: more would starve the stage that finds their trials


def left_s(budget_s: float, spent_s: float, reserves_s: Sequence[float] | None, had_s: float = 0.0) -> float:
    """Say how many seconds a stage has left.

    Args:
        budget_s: What the whole search may take.
        spent_s: What it has taken so far.
        reserves_s: What each later stage is forecast to need; empty for the last stage; None while that is unknown.
        had_s: What later stages have had already of what is kept for them.
    """
    if reserves_s is None:
        return budget_s - spent_s - max(0.0, UNKNOWN_RESERVE * budget_s - had_s)
    return budget_s - spent_s - min(sum(reserves_s), MOST_RESERVE * budget_s)


def fits(forecast_s: float | None, left_s: float) -> bool:
    """Whether a trial may begin: what is unknown may while there is time at all, the rest if it will end in time."""
    return left_s > 0 if forecast_s is None else forecast_s <= left_s


def busy_s(intervals: Iterable[tuple[float, float]]) -> float:
    """Give how long at least one of the intervals was going on; one that ends before it begins never was.

    >>> busy_s([(0.0, 4.0), (1.0, 2.0), (3.0, 5.0), (10.0, 11.0), (20.0, 19.0)])
    6.0
    """
    total, until = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total


def units(configuration: Configuration, stage: Stage) -> float:
    """Say how much training a trial is: the share of the users times the epochs; counting is one pass.

    >>> units({"epochs": 30}, Stage(trials=1, share=0.5, epochs=0.4))
    6.0
    """
    return units_of(configuration, share=stage.share, epochs_share=stage.epochs)


def units_of(configuration: Configuration, *, share: float, epochs_share: float) -> float:
    """Say the same of a trial of which only the shares of users and epochs are kept."""
    return share * max(1, _epochs(configuration, epochs_share))


def epochs(configuration: Configuration, stage: Stage) -> int:
    """Say how many epochs a stage gives a configuration: its part of them, at least one; none to what is counted."""
    return _epochs(configuration, stage.epochs)


def _epochs(configuration: Configuration, share: float) -> int:
    whole = int(configuration["epochs"])
    return max(1, round(whole * share)) if whole else 0
