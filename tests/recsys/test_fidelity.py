import numpy as np
import pytest
from scipy.stats import spearmanr

from recsys.fidelity import rank_agreement, top_overlap


def test_lists_are_compared_whatever_their_order_and_without_what_fills_them_up():
    assert top_overlap(np.array([[1, 2, 3], [4, 5, 0]]), np.array([[3, 2, 9], [5, 4, 0]])) == pytest.approx(
        (2 / 3 + 1) / 2
    )
    assert top_overlap(np.array([[7, 0]]), np.array([[0, 0]])) == 1.0


def test_agreement_is_the_mean_of_spearmans_correlations():
    rng = np.random.default_rng(0)
    reference = rng.integers(0, 20, (5, 40)).astype(np.float32)  # with ties
    scores = (reference + rng.normal(size=(5, 40))).astype(np.float32)
    expected = np.mean([spearmanr(*rows).statistic for rows in zip(scores, reference, strict=True)])
    assert rank_agreement(scores, reference) == pytest.approx(expected, abs=1e-12)


def test_scores_that_no_longer_tell_items_apart_agree_in_nothing():
    apart, alike = np.array([[1.0, 2.0, 3.0]]), np.array([[2.0, 2.0, 2.0]])
    assert rank_agreement(alike, apart) == 0.0
    assert rank_agreement(alike, alike) == 1.0
    assert rank_agreement(np.zeros((3, 0)), np.zeros((3, 0))) == 1.0
