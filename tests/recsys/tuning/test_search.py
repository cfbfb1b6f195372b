import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from optuna.trial import TrialState

from recsys import ledger, tuning
from recsys.errors import LineError, NoCandidate
from recsys.models import FAMILIES
from recsys.records import Action, dump
from recsys.settings import Budgets
from recsys.store.file import FileStore
from recsys.tuning import Attempt
from recsys.tuning.ranking import identity
from recsys.tuning.trials import Entry, Trials

FIRST = Attempt(run="monday", map_index=0, attempt=1)
SECOND = Attempt(run="monday", map_index=0, attempt=2)
TOWER = {**FAMILIES["two_tower"].defaults, "dim": 32, "hidden": 64, "history_length": 20, "epochs": 10}


def work(shop, plan, stage="screen", *, owner=FIRST, line=None, store=None):
    return tuning.work(line or shop.line, store or shop.store, plan, stage, shop.studies, owner=owner)


def begin(shop, plan, line=None):
    tuning.open_study(line or shop.line, shop.store, plan, shop.studies)
    return tuning.jobs(line or shop.line, shop.store, plan, "screen", shop.studies)


def of(study, stage):
    return [trial for trial in study.trials if trial.stage == stage]


def test_the_incumbent_is_tried_first_and_stays_beside_the_best_of_each_stage(shop, retune, search):
    plan = retune(incumbent="markov")
    seen = []
    study = search(plan, on_trial=seen.append)
    assert sorted(seen, key=lambda trial: trial.number) == list(study.trials)
    assert {trial.state for trial in study.trials} == {"complete"}

    screen, refine, confirm = (of(study, stage) for stage in tuning.STAGES)
    assert (screen[0].number, screen[0].family, screen[0].configuration) == (0, "markov", plan.configuration)
    assert len(screen) == 5  # the incumbent included
    assert {trial.family for trial in screen[1:3]} == {"markov", "two_tower"}  # each family's defaults

    own = identity(plan.family, plan.configuration)
    values = {identity(t.family, t.configuration): t.ndcg_at_10 for t in screen[1:]}
    best = sorted(values, key=values.get, reverse=True)
    assert identity(refine[0].family, refine[0].configuration) == own
    # Of four challengers two are refined: the best of the first two may be one of them, or a third.
    assert {own, best[0], best[1]} <= {identity(t.family, t.configuration) for t in refine}

    refined = {identity(t.family, t.configuration): t.ndcg_at_10 for t in refine if t.number != refine[0].number}
    finalist = max(refined, key=refined.get)
    confirmed = [identity(t.family, t.configuration) for t in confirm]
    assert confirmed[0] == own
    assert finalist in confirmed[1:]  # not always the first of them: what was refined earlier need not wait for it
    assert {t.seed for t in confirm if t.configuration["epochs"]} <= {7, 8}

    assert study.ended.startswith("Every listed trial has ended after ")
    assert f"5 of 5 in screen, {len(refine)} of {len(refine)} in refine" in study.ended
    assert study.incumbent_misses == ()
    assert tuning.study(shop.store, plan.plan_id) == study
    [entry] = [entry for entry in ledger.read(shop.store) if entry.what == "searched"]
    assert entry.why == study.ended
    assert entry.evidence["trials"] == {"complete": len(study.trials)}
    assert list(shop.store.list(f"studies/{plan.plan_id}/checkpoints/")) == []


def test_a_warm_search_says_how_far_earlier_ones_predicted_it(shop, a_line, retune, search):
    cold = search(retune(incumbent="markov"))
    assert "Earlier searches" not in cold.ended
    line = a_line(warm=True)
    verdict = shop.verdict(incumbent="markov", as_of=cold.plan.as_of + timedelta(days=1))
    later = retune(line=line, verdict=verdict, action=Action.RETUNE, reason="to see the past at work")
    ended = search(later, line=line).ended
    assert re.search(
        r"Earlier searches were believed with a correlation of [01]\.\d\d in the end; .*\. Every training began cold, ",
        ended,
    )


