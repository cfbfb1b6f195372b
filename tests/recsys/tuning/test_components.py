import pytest

from recsys.models import FAMILIES
from recsys.tuning.components import components

HYBRID = FAMILIES["hybrid"]


def apart(family, **changes):
    found = components(FAMILIES[family], {**FAMILIES[family].defaults, **changes})
    return {component.name: dict(component.changes) for component in found}


def test_a_knob_that_leaves_something_out_gives_it_whatever_its_default():
    assert apart("hybrid") == {
        "dropout": {"dropout": 0.0},
        "transitions": {"markov_weight": 0.0},
        "attention": {"markov_weight": 1.0},
        "weight decay": {"weight_decay": 0.0},
        "a step of dim": {"dim": 32},
        "all but the newest item": {"history_length": 1, "steps": 1},
        "a step of heads": {"heads": 1},
        "all but the newest item's vote": {"steps": 1},
        "fading with distance": {"decay": 1.0},
        "smoothing towards popularity": {"smoothing": 1e-3},
    }


def test_any_other_value_that_is_not_the_default_goes_back_to_it():
    tuned = apart("sasrec", lr=0.01, batch_size=256, layers=3, softmax="sampled", negatives=100)
    assert tuned["lr as tuned"] == {"lr": 0.004}
    assert tuned["batch_size as tuned"] == {"batch_size": 512}
    assert tuned["a step of layers"] == {"layers": 2}
    assert tuned["sampling in the loss"] == {"softmax": "full"}
    assert tuned["negatives as tuned"] == {"negatives": 256}
    assert "epochs as tuned" not in tuned


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({"dropout": 0.0}, "dropout"),
        ({"markov_weight": 0.0}, "transitions"),
        ({"dim": 16}, "a step of dim"),
        ({"softmax": "full", "negatives": 64}, "negatives as tuned"),  # a full softmax draws none
    ],
)
def test_what_a_configuration_has_not_is_no_component_of_it(changes, gone):
    assert gone not in apart("hybrid", **changes)


def test_a_step_less_than_what_lies_outside_the_familys_values_is_the_next_of_them():
    assert apart("sasrec", dim=100)["a step of dim"] == {"dim": 64}
    assert apart("sasrec", layers=7)["a step of layers"] == {"layers": 3}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_every_familys_defaults_can_be_built_without_each_component(family):
    for component in components(family, family.defaults):
        family.sketch({**family.defaults, **component.changes}, n_items=20)
