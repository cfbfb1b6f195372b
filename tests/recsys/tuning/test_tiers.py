from dataclasses import replace
from datetime import timedelta

import pytest

from recsys import tuning
from recsys.models import FAMILIES
from recsys.tuning.promotion import entries
from recsys.tuning.space import search_space
from recsys.tuning.tiers import FIRST_TRIALS, Tiers, stable
from recsys.tuning.trials import Trials

SASREC = FAMILIES["sasrec"].defaults
CAPACITY = ("dim", "layers", "heads", "history_length")


@pytest.fixture
def tiers(a_line, a_plan):
    """Make the tiers of a line that searches one family, after these searches."""

    def make(*evidence, searched="sasrec", limits=None, **plan):
        space = search_space(a_line(families=[searched], space={searched: limits or {}}))
        return Tiers.of(space, a_plan(**plan), evidence)

    return make


def trial(configuration, ndcg, seed, **said):
    return {"configuration": configuration, "ndcg": ndcg, "seed": seed, "stage": "confirm", **said}


@pytest.fixture
def search_that_found(a_plan, trial_evidence, search_evidence):
    """Make what a search left whose trials of one family were such."""

    def make(*trials, days_ago=7):
        as_of = a_plan().as_of - timedelta(days=days_ago)
        return search_evidence(
            *(trial_evidence("sasrec", **each) for each in trials), plan_id=f"r{days_ago}", as_of=as_of
        )

    return make


def held(tiers, number, family="sasrec"):
    return {name.removeprefix(f"{family}."): value for name, value in tiers.held(number).items()}


def test_the_first_trials_vary_the_first_tier_alone(tiers):
    for number in (1, FIRST_TRIALS - 1):
        assert held(tiers(), number) == {
            name: SASREC[name] for name in ("weight_decay", "softmax", "negatives", *CAPACITY)
        }


def test_the_incumbents_family_stays_where_the_incumbent_is(tiers):
    own = {**SASREC, "weight_decay": 0.2, "dim": 16, "softmax": "sampled"}
    found = held(tiers(family="sasrec", configuration=own), 1)
    assert (found["weight_decay"], found["dim"], found["softmax"], found["layers"]) == (0.2, 16, "sampled", 1)


def test_a_value_that_the_line_has_narrowed_away_is_not_stayed_at(tiers):
    found = held(tiers(limits={"weight_decay": [0.1, 0.3], "dim": [16, 32], "history_length": [100]}), 1)
    assert "weight_decay" not in found
    assert (found["dim"], found["history_length"]) == (32, 100)  # the largest below the default; the smallest there is


def test_later_trials_choose_all_but_the_capacity_that_may_not_grow(tiers):
    later = [held(tiers(), number) for number in range(FIRST_TRIALS, FIRST_TRIALS + 40)]
    assert {name for found in later for name in found} == set(CAPACITY)
    tried = {name: {found[name] for found in later} for name in CAPACITY}
    assert tried == {"dim": {16, 32, 64}, "layers": {1}, "heads": {1, 2}, "history_length": {20, 50}}


def test_what_is_held_follows_from_the_plan_and_the_trial(tiers):
    one, same, other = (
        [held(tiers(plan_id=plan_id), number) for number in range(16, 26)] for plan_id in ("a", "a", "b")
    )
    assert one == same
    assert one != other