def test_a_finalist_that_is_trained_is_confirmed_with_every_seed(shop, retune):
    plan = retune(incumbent="two_tower")
    tuning.open_study(shop.line, shop.store, plan, shop.studies)
    own, challenger = plan.configuration, {**plan.configuration, "lr": 0.01}
    Trials.load(plan, shop.studies).enter(
        "screen",
        [Entry(name=f"{c['lr']}", seed=7, family="two_tower", configuration=c) for c in (own, challenger)],
    )
    ended = work(shop, plan)
    for stage in ("refine", "confirm"):
        tuning.jobs(shop.line, shop.store, plan, stage, shop.studies)
        ended += work(shop, plan, stage)
    found = [trial for trial in ended if trial.stage == "confirm"]
    assert [(trial.configuration, trial.seed) for trial in found] == [
        (own, 7),
        (challenger, 7),
        (own, 8),
        (challenger, 8),
    ]
    first, second = (trial.ndcg_at_10 for trial in found[1::2])
    assert first != second


def test_a_popularity_baseline_is_the_first_trial_although_its_family_is_not_searched(shop, retune, search):
    study = search(retune())
    assert [t.family for t in study.trials if t.stage == "screen"].count("popularity") == 1
    assert study.trials[0].family == "popularity"
    assert study.trials[0].state == "complete"
    assert [sum(t.family == "popularity" for t in of(study, stage)) for stage in tuning.STAGES] == [1, 1, 1]


def test_every_trial_of_every_stage_is_told_to_optuna_as_it_was_trained(shop, retune, search):
    plan = retune(incumbent="markov")
    search(plan)
    searched = tuning.search_space(shop.line)
    trials = Trials.load(plan, shop.studies).all()
    assert {trial.user_attrs["stage"] for trial in trials} == set(tuning.STAGES)
    for trial in trials:
        assert trial.params == searched.parameters(trial.user_attrs["family"], trial.user_attrs["configuration"])


def test_the_same_plan_gives_the_same_study(shop, retune, search):
    plan = retune()

    def outcome():
        study = search(plan)
        shop.store.delete(f"studies/{plan.plan_id}/study.json")
        Path(shop.studies).unlink()
        return [
            replace(trial, seconds=0.0, evaluation_s=0.0, constraints_s=0.0, saved_s=0.0, use=None)
            for trial in study.trials
        ]

    assert outcome() == outcome()


def test_another_plan_of_the_same_line_draws_other_configurations(shop, retune, search):
    def drawn(nonce):
        return [trial.configuration for trial in of(search(retune(nonce=nonce)), "screen")[3:]]

    one, two = drawn("one"), drawn("two")
    assert len(one) == 2  # after the incumbent and each family's defaults
    assert not [configuration for configuration in one if configuration in two]


def test_what_misses_a_budget_is_not_trained_and_the_incumbent_is_said_so(shop, retune, search):
    line = shop.line.model_copy(update={"budgets": Budgets(p99_ms=1e-6, size_mib=4)})
    plan = retune(incumbent="markov", line=line)
    study = search(plan, line)
    assert {trial.state for trial in study.trials} == {"pruned"}
    assert {trial.stage for trial in study.trials} == {"screen"}
    for trial in Trials.load(plan, shop.studies).all():
        assert "training" not in trial.user_attrs["seconds"]
        assert trial.constraints["p99_ms"] > 0
        assert trial.constraints["size_mib"] < 0
    [missed] = study.incumbent_misses
    assert "ms is over the budget of 1e-06 ms" in missed
    assert "no trial could be promoted" in study.ended
    [entry] = [entry for entry in ledger.read(shop.store) if entry.what == "searched"]
    assert f"The incumbent misses the line's own budgets: {missed}." in entry.why
    with pytest.raises(NoCandidate, match=r"trial 0 \(markov\) p99 of about .* ms is over the budget"):
        tuning.choose(line, shop.store, plan, shop.studies)


def test_only_what_fits_the_budgets_can_win(shop, retune, search, measured):
    sizes = sorted(json.loads(body)["size_mib"] for body in measured.values())
    between = Budgets(p99_ms=1000, size_mib=(sizes[1] + sizes[2]) / 2)  # the largest of the three misses it
    line = shop.line.model_copy(update={"budgets": between})
    study = search(retune(incumbent="popularity", line=line), line)
    infeasible = {trial.family for trial in study.trials if trial.infeasible}
    assert len(infeasible) == 1
    assert infeasible.isdisjoint(trial.family for trial in study.trials if trial.stage != "screen")
    assert not infeasible & {trial.family for trial in study.trials if trial.state == "complete"}


