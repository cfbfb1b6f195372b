from dataclasses import replace

import pytest

from recsys.models import FAMILIES
from recsys.tuning.evidence import PastStudy, PastTrial
from recsys.tuning.sentinels import pick
from recsys.tuning.space import search_space

MARKOV = {"epochs": 0, "steps": 2, "decay": 0.8, "smoothing": 20.0, "neighbours": 128}


@pytest.fixture
def space(a_line):
    return search_space(a_line())


def tried(decay, value, *, smoothing=20.0, state="complete", **other):
    parameters = {
        "family": "markov",
        "markov.steps": 2,
        "markov.decay": decay,
        "markov.smoothing": smoothing,
        "markov.neighbours": 128,
        **other,
    }
    return PastTrial(parameters=parameters, value=value, state=state)


def decays(found):
    return [one.configuration.get("decay") for one in found]


def test_the_best_of_the_past_come_first_then_what_is_least_like_them(space, a_plan):
    plan = a_plan(family="markov", configuration=MARKOV)
    near = [tried(0.6 + n / 100, 0.5 - n / 1000) for n in range(6)]
    apart = [tried(0.95, 0.4)]
    poor = [tried(0.3 + n / 100, -0.5) for n in range(21)]
    found = pick(space, plan, [PastStudy(name="before", trials=(*near, *apart, *poor))])
    assert len(found) == 4
    assert found[0].configuration["decay"] == pytest.approx(0.6)
    assert found[1].configuration["decay"] == pytest.approx(0.95)
    assert [one.because for one in found[:3]] == ["among the best of before"] * 3
    assert all(one.configuration["decay"] > 0.55 for one in found[:3])


def test_the_probe_lies_far_from_all_that_was_tried(space, a_plan):
    plan = a_plan(family="markov", configuration=MARKOV)
    found = pick(space, plan, [PastStudy(name="before", trials=(tried(0.5, 0.1), tried(0.6, 0.2)))])
    assert found[-1].because == "far from all that was tried"
    assert found[-1].family == "two_tower"  # of which nothing was tried


def test_the_incumbents_own_configuration_is_no_sentinel(space, a_plan):
    plan = a_plan(family="markov", configuration=MARKOV)
    found = pick(space, plan, [PastStudy(name="before", trials=(tried(0.8, 0.9), tried(0.5, 0.1)))])
    assert 0.8 not in [round(decay, 9) for decay in decays(found[:-1]) if decay]


def test_what_failed_or_was_given_up_is_no_sentinel(space, a_plan):
    plan = a_plan(family="markov", configuration=MARKOV)
    study = PastStudy(name="before", trials=(tried(0.5, 0.9, state="pruned"), tried(0.6, 0.1)))
    assert decays(pick(space, plan, [study])[:-1]) == [pytest.approx(0.6)]


def test_what_may_no_longer_be_searched_is_moved_to_what_may(a_line, a_plan):
    narrow = search_space(a_line(space={"markov": {"decay": [0.7, 0.9], "steps": [2], "neighbours": [128]}}))
    plan = a_plan(family="markov", configuration=MARKOV)
    found = pick(narrow, plan, [PastStudy(name="before", trials=(tried(0.3, 0.9),))])
    assert found[0].configuration["decay"] == pytest.approx(0.7)


def test_without_a_past_each_familys_defaults_are_tried(space, a_plan):
    found = pick(space, a_plan(), [])
    assert [one.because for one in found] == [
        "the defaults of markov",
        "the defaults of two_tower",
        "far from all that was tried",
    ]
    assert found[0].configuration["decay"] == FAMILIES["markov"].defaults["decay"]


def test_the_same_plan_and_past_give_the_same_sentinels(space, a_plan):
    past = [PastStudy(name="before", trials=(tried(0.5, 0.1), tried(0.6, 0.2)))]
    plan = a_plan(family="markov", configuration=MARKOV)
    assert pick(space, plan, past) == pick(space, plan, past)
    assert pick(space, replace(plan, dataset_id="another"), past)[-1] != pick(space, plan, past)[-1]
