"""Set seconds aside for a search so that it ends before its line's features are refreshed, or put it off."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from croniter import croniter

from recsys.errors import NoTime
from recsys.records import Plan
from recsys.settings import Line

SHORTEST = 0.5  # share of a search's budget with which it still begins

_UNKNOWN_TO_CRONITER = {"@quarterly": "0 0 1 */3 *"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a search may take from the moment that it is opened."""

    seconds: float
    until: datetime | None  # by when it must have ended; None: any time
    because: str  # one sentence


def room(line: Line, plan: Plan, now: datetime) -> Room:
    """Say what a search that is opened `now` may take.

    One that a person ordered gets its whole budget whatever is refreshed meanwhile. Else it gets what lies before the
    next refresh, less the line's margin, if that is no less than half of its budget.

    Args:
        line: Says in `schedule.feature_refresh` when its features are refreshed, in UTC.
        plan: Whose budget.
        now: When the search is opened.

    Raises:
        NoTime: There is less; the message names both instants.
    """
    budget_s = plan.budget_s
    if line.schedule.feature_refresh is None:
        return Room(seconds=budget_s, until=None, because=f"It has {budget_s:g} s.")
    expression = line.schedule.feature_refresh
    refresh = croniter(_UNKNOWN_TO_CRONITER.get(expression, expression), now).get_next(datetime)
    margin = timedelta(minutes=line.schedule.feature_refresh_margin_minutes)
    left_s = (refresh - margin - now).total_seconds()
    ends = now + timedelta(seconds=budget_s)
    clash = (
        f"with {budget_s:g} s it would end at {_said(ends)}, but the line's features are refreshed at "
        f"{_said(refresh)}, and it must end {line.schedule.feature_refresh_margin_minutes:g} minutes before"
    )
    if left_s >= budget_s:
        because = f"It has {budget_s:g} s and would end at {_said(ends)}, before the refresh at {_said(refresh)}."
        return Room(seconds=budget_s, until=refresh - margin, because=because)
    if plan.ordered:
        because = f"It is opened because {plan.by} ordered it, although {clash}."
        return Room(seconds=budget_s, until=None, because=because)
    if left_s >= SHORTEST * budget_s:
        because = f"It has only {left_s:.0f} s: {clash}."
        return Room(seconds=left_s, until=refresh - margin, because=because)
    raise NoTime(f"The search {plan.plan_id} is put off: {clash}.", ends=ends, refresh=refresh)


def _said(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
