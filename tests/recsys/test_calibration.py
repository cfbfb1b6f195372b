from types import SimpleNamespace

import numpy as np
import pytest

from recsys.calibration import BINS, Normalising, Predictions, gaps, measure
from recsys.metrics import evaluate
from recsys.sequences import Cases, Sequences

NONE = "scores of markov are no probabilities"


class Table:
    """Scores by the newest item."""

    history_length = 1

    def __init__(self, table) -> None:
        self.table = np.array(table, np.float32)

    def __call__(self, history):
        return self.table[history[:, -1]]


def predictions(probabilities, taken, users) -> Predictions:
    probabilities = np.array(probabilities, float)
    return Predictions(probabilities, np.ones(probabilities.shape, bool), np.array(taken, bool), np.array(users))


def alone(ours, level=0.95):
    return measure(("candidate", ours), ("incumbent", NONE), level=level, seed=0).candidate


def test_probabilities_are_the_softmax_over_the_catalogue_whatever_is_shown():
    """After 1 the items 1, 2 and 3 have the weights 1, 2 and 5, and only 2 and 3 are left to show."""
    sequences = Sequences(items=np.array([1, 3], np.int32), times=np.arange(2), offsets=np.array([0, 2]), n_items=3)
    cases = Cases(sequences=sequences, positions=np.array([1]))
    model = Normalising(Table([[9, 0, 0, 0], [9, *(np.log([1, 2, 5]) + 100)], [9, 0, 0, 0], [9, 0, 0, 0]]))
    found = evaluate(model, cases)
    assert found.recommended.tolist() == [[3, 2, 0]]
    assert model.probabilities(found)[0] == pytest.approx([5 / 8, 2 / 8, 0])
    held = Predictions.of(model.probabilities(found), found)
    assert held.shown.tolist() == [[True, True, False]]
    assert held.taken.tolist() == [[True, False, False]]  # 3 came next


def test_scores_that_are_no_numbers_have_no_probability():
    model = Normalising(Table([[0, np.nan, 1.0]]))
    model(np.array([[0]]))
    given = SimpleNamespace(scores=np.array([[1.0, -np.inf]], np.float32))
    assert model.probabilities(given).tolist() == [[0.0, 0.0]]


def test_the_error_is_the_mean_gap_of_the_bins():
    """Thirty predictions in two kinds: 0.1 of which one in five is right, and 0.6 of which two in five are."""
    probabilities = np.repeat([[0.1, 0.6]], 15, axis=0)
    taken = np.zeros((15, 2))
    taken[:3, 0] = taken[3:9, 1] = 1
    found = alone(predictions(probabilities, taken, range(15)))
    assert [(each.shown, each.predicted, each.observed) for each in found.curve] == [
        (15, pytest.approx(0.1), pytest.approx(0.2)),
        (15, pytest.approx(0.6), pytest.approx(0.4)),
    ]
    assert found.ece.value == pytest.approx((0.1 + 0.2) / 2)


def test_bins_hold_equal_numbers_and_their_gaps_sum_up_over_cases():
    rng = np.random.default_rng(2)
    probabilities = rng.random((300, 10))
    taken = rng.random((300, 10)) < probabilities / 2
    per_case, curve = gaps(predictions(probabilities, taken, range(300)))
    assert [each.shown for each in curve] == [200] * BINS
    expected = [(each.predicted - each.observed) / BINS for each in curve]
    assert per_case.mean(0) == pytest.approx(expected)


def test_shorter_lists_count_by_what_they_show():
    probabilities = np.array([[0.5, 0.0], [0.5, 0.5]])
    shown = np.array([[True, False], [True, True]])
    taken = np.array([[True, False], [False, False]])
    found = alone(Predictions(probabilities, shown, taken, np.arange(2)))
    assert [(each.shown, each.predicted) for each in found.curve] == [(3, 0.5)]
    assert found.ece.value == pytest.approx(0.5 - 1 / 3)


def test_scores_that_are_no_probabilities_are_said_to_be_none():
    found = measure(("a", NONE), ("b", NONE), level=0.95, seed=0)
    assert (found.candidate.missing, found.candidate.ece, found.candidate.curve, found.rise) == (NONE, None, (), None)
    nothing = Predictions(np.zeros((2, 3)), np.zeros((2, 3), bool), np.zeros((2, 3), bool), np.arange(2))
    assert alone(nothing).missing == "nothing was shown"


def test_a_model_against_itself_has_the_same_error_and_users_are_drawn_with_all_their_cases():
    rng = np.random.default_rng(3)
    probabilities = rng.random((40, 10)) / 5
    taken = rng.random((40, 10)) < probabilities
    one = predictions(probabilities, taken, range(40))
    fourfold = predictions(np.tile(probabilities, (4, 1)), np.tile(taken, (4, 1)), [*range(40)] * 4)
    found = measure(("a", one), ("b", one), level=0.95, seed=0)
    assert found.rise.value == 0
    assert found.rise.low < 0 < found.rise.high
    assert alone(fourfold).ece.value == pytest.approx(found.candidate.ece.value)
    assert alone(fourfold).ece.high == pytest.approx(found.candidate.ece.high)


@pytest.mark.parametrize("factor", [1.0, 1.3])
def test_the_interval_holds_the_true_error_as_often_as_it_says(factor):
    """Users differ in how often what is shown is right; what is predicted is that, or 1.3 times as much."""
    rng = np.random.default_rng(11)
    held, truth = 0, (factor - 1) * 0.06
    for _ in range(100):
        users = np.repeat(np.arange(150), 2)
        likely = rng.uniform(0.02, 0.1, (300, 10))
        often = likely * rng.uniform(0.5, 1.5, 150)[users][:, None]
        found = alone(predictions(factor * likely, rng.random((300, 10)) < often, users))
        held += found.ece.low <= truth <= found.ece.high
    assert held >= 95
