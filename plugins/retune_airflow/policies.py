"""Decide who answers for a task, how long it may take, and after which errors it is tried again."""

from datetime import timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from recsys.errors import NotFound, RecsysError, StoreError, Unjudged, Unsupported
from recsys.settings import Line

RUN_TIMEOUTS = 12  # a run may take as long as this many tasks that each use up their own time

RETRIES = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            exception=[NotFound, Unsupported],
            action=RetryAction.FAIL,
            reason="the store answered, and would answer the same again",
        ),
        RetryRule(exception=StoreError, action=RetryAction.RETRY, reason="the store may come back"),
        RetryRule(
            exception=Unjudged, action=RetryAction.RETRY, reason="what was missing, such as memory, may come back"
        ),
        RetryRule(
            exception=[ConnectionError, TimeoutError, "sqlalchemy.exc.OperationalError"],
            action=RetryAction.RETRY,
            reason="the other side may come back",
        ),
        RetryRule(
            exception=[RecsysError, ValueError, TypeError, AttributeError, AssertionError],
            action=RetryAction.FAIL,
            reason="the same input would end the same way",
        ),
    ]
)
"""The first rule that an error fits decides; what fits none, such as a lack of memory, is tried again."""


def task_defaults(line: Line) -> dict[str, Any]:
    """Give what all tasks of `line` share, as a DAG's `default_args`."""
    return {
        "owner": line.owner,
        "retries": 3,
        "retry_delay": timedelta(seconds=15),
        "retry_exponential_backoff": 2,
        "max_retry_delay": timedelta(minutes=10),
        "retry_policy": RETRIES,
        "execution_timeout": timedelta(minutes=line.schedule.timeout_minutes),
    }


def run_timeout(line: Line) -> timedelta:
    """Say how long a whole run of one of the line's DAGs may take before it is failed, while people answer included."""
    return timedelta(minutes=line.schedule.timeout_minutes * RUN_TIMEOUTS) + patience(line)


def patience(line: Line) -> timedelta:
    """Say how long people have to answer whether a candidate may be released; nothing where none are asked."""
    return timedelta(hours=line.approval.timeout_hours if line.approval else 0)
