"""Why a search ended, told from a study that was written by hand: what ran, for how long, and what was left."""

from datetime import datetime, timedelta

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from recsys.tuning.contract import Contract
from recsys.tuning.ending import ending
from recsys.tuning.outcomes import LOST, NOT_BEGUN, SEEN_AT
from recsys.tuning.trials import OPENED_AT, RESERVED, Trials

BEGAN = datetime(2026, 1, 26, 12)
SEVEN = {"epochs": 10, "steps": 7}


@pytest.fixture
def told(a_line, a_plan):
    """Write the sentence of a study with a budget of 90 s: trials as (stage, seconds); None was not begun."""

    def told(*trials, line=None, budget_s=90.0, **facts):
        study = optuna.create_study(direction="maximize")
        study.set_user_attr(OPENED_AT, BEGAN.timestamp())
        study.set_user_attr(RESERVED, {"seconds": budget_s})
        now = BEGAN
        for stage, seconds in trials:
            known = {"stage": stage, "seed": 7, "family": "markov", "configuration": SEVEN, **facts}
            if seconds is None:
                study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={**known, NOT_BEGUN: True}))
                continue
            rung = getattr((line or a_line()).search, stage)
            known |= {"units": rung.share * max(1, round(10 * rung.epochs)), "seconds": {"training": seconds}}
            trial = create_trial(state=TrialState.COMPLETE, value=0.1, user_attrs=known)
            trial.datetime_start, trial.datetime_complete = now, now + timedelta(seconds=seconds)
            now = trial.datetime_complete
            study.add_trial(trial)
        written, plan = Trials(study), a_plan(budget_s=budget_s)
        return ending(Contract(line or a_line(), plan, written), plan, written, written.results())

    return told


def test_what_was_left_and_would_not_have_ended_in_time_is_said_with_the_numbers(told):
    # Screening: 0.5 of the users, 2 of 10 epochs, 1 unit in 6 s. Confirming: 10 units, 60 s, and after one number with
    # noise 0.15, which counts eight, exp(1.383 * 0.15 * sqrt(8 / 9 * 2)) times as long where one wants to be sure.
    said = told(("screen", 6.0), ("screen", None), ("refine", None), ("confirm", None), ("confirm", None), budget_s=66)
    assert said == (
        "The budget ended the search after 6.0 of 66 s, because no trial left was forecast to end in the 60.0 s that "
        "remained (the cheapest, markov in confirm, may take 79.1 s): the trials begun "
        "are 1 of 2 in screen, 0 of 1 in refine, 0 of 2 in confirm. "
        "Trials of screen and refine were left, to keep time for the stages after."
    )


def test_a_budget_that_is_spent_has_ended_the_search(told):
    assert told(("screen", 91.0), ("screen", None)) == (
        "The budget ended the search after 91.0 of 90 s: the trials begun are 1 of 2 in screen."
    )


def test_a_search_with_trials_left_that_would_have_ended_was_closed_and_not_ended_by_its_budget(told):
    assert told(("screen", 6.0), ("screen", None), **{LOST: True, SEEN_AT: BEGAN.timestamp() + 6}) == (
        "The search was closed after 6.0 of 90 s, before every trial of screen had begun: "
        "the trials begun are 1 of 2 in screen. Workers were lost, which may be why."
    )


def test_stages_that_gave_way_to_a_last_one_that_is_whole_are_named(told):
    assert told(("screen", 6.0), ("refine", None), ("confirm", 60.0)) == (
        "The search ended after 66.0 of 90 s with every trial of confirm: the trials begun are 1 of 1 in screen, "
        "0 of 1 in refine, 1 of 1 in confirm. Trials of refine were left, to keep time for the stages after."
    )
