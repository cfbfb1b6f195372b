import numpy as np
import pytest
from scipy.stats import norm

from recsys.tuning.evidence import PastTrial, spread, standardised


def trial(value, state="complete"):
    return PastTrial(parameters={}, value=value, state=state)


def test_values_become_normal_by_rank_whatever_their_scale():
    found = standardised([trial(v) for v in (5.0, -1e9, 7.0, 6.0)])
    assert found == pytest.approx(norm.ppf([0.375, 0.125, 0.875, 0.625]))


def test_equals_get_the_same_value():
    found = standardised([trial(v) for v in (1.0, 2.0, 1.0)])
    assert found[0] == found[2] == pytest.approx(norm.ppf(1 / 3))


def test_what_was_pruned_ranks_below_the_middle_and_what_failed_below_everything():
    found = standardised(
        [trial(0.9, "pruned"), trial(0.1), trial(0.2), trial(0.3), trial(None, "failed"), trial(0.8, "infeasible")]
    )
    assert found[0] < found[3]
    assert found[4] == found[5] == found.min()
    assert found[0] > found[1]  # it had reached more than the worst that was finished


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), -1e200])
@pytest.mark.parametrize("state", ["complete", "pruned"])
def test_a_value_that_nothing_can_be_computed_with_has_failed(value, state):
    others = [trial(0.1), trial(0.2), trial(0.3), trial(0.4), trial(0.5, "pruned")]
    strange = [*others, trial(value, state)]
    assert strange[-1] == trial(None, "failed")
    assert standardised(strange) == pytest.approx(standardised([*others, trial(None, "failed")]))
    assert spread(strange) == spread(others)


def test_of_nothing_comes_nothing():
    assert standardised([]).shape == (0,)


def test_the_spread_of_normal_values_is_their_standard_deviation():
    rng = np.random.default_rng(0)
    assert spread([trial(v) for v in rng.normal(0.1, 0.02, 4000)]) == pytest.approx(0.02, rel=0.06)


def test_outliers_below_do_not_change_the_spread():
    good = [trial(v) for v in np.linspace(0, 1, 21)]
    assert spread([*(trial(-1e6) for _ in range(10)), *good[10:]]) == spread(good)


@pytest.mark.parametrize("trials", [[trial(0.1)] * 3, [trial(0.1)] * 9, [trial(0.1, "failed")] * 9])
def test_too_few_or_equal_values_have_no_spread(trials):
    assert spread(trials) is None
