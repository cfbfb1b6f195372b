"""What a stage has left, from a study that was written by hand."""

import time
from datetime import datetime, timedelta

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from recsys.models import FAMILIES
from recsys.tuning.contract import Contract
from recsys.tuning.trials import OPENED_AT, RESERVED, Trials

TOWER = {**FAMILIES["two_tower"].defaults, "epochs": 10}


@pytest.fixture
def contract(a_line, a_plan):
    """A contract over 100 s, of which screening has had 20 s in trials of one unit and 4 s each."""

    def make(*, until_s=None, evidence=(), trials=5, line=None, constraints_s=0.0, plan=None):
        study = optuna.create_study(direction="maximize")
        began = datetime.now() - timedelta(seconds=4 * trials)
        study.set_user_attr(OPENED_AT, began.timestamp())
        until = None if until_s is None else time.time() + until_s
        study.set_user_attr(RESERVED, {"seconds": 100.0, "until": until})
        for number in range(trials):
            facts = {
                "stage": "screen",
                "seed": 7,
                "family": "two_tower",
                "configuration": {**TOWER, "lr": 0.001 * (number + 1)},
                "units": 1.0,
                "seconds": {"training": 3.5, "evaluation": 0.5, "constraints": constraints_s},
                "size_mib": 1.0,
                "training": f"{number}",
            }
            made = create_trial(state=TrialState.COMPLETE, value=0.1 + number / 100, user_attrs=facts)
            made.datetime_start = began + timedelta(seconds=4 * number)
            made.datetime_complete = made.datetime_start + timedelta(seconds=4)
            study.add_trial(made)
        plan = plan or a_plan(family="two_tower", configuration=TOWER)
        return Contract(line or a_line(), plan, Trials(study), evidence)

    return make


def waiting(**facts):
    return create_trial(state=TrialState.WAITING, user_attrs={"stage": "screen", **facts})


def test_the_last_stage_has_all_that_is_not_spent(contract):
    assert contract().left_s("confirm") == pytest.approx(80, abs=0.1)


def test_earlier_stages_leave_what_the_later_ones_are_forecast_to_take(contract, a_line):
    found = contract(line=a_line(confirm={"trials": 1}))
    # The incumbent and one challenger side by side, each 10 units of 3.5 s and what it takes to be sure.
    confirm = found.forecast.trial("two_tower", TOWER, found.rung("confirm"))
    assert 35.5 < confirm < 45
    assert found.left_s("refine") == pytest.approx(80 - confirm, abs=0.5)
    # With two seeds each they would take twice as long, and may claim no more than 0.6 of the budget.
    assert contract().left_s("refine") == pytest.approx(80 - 60, abs=0.1)


def test_before_anything_is_known_a_part_is_kept(contract):
    assert contract(trials=0).left_s("screen") == pytest.approx(100 - 40)


def test_nothing_goes_on_beyond_the_moment_by_which_it_must_have_ended(contract):
    assert contract(until_s=80).left_s("confirm") == pytest.approx(80, abs=0.5)
    assert contract(until_s=30).left_s("confirm") == pytest.approx(30, abs=0.5)
    assert contract(until_s=5000).left_s("confirm") == pytest.approx(80, abs=0.5)


def test_a_trial_begins_only_where_it_will_end(contract):
    fits = contract().fitting("confirm")
    assert fits(waiting(family="two_tower", configuration=TOWER))
    assert not fits(waiting(family="two_tower", configuration={**TOWER, "epochs": 24}))  # 84 s and more, of 80
    assert fits(waiting(family="markov", configuration=FAMILIES["markov"].defaults))  # of which nothing is known


def test_the_incumbents_own_trial_begins_in_screening_whatever_is_forecast_of_it_while_there_is_time(contract):
    own = {"family": "two_tower", "configuration": {**TOWER, "epochs": 999}, "incumbent": True}
    assert contract().fitting("screen")(waiting(**own))
    assert not contract(trials=26).fitting("screen")(waiting(**own))  # 104 of 100 s are spent


def test_the_incumbents_own_trial_begins_later_where_it_will_rather_end_than_not(contract):
    fits = contract().fitting("confirm")
    towers = {epochs: {"family": "two_tower", "configuration": {**TOWER, "epochs": epochs}} for epochs in (22, 30)}
    assert not fits(waiting(**towers[22]))  # 77 s of 80, and more to be sure
    assert fits(waiting(**towers[22], incumbent=True))
    assert not fits(waiting(**towers[30], incumbent=True))  # 105 s


def test_the_incumbent_is_confirmed_first_where_that_takes_a_tenth_of_the_budget_at_most(contract, a_plan):
    def first(epochs):
        plan = a_plan(family="two_tower", configuration={**TOWER, "epochs": epochs})
        return contract(plan=plan).confirmed_at_once == [plan.configuration]

    assert first(2)  # 7 s of 100, and more to be sure
    assert not first(3)
    assert contract(plan=a_plan(family="sasrec", configuration=TOWER)).confirmed_at_once == []  # nothing is known of it


def test_a_brief_training_of_the_incumbent_is_confirmed_at_once_where_a_whole_one_would_take_too_long(contract, a_plan):
    brief = {**TOWER, "epochs": 2}
    plan = a_plan(family="two_tower", configuration={**TOWER, "epochs": 8}, brief=brief)
    assert contract(plan=plan).confirmed_at_once == [brief]


def test_the_first_trials_of_a_search_are_forecast_from_earlier_ones(contract, trial_evidence, search_evidence):
    trial = trial_evidence("two_tower", TOWER, 0.1, stage="confirm", seconds=60.5, units=10.0, evaluation_s=0.5)
    before = search_evidence(*[trial] * 6)
    hasty, wary = contract(trials=0), contract(trials=0, evidence=[before])
    asked = waiting(family="two_tower", configuration={**TOWER, "epochs": 20})
    assert hasty.fitting("confirm")(asked)
    assert not wary.fitting("confirm")(asked)  # 120 s of 100


def test_what_the_sampler_is_to_fill_is_taken_for_one_of_its_stage(contract):
    seconds, called = contract().foreseen("screen", waiting())
    assert (called, seconds) == ("a new configuration", pytest.approx(4.0, rel=0.3))
    assert seconds > 4.0
    assert contract(trials=0).foreseen("screen", waiting())[0] is None


def test_what_serving_costs_is_charged_to_a_shape_that_nobody_has_measured_and_to_no_other(contract, a_line):
    def foreseen(found, **changes):
        asked = waiting(family="two_tower", configuration={**TOWER, **changes}) if changes else waiting()
        return found.foreseen("screen", asked)[0]

    line = a_line(confirm={"trials": 1})
    free, dear = contract(line=line), contract(line=line, constraints_s=30.0)
    assert foreseen(dear, lr=0.02) == pytest.approx(foreseen(free, lr=0.02))
    assert foreseen(dear, history_length=7) == pytest.approx(foreseen(free, history_length=7) + 30)
    assert foreseen(dear) == pytest.approx(foreseen(free) + 30)  # most of the stage were of new shapes
    assert dear.left_s("refine") == pytest.approx(free.left_s("refine"), abs=0.5)  # what was screened is known
