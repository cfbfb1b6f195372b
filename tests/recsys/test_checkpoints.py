import hashlib
import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load
from torch import nn

from recsys.checkpoints import (
    FILE,
    Progress,
    keep_weights,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    save_weights,
)
from recsys.errors import BadObject
from recsys.store.memory import MemoryStore

PROGRESS = Progress(epoch=2, losses=(1.5, 1.25), fingerprint="abc")


def stepped(seed=0):
    """Give a network and an optimiser that has taken two steps."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        network(torch.randn(5, 3)).square().sum().backward()
        optimiser.step()
    return network, optimiser


def step(network, optimiser):
    optimiser.zero_grad()
    network(torch.arange(6.0).view(2, 3)).pow(3).sum().backward()
    optimiser.step()


def test_next_step_after_loading_is_the_one_that_would_have_come(tmp_path):
    network, optimiser = stepped()
    save_checkpoint(tmp_path, network, optimiser, PROGRESS)
    other, other_optimiser = stepped(seed=1)
    assert load_checkpoint(tmp_path, other, other_optimiser, "abc") == PROGRESS
    step(network, optimiser)
    step(other, other_optimiser)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_header_can_be_read_without_the_tensors(tmp_path):
    save_checkpoint(tmp_path, *stepped(), PROGRESS)
    with safe_open(tmp_path / FILE, framework="numpy") as file:
        assert json.loads(file.metadata()["progress"]) == {"epoch": 2, "losses": [1.5, 1.25], "fingerprint": "abc"}


def test_folder_without_a_checkpoint_gives_nothing(tmp_path):
    assert load_checkpoint(tmp_path / "absent", *stepped(), "abc") is None


def test_other_fingerprint_is_refused_and_changes_nothing(tmp_path):
    save_checkpoint(tmp_path, *stepped(), PROGRESS)
    network, optimiser = stepped(seed=1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ValueError, match="its fingerprint must be xyz but is abc"):
        load_checkpoint(tmp_path, network, optimiser, "xyz")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_file_that_is_cut_off_is_refused(tmp_path, kept):
    save_checkpoint(tmp_path, *stepped(), PROGRESS)
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[:kept])
    with pytest.raises(BadObject, match="not a whole checkpoint"):
        load_checkpoint(tmp_path, *stepped(), "abc")


def test_weights_alone_are_no_checkpoint(tmp_path):
    network, optimiser = stepped()
    save_weights(network, tmp_path / FILE)
    with pytest.raises(BadObject, match="not a whole checkpoint"):
        load_checkpoint(tmp_path, network, optimiser, "abc")


def test_weights_of_another_shape_are_refused(tmp_path):
    save_weights(stepped()[0], tmp_path / "weights.safetensors")
    with pytest.raises(BadObject, match="does not hold the weights of this network"):
        load_weights(nn.Linear(3, 2), tmp_path / "weights.safetensors")


def test_weights_in_a_store_are_named_by_their_content_so_none_replace_others():
    store, (network, _) = MemoryStore(), stepped()
    key, digest = keep_weights(store, "studies/a", network)
    body = store.get(key).body
    assert hashlib.sha256(body).hexdigest() == digest
    assert key == f"studies/a/weights-{digest[:16]}.safetensors"
    assert set(load(body)) == set(network.state_dict())
    assert keep_weights(store, "studies/a", network) == (key, digest)
    with torch.no_grad():
        next(network.parameters()).add_(1)
    assert keep_weights(store, "studies/a", network) != (key, digest)
    assert store.get(key).body == body


def test_absent_weights_are_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_weights(stepped()[0], tmp_path / "absent.safetensors")


def test_interrupted_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    network, optimiser = stepped()
    save_checkpoint(tmp_path, network, optimiser, PROGRESS)

    def fail(descriptor):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk is full"):
        save_checkpoint(tmp_path, network, optimiser, Progress(epoch=3, losses=(1.0,), fingerprint="abc"))
    assert load_checkpoint(tmp_path, *stepped(), "abc") == PROGRESS
