from dataclasses import replace
from pathlib import Path

import pytest

import recsys
from recsys import ledger, tuning
from recsys.models import FAMILIES
from recsys.settings import Budgets
from recsys.tuning import Attempt
from recsys.tuning.past import everything
from recsys.tuning.reuse import CODE, Results, code_digest, training_id
from recsys.tuning.trials import Entry, Trials

TOWER = {**FAMILIES["two_tower"].defaults, "dim": 32, "hidden": 64, "history_length": 20, "epochs": 10}
MARKOV = FAMILIES["markov"].defaults


def named(family="two_tower", configuration=TOWER, **changes):
    how = {"seed": 7, "share": 0.5, "dataset_id": "d", "device": "cpu", **changes}
    return training_id(FAMILIES[family], configuration, **how)


@pytest.mark.parametrize(
    "same",
    [
        dict(reversed(TOWER.items())),
        {**TOWER, "negatives": 100},  # of a full softmax, which draws none
    ],
)
def test_a_training_has_one_name_however_it_is_written(same):
    assert named(configuration=same) == named()
    assert named(configuration={**TOWER, "weight_decay": 1}) == named(configuration={**TOWER, "weight_decay": 1.0})


@pytest.mark.parametrize(
    "other",
    [
        {"configuration": {**TOWER, "lr": 0.001}},
        {"configuration": {**TOWER, "epochs": 4}},
        {"configuration": {**TOWER, "softmax": "sampled"}},
        {"family": "sasrec", "configuration": FAMILIES["sasrec"].defaults},
        {"seed": 8},
        {"share": 1.0},
        {"dataset_id": "e"},
        {"device": "cuda"},
    ],
)
def test_another_training_has_another_name(other):
    assert named(**other) != named()


def test_the_weights_that_it_begins_from_name_a_training_that_begins_from_some():
    warm = {**TOWER, "start": "incumbent"}
    assert named(configuration=warm, weights="5e") != named(configuration=warm, weights="6f")
    assert named(configuration=warm, weights="5e") != named(configuration={**warm, "start": "frozen"}, weights="5e")
    assert named(weights="5e") == named()  # a cold one leaves them


def test_what_parameters_do_is_told_by_the_values_beside_them():
    sampled = {**TOWER, "softmax": "sampled"}
    assert named(configuration={**sampled, "negatives": 100}) != named(configuration=sampled)


def test_the_seed_of_what_is_counted_on_everything_does_not_count():
    counted = {"family": "markov", "configuration": MARKOV}
    assert named(**counted, share=1.0, seed=8) == named(**counted, share=1.0)
    assert named(**counted, share=0.5, seed=8) != named(**counted, share=0.5)  # it draws the users


def test_code_that_is_not_the_same_byte_for_byte_is_other_code(tmp_path):
    for number, body in enumerate(("a = 1\n", "a = 1\n", "a = 2\n")):
        (tmp_path / str(number) / "models").mkdir(parents=True)
        (tmp_path / str(number) / "models" / "one.py").write_text(body)
    first, same, other = (code_digest(tmp_path / str(number)) for number in range(3))
    assert first == same
    assert first != other


def test_every_file_that_is_said_to_decide_a_result_exists():
    package = Path(recsys.__path__[0])
    assert [pattern for pattern in CODE if not list(package.glob(pattern))] == []


def listed(shop, plan, *configurations):
    """Begin a screening of these configurations alone and work it down; give its trials."""
    tuning.open_study(shop.line, shop.store, plan, shop.studies)
    Trials.load(plan, shop.studies).enter(
        "screen",
        [Entry(name=f"{n}", seed=7, family="two_tower", configuration=c) for n, c in enumerate(configurations)],
    )
    owner = Attempt(run="monday", map_index=0, attempt=1)
    ended = tuning.work(shop.line, shop.store, plan, "screen", shop.studies, owner=owner)
    return [trial for trial in ended if trial.stage == "screen"]


