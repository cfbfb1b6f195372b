import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from recsys.errors import LineError
from recsys.models import FAMILIES
from recsys.tuning.space import search_space


def test_a_line_that_narrows_nothing_searches_what_the_families_say(a_line):
    found = search_space(a_line(space={}))
    assert found.families == {name: FAMILIES[name].space for name in ("markov", "two_tower")}


def test_two_numbers_are_a_range_and_any_other_list_the_values(a_line):
    limits = {
        "markov": {"smoothing": [10, 100.0], "steps": [3, 5], "decay": [0.5, 0.7, 0.9], "neighbours": [256]},
        "two_tower": {"dim": [32, 64]},
    }
    families = search_space(a_line(space=limits)).families
    assert families["markov"]["smoothing"] == FloatDistribution(10, 100, log=True)
    assert families["markov"]["steps"] == IntDistribution(3, 5)
    assert families["markov"]["decay"] == CategoricalDistribution((0.5, 0.7, 0.9))
    assert families["markov"]["neighbours"] == CategoricalDistribution((256,))
    assert families["two_tower"]["dim"] == CategoricalDistribution((32, 64))
    assert families["two_tower"]["lr"] == FAMILIES["two_tower"].space["lr"]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"stepps": [1, 2]}, r"search\.space\.markov\.stepps: no such parameter .* Did you mean 'steps'\?"),
        ({"epochs": [0]}, r"search\.space\.markov\.epochs: no such parameter is searched; it must be one of \['decay'"),
        ({"steps": []}, r"search\.space\.markov\.steps: must be \[low, high\] or a list of values, but is empty"),
        ({"steps": [2, 99]}, r"search\.space\.markov\.steps: must hold whole numbers within 1\.\.16, but holds 99"),
        ({"steps": [1.5]}, r"must hold whole numbers within 1\.\.16, but holds 1\.5"),
        ({"steps": [True]}, r"must hold whole numbers within 1\.\.16, but holds True"),
        ({"steps": [5, 2]}, r"must be \[low, high\] with low not over high, but is \[5, 2\]"),
        ({"decay": ["fast"]}, r"must hold numbers within 0\.3\.\.1\.0, but holds 'fast'"),
        ({"neighbours": [130]}, r"must hold whole numbers within 128\.\.1024 in steps of 128, but holds 130"),
    ],
)
def test_a_limit_that_a_family_cannot_take_is_named_with_its_key(a_line, limits, message):
    with pytest.raises(LineError, match=message):
        search_space(a_line(space={"markov": limits}))


def test_a_choice_that_a_family_does_not_have_is_named(a_line):
    with pytest.raises(LineError, match=r"two_tower\.dim: must hold values among \[.*\], but holds 48"):
        search_space(a_line(space={"two_tower": {"dim": [48]}}))


def test_an_unknown_family_is_named(a_line):
    with pytest.raises(LineError, match=r"search\.families: must be among \[.*'sasrec'.*\], but one is 'oracle'"):
        search_space(a_line(families=["oracle"], space={}))


def test_what_is_suggested_is_a_whole_configuration_of_its_family(a_line):
    space = search_space(a_line())
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    families = set()
    for _ in range(20):
        trial = study.ask()
        family, configuration = space.suggest(trial)
        FAMILIES[family].check(configuration)
        families.add(family)
        searched = {name for name in space.families[family] if FAMILIES[family].matters(name, configuration)}
        assert set(trial.params) == {"family", *(f"{family}.{name}" for name in searched)}
        assert space.parameters(family, configuration) == trial.params
    assert families == {"markov", "two_tower"}


def test_what_a_family_searches_on_request_is_searched_where_the_line_names_it(a_line):
    assert "int8_share" not in search_space(a_line(space={})).families["two_tower"]
    asked = search_space(a_line(space={"two_tower": {"int8_share": [0.0, 0.5]}}))
    assert asked.families["two_tower"]["int8_share"] == FloatDistribution(0.0, 0.5)
    chosen = {**asked.start("two_tower"), "two_tower.int8_share": 0.25}
    family, configuration = asked.suggest(optuna.trial.FixedTrial(chosen))
    assert (family, configuration["int8_share"]) == ("two_tower", 0.25)


def test_what_does_nothing_beside_the_other_values_is_not_searched_and_stays_at_its_default(a_line):
    space = search_space(a_line(families=["two_tower"], space={"two_tower": {"negatives": [100, 200]}}))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    drawn = [(trial, space.suggest(trial)[1]) for trial in (study.ask() for _ in range(20))]
    sampled = [(trial, found) for trial, found in drawn if found["softmax"] == "sampled"]
    assert 0 < len(sampled) < len(drawn)
    assert all(100 <= trial.params["two_tower.negatives"] == found["negatives"] <= 200 for trial, found in sampled)
    assert {found["negatives"] for trial, found in drawn if "two_tower.negatives" not in trial.params} == {256}
    default = space.parameters("two_tower", FAMILIES["two_tower"].defaults)  # 256 lies outside, but does nothing here
    assert default is not None
    assert "two_tower.negatives" not in default
    assert space.parameters("two_tower", {**FAMILIES["two_tower"].defaults, "softmax": "sampled"}) is None
    assert "two_tower.negatives" not in space.start("two_tower")


def test_a_configuration_outside_the_space_has_no_parameters(a_line):
    space = search_space(a_line())  # steps may only be 2
    markov = {**FAMILIES["markov"].defaults, "steps": 2, "neighbours": 128}
    assert space.parameters("markov", markov)["markov.steps"] == 2
    assert space.parameters("markov", {**markov, "steps": 3}) is None
    assert space.parameters("popularity", FAMILIES["popularity"].defaults) is None


def test_a_family_starts_from_its_defaults_and_from_what_the_line_has_settled(a_line):
    space = {"markov": {"steps": [2], "neighbours": [256, 384], "smoothing": [5.0, 9.0]}}
    start = search_space(a_line(space=space)).start("markov")
    settled, default = {"markov.steps": 2}, {"markov.decay": FAMILIES["markov"].defaults["decay"]}
    assert FAMILIES["markov"].defaults["steps"] != 2
    assert start == {"family": "markov", **settled, **default}  # and the sampler chooses the two others


def test_what_the_line_has_fixed_is_settled_at_its_value_with_the_familys_own_range(a_line):
    space = search_space(a_line(families=["markov"], space={"markov": {"steps": [2], "decay": [0.3, 0.6]}}))
    assert space.settled == {"markov.steps": (FAMILIES["markov"].space["steps"], 2)}


@pytest.mark.parametrize("weights", [None, "some"])
def test_a_plan_without_weights_searches_cold_starts_alone(a_line, a_plan, weights):
    found = search_space(a_line(space={}), a_plan(weights=weights)).families
    assert found["two_tower"]["start"].choices == (("cold", "incumbent", "frozen") if weights else ("cold",))
    assert "start" not in found["markov"]
