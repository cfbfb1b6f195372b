from dataclasses import replace
from datetime import timedelta

import pytest

from recsys.models import FAMILIES
from recsys.records import Evidence, TrialEvidence, to_json
from recsys.tuning.past import distance, doubt, everything, recall, remember, translate
from recsys.tuning.ranking import identity
from recsys.tuning.space import search_space

MARKOV = {"epochs": 0, "steps": 2, "decay": 0.8, "smoothing": 20.0, "neighbours": 128}


def evidence(plan, *trials, **changes):
    known = {
        "plan_id": "before",
        "dataset_id": "gone",
        "as_of": plan.as_of - timedelta(days=30),
        "family": "markov",
        "configuration": MARKOV,
        "popularity": {},
        "trials": tuple(trials),
    }
    return Evidence(**{**known, **changes})


def trial(gain, *, stage="screen", seed=0, state="complete", family="markov", **configuration):
    return TrialEvidence(
        stage=stage,
        share=1.0,
        epochs=1.0,
        seed=seed,
        family=family,
        configuration={**(MARKOV if family == "markov" else {}), **configuration},
        state=state,
        ndcg_at_10=None if gain is None else 0.1 + gain,
        gain=gain,
        seconds=2.0,
    )


@pytest.fixture
def recalled(shop, a_plan):
    """Recall what was written down as evidence, for the shop's own line and space."""

    def make(*found, line=shop.line):
        for one in found:
            shop.store.put(f"evidence/{one.plan_id}.json", to_json(one))
        plan = a_plan(dataset_id=shop.dataset.dataset_id)
        return recall(line, shop.store, plan, search_space(line))

    return make


def test_the_next_search_starts_from_what_this_one_found(shop, retune, search, a_plan):
    first = search(retune(incumbent="markov"))
    later = a_plan(plan_id="r20260202-00000000", dataset_id=shop.dataset.dataset_id)
    found = recall(shop.line, shop.store, later, search_space(shop.line))
    [study] = found.studies
    tried = {identity(t.family, t.configuration) for t in first.trials}
    assert len(study.trials) == len(tried)
    assert study.doubt == 1.0  # the same data, on the same day
    assert found.carried == (f"{first.plan.plan_id}: {len(tried)} configurations carried over.",)
    own = recall(shop.line, shop.store, first.plan, search_space(shop.line))
    assert own.studies == ()  # a search is no past of its own


def test_a_configuration_counts_once_with_what_it_showed_in_its_last_stage(a_plan, recalled):
    found = recalled(
        evidence(
            a_plan(),
            trial(0.05, decay=0.5),
            trial(0.01, stage="confirm", seed=0, decay=0.5),
            trial(0.03, stage="confirm", seed=1, decay=0.5),
            trial(None, decay=0.6, state="fail"),
            trial(-0.02, decay=0.7, state="pruned"),
        )
    )
    [study] = found.studies
    assert [(t.parameters["markov.decay"], t.value, t.state, t.seconds) for t in study.trials] == [
        (0.5, pytest.approx(0.02), "complete", 6.0),
        (0.6, None, "failed", 2.0),
        (0.7, -0.02, "pruned", 2.0),
    ]


@pytest.mark.parametrize(
    ("confirmed", "shown"),
    [
        ([(None, "fail")], ("failed", None)),
        ([(None, "fail"), (None, "fail")], ("failed", None)),
        ([(0.03, "complete"), (None, "fail")], ("complete", 0.03)),
        ([(0.03, "complete"), (0.05, "infeasible")], ("infeasible", None)),
        ([(None, "fail"), (0.05, "infeasible")], ("infeasible", None)),
        ([(0.03, "complete"), (0.01, "unfinished")], ("complete", 0.03)),
        ([(None, "unfinished")], ("complete", 0.1)),
    ],
)
def test_what_failed_or_was_unsound_on_all_data_is_no_success_of_an_earlier_stage(a_plan, recalled, confirmed, shown):
    last = [
        trial(gain, stage="confirm", seed=seed, state=state, decay=0.5) for seed, (gain, state) in enumerate(confirmed)
    ]
    [study] = recalled(evidence(a_plan(), trial(0.1, decay=0.5), *last)).studies
    [found] = study.trials
    assert (found.state, found.value) == (shown[0], shown[1] if shown[1] is None else pytest.approx(shown[1]))


def test_a_search_that_is_learned_from_in_part_is_named_with_how_many(a_plan, recalled):
    def searched(name, n, days):
        trials = [trial(0.001, decay=0.3 + at / 10000) for at in range(n)]
        return evidence(a_plan(), *trials, plan_id=name, as_of=a_plan().as_of - timedelta(days=days))

    found = recalled(searched("small", 700, 30), searched("large", 1000, 20))
    assert found.carried[-1] == (
        "small: 500 of its 700 configurations are learned from, because all searches hold 1700 and no more than 1500 "
        "are."
    )
    assert [len(study.trials) for study in found.studies] == [700, 1000]


def test_a_gain_over_the_incumbent_with_another_seed_counts_where_there_is_no_better(a_plan, recalled):
    [study] = recalled(
        evidence(
            a_plan(),
            trial(0.03, decay=0.5),
            replace(trial(0.09, seed=1, decay=0.5), paired=False),
            replace(trial(0.02, seed=1, decay=0.6), paired=False),
        )
    ).studies
    assert [(t.parameters["markov.decay"], t.value) for t in study.trials] == [(0.5, 0.03), (0.6, 0.02)]


