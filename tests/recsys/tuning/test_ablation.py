import math
import os
from dataclasses import replace

import numpy as np
import pytest
from optuna.trial import TrialState

from recsys import channel, ledger, tuning
from recsys.dataset import load
from recsys.errors import NoCandidate, NoRelease, NotFound
from recsys.metrics import evaluate
from recsys.models import FAMILIES, TorchScorer
from recsys.records import Action
from recsys.settings import Budgets
from recsys.training import train
from recsys.tuning import Attempt, cases
from recsys.tuning.ablation import STAGE
from recsys.tuning.trials import Trials

OWNER = Attempt(run="by hand", map_index=0, attempt=1)


@pytest.fixture
def planned(shop, measured):
    """Plan to take a release apart, with the costs of its graph known; of components, those that keep its shape."""

    def plan(incumbent="markov", line=None, **how):
        how = {"by": "tests", "release_id": shop.releases[incumbent], **how}
        made = tuning.plan_ablation(line or shop.line, shop.store, **how)
        shape = FAMILIES[made.family].shape_parameters
        made = replace(made, components=tuple(c for c in made.components if not shape & set(c.changes)))
        for key, body in measured.items():
            shop.store.put(f"studies/{made.plan_id}/{key}", body)
        return made

    return plan


@pytest.fixture
def ablate(shop):
    """Train all variants with one worker in this process and compare them."""

    def run(plan, line=None):
        line = line or shop.line
        if tuning.ablation_jobs(line, shop.store, plan, shop.studies):
            tuning.work_ablation(line, shop.store, plan, shop.studies, owner=OWNER)
        return tuning.close_ablation(line, shop.store, plan, shop.studies)

    return run


def only(plan, *names):
    """Keep some components, so that a test trains little."""
    return replace(plan, components=tuple(c for c in plan.components if c.name in names))


def test_each_variant_is_measured_user_by_user_on_the_validation_windows(shop, planned, ablate):
    found = ablate(planned())
    frozen = load(shop.store, shop.dataset)

    def seen(**changes):
        network = FAMILIES["markov"].build({**found.plan.configuration, **changes}, n_items=frozen.train.n_items)
        train(network, frozen.train, found.plan.configuration, seed=7)
        return np.concatenate([evaluate(TorchScorer(network), window).ndcg for window in frozen.windows])

    whole, faded = seen(), seen(decay=1.0)
    [part] = [part for part in found.parts if part.component.name == "fading with distance"]
    assert found.ndcg_at_10.value == pytest.approx(whole.mean())
    assert part.change.value == pytest.approx((faded - whole).mean())
    assert part.change.low <= part.change.value <= part.change.high
    assert (found.cases, found.users) == (len(whole), len(np.unique(cases.users(frozen))))
    assert {part.component.name for part in found.parts} == {
        "fading with distance",
        "smoothing towards popularity",
    }
    assert found.deviation is None  # what is only counted is measured once
    assert {part.seeds for part in found.parts} <= {0, 1}


def test_the_record_and_the_ledger_have_it(shop, planned, ablate):
    found = ablate(planned())
    assert tuning.ablation(shop.store, found.plan.plan_id) == found
    [entry] = ledger.read(shop.store, what="ablated")
    assert (entry.who, entry.why) == ("tests", found.because)
    assert entry.evidence["changes"].keys() == {part.component.name for part in found.parts}
    assert found.because.startswith(f"{shop.releases['markov']} reaches NDCG@10 {found.ndcg_at_10.value:.4f} [")


def test_what_is_known_is_given_again_and_nothing_is_trained(shop, planned, ablate):
    found = ablate(planned())
    assert tuning.ablation_jobs(shop.line, shop.store, planned(), shop.studies) == []
    assert ablate(planned(by="somebody else")) == found
    assert len(ledger.read(shop.store, what="ablated")) == 1


def test_another_budget_is_another_ablation_that_trains_nothing_twice(shop, planned, ablate):
    found = ablate(planned())
    kept = list((shop.folder / "shop" / "store" / "cases" / shop.dataset.dataset_id).iterdir())
    for each in kept:
        os.utime(each, (0, 0))
    again = ablate(planned(budget_s=100))
    assert kept
    assert all(each.stat().st_mtime > 0 for each in kept)  # used again, and so not deleted soon
    assert again.plan.plan_id != found.plan.plan_id
    assert [trial.reused for trial in again.trials if trial.state == "complete"] == [
        f"trial {trial.number} of {found.plan.plan_id}" for trial in found.trials if trial.state == "complete"
    ]
    assert [part.change for part in again.parts] == [part.change for part in found.parts]


def test_a_trained_variant_has_every_seed_and_seeds_come_one_after_the_other(shop, planned, ablate):
    plan = only(planned("two_tower"), "dropout")
    found = ablate(plan)
    assert [(trial.configuration["dropout"], trial.seed) for trial in found.trials] == [
        (0.3, 7),
        (0.0, 7),
        (0.3, 8),
        (0.0, 8),
    ]
    [part] = found.parts
    assert part.seeds == 2
    assert found.deviation > 0
    seen = [cases.find(shop.store, shop.dataset.dataset_id, t.training).ndcg for t in found.trials]
    values = {(t.configuration["dropout"], t.seed): ndcg for t, ndcg in zip(found.trials, seen, strict=True)}
    expected = np.mean([values[0.0, seed] - values[0.3, seed] for seed in (7, 8)])
    assert part.change.value == pytest.approx(expected)
    assert list(shop.store.list(f"studies/{plan.plan_id}/checkpoints/")) == []


