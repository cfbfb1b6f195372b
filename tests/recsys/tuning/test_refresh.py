from datetime import UTC, datetime

import pytest

from recsys import ledger, tuning
from recsys.errors import NoTime
from recsys.records import Action
from recsys.settings import Schedule
from recsys.tuning.refresh import room
from recsys.tuning.trials import Trials

DAILY = Schedule(feature_refresh="0 6 * * *", feature_refresh_margin_minutes=10)


def at(hour, minute, second=0):
    return datetime(2026, 1, 26, hour, minute, second, tzinfo=UTC)


@pytest.fixture
def line(a_line):
    return a_line().model_copy(update={"schedule": DAILY})


def test_without_a_refresh_a_search_has_its_budget_and_all_the_time(a_line, a_plan):
    found = room(a_line(), a_plan(budget_s=600.0), at(5, 59))
    assert (found.seconds, found.until) == (600.0, None)


def test_a_search_that_ends_before_the_refresh_has_its_budget(line, a_plan):
    found = room(line, a_plan(budget_s=600.0), at(5, 40))
    assert (found.seconds, found.until) == (600.0, at(5, 50))


def test_a_search_that_would_end_little_later_is_shortened_and_says_so(line, a_plan):
    found = room(line, a_plan(budget_s=600.0), at(5, 45))
    assert (found.seconds, found.until) == (300.0, at(5, 50))
    assert found.because == (
        "It has only 300 s: with 600 s it would end at 2026-01-26 05:55:00 UTC, but the line's features are refreshed "
        "at 2026-01-26 06:00:00 UTC, and it must end 10 minutes before."
    )


def test_a_search_that_would_lose_more_than_half_is_put_off_with_both_instants(line, a_plan):
    with pytest.raises(NoTime) as late:
        room(line, a_plan(budget_s=600.0), at(5, 45, 1))
    assert (late.value.ends, late.value.refresh) == (at(5, 55, 1), at(6, 0))
    assert str(late.value) == (
        "The search r20260126-00000000 is put off: with 600 s it would end at 2026-01-26 05:55:01 UTC, but the line's "
        "features are refreshed at 2026-01-26 06:00:00 UTC, and it must end 10 minutes before."
    )


def test_an_order_is_carried_out_although_features_are_refreshed_meanwhile(line, a_plan):
    found = room(line, a_plan(budget_s=600.0, ordered=True, by="ann"), at(5, 59))
    assert (found.seconds, found.until) == (600.0, None)
    assert found.because.startswith("It is opened because ann ordered it, although with 600 s it would end at ")


def test_presets_that_airflow_alone_knows_are_understood(a_line, a_plan):
    line = a_line().model_copy(update={"schedule": Schedule(feature_refresh="@quarterly")})
    assert room(line, a_plan(budget_s=600.0), at(5, 40)).until == datetime(2026, 3, 31, 23, 50, tzinfo=UTC)


def test_what_is_set_aside_is_written_to_the_study_and_to_the_ledger(shop, retune, line):
    plan = retune(incumbent="markov", line=line)
    tuning.open_study(line, shop.store, plan, shop.studies, now=at(5, 46))  # 240 s before it must have ended
    found = Trials.load(plan, shop.studies).reservation
    assert (found.seconds, found.until) == (240.0, at(5, 50).timestamp())
    [entry] = ledger.read(shop.store, what="opened")
    assert (entry.evidence["reserved_s"], entry.evidence["budget_s"]) == (240.0, 300.0)
    assert entry.why.startswith(f"The search {plan.plan_id} was opened. It has only 240 s: ")


def test_a_search_that_is_put_off_leaves_no_study_and_says_so_in_the_ledger(shop, retune, line):
    plan = retune(incumbent="markov", line=line)
    for _ in range(2):
        with pytest.raises(NoTime):
            tuning.open_study(line, shop.store, plan, shop.studies, now=at(5, 49))
    with pytest.raises(ValueError, match="must be opened first"):
        Trials.load(plan, shop.studies)
    [entry] = ledger.read(shop.store, what="put off")
    assert entry.evidence["refresh"] == "2026-01-26T06:00:00+00:00"
    assert entry.why.startswith(f"The search {plan.plan_id} is put off: ")
    tuning.open_study(line, shop.store, plan, shop.studies, now=at(6, 1))  # the next refresh is a day away
    [opened] = ledger.read(shop.store, what="opened")
    assert (opened.evidence["reserved_s"], opened.evidence["until"]) == (300.0, "2026-01-27T05:50:00+00:00")


def test_a_person_who_orders_a_search_is_told_what_it_runs_into(shop, retune, line):
    plan = retune(incumbent="markov", line=line, action=Action.RETUNE, reason="now")
    tuning.open_study(line, shop.store, plan, shop.studies, now=at(5, 59))
    [entry] = ledger.read(shop.store, what="opened")
    assert "because schedule ordered it, although with 300 s it would end at 2026-01-26 06:04:00 UTC" in entry.why
