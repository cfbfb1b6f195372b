from dataclasses import replace

import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from torch import nn

from recsys.models.knob import FIRST, FIXED, Knob, Without
from recsys.models.network import Family

KNOB = Knob(meaning="What it does", unit="items", owner="training", tier=FIRST)
KNOBS_WITH_RATE = {"first": KNOB, "second": KNOB, "third": KNOB, "rate": replace(KNOB, tier=FIXED)}
CHOICES = CategoricalDistribution(["off", "on"])


def family(**changes):
    known = {
        "name": "made",
        "network": nn.Identity,
        "defaults": {"first": "off", "second": "off", "third": 1},
        "space": {"first": CHOICES, "second": CHOICES, "third": IntDistribution(1, 9)},
        "knobs": {"first": KNOB, "second": KNOB, "third": KNOB},
        "conditions": {"second": ("first", "on"), "third": ("second", "on")},
    }
    return Family(**{**known, **changes})


@pytest.mark.parametrize(
    ("first", "second", "matters"), [("on", "on", True), ("on", "off", False), ("off", "on", False)]
)
def test_a_parameter_matters_where_all_that_it_hangs_on_does(first, second, matters):
    assert family().matters("third", {"first": first, "second": second, "third": 1}) is matters
    assert family().matters("first", {"first": first})


@pytest.mark.parametrize(
    ("written", "effective"),
    [
        ({"first": "off", "second": "on", "third": 5}, {"first": "off"}),
        ({"third": 5, "second": "on", "first": "on"}, {"first": "on", "second": "on", "third": 5}),
    ],
)
def test_what_is_effective_is_what_does_anything(written, effective):
    assert family().effective(written) == effective


def test_a_whole_number_is_effective_as_the_float_that_the_family_takes_it_for():
    made = family(defaults={"first": "off", "second": "off", "third": 1, "rate": 0.5}, knobs=KNOBS_WITH_RATE)
    assert repr(made.effective({"rate": 1})) == "{'rate': 1.0}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {"fourth": CHOICES}}, r"space of made names \['fourth'\], which its defaults do not have"),
        ({"shape_parameters": frozenset({"fourth"})}, r"shape_parameters of made names \['fourth'\]"),
        ({"knobs": {"first": KNOB, "second": KNOB}}, r"knobs of made must be .*, but differ in \['third'\]"),
        (
            {"knobs": {"first": KNOB, "second": KNOB, "third": replace(KNOB, tier=FIXED)}},
            r"tier of third of made must be below 3, because it is searched, but is 3",
        ),
        ({"space": {}, "conditions": {}}, r"tier of first of made must be 3, as it is not, but is 1"),
        ({"conditions": {"first": ("second", "on")}}, r"first must come after second in the space \['first', "),
        ({"conditions": {"fourth": ("first", "on")}}, r"fourth must come after first in the space"),
        ({"conditions": {"third": ("second", 1)}}, r"conditions of made: second cannot be 1"),
        (
            {
                "knobs": {"first": KNOB, "second": KNOB, "third": KNOB}
                | {"first": replace(KNOB, without=(Without(what="it", values={"fourth": 1}),))}
            },
            r"first of made leaves out \['fourth'\], which its defaults do not have",
        ),
    ],
)
def test_a_family_that_contradicts_itself_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        family(**changes)
