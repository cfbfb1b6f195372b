from dataclasses import replace

import pytest

from recsys import tuning
from recsys.records import Study
from recsys.tuning.findings import found_by, keep, keep_so_far
from recsys.tuning.past import everything

MARKOV = {"epochs": 0, "steps": 2, "decay": 0.8, "smoothing": 20.0, "neighbours": 128}


def results(a_trial, *numbers):
    """Results of so many trials, the first the incumbent's."""
    return lambda: [
        replace(a_trial(n, {**MARKOV, "decay": 0.8 - n / 10}, 0.1 + n / 100), family="markov") for n in numbers
    ]


def test_a_closed_search_leaves_its_trials_as_differences_to_the_incumbent(shop, retune, search):
    plan = retune(incumbent="markov")
    study = search(plan)
    [found] = everything(shop.store)
    assert (found.plan_id, found.dataset_id, found.as_of) == (plan.plan_id, plan.dataset_id, plan.as_of)
    assert len(found.trials) == len(study.trials)
    own = {
        t.stage: t.ndcg_at_10 for t in study.trials if t.family == "markov" and t.configuration == plan.configuration
    }
    for was, kept in zip(study.trials, found.trials, strict=True):
        assert kept.gain == pytest.approx(was.ndcg_at_10 - own[was.stage])
        assert (kept.configuration, kept.seconds) == (was.configuration, was.seconds)
    assert {(t.stage, t.share, t.epochs) for t in found.trials} == {
        ("screen", 0.5, 0.2),
        ("refine", 1.0, 0.4),
        ("confirm", 1.0, 1.0),
    }
    assert sum(found.popularity.values()) == pytest.approx(1.0)  # the shop has fewer items than are kept


def test_what_was_lost_or_may_not_be_released_is_told_from_what_was_tried(shop, a_plan, a_trial):
    trials = [
        a_trial(0, MARKOV, 0.1),
        replace(a_trial(1, MARKOV, 0.05, state="pruned"), unfinished=True),
        replace(a_trial(2, MARKOV, 0.2), infeasible=("too slow",)),
    ]
    plan = a_plan(dataset_id=shop.dataset.dataset_id)
    study = Study(plan=plan, trials=tuple(trials), seconds=1.0, ended="", incumbent_misses=())
    found = found_by(shop.line, shop.store, study)
    assert [trial.state for trial in found.trials] == ["complete", "unfinished", "infeasible"]


def test_a_gain_over_the_incumbent_with_another_seed_is_marked(shop, a_plan, a_trial):
    plan = a_plan(dataset_id=shop.dataset.dataset_id, family="f", configuration=MARKOV)
    other = {**MARKOV, "decay": 0.5}
    trials = (
        a_trial(0, MARKOV, 0.1, seed=0),
        a_trial(1, other, 0.13, seed=0),
        a_trial(2, other, 0.19, seed=1),
        a_trial(3, {**MARKOV, "decay": 0.6}, 0.12, seed=1),
    )
    study = Study(plan=plan, trials=trials, seconds=1.0, ended="", incumbent_misses=())
    found = found_by(shop.line, shop.store, study)
    assert [(trial.gain, trial.paired) for trial in found.trials] == [
        (0.0, True),
        (pytest.approx(0.03), True),
        (pytest.approx(0.09), False),
        (pytest.approx(0.02), False),
    ]


def test_the_store_of_a_search_that_is_closed_twice_holds_its_evidence_once(shop, retune, search):
    plan = retune(incumbent="markov")
    search(plan)
    tuning.close(shop.line, shop.store, plan, shop.studies)
    assert len(everything(shop.store)) == 1


def test_a_search_that_is_killed_and_never_resumed_has_left_every_trial_that_ended(shop, retune):
    plan = retune(incumbent="markov")
    tuning.open_study(shop.line, shop.store, plan, shop.studies)
    tuning.jobs(shop.line, shop.store, plan, "screen", shop.studies)
    seen = []

    def killed(found):
        seen.append(found)
        if len(seen) == 2:
            raise KeyboardInterrupt

    owner = tuning.Attempt(run="monday", map_index=0, attempt=1)
    with pytest.raises(KeyboardInterrupt):
        tuning.work(shop.line, shop.store, plan, "screen", shop.studies, owner=owner, on_trial=killed)
    [kept] = everything(shop.store)
    assert [(t.number, t.ndcg_at_10) for t in kept.trials] == [(r.number, r.ndcg_at_10) for r in seen]
    assert not kept.ended


def test_a_worker_that_comes_late_does_not_open_again_what_was_closed(shop, a_plan, a_trial):
    plan = a_plan(dataset_id=shop.dataset.dataset_id, family="markov", configuration=MARKOV)
    whole = Study(
        plan=plan,
        trials=tuple(results(a_trial, 0, 1, 2)()),
        seconds=1.0,
        ended="",
        incumbent_misses=(),
    )

    def closed_meanwhile():
        keep(shop.line, shop.store, whole)
        return results(a_trial, 0, 1)()

    keep_so_far(shop.line, shop.store, plan, closed_meanwhile)
    [kept] = everything(shop.store)
    assert (kept.ended, len(kept.trials)) == (True, 3)


def test_a_search_keeps_the_edits_that_it_had_seen_when_it_began(shop, a_line, a_plan, a_trial):
    plan = a_plan(dataset_id=shop.dataset.dataset_id, family="markov", configuration=MARKOV)
    keep_so_far(shop.line, shop.store, plan, results(a_trial, 0))
    edited = a_line(past={"markov": {"scaled": {"smoothing": 0.1}}})
    keep_so_far(edited, shop.store, plan, results(a_trial, 0, 1))
    [kept] = everything(shop.store)
    assert kept.edits == {}
