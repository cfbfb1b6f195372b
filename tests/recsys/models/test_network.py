import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from torch import nn

from recsys.models.network import Family

CHOICES = CategoricalDistribution(["off", "on"])


def family(**changes):
    known = {
        "name": "made",
        "network": nn.Identity,
        "defaults": {"first": "off", "second": "off", "third": 1},
        "space": {"first": CHOICES, "second": CHOICES, "third": IntDistribution(1, 9)},
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
    ("changes", "message"),
    [
        ({"space": {"fourth": CHOICES}}, r"space of made names \['fourth'\], which its defaults do not have"),
        ({"shape_parameters": frozenset({"fourth"})}, r"shape_parameters of made names \['fourth'\]"),
        ({"conditions": {"first": ("second", "on")}}, r"first must come after second in the space \['first', "),
        ({"conditions": {"fourth": ("first", "on")}}, r"fourth must come after first in the space"),
        ({"conditions": {"third": ("second", 1)}}, r"conditions of made: second cannot be 1"),
    ],
)
def test_a_family_that_contradicts_itself_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        family(**changes)
