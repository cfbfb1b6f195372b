import copy

import numpy as np
import pytest
import torch

from recsys.models import FAMILIES
from recsys.models.sasrec import SASRec
from recsys.models.two_tower import TwoTower
from recsys.rounding import matrices, rounded_loss
from recsys.rowwise import to_int8
from recsys.sequences import Sequences
from recsys.training import train

CONFIGURATION = {
    **FAMILIES["sasrec"].defaults,
    "epochs": 12,
    "batch_size": 64,
    "lr": 0.01,
    "dim": 8,
    "history_length": 6,
    "dropout": 0.0,
}
SHAPE = {key: CONFIGURATION[key] for key in ("dim", "layers", "heads", "history_length", "dropout", "softmax")}


class Skewed(TwoTower):
    """Begins with embeddings of which one number is so large that int8 leaves little of the others."""

    def prepare(self, train, seed):
        super().prepare(train, seed)
        with torch.no_grad():
            self.items.weight[1:, 0] = 30.0


def network() -> SASRec:
    return SASRec(n_items=40, negatives=16, **SHAPE)


def rings() -> Sequences:
    """Thirty users who each go through all items in order, from wherever they begin."""
    rng = np.random.default_rng(0)
    items = np.concatenate([1 + (np.arange(20) + begin) % 40 for begin in rng.integers(0, 40, 30)]).astype(np.int32)
    return Sequences(items=items, times=np.arange(600), offsets=np.arange(0, 601, 20), n_items=40)


def windows() -> torch.Tensor:
    return torch.from_numpy(rings().items.reshape(30, 20)[:, :7].astype(np.int64))


@pytest.mark.parametrize("name", ["sasrec", "two_tower", "hybrid"])
def test_the_loss_is_that_of_a_network_with_rounded_weights(name):
    family = FAMILIES[name]
    made = family.build({**family.defaults, "dim": 8, "dropout": 0.0}, n_items=40).eval()
    made.prepare(rings(), 0)
    rounded = copy.deepcopy(made)
    with torch.no_grad():
        for weight in matrices(rounded).values():
            multiples, scales = to_int8(weight.numpy(), 127)
            weight.copy_(torch.from_numpy(multiples * scales[:, None]))
    found = rounded_loss(made, windows())
    assert found.item() == pytest.approx(rounded.loss(windows()).item(), abs=1e-6)
    assert found.item() != made.loss(windows()).item()


def test_the_weights_stay_and_get_the_gradients():
    made = network()
    made.prepare(rings(), 0)
    before = {name: weight.clone() for name, weight in made.state_dict().items()}
    rounded_loss(made, windows()).backward()
    assert all(torch.equal(weight, before[name]) for name, weight in made.state_dict().items())
    assert all(weight.grad.abs().sum() > 0 for weight in matrices(made).values())


def test_learning_with_rounded_weights_lowers_what_int8_costs_where_it_costs_much():
    shape = {"dim": 8, "hidden": 16, "history_length": 6, "dropout": 0.0}
    configuration = {**FAMILIES["two_tower"].defaults, **shape, "epochs": 30, "batch_size": 64, "lr": 0.02}
    whole, rounded = {}, {}
    for share in (0.0, 1.0):
        made = Skewed(n_items=40, softmax="full", negatives=16, **shape)
        train(made, rings(), {**configuration, "int8_share": share}, seed=0)
        with torch.no_grad():
            whole[share], rounded[share] = made.loss(windows()).item(), rounded_loss(made, windows()).item()
    assert rounded[0.0] - whole[0.0] > 0.1 * whole[0.0]
    assert rounded[1.0] - whole[1.0] < 0.01 * whole[1.0]
    assert rounded[1.0] < 0.9 * rounded[0.0]


def test_only_the_last_share_of_the_epochs_is_rounded():
    seen = {0.0: [], 0.5: []}
    for share, weights in seen.items():

        def keep(_: int, made: torch.nn.Module, weights=weights) -> bool:
            weights.append(made.items.weight.detach().clone())
            return False

        train(network(), rings(), {**CONFIGURATION, "epochs": 4, "int8_share": share}, seed=0, on_epoch=keep)
    same = [torch.equal(*both) for both in zip(seen[0.0], seen[0.5], strict=True)]
    assert same == [True, True, False, False]
