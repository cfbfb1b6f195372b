import numpy as np
import pytest
from scipy.optimize import approx_fprime

from recsys.tuning import kernel
from recsys.tuning.kernel import Kernel, differences, fit, matern

NUMBER, CHOICE = np.array([False]), np.array([True])


def test_two_numbers_differ_by_a_chord_of_their_arc_and_two_choices_by_one():
    a, b = np.array([0.0, 1.0]), np.array([1.0, 0.5])
    half = 2 - 3**0.5  # of the arc: the chord of 30 degrees, squared
    assert differences(a, b, categorical=False) == pytest.approx(np.array([[1.0, half], [0.0, half]]))
    assert differences(np.array([0.0, 2.0]), np.array([2.0]), categorical=True).tolist() == [[1.0], [0.0]]


def test_what_only_one_of_two_has_sets_them_apart_by_one_whatever_its_value():
    a, b = np.array([np.nan, 0.3]), np.array([np.nan, 0.9])
    for categorical in (True, False):
        found = differences(a, b, categorical=categorical)
        assert found[0].tolist() == [0.0, 1.0]
        assert found[1, 0] == 1.0


def test_the_correlation_is_that_of_the_matern_kernel():
    # (1 + sqrt(5) r + 5 r^2 / 3) exp(-sqrt(5) r) at r = 1
    assert matern(np.array([[1.0]]))[0, 0] == pytest.approx((1 + 5**0.5 + 5 / 3) * np.exp(-(5**0.5)))
    points = np.array([[0.0], [1.0]])
    assert Kernel(np.array([4.0]), NUMBER)(points, points)[0] == pytest.approx([1.0, matern(np.array([4.0]))[0]])


def test_the_correlation_of_many_parameters_adds_up_what_each_one_differs_by():
    rng = np.random.default_rng(3)
    categorical, weights = np.array([False, True, False]), np.array([0.7, 2.0, 0.1])

    def drawn(n):
        points = np.column_stack([rng.random(n), rng.integers(0, 4, n), rng.random(n)])
        return np.where(rng.random(points.shape) < 0.3, np.nan, points)

    a, b = drawn(9), drawn(7)
    each = zip(weights, a.T, b.T, categorical, strict=True)
    apart = sum(weight * differences(x, y, categorical=bool(is_choice)) for weight, x, y, is_choice in each)
    assert Kernel(weights, categorical)(a, b) == pytest.approx(matern(apart))


def test_a_covariance_can_be_factored_whatever_does_not_exist():
    rng = np.random.default_rng(0)
    for _ in range(20):
        points = np.where(rng.random((80, 6)) < 0.4, np.nan, rng.random((80, 6)))
        points[:, 5] = np.where(np.isnan(points[:, 5]), np.nan, np.rint(3 * points[:, 5]))
        found = Kernel(np.exp(rng.normal(0, 2, 6)), np.array([False] * 5 + [True]))(points, points)
        assert np.linalg.eigvalsh(found).min() > -1e-10


def test_a_parameter_that_matters_gets_more_weight_than_one_that_does_not():
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.random((60, 2)), rng.integers(0, 3, 60)])
    values = np.sin(6 * points[:, 0]) + 0.5 * (points[:, 2] == 1)
    found = fit(points, values, np.array([False, False, True]))
    heavy, idle, choice = found.kernel.weights
    assert heavy > 10 * idle
    assert choice > 3 * idle
    assert found.noise < 0.05


def test_noise_is_told_from_signal():
    rng = np.random.default_rng(1)
    found = fit(rng.random((80, 2)), rng.standard_normal(80), np.array([False, False]))
    assert found.noise > 0.5


def test_groups_that_differ_by_a_level_alone_are_no_noise():
    rng = np.random.default_rng(2)
    points = rng.random((60, 1))
    groups = np.arange(60) % 2
    values = np.sin(5 * points[:, 0]) + 1.5 * groups
    together = fit(points, values, NUMBER)
    apart = fit(points, values, NUMBER, groups=groups)
    assert apart.noise < 0.1 < together.noise


def test_the_slope_that_the_fit_follows_is_that_of_its_loss(monkeypatch):
    seen = []

    def look(loss, start, **_):
        for theta in (start, start + np.linspace(-0.7, 0.6, len(start))):
            numeric = approx_fprime(theta, lambda t: loss(t)[0], 1e-6)
            seen.append((loss(theta)[1], numeric))
        return type("Found", (), {"x": start})

    monkeypatch.setattr(kernel, "minimize", look)
    rng = np.random.default_rng(3)
    points = np.column_stack([rng.random(12), rng.integers(0, 2, 12), np.where(rng.random(12) < 0.5, np.nan, 0.4)])
    fit(points, rng.standard_normal(12), np.array([False, True, False]), groups=np.arange(12) % 3)
    assert len(seen) == 2
    for exact, numeric in seen:
        assert exact == pytest.approx(numeric, rel=1e-3, abs=1e-3)
