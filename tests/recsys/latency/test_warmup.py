import numpy as np
import pytest

from recsys.latency.warmup import GROUP, warm_after


def noisy(rng, level, n):
    return level * rng.lognormal(0, 0.1, n)


def test_requests_that_are_all_alike_are_warm_from_the_first():
    found = [warm_after(noisy(np.random.default_rng(seed), 1.0, 200)) for seed in range(20)]
    assert np.mean([n > 0 for n in found]) <= 0.1


@pytest.mark.parametrize("n_cold", [10, 60])
def test_slow_first_requests_are_found_however_many_they_are(n_cold):
    rng = np.random.default_rng(1)
    ms = np.concatenate([noisy(rng, 1.5, n_cold), noisy(rng, 1.0, 200 - n_cold)])
    assert abs(warm_after(ms) - n_cold) <= GROUP


def test_of_several_levels_the_last_counts():
    rng = np.random.default_rng(2)
    ms = np.concatenate([noisy(rng, level, 50) for level in (4.0, 2.0, 1.0, 1.0)])
    assert abs(warm_after(ms) - 100) <= GROUP


def test_a_few_slow_requests_are_no_level():
    ms = np.ones(200)
    ms[[3, 50, 51, 120]] = 30.0
    assert warm_after(ms) == 0


def test_times_that_still_change_at_their_end_are_not_warm():
    assert warm_after(np.concatenate([np.ones(95), np.full(5, 9.0)])) == 100


def test_too_few_requests_say_nothing():
    assert warm_after(np.array([5.0, 1.0])) == 0
