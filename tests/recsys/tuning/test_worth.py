import numpy as np
import pytest

from recsys.tuning.worth import deviation, holm, worth

RNG = np.random.default_rng(4)
USERS = np.repeat(np.arange(200), 3)
BASE = RNG.random(600)


def seeds(change, *numbers, noise=0.0):
    """What users saw with each seed: the base, moved by `change` and by what the seed does to all of it."""
    return {n: BASE + change + noise * np.random.default_rng([n, 9]).normal() for n in numbers}


def compare(whole, *variants, **how):
    return worth(whole, variants, USERS, **{"confidence": 0.95, "seed": 0, **how})


def test_the_change_is_the_mean_difference_over_the_seeds_that_both_have():
    whole = {1: np.full(600, 0.5), 2: np.full(600, 0.7), 3: np.full(600, 9.0)}
    [found] = compare(whole, {1: np.full(600, 0.4), 2: np.full(600, 0.3)})
    assert found.seeds == 2
    assert found.ndcg_at_10 == pytest.approx(0.35)
    assert found.change.value == pytest.approx((-0.1 - 0.4) / 2)


def test_users_are_paired_so_what_all_of_them_share_is_no_doubt():
    [found] = compare(seeds(0.0, 1), seeds(-0.01, 1))
    assert (found.change.value, found.change.low, found.change.high) == pytest.approx((-0.01, -0.01, -0.01))
    assert found.significant


def test_a_component_that_changes_nothing_has_no_difference():
    [found] = compare(seeds(0.0, 1, 2), seeds(0.0, 1, 2))
    assert found.p == 1.0
    assert not found.significant


def test_the_interval_is_that_of_users_where_seeds_do_nothing():
    by_user = np.random.default_rng(1).normal(0.02, 0.1, 200)[USERS]
    [found] = compare(seeds(0.0, 1), {1: BASE + by_user})
    deviation_of_users = np.std(by_user[::3]) / 200**0.5
    assert found.change.value - found.change.low == pytest.approx(1.96 * deviation_of_users, rel=0.05)
    assert found.change.high - found.change.value == pytest.approx(1.96 * deviation_of_users, rel=0.05)


def test_what_seeds_do_widens_the_interval_by_students_t():
    whole = {1: BASE + 0.01, 2: BASE - 0.01}
    variant = {1: BASE - 0.01, 2: BASE + 0.01}
    [found] = compare(whole, variant)
    spread = 2 * 0.01**2 * 2 / 2  # of the difference of two means over two seeds, with two degrees of freedom
    assert found.change.high == pytest.approx(4.303 * spread**0.5, rel=0.1)
    assert not found.significant


def test_seeds_that_differ_keep_a_small_change_from_being_believed():
    calm = compare(seeds(0.0, 1, 2), seeds(-0.004, 1, 2))
    noisy = compare(seeds(0.0, 1, 2, noise=0.02), seeds(-0.004, 1, 2, noise=0.02))
    assert calm[0].significant
    assert not noisy[0].significant


def test_p_values_have_the_number_of_components_in_mind():
    by_user = np.random.default_rng(2).normal(0.0, 0.1, 200)
    by_user += 2.3 * np.std(by_user) / 200**0.5 - by_user.mean()  # 2.3 standard errors: p of about 0.02
    telling, nothing = {1: BASE + by_user[USERS]}, seeds(0.0, 1)
    [alone] = compare(seeds(0.0, 1), telling)
    beside = compare(seeds(0.0, 1), telling, *[nothing] * 4)[0]
    assert alone.significant
    assert beside.p == pytest.approx(5 * alone.p)
    assert not beside.significant


def test_the_draws_are_fixed_by_the_seed():
    variant = {1: BASE + RNG.normal(0, 0.1, 600)}
    assert compare(seeds(0.0, 1), variant) == compare(seeds(0.0, 1), variant)
    assert compare(seeds(0.0, 1), variant) != compare(seeds(0.0, 1), variant, seed=1)


def test_nothing_to_compare_gives_nothing():
    assert compare(seeds(0.0, 1)) == []


def test_the_deviation_of_one_seed_is_unknown():
    assert deviation([seeds(0.0, 1), seeds(0.1, 2), {}]) == (None, 0)


def test_holms_p_values_never_fall_from_one_to_the_next_and_never_pass_one():
    assert holm([0.5, 0.01, 0.02, 0.8]) == pytest.approx([1.0, 0.04, 0.06, 1.0])
