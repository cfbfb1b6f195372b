"""Which errors are tried again."""

import pytest
from airflow.sdk import ExceptionRetryPolicy, RetryAction
from sqlalchemy.exc import OperationalError

from recsys import errors
from retune_airflow.policies import RETRIES

POISON = [
    errors.RefusedBatch("refused", batch_id="b", reasons=("r",)),
    errors.BadObject("bad", key="k", reason="r"),
    errors.BadBundle("bad"),
    errors.NoCandidate("none"),
    errors.NoRelease("none"),
    errors.LineError("lines/shop.toml: name: must be ..."),
    errors.NotFound("gone"),
    errors.Unsupported("no conditional writes"),
    ValueError("bad argument"),
]
PASSING = [
    errors.StoreError("503"),
    errors.Conflict("somebody else"),
    errors.Unjudged("no memory", expectation="e", cause="c"),
    ConnectionResetError("reset"),
    TimeoutError("slow"),
    OperationalError("select 1", {}, Exception("server closed the connection")),
]


def action(policy: ExceptionRetryPolicy, error: BaseException) -> RetryAction:
    return policy.evaluate(error, try_number=1, max_tries=3).action


@pytest.mark.parametrize("error", POISON, ids=lambda error: type(error).__name__)
def test_what_would_end_the_same_way_is_not_tried_again(error):
    assert action(RETRIES, error) is RetryAction.FAIL


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_what_may_pass_is_tried_again(error):
    decision = RETRIES.evaluate(error, try_number=1, max_tries=3)
    assert decision.action is RetryAction.RETRY
    assert "may come back" in decision.reason


def test_what_nobody_foresaw_is_left_to_the_tasks_own_retries():
    assert action(RETRIES, MemoryError()) is RetryAction.DEFAULT


def test_the_rules_survive_airflows_database():
    again = ExceptionRetryPolicy.deserialize(RETRIES.serialize())
    assert [action(again, error) for error in (*POISON, *PASSING)] == [
        action(RETRIES, error) for error in (*POISON, *PASSING)
    ]
