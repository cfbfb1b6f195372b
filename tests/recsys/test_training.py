import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import nn

from recsys.checkpoints import FILE
from recsys.errors import Diverged
from recsys.models import FAMILIES
from recsys.sequences import Sequences
from recsys.training import learning_rate, train, windows
from recsys.transfer import Start

CONFIGURATION = {
    **FAMILIES["sasrec"].defaults,
    "epochs": 4,
    "batch_size": 64,
    "lr": 0.01,
    "dim": 8,
    "history_length": 6,
    "dropout": 0.3,
    "softmax": "sampled",
    "negatives": 5,
}


@pytest.fixture(autouse=True)
def one_thread():
    """Sums are only promised to come out the same on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made(lengths, n_items=11, seed=0):
    rng = np.random.default_rng(seed)
    items = np.concatenate([1 + (rng.integers(n_items) + np.arange(length)) % n_items for length in lengths])
    return Sequences(
        items=items.astype(np.int32),
        times=np.arange(len(items)),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        n_items=n_items,
    )


SEQUENCES = made(np.arange(40) % 19)


def run(**changed):
    network = FAMILIES["sasrec"].build(CONFIGURATION, n_items=11)
    return network, train(network, SEQUENCES, CONFIGURATION, seed=3, **changed)


def bits(network):
    return {name: tensor.numpy().tobytes() for name, tensor in network.state_dict().items()}


def test_network_learns_what_always_follows():
    configuration = {**CONFIGURATION, "epochs": 30, "lr": 0.02, "dropout": 0.0}
    network = FAMILIES["sasrec"].build(configuration, n_items=11)
    training = train(network, SEQUENCES, configuration, seed=3)
    assert training.epochs == len(training.losses) == 30
    assert training.stopped == "finished"
    assert training.losses[-1] < 0.5 * training.losses[0]
    history = torch.tensor([[0, 0, 0, 3, 4, 5]])
    assert network(history)[0, 1:].argmax().item() + 1 == 6


def test_interrupted_after_any_epoch_it_ends_with_the_same_bits(tmp_path):
    whole, training = run()
    for done in (1, 2, 3):
        folder = tmp_path / str(done)

        def interrupt(epoch, network, last=done):
            if epoch == last + 1:
                raise KeyboardInterrupt
            return False

        with pytest.raises(KeyboardInterrupt):
            run(checkpoint=folder, on_epoch=interrupt)
        resumed, rest = run(checkpoint=folder)
        assert rest.resumed_after == done
        assert rest.losses == training.losses
        assert bits(resumed) == bits(whole)


def test_each_epochs_state_is_announced_once_it_is_kept(tmp_path):
    kept = []

    def carry():
        with safe_open(tmp_path / FILE, framework="pt") as file:
            kept.append(json.loads(file.metadata()["progress"])["epoch"])

    asked = []
    run(checkpoint=tmp_path, on_checkpoint=carry, on_epoch=lambda epoch, _: asked.append((epoch, len(kept))))
    assert kept == [1, 2, 3, 4]
    assert asked == [
        (1, 0),
        (2, 1),
        (3, 2),
        (4, 3),
    ]  # before its state is kept, so that it is asked again after a death


def test_killed_process_loses_one_epoch_at_most(tmp_path):
    whole, _ = run()
    script = (
        "import importlib.util, sys, pathlib\n"
        f"spec = importlib.util.spec_from_file_location('suite', {str(Path(__file__))!r})\n"
        "suite = importlib.util.module_from_spec(spec); spec.loader.exec_module(suite)\n"
        "import torch; torch.set_num_threads(1)\n"
        "def tell(epoch, network):\n"
        "    print(epoch, flush=True)\n"
        "    return epoch == 3 and bool(sys.stdin.readline())\n"  # waits there to be killed
        f"suite.run(checkpoint=pathlib.Path({str(tmp_path)!r}), on_epoch=tell)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    with child:
        assert [int(child.stdout.readline()) for _ in range(3)] == [1, 2, 3]
        child.send_signal(signal.SIGKILL)
    resumed, rest = run(checkpoint=tmp_path)
    assert rest.resumed_after == 2
    assert bits(resumed) == bits(whole)


def test_finished_checkpoint_is_not_trained_again(tmp_path):
    network, training = run(checkpoint=tmp_path)
    again, nothing = run(checkpoint=tmp_path, on_epoch=lambda epoch, network: pytest.fail("an epoch was run"))
    assert nothing.resumed_after == nothing.epochs == 4
    assert nothing.losses == training.losses
    assert bits(again) == bits(network)


def test_checkpoint_of_another_training_is_refused(tmp_path):
    run(checkpoint=tmp_path)
    network = FAMILIES["sasrec"].build(CONFIGURATION, n_items=11)
    for changed in ({"seed": 4}, {"share": 0.5}):
        with pytest.raises(ValueError, match="belongs to another training"):
            train(network, SEQUENCES, CONFIGURATION, **{"seed": 3, "checkpoint": tmp_path, **changed})
    with pytest.raises(ValueError, match="belongs to another training"):
        train(network, SEQUENCES, {**CONFIGURATION, "lr": 0.02}, seed=3, checkpoint=tmp_path)


def test_state_of_the_callers_random_numbers_is_left_alone():
    network = FAMILIES["sasrec"].build(CONFIGURATION, n_items=11)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    train(network, SEQUENCES, CONFIGURATION, seed=3)
    assert torch.equal(torch.rand(3), expected)


def test_on_epoch_ends_the_training_and_is_asked_again_if_nobody_came_to_know(tmp_path):
    seen = []

    def prune(epoch, network):
        seen.append((epoch, network.training))
        return epoch == 2

    network, training = run(checkpoint=tmp_path, on_epoch=prune)
    assert seen == [(1, False), (2, False)]
    assert (training.stopped, training.epochs) == ("asked", 2)
    assert not network.training
    _, again = run(checkpoint=tmp_path, on_epoch=prune)
    assert seen == [(1, False), (2, False), (2, False)]
    assert (again.stopped, again.epochs, again.resumed_after) == ("asked", 2, 1)


def test_no_epoch_begins_after_the_deadline():
    _, training = run(deadline=time.monotonic())
    assert (training.stopped, training.epochs, training.losses) == ("deadline", 0, ())


def test_loss_that_is_no_number_is_raised_with_its_epoch():
    network = FAMILIES["sasrec"].build(CONFIGURATION, n_items=11)
    with pytest.raises(Diverged, match="loss of epoch") as caught:
        train(network, SEQUENCES, {**CONFIGURATION, "lr": 1e30}, seed=3)
    assert caught.value.epoch in (1, 2)
    assert not math.isfinite(caught.value.loss)


def test_closed_form_network_is_only_prepared():
    family = FAMILIES["markov"]
    network = family.build(family.defaults, n_items=11)
    training = train(network, SEQUENCES, family.defaults, seed=0)
    assert (training.epochs, training.stopped) == (0, "finished")
    assert network.popularity.sum().item() == pytest.approx(1)


def test_weight_decay_spares_vectors():
    class Still(nn.Module):
        """Has no gradient, so that only decay can move it."""

        history_length, n_items = 6, 11

        def __init__(self):
            super().__init__()
            self.matrix, self.vector = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))

        def prepare(self, train, seed):
            pass

        def loss(self, windows):
            return 0 * (self.matrix.sum() + self.vector.sum())

    network = Still()
    train(network, SEQUENCES, {"epochs": 1, "lr": 0.1, "batch_size": 1000, "weight_decay": 0.5}, seed=0)
    assert network.vector.tolist() == [1, 1]
    # One batch is one step at the full rate: 1 - lr x weight_decay.
    np.testing.assert_allclose(network.matrix.detach(), 0.95)


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(0, 23), min_size=1, max_size=9),
    history_length=st.integers(1, 7),
    batch_size=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
def test_windows_name_every_item_once_after_items_that_really_came_before(lengths, history_length, batch_size, seed):
    n_items = max(sum(lengths), 1)
    sequences = Sequences(
        items=np.arange(1, sum(lengths) + 1, dtype=np.int32),  # each event is an item of its own
        times=np.arange(sum(lengths)),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        n_items=n_items,
    )
    starts = set(1 + sequences.offsets[:-1])
    targets = []
    for batch in windows(sequences, history_length, batch_size, np.random.default_rng(seed)):
        rows, width = batch.shape[0], batch.shape[1] - 1
        assert width <= history_length
        assert rows == 1 or rows * width <= batch_size
        for row in batch:
            held = row[row > 0]
            assert (np.diff(held) == 1).all()
            assert (row[-len(held) :] == held).all()  # padding on the left only
            own_start = max(start for start in starts if start <= held[0])
            assert all(start <= own_start or start > held[-1] for start in starts)  # one user
            begins = held[0] in starts and row[0] == 0
            targets += held.tolist() if begins else held[1:].tolist()
    assert sorted(targets) == list(range(1, sum(lengths) + 1))


@settings(deadline=None)
@given(
    items=st.lists(st.lists(st.integers(0, 2), max_size=12), min_size=1, max_size=6),
    history_length=st.integers(1, 4),
    batch_size=st.integers(1, 8),
    seed=st.integers(0, 1000),
)
def test_every_window_has_a_known_target_and_no_known_item_is_left_out(items, history_length, batch_size, seed):
    lengths = np.array([len(each) for each in items])
    sequences = Sequences(
        items=np.concatenate(items).astype(np.int32),
        times=np.arange(lengths.sum()),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        n_items=2,
    )
    targets = []
    for batch in windows(sequences, history_length, batch_size, np.random.default_rng(seed)):
        assert (batch[:, 1:] > 0).any(1).all()
        targets += batch[:, 1:][batch[:, 1:] > 0].tolist()
    assert Counter(item for each in items for item in each if item) <= Counter(targets)


@pytest.mark.parametrize("name", ["sasrec", "two_tower", "hybrid"])
def test_items_that_the_vocabulary_does_not_know_spoil_no_loss(name):
    """Half of the users did nothing that is known, and each is a batch of its own."""
    known = made([6] * 4)
    sequences = Sequences(
        items=np.where(np.arange(24) % 12 < 6, known.items, 0).astype(np.int32),
        times=known.times,
        offsets=known.offsets,
        n_items=known.n_items,
    )
    family = FAMILIES[name]
    configuration = {**family.defaults, "epochs": 2, "batch_size": 1, "dim": 8}
    training = train(family.build(configuration, n_items=11), sequences, configuration, seed=0)
    assert training.epochs == 2
    assert np.isfinite(training.losses).all()


def test_windows_are_drawn_anew_for_each_epoch():
    sequences = made([50] * 4)
    first, second = (
        [batch.tolist() for batch in windows(sequences, 8, 16, np.random.default_rng(seed))] for seed in (0, 1)
    )
    assert first != second


def test_learning_rate_rises_then_falls_to_zero():
    rates = [learning_rate(step, 200) for step in range(200)]
    assert np.argmax(rates) == 10
    assert rates[10] == 1
    assert all(np.diff(rates[:11]) > 0)
    assert all(np.diff(rates[10:]) < 0)
    assert rates[-1] < 1e-3
    assert learning_rate(0, 1) == 1


# --- begun from weights

ITEMS = tuple(f"i{number}" for number in range(11))


@pytest.fixture(scope="module")
def weights():
    before = FAMILIES["sasrec"].build(CONFIGURATION, n_items=11)
    train(before, SEQUENCES, CONFIGURATION, seed=1)
    return Start(sha256="5e", tensors=before.state_dict(), items=ITEMS, vocabulary=ITEMS)


def warm(start, *, mode="incumbent", epochs=4, **how):
    configuration = {**CONFIGURATION, "start": mode, "epochs": epochs}
    network = FAMILIES["sasrec"].build(configuration, n_items=11)
    return network, train(network, SEQUENCES, configuration, seed=2, start=start, **how)


def test_a_training_from_weights_goes_on_from_what_they_know(weights):
    cold = FAMILIES["sasrec"].build(CONFIGURATION, n_items=11)
    fresh = train(cold, SEQUENCES, {**CONFIGURATION, "epochs": 1}, seed=2)
    _, found = warm(weights, epochs=1)
    assert found.covered.parameters == 1.0
    assert found.losses[0] < fresh.losses[0] - 0.1
    assert fresh.covered is None


def test_a_cold_training_leaves_the_weights_that_it_is_given(weights):
    networks = [FAMILIES["sasrec"].build(CONFIGURATION, n_items=11) for _ in range(2)]
    for network, start in zip(networks, (weights, None), strict=True):
        train(network, SEQUENCES, CONFIGURATION, seed=2, start=start)
    assert bits(networks[0]) == bits(networks[1])


def test_a_training_that_shall_begin_from_weights_is_not_begun_without():
    with pytest.raises(ValueError, match="whose start is 'frozen' must be given weights to begin from, but has none"):
        warm(None, mode="frozen")


def test_what_is_frozen_rests_to_the_last_bit_while_the_newest_layer_learns(weights):
    network, _ = warm(weights, mode="frozen", epochs=1)
    found = network.state_dict()
    moved = {name for name in found if not torch.equal(found[name], weights.tensors[name])}
    assert moved == {"bias", "norm.weight", "norm.bias"}


@pytest.mark.parametrize("mode", ["incumbent", "frozen"])
def test_interrupted_it_goes_on_to_the_same_bits_as_from_its_weights_at_once(weights, tmp_path, mode):
    whole, _ = warm(weights, mode=mode)
    kept = []

    def die():
        kept.append(None)
        if len(kept) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        warm(weights, mode=mode, checkpoint=tmp_path, on_checkpoint=die)
    resumed, found = warm(weights, mode=mode, checkpoint=tmp_path)
    assert found.resumed_after == 2
    assert bits(resumed) == bits(whole)


def test_the_checkpoint_of_a_training_from_other_weights_is_refused(weights, tmp_path):
    warm(weights, epochs=1, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="belongs to another training"):
        warm(replace(weights, sha256="6f"), epochs=1, checkpoint=tmp_path)
