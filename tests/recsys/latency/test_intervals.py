import numpy as np
import pytest

from recsys.latency.intervals import Resampled, estimate


def test_the_quantile_of_all_times_is_the_least_that_so_many_do_not_exceed():
    blocks = np.arange(1.0, 101.0).reshape(10, 10)
    found = Resampled(10, resamples=50, seed=1).quantiles(blocks, [0.5, 0.95, 0.99, 1.0])
    assert found.shape == (4, 51)
    assert found[:, 0].tolist() == [50, 95, 99, 100]


def test_a_resample_draws_whole_rounds():
    blocks = np.array([[1.0, 1.0, 2.0], [7.0, 8.0, 8.0]])
    [medians] = Resampled(2, resamples=200, seed=1).quantiles(blocks, [0.5])
    assert set(medians[1:]) == {1.0, 2.0, 8.0}  # the first round twice, both, the second twice


def test_the_mean_of_each_resample_is_that_of_its_rounds():
    blocks = np.array([[1.0, 3.0], [5.0, 7.0]])
    means = Resampled(2, resamples=100, seed=1).means(blocks)
    assert means[0] == 4.0
    assert set(means[1:]) == {2.0, 4.0, 6.0}


def test_the_same_draws_serve_all_that_is_compared():
    rng = np.random.default_rng(3)
    pace = rng.lognormal(0, 0.5, (60, 1))  # of the machine in each round
    drawn = Resampled(60, resamples=400, seed=1)
    one, other = (drawn.quantiles(pace * rng.lognormal(0, 0.05, (60, 20)) * cost, [0.5])[0] for cost in (1.2, 1.0))
    ratio, alone = estimate(one / other, 0.95), estimate(one, 0.95)
    assert ratio.low < 1.2 < ratio.high
    assert ratio.high / ratio.low < 1.1 < alone.high / alone.low


def test_an_interval_holds_the_truth_as_often_as_it_says_although_times_in_a_round_are_alike():
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        blocks = rng.lognormal(0, 0.3, (100, 1)) * rng.lognormal(0, 0.1, (100, 25))
        [found] = Resampled(100, resamples=300, seed=seed).quantiles(blocks, [0.5])
        interval = estimate(found, 0.95)
        held += interval.low <= 1.0 <= interval.high
    assert 182 <= held <= 198  # 190 of 200, and two and a half deviations either way
    assert estimate(np.array([1.0, 0.0, 2.0]), 0.95).value == pytest.approx(1.0)
