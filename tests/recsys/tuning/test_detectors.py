from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from recsys.models import FAMILIES
from recsys.sequences import Cases, Sequences
from recsys.training import train
from recsys.transfer import Start
from recsys.tuning.detectors import effective_rank, examine, mean_cosine

N_ITEMS, USERS, LEARNED, ASKED = 60, 80, 24, 4


def walks(seed=0):
    """Users who walk round a circle of items, and now and then jump: what they did, and the last of it as cases."""
    rng = np.random.default_rng(seed)
    steps = np.where(rng.random((USERS, LEARNED + ASKED)) < 0.15, rng.integers(1, N_ITEMS, (USERS, LEARNED + ASKED)), 1)
    items = 1 + (rng.integers(N_ITEMS, size=(USERS, 1)) + steps.cumsum(1)) % N_ITEMS
    times = np.arange(LEARNED + ASKED)[None] * USERS + np.arange(USERS)[:, None]
    whole = Sequences(
        items=items.ravel().astype(np.int32),
        times=times.ravel(),
        offsets=np.arange(USERS + 1) * (LEARNED + ASKED),
        n_items=N_ITEMS,
    )
    learned = Sequences(
        items=items[:, :LEARNED].ravel().astype(np.int32),
        times=times[:, :LEARNED].ravel(),
        offsets=np.arange(USERS + 1) * LEARNED,
        n_items=N_ITEMS,
    )
    late = np.flatnonzero(np.arange(len(whole.items)) % (LEARNED + ASKED) >= LEARNED)
    return whole, learned, Cases(sequences=whole, positions=late)


WHOLE, WALKED, WINDOW = walks()
SMALL = {"epochs": 12, "batch_size": 128, "lr": 0.01, "dim": 16, "hidden": 32, "history_length": 10, "steps": 5}


def small(name, **changed):
    family = FAMILIES[name]
    counted = family.defaults["epochs"] == 0
    known = {key: value for key, value in SMALL.items() if key in family.defaults and not (counted and key == "epochs")}
    return {**family.defaults, **known, **changed}


def fitted(name, learned=WALKED, **changed):
    configuration = small(name, **changed)
    network, fresh = (FAMILIES[name].build(configuration, n_items=N_ITEMS) for _ in range(2))
    training = train(network, learned, configuration, seed=0)
    if training.losses:
        fresh.prepare(learned, 0)
    return network, {"losses": training.losses, "fresh": fresh}


def unsound(network, how, learned=WALKED, window=WINDOW):
    return {sign.name: sign.said for sign in examine(network, learned, window, **how) if sign.excess > 0}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_sound_training_of_any_family_has_no_sign(name):
    network, how = fitted(name)
    assert unsound(network, how) == {}


@pytest.mark.parametrize("name", ["two_tower", "sasrec", "hybrid"])
@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 1, "lr": 3e-4},  # hardly begun
        {"epochs": 2, "lr": 3e-4, "dropout": 0.6, "weight_decay": 0.3},
        {"lr": 3e-2, "dropout": 0.0},
        {"softmax": "sampled", "negatives": 16},
    ],
)
def test_the_ends_of_a_search_space_are_sound(name, change):
    network, how = fitted(name, **change)
    assert unsound(network, how) == {}


@pytest.mark.parametrize("name", ["two_tower", "sasrec", "hybrid"])
def test_steps_that_are_far_too_long_are_found(name):
    found = unsound(*fitted(name, lr=1.0, epochs=3))
    assert found["blown_up"].startswith("blown up: the loss was ")


@pytest.mark.parametrize("name", ["two_tower", "sasrec", "hybrid"])
def test_a_network_that_was_not_let_learn_is_found(name):
    found = unsound(*fitted(name, dropout=0.95, weight_decay=30.0))
    assert found["over_regularised"].startswith("over-regularised: NDCG@10 is 0.1")


ITEMS = tuple(f"item {number}" for number in range(1, N_ITEMS + 1))
_, LATER, _ = walks(seed=1)


def incumbents(name):
    """Weights of a sound training on what other users did."""
    network, _ = fitted(name, learned=LATER)
    return Start(sha256="5e", tensors=network.state_dict(), items=ITEMS, vocabulary=ITEMS)


def fitted_from(weights, name, **changed):
    """Train from weights; what it is compared with is drawn, as for a cold training."""
    configuration = small(name, **{"start": "incumbent", **changed})
    network, fresh = (FAMILIES[name].build(configuration, n_items=N_ITEMS) for _ in range(2))
    training = train(network, WALKED, configuration, seed=0, start=weights)
    assert training.covered.items == 1.0
    fresh.prepare(WALKED, 0)
    return network, {"losses": training.losses, "fresh": fresh}


@pytest.mark.parametrize("name", ["two_tower", "sasrec", "hybrid"])
def test_sound_trainings_from_weights_have_no_sign_however_short_they_are(name):
    weights = incumbents(name)
    for change in ({}, {"start": "frozen"}, {"epochs": 1}, {"epochs": 3, "lr": 3e-4}):
        assert unsound(*fitted_from(weights, name, **change)) == {}, change


