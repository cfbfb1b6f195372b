import numpy as np
import pytest

from recsys.tuning.regression import Foreseen, Prior, Regression

ONE = Prior(mean=np.zeros(1), sd=np.ones(1), noise=1.0, trust=4)


def test_without_a_number_the_prior_is_what_is_believed():
    prior = Prior(mean=np.array([0.5, 2.0]), sd=np.array([1.0, 3.0]), noise=2.0, trust=4)
    found = Regression.fit(prior, [], []).foresee([1.0, 1.0])
    # Variance of the noise 4; of the coefficients 1 and 9, and their scale follows the noise's.
    assert (found.centre, found.scale, found.freedom) == (2.5, pytest.approx((4 + 1 + 9) ** 0.5), 4)


def test_a_number_as_sure_as_the_prior_is_met_half_way():
    fitted = Regression.fit(ONE, [[1.0]], [2.0])
    # Precision 1 + 1; the rate is 2 and half of 4 - 1 * 2 * 1; so the variance is 3 / 2.5 * (1 + 1 / 2).
    assert fitted.mean.tolist() == [1.0]
    assert fitted.foresee([1.0]).scale == pytest.approx(1.8**0.5)
    assert fitted.foresee([1.0]).freedom == 5


def test_a_number_with_an_error_of_its_own_weighs_less():
    # Its variance is 1 + 3, so it weighs a quarter: 0.25 * 2 / (1 + 0.25).
    assert Regression.fit(ONE, [[1.0]], [2.0], [3**0.5]).mean.tolist() == pytest.approx([0.4])


def test_numbers_that_scatter_more_than_was_thought_widen_the_forecast():
    calm, wild = (Regression.fit(ONE, [[1.0]] * 4, [-s, s, -s, s]).foresee([1.0]) for s in (0.1, 10.0))
    assert wild.scale > 5 * calm.scale


def test_quantiles_and_probabilities_are_two_sides_of_one_thing():
    found = Foreseen(centre=3.0, scale=2.0, freedom=1)
    assert found.quantile(0.75) == pytest.approx(5.0)  # of Cauchy's distribution, whose quartiles are at -1 and 1
    assert found.above(5.0) == pytest.approx(0.25)