def test_a_trial_that_cannot_be_run_fails_with_its_reason_and_the_search_goes_on(shop, retune, search):
    verdict = shop.released("oracle", {"epochs": 0})
    study = search(retune(verdict=verdict))
    first, *others = study.trials
    assert (first.state, first.family) == ("fail", "oracle")
    assert first.reason.startswith("ValueError: A trial's family must be one of [")
    assert {trial.state for trial in others} == {"complete"}
    assert "oracle" not in {trial.family for trial in others}


def test_a_training_that_diverges_fails_with_its_loss(shop, retune):
    verdict = shop.released("two_tower", {**TOWER, "lr": 1e30, "batch_size": 64})
    plan = retune(verdict=verdict)
    begin(shop, plan)
    first = work(shop, plan)[0]
    assert first.state == "fail"
    assert first.reason.startswith("Diverged: The loss of epoch")


def test_a_search_in_which_every_trial_fails_has_no_candidate(shop, retune, search, a_line):
    line = a_line(screen={"trials": 1}, refine={"trials": 1}, confirm={"trials": 1})
    plan = retune(verdict=shop.released("oracle", {"epochs": 0}), line=line)
    search(plan, line)
    with pytest.raises(
        NoCandidate, match=r"No trial of r2026\S+ is complete: trial 0 \(oracle\) ValueError: A trial's"
    ):
        tuning.choose(line, shop.store, plan, shop.studies)


def test_no_trial_begins_after_the_budget(shop, retune, search, a_line):
    line = a_line(budget_s=1e-3)
    plan = retune(line=line)
    study = search(plan, line)
    assert len(study.trials) == 1  # what nobody could foresee
    assert study.ended.startswith("The budget ended the search after ")
    assert "1 of 5 in screen" in study.ended
    assert study.seconds > 1e-3


def test_a_training_that_would_outlast_its_stage_is_stopped(shop, retune, a_line):
    line = a_line(budget_s=3, screen={"trials": 2, "share": 1.0, "epochs": 1.0}, refine={"trials": 2})
    plan = retune(verdict=shop.released("two_tower", {**TOWER, "epochs": 100_000}), line=line)
    begin(shop, plan, line)
    began = time.time()
    cut = work(shop, plan, line=line)[0]
    assert time.time() - began < 60
    assert cut.state == "pruned"
    assert cut.reason.endswith(" of 100000 epochs: the time of its stage was over")
    assert cut.unfinished
    ended = tuning.close(line, shop.store, plan, shop.studies).ended
    assert ended.startswith("The budget ended the search")


def test_a_hopeless_trial_is_pruned_but_never_the_incumbent(shop, retune, a_line):
    line = a_line(screen={"trials": 1, "share": 1.0, "epochs": 1.0}, refine={"trials": 1}, confirm={"trials": 1})
    hopeless = {**TOWER, "lr": 1e-9}
    plan = retune(line=line)
    tuning.open_study(line, shop.store, plan, shop.studies)
    trials = Trials.load(plan, shop.studies)
    good = [{**TOWER, "lr": lr} for lr in (0.02, 0.03, 0.04)]
    listed = [(c, False) for c in good] + [(hopeless, False), (hopeless, True)]
    trials.enter(
        "screen",
        [
            Entry(name=f"by hand {n}", seed=7, family="two_tower", configuration=configuration, incumbent=incumbent)
            for n, (configuration, incumbent) in enumerate(listed)
        ],
    )
    ended = work(shop, plan, line=line)
    assert [trial.state for trial in ended] == ["complete", "complete", "complete", "pruned", "complete"]
    assert ended[3].reason.startswith("stopped after 3 of 10 epochs: below the median")
    assert ended[3].ndcg_at_10 < min(trial.ndcg_at_10 for trial in ended[:3])
    assert list(trials.all()[0].intermediate_values) == [1, 2, 3]  # quarters


WORKER = """
import json, sys
from recsys import tuning
from recsys.records import Plan, load
from recsys.settings import Line
from recsys.store import open_store
line, plan, store, studies = json.loads(sys.argv[1])
tuning.work(Line.model_validate_json(line), open_store(store), load(Plan, plan), "screen", studies,
            owner=tuning.Attempt(run="monday", map_index=0, attempt=1))
"""


