import pytest
import torch

from recsys.models.sasrec import SASRec
from recsys.models.two_tower import TwoTower


def sasrec(**changed):
    given = {
        "n_items": 20,
        "dim": 8,
        "layers": 2,
        "heads": 2,
        "history_length": 6,
        "dropout": 0.0,
        "softmax": "full",
        "negatives": 1,
    }
    return SASRec(**{**given, **changed}).eval()


def two_tower(**changed):
    given = {
        "n_items": 20,
        "dim": 8,
        "hidden": 12,
        "history_length": 6,
        "dropout": 0.0,
        "softmax": "full",
        "negatives": 1,
    }
    return TwoTower(**{**given, **changed}).eval()


WINDOWS = torch.tensor([[3, 7, 7, 1, 20, 2, 9], [0, 0, 5, 4, 3, 2, 1], [0, 0, 0, 0, 0, 0, 6], [0, 4, 0, 2, 0, 1, 8]])


def randomised(network):
    """Give parameters values that tell positions and heads apart, which the initial zeros would not."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return network


@pytest.mark.parametrize("build", [sasrec, two_tower])
def test_training_sees_at_each_place_what_serving_sees_after_the_same_items(build):
    network = randomised(build())
    losses = []
    for window in WINDOWS:
        for at in range(1, 7):
            if window[at] == 0:
                continue
            history = torch.cat([torch.zeros(6 - at, dtype=torch.int64), window[:at]])
            logits = network(history[None])[0, 1:]
            losses.append(-torch.log_softmax(logits, -1)[window[at] - 1])
    torch.testing.assert_close(network.loss(WINDOWS), torch.stack(losses).mean())


@pytest.mark.parametrize("build", [sasrec, two_tower])
def test_more_padding_on_the_left_changes_nothing(build):
    network = randomised(build())
    narrow = torch.tensor([[0, 5, 9, 2]])
    wide = torch.tensor([[0, 0, 0, 0, 5, 9, 2]])
    torch.testing.assert_close(network.loss(narrow), network.loss(wide))


@pytest.mark.parametrize("build", [sasrec, two_tower])
def test_order_of_the_history_matters(build):
    network = randomised(build())
    forwards, backwards = torch.tensor([[1, 2, 3, 4, 5, 6]]), torch.tensor([[5, 4, 3, 2, 1, 6]])
    assert not torch.allclose(network(forwards), network(backwards))


@pytest.mark.parametrize("build", [sasrec, two_tower])
def test_gradients_stay_finite_with_rows_of_padding_alone(build):
    network = randomised(build(dropout=0.2)).train()
    torch.manual_seed(0)
    network.loss(torch.tensor([[0, 0, 0, 3], [0, 0, 0, 0]])).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("key", ["dim", "layers", "heads", "history_length"])
def test_sizes_of_sasrec_must_be_positive(key):
    with pytest.raises(ValueError, match=f"{key} of sasrec must be 1 or more but is 0"):
        sasrec(**{key: 0})


@pytest.mark.parametrize("key", ["dim", "hidden", "history_length"])
def test_sizes_of_two_tower_must_be_positive(key):
    with pytest.raises(ValueError, match=f"{key} of two_tower must be 1 or more but is 0"):
        two_tower(**{key: 0})


def test_heads_must_divide_the_dimension():
    with pytest.raises(ValueError, match="dim of sasrec must be a multiple of its 3 heads but is 8"):
        sasrec(heads=3)


def test_the_last_block_works_for_the_newest_position_alone_when_serving():
    network, shapes = sasrec(), []
    for block in network.blocks:
        block.feed.register_forward_pre_hook(lambda _, given: shapes.append(tuple(given[0].shape)))
    network(WINDOWS[:, 1:])
    assert shapes == [(4, 6, 8), (4, 1, 8)]
