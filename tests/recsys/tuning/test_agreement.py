import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau

from recsys.records import TrialEvidence
from recsys.tuning.agreement import agreement, agreements, tau_b


def trial(x, stage, ndcg, *, share, epochs, seed=7, state="complete"):
    return TrialEvidence(
        stage=stage,
        share=share,
        epochs=epochs,
        seed=seed,
        family="f",
        configuration={"epochs": 8, "x": x},
        state=state,
        ndcg_at_10=ndcg,
        gain=None,
        seconds=1.0,
    )


def screened(x, ndcg, **changes):
    return trial(x, "screen", ndcg, **{"share": 0.5, "epochs": 0.2, **changes})


def refined(x, ndcg, **changes):
    return trial(x, "refine", ndcg, **{"share": 1.0, "epochs": 0.4, **changes})


@settings(deadline=None)
@given(values=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=12))
def test_tau_of_one_search_is_the_tau_b_of_scipy(values):
    low, high = (np.array(column, float) for column in zip(*values, strict=True))
    expected = kendalltau(low, high).statistic if np.ptp(low) and np.ptp(high) else None
    found = tau_b([(low, high)])
    if expected is None:
        assert found is None
    else:
        assume(found is not None)
        assert found.value == pytest.approx(expected)
        assert found.low <= found.high


def test_configurations_are_compared_within_a_search_alone():
    rising, higher = np.array([1.0, 2.0, 3.0]), np.array([11.0, 12.0, 13.0])
    # Two pairs of three are in order in each search; compared across, the level would tell.
    found = tau_b([(rising, np.array([0.1, 0.3, 0.2])), (higher, np.array([0.9, 0.8, 0.85]))])
    assert found.value == pytest.approx((1 - 1) / 6)


def test_an_order_that_never_differs_has_an_interval_of_one_point():
    found = tau_b([(np.arange(9.0), np.arange(9.0) ** 2)])
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1))


def test_the_interval_covers_a_known_tau_about_as_often_as_it_says():
    """Of two normal variables with the correlation r, tau is 2 arcsin(r) / pi (Kruskal 1958)."""
    rng = np.random.default_rng(0)
    true = 2 * np.arcsin(0.6) / np.pi
    covered = 0
    for _ in range(200):
        low = rng.normal(size=25)
        found = tau_b([(low, 0.6 * low + 0.8 * rng.normal(size=25))])
        covered += found.low <= true <= found.high
    assert 175 <= covered <= 199


def test_what_both_rungs_know_is_compared_by_the_mean_over_seeds(a_line):
    trials = [screened(x, x / 100) for x in range(10)]
    trials += [refined(x, x / 100 + miss, seed=seed) for x in range(8) for seed, miss in ((7, 0.1), (8, -0.1))]
    trials += [refined(8, 0.0, state="pruned"), refined(20, 0.5)]
    found = agreement(a_line(), "screen", "refine", [trials])
    assert (found.lower, found.upper, found.configurations) == ("screen", "refine", 8)
    assert found.tau.value == pytest.approx(1)
    assert found.because == "screen with refine: 1.00 [1.00, 1.00] over 8 configurations"


def test_too_few_configurations_tell_nothing(a_line):
    trials = [screened(x, x) for x in range(7)] + [refined(x, x) for x in range(7)]
    found = agreement(a_line(), "screen", "refine", [trials])
    assert (found.configurations, found.tau) == (7, None)
    assert found.because == "screen with refine: too few to tell (7 configurations on both, and it takes 8)"
    assert agreement(a_line(), "screen", "refine", [trials, trials]).configurations == 14


def test_trials_with_another_share_or_other_epochs_are_left_out(a_line):
    trials = [screened(x, x, share=0.25) for x in range(9)] + [refined(x, x) for x in range(9)]
    trials += [screened(x, x) for x in range(9, 18)] + [refined(x, x, epochs=0.5) for x in range(9, 18)]
    assert agreement(a_line(), "screen", "refine", [trials]).configurations == 0


def test_every_two_rungs_that_differ_are_compared(a_line):
    def named(line):
        return [(found.lower, found.upper) for found in agreements(line, [])]

    assert named(a_line()) == [("screen", "refine"), ("screen", "confirm"), ("refine", "confirm")]
    alike = a_line(refine={"trials": 2}, confirm={"trials": 1, "seeds": 2})
    assert named(alike) == [("screen", "refine"), ("screen", "confirm")]
