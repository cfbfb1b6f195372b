import numpy as np
import pytest

from recsys.tuning.anova import Axis, effects, varies

PLACES = (np.arange(30) + 0.5) / 30
RANGE = Axis(PLACES, categorical=False)
EITHER = Axis(np.array([0.0, 1.0]), categorical=True)


def drawn(n, dims, seed):
    return np.random.default_rng(seed).random((n, dims))


def explained(points, values, axes, *, seed=1):
    values = (values - values.mean()) / values.std()
    return effects(points, values, np.zeros(len(values), int), axes, apart=10, seed=seed)


def test_two_choices_are_opposites():
    # Their correlation r is the same both ways; less the mean over the choices, 1 - (1 + r) / 2 = (1 - r) / 2 is left
    # of a choice with itself and r - (1 + r) / 2 = -(1 - r) / 2 of the two. Scaled to a variance of 1: 1 and -1.
    assert EITHER(EITHER.places, EITHER.places) == pytest.approx(np.array([[1.0, -1.0], [-1.0, 1.0]]))


def test_no_effect_has_a_mean_over_its_parameter():
    anywhere = np.array([0.0, 0.33, 1.0])
    assert RANGE(anywhere, PLACES).mean(1) == pytest.approx(np.zeros(3), abs=1e-12)
    assert np.diag(RANGE(PLACES, PLACES)).mean() == pytest.approx(1.0)


def test_where_a_parameter_does_not_exist_it_has_no_effect():
    assert RANGE(np.array([np.nan]), PLACES) == pytest.approx(np.zeros((1, 30)))


def test_the_shares_of_a_sum_are_its_terms_variances():
    # The variance of 2a + b over the unit square is 4/12 + 1/12: four fifths are of a, one fifth is of b.
    points = drawn(60, 3, seed=1)
    found = explained(points, 2 * points[:, 0] + points[:, 1], [RANGE] * 3)
    alone = [found.parameters[column].alone for column in range(3)]
    assert alone == pytest.approx([0.8, 0.2, 0.0], abs=0.06)
    assert [found.parameters[column].p for column in (0, 1)] == [0.001, 0.001]  # the least of 999 permutations
    assert found.parameters[2].p > 0.05


def test_a_product_around_the_middle_is_all_interaction():
    # The mean of (a - 1/2)(b - 1/2) over either is 0, so that neither explains anything by itself.
    points = drawn(80, 3, seed=2)
    found = explained(points, (points[:, 0] - 0.5) * (points[:, 1] - 0.5), [RANGE] * 3)
    assert [found.parameters[column].alone for column in range(3)] == pytest.approx([0.0, 0.0, 0.0], abs=0.06)
    both = found.pairs[0, 1]
    assert both.p == 0.001
    assert both.low > 0.5
    assert max(found.pairs[0, 2].share, found.pairs[1, 2].share) < 0.15
    assert found.parameters[0].share == pytest.approx(both.share, abs=0.1)  # with its interactions it is all there is


def test_the_true_share_lies_within_the_interval():
    points = drawn(50, 2, seed=3)
    noise = np.random.default_rng(4).normal(0, 12**-0.5, 50)  # as much as each parameter adds: a third each
    found = explained(points, points[:, 0] + points[:, 1] + noise, [RANGE] * 2)
    for column in (0, 1):
        assert found.parameters[column].low < 1 / 3 < found.parameters[column].high


def test_noise_looks_above_chance_no_more_often_than_chance_allows():
    below = 0
    for seed in range(20):
        points = drawn(30, 4, seed=seed)
        values = 3 * points[:, 0] + np.random.default_rng(100 + seed).normal(0, 0.5, 30)
        found = explained(points, values, [RANGE] * 4, seed=seed)
        assert found.parameters[0].p <= 0.01
        below += sum(found.parameters[column].p <= 0.05 for column in (1, 2, 3))
    assert below <= 7  # of 60, 3 are expected; binomial, more than 7 come once in 100


def test_a_parameter_that_exists_in_half_of_the_space_counts_by_half():
    # c exists where the choice is 1. With values c - 1/2 there and 0 elsewhere, all that varies is c's.
    rng = np.random.default_rng(5)
    choice = rng.integers(2, size=80).astype(float)
    c = np.where(choice == 1, rng.random(80), np.nan)
    points = np.column_stack([choice, c])
    found = explained(points, np.nan_to_num(c, nan=0.5) - 0.5, [EITHER, Axis(PLACES, False, exists=0.5)])
    assert found.parameters[1].alone > 0.8
    assert found.parameters[1].p == 0.001
    assert found.parameters[0].p > 0.05
    assert found.pairs == {}  # where c exists, the choice is always the same


def test_an_offset_of_a_whole_study_is_no_effect():
    # Each study draws a from a half of its own, and the second one's values are all higher by 3.
    points = np.column_stack(
        [np.concatenate([drawn(30, 1, 6)[:, 0] / 2, drawn(30, 1, 7)[:, 0] / 2 + 0.5]), drawn(60, 1, 8)]
    )
    studies = np.repeat([0, 1], 30)
    values = 3.0 * studies + np.random.default_rng(9).normal(0, 1, 60)
    apart = np.concatenate([(values[own] - values[own].mean()) for own in (studies == 0, studies == 1)])
    found = effects(points, apart, studies, [RANGE] * 2, apart=10, seed=1)
    assert min(effect.p for effect in found.parameters.values()) > 0.05


def test_the_same_trials_give_the_same_numbers():
    points = drawn(30, 2, seed=10)
    once, again = (explained(points, points[:, 0], [RANGE] * 2) for _ in range(2))
    assert (once.parameters, once.pairs) == (again.parameters, again.pairs)
    assert {column: list(curve) for column, curve in once.curves.items()} == {
        column: list(curve) for column, curve in again.curves.items()
    }


@pytest.mark.parametrize(
    ("column", "does"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5], True),
        ([0.1, 0.1, 0.1, 0.1, 0.5], True),  # a fifth is elsewhere
        ([0.1, 0.1, 0.1, 0.1, 0.1], False),
        ([0.1] * 9 + [0.5], False),
        ([0.1, 0.2, np.nan, np.nan, np.nan], False),  # in two trials alone
    ],
)
def test_a_parameter_varies_where_enough_trials_differ(column, does):
    assert varies(np.array(column), 5) is does
