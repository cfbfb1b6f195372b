import pyarrow as pa
import pytest

from recsys.coverage import measure, page
from recsys.engine import engine
from recsys.settings import Feedback
from recsys.split import Boundaries

FEEDBACK = Feedback.model_validate(
    {
        "columns": {
            "value": {"role": "label", "type": "number"},
            "device": {"role": "context", "type": "category", "nullable": True},
            "price": {"role": "context", "type": "number"},
        }
    }
)
BOUNDS = Boundaries(train=0, windows=(10, 20), holdout=30, newest=30, end=40)
POSITIVES = pa.table(  # a day of each part per row
    {
        "user_id": ["u1", "u2", "u1", "u3", "u1", "u4"],
        "item_id": ["x", "y", "x", "x", "z", "z"],
        "_time": [0, 5, 10, 11, 20, 39],
        "device": ["phone", "desktop", "phone", None, None, "fridge"],
        "price": [1.0, 3.0, 2.0, 4.0, 3.5, 9.0],
    }
)


@pytest.fixture(scope="module")
def report():
    with engine() as con:
        con.register("positives", POSITIVES)
        return measure(con, BOUNDS, FEEDBACK)


def column(report, part, name):
    [split] = [split for split in report["splits"] if split["part"] == part]
    return split["columns"][name]


def test_every_part_but_train_is_compared_with_all_before_it(report):
    assert [(split["part"], split["events"]) for split in report["splits"]] == [
        ("window-1", 2),
        ("window-2", 1),
        ("holdout", 1),
    ]
    assert report["splits"][0]["begins"] == "1970-01-01T00:00:00.000010+00:00"


def test_users_items_and_categories_are_compared_value_by_value(report):
    assert column(report, "window-1", "user_id") == {
        "before": 2,  # u1 and u2
        "after": 2,  # u1 and u3
        "seen": 1,
        "new": 1,
        "vanished": 1,
        "seen_share": 0.5,
        "seen_event_share": 0.5,
    }
    assert column(report, "window-1", "item_id")["seen_event_share"] == 1.0
    assert column(report, "window-2", "item_id")["new"] == 1
    assert column(report, "holdout", "item_id")["seen"] == 1  # z came in the window before
    assert column(report, "holdout", "device") == {
        "before": 2,
        "after": 1,
        "seen": 0,
        "new": 1,
        "vanished": 2,
        "seen_share": 0.0,
        "seen_event_share": 0.0,
    }


def test_events_without_a_value_are_left_out(report):
    assert column(report, "window-1", "device")["after"] == 1
    nothing = column(report, "window-2", "device")
    assert (nothing["after"], nothing["seen_share"], nothing["seen_event_share"]) == (0, None, None)


def test_numbers_are_seen_within_the_range_that_was_met_before(report):
    assert column(report, "window-1", "price")["seen"] == 1  # 2 lies between 1 and 3, 4 does not
    assert column(report, "window-2", "price")["seen"] == 1  # 3.5 lies between 1 and 4
    assert column(report, "holdout", "price")["seen"] == 0


def test_the_page_shows_the_numbers_and_lets_nothing_through(report):
    shown = page(report, title="<script>shop")
    assert "<script>" not in shown
    assert "&lt;script&gt;shop" in shown
    assert (
        "<tr><th>user_id</th><td>2</td><td>2</td><td>1</td><td>1</td><td>1</td><td>50.0%</td><td>50.0%</td></tr>"
        in shown
    )
    assert "http" not in shown
