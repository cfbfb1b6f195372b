"""Plans, searches and candidates of a line whose incumbent has learned something."""

import re
import shutil
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from recsys import ledger, tuning
from recsys.bundles import EARLY, WEIGHTS, find_bundle
from recsys.dataset import dataset
from recsys.export import package
from recsys.models import FAMILIES
from recsys.parts import key
from recsys.records import Action, DriftVerdict, Study, TrialResult, to_json
from recsys.store import open_store
from recsys.tuning.beginnings import with_weights
from recsys.tuning.space import search_space
from recsys.tuning.trials import Trials

pytestmark = pytest.mark.timeout(900)  # two whole searches and an export stand before the first test

TOWER = {
    **FAMILIES["two_tower"].defaults,
    "epochs": 4,
    "dim": 32,
    "hidden": 64,
    "history_length": 20,
}
WARM = {**TOWER, "epochs": 2, "lr": 0.001, "start": "incumbent"}
SPACE = {
    "two_tower": {
        "epochs": [1, 6],
        "dim": [32],
        "hidden": [64],
        "history_length": [20],
    }
}


@pytest.fixture(scope="module")
def line(lines):
    return lines(
        families=["two_tower"],
        workers=1,
        space=SPACE,
        screen={"trials": 2, "share": 0.5, "epochs": 0.5},
        refine={"trials": 1},
        confirm={"trials": 1, "seeds": 2},
    )


@pytest.fixture(scope="module")
def released(template, measured, line, release, tmp_path_factory):
    """A store with a release that began cold, its id, and a search that was made beside it."""
    folder = tmp_path_factory.mktemp("released")
    shutil.copytree(template, folder, dirs_exist_ok=True)
    store = open_store((folder / "store").as_uri())
    made = dataset(store)
    own = release(store, made, "two_tower", TOWER)
    verdict = a_verdict(made, own.release_id)
    plan = tuning.decide(line, store, verdict, by="schedule")
    study = searched(line, store, folder, plan, measured)
    alone = tuple(trial for trial in study.trials if trial.configuration == TOWER)
    store.put(f"studies/{plan.plan_id}/study.json", to_json(replace(study, trials=alone)))
    bundle = package(line, store, tuning.choose(line, store, plan, str(folder / "journal")))
    again = tuning.decide(line, store, a_verdict(made, bundle.release_id), by="schedule", nonce="released")
    searched(line, store, folder, again, measured)
    return folder, bundle.release_id, again.plan_id


@pytest.fixture
def shop(released, line, tmp_path):
    folder, release_id, plan_id = released
    shutil.copytree(folder, tmp_path / "shop")
    store = open_store((tmp_path / "shop" / "store").as_uri())
    return SimpleNamespace(
        line=line,
        store=store,
        studies=str(tmp_path / "shop" / "journal"),
        dataset=dataset(store),
        first=find_bundle(store, release_id),
        plan=tuning.plan(store, plan_id),
        study=tuning.study(store, plan_id),
    )


def a_verdict(made, release_id):
    return DriftVerdict(
        dataset_id=made.dataset_id,
        release_id=release_id,
        reference_id=made.dataset_id,
        drifted=True,
        columns=(),
        because="item popularity moved by 0.3, over 0.1.",
        report_key="drift/report.html",
        as_of=made.as_of,
    )


def searched(line, store, folder, plan, measured):
    """Run a whole search with one worker and close it."""
    for at, body in measured.items():
        store.put(f"studies/{plan.plan_id}/{at}", body)
    studies, owner = str(folder / "journal"), tuning.Attempt(run="monday", map_index=0, attempt=1)
    tuning.open_study(line, store, plan, studies)
    for stage in tuning.STAGES:
        if tuning.jobs(line, store, plan, stage, studies):
            tuning.work(line, store, plan, stage, studies, owner=owner)
    return tuning.close(line, store, plan, studies)


@pytest.fixture
def again(shop, line):
    """Plan the next search, or refit, of a line whose incumbent is this bundle."""

    def planned(bundle=None, *, line=line, **how):
        verdict = a_verdict(shop.dataset, (bundle or shop.first).release_id)
        how = {"action": Action.RETUNE, "reason": "a test asks for it", "nonce": "again", **how}
        return tuning.decide(line, shop.store, verdict, by="tests", **how)

    return planned


