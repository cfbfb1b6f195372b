"""Weights go from one network into another: every number is compared with the one that it must be."""

import shutil
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from recsys.bundles import EARLY, VOCABULARY, WEIGHTS
from recsys.checkpoints import pack_weights, save_weights
from recsys.errors import BadBundle
from recsys.models import FAMILIES
from recsys.records import Bundle, Covered, Weights
from recsys.sequences import Sequences
from recsys.store import open_store
from recsys.transfer import Start, save_early, usable_weights

SMALL = {**FAMILIES["sasrec"].defaults, "dim": 8, "heads": 2, "history_length": 5, "epochs": 1}
TOWER = {**FAMILIES["two_tower"].defaults, "dim": 8, "hidden": 8, "history_length": 5, "epochs": 1}
THEN = ("a", "b", "c", "d")
NOW = ("c", "new", "a", "b", "d")
HISTORY = torch.tensor([[0, 0, 1, 3, 4], [0, 5, 1, 1, 3]])  # in the ids of NOW
HISTORY_THEN = torch.tensor([[0, 0, 3, 1, 2], [0, 4, 3, 3, 1]])


def learned(items=(1, 2, 3, 4, 5, 1), n_items=5):
    return Sequences(
        items=np.array(items, np.int32),
        times=np.arange(len(items)),
        offsets=np.array([0, len(items)]),
        n_items=n_items,
    )


def trained(family="sasrec", configuration=SMALL, items=THEN):
    """A network whose every learned number is some other one than a fresh network's."""
    network = FAMILIES[family].build(configuration, n_items=len(items)).eval()
    network.prepare(learned((1, 2, 3, 4, 1, 1), len(items)), 3)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(11)
        for parameter in network.parameters():
            parameter += 0.3 * torch.randn(parameter.shape)
        getattr(network, "learner", network).items.weight[0] = 0
    return network


def prepared(family="sasrec", configuration=SMALL, items=NOW):
    network = FAMILIES[family].build(configuration, n_items=len(items)).eval()
    network.prepare(learned((1, 2, 3, 4, 1), len(items)), 5)
    return network


def start(network, items=THEN, vocabulary=NOW):
    return Start(sha256="5e", tensors=network.state_dict(), items=items, vocabulary=vocabulary)


def put(old, new, **how):
    return start(old, **how).into(new, learned())


def test_rows_of_items_are_found_by_name():
    old, new = trained(), prepared()
    put(old, new)
    for name in ("items.weight", "bias"):
        before, now = old.state_dict()[name], new.state_dict()[name]
        assert torch.equal(now[[1, 3, 4, 5]], before[[3, 1, 2, 4]])
    assert torch.equal(new.items.weight[0], torch.zeros(8))


def test_a_new_item_begins_at_the_mean_of_the_known_ones_with_what_was_drawn_on_top():
    old, new, fresh = trained(), prepared(), prepared()
    put(old, new)
    shift = (old.items.weight[[3, 1, 2, 4]] - fresh.items.weight[[1, 3, 4, 5]]).mean(0)
    assert torch.allclose(new.items.weight[2], fresh.items.weight[2] + shift, atol=1e-6)


def test_among_items_that_are_known_it_scores_as_then():
    old, new = trained(), prepared()
    put(old, new)
    found = new(HISTORY)[:, [3, 4, 1, 5]]
    assert torch.allclose(found, old(HISTORY_THEN)[:, 1:], atol=1e-5)


@pytest.mark.parametrize(("family", "configuration"), [("two_tower", TOWER), ("sasrec", SMALL)])
def test_with_the_same_items_all_is_taken_and_the_scores_are_those_of_then(family, configuration):
    old = trained(family, configuration)
    new = prepared(family, configuration, items=THEN)
    taken = start(old, vocabulary=THEN).into(new, learned((1, 2, 4), 4))
    history = HISTORY_THEN
    assert torch.allclose(new(history), old(history), atol=1e-6)
    assert taken.covered == Covered(parameters=1.0, items=1.0, interactions=1.0)


def test_the_shares_count_items_and_interactions():
    old, new = trained(), prepared()
    taken = put(old, new).covered
    assert taken.items == 4 / 5
    assert taken.interactions == 5 / 6  # 1 2 3 4 5 1, of which 2 is new


def test_a_new_block_adds_nothing_at_first():
    old = trained()
    new = prepared(configuration={**SMALL, "layers": 3}, items=THEN)
    taken = start(old, vocabulary=THEN).into(new, learned((1, 2), 4))
    assert torch.allclose(new(HISTORY_THEN), old(HISTORY_THEN), atol=1e-6)
    assert not taken.marks["blocks.1.query.weight"].any()
    assert new.blocks[2].query.weight.abs().sum() > 0  # it can learn


