"""The DAGs, run one after another by Airflow itself on made feedback; each test looks at one turn of the loop."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag

from recsys import channel, ledger, synthetic, tuning
from recsys.settings import lines_folder
from recsys.tuning.trials import Trials
from retune import stages

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.long,
    pytest.mark.timeout(900),  # the first run waits for all that the stages import
    pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning"),  # Airflow's, about .airflowignore
]

PROJECT = Path(__file__).parents[2]
SEARCH = """
[search]
families = ["markov"]
budget_s = 300
workers = 2
seed = 1

[search.screen]
trials = 2

[search.refine]
trials = 1

[search.confirm]
trials = 1
"""
AS_OF = f"{synthetic.START + timedelta(days=21):%Y-%m-%dT%H:%M:%S}+00:00"
WHY = "a test of the loop"


@pytest.fixture(scope="module")
def site(site_environment) -> stages.Site:
    """The line `shop`, with three weeks landed."""
    head, rest = synthetic.LINE.split("[search]")
    (lines_folder() / "shop.toml").write_text(f"{head}{SEARCH}\n[budgets]{rest.split('[budgets]')[1]}")
    opened = stages.site("shop")
    opened.store.put("landing/weeks.jsonl", synthetic.jsonl(synthetic.events(days=21)))
    return opened


def all_of(states: dict[str, str], *tasks: str) -> set[str]:
    return {states[task] for task in tasks}


def last(site: stages.Site, what: str) -> ledger.Entry:
    return [entry for entry in ledger.read(site.store) if entry.what == what][-1]


@pytest.fixture(scope="module")
def without_feedback(site):
    """The line `fresh`, for which nothing has landed."""
    text = (lines_folder() / "shop.toml").read_text()
    (lines_folder() / "fresh.toml").write_text(text.replace('"shop"', '"fresh"', 1))


@pytest.fixture(scope="module")
def late(site):
    """The line `late`, as `shop` but with features that are refreshed every minute."""
    text = (lines_folder() / "shop.toml").read_text().replace('"shop"', '"late"', 1)
    (lines_folder() / "late.toml").write_text(f'{text}\n[schedule]\nfeature_refresh = "* * * * *"\n')
    opened = stages.site("late")
    opened.store.put("landing/weeks.jsonl", synthetic.jsonl(synthetic.events(days=21)))
    return opened


@pytest.fixture(scope="module")
def without_reason(run, site):
    return run("feedback_shop", as_of=AS_OF)


@pytest.fixture(scope="module")
def arrived(run, without_reason):
    return run("feedback_shop", as_of=AS_OF, reason=WHY)


@pytest.fixture(scope="module")
def judged(run, arrived):
    return run("drift_shop", reason=WHY)


@pytest.fixture(scope="module")
def searched(run, judged):
    return run("retune_shop", reason=WHY)


@pytest.fixture(scope="module")
def promoted(run, searched):
    return run("promote_shop", reason=WHY)


@pytest.fixture(scope="module")
def refitted(run, promoted):
    """By hand, a configuration that can only be worse: it hardly looks at what the user did last."""
    blunt = {"steps": 16, "decay": 1.0, "smoothing": 1000.0}
    return run("retune_shop", action="refit", family="markov", configuration=blunt, reason="would blunter do?")


@pytest.fixture(scope="module")
def held(run, refitted):
    return run("promote_shop", plan_id=refitted.events["retune://shop/candidate"]["plan_id"], reason=WHY)


def test_a_run_by_hand_without_a_reason_does_nothing(without_reason, site):
    assert without_reason.state == "failed"
    assert without_reason.tasks["pull"] == "failed"  # at once: no retry would find a reason
    assert without_reason.events == {}
    assert ledger.read(site.store) == []


@pytest.mark.parametrize(
    ("dag", "first"),
    [
        ("feedback", "pull"),
        ("drift", "judge"),
        ("retune", "decide"),
        ("promote", "package"),
        ("rollback", "rollback"),
        ("ablate", "plan_ablation"),
    ],
)
def test_a_run_that_is_given_what_its_dag_does_not_know_fails_in_its_first_task(without_reason, run, site, dag, first):
    before = len(ledger.read(site.store))
    refused = run(f"{dag}_shop", reason=WHY, famly="sasrec")
    assert (refused.state, refused.tasks[first], refused.events) == ("failed", "failed", {})
    assert len(ledger.read(site.store)) == before


def test_before_any_feedback_drift_and_retune_are_skipped(without_feedback, run):
    judged, retuned = run("drift_fresh", reason=WHY), run("retune_fresh", reason=WHY)
    for early in (judged, retuned):
        assert early.state == "success"
        assert set(early.tasks.values()) == {"skipped"}
        assert early.events == {}


def test_to_ask_for_a_dataset_that_is_not_there_is_a_failure(without_feedback, run):
    assert run("drift_fresh", reason=WHY, dataset_id="0000000000000000").tasks == {"judge": "failed"}


def test_the_ledger_keeps_who_asked_for_a_run_why_and_for_what_once(without_feedback, run):
    at, store = datetime.now(UTC), stages.site("fresh").store
    asked = run("retune_fresh", at=at, reason="more items", budget_s=60)
    run("retune_fresh", at=at, reason="more items", budget_s=60)
    [entry] = [entry for entry in ledger.read(store, what="asked") if entry.evidence["run"] == asked.run_id]
    assert (entry.who, entry.why) == ("dag_test", "more items")
    assert entry.evidence == {"dag": "retune_fresh", "run": asked.run_id, "params": {"budget_s": 60}}


def test_each_dag_keeps_who_asked_for_its_run(without_feedback, run):
    for dag in ("feedback", "drift", "promote", "rollback"):
        run(f"{dag}_fresh", reason=f"trying {dag}")
    kept = {entry.evidence["dag"]: entry.why for entry in ledger.read(stages.site("fresh").store, what="asked")}
    assert {
        f"{dag}_fresh": f"trying {dag}" for dag in ("feedback", "drift", "promote", "rollback")
    }.items() <= kept.items()


def test_feedback_becomes_a_dataset_with_an_incumbent(arrived, site):
    assert arrived.state == "success"
    assert set(arrived.tasks.values()) == {"success"}
    [(uri, extra)] = arrived.events.items()
    assert uri == "retune://shop/dataset"
    assert extra == {"dataset_id": stages.newest_dataset(site).dataset_id, "table_version": extra["table_version"]}
    first = channel.history(site.store)[0]
    assert first.release_id.startswith("popularity-")
    assert first.by == "dag_test"  # the name of who started the run


def test_a_run_that_finds_nothing_new_is_skipped_and_announces_nothing(arrived, run):
    again = run("feedback_shop", as_of=AS_OF, reason=WHY)
    assert again.state == "success"
    assert set(again.tasks.values()) == {"skipped"}
    assert again.events == {}


def test_drift_announces_its_verdict_even_when_nothing_moved(judged, arrived):
    assert judged.tasks == {"judge": "success"}
    extra = judged.events["retune://shop/drift"]
    assert extra["dataset_id"] == arrived.events["retune://shop/dataset"]["dataset_id"]
    assert extra["drifted"] is False
    assert extra["because"] == "The incumbent was made from this very dataset."


def test_a_search_fans_out_and_announces_its_candidate(searched, site):
    assert searched.state == "success"
    assert set(searched.tasks.values()) == {"success"}
    assert {task for task in searched.tasks if task.startswith("screen.work")} == {"screen.work[0]", "screen.work[1]"}
    extra = searched.events["retune://shop/candidate"]
    assert extra["family"] == "markov"
    assert extra["plan_id"] == stages.newest_candidate(site).plan_id
    assert set(last(site, "searched").evidence["trials"]) == {"complete"}  # none running, none lost


def test_a_search_that_would_run_into_a_feature_refresh_is_skipped_and_says_why(late, run):
    assert run("feedback_late", as_of=AS_OF, reason=WHY).state == "success"
    put_off = run("retune_late", reason=WHY)
    assert (put_off.state, put_off.events) == ("success", {})
    assert put_off.tasks.pop("decide") == "success"
    assert set(put_off.tasks.values()) == {"skipped"}
    [entry] = ledger.read(late.store, what="put off")
    assert "but the line's features are refreshed at " in entry.why
    assert ledger.read(late.store, what="opened") == []


def test_a_search_is_reviewed_beside_its_candidate(searched, refitted, site):
    assert searched.tasks["review"] == "success"
    plan_id = searched.events["retune://shop/candidate"]["plan_id"]
    assert tuning.kept_review(site.store, plan_id).because == "Not enough has been tried yet to tell what matters."
    [entry] = ledger.read(site.store, what="reviewed")
    assert entry.evidence["plan_id"] == plan_id
    assert refitted.tasks["review"] == "skipped"  # it searched nothing


def test_what_becomes_of_the_review_holds_no_candidate_up(searched):
    tasks = DagBag(PROJECT / "dags").dags["retune_shop"].task_dict
    assert tasks["review"].upstream_task_ids == {"close_search", "decide"}
    assert tasks["review"].downstream_task_ids == set()


def test_every_trial_belongs_to_one_attempt_of_one_worker(searched, site):
    plan = tuning.plan(site.store, searched.events["retune://shop/candidate"]["plan_id"])
    trials = Trials.load(plan, site.studies)
    owners = [trial.user_attrs["owner"] for stage in tuning.STAGES for trial in trials.of(stage)]
    assert len(owners) >= 4
    assert {(owner["run"], owner["attempt"]) for owner in owners} == {(searched.run_id, 1)}
    assert {owner["map_index"] for owner in owners} <= {0, 1}


def test_a_better_candidate_is_released_and_announced(promoted, searched, site):
    assert promoted.state == "success"
    assert set(promoted.tasks.values()) == {"success"}
    extra = promoted.events["retune://shop/release"]
    now = channel.current(site.store)
    [_, *moves] = channel.history(site.store)
    assert moves[0].release_id == extra["release_id"]
    assert moves[0].generation == extra["generation"] == 2
    assert now is not None


def test_a_release_is_taken_apart_by_hand_and_the_same_question_trains_nothing_again(promoted, run, site):
    before = channel.current(site.store)
    ablated = run("ablate_shop", reason=WHY, seeds=1, budget_s=60)
    assert ablated.state == "success"
    assert ablated.tasks["close_ablation"] == "success"
    assert ablated.tasks["work_ablation[0]"] == "success"
    assert last(site, "ablated").evidence["of"] == promoted.events["retune://shop/release"]["release_id"]
    again = run("ablate_shop", reason=WHY, seeds=1, budget_s=60)
    assert (again.state, again.tasks["work_ablation"], again.tasks["close_ablation"]) == (
        "success",
        "skipped",
        "success",
    )
    assert len(ledger.read(site.store, what="ablated")) == 1
    assert (ablated.events, channel.current(site.store)) == ({}, before)


def test_where_nothing_is_to_be_done_the_rest_is_skipped_with_the_reason(promoted, run, site):
    idle = run("retune_shop", reason="is there anything to do?")
    assert idle.state == "success"
    assert idle.tasks["decide"] == "success"
    assert set(idle.tasks.values()) == {"success", "skipped"}
    assert [task for task, state in idle.tasks.items() if state == "success"] == ["decide"]
    assert idle.events == {}
    assert last(site, "decided").why.startswith("Nothing has drifted")


def test_a_refit_needs_no_workers_and_goes_on_all_the_same(refitted):
    assert refitted.state == "success"
    assert all_of(refitted.tasks, "screen.work", "refine.work", "confirm.work") == {"skipped"}
    assert all_of(refitted.tasks, "decide", "open_search", "close_search", "choose") == {"success"}
    assert refitted.events["retune://shop/candidate"]["family"] == "markov"


def test_a_candidate_that_the_gate_holds_is_no_failure(held, promoted, site):
    assert held.state == "success"
    assert all_of(held.tasks, "package", "measure", "gate") == {"success"}
    assert held.tasks["release"] == "skipped"
    assert held.events == {}
    assert {last(site, what).who for what in ("holdout read", "measured", "held")} == {"dag_test"}


def test_a_release_is_attributed_to_its_knobs_and_what_was_held_is_not(promoted, held, site):
    [entry] = ledger.read(site.store, what="attributed")
    assert entry.who == "dag_test"
    assert entry.evidence["release_id"] == promoted.events["retune://shop/release"]["release_id"]
    assert held.tasks["attribute"] == "skipped"


def test_a_rollback_moves_production_back_once_however_often_the_run_is_cleared(held, run, site):
    baseline, release = channel.history(site.store)
    at = datetime.now(UTC)
    back = run("rollback_shop", at=at, reason="the baseline was better")
    again = run("rollback_shop", at=at, reason="the baseline was better")
    assert back.run_id == again.run_id
    assert back.tasks == again.tasks == {"rollback": "success"}
    for ended in (back, again):
        extra = ended.events["retune://shop/release"]
        assert (extra["release_id"], extra["generation"]) == (baseline.release_id, 3)
    assert channel.current(site.store).release_id == baseline.release_id
    assert last(site, "rolled back").why == "the baseline was better"
    assert release.release_id != baseline.release_id


def test_a_batch_that_breaks_the_contract_fails_where_people_see_it(held, run, site):
    site.store.put("landing/wrong.jsonl", synthetic.jsonl(synthetic.events(days=1, first_day=21).assign(value=7.0)))
    refused = run("feedback_shop", as_of=AS_OF, reason=WHY)
    assert refused.state == "failed"
    assert refused.tasks["check"] == "failed"  # at once: no retry would make it right
    assert all_of(refused.tasks, "commit", "freeze", "baseline") == {"upstream_failed"}
    assert refused.events == {}
    assert list(site.store.list("quarantine/"))
