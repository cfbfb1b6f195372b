from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from recsys.cohorts import NO_CASE, Holdout, pair_cohorts
from recsys.dataset import assemble
from recsys.parts import cases, join
from recsys.settings import Cohort

DAY = 86_400_000_000


def interactions(*rows):
    """Rows of user, item and day."""
    users, items, days = zip(*rows, strict=True)
    return pa.table(
        {
            "user": pa.array(users, pa.int32()),
            "item": pa.array(items, pa.int32()),
            "time": [int(day * DAY) for day in days],
        }
    )


# User 0 did four things from day 0 on, user 1 two from day 8 on, and user 2 comes in the holdout, which begins on day
# 10. Item 1 is the head; item 3 became known too late.
TRAIN = interactions((0, 1, 0), (0, 2, 1), (0, 1, 2))
WINDOWS = interactions((0, 2, 7), (1, 1, 8), (1, 2, 9))
HELD = interactions((0, 1, 10), (0, 2, 11), (1, 1, 10), (2, 0, 12))
VOCABULARY = pa.table(
    {
        "item_id": ["x", "y"],
        "known_at": pa.array([datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 2, tzinfo=UTC)]),
        "head": [True, False],
    }
)
CONTEXTS = pa.table(
    {
        "_user": pa.array([0, 0, 1, 2], pa.int32()),
        "device": ["app", "web", "app", None],
        "age": pa.array([20, 30, None, 40], pa.int64()),
    }
)
CANDIDATE, INCUMBENT = np.array([1.0, 0.5, 0.0, 0.25]), np.array([0.5, 0.5, 0.5, 0.0])


def holdout(contexts=CONTEXTS):
    frozen = assemble(train=TRAIN, windows=WINDOWS, vocabulary=VOCABULARY, begins=[7 * DAY])
    everything = join([TRAIN, WINDOWS, HELD], n_items=2)
    asked = cases(everything, 10 * DAY, None, 2)
    return Holdout(cases=asked, frozen=frozen, begins=10 * DAY, contexts=contexts)


@pytest.mark.parametrize(
    ("cohort", "groups"),
    [
        # The group, its users, and the totals of candidate and incumbent with the number of cases.
        (
            Cohort(by="activity", bounds=(2, 3)),
            {"under 2": (1, 0.25, 0.0, 1), "2 to under 3": (1, 0.0, 0.5, 1), "3 and more": (1, 1.5, 1.0, 2)},
        ),
        (
            Cohort(by="tenure", bounds=(0.5, 5)),
            {"under 0.5": (1, 0.25, 0.0, 1), "0.5 to under 5": (1, 0.0, 0.5, 1), "5 and more": (1, 1.5, 1.0, 2)},
        ),
        (Cohort(by="popularity"), {"head": (2, 1.0, 1.0, 2), "tail": (2, 0.75, 0.5, 2)}),
        (
            Cohort(column="device"),
            {"app": (2, 1.0, 1.0, 2), "none": (1, 0.25, 0.0, 1), "web": (1, 0.5, 0.5, 1)},
        ),
        (
            Cohort(column="age", bounds=(30,)),
            {"under 30": (1, 1.0, 0.5, 1), "30 and more": (2, 0.75, 0.5, 2), "none": (1, 0.0, 0.5, 1)},
        ),
        (
            Cohort(column="age"),
            {"20": (1, 1.0, 0.5, 1), "30": (1, 0.5, 0.5, 1), "40": (1, 0.25, 0.0, 1), "none": (1, 0.0, 0.5, 1)},
        ),
    ],
)
def test_each_case_belongs_to_the_group_that_the_line_says(cohort, groups):
    found = pair_cohorts({"some": cohort}, holdout(), CANDIDATE, INCUMBENT)
    assert {each.cohort for each in found} == {"some"}
    assert {each.group: (each.paired.users, *each.paired.first) for each in found} == groups


def test_a_group_that_the_line_declares_and_no_case_is_in_says_so():
    found = pair_cohorts({"old": Cohort(by="tenure", bounds=(1000,))}, holdout(), CANDIDATE, INCUMBENT)
    assert [(each.group, each.missing) for each in found] == [("under 1000", ""), ("1000 and more", NO_CASE)]
    assert found[1].paired is None
    values = {"device": ["app", "television"]}
    found = pair_cohorts({"device": Cohort(column="device")}, holdout(), CANDIDATE, INCUMBENT, values)
    assert {each.group for each in found if each.missing == NO_CASE} == {"television"}
    assert "app" in {each.group for each in found if each.paired}


@pytest.mark.parametrize("contexts", [None, CONTEXTS.drop_columns(["device"])])
def test_a_column_that_was_not_frozen_is_said_to_be_missing(contexts):
    [found] = pair_cohorts({"device": Cohort(column="device")}, holdout(contexts), CANDIDATE, INCUMBENT)
    assert (found.paired, found.missing) == (None, "the dataset was frozen without device of the holdout's events")