def test_a_configuration_that_a_study_tries_again_is_not_trained_again(shop, retune):
    plan = retune(incumbent="two_tower")
    first, again, other = listed(shop, plan, TOWER, {**TOWER, "negatives": 100}, {**TOWER, "lr": 0.001})
    assert (first.state, first.reused, other.reused) == ("complete", "", "")
    assert (again.state, again.ndcg_at_10) == ("complete", first.ndcg_at_10)
    assert again.reused == f"trial 0 of {plan.plan_id}"
    assert again.training == first.training != other.training
    assert other.ndcg_at_10 != first.ndcg_at_10
    facts = Trials.load(plan, shop.studies).all()[1].user_attrs
    assert facts["seconds"].keys() == {"lookup"}
    assert "units" not in facts  # what costs nothing teaches nothing about costs
    tuning.close(shop.line, shop.store, plan, shop.studies)
    [entry] = ledger.read(shop.store, what="searched")
    assert entry.evidence["duplicates"] == 1


def test_a_later_study_on_the_same_data_is_given_what_the_first_one_reached(shop, retune):
    one, two, three = (retune(incumbent="two_tower", nonce=nonce) for nonce in ("one", "two", "three"))
    [trained] = listed(shop, one, TOWER)
    tuning.close(shop.line, shop.store, one, shop.studies)
    for later in (two, three):
        [found] = listed(shop, later, TOWER)
        assert found.reused == f"trial 0 of {one.plan_id}"  # where it was trained, not where it was last used
        assert found.ndcg_at_10 == trained.ndcg_at_10
        tuning.close(shop.line, shop.store, later, shop.studies)
    assert [found.trials[0].training for found in everything(shop.store)] == [trained.training] * 3


def test_what_serving_a_duplicate_costs_is_not_measured_again_but_judged_by_todays_budgets(shop, retune):
    one, two = (retune(incumbent="two_tower", nonce=nonce) for nonce in ("one", "two"))
    listed(shop, one, TOWER)
    tuning.close(shop.line, shop.store, one, shop.studies)
    tight = replace(shop, line=shop.line.model_copy(update={"budgets": Budgets(p99_ms=1000, size_mib=1e-6)}))
    three = retune(incumbent="two_tower", nonce="three", line=tight.line)
    for later, where, state in ((two, shop, "complete"), (three, tight, "pruned")):
        for entry in shop.store.list(f"studies/{later.plan_id}/costs/"):
            shop.store.delete(entry.key)
        [found] = listed(where, later, TOWER)
        assert (found.state, found.constraints_s) == (state, 0.0)
        [trial] = Trials.load(later, shop.studies).of("screen")
        assert trial.user_attrs["size_mib"] > 0
        assert trial.user_attrs["seconds"].keys() == {"lookup"}
        assert len(list(shop.store.list(f"studies/{later.plan_id}/costs/"))) == 1  # for the other workers


@pytest.fixture
def complete(trial_evidence):
    return trial_evidence("markov", MARKOV, 0.25, number=4, training="t")


@pytest.fixture
def results(search_evidence):
    """What is found of earlier trainings, by a plan whose own study has none."""
    return lambda *trials, plan_id="now": Results(plan_id, lambda: [], [search_evidence(*trials)])


def test_what_a_duplicate_saves_is_its_training_and_judging_alone(complete, results):
    trained = replace(complete, seconds=5.0, evaluation_s=3.0, constraints_s=2.0)
    assert results(trained).find("t").seconds == 3.0
    taken_over = replace(trained, seconds=0.5, constraints_s=0.0, reused="trial 1 of it", saved_s=3.0)
    assert results(taken_over).find("t").seconds == 3.0


def test_evidence_that_cannot_be_read_costs_a_training_and_not_the_search(shop, retune):
    shop.store.put("evidence/broken.json", b"{}")
    [found] = listed(shop, retune(incumbent="two_tower"), TOWER)
    assert (found.state, found.reused) == ("complete", "")


def test_only_what_is_complete_is_a_result(complete, results):
    found = results(complete).find("t")
    assert (found.ndcg_at_10, found.source) == (0.25, "trial 4 of before")
    for state in ("fail", "pruned", "infeasible"):
        assert results(replace(complete, state=state)).find("t") is None
    assert results(replace(complete, training="")).find("") is None  # an older version gave no names


def test_what_a_study_found_itself_is_looked_for_in_the_study_alone(complete, results):
    assert results(complete, plan_id="before").find("t") is None
