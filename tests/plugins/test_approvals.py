"""Whom the approval step asks, and what about."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from recsys.records import Check, Outcome, Verdict, dump
from retune_airflow.approvals import Approve


def execute(verdict: Verdict, **params: object) -> None:
    """Run the task as a person's run does."""
    run = SimpleNamespace(run_type="manual", triggering_user_name="ann", run_id="manual__1")
    asks = Approve(task_id="approve", subject="May it?", defaults="Reject", verdict=dump(verdict))
    asks.execute({"dag_run": run, "params": {"reason": "the shop wants it", **params}})


def failing(name: str) -> Verdict:
    return Verdict(
        candidate="markov-1",
        incumbent="popularity-1",
        outcome=Outcome.FAIL,
        checks=(Check(name=name, outcome=Outcome.FAIL, because="It is so."),),
        because="markov-1 fails.",
        by="ann",
        as_of=datetime(2026, 1, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize("name", ["sanity", "sanity: bytes"])
def test_nobody_is_asked_about_what_nobody_may_override(name):
    with pytest.raises(AirflowSkipException, match=f"ann may not override {name}"):
        execute(failing(name), override=True)


def test_nobody_is_asked_about_what_nobody_overrides():
    with pytest.raises(AirflowSkipException, match=r"^markov-1 fails\.$"):
        execute(failing("quality"), override=False)
