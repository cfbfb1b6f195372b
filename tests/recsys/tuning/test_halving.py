import pytest
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from recsys.models import FAMILIES
from recsys.records import TrialResult
from recsys.tuning.halving import promote, sources
from recsys.tuning.promotion import due
from recsys.tuning.trials import Attempt, Entry, Trials

FIRST, OTHER = (Attempt(run="monday", map_index=index, attempt=1) for index in (0, 1))


def markov(decay):
    return {"epochs": 0, "steps": 2, "decay": decay, "smoothing": 20.0, "neighbours": 128}


def tower(lr):
    return {"epochs": 10, "lr": lr}


@pytest.fixture
def line(a_line):
    """Six challengers are screened, two of them refined, one confirmed: of three, and then of two, one goes up."""
    return a_line(screen={"trials": 7, "share": 0.5}, refine={"trials": 2}, confirm={"trials": 1, "seeds": 2})


@pytest.fixture
def study(line, a_plan, tmp_path):
    return Study(line, a_plan(family="markov", configuration=markov(0.5)), str(tmp_path / "journal"))


class Study:
    """Trials of Markov models that end as a test says, each known by its decay."""

    def __init__(self, line, plan, studies):
        self.line, self.plan = line, plan
        self.trials = Trials.create(plan, studies)

    def enter(self, stage, *decays, block=""):
        entries = [
            Entry(name=f"{stage} {d}", seed=7, family="markov", configuration=markov(d), block=block) for d in decays
        ]
        self.trials.enter(stage, entries)

    def claim(self, stage, owner=FIRST):
        return self.trials.claim(
            stage, owner, sampler=lambda: RandomSampler(seed=1), pruner=NopPruner(), fits=lambda _: True
        )

    def end(self, stage, decay, ndcg, state=TrialState.COMPLETE):
        if f"{stage} {decay}" not in {trial.user_attrs["entry"] for trial in self.trials.all()}:
            self.enter(stage, decay)
        self.trials.end(self.claim(stage), state, ndcg, {})

    def due(self, stage):
        return [entry.configuration["decay"] for entry in due(self.line, self.plan, stage, self.trials.settled())]

    def promote(self):
        promote(self.line, self.plan, "screen", self.trials)

    def listed(self, stage):
        return [trial.user_attrs["configuration"]["decay"] for trial in self.trials.of(stage)]


def test_a_block_beside_what_is_screened_leaves_as_many_to_be_promoted(study):
    study.enter("screen", 0.1, 0.2, 0.3, 0.4, block="run")
    for decay, ndcg in ((0.1, 0.01), (0.2, 0.02), (0.3, 0.03), (0.4, 0.04), (0.5, 0.2)):
        study.end("screen", decay, ndcg)
    assert study.due("refine") == []  # four of ten challengers have ended, and it takes five for one of two to go up
    for decay, ndcg in ((0.6, 0.3), (0.7, 0.4), (0.8, 0.1), (0.9, 0.6), (0.91, 0.5), (0.92, 0.05)):
        study.end("screen", decay, ndcg)
    assert study.due("refine") == [0.5, 0.9, 0.91]


def test_of_three_that_have_ended_the_best_is_due_and_the_incumbent_before_it(study):
    for decay, ndcg in ((0.5, 0.2), (0.6, 0.3), (0.7, 0.4)):
        study.end("screen", decay, ndcg)
    assert study.due("refine") == []  # two challengers have ended
    study.end("screen", 0.8, 0.1)
    assert study.due("refine") == [0.5, 0.7]
    study.end("screen", 0.9, 0.6)
    study.end("screen", 0.91, 0.5)
    assert study.due("refine") == [0.5, 0.9]  # one that went up before stays where it is
    study.end("screen", 0.92, 0.05)
    assert study.due("refine") == [0.5, 0.9, 0.91]


def test_the_incumbent_is_confirmed_as_soon_as_it_is_screened(study):
    study.end("screen", 0.6, 0.3)
    assert study.due("confirm") == []
    study.end("screen", 0.5, 0.2)
    assert (study.due("refine"), study.due("confirm")) == ([], [0.5])
    promote(study.line, study.plan, "screen", study.trials, at_once=[])  # there is no time for that
    assert study.listed("confirm") == []
    study.promote()
    study.promote()
    assert study.listed("confirm") == [0.5]


def test_the_incumbents_control_and_later_seeds_wait_until_a_challenger_goes_up(line, a_plan):
    own, control = {**FAMILIES["two_tower"].defaults, "start": "incumbent"}, FAMILIES["two_tower"].defaults
    plan = a_plan(family="two_tower", configuration=own, control=control)
    reached = [
        TrialResult(
            number=number,
            stage="screen",
            state="complete",
            family="two_tower",
            configuration=configuration,
            seed=7,
            ndcg_at_10=0.1,
            seconds=1.0,
        )
        for number, configuration in enumerate([control, own])
    ]
    [first] = due(line, plan, "confirm", reached)
    assert (first.configuration, first.seed, first.incumbent) == (own, plan.seed, True)


