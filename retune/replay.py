"""Land MovieLens feedback as a serving system would: one compressed object for each week, in the order of time."""

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pandas as pd

from recsys import movielens
from recsys.columns import TIME
from recsys.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Week:
    """One week of feedback.

    Args:
        number: Counted from 0, the week of the first event.
        events: In feedback's columns, by time.
        ends: The moment of the last event, from which on the week can be asked for.
    """

    number: int
    events: pd.DataFrame
    ends: datetime

    @property
    def key(self) -> str:
        """Where the week lands."""
        return f"landing/week-{self.number:02d}.jsonl.gz"


def weeks(cache: Path) -> Sequence[Week]:
    """Cut MovieLens-100K into weeks.

    Args:
        cache: Folder for a download, where the data are not at hand.

    Raises:
        NoFeedback: MovieLens is neither at hand nor to be had; the message says where it was looked for.
    """
    cut = movielens.weeks(movielens.events(movielens.find(cache)))
    return [
        Week(number=number, events=events, ends=events[TIME].max().to_pydatetime())
        for number, events in enumerate(cut)
        if len(events)
    ]


def land(store: Store, week: Week) -> str:
    """Put `week` under `landing/` as gzipped JSON Lines.

    Returns:
        The object's key.
    """
    store.put(week.key, _lines(week.events))
    return week.key


def land_truncated(store: Store, week: Week) -> str:
    """Put half of `week`'s bytes under `landing/`, as an upload that broke off leaves it.

    Returns:
        The object's key.
    """
    key = week.key.replace("week-", "broken-week-")
    whole = _lines(week.events)
    store.put(key, whole[: len(whole) // 2])
    return key


def _lines(events: pd.DataFrame) -> bytes:
    rows = events.assign(**{TIME: events[TIME].map(pd.Timestamp.isoformat)}).to_dict("records")
    text = "".join(json.dumps(row) + "\n" for row in rows)
    return gzip.compress(text.encode(), mtime=0)  # no time stamp: the same week is the same bytes