def test_units_that_a_layer_gains_are_not_listened_to_at_first():
    old = trained("two_tower", TOWER)
    new = prepared("two_tower", {**TOWER, "hidden": 20}, items=THEN)
    start(old, vocabulary=THEN).into(new, learned((1, 2), 4))
    assert torch.allclose(new(HISTORY_THEN), old(HISTORY_THEN), atol=1e-6)
    assert new.user[0].weight[8:].abs().sum() > 0


@pytest.mark.parametrize("length", [3, 9])
def test_histories_of_another_length_keep_what_both_reach(length):
    old = trained()
    new = prepared(configuration={**SMALL, "history_length": length}, items=THEN)
    start(old, vocabulary=THEN).into(new, learned((1, 2), 4))
    short = HISTORY_THEN[:, -3:]
    assert torch.allclose(new(short), old(short), atol=1e-6)


def test_older_places_of_a_longer_history_begin_as_the_oldest_known_one():
    old, new = trained(), prepared(configuration={**SMALL, "history_length": 8}, items=THEN)
    start(old, vocabulary=THEN).into(new, learned((1, 2), 4))
    before, now = old.blocks[0].distance, new.blocks[0].distance
    assert torch.equal(now, torch.cat([before, before[:, 4:].expand(2, 3)], 1))
    tower, longer = trained("two_tower", TOWER), prepared("two_tower", {**TOWER, "history_length": 7}, items=THEN)
    start(tower, vocabulary=THEN).into(longer, learned((1, 2), 4))
    assert torch.equal(longer.recency, torch.cat([tower.recency, tower.recency[4:].expand(2)]))


@pytest.mark.parametrize("dim", [4, 16])
def test_changed_widths_keep_heads_queries_keys_and_values_apart(dim):
    old = trained()
    new = prepared(configuration={**SMALL, "dim": dim}, items=THEN)
    taken = start(old, vocabulary=THEN).into(new, learned((1, 2), 4))
    both, head = min(dim, 8), min(dim, 8) // 2
    before, now = old.blocks[0].key_value.weight, new.blocks[0].key_value.weight
    for piece in range(4):  # two heads of keys, two of values
        at, then = piece * dim // 2, piece * 4
        assert torch.equal(now[at : at + head, :both], before[then : then + head, :both])
        assert torch.equal(now[at : at + head, both:], torch.zeros(head, dim - both))
    assert torch.equal(new.items.weight[1:, :both], old.items.weight[1:, :both])
    assert 0 < taken.covered.parameters <= 1


def test_the_attention_of_a_hybrid_comes_from_sasrec_and_its_counts_are_counted_anew():
    hybrid = {**FAMILIES["hybrid"].defaults, **SMALL, "steps": 2, "neighbours": 4}
    old, new, fresh = trained(), prepared("hybrid", hybrid, items=THEN), prepared("hybrid", hybrid, items=THEN)
    taken = start(old, vocabulary=THEN).into(new, learned((1, 2), 4))
    assert torch.allclose(new.attention(HISTORY_THEN), old(HISTORY_THEN), atol=1e-6)
    assert all(torch.equal(new.markov.state_dict()[n], t) for n, t in fresh.markov.state_dict().items())
    assert taken.covered.parameters > 0.9
    back = prepared(items=THEN)
    start(new, vocabulary=THEN).into(back, learned((1, 2), 4))
    assert torch.allclose(back(HISTORY_THEN), old(HISTORY_THEN), atol=1e-6)


def test_networks_with_nothing_in_common_leave_it_as_it_was_drawn():
    markov = FAMILIES["markov"].build({**FAMILIES["markov"].defaults, "neighbours": 2}, n_items=4)
    new, fresh = prepared(), prepared()
    taken = put(markov, new)
    assert taken.covered.parameters == taken.covered.items == taken.covered.interactions == 0
    assert all(torch.equal(new.state_dict()[name], tensor) for name, tensor in fresh.state_dict().items())


def test_without_an_item_in_common_there_is_no_row_to_take():
    old, new, fresh = trained(), prepared(), prepared()
    taken = put(old, new, items=("w", "x", "y", "z"))
    assert (taken.covered.items, taken.covered.interactions) == (0, 0)
    assert torch.equal(new.items.weight, fresh.items.weight)
    assert taken.marks["norm.weight"].all()


# --- which weights of a release may be begun from