def test_the_incumbents_brief_training_from_its_weights_is_due_before_anything_has_ended(line, a_plan):
    own, brief = ({**FAMILIES["two_tower"].defaults, "epochs": n, "start": "incumbent"} for n in (20, 5))
    plan = a_plan(family="two_tower", configuration=own, control={**own, "start": "cold"}, brief=brief)
    assert due(line, plan, "refine", []) == []
    [first] = due(line, plan, "confirm", [])
    assert (first.configuration, first.seed, first.incumbent) == (brief, plan.seed, True)
    assert due(line, plan, "confirm", [], at_once=[own]) == []  # there is no time for it


def test_what_was_pruned_has_ended_and_what_was_lost_has_not(study):
    study.end("screen", 0.5, 0.2)
    study.end("screen", 0.6, 0.3)
    study.end("screen", 0.7, 0.9, TrialState.PRUNED)
    study.enter("screen", 0.8)
    study.claim("screen")
    study.trials.take_back("screen", because="a test asks for it")
    assert study.due("refine") == []
    study.end("screen", 0.8, 0.25)  # which takes it up again
    assert study.due("refine") == [0.5, 0.6]


def test_nothing_is_due_before_the_end_where_more_than_half_goes_up(study, a_line):
    study.line = a_line(screen={"trials": 6, "share": 0.5}, refine={"trials": 3}, confirm={"trials": 2})
    for decay in (0.5, 0.6, 0.7, 0.8, 0.9):
        study.end("screen", decay, decay)
    assert study.due("refine") == []


def test_a_configuration_is_promoted_once(study):
    for decay in (0.5, 0.6, 0.7, 0.8):
        study.end("screen", decay, decay)
    study.promote()
    study.promote()
    assert study.listed("refine") == [0.5, 0.8]
    study.end("screen", 0.9, 0.1)
    study.promote()
    assert study.listed("refine") == [0.5, 0.8]
    study.end("screen", 0.91, 0.95)
    study.promote()
    assert study.listed("refine") == [0.5, 0.8, 0.91]  # of five that have ended, the best one


class Behind(Trials):
    """Trials of which a worker has not yet seen any."""

    def all(self):
        return []


def test_what_two_workers_list_at_once_is_tried_once(study):
    entry = Entry(name="the same", seed=7, family="markov", configuration=markov(0.5))
    for worker in (study.trials, Behind(study.trials._study)):
        worker.enter("refine", [entry])
    assert len(study.trials.all()) == 2
    assert study.claim("refine").number == 0
    assert study.claim("refine", OTHER) is None
    study.trials.take_back("refine", because="a test asks for it")
    assert study.claim("refine").number == 2  # what takes it up again is no copy
    [progress] = study.trials.progress()
    assert (progress.listed, progress.running) == (1, 1)
    study.trials.end_stage("refine", because="a test asks for it")
    assert {trial.state for trial in study.trials.all()} == {TrialState.FAIL}
    assert [result.number for result in study.trials.results()] == [0, 2]


def test_a_worker_takes_from_the_highest_rung_first_until_its_own_stage_has_ended(study):
    always, never = (lambda *_: True), (lambda *_: False)
    assert sources("screen", study.trials, always) == ()
    study.enter("screen", 0.5)
    assert sources("screen", study.trials, always) == ("confirm", "refine", "screen")
    assert sources("refine", study.trials, always) == ()
    assert sources("screen", study.trials, never) == ()  # what waits would not end in time
    claimed = study.claim("screen")
    assert sources("screen", study.trials, never) == ("confirm", "refine", "screen")  # another worker runs it
    study.trials.end(claimed, TrialState.COMPLETE, 0.1, {})
    assert sources("screen", study.trials, always) == ()


def test_the_sampler_and_the_pruner_of_a_stage_see_its_trials_alone(study):
    study.end("screen", 0.5, 0.2)
    study.end("refine", 0.5, 0.9)
    study.enter("screen", 0.6)
    seen = study.claim("screen").study
    assert [trial.value for trial in seen.get_trials(states=[TrialState.COMPLETE])] == [0.2]
    assert [trial.value for trial in seen._get_trials(use_cache=True)] == [0.2, None]


def test_every_configuration_gets_the_first_seed_before_any_gets_the_second(study):
    entries = [
        Entry(name=f"{lr} {seed}", seed=seed, family="two_tower", configuration=tower(lr))
        for lr in (0.1, 0.2)
        for seed in (7, 8)
    ]
    study.trials.enter("confirm", entries)
    taken = [study.claim("confirm").user_attrs for _ in entries]
    assert [(t["seed"], t["configuration"]["lr"]) for t in taken] == [(7, 0.1), (7, 0.2), (8, 0.1), (8, 0.2)]


def test_a_search_refines_what_is_due_before_it_has_screened_everything(shop, retune, search, line):
    plan = retune(incumbent="markov", line=line)
    study = search(plan, line)
    begun = sorted(Trials.load(plan, shop.studies).all(), key=lambda trial: trial.datetime_start)
    order = [trial.user_attrs["stage"] for trial in begun]
    assert order.index("refine") < len(order) - 1 - order[::-1].index("screen")
    assert "7 of 7 in screen" in study.ended
    listed = [trial.user_attrs["entry"] for trial in begun]
    assert len(set(listed)) == len(listed)
