import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import BadScores
from recsys.metrics import Coverage, TailShare, evaluate, interval, resampled, top_k
from recsys.sequences import Cases, Sequences


class Fixed:
    """Scores every history alike."""

    def __init__(self, scores, history_length=3):
        self.scores = np.asarray(scores, np.float32)
        self.history_length = history_length

    def __call__(self, history):
        assert history.shape[1] == self.history_length
        return np.tile(self.scores, (len(history), 1))


def cases_of(*users, positions, n_items):
    items = np.concatenate([np.asarray(user) for user in users]).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum([len(user) for user in users])])
    sequences = Sequences(items=items, times=np.arange(len(items)), offsets=offsets, n_items=n_items)
    return Cases(sequences=sequences, positions=np.asarray(positions))


def test_rank_counts_only_items_that_score_higher_and_were_not_had_before():
    # Scores fall with the id; the user had 1 and 2, so target 4 stands behind 3 alone.
    evaluation = evaluate(Fixed([99, 5, 4, 3, 2, 1]), cases_of([1, 2, 4], positions=[2], n_items=5), k=2)
    assert evaluation.ranks.tolist() == [2]
    assert evaluation.hit.tolist() == [1.0]
    assert evaluation.ndcg.tolist() == [pytest.approx(1 / math.log2(3))]
    assert evaluation.reciprocal_rank.tolist() == [0.5]


def test_padding_column_is_never_ranked():
    evaluation = evaluate(Fixed([99, 5, 4]), cases_of([1], positions=[0], n_items=2), k=1)
    assert evaluation.ranks.tolist() == [1]


def test_equal_scores_are_ranked_by_ascending_id():
    evaluation = evaluate(Fixed([0, 1, 1, 1, 1]), cases_of([3], [1], positions=[0, 1], n_items=4), k=2)
    assert evaluation.ranks.tolist() == [3, 1]


def test_unknown_and_repeated_targets_are_missed_by_every_metric():
    evaluation = evaluate(Fixed([0, 3, 2, 1]), cases_of([1, 0], [2, 2], positions=[1, 3], n_items=3))
    assert evaluation.ranks.tolist() == [0, 0]
    assert evaluation.over_cases == {"ndcg_at_10": 0.0, "recall_at_10": 0.0, "mrr": 0.0}


def test_means_over_cases_and_over_users_differ_when_users_have_different_numbers_of_cases():
    # The first user's three cases rank 1, 1, 1; the second user's only case misses the first place.
    cases = cases_of([1, 2, 3], [2], positions=[0, 1, 2, 3], n_items=3)
    evaluation = evaluate(Fixed([0, 3, 2, 1]), cases, k=1)
    assert evaluation.over_cases["recall_at_1"] == 0.75
    assert evaluation.over_users["recall_at_1"] == 0.5


def test_scores_that_are_not_numbers_are_refused():
    with pytest.raises(BadScores, match="cases 0 to 0"):
        evaluate(Fixed([0, np.nan, 1]), cases_of([1], positions=[0], n_items=2))


def test_size_of_batches_changes_nothing():
    rng = np.random.default_rng(3)
    cases = cases_of(*rng.integers(1, 30, (7, 9)), positions=np.arange(0, 63, 2), n_items=29)
    scorer = Fixed(rng.normal(size=30))
    whole, single = evaluate(scorer, cases, batch_size=1000), evaluate(scorer, cases, batch_size=1)
    assert whole.ranks.tolist() == single.ranks.tolist()
    assert whole.recommended.tolist() == single.recommended.tolist()
    assert whole.coverage == single.coverage