def test_what_a_killed_worker_had_trained_is_not_trained_again(shop, retune, a_line):
    configuration = {**TOWER, "epochs": 60}
    line = a_line(screen={"trials": 1, "share": 1.0, "epochs": 1.0}, refine={"trials": 1}, confirm={"trials": 1})
    verdict = shop.released("two_tower", configuration)
    undisturbed, plan = (retune(verdict=verdict, line=line, nonce=nonce) for nonce in ("one", "two"))
    begin(shop, undisturbed, line)
    [expected] = work(shop, undisturbed, line=line)

    begin(shop, plan, line)
    arguments = json.dumps([line.model_dump_json(), dump(plan), shop.store.url, shop.studies])
    process = subprocess.Popen([sys.executable, "-c", WORKER, arguments], env={**os.environ, "OMP_NUM_THREADS": "1"})
    checkpoints = shop.folder / "shop" / "store" / "studies" / plan.plan_id / "checkpoints"
    try:
        while not (checkpoints.is_dir() and any(not p.name.startswith(".") for p in checkpoints.iterdir())):
            assert process.poll() is None, "the worker ended before it could be killed"
            time.sleep(0.005)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    trials = Trials.load(plan, shop.studies)
    assert [trial.state for trial in trials.all()] == [TrialState.RUNNING]

    [resumed] = work(shop, plan, line=line, owner=SECOND)
    dead, again = trials.of("screen")
    assert dead.user_attrs["reason"] == "superseded by attempt 2, and its configuration taken up again"
    assert again.user_attrs["resumes"] == 0
    assert again.user_attrs["resumed_after"] >= 1
    assert resumed.configuration == configuration
    assert resumed.ndcg_at_10 == pytest.approx(expected.ndcg_at_10, abs=1e-6)
    study = tuning.close(line, shop.store, plan, shop.studies)
    assert [trial.state for trial in of(study, "screen")] == ["fail", "complete"]
    assert "1 of 1 in screen" in study.ended


class Interrupted(FileStore):
    """A store in which somebody else takes the trial over while its checkpoint is written."""

    def upload(self, path, key):
        etag = super().upload(path, key)
        self.takes_over()
        return etag


def test_a_late_worker_stops_without_a_trace_in_the_study(shop, retune, a_line):
    line = a_line(screen={"trials": 2, "share": 1.0, "epochs": 1.0}, refine={"trials": 1}, confirm={"trials": 1})
    plan = retune(verdict=shop.released("two_tower", TOWER), line=line)
    begin(shop, plan, line)
    slow = Interrupted(shop.folder / "shop" / "store")
    slow.takes_over = lambda: Trials.load(plan, shop.studies).supersede("screen", SECOND)
    assert work(shop, plan, line=line, store=slow) == []
    trials = Trials.load(plan, shop.studies)
    assert [trial.state.name for trial in trials.all()] == ["FAIL", "WAITING", "WAITING"]
    first, *_ = work(shop, plan, line=line, owner=SECOND)
    assert (first.number, first.state) == (2, "complete")
    assert trials.all()[2].user_attrs["resumed_after"] >= 1


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs two cores and Linux"
)
@pytest.mark.parametrize(("given", "cores", "used"), [(2, 1, 1), (1, 2, 1), (2, 2, 2)])
def test_a_worker_uses_no_more_threads_than_it_was_given_and_may_use_cores(shop, retune, a_line, given, cores, used):
    line = a_line(workers=1, screen={"trials": 1}, refine={"trials": 1}, confirm={"trials": 1})
    plan = retune(line=line)
    begin(shop, plan, line)
    threads, allowed, before = [], os.sched_getaffinity(0), torch.get_num_threads()
    try:
        os.sched_setaffinity(0, sorted(allowed)[:cores])
        torch.set_num_threads(given)
        tuning.work(
            line,
            shop.store,
            plan,
            "screen",
            shop.studies,
            owner=FIRST,
            on_trial=lambda _: threads.append(torch.get_num_threads()),
        )
        assert torch.get_num_threads() == given
    finally:
        os.sched_setaffinity(0, allowed)
        torch.set_num_threads(before)
    assert threads == [used]


class DyingStore(FileStore):
    """A store whose process dies after a number of writes."""

    def __init__(self, root, writes):
        super().__init__(root)
        self._left = writes

    def _write(self):
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1

    def put(self, key, body):
        self._write()
        return super().put(key, body)

    def create(self, key, body):
        self._write()
        return super().create(key, body)

    def delete(self, key):
        self._write()
        return super().delete(key)


