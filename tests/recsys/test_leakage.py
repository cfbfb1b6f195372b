"""Nothing that happens at or after a moment may change what a model sees when it predicts earlier than that moment."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys import parts
from recsys.dataset import assemble
from recsys.engine import engine
from recsys.errors import NoFeedback
from recsys.settings import Feedback, Split
from recsys.split import cut, microseconds

START = datetime(2026, 1, 1, tzinfo=UTC)
FEEDBACK = Feedback(columns={})

# Time is told in ticks, two an hour: 2 * h is the hour h itself, 2 * h + 1 the microsecond after it. The newest event
# is at hour 96, so window-1 begins one microsecond after hour 24, window-2 after hour 48 and the holdout after hour 72.
NEWEST = 192
WINDOWS_BEGIN, HOLDOUT_BEGINS = (49, 97), 145
BEGINS = (*WINDOWS_BEGIN, HOLDOUT_BEGINS)

near_a_cut = st.sampled_from([begin + tick for begin in BEGINS for tick in (-1, 0, 1)])
an_event = st.tuples(st.integers(0, NEWEST) | near_a_cut, st.sampled_from("abcd"), st.sampled_from("uvwxyz"))
some_events = st.lists(an_event, max_size=25)

# Each part has an event, and the newest stands where it stands, so that the cuts do too.
FIXED = [(0, "a", "u"), (60, "a", "v"), (100, "b", "w"), (160, "c", "x"), (NEWEST, "d", "y")]


def moment(tick):
    return START + timedelta(hours=tick // 2, microseconds=tick % 2)


def freeze(events, min_item_events):
    """Cut ticks, users and items without going through a store."""
    split = Split(holdout_days=1, window_days=1, windows=2, min_train_events=1, min_item_events=min_item_events)
    ordered = sorted(events)
    table = pa.table(
        {
            "event_id": [f"e{n:03}" for n, _ in enumerate(ordered)],
            "user_id": [user for _, user, _ in ordered],
            "item_id": [item for _, _, item in ordered],
            "timestamp": pa.array([moment(tick) for tick, _, _ in ordered], pa.timestamp("us", "UTC")),
        }
    )
    with engine() as con:
        pieces = cut(con, table, FEEDBACK, split)
    frozen = assemble(
        train=pieces.train,
        windows=pieces.windows,
        vocabulary=pieces.vocabulary,
        begins=pieces.boundaries.windows,
    )
    everything = parts.join([pieces.train, pieces.windows, pieces.holdout], n_items=len(pieces.vocabulary))
    return frozen, parts.cases(everything, pieces.boundaries.holdout, None, len(pieces.vocabulary))


def contents(sequences):
    return (
        sequences.items.tolist(),
        (sequences.times - microseconds(START)).tolist(),
        sequences.offsets.tolist(),
        sequences.n_items,
    )


def asked(cases):
    return contents(cases.sequences), cases.positions.tolist()


def seen_before(frozen, which):
    """All that a search or a refit can see when it predicts what lies before the beginning of part `which`."""
    seen = [contents(frozen.train), frozen.vocabulary[: frozen.train.n_items]]
    seen += [asked(window) for window in frozen.windows[:which]]
    seen += [(contents(train), asked(cases)) for train, cases in (frozen.rolled(n) for n in range(which))]
    if which < len(frozen.windows):
        rolled, _ = frozen.rolled(which)
        seen += [contents(rolled), frozen.vocabulary[: rolled.n_items]]
    else:
        seen += [contents(frozen.before_holdout), frozen.vocabulary, frozen.head.tolist()]
    return seen


@settings(max_examples=25, deadline=None)
@given(
    past=some_events,
    future=some_events,
    other_future=some_events,
    which=st.integers(0, 2),
    min_item_events=st.integers(1, 2),
)
def test_no_future_changes_what_was_seen_before_it(past, future, other_future, which, min_item_events):
    begin = BEGINS[which]
    before = [event for event in FIXED + past if event[0] < begin]
    after = [[event for event in FIXED + those if event[0] >= begin] for those in (future, other_future)]
    try:
        one, other = (freeze(before + those, min_item_events)[0] for those in after)
    except NoFeedback:  # with min_item_events 2 the past may know no item at all
        assert min_item_events == 2
        return
    assert seen_before(one, which) == seen_before(other, which)


def brute_force(events, begin, end, known_until, min_item_events):
    """Ask for every event from `begin` until `end`, by loops: its target and the history that its user had."""
    ordered = sorted(events)
    known = []  # items in the order in which they became known
    for at, (tick, _, item) in enumerate(ordered):
        if tick < known_until and [i for _, _, i in ordered[: at + 1]].count(item) == min_item_events:
            known.append(item)
    number = {item: n for n, item in enumerate(known, start=1)}
    cases = []
    for at, (tick, user, item) in enumerate(ordered):
        if begin <= tick < end:
            history = [number.get(i, 0) for _, u, i in ordered[:at] if u == user]
            cases.append((number.get(item, 0), history))
    return sorted(cases)


@settings(max_examples=25, deadline=None)
@given(events=some_events, min_item_events=st.integers(1, 2))
def test_a_history_is_what_its_user_did_before_in_the_items_known_then(events, min_item_events):
    events = FIXED + events
    try:
        frozen, holdout = freeze(events, min_item_events)
    except NoFeedback:
        assert min_item_events == 2
        return
    first = WINDOWS_BEGIN[0]
    for window, begin, end in zip(frozen.windows, WINDOWS_BEGIN, (97, 145), strict=True):
        assert told(window) == brute_force(events, begin, end, first, min_item_events)
    for n, (begin, end) in enumerate(zip(WINDOWS_BEGIN, (97, 145), strict=True)):
        train, cases = frozen.rolled(n)
        assert train.n_items == cases.sequences.n_items
        assert train.n_events == sum(tick < begin for tick, _, _ in events)
        assert told(cases) == brute_force(events, begin, end, begin, min_item_events)
    assert told(holdout) == brute_force(events, HOLDOUT_BEGINS, NEWEST + 1, HOLDOUT_BEGINS, min_item_events)


def told(cases):
    """Targets with their histories as lists."""
    histories = cases.histories(np.arange(len(cases)), length=len(cases.sequences.items))
    begins = cases.sequences.offsets[cases.users]
    return sorted(
        (int(target), history[len(history) - length :].tolist())
        for target, history, length in zip(cases.targets, histories, cases.positions - begins, strict=True)
    )


def test_an_item_that_became_known_inside_the_windows_is_0_to_what_was_trained_before_them():
    frozen, holdout = freeze([*FIXED, (48, "a", "u"), (61, "b", "new"), (120, "a", "new"), (120, "a", "u")], 1)
    assert frozen.vocabulary == ("u", "v", "new", "w")
    assert frozen.train.n_items == 1
    assert told(frozen.windows[0]) == [(0, []), (0, [1, 1])]  # b took new, a took v
    assert told(frozen.windows[1]) == [(0, [0]), (0, [1, 1, 0]), (1, [1, 1, 0, 0])]  # b took w, a took new and u
    train, later = frozen.rolled(1)
    assert train.n_items == 3
    assert told(later) == [(0, [3]), (1, [1, 1, 2, 3]), (3, [1, 1, 2])]
    assert holdout.sequences.n_items == 4
