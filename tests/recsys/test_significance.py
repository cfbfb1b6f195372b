import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from recsys.significance import ABSOLUTE, RELATIVE, detectable, estimate, pair, tails


def by_hand(candidate, incumbent, users, *, margin=0.0, share=0.0):
    """Students t and skewness of the users' totals, straight from their definitions."""
    values = np.asarray(candidate) - (1 + share) * np.asarray(incumbent) - margin
    totals = np.array([values[np.asarray(users) == user].sum() for user in np.unique(users)])
    return stats.ttest_1samp(totals, 0).statistic, stats.skew(totals), len(totals)


def drawn(seed=0, users=200, skew=1.0):
    rng = np.random.default_rng(seed)
    who = np.sort(rng.integers(0, users, 3 * users))
    incumbent = rng.random(len(who)) * rng.integers(0, 2, len(who))
    return incumbent + skew * (rng.exponential(0.2, len(who)) - 0.17), incumbent, who


def test_a_symmetric_difference_is_tested_by_students_t():
    # Four users gain 0, 0, 0.2 and 0.2: mean 0.1, standard error 0.1155 / 2, so t is 3 root 2 over... root 3.
    found = tails(pair(np.array([0.0, 0.0, 0.2, 0.2]), np.zeros(4), np.arange(4)), ABSOLUTE, 0.0)
    assert found.better == pytest.approx(stats.t.sf(math.sqrt(3), 3))
    assert found.worse == pytest.approx(stats.t.cdf(math.sqrt(3), 3))


def test_a_users_cases_count_as_one():
    few = pair(np.array([0.0, 0.2, 0.1]), np.zeros(3), np.arange(3))
    many = pair(np.repeat([0.0, 0.2, 0.1], 50), np.zeros(150), np.repeat(np.arange(3), 50))
    assert many.users == few.users == 3
    assert tails(many, ABSOLUTE, 0.0) == pytest.approx(tails(few, ABSOLUTE, 0.0))


@pytest.mark.parametrize(("scale", "margins"), [(ABSOLUTE, {"margin": 0.01}), (RELATIVE, {"share": 0.01})])
def test_the_test_follows_from_the_sums_as_from_the_users_themselves(scale, margins):
    for skew in (1.0, -1.0):
        candidate, incumbent, users = drawn(skew=skew)
        t, skewness, n = by_hand(candidate, incumbent, users, **margins)
        a = skewness / 3 / math.sqrt(n)
        corrected = ((1 + a * t) ** 3 - 1) / (3 * a) + a / 2  # Hall 1992, equation 3, in its closed form
        found = tails(pair(candidate, incumbent, users), scale, 0.01)
        assert found.better == pytest.approx(stats.t.sf(t if skew > 0 else corrected, n - 1))
        assert found.worse == pytest.approx(stats.t.cdf(corrected if skew > 0 else t, n - 1))


def test_skewness_only_ever_makes_a_test_stricter():
    for skew in (1.0, -1.0):
        candidate, incumbent, users = drawn(skew=skew)
        t, _, n = by_hand(candidate, incumbent, users)
        found = tails(pair(candidate, incumbent, users), ABSOLUTE, 0.0)
        assert found.better >= stats.t.sf(t, n - 1) - 1e-12
        assert found.worse >= stats.t.cdf(t, n - 1) - 1e-12


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    skew=st.floats(0.1, 1) | st.floats(-1, -0.1),
    margin=st.floats(-0.2, 0.2),
    level=st.floats(1e-6, 0.2),
    scale=st.sampled_from([ABSOLUTE, RELATIVE]),
)
def test_the_interval_lies_above_a_margin_just_where_the_test_says_so(seed, skew, margin, level, scale):
    paired = pair(*drawn(seed=seed, users=60, skew=skew))
    shown, found = estimate(paired, scale, level=level), tails(paired, scale, margin)
    assert shown.low <= shown.value <= shown.high
    if min(abs(shown.low - margin), abs(shown.high - margin)) > 1e-9:
        assert (shown.low > margin) == (found.better < level)
        assert (shown.high < margin) == (found.worse < level)


