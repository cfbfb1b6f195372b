from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from recsys.exposure import compare, leaving_out, popularity
from recsys.likeness import Likeness
from recsys.metrics import Evaluation
from recsys.sequences import Sequences
from recsys.significance import RELATIVE, estimate, pair

# Of five items, 1 was taken by three users, 2 by two, 3 and 4 by one, 5 by nobody.
BEFORE = Sequences(
    items=np.array([1, 2, 1, 2, 3, 1, 4], np.int32), times=np.arange(7), offsets=np.array([0, 2, 5, 7]), n_items=5
)
FROZEN = SimpleNamespace(before_holdout=BEFORE, head=np.array([False, True, False, False, False, False]))


def shown(lists, users) -> Evaluation:
    lists, users = np.array(lists), np.array(users)
    zeros = np.zeros(len(lists))
    return Evaluation(
        k=lists.shape[1],
        users=users,
        ranks=zeros.astype(int),
        ndcg=zeros,
        hit=zeros,
        reciprocal_rank=zeros,
        recommended=lists,
        scores=np.zeros(lists.shape, np.float32),
        coverage=0.0,
    )


USERS = [0, 0, 1]
CANDIDATE = shown([[1, 2, 3], [1, 4, 0], [5, 2, 3]], USERS)
INCUMBENT = shown([[1, 2, 3], [1, 2, 0], [1, 2, 3]], USERS)


@pytest.fixture(scope="module")
def found():
    return {result.measure: result for result in compare(CANDIDATE, INCUMBENT, FROZEN)}


def test_every_measure_is_taken_of_both(found):
    assert list(found) == ["coverage", "tail share", "diversity", "popularity"]
    assert (found["coverage"].candidate, found["coverage"].incumbent) == (1.0, 0.6)
    assert found["tail share"].candidate == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert found["tail share"].incumbent == pytest.approx((2 / 3 + 1 / 2 + 2 / 3) / 3)


def test_popularity_is_logarithmic_from_nobody_to_the_most_popular(found):
    scale = np.log([4, 3, 2, 2, 1]) / np.log(4)  # of items taken 3, 2, 1, 1 and 0 times
    assert popularity(FROZEN) == pytest.approx([0, *scale])
    lists = [scale[[0, 1, 2]].mean(), scale[[0, 3]].mean(), scale[[4, 1, 2]].mean()]
    assert found["popularity"].candidate == pytest.approx(np.mean(lists))


def test_diversity_is_one_less_the_cosine_of_who_had_both(found):
    one_two, one_three, two_three, one_four = 2 / np.sqrt(6), 1 / np.sqrt(3), 1 / np.sqrt(2), 1 / np.sqrt(3)
    first = 1 - np.mean([one_two, one_three, two_three])
    assert found["diversity"].incumbent == pytest.approx(np.mean([first, 1 - one_two, first]))
    last = 1 - two_three / 3  # nobody had 5
    assert found["diversity"].candidate == pytest.approx(np.mean([first, 1 - one_four, last]))


def test_only_the_newest_items_of_a_user_count_for_co_occurrence(monkeypatch):
    monkeypatch.setattr("recsys.likeness.NEWEST", 2)
    table = Likeness.among(np.arange(1, 6), BEFORE).together.toarray()
    assert table[1, 2] == 1  # the second user's 1 is too long ago
    assert table[2, 3] == 1


def test_lists_with_too_few_items_count_in_neither_model():
    short = replace(CANDIDATE, recommended=np.array([[1, 0, 0], [0, 0, 0], [5, 2, 3]]))
    results = {result.measure: result for result in compare(short, INCUMBENT, FROZEN)}
    assert results["diversity"].paired.users == 1
    assert results["diversity"].paired.first[2] == 1
    assert results["popularity"].paired.first[2] == 2


def test_where_nothing_was_left_to_recommend_only_coverage_is_known():
    nothing = replace(CANDIDATE, recommended=np.zeros((3, 3), int))
    [coverage] = compare(nothing, nothing, FROZEN)
    assert (coverage.measure, coverage.candidate) == ("coverage", 0.0)


def test_what_users_are_given_of_coverage_sums_up_and_spreads_as_leaving_each_of_them_out():
    rng = np.random.default_rng(1)
    users, lists = rng.integers(0, 20, 60), rng.integers(0, 90, (60, 4))

    def items(kept) -> int:
        return len(np.unique(lists[kept][lists[kept] > 0]))

    given = leaving_out(lists, users)
    left = np.array([items(users != user) for user in np.unique(users)])
    n = len(left)
    jackknife = (n - 1) / n * ((left - left.mean()) ** 2).sum()
    assert given.mean() == pytest.approx(items(users >= 0))
    assert given.var(ddof=1) / n == pytest.approx(jackknife * (n / (n - 1)) ** 2)


def lists_of(rng, taste: float) -> np.ndarray:
    """Draw five items for each of 200 users from a catalogue of 1500; the larger `taste`, the fewer are popular."""
    mass = np.cumsum(np.arange(1, 1501.0) ** -taste)
    return 1 + np.searchsorted(mass, mass[-1] * rng.random((200, 5)))


def covered(lists) -> int:
    return len(np.unique(lists))


def test_the_interval_of_coverage_holds_the_change_as_often_as_it_says_and_a_bootstrap_s_does_not():
    """Of a model with a broad and one with a narrow taste: what 200 users see is known from 500 other samples."""
    rng, users = np.random.default_rng(7), np.arange(200)

    def both() -> tuple[np.ndarray, np.ndarray]:
        return lists_of(rng, 0.3), lists_of(rng, 1.2)

    known = [[covered(lists) for lists in both()] for _ in range(500)]
    truth = np.divide(*np.mean(known, axis=0)) - 1
    held, by_bootstrap = 0, 0
    for _ in range(200):
        one, other = both()
        interval = estimate(pair(leaving_out(one, users), leaving_out(other, users), users), RELATIVE, level=0.025)
        held += interval.low <= truth <= interval.high
        draws = rng.integers(0, 200, (40, 200))
        drawn = [covered(one[draw]) / covered(other[draw]) - 1 for draw in draws]
        by_bootstrap += np.quantile(drawn, 0.025) <= truth <= np.quantile(drawn, 0.975)
    assert held >= 186  # 190 are due, and three standard errors less are 181
    assert by_bootstrap < 160
