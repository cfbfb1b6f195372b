from dataclasses import replace
from datetime import timedelta

import pytest
from optuna.distributions import CategoricalDistribution

from recsys import tuning
from recsys.models import FAMILIES
from recsys.records import Estimate, Findings, Importance, Interaction, Review, to_json
from recsys.store.memory import MemoryStore
from recsys.tuning.block import block, newest_review
from recsys.tuning.crossed import blocks
from recsys.tuning.past import everything
from recsys.tuning.space import Space, search_space
from recsys.tuning.trials import REPEAT, RUN

TOWER = FAMILIES["two_tower"].defaults


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def tower(a_plan):
    return a_plan(family="two_tower", configuration=TOWER)


@pytest.fixture
def listed(a_line, store, tower):
    def make(interactions=12, plan=tower, **search):
        line = a_line(**{"interactions": interactions, "space": {}, **search})
        return block(line, store, plan, search_space(line, plan))

    return make


def keep(store, plan, *pairs, family="two_tower", **changes):
    """Keep a review in which these pairs cannot be told apart."""
    names = {name for pair in pairs for name in pair} or {"lr"}
    made = Review(
        plan_id="r20260101-00000000",
        line="shop",
        as_of=plan.as_of - timedelta(days=7),
        studies=(),
        over_studies=(
            Findings(
                family=family,
                studies=(),
                trials=60,
                left_out=0,
                importances=tuple(
                    Importance(parameter=name, share=None, alone=None, p=None, above_chance=True, best=None)
                    for name in sorted(names)
                ),
                interactions=tuple(
                    Interaction(
                        parameters=pair,
                        share=Estimate(value=0.1, low=0.0, high=0.9 - n / 10),
                        p=0.5,
                        above_chance=False,
                    )
                    for n, pair in enumerate(pairs)
                ),
            ),
        ),
        edges=(),
        proposals=(),
        because="a test says so",
    )
    made = replace(made, **changes)
    store.put(f"reviews/{made.plan_id}.json", to_json(made))
    return made


def varied(entries):
    runs = [entry.configuration for entry in entries if entry.block == RUN]
    return [name for name in TOWER if len({run[name] for run in runs}) > 1]


def test_runs_lie_around_the_incumbent_and_the_rest_repeats_it(listed, tower):
    entries = listed(12)
    assert [entry.block for entry in entries] == [RUN] * 8 + [REPEAT] * 4
    assert varied(entries) == ["epochs", "lr", "dropout"]  # the first tier, without a review
    assert {entry.seed for entry in entries if entry.block == RUN} == {7}
    assert [(entry.seed, entry.configuration) for entry in entries[8:]] == [(seed, TOWER) for seed in (8, 9, 10, 11)]
    assert all(entry.parameters["two_tower.lr"] == entry.configuration["lr"] for entry in entries)
    assert len({entry.name for entry in entries}) == 12


@pytest.mark.parametrize(("trials", "runs", "repeats"), [(6, 4, 2), (9, 4, 4), (10, 8, 2), (12, 8, 4), (40, 8, 4)])
def test_no_more_trials_are_listed_than_the_line_allows_and_the_knobs_need(listed, trials, runs, repeats):
    kinds = [entry.block for entry in listed(trials)]
    assert (kinds.count(RUN), kinds.count(REPEAT)) == (runs, repeats)


def test_a_line_that_wants_none_has_none(listed):
    assert listed(0) == []


def test_the_knobs_are_those_of_the_pairs_that_the_review_cannot_tell_apart(listed, store, tower):
    keep(store, tower, ("dim", "lr"), ("weight_decay", "lr"), ("hidden", "dropout"))
    assert varied(listed(10)) == ["lr", "weight_decay", "dim"]
    assert set(varied(listed(20))) == {"lr", "weight_decay", "dim", "hidden", "dropout"}
    assert len([entry for entry in listed(20) if entry.block == RUN]) == 16


def test_where_all_is_told_there_is_no_block(listed, store, tower):
    keep(store, tower)
    assert listed(12) == []


def test_a_review_of_another_family_says_nothing_of_this_one(listed, store, tower):
    keep(store, tower, family="markov")
    assert varied(listed(12)) == ["epochs", "lr", "dropout"]


def test_a_knob_that_does_nothing_in_some_run_is_left_out(listed, store, tower):
    keep(store, tower, ("softmax", "negatives"), ("softmax", "lr"))
    assert varied(listed(12)) == ["lr", "softmax"]


def test_a_knob_that_cannot_be_built_beside_the_others_is_left_out(a_plan, a_line, store):
    sasrec = a_plan(family="sasrec", configuration={**FAMILIES["sasrec"].defaults, "dim": 16, "heads": 2})
    keep(store, sasrec, ("dim", "heads"), ("heads", "lr"), family="sasrec")
    choices = {"dim": [16, 32], "heads": [2, 3], "lr": [0.001, 0.01]}
    space = Space({"sasrec": {name: CategoricalDistribution(found) for name, found in choices.items()}})
    found = [entry for entry in block(a_line(interactions=12), store, sasrec, space) if entry.block == RUN]
    assert {(entry.configuration["dim"], entry.configuration["heads"]) for entry in found} == {(16, 2), (32, 2)}
    assert len(found) == 4


def test_an_incumbent_that_is_not_searched_has_no_block(listed, a_plan):
    assert listed(12, plan=a_plan()) == []


def test_fewer_than_two_knobs_make_no_block(listed):
    single = {"epochs": [10], "lr": [0.004], "dropout": [0.3]}
    assert listed(12, space={"two_tower": single}) == []


def test_the_newest_review_before_the_search_counts(store, tower):
    assert newest_review(store, tower) is None
    old = keep(store, tower)
    keep(store, tower, plan_id="r20270101-00000000", as_of=tower.as_of + timedelta(days=1))
    keep(store, tower, plan_id=tower.plan_id, as_of=tower.as_of)
    store.put("reviews/broken.json", b"{}")
    assert newest_review(store, tower) == old


def test_a_search_tries_its_block_right_after_the_incumbent_and_the_review_tells(shop, a_line, retune, search):
    """Markov is only counted, so that this trains in no time; half of the users leave noise."""
    fixed = {"steps": [2], "neighbours": [128]}
    line = a_line(families=["markov"], space={"markov": fixed}, interactions=6, workers=1)
    plan = retune(incumbent="markov", line=line, action=None)
    study = search(plan, line=line)
    screened = [trial for trial in study.trials if trial.stage == "screen"]
    assert [trial.block for trial in screened] == ["", *[RUN] * 4, *[REPEAT] * 2, *[""] * 4]
    assert {trial.state for trial in screened[:7]} == {"complete"}  # none is given up, whatever the others reached

    [found] = blocks(everything(shop.store), {})
    assert (found.family, found.runs, found.repeats) == ("markov", 4, 3)
    assert set(found.levels) == {"decay", "smoothing"}
    [pair] = found.effects
    assert pair.effect.low <= pair.effect.value <= pair.effect.high
    assert tuning.review(line, shop.store, plan).blocks == (found,)
