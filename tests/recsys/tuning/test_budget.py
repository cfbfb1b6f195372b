import pytest

from recsys.settings import Stage
from recsys.tuning.budget import epochs, fits, left_s, units

HALF = Stage(trials=1, share=0.5, epochs=0.4)
WHOLE = Stage(trials=2, seeds=3)


@pytest.mark.parametrize(("whole", "stage", "expected"), [(30, HALF, 12), (1, HALF, 1), (0, HALF, 0), (30, WHOLE, 30)])
def test_a_stage_gives_its_part_of_the_epochs_and_one_at_least_to_what_is_trained(whole, stage, expected):
    assert epochs({"epochs": whole}, stage) == expected


def test_what_is_counted_costs_one_pass_over_its_share():
    assert units({"epochs": 0}, HALF) == 0.5


def test_a_stage_has_left_what_is_neither_spent_nor_foreseen_for_later_ones():
    assert left_s(100, 30, []) == 70  # the last stage
    assert left_s(100, 30, [8.0, 12.0]) == 70 - 20
    assert left_s(100, 30, [500.0]) == 70 - 60  # later stages may claim so much and no more
    assert left_s(100, 30, None) == 70 - 40
    assert left_s(100, 30, None, had_s=15.0) == 70 - 25  # of the 40
    assert left_s(100, 30, None, had_s=50.0) == 70


def test_a_trial_begins_if_it_will_end_in_time_or_nobody_knows():
    assert fits(10.0, 10.0)
    assert not fits(10.0, 9.9)
    assert fits(None, 0.1)
    assert not fits(None, 0.0)