@settings(deadline=None)
@given(
    scores=st.lists(st.integers(-2, 2), min_size=2, max_size=60),
    k=st.integers(1, 62),
    seed=st.integers(0, 2**32 - 1),
)
def test_top_k_and_ranks_agree_with_sorting_everything(scores, k, seed):
    n_items = len(scores) - 1
    rng = np.random.default_rng(seed)
    seen = rng.choice(np.arange(1, n_items + 1), rng.integers(0, n_items + 1), replace=False)
    left = sorted(set(range(1, n_items + 1)) - set(seen.tolist()), key=lambda item: (-scores[item], item))
    length = min(k, n_items)
    allowed = np.array([scores, scores[::-1]], np.float32)  # the rows of a batch do not touch each other
    allowed[0, [0, *seen]] = allowed[1, 0] = -np.inf
    assert top_k(allowed, k)[0].tolist() == (left + [0] * length)[:length]
    if left:
        rank = int(rng.integers(len(left)))
        history = [*seen.tolist(), left[rank]]
        evaluation = evaluate(Fixed(scores), cases_of(history, positions=[len(history) - 1], n_items=n_items), k=k)
        assert evaluation.ranks.tolist() == [rank + 1]
        assert evaluation.recommended.tolist() == [(left + [0] * length)[:length]]


def test_coverage_and_tail_share_ignore_places_that_nothing_was_left_for():
    recommended = np.array([[5, 0], [1, 0]])
    assert Coverage(n_items=5).of(recommended) == 0.4
    assert TailShare(head=np.array([False, True, False, False, False, False])).of(recommended) == 0.5
    assert TailShare(head=np.array([False] * 6)).of(np.zeros((2, 2), np.int64)) == 0.0


def test_interval_of_one_case_a_user_is_that_of_the_mean():
    values = np.random.default_rng(0).normal(size=400)
    low, high = interval(values, np.arange(400), seed=1)
    half = 1.96 * values.std() / 20  # normal theory: 1.96 standard errors, sqrt(400) = 20
    assert low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_interval_is_as_wide_as_the_users_are_few_however_many_their_cases():
    values = np.random.default_rng(0).normal(size=25)
    single = interval(values, np.arange(25), seed=1)
    repeated = interval(np.repeat(values, 40), np.repeat(np.arange(25), 40), seed=1)
    assert repeated == pytest.approx(single)


def test_interval_is_of_the_mean_over_cases_not_over_users():
    # Fifty users with one case of value 1, fifty with nine of value 0: 0.1 over cases, 0.5 over users.
    users = np.concatenate([np.arange(50), np.repeat(np.arange(50, 100), 9)])
    low, high = interval((users < 50).astype(float), users, seed=0)
    assert 0.05 < low < 0.1 < high < 0.15


def test_interval_covers_the_true_mean_as_often_as_it_says():
    covered = 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        sizes = rng.integers(1, 12, 60)
        users = np.repeat(np.arange(60), sizes)
        values = rng.normal(size=60)[users] + rng.normal(size=len(users))
        low, high = interval(values, users, seed=trial, level=0.9, resamples=300)
        covered += low <= 0 <= high
    assert 165 <= covered <= 194  # 180 expected; the percentile bootstrap of 60 users is a little narrow


def test_interval_is_fixed_by_its_seed():
    values, users = np.random.default_rng(0).normal(size=10), np.arange(10) // 2
    assert interval(values, users, seed=5) == interval(values, users, seed=5)
    assert interval(values, users, seed=5) != interval(values, users, seed=6)


@pytest.mark.parametrize(("values", "level"), [([], 0.95), ([1.0], 0.0), ([1.0], 1.0)])
def test_interval_needs_cases_and_a_level(values, level):
    with pytest.raises(ValueError, match="needs cases and a level"):
        interval(np.array(values), np.arange(len(values)), seed=0, level=level)


def test_the_same_users_are_drawn_for_all_values_that_are_averaged():
    values = np.random.default_rng(0).normal(size=(300, 1))
    users = np.repeat(np.arange(100), 3)
    draws = resampled(np.hstack([values, 2 * values + 1]), users, seed=3, resamples=130)
    assert draws.shape == (130, 2)
    assert draws[:, 1] == pytest.approx(2 * draws[:, 0] + 1)
    assert draws[:, 0].std() == pytest.approx(values.reshape(-1, 3).mean(1).std() / 10, rel=0.2)
