from dataclasses import replace

import pytest

from recsys.models import FAMILIES
from recsys.records import Sentinel
from recsys.settings import Stage
from recsys.tuning.promotion import contenders, entries, promoted
from recsys.tuning.ranking import rank

A, B, C, OWN = ({"epochs": 1, "x": x} for x in "abco")


def configurations(standings):
    return [standing.configuration for standing in standings]


def test_the_last_stage_with_a_complete_challenger_is_what_counts(a_plan, a_trial):
    plan = a_plan(family="f", configuration=OWN)
    trials = [
        a_trial(0, OWN, 0.2, stage="screen"),
        a_trial(1, A, 0.3, stage="screen"),
        a_trial(2, B, 0.4, stage="screen"),
    ]
    assert configurations(contenders(plan, trials)) == [B, A, OWN]
    refined = [*trials, a_trial(3, OWN, 0.9, stage="refine")]
    assert configurations(contenders(plan, refined)) == [B, A, OWN]  # the incumbent alone confirms nothing
    assert configurations(contenders(plan, [*refined, a_trial(4, A, 0.1, stage="refine")])) == [OWN, A]
    assert configurations(contenders(plan, [*refined, a_trial(4, A, 0.1, stage="refine")], before="refine")) == [
        B,
        A,
        OWN,
    ]
    assert configurations(contenders(plan, [a_trial(0, OWN, 0.2, stage="screen")])) == [OWN]
    assert contenders(plan, []) == []


def test_the_incumbent_is_promoted_before_the_best_challengers(a_plan, a_trial):
    plan = a_plan(family="f", configuration=OWN)
    ranked = rank([a_trial(0, A, 0.4), a_trial(1, B, 0.3), a_trial(2, C, 0.2), a_trial(3, OWN, 0.1)], "confirm")
    assert promoted(plan, "refine", Stage(trials=2), ranked) == [("f", OWN), ("f", A), ("f", B)]


def test_the_control_comes_after_the_incumbent_and_is_no_challenger(a_plan, a_trial):
    plan = a_plan(family="f", configuration=OWN, control=C)
    trials = [a_trial(0, A, 0.4), a_trial(1, B, 0.3), a_trial(2, C, 0.2), a_trial(3, OWN, 0.1)]
    ranked = rank(trials, "confirm")
    assert promoted(plan, "refine", Stage(trials=1), ranked) == [("f", OWN), ("f", C), ("f", A)]
    refined = [a_trial(4, OWN, 0.9, stage="refine"), a_trial(5, C, 0.9, stage="refine")]
    screened = [replace(trial, stage="screen") for trial in trials]
    assert configurations(contenders(plan, [*screened, *refined])) == [A, B, C, OWN]


def test_the_brief_training_is_tried_in_the_last_stage_alone_before_all_else_and_once(a_plan, a_trial):
    plan = a_plan(family="f", configuration=OWN, brief=C)
    ranked = rank([a_trial(0, A, 0.4), a_trial(1, C, 0.3), a_trial(2, OWN, 0.1)], "confirm")
    assert promoted(plan, "confirm", Stage(trials=1), ranked) == [("f", C), ("f", OWN), ("f", A)]
    assert promoted(plan, "refine", Stage(trials=1), ranked[:1]) == [("f", A)]
    confirmed = [a_trial(3, C, 0.9, stage="confirm"), a_trial(4, OWN, 0.8, stage="confirm")]
    assert configurations(contenders(plan, confirmed)) == [C, OWN]
    screened = [a_trial(0, A, 0.4, stage="screen")]
    assert configurations(contenders(plan, [*screened, *confirmed])) == [A]  # it is no challenger
    own = [a_trial(0, OWN, 0.2, stage="screen")]
    assert configurations(contenders(plan, [*own, confirmed[0]])) == [OWN]  # beside it nothing is confirmed
    assert configurations(contenders(plan, confirmed[:1])) == [C]


def test_screening_begins_with_the_incumbent_and_its_control_beside_its_trials(a_line, a_plan):
    defaults = FAMILIES["two_tower"].defaults
    warm = {**defaults, "start": "incumbent"}
    plan = a_plan(family="two_tower", configuration=warm, control=defaults)
    listed = entries(a_line(warm=True, space={}), plan, "screen", [])
    assert [entry.configuration for entry in listed[:2]] == [warm, defaults]
    assert [entry.incumbent for entry in listed] == [True, True, False, False, False, False]
    assert [entry.parameters.get("family") for entry in listed[2:]] == ["markov", None, None, None]


@pytest.mark.parametrize(("dim", "starts"), [(16, ["markov"]), (32, ["markov", "two_tower"])])
def test_a_family_that_starts_as_the_incumbent_is_does_not_start_again(a_line, a_plan, dim, starts):
    own = {**FAMILIES["two_tower"].defaults, "dim": 16}  # which are not the defaults, but all that the line has left
    plan = a_plan(family="two_tower", configuration=own)
    listed = entries(a_line(warm=True, space={"two_tower": {"dim": [dim]}}), plan, "screen", [])
    assert [entry.parameters["family"] for entry in listed[1:] if entry.parameters] == starts


def test_what_is_promoted_is_listed_with_the_parameters_that_a_sampler_would_have_chosen(a_line, a_plan, a_trial):
    tower = {**FAMILIES["two_tower"].defaults, "epochs": 10, "dim": 32, "hidden": 64, "history_length": 20, "lr": 0.005}
    screened = [replace(a_trial(0, tower, 0.3, stage="screen"), family="two_tower")]
    own = a_trial(1, a_plan().configuration, 0.1, stage="screen")
    screened.append(replace(own, family="popularity"))
    popularity, listed = entries(a_line(), a_plan(), "refine", screened)
    assert popularity.parameters is None  # it is not searched
    assert listed.configuration == tower
    assert listed.parameters == {
        "family": "two_tower",
        **{
            f"two_tower.{name}": tower[name]
            for name in (
                "epochs",
                "lr",
                "weight_decay",
                "start",
                "dim",
                "hidden",
                "history_length",
                "dropout",
                "softmax",
            )
        },
    }


def test_sentinels_of_a_search_take_the_first_places_of_its_screening(a_line, a_plan):
    best, probe = ({**FAMILIES["two_tower"].defaults, "dim": 32, "lr": lr} for lr in (0.002, 0.009))
    beside = tuple(Sentinel(family="two_tower", configuration=one, because="a test") for one in (best, probe))
    listed = entries(a_line(screen={"trials": 8, "epochs": 0.2}), a_plan(sentinels=beside), "screen", [])
    assert [entry.name for entry in listed] == [f"screen-{number}" for number in range(8)]
    assert [entry.configuration for entry in listed[1:3]] == [best, probe]
    assert all(entry.sentinel and entry.given for entry in listed[1:3])
