import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from recsys.tuning import PastStudy, WarmSampler
from recsys.tuning.arguments import parents_first

SPACE = {
    "kind": CategoricalDistribution(["flat", "deep"]),
    "lr": FloatDistribution(0.001, 1.0, log=True),
    "layers": IntDistribution(1, 9),
}


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"past": {"old": 1}}, TypeError, "past must be a sequence of PastStudy, but is of type dict"),
        ({"past": PastStudy(name="old", trials=())}, TypeError, "PastStudy, but is of type PastStudy"),
        ({"past": [PastStudy(name="old", trials=()), 7]}, TypeError, r"PastStudy, but past\[1\] is of type int"),
        ({"space": {"lr": (0.001, 1.0)}}, TypeError, r"distribution for 'lr', but gives \(0.001, 1.0\)"),
        ({"space": {}}, ValueError, "space must have a parameter or be None, but is empty"),
        ({"settled": {"old": 3}}, TypeError, "a distribution and a value for 'old', but gives 3"),
        ({"conditions": {"layers": "kind"}}, TypeError, "a parameter and its value for 'layers', but give 'kind'"),
        (
            {"conditions": {"layers": ("zz", "deep")}},
            ValueError,
            r"condition of 'layers' must name parameters of the space or settled ones \(kind, lr, layers\), but one is "
            "'zz'",
        ),
        ({"conditions": {"layer": ("kind", "deep")}}, ValueError, "one is 'layer'. Did you mean 'layers'?"),
        (
            {"conditions": {"layers": ("kind", "deep"), "kind": ("layers", 3)}},
            ValueError,
            "must not go round in a ring, but do: layers hangs on kind hangs on layers",
        ),
        ({"candidates": []}, ValueError, "candidates must hold a configuration or be None, but are empty"),
        ({"candidates": [{"kind": "flat", "l": 0.1}]}, ValueError, "one is 'l'"),
        ({"candidates": [{"lr": 0.1}], "space": None}, ValueError, "candidates must come with a space"),
        ({"seed": -1}, ValueError, "seed must be a whole number of 0 or more, but is -1"),
        ({"seed": None}, ValueError, "seed must be a whole number of 0 or more, but is None"),
        ({"start": 2.5}, ValueError, "start must be a whole number of 0 or more, but is 2.5"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_the_first_trial(arguments, error, said):
    with pytest.raises(error, match=said):
        WarmSampler(**{"space": SPACE, **arguments})


def test_a_settled_parameter_may_have_others_that_hang_on_it():
    space = {name: SPACE[name] for name in ("layers", "lr")}
    WarmSampler(space=space, settled={"kind": (SPACE["kind"], "deep")}, conditions={"layers": ("kind", "deep")})


def test_parents_come_first_and_all_else_keeps_its_place():
    conditions = {"layers": ("kind", "deep"), "width": ("layers", 3)}
    one = IntDistribution(0, 1)
    mixed = dict.fromkeys(["lr", "width", "idle", "layers", "kind"], one)
    assert list(parents_first(mixed, conditions)) == ["lr", "kind", "layers", "width", "idle"]
    in_order = dict.fromkeys(["kind", "lr", "layers", "width", "idle"], one)
    assert list(parents_first(in_order, conditions)) == list(in_order)
