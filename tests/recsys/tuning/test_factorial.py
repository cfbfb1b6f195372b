from itertools import combinations

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from recsys.settings import _FEWEST_IN_A_BLOCK
from recsys.tuning.factorial import FEWEST, RUNS, design, knobs_for, levels, runs


@pytest.mark.parametrize("knobs", RUNS)
def test_every_knob_and_pair_stands_at_either_level_in_half_of_the_runs_and_is_mixed_up_with_no_other(knobs):
    laid_out = design(knobs)
    assert laid_out.shape == (RUNS[knobs], knobs)
    assert len(np.unique(laid_out, axis=0)) == RUNS[knobs]
    pairs = [laid_out[:, a] * laid_out[:, b] for a, b in combinations(range(knobs), 2)]
    columns = np.column_stack([np.ones(RUNS[knobs]), laid_out, *pairs])
    assert (columns.T @ columns == RUNS[knobs] * np.eye(columns.shape[1])).all()


def test_a_run_has_one_value_of_each_knob():
    assert runs({"lr": (0.001, 0.01), "softmax": ("full", "sampled")}) == [
        {"lr": 0.001, "softmax": "full"},
        {"lr": 0.001, "softmax": "sampled"},
        {"lr": 0.01, "softmax": "full"},
        {"lr": 0.01, "softmax": "sampled"},
    ]


@pytest.mark.parametrize(
    ("distribution", "now", "expected"),
    [
        (FloatDistribution(0.0, 1.0), 0.5, (0.25, 0.75)),
        (FloatDistribution(0.0, 1.0), 0.1, (0.0, 0.5)),  # both move
        (FloatDistribution(0.0, 1.0), 1.0, (0.5, 1.0)),
        (FloatDistribution(0.0, 1.0), 9.0, (0.5, 1.0)),  # of what lies outside, the nearest
        (FloatDistribution(1.0, 10_000.0, log=True), 100.0, (10.0, 1000.0)),
        (IntDistribution(1, 3), 1, (1, 2)),
        (IntDistribution(1, 2), 1, (1, 2)),
        (CategoricalDistribution([16, 64, 32]), 32, (16, 64)),
        (CategoricalDistribution([16, 64, 32]), 16, (16, 32)),
        (CategoricalDistribution([16, 64]), 99, (16, 64)),
        (CategoricalDistribution(["full", "sampled"]), "sampled", ("sampled", "full")),
        (CategoricalDistribution([7]), 7, None),
        (FloatDistribution(0.5, 0.5), 0.5, None),
    ],
)
def test_the_levels_lie_on_either_side_of_the_incumbent(distribution, now, expected):
    found = levels(distribution, now)
    assert found == (expected and pytest.approx(expected)) if not isinstance(now, str) else found == expected


def test_the_smallest_block_that_a_line_may_ask_for_tells_two_knobs_apart():
    assert RUNS[2] + FEWEST == _FEWEST_IN_A_BLOCK
    assert knobs_for(_FEWEST_IN_A_BLOCK) == 2
    assert knobs_for(_FEWEST_IN_A_BLOCK - 1) == 0
