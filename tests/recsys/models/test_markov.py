from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from recsys.models.markov import Markov, strongest, transitions
from recsys.sequences import Sequences


def sequences(users, n_items):
    return Sequences(
        items=np.array([item for user in users for item in user], np.int32),
        times=np.arange(sum(map(len, users))),
        offsets=np.concatenate([[0], np.cumsum([len(user) for user in users])]).astype(np.int64),
        n_items=n_items,
    )


def prepared(users, n_items, **parameters):
    network = Markov(
        **{"n_items": n_items, "steps": 2, "decay": 0.5, "smoothing": 2.0, "neighbours": n_items, **parameters}
    )
    network.prepare(sequences(users, n_items), seed=0)
    return network


USERS = st.lists(st.lists(st.integers(0, 6), max_size=8), min_size=1, max_size=5)


@settings(deadline=None)
@given(users=USERS, steps=st.integers(1, 5))
def test_transitions_equal_a_count_by_hand(users, steps):
    counted = Counter()
    for user in users:
        for late in range(len(user)):
            for early in range(max(0, late - steps), late):
                if user[early] and user[late]:
                    counted[user[early], user[late]] += 0.5 ** (late - early - 1)
    found = transitions(sequences(users, 6), steps=steps, decay=0.5).toarray()
    expected = np.zeros((7, 7))
    for pair, count in counted.items():
        expected[pair] = count
    np.testing.assert_allclose(found, expected)


@settings(deadline=None)
@given(users=USERS, history=st.lists(st.integers(0, 6), min_size=3, max_size=3))
def test_scores_follow_the_formula(users, history):
    steps, decay, smoothing = 3, 0.7, 4.0
    network = prepared(users, 6, steps=steps, decay=decay, smoothing=smoothing)
    counts = transitions(sequences(users, 6), steps=steps, decay=decay).toarray()
    taken = np.array([sum(user.count(item) for user in users) if item else 0 for item in range(7)])
    share = taken / max(taken.sum(), 1)
    expected = sum(
        decay ** (ago - 1) * (counts[history[-ago]] + smoothing * share) / (counts[history[-ago]].sum() + smoothing)
        for ago in (1, 2, 3)
    )
    np.testing.assert_allclose(network(torch.tensor([history]))[0], expected, rtol=1e-5, atol=1e-7)


def test_only_the_strongest_neighbours_are_kept_and_popularity_serves_the_rest():
    # After item 1 came item 2 twice and item 3 once; with room for one neighbour, item 3 keeps its popularity alone.
    network = prepared([[1, 2], [1, 2], [1, 3]], 3, steps=1, neighbours=1)
    found = network(torch.tensor([[1]]))[0]
    # c_1 = 3, smoothing 2: (c_1j + 2 p_j) / 5 with p = 3/6, 2/6, 1/6
    np.testing.assert_allclose(found[1:], [2 * 3 / 6 / 5, (2 + 2 * 2 / 6) / 5, 2 * 1 / 6 / 5], rtol=1e-6)


def test_large_smoothing_approaches_popularity():
    network = prepared([[1, 2, 3, 3], [3, 1]], 3, smoothing=1e9)
    np.testing.assert_allclose(network(torch.tensor([[1, 2]]))[0, 1:] / 1.5, [2 / 6, 1 / 6, 3 / 6], rtol=1e-5)


@settings(deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=5, max_size=5),
    neighbours=st.integers(1, 6),
)
def test_strongest_equals_sorting_each_row(rows, neighbours):
    dense = np.array(rows, float)
    columns, values = strongest(sparse.csr_array(dense), neighbours)
    for row, found_columns, found_values in zip(dense, columns, values, strict=True):
        expected = sorted((column for column in range(5) if row[column]), key=lambda c: (-row[c], c))[:neighbours]
        fill = [0] * (neighbours - len(expected))
        assert found_columns.tolist() == expected + fill
        assert found_values.tolist() == [row[c] for c in expected] + fill


@pytest.mark.parametrize(
    "broken", [{"steps": 0}, {"decay": 0.0}, {"decay": 1.1}, {"smoothing": 0.0}, {"neighbours": 0}]
)
def test_parameters_out_of_range_are_named(broken):
    with pytest.raises(ValueError, match=f"{next(iter(broken))} of markov is out of range"):
        prepared([[1, 2]], 3, **broken)