@pytest.mark.parametrize("writes", range(3))
def test_a_search_whose_closing_broke_off_is_closed_by_the_next_call(shop, retune, writes):
    plan = retune()
    begin(shop, plan)
    checkpoint = f"studies/{plan.plan_id}/checkpoints/left"
    shop.store.put(checkpoint, b"by a worker that was lost")
    with pytest.raises(KeyboardInterrupt):
        tuning.close(shop.line, DyingStore(shop.folder / "shop" / "store", writes), plan, shop.studies)
    study = tuning.close(shop.line, shop.store, plan, shop.studies)
    assert tuning.study(shop.store, plan.plan_id) == study
    [entry] = ledger.read(shop.store, what="searched")
    assert (entry.why, entry.evidence["as_of"]) == (study.ended, plan.as_of.isoformat())
    assert list(shop.store.list(f"studies/{plan.plan_id}/checkpoints/")) == []


def test_the_next_stage_begins_when_nothing_of_the_one_before_is_left(shop, retune, a_line):
    line = a_line(refine={"trials": 3, "share": 1.0, "epochs": 0.4})  # more than half go up, so none before the end
    plan = retune(line=line)
    assert begin(shop, plan, line) == [{"worker": 0}, {"worker": 1}]
    work(shop, plan, line=line)
    trials = Trials.load(plan, shop.studies)
    trials.enter("screen", [Entry(name="one more", seed=7), Entry(name="and another", seed=7)])
    [*_, more, _] = trials.of("screen")
    trials._storage.set_trial_state_values(more._trial_id, TrialState.RUNNING)  # by a worker that dies
    jobs = tuning.jobs(line, shop.store, plan, "refine", shop.studies)
    assert jobs == tuning.jobs(line, shop.store, plan, "refine", shop.studies)  # begun twice: the list is the same
    assert {trial.state.name for trial in trials.of("screen")} == {"COMPLETE", "FAIL"}
    assert [trial.state.name for trial in trials.of("refine")] == ["WAITING"] * 4
    assert [(p.stage, p.listed, p.ended) for p in tuning.progress(plan, shop.studies)] == [
        ("screen", 7, 6),
        ("confirm", 1, 1),  # the incumbent
        ("refine", 4, 0),
    ]


def test_a_search_that_was_broken_off_goes_on_where_it_stopped(shop, retune, search):
    plan = retune()
    begin(shop, plan)
    trials = Trials.load(plan, shop.studies)
    trials._storage.set_trial_state_values(trials.all()[0]._trial_id, TrialState.RUNNING)  # and here it was broken off
    study = search(plan)
    lost, *others = study.trials
    assert (lost.family, lost.state) == ("popularity", "fail")
    assert lost.reason == "its worker was lost before the stage screen began anew, and its configuration taken up again"
    assert others[-1].stage == "confirm"
    again = next(trial for trial in others if trial.family == "popularity")
    assert (again.stage, again.state, again.number) == ("screen", "complete", 5)
    assert "5 of 5 in screen" in study.ended


def test_a_search_that_cannot_be_looked_at_is_not_taken_for_one_that_was_never_opened(a_plan, tmp_path):
    journal = tmp_path / "journal"
    with pytest.raises(ValueError, match="RETUNE_STUDIES must be the path of a file"):
        tuning.check_left(a_plan(), str(tmp_path))
    journal.write_text("no journal\nof studies\n")
    with pytest.raises(
        ValueError, match=f"RETUNE_STUDIES .* but is '{journal}': what lies there is no journal of studies"
    ):
        tuning.check_left(a_plan(), str(journal))


def test_a_search_that_somebody_works_on_is_not_taken_up_until_it_is_left_or_silent(shop, retune):
    plan = retune()
    tuning.check_left(plan, shop.studies)  # it has not even been opened
    begin(shop, plan)
    tuning.check_left(plan, shop.studies)  # nothing runs
    trials = Trials.load(plan, shop.studies)
    taken = trials.all()[0]
    assert trials._take(taken, FIRST)
    with pytest.raises(ValueError, match=f"a trial of {plan.plan_id} gave a sign of life 0 s ago"):
        tuning.check_left(plan, shop.studies)
    trials._storage.set_trial_user_attr(taken._trial_id, "seen_at", time.time() - 61)
    tuning.check_left(plan, shop.studies)
    trials._storage.set_trial_user_attr(taken._trial_id, "seen_at", time.time() - 50)
    with pytest.raises(ValueError, match="wait until that is 60 s ago"):
        tuning.check_left(plan, shop.studies)
    tuning.leave(plan, shop.studies)
    tuning.check_left(plan, shop.studies)
    assert [trial.state.name for trial in trials.all()] == ["FAIL", *["WAITING"] * 5]