@pytest.fixture
def packaged(shop, keep_bundle):
    """Keep a bundle whose weights know all before the holdout, and whose early ones know less."""

    def make(*, early=True, dataset_id=shop.dataset.dataset_id, files=None) -> Bundle:
        old = trained()
        bodies = {"model.onnx": b"graph", WEIGHTS: pack_weights(old), VOCABULARY: b'["a", "b", "c", "d"]'}
        if early:
            save_early(shop.store, "early", old, vocabulary=("b", "a"), learned_before=shop.early)
            bodies[EARLY] = shop.store.get("early").body
        bodies = bodies if files is None else {name: bodies[name] for name in files}
        about = {"family": "sasrec", "configuration": SMALL, "dataset_id": dataset_id}
        return keep_bundle(shop.store, bodies, **about, history_length=5, n_items=4)

    return make


@pytest.fixture
def shop(frozen_shop, tmp_path):
    folder, dataset = frozen_shop
    shutil.copytree(folder, tmp_path / "store")
    store = open_store((tmp_path / "store").as_uri()).under("shop")
    return SimpleNamespace(store=store, dataset=dataset, early=dataset.windows[0].begins)


SECOND = timedelta(seconds=1)


def test_the_later_weights_are_taken_as_soon_as_the_judging_events_begin_after_them(shop, packaged):
    bundle, holdout = packaged(), shop.dataset.holdout.begins
    found, why_not = usable_weights(shop.store, bundle, before=holdout)
    assert found == Weights(
        release_id=bundle.release_id, file=WEIGHTS, sha256=bundle.files[WEIGHTS].sha256, learned_before=holdout
    )
    assert why_not == ""


def test_what_knows_an_event_that_judges_is_not_begun_from_and_the_early_weights_are(shop, packaged):
    bundle = packaged()
    for before in (shop.dataset.holdout.begins - SECOND, shop.early):
        found, _ = usable_weights(shop.store, bundle, before=before)
        assert (found.file, found.learned_before) == (EARLY, shop.early)


def test_when_even_the_early_weights_know_too_much_it_says_until_when_they_have_learned(shop, packaged):
    bundle = packaged()
    found, why_not = usable_weights(shop.store, bundle, before=shop.early - SECOND)
    assert found is None
    assert why_not == (
        f"the weights of {bundle.release_id} have learned from what happened until {shop.early:%Y-%m-%d %H:%M}, "
        f"and what decides begins at {shop.early - SECOND:%Y-%m-%d %H:%M}"
    )


@pytest.mark.parametrize(
    ("how", "why_not"),
    [
        ({"files": ["model.onnx"]}, "keeps no weights"),
        ({"early": False, "dataset_id": "gone"}, "nothing says until when the weights of"),
    ],
)
def test_weights_of_which_nothing_is_known_are_not_begun_from(shop, packaged, how, why_not):
    found, said = usable_weights(shop.store, packaged(**how), before=shop.dataset.holdout.ends)
    assert found is None
    assert why_not in said


def test_early_weights_that_were_spoiled_are_not_begun_from(shop, packaged):
    bundle = packaged()
    shop.store.put(f"releases/{bundle.release_id}/{EARLY}", b"spoiled")
    found, why_not = usable_weights(shop.store, bundle, before=shop.early)
    assert found is None
    assert "cannot be read: early.safetensors of" in why_not


def test_early_weights_say_themselves_which_items_they_know(shop, packaged):
    bundle = packaged()
    found, _ = usable_weights(shop.store, bundle, before=shop.early)
    assert Start.read(shop.store, found, NOW).items == ("b", "a")
    later, _ = usable_weights(shop.store, bundle, before=shop.dataset.holdout.begins)
    read = Start.read(shop.store, later, NOW)
    assert (read.items, read.vocabulary, read.sha256) == (THEN, NOW, bundle.files[WEIGHTS].sha256)


def test_weights_that_are_none_are_refused(shop, packaged, tmp_path):
    bundle = packaged()
    meant = Weights(release_id=bundle.release_id, file="model.onnx", sha256="", learned_before=shop.early)
    with pytest.raises(BadBundle, match=r"model.onnx of sasrec-\w+ must hold weights, but cannot be read"):
        Start.read(shop.store, meant, NOW)
    with pytest.raises(BadBundle, match=r"must have none.safetensors, but has \["):
        Start.read(shop.store, replace(meant, file="none.safetensors"), NOW)


def test_the_same_early_weights_are_the_same_bytes(shop):
    for at in ("one", "two"):
        save_early(shop.store, at, trained(), vocabulary=THEN, learned_before=shop.early)
    assert shop.store.get("one").body == shop.store.get("two").body


def test_packed_weights_are_those_that_are_saved(tmp_path):
    save_weights(trained(), tmp_path / "saved")
    assert (tmp_path / "saved").read_bytes() == pack_weights(trained())
