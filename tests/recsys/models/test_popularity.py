import numpy as np
import pytest
import torch

from recsys.models.popularity import Popularity
from recsys.sequences import Sequences

DAY = 86_400 * 1_000_000


def sequences(items, days, n_items):
    return Sequences(
        items=np.array(items, np.int32),
        times=np.array(days, np.int64) * DAY,
        offsets=np.array([0, len(items)]),
        n_items=n_items,
    )


def scores(half_life_days, items, days, n_items=3):
    network = Popularity(n_items=n_items, half_life_days=half_life_days)
    network.prepare(sequences(items, days, n_items), seed=0)
    return network(torch.tensor([[1], [0]]))


def test_interaction_loses_half_its_weight_each_half_life():
    found = scores(10.0, [1, 2, 2, 3], [0, 0, 10, 20])
    # Twenty days are two half-lives: 1/4 for item 1; 1/4 + 1/2 for item 2; 1 for the newest.
    np.testing.assert_allclose(found, [[0, 0.25, 0.75, 1.0]] * 2)


def test_unknown_items_are_not_counted():
    assert scores(10.0, [0, 0, 1], [1, 1, 1])[0].tolist() == [0, 1, 0, 0]


def test_no_feedback_gives_equal_scores():
    assert scores(10.0, [], []).tolist() == [[0, 0, 0, 0]] * 2


def test_half_life_must_be_positive():
    with pytest.raises(ValueError, match="half_life_days of popularity must be positive but is 0"):
        Popularity(n_items=3, half_life_days=0)