@pytest.fixture
def choose_by_hand(shop, line):
    """Choose a configuration as if it had won."""

    def chosen(plan, configuration):
        won = TrialResult(
            number=0,
            stage="confirm",
            state="complete",
            family="two_tower",
            configuration=configuration,
            seed=7,
            ndcg_at_10=0.3,
            seconds=1.0,
        )
        study = Study(plan=plan, trials=(won,), seconds=1.0, ended="by hand", incumbent_misses=())
        shop.store.put(f"studies/{plan.plan_id}/study.json", to_json(study))
        return tuning.choose(line, shop.store, plan, shop.studies)

    return chosen


def test_trials_begin_from_what_knows_nothing_of_the_windows_and_the_last_training_from_all(shop, again):
    plan = again()
    assert (plan.weights.file, plan.weights.learned_before) == (EARLY, shop.dataset.windows[0].begins)
    assert (plan.refit_weights.file, plan.refit_weights.learned_before) == (WEIGHTS, shop.dataset.holdout.begins)
    assert plan.weights.release_id == plan.refit_weights.release_id == shop.first.release_id
    assert plan.cold_because == ""
    assert plan.configuration == {**TOWER, "start": "incumbent"}
    assert plan.control == TOWER
    assert plan.brief == {**TOWER, "start": "incumbent", "epochs": 1}  # a quarter of 4


def test_on_data_that_begin_before_what_the_weights_know_every_training_begins_cold(shop, line, again):
    plan = again()
    earlier = replace(
        shop.dataset,
        dataset_id="earlier",
        windows=tuple(replace(w, begins=w.begins - timedelta(days=1)) for w in shop.dataset.windows),
    )
    shop.store.put(key("earlier", "dataset.json"), to_json(earlier))
    bare = replace(plan, dataset_id="earlier", configuration=shop.first.configuration, control={}, weights=None)
    made = with_weights(line, shop.store, bare, shop.first)
    assert made.weights is None
    assert made.cold_because.startswith(
        f"the weights of {shop.first.release_id} have learned from what happened until "
    )
    assert (made.configuration, made.control) == (TOWER, {})
    starts = search_space(line, made).families["two_tower"]["start"]
    assert starts.choices == ("cold",)


@pytest.mark.parametrize("family", ["markov", "popularity"])
def test_an_incumbent_that_learns_nothing_by_steps_leaves_every_training_cold(shop, again, release, family):
    bundle = release(shop.store, shop.dataset, family, FAMILIES[family].defaults)
    plan = again(bundle)
    assert plan.cold_because == f"the incumbent, {family}, has learned nothing by steps"
    assert (plan.weights, plan.control) == (None, {})


def test_a_search_that_can_only_begin_cold_says_why_when_it_ends(shop):
    [cold] = [found for found in ledger.read(shop.store, what="searched") if "weights" not in found.evidence]
    assert re.search(r"Every training began cold, because two_tower-\w+ keeps no weights\.$", cold.why)


def test_a_line_that_asks_for_cold_starts_alone_gets_no_weights(again, line):
    cold = {"two_tower": {**SPACE["two_tower"], "start": ["cold"]}}
    search = line.search.model_validate({**line.search.model_dump(), "space": cold})
    plan = again(line=line.model_copy(update={"search": search}))
    assert (plan.weights, plan.control, plan.configuration) == (None, {}, TOWER)
    assert plan.cold_because == "the line's search.space allows nothing else"


def test_each_stage_tries_the_incumbents_configuration_from_its_weights_and_cold_first(shop):
    for stage in tuning.STAGES:
        tried = [trial for trial in shop.study.trials if trial.stage == stage]
        brief = [trial for trial in tried if trial.configuration == shop.plan.brief]
        assert [trial.seed for trial in brief] == ([7, 8] if stage == "confirm" else [])
        for seed in sorted({trial.seed for trial in tried}):
            warm, cold = [trial for trial in tried if trial.seed == seed and trial not in brief][:2]
            assert (warm.configuration, cold.configuration) == (shop.plan.configuration, shop.plan.control)
    protected = [t.user_attrs["incumbent"] for t in Trials.load(shop.plan, shop.studies).of("screen")]
    assert protected == [True, True, False]


