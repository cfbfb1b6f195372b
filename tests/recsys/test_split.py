from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from recsys import coverage
from recsys.engine import engine
from recsys.errors import NoFeedback
from recsys.settings import Feedback, Split
from recsys.split import cut, microseconds, moment

START = datetime(2026, 1, 1, tzinfo=UTC)
FEEDBACK = Feedback.model_validate(
    {"columns": {"value": {"role": "label", "type": "number"}}, "positive": {"column": "value", "at_least": 1}}
)
SPLIT = Split(holdout_days=2, window_days=1, windows=2, min_train_events=1)


def events(*rows):
    """Rows of day, user, item and, where it is not 1, value."""
    full = [(*row, 1) if len(row) == 3 else row for row in rows]
    return pa.table(
        {
            "event_id": [f"e{n}" for n in range(len(full))],
            "user_id": [row[1] for row in full],
            "item_id": [row[2] for row in full],
            "timestamp": pa.array([START + timedelta(days=row[0]) for row in full], pa.timestamp("us", "UTC")),
            "release_id": pa.nulls(len(full), pa.string()),
            "value": pa.array([row[3] for row in full], pa.float64()),
        }
    )


# The newest event is at day 10, so the holdout begins just after day 8, the windows just after days 7 and 6.
STORY = events(
    (0, "u1", "x"),
    (5, "u2", "y"),
    (6, "u1", "y"),
    (6.5, "u1", "z"),
    (6.5, "u2", "nothing", 0),
    (7.5, "u3", "x"),
    (8, "u2", "z"),
    (9, "u1", "new"),
    (9, "u4", "x"),
    (10, "u2", "x"),
)


def pieces(table=STORY, split=SPLIT, feedback=FEEDBACK):
    with engine() as con:
        return cut(con, table, feedback, split)


def rows(table):
    return [tuple(row.values()) for row in table.to_pylist()]


def at(day):
    return microseconds(START + timedelta(days=day))


def test_the_parts_are_counted_back_from_the_newest_event():
    assert pieces().boundaries.parts == {
        "train": (at(0), at(6) + 1),
        "window-1": (at(6) + 1, at(7) + 1),
        "window-2": (at(7) + 1, at(8) + 1),
        "holdout": (at(8) + 1, at(10) + 1),
    }
    assert pieces().boundaries.newest == at(9) + 1


def test_users_and_items_are_numbered_as_they_appear_and_each_part_holds_its_positives():
    found = pieces()
    assert found.vocabulary.select(["item_id", "events"]).to_pylist() == [
        {"item_id": "x", "events": 2},
        {"item_id": "y", "events": 2},
        {"item_id": "z", "events": 2},
    ]
    assert [microseconds(known) for known in found.vocabulary["known_at"].to_pylist()] == [at(0), at(5), at(6.5)]
    u1, u2, u3, u4 = range(4)
    assert rows(found.train) == [(u1, 1, at(0)), (u1, 2, at(6)), (u2, 2, at(5))]
    assert rows(found.windows) == [(u1, 3, at(6.5)), (u2, 3, at(8)), (u3, 1, at(7.5))]
    assert rows(found.holdout) == [(u1, 0, at(9)), (u2, 1, at(10)), (u4, 1, at(9))]


def test_the_newest_window_holds_every_event_positive_or_not():
    everything = pieces(events((0, "a", "x"), (6.5, "a", "x"), (7.5, "a", "x"), (9.5, "a", "x", 0), (10, "a", "x")))
    assert everything.newest["event_id"].to_pylist() == ["e3", "e4"]
    assert everything.newest.schema.equals(STORY.schema)


def test_without_a_rule_every_event_is_positive():
    every = FEEDBACK.model_copy(update={"positive": None})
    assert len(pieces(feedback=every).windows) == 4


def test_an_item_becomes_known_at_the_event_that_the_line_asks_for():
    found = pieces(split=SPLIT.model_copy(update={"min_item_events": 2}))
    assert found.vocabulary["item_id"].to_pylist() == ["y", "x", "z"]
    assert [microseconds(known) for known in found.vocabulary["known_at"].to_pylist()] == [at(6), at(7.5), at(8)]