def test_a_confirmed_trial_of_a_search_is_not_trained_again(shop, retune, search, planned, ablate):
    plan = retune(incumbent="markov")
    study = search(plan)
    [confirmed] = [
        t
        for t in study.trials
        if t.stage == "confirm" and t.configuration == plan.configuration and t.state == "complete"
    ]
    whole = ablate(planned()).trials[0]
    assert whole.ndcg_at_10 == pytest.approx(confirmed.ndcg_at_10)
    assert not confirmed.reused  # it is the first that was trained on all there is
    assert whole.reused == f"trial {confirmed.number} of {plan.plan_id}"


def test_a_worker_that_died_is_taken_over(shop, planned):
    plan = planned()
    tuning.ablation_jobs(shop.line, shop.store, plan, shop.studies)
    trials = Trials.load(plan, shop.studies)
    [first, *_] = trials.of(STAGE)
    assert trials._take(first, Attempt(run="by hand", map_index=0, attempt=1))
    assert len(tuning.ablation_jobs(shop.line, shop.store, plan, shop.studies)) == 2
    tuning.work_ablation(shop.line, shop.store, plan, shop.studies, owner=OWNER)
    found = tuning.close_ablation(shop.line, shop.store, plan, shop.studies)
    assert found.ndcg_at_10 is not None
    assert not trials.of(STAGE, TrialState.RUNNING, TrialState.WAITING)


def test_where_nothing_would_end_in_time_the_whole_alone_is_begun_and_the_record_says_so(shop, planned):
    plan = planned(budget_s=1e-9)
    tuning.ablation_jobs(shop.line, shop.store, plan, shop.studies)
    tuning.work_ablation(shop.line, shop.store, plan, shop.studies, owner=OWNER)
    found = tuning.close_ablation(shop.line, shop.store, plan, shop.studies)
    assert found.ndcg_at_10 is not None
    assert found.trials[1:] == ()
    assert {part.because for part in found.parts} == {"it was not begun in the 1e-09 s that there were"}


def test_what_has_been_trained_before_needs_no_time(shop, planned, ablate):
    found = ablate(planned())
    again = ablate(planned(budget_s=1e-9))
    assert [trial.reused for trial in again.trials if trial.state == "complete"] == [
        trial.reused or f"trial {trial.number} of {found.plan.plan_id}"
        for trial in found.trials
        if trial.state == "complete"
    ]
    assert len(again.trials) > 1


def test_the_whole_is_measured_whatever_serving_it_costs_and_variants_are_not(shop, planned, ablate):
    line = shop.line.model_copy(update={"budgets": Budgets(p99_ms=1000, size_mib=0.001)})
    found = ablate(planned(line=line), line=line)
    assert found.ndcg_at_10 is not None
    assert [trial.state for trial in found.trials] == ["complete", *["pruned"] * len(found.parts)]
    assert all(part.because.startswith("size of about ") for part in found.parts)
    assert found.because.endswith(f"{len(found.parts)} could not be measured.")


def test_production_is_taken_apart_unless_another_release_is_named(shop):
    with pytest.raises(NoRelease, match="nothing is released"):
        tuning.plan_ablation(shop.line, shop.store, by="tests")
    channel.move(shop.store, to=shop.releases["markov"], expect=None, by="tests", reason="a test", nonce="n")
    plan = tuning.plan_ablation(shop.line, shop.store, by="tests")
    assert (plan.of, plan.family, plan.dataset_id) == (shop.releases["markov"], "markov", shop.dataset.dataset_id)
    assert (plan.seeds, plan.budget_s, plan.seed) == (2, 300, 7)


def test_a_candidate_is_taken_apart_before_it_is_released(shop, retune):
    with pytest.raises(NoCandidate):
        tuning.plan_ablation(shop.line, shop.store, by="tests", of_candidate=True)
    decided = retune(incumbent="markov", action=Action.REFIT, reason="a test")
    chosen = tuning.choose(shop.line, shop.store, decided, shop.studies)
    plan = tuning.plan_ablation(shop.line, shop.store, by="tests", of_candidate=True)
    assert (plan.of, plan.configuration) == (chosen.candidate_id, chosen.configuration)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"of_candidate": True}, "Either a release or the candidate"),
        ({"seeds": 0}, "seeds and budget_s must be positive and finite but are 0"),
        ({"budget_s": 0}, "seeds and budget_s must be positive and finite but are 2 and 0"),
        ({"budget_s": math.inf}, "seeds and budget_s must be positive and finite but are 2 and inf"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(planned, how, message):
    with pytest.raises(ValueError, match=message):
        planned(**how)


def test_an_ablation_that_was_never_made_is_not_found(shop):
    with pytest.raises(NotFound):
        tuning.ablation(shop.store, "a20260101-00000000")


def test_one_seed_of_a_training_is_warned_of(planned, ablate):
    found = ablate(only(planned("two_tower", seeds=1), "dropout"))
    assert "measured with one seed have intervals without what seeds do" in found.because


def test_what_is_only_counted_needs_no_warning_of_seeds(planned, ablate):
    assert "one seed" not in ablate(planned()).because
