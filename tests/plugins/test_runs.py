"""Who started a run, why, and on what."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException

from retune_airflow import assets, runs


def context(run_type: str, *, user: str | None = None, events=(), **params):
    """A run as Airflow hands it to a task."""
    return {
        "dag_run": SimpleNamespace(run_type=run_type, triggering_user_name=user, run_id=f"{run_type}__1"),
        "params": params,
        "triggering_asset_events": {assets.dataset("shop"): list(events)} if events else {},
    }


def event(minute: int, **extra):
    return SimpleNamespace(timestamp=datetime(2026, 1, 1, 0, minute, tzinfo=UTC), extra=extra)


@pytest.mark.parametrize(
    ("run_type", "user", "who"),
    [
        ("manual", "operator", "operator"),
        ("manual", None, "somebody without a name"),
        ("operator_triggered", "another", "another"),
        ("asset_materialization", "a third", "a third"),
        ("scheduled", None, "schedule"),
        ("backfill", "operator", "schedule"),
        ("asset_triggered", None, "asset"),
    ],
)
def test_it_is_said_who_acts(run_type, user, who):
    assert runs.by(context(run_type, user=user)) == who


@pytest.mark.parametrize("given", [{}, {"reason": None}, {"reason": "  "}])
def test_a_run_by_hand_needs_a_reason(given):
    with pytest.raises(AirflowFailException, match=r"^reason: must say why"):
        runs.reason(context("manual", user="operator", **given))


@pytest.mark.parametrize("run_type", ["scheduled", "asset_triggered", "backfill"])
def test_a_run_that_nobody_starts_needs_none(run_type):
    assert runs.reason(context(run_type, reason=None)) is None


def test_a_reason_is_handed_on():
    assert runs.reason(context("manual", user="operator", reason=" after the outage ")) == "after the outage"


def test_what_is_asked_for_by_hand_goes_before_what_woke_the_run():
    woken = context("asset_triggered", events=[event(1, dataset_id="woken")], dataset_id="asked")
    assert runs.asked_for(woken, "dataset_id", assets.dataset("shop")) == "asked"


def test_of_several_events_the_newest_counts():
    events = [event(1, dataset_id="older"), event(3, dataset_id="newest"), event(2, dataset_id="old")]
    woken = context("asset_triggered", events=events, dataset_id=None)
    assert runs.asked_for(woken, "dataset_id", assets.dataset("shop")) == "newest"


def test_without_events_the_stage_takes_its_own_newest():
    assert runs.asked_for(context("scheduled", dataset_id=None), "dataset_id", assets.dataset("shop")) is None
    other = context("asset_triggered", events=[event(1, dataset_id="other line's")], dataset_id=None)
    assert runs.asked_for(other, "dataset_id", assets.dataset("books")) is None


@pytest.mark.parametrize(
    "given", ["2026-03-01T12:00:00+00:00", "2026-03-01T13:00:00+01:00", "2026-03-01T12:00:00Z", "2026-03-01T12:00:00"]
)
def test_the_moment_of_a_run_is_in_its_own_zone_or_utc(given):
    assert runs.as_of(context("manual", as_of=given)) == datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_a_run_that_is_asked_for_no_moment_acts_for_now():
    before = datetime.now(UTC)
    assert timedelta(0) <= runs.as_of(context("scheduled", as_of=None)) - before < timedelta(minutes=1)


def asked(*known, **conf):
    return {"dag": SimpleNamespace(params=dict.fromkeys(known)), "dag_run": SimpleNamespace(conf=conf)}


def test_what_the_dag_knows_may_be_asked_for():
    runs.check_parameters(asked("family", "reason", reason="try", family="sasrec"))
    runs.check_parameters(asked("family", "reason") | {"dag_run": SimpleNamespace(conf=None)})


def test_a_parameter_that_there_is_not_is_refused_with_what_is_allowed_and_the_near_match():
    with pytest.raises(AirflowFailException) as error:
        runs.check_parameters(asked("family", "reason", reason="try", famly="sasrec", zzz=1))
    assert str(error.value) == (
        "famly: no such parameter; it must be one of ['family', 'reason']. Did you mean 'family'? "
        "zzz: no such parameter; it must be one of ['family', 'reason']. "
        "Nothing has been done: start the run again without it."
    )


def test_only_what_a_person_asks_for_is_told_apart_from_what_was_done_before():
    assert runs.nonce(context("manual", user="operator")) == "manual__1"
    assert runs.nonce(context("scheduled")) == runs.nonce(context("asset_triggered")) == ""


def test_an_override_has_the_name_and_the_reason_of_who_started_the_run():
    asked = runs.override(context("manual", user="ann", override=True, reason="the shop wants it"))
    assert (asked.by, asked.reason) == ("ann", "the shop wants it")
    assert runs.override(context("manual", user="ann", override=None, reason="x")) is None


@pytest.mark.parametrize("run_type", ["scheduled", "backfill", "asset_triggered"])
def test_a_run_that_nobody_started_overrides_nothing(run_type):
    with pytest.raises(AirflowFailException, match="override: must be asked for by a person"):
        runs.override(context(run_type, user="ann", override=True, reason="x"))