def test_a_trial_whose_worker_or_time_was_lost_says_nothing_of_its_configuration(a_plan, recalled):
    lost, pruned = trial(0.09, decay=0.5, state="unfinished"), trial(0.05, decay=0.5, state="pruned")
    found = recalled(
        evidence(a_plan(), lost, pruned, trial(0.01, decay=0.6), trial(0.3, decay=0.7, state="unfinished"))
    )
    [study] = found.studies
    assert [(t.parameters["markov.decay"], t.value, t.state) for t in study.trials] == [
        (0.5, 0.05, "pruned"),
        (0.6, 0.01, "complete"),
    ]
    assert "2 trials dropped, because their worker or their time was lost" in found.carried[0]


def test_scores_without_the_incumbents_beside_them_do_not_stand_among_differences(a_plan, recalled):
    alone = {"gain": None, "ndcg_at_10": 0.29}
    found = recalled(
        evidence(
            a_plan(),
            trial(0.005, decay=0.5),
            replace(trial(0.0, stage="refine", decay=0.5), **alone),
            replace(trial(0.0, stage="refine", decay=0.6), **alone),
        )
    )
    [study] = found.studies
    assert [(t.parameters["markov.decay"], t.value) for t in study.trials] == [(0.5, 0.005)]
    assert "1 trial dropped, because the incumbent has no score beside theirs" in found.carried[0]


def test_what_was_carried_changed_and_left_is_listed(a_plan, recalled):
    old = {name: value for name, value in FAMILIES["two_tower"].defaults.items() if name != "softmax"}
    found = recalled(
        evidence(
            a_plan(),
            trial(0.1, decay=0.5),
            trial(0.2, family="two_tower", **old, momentum=0.9),
            trial(0.3, family="sasrec", dim=32),
        )
    )
    assert found.carried == (
        "before: 2 configurations carried over; softmax did not exist and amounted to 'full' (1 trial changed); "
        "momentum is gone (1 trial changed); 1 trial dropped, because sasrec is not searched.",
    )


def test_a_value_that_may_no_longer_be_chosen_is_carried_as_it_was(a_line):
    parameters, changes = translate(search_space(a_line()), "markov", {**MARKOV, "steps": 16})
    assert parameters["markov.steps"] == 16  # the line allows 2 alone
    assert changes == []


def test_values_that_a_list_has_no_more_are_carried_and_told(a_line, a_plan, recalled):
    line = a_line(space={"markov": {"steps": [3, 5, 9], "neighbours": [128]}})
    found = recalled(evidence(a_plan(), *(trial(0.1, steps=steps) for steps in (2, 4, 5, 16))), line=line)
    [study] = found.studies
    assert [t.parameters["markov.steps"] for t in study.trials] == [2, 4, 5, 16]
    assert found.carried == ("before: 4 configurations carried over; markov.steps is none of 3, 5, 9 in 3 trials.",)


def test_what_is_older_or_from_other_items_is_worth_less(a_plan):
    plan = a_plan()
    now = {"x": 0.5, "y": 0.5}
    fresh = evidence(plan, as_of=plan.as_of, popularity=now)
    assert doubt(fresh, plan, now) == 1.0
    assert doubt(replace(fresh, as_of=plan.as_of - timedelta(days=180)), plan, now) == pytest.approx(2.0)
    assert doubt(replace(fresh, popularity={"z": 1.0}), plan, now) == pytest.approx(4.0)
    assert doubt(replace(fresh, popularity={}), plan, now) == 1.0  # nothing is known of its items


def test_the_distance_of_shares_is_hellingers():
    # sqrt(1 - (sqrt(.5 * .2) + sqrt(.5 * .8)))
    assert distance({"x": 0.5, "y": 0.5}, {"x": 0.2, "y": 0.8}) == pytest.approx((1 - (0.1**0.5 + 0.4**0.5)) ** 0.5)
    # Of the second dataset only x is named; what no list names counts as one item.
    assert distance({"x": 0.5}, {"x": 0.5}) == 0.0


def test_a_search_of_the_future_is_no_past(a_plan, recalled):
    found = recalled(evidence(a_plan(), trial(0.1), as_of=a_plan().as_of + timedelta(days=1)))
    assert found.studies == ()


def test_evidence_that_cannot_be_read_is_left_and_named(shop, a_plan):
    shop.store.put("evidence/before.json", b"{")
    found = recall(shop.line, shop.store, a_plan(dataset_id=shop.dataset.dataset_id), search_space(shop.line))
    assert found.studies == ()
    assert found.carried == ("evidence/before.json: dropped, because it cannot be read.",)


def test_what_a_search_has_found_so_far_counts_and_is_named_as_such(a_plan, recalled):
    found = recalled(evidence(a_plan(), trial(0.0), trial(0.01, decay=0.7), ended=False))
    assert [len(study.trials) for study in found.studies] == [2]
    assert found.carried == ("before, which has not ended: 2 configurations carried over.",)


def test_a_search_sees_the_past_that_there_was_when_it_was_planned_however_late_its_workers_begin(shop, a_plan):
    plan, space = a_plan(dataset_id=shop.dataset.dataset_id), search_space(shop.line)

    def lay(name, *gains):
        trials = [trial(gain, decay=0.8 - gain) for gain in gains]
        found = evidence(plan, *trials, plan_id=name, ended=False)
        shop.store.put(f"evidence/{name}.json", to_json(found))

    lay("other", 0.0, 0.1)
    remember(shop.store, plan, everything(shop.store))
    first = recall(shop.line, shop.store, plan, space)
    lay("other", 0.0, 0.1, 0.2)
    lay("third", 0.0, 0.1)
    assert recall(shop.line, shop.store, plan, space) == first
    unplanned = recall(shop.line, shop.store, replace(plan, plan_id="new"), space)
    assert [len(study.trials) for study in unplanned.studies] == [3, 2]
