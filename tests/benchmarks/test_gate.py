"""What the simulated gates share with those of the product."""

import numpy as np
import pytest

from benchmarks import _gate_quality
from recsys.significance import ABSOLUTE, pair, tails


@pytest.mark.parametrize("sign", [1, -1])
def test_simulated_gates_test_as_the_gate_does(sign):
    totals = sign * (np.random.default_rng(0).exponential(1, (20, 300)) - 0.95)
    found = _gate_quality.p_values(totals)["ours"]
    users = np.arange(300)
    expected = [tails(pair(row, np.zeros(300), users), ABSOLUTE, 0.0).better for row in totals]
    assert found == pytest.approx(expected)


def test_a_bootstrap_of_symmetric_users_agrees_with_students_t():
    rng = np.random.default_rng(1)
    for totals in rng.normal(0.1, 1, (5, 300)):
        t = float(_gate_quality.p_values(totals)["t"])
        assert _gate_quality.percentile_t(rng, totals) == pytest.approx(t, abs=0.03)


def test_a_year_of_daily_looks_spends_alike_and_no_more_than_the_budget():
    levels = _gate_quality.daily_levels()
    assert levels == pytest.approx([0.05 / (1.1 * 365)] * 365)
    assert levels.sum() <= 0.05
