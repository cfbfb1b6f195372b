"""Cut feedback along event time, and number users and items so that no number tells of the future.

Two orders carry the promise. Events are ordered by (timestamp, event_id), and a user's history is what stands before an
event in that order. Items are numbered 1..N in the order in which they became known, which is at their
`min_item_events`-th event, and users from 0 in the order of their first event. So what was known at any moment is a
prefix: whoever looks from an earlier moment keeps the ids up to a number and writes 0 for the rest, and nothing that
happens afterwards can change the ids that he sees.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from recsys.columns import EVENT, ITEM, TIME, USER
from recsys.errors import NoFeedback
from recsys.records import Span
from recsys.settings import Feedback, Split

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundaries:
    """Where event time is cut, in microseconds since 1970; every part is half open and ends where the next begins."""

    train: int
    windows: tuple[int, ...]  # begin of each validation window, oldest first
    holdout: int
    newest: int  # begin of the newest window, which lies at the end whether or not the holdout is as long
    end: int  # just after the newest event

    @property
    def parts(self) -> dict[str, tuple[int, int]]:
        """Name, begin and end of the parts, oldest first."""
        names = ["train", *(f"window-{n}" for n in range(1, len(self.windows) + 1)), "holdout"]
        cuts = [self.train, *self.windows, self.holdout, self.end]
        return dict(zip(names, pairwise(cuts), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Feedback that has been cut and numbered.

    The tables of interactions hold `user`, `item` and `time`, ordered by user, then time, then event id.
    """

    boundaries: Boundaries
    spans: tuple[Span, ...]  # what lies in each part, oldest first
    train: pa.Table
    windows: pa.Table  # all validation windows
    holdout: pa.Table
    contexts: pa.Table  # of each row of the holdout: `_user`, and the line's contexts as they were at the event
    vocabulary: (
        pa.Table
    )  # item_id, known_at, events, head: row i - 1 is the item of id i, for all known before the holdout
    newest: pa.Table  # all columns of all events, positive or not, of the newest window


def cut(con: duckdb.DuckDBPyConnection, events: ds.Dataset | pa.Table, feedback: Feedback, split: Split) -> Parts:
    """Cut the positives of `events` into train, validation windows and holdout.

    The table `positives` stays in `con`: event, user, item, `_time` in microseconds, and the line's contexts. Names
    that are made here begin with an underscore wherever the line's own stand beside them, as no column of a line does.

    Args:
        con: What `recsys.engine` opened.
        events: Rows of the feedback table.
        feedback: Says which events are positive.
        split: Says where to cut, counted back from the newest event.

    Raises:
        NoFeedback: There is no event, a part is empty, or training would have fewer events than the line asks for.
    """
    con.register("events", events)
    bounds = _boundaries(con, split)
    _select_positives(con, feedback, bounds)
    _number(con, bounds, split)
    parts = Parts(
        boundaries=bounds,
        spans=tuple(_span(con, name, begin, end) for name, (begin, end) in bounds.parts.items()),
        train=_interactions(con, bounds.train, bounds.windows[0]),
        windows=_interactions(con, bounds.windows[0], bounds.holdout),
        holdout=_interactions(con, bounds.holdout, bounds.end),
        contexts=_contexts(con, feedback, bounds.holdout, bounds.end),
        vocabulary=con.table("vocabulary").order("_item").project(f"{ITEM}, known_at, events, head").to_arrow_table(),
        newest=con.table("events")
        .filter(f"{TIME} >= make_timestamptz({bounds.newest})")
        .order(f"{TIME}, {EVENT}")
        .to_arrow_table(),
    )
    _check_enough(parts, split)
    return parts


def microseconds(moment: datetime) -> int:
    """Count the microseconds since 1970.

    >>> microseconds(datetime(1970, 1, 2, tzinfo=UTC))
    86400000000
    """
    return (moment - EPOCH) // MICROSECOND


def moment(microseconds: int) -> datetime:
    """Give the moment that lies so many microseconds after 1970."""
    return EPOCH + microseconds * MICROSECOND


def _select_positives(con: duckdb.DuckDBPyConnection, feedback: Feedback, bounds: Boundaries) -> None:
    contexts = _quoted_contexts(feedback)
    positive = feedback.positive
    con.table("events").filter(f'"{positive.column}" >= {positive.at_least}' if positive else "true").filter(
        f"{TIME} >= make_timestamptz({bounds.train})"
    ).project(", ".join([EVENT, USER, ITEM, f"epoch_us({TIME}) as _time", *contexts])).create("positives")