def test_capacity_grows_by_one_step_over_what_came_out_alike_with_every_seed(tiers, search_that_found):
    evidence = search_that_found(trial(SASREC, 0.100, 0), trial(SASREC, 0.104, 1))
    assert tiers(evidence).ceilings == {"sasrec": {"dim": 128, "layers": 2, "heads": 4, "history_length": 100}}
    assert held(tiers(evidence), FIRST_TRIALS).keys() == {"layers"}  # the others may take all values that there are
    small = {**SASREC, "dim": 16, "layers": 2}
    grown = tiers(search_that_found(trial(small, 0.100, 0), trial(small, 0.104, 1)))
    assert (grown.ceilings["sasrec"]["dim"], grown.ceilings["sasrec"]["layers"]) == (64, 3)  # never below the base


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (trial(SASREC, 0.10, 0), trial(SASREC, 0.14, 1)),  # standard deviation 0.028, 24 % of their mean
        (trial(SASREC, 0.10, 0), trial(SASREC, 0.10, 0)),  # one seed
        (trial(SASREC, 0.10, 0), trial(SASREC, 0.10, 1, state="infeasible")),  # unsound with the second seed
        (trial(SASREC, 0.10, 0), trial({**SASREC, "lr": 0.01}, 0.10, 1)),
        (trial(SASREC, 0.10, 0, stage="refine"), trial(SASREC, 0.10, 1)),
    ],
)
def test_what_did_not_come_out_alike_lets_nothing_grow(first, second, tiers, search_that_found):
    evidence = search_that_found(first, second)
    assert stable([evidence], "sasrec") == []
    assert tiers(evidence).ceilings == tiers().ceilings


def test_one_unstable_configuration_is_enough_and_the_newest_search_that_repeated_any_decides(search_that_found):
    steady = (trial(SASREC, 0.1, 0), trial(SASREC, 0.1, 1))
    wild = (trial({**SASREC, "lr": 0.03}, 0.1, 0), trial({**SASREC, "lr": 0.03}, 0.2, 1))
    assert stable([search_that_found(*steady, *wild)], "sasrec") == []
    newest_last = [
        search_that_found(*wild, days_ago=9),
        search_that_found(*steady),
        search_that_found(steady[0], days_ago=3),
    ]
    assert stable(newest_last, "sasrec") == [SASREC]
    assert stable(newest_last, "two_tower") == []


def test_a_configuration_is_one_whatever_its_unused_values(search_that_found):
    again = trial({**SASREC, "negatives": 64}, 0.1, 1)
    assert stable([search_that_found(trial(SASREC, 0.1, 0), again)], "sasrec") == [SASREC]


def test_a_screening_lists_what_its_trials_may_not_vary(a_line, a_plan, tiers):
    line = a_line(families=["sasrec"], space={}, screen={"trials": 20, "epochs": 0.2})
    listed = entries(line, a_plan(), "screen", [], tiers=tiers())
    assert listed[1].parameters == search_space(line).start("sasrec")
    for number in (2, 15, 16, 19):
        assert listed[number].parameters == tiers().held(number)
    assert [entry.parameters for entry in entries(line, a_plan(), "screen", [])[2:]] == [{}] * 18


def test_a_cold_search_holds_to_tiers_and_a_warm_one_with_a_past_does_not(shop, retune, search, a_line):
    def fixed(plan, line):
        tuning.open_study(line, shop.store, plan, shop.studies)
        tuning.jobs(line, shop.store, plan, "screen", shop.studies)
        waiting = Trials.load(plan, shop.studies).of("screen")
        return waiting[-1].system_attrs.get("fixed_params", {})

    warm, cold = shop.line, a_line(warm=False)
    later = {"plan_id": "r20260202-00000000"}
    first = retune(incumbent="markov")
    without_past = replace(first, plan_id="r20260127-00000000")
    assert fixed(without_past, warm)["two_tower.weight_decay"] == 0.01
    search(first)
    assert fixed(replace(first, **later), warm) == {}
    assert fixed(replace(first, plan_id="r20260203-00000000"), cold)["two_tower.weight_decay"] == 0.01


def test_every_trial_of_a_cold_search_is_tried_as_it_was_held(shop, retune, search, a_line):
    line = a_line(screen={"trials": 8, "share": 0.5, "epochs": 0.2})
    plan = retune(incumbent="markov", line=line)
    found = [t for t in search(plan, line).trials if t.stage == "screen" and t.family == "two_tower"]
    assert {(t.configuration["weight_decay"], t.configuration["softmax"]) for t in found} == {(0.01, "full")}
    assert len({t.configuration["lr"] for t in found}) == len(found)
