"""One suite that every family passes unchanged."""

import math

import numpy as np
import onnxruntime
import optuna
import pytest
import torch

from recsys.models import FAMILIES, Network, TorchScorer
from recsys.sequences import Sequences
from recsys.training import load_weights, save_weights, train

N_ITEMS = 12
SMALL = {  # what makes a family small enough for a test; a key that a family lacks is left out
    "epochs": 3,
    "batch_size": 64,
    "lr": 0.01,
    "dim": 8,
    "hidden": 8,
    "layers": 2,
    "heads": 2,
    "history_length": 6,
    "steps": 3,
    "neighbours": 5,
    "softmax": "full",
    "negatives": 1,
    "dropout": 0.1,
}
HISTORIES = np.array(
    [[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 3], [0, 0, 1, 2, 3, 4], [5, 4, 3, 2, 1, 12], [7, 0, 7, 0, 7, 0]]
)


def small(family):
    closed = family.defaults["epochs"] == 0
    return {
        **family.defaults,
        **{key: value for key, value in SMALL.items() if key in family.defaults and not (closed and key == "epochs")},
    }


def made(seed=0, users=30):
    """Each user walks round the circle of items from a random place; item 12 is taken by nobody."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 20, users)
    items = np.concatenate([1 + (rng.integers(11) + np.arange(length)) % 11 for length in lengths])
    return Sequences(
        items=items.astype(np.int32),
        times=np.arange(len(items)) * 3_600_000_000,
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        n_items=N_ITEMS,
    )


def trained(family, **changed):
    configuration = {**small(family), **changed}
    network = family.build(configuration, n_items=N_ITEMS)
    train(network, made(), configuration, seed=1)
    return network


def histories(network):
    return HISTORIES[:, -network.history_length :]


@pytest.fixture(params=FAMILIES)
def family(request):
    return FAMILIES[request.param]


def test_name_is_its_key_in_the_registry(family):
    assert FAMILIES[family.name] is family


def test_network_keeps_the_protocol(family):
    network = family.build(small(family), n_items=N_ITEMS)
    assert isinstance(network, Network)
    assert network.n_items == N_ITEMS


def test_scores_are_finite_for_every_history_the_empty_one_included(family):
    network = trained(family)
    scores = TorchScorer(network)(histories(network))
    assert scores.shape == (5, N_ITEMS + 1)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()


def test_empty_history_prefers_what_is_popular(family):
    sequences = Sequences(
        items=np.tile([4, 9], 60).astype(np.int32), times=np.arange(120), offsets=np.arange(0, 121, 2), n_items=N_ITEMS
    )
    configuration = small(family)
    network = family.build(configuration, n_items=N_ITEMS)
    train(network, sequences, configuration, seed=0)
    scores = TorchScorer(network)(np.zeros((1, network.history_length), np.int64))
    assert set(1 + np.argsort(-scores[0, 1:])[:2]) == {4, 9}


def test_row_does_not_depend_on_the_others_of_its_batch(family):
    network = trained(family)
    scorer = TorchScorer(network)
    alone = np.concatenate([scorer(row[None]) for row in histories(network)])
    np.testing.assert_allclose(scorer(histories(network)), alone, rtol=1e-5, atol=1e-6)


def test_weights_survive_a_file(family, tmp_path):
    network, other = trained(family), family.build(small(family), n_items=N_ITEMS)
    save_weights(network, tmp_path / "weights.safetensors")
    load_weights(other, tmp_path / "weights.safetensors")
    np.testing.assert_array_equal(TorchScorer(other)(histories(network)), TorchScorer(network)(histories(network)))


def test_training_again_with_the_same_seed_gives_the_same_bits(family):
    first, second = trained(family), trained(family)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


def test_exported_graph_scores_alike_for_any_batch(family, tmp_path):
    network = trained(family)
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.onnx.export(
        network,
        (torch.from_numpy(histories(network)[:2]),),
        dynamo=True,
        input_names=["history"],
        output_names=["scores"],
        dynamic_shapes=({0: batch},),
        opset_version=20,
        verbose=False,
    )
    program.save(tmp_path / "model.onnx", external_data=False)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for rows in (histories(network), histories(network)[:1]):
        [scores] = session.run(None, {"history": rows})
        np.testing.assert_allclose(scores, TorchScorer(network)(rows), rtol=1e-4, atol=1e-5)


def test_missing_and_unknown_keys_are_named(family):
    configuration = {key: value for key, value in family.defaults.items() if key != "epochs"} | {"colour": 1}
    with pytest.raises(ValueError, match=r"misses \['epochs'\] and has the unknown \['colour'\]"):
        family.build(configuration, n_items=N_ITEMS)


def test_value_of_the_wrong_type_is_named(family):
    with pytest.raises(ValueError, match=r"epochs of \w+ must be int but is 'many'"):
        family.build({**family.defaults, "epochs": "many"}, n_items=N_ITEMS)


def test_value_that_is_no_finite_number_is_named(family):
    for key, default in family.defaults.items():
        for value in (float("nan"), float("inf")):
            if type(default) is float:
                with pytest.raises(ValueError, match=f"{key} of {family.name} must be a finite number but is {value}"):
                    family.build({**family.defaults, key: value}, n_items=N_ITEMS)


def test_epochs_are_those_of_what_is_counted_or_of_what_is_trained(family):
    counted = family.defaults["epochs"] == 0
    rule = "must be 0, because it is counted," if counted else "must be 1 or more"
    for epochs in (-1, 3 if counted else 0):
        with pytest.raises(ValueError, match=f"epochs of {family.name} {rule} but is {epochs}"):
            family.build({**family.defaults, "epochs": epochs}, n_items=N_ITEMS)


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [("lr", 0.0, "positive"), ("batch_size", 0, "1 or more"), ("weight_decay", -0.1, "0 or more")],
)
def test_value_that_the_training_loop_cannot_take_is_named(family, key, value, rule):
    if key not in family.defaults:
        family.build(family.defaults, n_items=N_ITEMS)  # what is counted has no such key
        return
    with pytest.raises(ValueError, match=f"{key} of {family.name} must be {rule} but is {value}"):
        family.build({**family.defaults, key: value}, n_items=N_ITEMS)


def test_sketch_has_the_networks_shapes_and_takes_no_memory(family):
    built, sketched = (make(small(family), n_items=N_ITEMS).state_dict() for make in (family.build, family.sketch))
    assert {name: tensor.shape for name, tensor in sketched.items()} == {n: t.shape for n, t in built.items()}
    assert {tensor.device.type for tensor in sketched.values()} == {"meta"}


def test_search_space_names_only_keys_of_the_defaults_and_holds_configurations_that_build(family):
    assert set(family.space) <= set(family.defaults)
    assert family.shape_parameters <= set(family.defaults)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(10):
        drawn = study.ask(dict(family.space)).params
        family.build({**family.defaults, **drawn}, n_items=N_ITEMS)


def test_defaults_lie_in_the_search_space(family):
    for key, distribution in family.space.items():
        value = family.defaults[key]
        assert distribution._contains(distribution.to_internal_repr(value)), (key, value)


def test_loss_of_a_learned_network_begins_near_that_of_popularity(family):
    if family.defaults["epochs"] == 0:
        with pytest.raises(ValueError, match="epochs must be 0"):
            family.build(small(family), n_items=N_ITEMS).loss(torch.tensor([[0, 1]]))
        return
    network = family.build(small(family), n_items=N_ITEMS)
    sequences = made()
    network.prepare(sequences, 0)
    shares = (np.bincount(sequences.items, minlength=N_ITEMS + 1)[1:] + 1) / (sequences.n_events + N_ITEMS)
    windows = np.array([[0, item] for item in sequences.items])
    entropy = -np.mean([math.log(shares[item - 1]) for item in sequences.items])
    assert network.eval().loss(torch.from_numpy(windows)).item() == pytest.approx(entropy, abs=0.15)
