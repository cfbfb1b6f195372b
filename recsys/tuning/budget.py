"""Divide a search's seconds between its stages, so that what begins can end and the finalists are confirmed.

Seconds count while at least one trial runs, wherever that is. The time in which workers queue, start, or wait to be
started again after a death belongs to whoever runs them.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from recsys.records import Configuration
from recsys.settings import Stage
from recsys.tuning.ranking import Standing

UNKNOWN_RESERVE = 0.4  # share of the budget kept for later stages while nothing has been learned about their cost
MOST_RESERVE = 0.6  # share that later stages may claim: more would starve the stage that finds their trials
SAFETY = 1.25  # forecasts are medians, and half of all trials take longer than the median


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """What an ended trial cost."""

    family: str
    units: float  # share of the users times epochs done, what training grows with
    training_s: float  # with the carrying of each epoch's checkpoint
    evaluation_s: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds that trials of each family will take, learned from those that ended."""

    rates: Mapping[str, tuple[float, float]]  # training seconds a unit, evaluation seconds a trial

    @classmethod
    def of(cls, paid: Iterable[Paid]) -> "Forecast":
        """Learn each family's medians."""
        by_family: dict[str, list[Paid]] = defaultdict(list)
        for one in paid:
            by_family[one.family].append(one)
        return cls(
            {
                family: (median(p.training_s / p.units for p in ended), median(p.evaluation_s for p in ended))
                for family, ended in by_family.items()
            }
        )

    def trial(self, family: str, configuration: Configuration, stage: Stage) -> float | None:
        """Foresee the seconds of one trial; nothing is known of a family of which no trial has ended."""
        if family not in self.rates:
            return None
        a_unit, evaluation_s = self.rates[family]
        return a_unit * units(configuration, stage) + evaluation_s

    def stage(self, standings: Sequence[Standing], stage: Stage, workers: int) -> float:
        """Foresee the seconds of a stage that tries `standings`, if the workers share it as well as they can."""
        trials = [self.trial(s.family, s.configuration, stage) or 0.0 for s in standings]
        return max(sum(trials) * stage.seeds / workers, max(trials, default=0.0))


def left_s(budget_s: float, spent_s: float, reserves_s: Sequence[float] | None) -> float:
    """Say how many seconds a stage has left.

    Args:
        budget_s: What the whole search may take.
        spent_s: What it has taken so far.
        reserves_s: What each later stage needs; empty for the last stage; None while that is unknown.
    """
    if reserves_s is None:
        return budget_s - spent_s - UNKNOWN_RESERVE * budget_s
    return budget_s - spent_s - min(SAFETY * sum(reserves_s), MOST_RESERVE * budget_s)


def fits(forecast_s: float | None, left_s: float) -> bool:
    """Whether a trial may begin: what is unknown may while there is time at all, the rest if it will end in time."""
    return left_s > 0 if forecast_s is None else SAFETY * forecast_s <= left_s


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
    return stage.share * max(1, epochs(configuration, stage))


def epochs(configuration: Configuration, stage: Stage) -> int:
    """Say how many epochs a stage gives a configuration: its part of them, at least one; none to what is counted."""
    whole = int(configuration["epochs"])
    return max(1, round(whole * stage.epochs)) if whole else 0