def test_the_study_says_what_the_weights_were_worth(shop):
    # The cold trials equal those of the search before on the same data, so their means alone are known.
    assert (shop.study.transfer.stage, shop.study.transfer.pairs) == ("confirm", 2)
    assert "To begin from the incumbent's weights " in shop.study.ended
    [entry] = [found for found in ledger.read(shop.store, what="searched") if "weights" in found.evidence]
    assert entry.evidence["transfer"]["pairs"] == 2
    assert entry.evidence["weights"]["file"] == EARLY


def test_trials_say_how_much_they_took_over(shop):
    for trial in shop.study.trials:
        if trial.state == "complete" and not trial.reused:
            assert (trial.covered is None) == (trial.configuration["start"] == "cold")
            if trial.covered:
                assert trial.covered.items == trial.covered.parameters == 1.0
    assert any(trial.covered for trial in shop.study.trials)


def test_what_began_from_weights_says_from_which_and_the_next_control_trains_as_its_cold_ancestor(
    shop, line, again, choose_by_hand
):
    made = choose_by_hand(again(), WARM)
    assert made.begun.weights.release_id == shop.first.release_id
    assert made.begun.weights.file == WEIGHTS
    assert made.begun.covered.items == 1.0
    bundle = package(line, shop.store, made)
    assert bundle.begun == made.begun
    [*_, entry] = ledger.read(shop.store, what="chosen")
    assert entry.evidence["begun"]["weights"]["sha256"] == shop.first.files[WEIGHTS].sha256
    plan = again(bundle, nonce="third")
    assert plan.configuration == WARM
    assert plan.brief == {**WARM, "epochs": 1}  # a quarter of what it took cold
    assert plan.control == TOWER  # its epochs and steps, not the few and small ones of a warm start


def test_a_line_that_allows_no_such_epochs_has_no_brief_training(again, line):
    longer = {"two_tower": {**SPACE["two_tower"], "epochs": [2, 6]}}
    search = line.search.model_validate({**line.search.model_dump(), "space": longer})
    plan = again(line=line.model_copy(update={"search": search}))
    assert (plan.configuration, plan.brief) == ({**TOWER, "start": "incumbent"}, {})


def test_what_is_trained_as_briefly_itself_has_no_briefer_training(line, shop, again, choose_by_hand):
    bundle = package(line, shop.store, choose_by_hand(again(), {**WARM, "epochs": 1}))
    assert again(bundle, nonce="third").brief == {}


def test_a_refit_of_what_began_from_weights_begins_from_its_own(shop, line, again, choose_by_hand):
    bundle = package(line, shop.store, choose_by_hand(again(), WARM))
    plan = again(bundle, action=Action.REFIT)
    assert (plan.configuration, plan.refit_weights.release_id) == (WARM, bundle.release_id)
    made = tuning.choose(line, shop.store, plan, shop.studies)
    assert made.begun.weights.release_id == bundle.release_id


def test_a_refit_hands_the_early_weights_on(shop, line, again):
    made = tuning.choose(line, shop.store, again(action=Action.REFIT), shop.studies)
    bundle = package(line, shop.store, made)
    assert bundle.files[EARLY] == shop.first.files[EARLY]


def test_a_refit_by_hand_cannot_begin_from_weights_that_there_are_not(shop, again, release):
    bare = release(shop.store, shop.dataset, "two_tower", {**TOWER, "lr": 0.002})
    with pytest.raises(ValueError, match=r"start cannot be 'incumbent', because two_tower-\w+ keeps no weights"):
        again(bare, action=Action.REFIT, configuration={"start": "incumbent"})


def test_only_what_the_chosen_trials_learned_is_kept(shop):
    plan_id = shop.first.candidate_id.rpartition("-")[0]
    [kept] = [entry.key for entry in shop.store.list(f"studies/{plan_id}/trained/")]
    assert shop.store.get(kept).body == shop.store.get(f"releases/{shop.first.release_id}/{EARLY}").body
