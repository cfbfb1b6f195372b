import time

import pytest

from recsys.settings import Stage
from recsys.tuning.budget import Budget, Forecast, Paid, epochs, fits, units
from recsys.tuning.ranking import Standing

HALF = Stage(trials=1, share=0.5, epochs=0.4)
WHOLE = Stage(trials=2, seeds=3)


def standing(family, n_epochs):
    return Standing(stage="screen", family=family, configuration={"epochs": n_epochs}, ndcg_at_10=0.1, seeds=1, first=0)


@pytest.mark.parametrize(("whole", "stage", "expected"), [(30, HALF, 12), (1, HALF, 1), (0, HALF, 0), (30, WHOLE, 30)])
def test_a_stage_gives_its_part_of_the_epochs_and_one_at_least_to_what_is_trained(whole, stage, expected):
    assert epochs({"epochs": whole}, stage) == expected


def test_what_is_counted_costs_one_pass_over_its_share():
    assert units({"epochs": 0}, HALF) == 0.5


def test_seconds_are_foreseen_from_the_medians_of_the_family():
    paid = [
        Paid(family="a", units=2.0, training_s=4.0, evaluation_s=1.0),  # 2 s a unit
        Paid(family="a", units=1.0, training_s=3.0, evaluation_s=2.0),  # 3
        Paid(family="a", units=4.0, training_s=40.0, evaluation_s=9.0),  # 10
        Paid(family="b", units=1.0, training_s=0.5, evaluation_s=0.5),
    ]
    forecast = Forecast.of(paid)
    assert forecast.trial("a", {"epochs": 10}, WHOLE) == 3.0 * 10 + 2.0
    assert forecast.trial("b", {"epochs": 10}, HALF) == pytest.approx(0.5 * 0.5 * 4 + 0.5)
    assert forecast.trial("c", {"epochs": 10}, WHOLE) is None
    # 32 s and 5.5 s with three seeds each on two workers
    assert forecast.stage([standing("a", 10), standing("b", 10)], WHOLE, workers=2) == (32 + 5.5) * 3 / 2
    # Nine workers cannot make the longest trial shorter.
    assert forecast.stage([standing("a", 10), standing("b", 10)], WHOLE, workers=9) == 32


def test_a_stage_ends_when_what_is_foreseen_for_later_ones_must_begin():
    budget = Budget(seconds=100, started_at=1000)
    assert budget.deadline([]) == 1100  # the last stage
    assert budget.deadline([8.0, 12.0]) == 1100 - 1.25 * 20
    assert budget.deadline([500.0]) == 1100 - 60  # later stages may claim so much and no more
    assert budget.deadline(None) == 1100 - 40


def test_a_trial_begins_if_it_will_end_in_time_or_nobody_knows():
    now = time.time()
    assert fits(10.0, now + 13.0)
    assert not fits(10.0, now + 12.0)  # less than the forecast and a quarter more
    assert fits(None, now + 5.0)
    assert not fits(None, now - 1.0)
