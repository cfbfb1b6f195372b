from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.sequences import Sequences
from recsys.subsample import portion, strata


def sequences(n_users, seed):
    """Users of very different activity, of whom the later ones take rarer items."""
    rng = np.random.default_rng(seed)
    lengths = rng.geometric(0.1, n_users)
    items = [rng.integers(1 + 60 * user // n_users, 100, length) for user, length in enumerate(lengths)]
    times = [np.sort(rng.integers(0, 10**6, length)) * 1000 + user for user, length in enumerate(lengths)]
    return Sequences(
        items=np.concatenate(items).astype(np.int32),
        times=np.concatenate(times),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        n_items=100,
    )


MANY = sequences(640, seed=0)


def users(found):
    """Name each user by what it did."""
    edges = zip(found.offsets, found.offsets[1:], strict=False)
    return [(found.items[begin:end].tobytes(), found.times[begin:end].tobytes()) for begin, end in edges]


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_share_must_lie_in_its_range(share):
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\]"):
        portion(MANY, share, seed=0)


@settings(deadline=None, max_examples=50)
@given(
    n_users=st.integers(1, 90),
    seed=st.integers(0, 1000),
    shares=st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)),
)
def test_smaller_share_lies_within_a_larger_and_users_stay_whole_and_in_order(n_users, seed, shares):
    whole = sequences(n_users, seed)
    less, more = (portion(whole, share, seed=seed) for share in sorted(shares))
    assert less.n_users == np.ceil(min(shares) * n_users)
    everybody = users(whole)
    at = [[everybody.index(user) for user in users(part)] for part in (less, more)]
    assert all(kept == sorted(kept) for kept in at)
    assert Counter(users(less)) <= Counter(users(more)) <= Counter(everybody)
    assert portion(whole, 1.0, seed=seed) is whole


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.8])
@pytest.mark.parametrize("depth", [1, 2, 3], ids=["activity", "taste", "time"])
def test_every_stratum_is_there_in_proportion_up_to_two_users(share, depth):
    everybody, whole = users(MANY), strata(MANY)[:, :depth]
    for seed in range(10):
        kept = Counter(tuple(whole[everybody.index(user)]) for user in users(portion(MANY, share, seed=seed)))
        for stratum, size in Counter(map(tuple, whole)).items():
            assert abs(kept[stratum] - share * size) < 2


def test_every_user_is_kept_as_often_as_every_other():
    few = sequences(40, seed=3)
    everybody = users(few)
    kept = Counter(everybody.index(user) for seed in range(2000) for user in users(portion(few, 0.25, seed=seed)))
    # 2,000 draws with a chance of a quarter: 500, with a standard deviation of 19.4.
    assert all(abs(kept[user] - 500) < 4 * 19.4 for user in range(40))


def test_what_is_kept_follows_from_the_seed():
    assert users(portion(MANY, 0.25, seed=1)) == users(portion(MANY, 0.25, seed=1))
    assert users(portion(MANY, 0.25, seed=1)) != users(portion(MANY, 0.25, seed=2))


def test_users_without_events_are_laid_out_like_the_others():
    empty = Sequences(items=np.array([1], np.int32), times=np.array([7]), offsets=np.array([0, 0, 1, 1, 1]), n_items=1)
    assert portion(empty, 0.5, seed=0).n_users == 2
    nothing = Sequences(items=np.array([], np.int32), times=np.array([], int), offsets=np.array([0, 0]), n_items=1)
    assert portion(nothing, 0.5, seed=0).n_users == 1
