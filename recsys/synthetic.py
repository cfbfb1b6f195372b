"""Make feedback that has something to learn in it, and drift where it is asked for; for tests and trials of a line."""

import numpy as np
import pandas as pd

from recsys.columns import EVENT, ITEM, RELEASE, TIME, USER

START = pd.Timestamp("2026-01-05", tz="UTC")  # a Monday


def events(
    *,
    days: int,
    events_per_day: int = 200,
    users: int = 150,
    items: int = 60,
    first_day: int = 0,
    drifted: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """Draw feedback of a small shop.

    What a user does next follows from what the user did last: with 70 % it is one of the last item's three successors,
    which are the same for everybody and can be learned; else it is drawn by popularity. Drift turns popularity upside
    down, gives every item other successors, and moves the devices and the values.

    Args:
        days: How many days of feedback.
        events_per_day: Events of each day.
        users: People, who come back at random.
        items: Size of the catalogue.
        first_day: Days after `START` at which the feedback begins.
        drifted: Whether the world has changed.
        seed: The same seed and arguments give the same feedback.

    Returns:
        One row an event in the order of time: the keys, `value` (a label in 0..1), `device` and `age` (contexts).
    """
    world = np.random.default_rng(drifted)  # the same structure whatever the seed
    successors = world.integers(0, items, (items, 3))
    popularity = 1 / np.arange(1, items + 1)
    if drifted:
        popularity = popularity[::-1]
    popularity = popularity / popularity.sum()

    rng = np.random.default_rng([seed, first_day, days])
    n = days * events_per_day
    seconds = np.sort(rng.uniform(first_day * 86_400, (first_day + days) * 86_400, n))
    who = rng.integers(0, users, n)
    follows, pick = rng.random(n) < 0.7, rng.integers(0, 3, n)
    drawn = rng.choice(items, n, p=popularity)
    what = np.empty(n, np.int64)
    last: dict[int, int] = {}
    for at, user in enumerate(who):
        before = last.get(user)
        what[at] = successors[before, pick[at]] if follows[at] and before is not None else drawn[at]
        last[user] = what[at]
    return pd.DataFrame(
        {
            EVENT: [f"e{first_day}-{seed}-{at}" for at in range(n)],
            USER: [f"u{user}" for user in who],
            ITEM: [f"i{item}" for item in what],
            TIME: (START + pd.to_timedelta(seconds, unit="s")).round("us").astype("datetime64[us, UTC]"),
            RELEASE: pd.Series([None] * n, dtype=object),
            "value": rng.beta(2, 5 if drifted else 2, n).round(4),
            "device": rng.choice(["phone", "desktop"], n, p=[0.9, 0.1] if drifted else [0.5, 0.5]),
            "age": 20 + who % 50,
        }
    )


def jsonl(frame: pd.DataFrame) -> bytes:
    """Write `frame` as the JSON Lines that a serving system would land.

    >>> jsonl(events(days=1, events_per_day=1))[:33]
    b'{"event_id":"e0-0-0","user_id":"u'
    """
    text: str = frame.to_json(orient="records", lines=True, date_format="iso", date_unit="us")
    return text.encode()


LINE = """
name = "shop"
task = "retrieval"
owner = "tests"

[feedback.columns.value]
role = "label"
type = "number"
min = 0
max = 1

[feedback.columns.device]
role = "context"
type = "category"
values = ["phone", "desktop"]

[feedback.columns.age]
role = "context"
type = "integer"
min = 0
max = 120

[split]
holdout_days = 3
window_days = 3
windows = 2
min_train_events = 200

[drift]
min_events = 100
top_items = 20

[search]
families = ["markov", "two_tower"]
budget_s = 120
workers = 1
seed = 1

[search.screen]
trials = 4
share = 1.0
epochs = 0.5

[search.refine]
trials = 2

[search.confirm]
trials = 1
seeds = 1

[budgets]
p99_ms = 100
size_mib = 5
"""
"""The file of a line for this feedback, with a search of a few seconds."""