def test_the_record_and_the_ledger_count_the_seconds_of_every_opening(shop, retune):
    plan = retune(incumbent="markov")
    begin(shop, plan)
    work(shop, plan)
    spent = Trials.load(plan, shop.studies).spent_s
    assert spent > 0
    begin(shop, plan)  # and nothing more is tried
    assert tuning.close(shop.line, shop.store, plan, shop.studies).seconds == pytest.approx(spent)
    [entry] = ledger.read(shop.store, what="searched")
    assert entry.evidence["seconds"] == pytest.approx(spent)


def test_a_closed_search_stays_closed(shop, retune, search):
    plan = retune()
    study = search(plan)
    chosen = tuning.choose(shop.line, shop.store, plan, shop.studies)
    assert search(plan) == study
    assert tuning.choose(shop.line, shop.store, plan, shop.studies) == chosen
    for what in ("searched", "chosen"):
        assert len([entry for entry in ledger.read(shop.store) if entry.what == what]) == 1


def test_a_line_that_cannot_be_searched_is_refused_when_the_study_is_opened(shop, retune, a_line):
    line = a_line(space={"markov": {"steps": [99, 100]}})
    with pytest.raises(LineError, match=r"search\.space\.markov\.steps"):
        tuning.open_study(line, shop.store, retune(line=line), shop.studies)


def test_a_stage_that_does_not_exist_is_refused(shop, retune):
    plan = retune()
    begin(shop, plan)
    with pytest.raises(ValueError, match="stage must be one of"):
        work(shop, plan, "polish")
    with pytest.raises(ValueError, match="stage must be one of"):
        tuning.jobs(shop.line, shop.store, plan, "polish", shop.studies)


def test_what_is_unsound_is_not_counted_and_says_why(shop, retune):
    plan = retune(incumbent="two_tower")
    tuning.open_study(shop.line, shop.store, plan, shop.studies)
    stifled = {**TOWER, "dropout": 0.95, "weight_decay": 10.0}
    Trials.load(plan, shop.studies).enter(
        "screen",
        [Entry(name=f"{n}", seed=7, family="two_tower", configuration=c) for n, c in enumerate((TOWER, stifled))],
    )
    line = shop.line.model_copy(
        update={"search": shop.line.search.model_copy(update={"screen": shop.line.search.confirm})}
    )
    sound, unsound = (trial for trial in work(shop, plan, line=line) if trial.stage == "screen")
    assert (sound.state, sound.infeasible, sound.unsound) == ("complete", (), False)
    assert (unsound.state, unsound.unsound, unsound.over_budget) == ("pruned", True, False)
    assert [said for said in unsound.infeasible if said.startswith("over-regularised: NDCG@10 is ")]
    assert unsound.reason == "what it reached is not counted, because what it learned is unsound"
    trial = Trials.load(plan, shop.studies).all()[1]
    assert trial.constraints["over_regularised"] > 0
    assert trial.constraints["told_the_target"] <= 0
    study = tuning.close(shop.line, shop.store, plan, shop.studies)
    assert study.incumbent_misses == ()
    [entry] = ledger.read(shop.store, what="searched")
    assert (entry.evidence["unsound"], entry.evidence["infeasible"]) == (1, 1)


def test_a_search_says_how_far_its_rungs_ranked_alike(shop, retune, search):
    study = search(retune(incumbent="markov"))
    both = len({identity(t.family, t.configuration) for t in of(study, "refine")})
    assert [(found.lower, found.upper) for found in study.agreements] == [
        ("screen", "refine"),
        ("screen", "confirm"),
        ("refine", "confirm"),
    ]
    assert (study.agreements[0].configurations, study.agreements[0].tau) == (both, None)
    assert (
        f" Ranks agreed, by Kendall's tau-b, screen with refine: too few to tell ({both} configurations on both, and "
        "it takes 8); screen with confirm: "
    ) in study.ended
    [entry] = ledger.read(shop.store, what="searched")
    assert entry.evidence["agreements"] == [dump(found) for found in study.agreements]