def _boundaries(con: duckdb.DuckDBPyConnection, split: Split) -> Boundaries:
    first, newest = con.sql("select min(epoch_us(timestamp)), max(epoch_us(timestamp)) from events").fetchall()[0]
    if newest is None:
        raise NoFeedback("There must be events to split, but the feedback table holds none.")
    end = newest + 1
    holdout = end - _days(split.holdout_days)
    windows = tuple(holdout - n * _days(split.window_days) for n in range(split.windows, 0, -1))
    train = windows[0] - _days(split.train_days) if split.train_days else min(first, windows[0])
    return Boundaries(train=train, windows=windows, holdout=holdout, newest=end - _days(split.window_days), end=end)


def _number(con: duckdb.DuckDBPyConnection, bounds: Boundaries, split: Split) -> None:
    """Make the tables `users` and `vocabulary`."""
    con.execute(
        """
        create table users as
        with first as (
            select user_id, _time, event_id from positives
            qualify row_number() over (partition by user_id order by _time, event_id) = 1
        )
        select user_id, row_number() over (order by _time, event_id) - 1 as _user from first
        """
    )
    con.execute(
        """
        create table vocabulary as
        with before as (
            select item_id, _time, event_id,
                   row_number() over (partition by item_id order by _time, event_id) as _nth,
                   count(*) over (partition by item_id) as _events
            from positives where _time < $holdout
        ), known as (
            select item_id, _time, event_id, _events, row_number() over (order by _time, event_id) as _item
            from before where _nth = $min_item_events
        )
        select item_id, _item, make_timestamptz(_time) as known_at, _events as events,
               row_number() over (order by _events desc, _item) <= ceil($head_share * count(*) over ()) as head
        from known
        """,
        {"holdout": bounds.holdout, "min_item_events": split.min_item_events, "head_share": split.head_share},
    )


def _interactions(con: duckdb.DuckDBPyConnection, begin: int, end: int) -> pa.Table:
    return con.sql(
        """
        select _user::integer as "user", coalesce(_item, 0)::integer as item, _time as time
        from positives join users using (user_id) left join vocabulary using (item_id)
        where _time >= $begin and _time < $end
        order by _user, _time, event_id
        """,
        params={"begin": begin, "end": end},
    ).to_arrow_table()


def _contexts(con: duckdb.DuckDBPyConnection, feedback: Feedback, begin: int, end: int) -> pa.Table:
    """Give the contexts of what `_interactions` gives, row by row."""
    columns = ", ".join(['_user::integer as "_user"', *_quoted_contexts(feedback)])
    inside = con.table("positives").filter(f"_time >= {begin} and _time < {end}").join(con.table("users"), USER)
    return inside.order(f"_user, _time, {EVENT}").project(columns).to_arrow_table()


def _quoted_contexts(feedback: Feedback) -> list[str]:
    return [f'"{name}"' for name, column in feedback.columns.items() if column.role == "context"]


def _span(con: duckdb.DuckDBPyConnection, name: str, begin: int, end: int) -> Span:
    """Count what lies in a part: every item, whether the vocabulary has it or not."""
    events, users, items = con.execute(
        """
        select count(*), count(distinct user_id), count(distinct item_id)
        from positives where _time >= $begin and _time < $end
        """,
        {"begin": begin, "end": end},
    ).fetchall()[0]
    return Span(name=name, begins=moment(begin), ends=moment(end), events=events, users=users, items=items)


def _check_enough(parts: Parts, split: Split) -> None:
    if len(parts.train) < split.min_train_events:
        raise NoFeedback(
            f"Training needs split.min_train_events = {split.min_train_events} positive events, but only "
            f"{len(parts.train)} lie before {moment(parts.boundaries.windows[0]):%Y-%m-%d %H:%M}."
        )
    if not len(parts.vocabulary):
        raise NoFeedback(f"No item has split.min_item_events = {split.min_item_events} positive events.")
    for span in parts.spans[1:]:
        if not span.events:
            raise NoFeedback(
                f"The {span.name} must hold a positive event, but there is none from {span.begins:%Y-%m-%d %H:%M} "
                f"to {span.ends:%Y-%m-%d %H:%M}."
            )


def _days(days: float) -> int:
    return timedelta(days=days) // MICROSECOND
