import time
from concurrent.futures import ThreadPoolExecutor

import optuna
import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from recsys.tuning.sampler import tpe
from recsys.tuning.trials import Attempt, Entry, Trials

FIRST = Attempt(run="monday", map_index=0, attempt=1)
OTHER = Attempt(run="monday", map_index=1, attempt=1)
SECOND = Attempt(run="monday", map_index=0, attempt=2)


@pytest.fixture(params=["journal", "sqlite"])
def studies(request, tmp_path) -> str:
    path = tmp_path / "below" / "studies"
    if request.param == "journal":
        return str(path)
    path.parent.mkdir()
    return f"sqlite:///{path}"


@pytest.fixture
def plan(a_plan):
    return a_plan()


def claim(trials, owner, stage="screen", fits=lambda _: True):
    return trials.claim(stage, owner, sampler=lambda: RandomSampler(seed=1), pruner=NopPruner(), fits=fits)


def entries(n, stage="screen"):
    return [
        Entry(name=f"{stage}-{number}", seed=number, family="f", configuration={"x": number}) for number in range(n)
    ]


def wait(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def states(trials):
    return [trial.state.name for trial in trials.all()]


def test_a_list_is_taken_in_its_order_each_trial_once_and_has_an_end(plan, studies):
    trials = Trials.create(plan, studies)
    trials.enter("screen", entries(3))
    trials.enter("screen", entries(4))  # the first three are there already
    taken = [claim(trials, FIRST), claim(trials, OTHER), claim(trials, FIRST), claim(trials, OTHER)]
    assert [trial.user_attrs["configuration"] for trial in taken] == [{"x": 0}, {"x": 1}, {"x": 2}, {"x": 3}]
    assert claim(trials, FIRST) is None
    assert len(trials.all()) == 4
    assert taken[1].user_attrs["owner"] == {"run": "monday", "map_index": 1, "attempt": 1}


def test_many_workers_at_once_never_take_the_same_trial(plan, tmp_path):
    studies = str(tmp_path / "journal")
    Trials.create(plan, studies).enter("screen", entries(12))

    def drain(worker):
        trials = Trials.load(plan, studies)
        owner = Attempt(run="monday", map_index=worker, attempt=1)
        return [trial.number for trial in iter(lambda: claim(trials, owner), None)]

    with ThreadPoolExecutor(4) as pool:
        taken = sorted(number for numbers in pool.map(drain, range(4)) for number in numbers)
    assert taken == list(range(12))


def test_only_the_own_stage_and_what_fits_is_taken(plan, studies):
    trials = Trials.create(plan, studies)
    trials.enter("screen", entries(2))
    trials.enter("refine", entries(2, "refine"))
    assert claim(trials, FIRST, fits=lambda waiting: waiting.user_attrs["configuration"]["x"] == 1).number == 1
    assert claim(trials, FIRST, fits=lambda waiting: False) is None
    assert claim(trials, FIRST, "refine").number == 2
    assert claim(trials, FIRST, "confirm") is None


def test_a_later_attempt_ends_what_an_earlier_one_left_and_takes_it_up_first(plan, studies):
    trials = Trials.create(plan, studies)
    trials.enter("screen", entries(3))
    left, of_another = claim(trials, FIRST), claim(trials, OTHER)
    left.suggest_float("lr", 0.0, 1.0)
    left.report(0.25, 1)

    later = Trials.load(plan, studies)
    assert later.supersede("screen", SECOND) == 1
    assert later.supersede("screen", SECOND) == 0
    assert states(later) == ["FAIL", "RUNNING", "WAITING", "WAITING"]
    assert later.all()[0].user_attrs["reason"] == "superseded by attempt 2, and its configuration taken up again"

    again = claim(later, SECOND)
    assert again.number == 3
    assert again.user_attrs["resumes"] == left.number
    assert again.user_attrs["configuration"] == {"x": 0}
    assert again.suggest_float("lr", 0.0, 1.0) == left.params["lr"]  # what had been drawn is not drawn anew
    assert later.all()[again.number].intermediate_values == {1: 0.25}  # what the pruner knew of it, it knows still
    trials.end(of_another, TrialState.COMPLETE, 0.5, {})


def test_another_task_or_another_stage_takes_nothing_away(plan, studies):
    trials = Trials.create(plan, studies)
    trials.enter("screen", entries(1))
    claim(trials, SECOND)
    for owner in (OTHER, FIRST, Attempt(run="tuesday", map_index=0, attempt=3)):
        assert trials.supersede("screen", owner) == 0
    assert trials.supersede("refine", Attempt(run="monday", map_index=0, attempt=3)) == 0
    assert states(trials) == ["RUNNING"]


def test_a_trial_whose_sampler_failed_belongs_to_who_took_it(plan, studies):
    trials = Trials.create(plan, studies)
    trials.enter("screen", entries(1))
    with pytest.raises(ZeroDivisionError):
        trials.claim("screen", FIRST, sampler=lambda: 1 / 0, pruner=NopPruner(), fits=lambda _: True)
    assert states(trials) == ["RUNNING"]
    assert trials.supersede("screen", Attempt(run="monday", map_index=1, attempt=2)) == 0
    assert trials.supersede("screen", SECOND) == 1
    assert claim(trials, SECOND).user_attrs["configuration"] == {"x": 0}


class DiesBeforeTheOwner:
    """A storage whose worker dies when it would say whose the trial is that it has just begun."""

    def __init__(self, storage):
        self._storage = storage

    def __getattr__(self, name):
        return getattr(self._storage, name)

    def set_trial_user_attr(self, trial_id, key, value):
        if key == "owner":
            raise KeyboardInterrupt
        self._storage.set_trial_user_attr(trial_id, key, value)


def test_a_worker_that_dies_between_beginning_a_trial_and_saying_so_has_it_taken_up_by_its_own_task(plan, studies):
    trials = Trials.create(plan, studies)
    trials.enter("screen", entries(2))
    dying = Trials.load(plan, studies)
    dying._storage = DiesBeforeTheOwner(dying._storage)
    with pytest.raises(KeyboardInterrupt):
        claim(dying, FIRST)
    assert "owner" not in trials.all()[0].user_attrs
    assert states(trials) == ["RUNNING", "WAITING"]
    assert trials.supersede("screen", OTHER) == 0
    assert trials.supersede("screen", SECOND) == 1
    assert claim(trials, SECOND).user_attrs["resumes"] == 0


def test_an_attempt_that_dies_while_taking_over_leaves_no_second_copy(plan, studies):
    trials = Trials.create(plan, studies)
    trials.enter("screen", entries(1))
    claim(trials, FIRST)
    trials._list_again(trials.all()[0])  # and here the second attempt died
    third = Attempt(run="monday", map_index=0, attempt=3)
    trials.supersede("screen", third)
    assert states(trials) == ["FAIL", "WAITING"]


def test_a_late_worker_can_write_nothing(plan, studies):
    trials = Trials.create(plan, studies)
    trials.enter("screen", entries(1))
    late = claim(trials, FIRST)
    Trials.load(plan, studies).supersede("screen", SECOND)
    for write in (
        lambda: late.report(0.1, 1),
        lambda: late.set_user_attr("epoch", 3),
        lambda: trials.end(late, TrialState.COMPLETE, 0.9, {}),
        lambda: trials.end(late, TrialState.COMPLETE, 0.9, {"size_mib": 1.0}),
    ):
        with pytest.raises(UpdateFinishedTrialError):
            write()
    [found] = [result for result in trials.results() if result.number == late.number]
    assert (found.state, found.ndcg_at_10) == ("fail", None)


def test_a_stage_that_ends_leaves_nothing_running_or_waiting(plan, studies):
    trials = Trials.create(plan, studies)
    trials.enter("screen", entries(3))
    ended = claim(trials, FIRST)
    trials.end(ended, TrialState.COMPLETE, 0.25, {"seconds": {"training": 2.0, "evaluation": 0.5}})
    claim(trials, OTHER)
    trials.end_stage("screen", because="the stage refine began")
    assert states(trials) == ["COMPLETE", "FAIL", "FAIL"]
    done, lost = trials.results()  # what was never begun is no result
    assert (done.ndcg_at_10, done.seconds, done.configuration) == (0.25, 2.5, {"x": 0})
    assert (lost.number, lost.reason) == (1, "its worker was lost before the stage refine began")


def test_progress_counts_a_resumed_trial_once(plan, studies):
    trials = Trials.create(plan, studies)
    trials.enter("screen", entries(3))
    claim(trials, FIRST)
    trials.end(claim(trials, OTHER), TrialState.COMPLETE, 0.25, {})
    trials.supersede("screen", SECOND)
    [screen] = trials.progress()
    assert (screen.stage, screen.listed, screen.running, screen.ended) == ("screen", 3, 0, 1)
    trials.end(claim(trials, SECOND), TrialState.COMPLETE, 0.5, {})
    claim(trials, SECOND)
    [screen] = trials.progress()
    assert (screen.listed, screen.running, screen.ended, screen.best_ndcg_at_10) == (3, 1, 2, 0.5)


def test_seconds_count_while_a_trial_runs_and_up_to_the_last_sign_of_a_lost_one(plan, studies):
    trials = Trials.create(plan, studies)
    trials.enter("screen", entries(3))
    assert trials.spent_s == 0  # nobody has begun
    first, *_ = claim(trials, FIRST), claim(trials, FIRST), claim(trials, OTHER)
    wait(0.2)
    trials.end(first, TrialState.COMPLETE, 0.1, {})
    running = trials.spent_s
    assert 0.2 <= running < 60  # both at once count once
    trials.take_back("screen", because="a test asks for it")  # neither gave a sign of life
    spent = trials.spent_s
    assert 0.2 <= spent <= running
    wait(0.05)
    assert trials.spent_s == spent


def test_opening_again_keeps_the_trials_and_begins_a_new_budget_but_not_a_new_account(plan, studies):
    trials = Trials.create(plan, studies)
    trials.enter("screen", entries(2))
    ended = claim(trials, FIRST)
    wait(0.01)
    trials.end(ended, TrialState.COMPLETE, 0.1, {})
    spent = trials.spent_s
    assert spent >= 0.01
    assert trials.taken_s == pytest.approx(spent, abs=0.005)
    again = Trials.create(plan, studies)
    assert again.spent_s == 0
    assert again.taken_s >= spent
    assert len(again.all()) == 2


def test_a_study_that_was_never_opened_is_refused(plan, studies):
    with pytest.raises(ValueError, match="The study r20260126-00000000 must be opened first"):
        Trials.load(plan, studies)


def test_a_worker_that_starts_again_does_not_draw_the_same_once_more(a_plan, tmp_path):
    def draw(studies, owners, plan_id="r20260126-00000000"):
        plan = a_plan(plan_id=plan_id)
        trials = Trials.create(plan, studies)
        trials.enter("screen", [Entry(name=f"screen-{n}", seed=0) for n in range(len(owners))])
        drawn = []
        for owner in owners:
            trial = trials.claim(
                "screen",
                owner,
                sampler=lambda owner=owner: tpe(trials, plan, owner, n_startup=4),
                pruner=NopPruner(),
                fits=lambda _: True,
            )
            drawn.append(trial.suggest_float("x", 0, 1))
            trials.end(trial, TrialState.COMPLETE, drawn[-1], {})
        return drawn

    steady = draw(str(tmp_path / "a"), [FIRST] * 6)
    assert len(set(steady)) == 6
    assert draw(str(tmp_path / "b"), [FIRST] * 3 + [SECOND] * 3) == steady
    assert draw(str(tmp_path / "c"), [FIRST] * 3 + [OTHER] * 3)[:4] != steady[:4]
    another = draw(str(tmp_path / "d"), [FIRST] * 6, "r20260202-00000000")
    assert set(another).isdisjoint(steady)  # although the line, and with it the seed, is the same


def test_optunas_lines_go_where_ours_go(plan, tmp_path, caplog, capfd):
    caplog.set_level("INFO")
    Trials.create(plan, str(tmp_path / "journal"))
    assert "A new study created" in caplog.text
    assert capfd.readouterr().err == ""
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
