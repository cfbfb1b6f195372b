import numpy as np
import pytest

from monitoring.sequential import between, fallen


def windows(rng, *, fall, windows, past=28, days=0.0, rate=0.1, n=20_000):
    """Draw a release's windows and the mean of those before; give what `fallen` takes."""
    own = rate * (1 - fall) + rng.normal(0, days, windows)
    before = rate + rng.normal(0, days, past)
    now, then = rng.binomial(n, own) / n, rng.binomial(n, before) / n
    variances, earlier = now * (1 - now) / n, then * (1 - then) / n
    beyond = between(then, earlier) if days else 0.0
    precision = 1 / (earlier + beyond)
    mean = (precision * then).sum() / precision.sum()
    return {"changes": now - mean, "variances": variances + beyond, "shared": 1 / precision.sum(), "scale": 0.05 * mean}


def test_the_e_value_is_the_likelihood_under_all_falls_over_that_under_none():
    """By numbers: one half-normal fall for all windows, and a rate before that is anything."""
    changes, variances, shared, scale = np.array([-0.004, -0.007, 0.001]), np.array([4e-6, 5e-6, 3e-6]), 2e-6, 0.005
    found = fallen(changes, variances, shared=shared, scale=scale, level=0.05).log_e
    grid = np.linspace(0, 0.06, 20_001)
    weights = np.exp(-(grid**2) / (2 * scale**2)) * 2 / (scale * np.sqrt(2 * np.pi)) * (grid[1] - grid[0])
    for n in (1, 2, 3):
        inverse = np.linalg.inv(np.diag(variances[:n]) + shared)
        away = changes[:n, None] + grid
        exponent = -0.5 * np.einsum("ij,ik,kj->j", away, inverse, away)
        none = -0.5 * changes[:n] @ inverse @ changes[:n]
        assert found[n - 1] == pytest.approx(np.log((weights * np.exp(exponent - none)).sum()), abs=2e-3)


def test_a_release_that_does_no_worse_is_hardly_ever_said_to_in_a_whole_year():
    rng = np.random.default_rng(1)
    said = sum(fallen(**windows(rng, fall=0.0, windows=365), level=0.01).first(0.01) is not None for _ in range(2000))
    assert said <= 32  # 20 at most in the mean; more than 32 would come once in two hundred such tests


def test_a_fall_of_a_twentieth_is_found_within_five_windows_nine_times_in_ten():
    rng = np.random.default_rng(2)
    firsts = [fallen(**windows(rng, fall=0.05, windows=5), level=0.01).first(0.01) for _ in range(1000)]
    assert sum(first is not None for first in firsts) >= 880
    assert min(first for first in firsts if first is not None) >= 0


def test_days_that_differ_by_themselves_are_no_fall():
    rng = np.random.default_rng(3)
    said = sum(
        fallen(**windows(rng, fall=0.0, windows=60, days=0.004), level=0.01).first(0.01) is not None for _ in range(600)
    )
    assert said <= 14
    naive = windows(rng, fall=0.0, windows=60, days=0.004)
    ignored = {**naive, "variances": np.full(60, 0.1 * 0.9 / 20_000)}
    assert fallen(**ignored, level=0.01).radius[-1] < fallen(**naive, level=0.01).radius[-1]


def test_the_interval_holds_the_change_whenever_one_stops():
    rng, held = np.random.default_rng(4), 0
    for _ in range(500):
        found = fallen(**windows(rng, fall=0.03, windows=100), level=0.05)
        held += bool(np.all(np.abs(found.change + 0.003) <= found.radius))
    assert held >= 475 - 13


def test_the_variance_between_windows_is_what_was_put_in():
    rng = np.random.default_rng(5)
    variances = np.full(400, 1e-6)
    rates = 0.1 + rng.normal(0, 0.003, 400) + rng.normal(0, 1e-3, 400)
    assert between(rates, variances) == pytest.approx(0.003**2, rel=0.2)


@pytest.mark.parametrize("wrong", [{"scale": 0.0}, {"shared": -1.0}, {"level": 1.0}, {"variances": np.zeros(2)}])
def test_what_no_variance_can_be_is_refused(wrong):
    asked = {"changes": np.zeros(2), "variances": np.ones(2), "shared": 0.0, "scale": 1.0, "level": 0.1, **wrong}
    with pytest.raises(ValueError, match="must be above 0"):
        fallen(**asked)
