import numpy as np
import pytest
import torch

from recsys.models.hybrid import FAMILY
from recsys.sequences import Sequences

SMALL = {**FAMILY.defaults, "dim": 8, "history_length": 6, "steps": 3, "neighbours": 10}
HISTORY = torch.tensor([[0, 0, 0, 0, 0, 0], [0, 0, 1, 2, 3, 4], [5, 5, 1, 9, 10, 2]])


def prepared(weight):
    rng = np.random.default_rng(0)
    sequences = Sequences(
        items=rng.integers(1, 11, 60).astype(np.int32), times=np.arange(60), offsets=np.arange(0, 61, 6), n_items=10
    )
    network = FAMILY.build({**SMALL, "markov_weight": weight}, n_items=10)
    network.prepare(sequences, 0)
    return network.eval()


def test_scores_are_the_log_of_the_two_distributions_weighted():
    network = prepared(0.3)
    learned = torch.softmax(network.attention(HISTORY)[:, 1:], -1)
    votes = network.markov(HISTORY[:, -3:])[:, 1:]
    expected = torch.log(0.7 * learned + 0.3 * votes / votes.sum(1, keepdim=True))
    torch.testing.assert_close(network(HISTORY)[:, 1:], expected)
    torch.testing.assert_close(network(HISTORY)[:, 1:].exp().sum(1), torch.ones(3))


@pytest.mark.parametrize(("weight", "part"), [(0.0, "attention"), (1.0, "markov")])
def test_extreme_weights_rank_as_one_part_alone(weight, part):
    network = prepared(weight)
    history = HISTORY if part == "attention" else HISTORY[:, -3:]
    expected = getattr(network, part)(history)[:, 1:]
    assert torch.equal(network(HISTORY)[:, 1:].argsort(-1), expected.argsort(-1))


def test_loss_is_that_of_the_attention_because_the_counts_know_the_answers():
    network = prepared(0.9)
    torch.testing.assert_close(network.loss(HISTORY), network.attention.loss(HISTORY))


@pytest.mark.parametrize(
    ("broken", "message"),
    [({"markov_weight": 1.5}, r"markov_weight of hybrid must lie in \[0, 1\]"), ({"steps": 7}, "at most its history")],
)
def test_parameters_out_of_range_are_named(broken, message):
    with pytest.raises(ValueError, match=message):
        FAMILY.build({**SMALL, **broken}, n_items=10)