def test_the_value_is_that_of_all_cases_together():
    candidate, incumbent, users = drawn()
    paired = pair(candidate, incumbent, users)
    assert estimate(paired, ABSOLUTE, level=0.01).value == pytest.approx(np.mean(candidate) - np.mean(incumbent))
    assert estimate(paired, RELATIVE, level=0.01).value == pytest.approx(candidate.sum() / incumbent.sum() - 1)


@pytest.mark.parametrize("level", [1e-4, 0.01])
def test_an_interval_without_skewness_is_students(level):
    gains = np.tile([-0.1, 0.3], 50)
    shown = estimate(pair(0.5 + gains, np.full(100, 0.5), np.arange(100)), ABSOLUTE, level=level)
    reach = stats.t.isf(level, 99) * gains.std(ddof=1) / 10
    assert (shown.low, shown.high) == pytest.approx((0.1 - reach, 0.1 + reach))


def test_identical_models_and_single_users_show_nothing():
    same = pair(np.array([0.5, 0.2, 0.1]), np.array([0.5, 0.2, 0.1]), np.arange(3))
    assert tails(same, ABSOLUTE, 0.0) == (1.0, 1.0)
    shown = estimate(same, ABSOLUTE, level=0.01)
    assert (shown.value, shown.low, shown.high) == (0.0, 0.0, 0.0)
    alone = pair(np.array([0.5, 0.7]), np.array([0.1, 0.1]), np.zeros(2, np.int64))
    assert tails(alone, ABSOLUTE, 0.0) == (1.0, 1.0)
    assert tails(same, RELATIVE, -0.1).better < 0.1  # that they lose no tenth is shown all the same


def test_what_has_no_end_is_said_to_end_at_the_largest_difference_there_is():
    doubtful = pair(np.array([0.0, 1.0]), np.array([1.0, 0.0]), np.arange(2))
    shown = estimate(doubtful, ABSOLUTE, level=1e-4)
    assert (shown.low, shown.high) == (-1.0, 1.0)


def test_levels_and_what_nothing_can_be_relative_to_are_refused():
    nothing = pair(np.array([0.5, 0.2]), np.zeros(2), np.arange(2))
    with pytest.raises(ValueError, match="the incumbent's metric is 0 in every case"):
        estimate(nothing, RELATIVE, level=0.01)
    for level in (0.0, 0.5):
        with pytest.raises(ValueError, match="level must lie in"):
            estimate(nothing, ABSOLUTE, level=level)


def test_a_loss_as_large_as_is_detectable_is_found_so_often():
    rng, found, users = np.random.default_rng(3), 0, 400
    incumbent = rng.random(users) * rng.integers(0, 2, users)
    noise = rng.normal(0, 0.2, users)
    loss = detectable(
        pair(incumbent + noise, incumbent, np.arange(users)), RELATIVE, margin=0.05, level=0.01, power=0.9
    )
    for _ in range(1000):
        before = rng.choice(incumbent, users)
        after = before * (1 - loss) + rng.normal(0, 0.2, users)
        found += tails(pair(after, before, np.arange(users)), RELATIVE, -0.05).worse <= 0.01
    assert 0.86 < found / 1000 < 0.94
    assert detectable(pair(np.ones(1), np.ones(1), np.zeros(1)), RELATIVE, margin=0, level=0.1, power=0.9) == 99.0


@pytest.mark.parametrize("sign", [1, -1])
def test_no_more_false_alarms_than_the_level_allows_far_out_and_with_skewed_users(sign):
    """Of 40,000 draws of 500 users whose gains are skewed but 0 in the mean, 40 may exceed the level of 0.001."""
    rng, found, draws = np.random.default_rng(5), 0, 40_000
    population = sign * (rng.gamma(4, 1, 20_000) - 4)  # skewness 1
    population -= population.mean()
    for _ in range(draws):
        x = rng.choice(population, 500)
        t = x.mean() / x.std(ddof=1) * math.sqrt(500)
        if t > 2.5:  # others are far from it, and the sums take long
            found += tails(pair(x, np.zeros(500), np.arange(500)), ABSOLUTE, 0.0).better <= 0.001
    assert found <= stats.poisson.ppf(0.999, 40)
