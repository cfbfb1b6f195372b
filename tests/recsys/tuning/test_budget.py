import pytest

from recsys.settings import Stage
from recsys.tuning.budget import Forecast, Paid, epochs, fits, left_s, units
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


def test_a_stage_has_left_what_is_neither_spent_nor_foreseen_for_later_ones():
    assert left_s(100, 30, []) == 70  # the last stage
    assert left_s(100, 30, [8.0, 12.0]) == 70 - 1.25 * 20
    assert left_s(100, 30, [500.0]) == 70 - 60  # later stages may claim so much and no more
    assert left_s(100, 30, None) == 70 - 40


def test_a_trial_begins_if_it_will_end_in_time_or_nobody_knows():
    assert fits(10.0, 12.5)
    assert not fits(10.0, 12.4)  # less than the forecast and a quarter more
    assert fits(None, 0.1)
    assert not fits(None, 0.0)
