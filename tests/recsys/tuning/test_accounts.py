"""What a search's seconds went into, from trials that were written by hand."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from optuna.trial import TrialState, create_trial

from recsys.records import Spending, TrialResult
from recsys.tuning.accounts import spending, stage_gains
from recsys.tuning.outcomes import LOST, NOT_BEGUN, SEEN_AT

BEGAN = datetime(2026, 1, 26, 12)
MARKOV = {"epochs": 0, "steps": 2, "decay": 0.8, "smoothing": 20.0, "neighbours": 128}


def trial(held_s, counted_s, *, begins_s=0.0, state=TrialState.COMPLETE, stage="screen", **facts):
    """A trial that its worker held for some seconds, of which it counted some."""
    made = create_trial(
        state=state,
        value=0.1 if state is TrialState.COMPLETE else None,
        user_attrs={"stage": stage, "family": "markov", "seconds": {"training": counted_s}, **facts},
    )
    made.datetime_start = BEGAN + timedelta(seconds=begins_s)
    made.datetime_complete = made.datetime_start + timedelta(seconds=held_s)
    return made


def test_every_second_of_every_trial_has_one_cause():
    trials = [
        trial(10.0, 9.0, training="a"),
        trial(4.0, 3.5, state=TrialState.PRUNED, training="b"),
        trial(2.0, 2.0, state=TrialState.FAIL),
        trial(1.0, 0.5, state=TrialState.PRUNED, infeasible=("too large",)),
        trial(6.0, 6.0, state=TrialState.PRUNED, infeasible=("dead units",), training="c"),
        trial(0.25, 0.0, training="a", reused="trial 0 of another", saved_s=9.0),
        trial(99.0, 0.0, state=TrialState.FAIL, **{LOST: True, SEEN_AT: BEGAN.timestamp() + 5}),
        trial(7.0, 0.0, state=TrialState.FAIL, **{NOT_BEGUN: True}),
    ]
    found = spending(trials)
    assert found == (
        Spending(cause="useful", trials=1, seconds=9.0),
        Spending(cause="pruned", trials=1, seconds=3.5),
        Spending(cause="failed", trials=1, seconds=2.0),
        Spending(cause="infeasible", trials=1, seconds=0.5),
        Spending(cause="unsound", trials=1, seconds=6.0),
        Spending(cause="duplicate", trials=1, seconds=0.0, saved_s=9.0),
        Spending(cause="lost", trials=1, seconds=5.0),  # until its last sign of life
        Spending(cause="overhead", trials=0, seconds=2.25),
    )
    assert sum(part.seconds for part in found) == 10 + 4 + 2 + 1 + 6 + 0.25 + 5


def test_what_screening_went_on_for_after_its_plateau_is_no_use():
    trials = [trial(10.0, 10.0, training="a"), trial(3.0, 3.0, begins_s=20.0, stage="confirm", training="b")]
    found = {part.cause: part.seconds for part in spending(trials, plateau_at=BEGAN.timestamp() + 6)}
    assert found == pytest.approx({"useful": 6.0 + 3.0, "after the plateau": 4.0, "overhead": 0.0})


def result(number, stage, ndcg, seconds, **configuration):
    return TrialResult(
        number=number,
        stage=stage,
        state="complete",
        family="markov",
        configuration={**MARKOV, **configuration},
        seed=7,
        ndcg_at_10=ndcg,
        seconds=seconds,
    )


def test_each_stage_says_what_it_found_over_the_incumbent_for_its_seconds(a_plan):
    plan = a_plan(family="markov", configuration=MARKOV)
    results = [
        result(0, "screen", 0.10, 30.0),
        result(1, "screen", 0.13, 60.0, decay=0.5),
        result(2, "confirm", 0.11, 100.0),
        result(3, "confirm", 0.13, 170.0, decay=0.5),
    ]
    screen, confirm, whole = stage_gains(plan, results)
    assert (screen.stage, screen.trials, screen.seconds) == ("screen", 2, 90.0)
    assert (screen.gain, screen.gain_per_hour) == (pytest.approx(0.03), pytest.approx(0.03 * 40))
    assert confirm.gain_per_hour == pytest.approx(0.02 * 3600 / 270)
    assert (whole.stage, whole.trials, whole.seconds) == ("all", 4, 360.0)
    assert (whole.gain, whole.gain_per_hour) == (pytest.approx(0.02), pytest.approx(0.2))


def test_a_gain_that_hardly_a_second_was_spent_on_is_not_divided_by_hours(a_plan):
    plan = a_plan(family="markov", configuration=MARKOV)
    gained = [result(0, "screen", 0.10, 0.4), result(1, "screen", 0.13, 0.5, decay=0.5)]
    taken_over = [replace(trial, seconds=30.0, reused="trial 0 of another") for trial in gained]
    for results in (gained, taken_over):
        assert [(part.gain, part.gain_per_hour) for part in stage_gains(plan, results)] == [
            (pytest.approx(0.03), None)
        ] * 2
    enough = [replace(gained[0], seconds=0.5), gained[1]]
    assert stage_gains(plan, enough)[0].gain_per_hour == pytest.approx(0.03 * 3600)


def test_where_the_incumbent_has_no_value_there_is_no_gain(a_plan):
    found = stage_gains(a_plan(), [result(0, "screen", 0.13, 60.0)])
    assert [(part.gain, part.gain_per_hour) for part in found] == [(None, None), (None, None)]
    assert stage_gains(a_plan(), []) == ()