def test_a_short_search_tries_the_incumbent_and_its_sentinels_and_confirms_the_best(shop, retune, search, a_line):
    line = a_line(families=["markov"], space={"markov": {"steps": [2], "neighbours": [128]}})
    plan = retune(incumbent="markov", line=line, action=Action.SENTINELS, reason="a short look")
    study = search(plan, line)
    screened = [identity(trial.family, trial.configuration) for trial in of(study, "screen")]
    assert screened[0] == identity(plan.family, plan.configuration)
    assert screened[1:] == [identity(one.family, one.configuration) for one in plan.sentinels]
    assert of(study, "refine") == []
    best = max(of(study, "screen")[1:], key=lambda trial: trial.ndcg_at_10)
    own, finalist = of(study, "confirm")
    assert identity(own.family, own.configuration) == screened[0]
    assert finalist.configuration == best.configuration
    assert study.ended.startswith("Every listed trial has ended after ")
    candidate = tuning.choose(line, shop.store, plan, shop.studies)
    assert identity(candidate.family, candidate.configuration) in (screened[0], identity("markov", best.configuration))


def test_a_search_accounts_for_its_seconds_and_says_what_each_stage_found(shop, retune, search):
    plan = retune(incumbent="markov")
    study = search(plan)
    trials = Trials.load(plan, shop.studies).all()
    held_s = sum((t.datetime_complete - t.datetime_start).total_seconds() for t in trials)
    assert sum(part.seconds for part in study.spending) == pytest.approx(held_s, abs=0.01)
    assert {part.cause for part in study.spending} >= {"useful", "overhead"}
    assert study.reserved_s == plan.budget_s
    assert [part.stage for part in study.stages] == [*tuning.STAGES, "all"]
    assert all(part.gain >= 0 for part in study.stages)
    [entry] = ledger.read(shop.store, what="searched")
    assert sum(entry.evidence["spending"].values()) == pytest.approx(held_s, abs=0.01)
    assert entry.evidence["stages"][-1]["gain"] == study.stages[-1].gain
    [opened] = ledger.read(shop.store, what="opened")
    assert (opened.evidence["reserved_s"], opened.evidence["plan_id"]) == (300.0, plan.plan_id)


def test_every_trial_says_what_it_used_and_how_long_it_had_waited(shop, retune, search):
    study = search(retune(incumbent="markov"))
    assert all(trial.use is not None for trial in study.trials)
    trained = [trial for trial in study.trials if trial.units]
    assert all(trial.use.cpu_s > 0 and trial.use.rss_growth_mib >= 0 for trial in trained)
    if not torch.cuda.is_available():
        assert {(trial.use.gpu_s, trial.use.gpu_peak_mib) for trial in study.trials} == {(None, None)}
    screen = of(study, "screen")
    waited = [trial.use.waited_s for trial in screen]
    assert waited == sorted(waited)  # one worker took them in the order of their list
    assert waited[-1] >= sum(trial.seconds for trial in screen[:-1]) - 0.01


def test_a_plateau_ends_screening_and_the_finalists_are_confirmed_all_the_same(shop, retune, search, a_line):
    # Whatever is drawn comes out alike: the one parameter that is searched does next to nothing.
    line = a_line(
        families=["markov"],
        screen={"trials": 24, "share": 0.5, "epochs": 0.2},
        space={"markov": {"steps": [2], "neighbours": [128], "decay": [0.8], "smoothing": [20.0, 20.5]}},
    )
    study = search(retune(incumbent="markov", line=line), line)
    screened = of(study, "screen")
    assert 10 <= len(screened) < 24
    assert study.ended.startswith("Screening ended at a plateau after ")
    assert f"{len(screened)} of 24 in screen" in study.ended
    assert of(study, "confirm")


def test_a_study_is_worked_on_with_the_lines_evidence_read_once(shop, retune, a_line):
    line = a_line(warm=True)
    plan = retune(incumbent="markov", line=line)
    begin(shop, plan, line)
    reads = []

    class Counting(FileStore):
        def list(self, prefix=""):
            reads.append(prefix)
            return super().list(prefix)

    work(shop, plan, line=line, store=Counting(shop.folder / "shop" / "store"))
    assert reads.count("evidence/") == 1
