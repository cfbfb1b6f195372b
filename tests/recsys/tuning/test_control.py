from dataclasses import replace

import pytest

from recsys.models import FAMILIES
from recsys.records import Estimate
from recsys.tuning.control import said, transferred

COLD = {**FAMILIES["two_tower"].defaults, "epochs": 20}
WARM = {**COLD, "epochs": 3, "start": "incumbent"}


@pytest.fixture
def plan(a_plan):
    return a_plan(family="two_tower", configuration=WARM, control=COLD)


@pytest.fixture
def trial(a_trial):
    def made(number, configuration, *windows, seconds=1.0, **how):
        found = a_trial(number, configuration, sum(windows) / len(windows), **how)
        return replace(found, family="two_tower", windows=windows, seconds=seconds)

    return made


def test_pairs_are_of_seed_and_window_in_the_last_stage_that_has_both(plan, trial):
    found = transferred(
        plan,
        [
            trial(0, WARM, 0.9, 0.9, stage="screen"),
            trial(1, COLD, 0.1, 0.1, stage="screen"),
            trial(2, WARM, 0.30, 0.34, seconds=2.0, seed=7),
            trial(3, COLD, 0.28, 0.30, seconds=8.0, seed=7),
            trial(4, WARM, 0.31, 0.33, seconds=3.0, seed=8),
            trial(5, COLD, 0.31, 0.31, seconds=9.0, seed=8),
            trial(6, WARM, 0.99, 0.99, seed=9),  # whose cold one has not ended
            trial(7, {**COLD, "lr": 0.001}, 0.5, 0.5, seed=7),
        ],
    )
    assert (found.stage, found.pairs, found.seconds, found.cold_seconds) == ("confirm", 4, 5.0, 17.0)
    # Differences 0.02, 0.04, 0.00, 0.02: mean 0.02, standard deviation 0.01633, times 3.1824 / 2.
    assert found.ndcg_gain.value == pytest.approx(0.02)
    assert found.ndcg_gain.low == pytest.approx(0.02 - 0.02598, abs=1e-5)
    assert found.ndcg_gain.high == pytest.approx(0.02 + 0.02598, abs=1e-5)


def test_an_earlier_stage_counts_where_the_last_has_no_pair(plan, trial):
    trials = [
        trial(0, WARM, 0.2, 0.3, stage="screen"),
        trial(1, COLD, 0.1, 0.1, stage="screen"),
        trial(2, WARM, 0.4, 0.4),
        trial(3, COLD, 0.4, 0.4, state="pruned"),
    ]
    assert transferred(plan, trials).stage == "screen"


def test_of_a_single_pair_nothing_is_sure(plan, trial):
    found = transferred(plan, [trial(0, WARM, 0.3), trial(1, COLD, 0.2)])
    assert (found.ndcg_gain.low, found.ndcg_gain.high) == (-1.0, 1.0)
    assert found.ndcg_gain.value == pytest.approx(0.1)


def test_a_result_that_was_taken_over_counts_by_its_mean_and_not_by_its_seconds(plan, trial):
    taken = replace(trial(1, COLD, 0.2), windows=(), reused="trial 3 of r1", seconds=0.01)
    found = transferred(plan, [trial(0, WARM, 0.2, 0.4), taken])
    assert found.pairs == 1
    assert found.ndcg_gain.value == pytest.approx(0.1)
    assert (found.seconds, found.cold_seconds) == (None, None)
    assert said(found).endswith("in 1 pair of seed and window in confirm.")


def test_without_a_control_or_a_pair_there_is_nothing_to_say(plan, a_plan, trial):
    both = [trial(0, WARM, 0.3), trial(1, COLD, 0.2)]
    assert transferred(a_plan(family="two_tower", configuration=WARM), both) is None
    assert transferred(plan, both[:1]) is None
    assert transferred(plan, [both[0], replace(both[1], seed=1)]) is None


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.001, 0.003, " pays: "),
        (-0.003, -0.001, " harms: "),
        (-0.001, 0.003, " makes no difference that can be told: "),
    ],
)
def test_the_interval_decides_what_is_said(plan, trial, low, high, verdict):
    found = transferred(plan, [trial(0, WARM, 0.3), trial(1, COLD, 0.2)])
    assert verdict in said(replace(found, ndcg_gain=Estimate(value=(low + high) / 2, low=low, high=high)))