def test_training_may_reach_back_only_so_far():
    found = pieces(split=SPLIT.model_copy(update={"train_days": 2.0}))
    assert found.boundaries.train == at(4) + 1
    assert [row[2] for row in rows(found.train)] == [at(5), at(6)]
    assert found.vocabulary["item_id"].to_pylist() == ["y", "z", "x"]


@pytest.mark.parametrize(("share", "head"), [(0.0, []), (0.3, ["x"]), (0.34, ["x", "y"]), (1.0, ["x", "y", "z"])])
def test_the_head_is_the_most_popular_share_of_items_earlier_ones_first(share, head):
    found = pieces(split=SPLIT.model_copy(update={"head_share": share})).vocabulary
    assert [row["item_id"] for row in found.to_pylist() if row["head"]] == head


NAMES = ["item", "user", "time", "events", "head", "known_at", "nth", "value", "seen", "positives", "order", "select"]


def test_a_context_may_have_any_name():
    plain, hostile = (STORY.drop_columns(["value"]) for _ in range(2))
    contexts = [pa.array([f"{n}-{row % 2}" for row in range(len(STORY))]) for n in range(len(NAMES))]
    for n, (name, values) in enumerate(zip(NAMES, contexts, strict=True)):
        plain, hostile = plain.append_column(f"plain{n}", values), hostile.append_column(name, values)
    found = []
    for names, story in (([f"plain{n}" for n in range(len(NAMES))], plain), (NAMES, hostile)):
        columns = {name: {"role": "context", "type": "category"} for name in names}
        feedback = Feedback.model_validate({"columns": columns})
        with engine() as con:
            parts = cut(con, story, feedback, SPLIT)
            report = coverage.measure(con, parts.boundaries, feedback)
        found.append((parts, [list(split["columns"].values()) for split in report["splits"]]))
    (one, covered), (two, covered_too) = found
    for part in ("train", "windows", "holdout", "vocabulary"):
        assert getattr(one, part).equals(getattr(two, part))
    assert one.contexts.equals(two.contexts.rename_columns(one.contexts.column_names))
    assert one.spans == two.spans
    assert covered == covered_too
    assert all(
        context["before"] == context["after"] + context["vanished"] == 2 for split in covered for context in split[2:]
    )


def test_a_span_counts_every_item_known_or_not_and_no_other():
    found = pieces(split=SPLIT.model_copy(update={"min_item_events": 2}))
    assert [(span.name, span.events, span.users, span.items) for span in found.spans] == [
        ("train", 3, 2, 2),  # x, y; u1, u2
        ("window-1", 1, 1, 1),  # z, which is not known yet
        ("window-2", 2, 2, 2),  # x, z
        ("holdout", 3, 3, 2),  # "new", which never gets known, and x twice
    ]


def test_events_at_the_same_moment_are_ordered_by_their_ids():
    tied = events((0, "a", "x"), (0, "a", "y"), (6.5, "a", "x"), (7.5, "a", "x"), (10, "a", "x"))
    swapped = tied.set_column(0, "event_id", pa.array(["e1", "e0", "e2", "e3", "e4"]))
    assert pieces(tied).vocabulary["item_id"].to_pylist() == ["x", "y"]
    assert pieces(swapped).vocabulary["item_id"].to_pylist() == ["y", "x"]


@pytest.mark.parametrize(
    ("table", "split", "because"),
    [
        (STORY.slice(0, 0), SPLIT, "There must be events"),
        (STORY, SPLIT.model_copy(update={"min_train_events": 4}), "min_train_events = 4 positive events, but only 3"),
        (STORY, SPLIT.model_copy(update={"min_item_events": 9}), "No item has split.min_item_events = 9"),
        (STORY.filter(pc.field("item_id") != "z"), SPLIT, "The window-1 must hold a positive event"),
        (
            events((0, "a", "x"), (6.5, "a", "x"), (7.5, "a", "x"), (10, "a", "x", 0)),
            SPLIT,
            "The holdout must hold a positive event",
        ),
    ],
    ids=["nothing", "train", "items", "window", "holdout"],
)
def test_too_little_feedback_says_what_is_missing(table, split, because):
    with pytest.raises(NoFeedback, match=because):
        pieces(table, split)


def test_moments_survive_the_count_of_microseconds():
    when = datetime(2038, 1, 19, 3, 14, 7, 123457, tzinfo=UTC)
    assert moment(microseconds(when)) == when