@pytest.mark.parametrize("name", ["two_tower", "sasrec", "hybrid"])
def test_a_training_that_spoils_the_weights_that_it_was_given_is_found(name):
    weights = incumbents(name)
    stifled = unsound(*fitted_from(weights, name, dropout=0.95, weight_decay=30.0))
    assert stifled["over_regularised"].startswith("over-regularised: NDCG@10 is 0.1")
    blown_up = unsound(*fitted_from(weights, name, lr=1.0, epochs=3))
    assert blown_up["blown_up"].startswith("blown up: the loss was ")


@pytest.mark.parametrize("name", ["two_tower", "sasrec", "hybrid"])
def test_embeddings_of_zeros_are_found(name):
    network, how = fitted(name)
    for module in network.modules():
        if isinstance(module, nn.Embedding):
            nn.init.zeros_(module.weight)
    found = unsound(network, how)
    assert found["collapsed_rank"] == "collapsed embeddings: effective rank 0.0 of 16, under 4"
    assert found["collapsed_cosine"] == "collapsed embeddings: mean cosine of two items 1.00, over 0.5"


def test_embeddings_on_one_line_are_found():
    network, how = fitted("two_tower")
    with torch.no_grad():
        network.items.weight.copy_(torch.outer(torch.linspace(1, 2, N_ITEMS + 1), torch.ones(16)))
    found = unsound(network, how)
    assert found["collapsed_rank"] == "collapsed embeddings: effective rank 1.0 of 16, under 4"
    assert "mean cosine of two items 1.00" in found["collapsed_cosine"]


def test_units_that_never_fire_are_found():
    network, how = fitted("two_tower")
    with torch.no_grad():
        network.user[0].bias[:24] = -1e3
    assert unsound(network, how)["dead_units"].startswith("dead units: ")
    with torch.no_grad():
        network.user[0].bias[:] = 1e3
    assert "dead_units" not in unsound(network, how)
    assert [module for module in network.modules() if module._forward_hooks] == []  # nothing is left in the network


def test_scores_that_are_all_alike_are_found():
    network, how = fitted("popularity")
    assert unsound(network, how) == {}  # the same for everybody, but not the same for every item
    network.counts.zero_()
    assert unsound(network, how) == {"constant_scores": "all items score alike in 100.0% of the cases"}


class Leaking(Cases):
    """Cases whose histories end with the item that is asked for."""

    def histories(self, which, length):
        return Cases(sequences=self.sequences, positions=self.positions + 1).histories(which, length)


@pytest.mark.parametrize("name", ["markov", "two_tower", "sasrec", "hybrid"])
def test_a_history_that_holds_its_target_is_found(name):
    network, how = fitted(name)
    inside = Cases(sequences=WHOLE, positions=WINDOW.positions[WINDOW.positions % (LEARNED + ASKED) == LEARNED])
    leaking = Leaking(sequences=WHOLE, positions=inside.positions)
    assert "told_the_target" not in unsound(network, how, window=inside)
    said = unsound(network, how, window=leaking)["told_the_target"]
    assert said == "leakage: in 100.0% of the cases the scores depend on the item that is asked for"


def test_what_was_learned_after_validation_had_begun_is_found():
    network, how = fitted("markov", learned=WHOLE)
    said = unsound(network, how, learned=WHOLE)["told_in_training"]
    assert said == "leakage: 14.29% of what was learned happened when validation had begun"  # 4 of 28


class Knowing(nn.Module):
    """Knows that the next item is the next one round the circle."""

    history_length, n_items = 1, N_ITEMS

    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.ones(1, 1))

    def forward(self, history):
        return self.one[0] * nn.functional.one_hot(history[:, -1] % N_ITEMS + 1, N_ITEMS + 1)


def test_validation_that_is_better_than_what_was_learned_is_found():
    rng = np.random.default_rng(1)
    other = replace(WALKED, items=rng.integers(1, N_ITEMS + 1, len(WALKED.items)).astype(np.int32))
    how = {"losses": (3.0,), "fresh": Knowing()}
    assert unsound(Knowing(), how, learned=WALKED) == {}
    assert unsound(Knowing(), how, learned=other)["validation_over_training"].startswith("leakage: NDCG@10 gains 0.")


def test_nothing_to_ask_is_no_sign():
    network, how = fitted("two_tower")
    assert unsound(network, how, window=replace(WINDOW, positions=WINDOW.positions[:0])) == {}


def test_the_effective_rank_counts_directions():
    assert effective_rank(torch.zeros(5, 3)) == 0.0
    assert effective_rank(torch.ones(5, 3, dtype=torch.float64)) == pytest.approx(1.0, abs=1e-3)
    assert effective_rank(torch.diag(torch.tensor([1.0, 1.0, 0.0]))) == pytest.approx(2.0)


def test_vectors_of_zeros_have_the_cosine_of_what_cannot_be_told_apart():
    assert mean_cosine(torch.zeros(3, 2)) == 1.0
    assert mean_cosine(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == pytest.approx(-1.0)


def test_a_training_of_one_or_two_epochs_is_not_asked_what_it_has_learned():
    network, how = fitted("two_tower", dropout=0.95, weight_decay=1.0)
    assert "over_regularised" in unsound(network, how)
    assert "over_regularised" not in unsound(network, {**how, "losses": how["losses"][:2]})
