from dataclasses import replace
from threading import Barrier

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from recsys.tuning.encoding import Encoding
from recsys.tuning.evidence import PastStudy, PastTrial, standardised
from recsys.tuning.observations import PROPOSAL
from recsys.tuning.surrogate import Belief, Past
from recsys.tuning.warm import EXPECTED, WarmSampler, gather, promise

SPACE = {
    "kind": CategoricalDistribution(["flat", "deep"]),
    "lr": FloatDistribution(0.001, 1.0, log=True),
    "layers": IntDistribution(1, 9),
    "idle": FloatDistribution(0, 1),
}
CONDITIONS = {"layers": ("kind", "deep")}


def quality(parameters, shift=0.0):
    """Best at lr = 0.03 (times 10^shift), deep, 4 layers: 1.0."""
    apart = np.log10(parameters["lr"]) - np.log10(0.03) - shift
    deep = 0.3 - 0.02 * (parameters["layers"] - 4) ** 2 if parameters["kind"] == "deep" else 0.0
    return 0.7 - 0.3 * apart**2 + deep


def suggest(trial):
    kind = trial.suggest_categorical("kind", ["flat", "deep"])
    found = {"kind": kind, "lr": trial.suggest_float("lr", 0.001, 1.0, log=True)}
    if kind == "deep":
        found["layers"] = trial.suggest_int("layers", 1, 9)
    return {**found, "idle": trial.suggest_float("idle", 0, 1)}


def past(n=40, *, seed=0, sign=1.0, name="before"):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    drawn = [suggest(study.ask()) for _ in range(n)]
    return PastStudy(name=name, trials=tuple(PastTrial(parameters=p, value=sign * quality(p)) for p in drawn))


def run(sampler, n, objective=quality, direction="maximize"):
    study = optuna.create_study(direction=direction, sampler=sampler)
    study.optimize(lambda trial: objective(suggest(trial)), n_trials=n)
    return [trial.value for trial in study.trials]


def sampler(*studies, seed=0):
    return WarmSampler(studies, space=SPACE, conditions=CONDITIONS, seed=seed)


def test_the_first_proposal_is_already_near_the_best_that_the_past_points_to():
    first = [run(sampler(past(seed=seed), seed=seed), 1)[0] for seed in range(5)]
    assert min(first) > 0.9


def test_a_past_that_is_upside_down_is_found_out_and_costs_little():
    known = sampler(past(sign=-1.0))
    values = run(known, 25)
    assert known.correlation < 0.3
    assert max(values) > 0.97


def test_a_past_that_predicts_keeps_its_weight():
    known = sampler(past())
    run(known, 10)
    assert known.correlation > 0.5


@pytest.mark.parametrize(("correlation", "tried_first"), [(0.9, 0), (0.3, 1)])
def test_what_a_past_that_predicts_expects_comes_before_what_nobody_knows(correlation, tried_first):
    belief = Belief(
        weights=np.ones(1),
        correlations=np.array([correlation]),
        means=np.array([[0.9, 0.4]]),
        deviations=np.array([[0.1, 1.7]]),
    )
    some = Past(np.zeros((1, 1)), np.zeros(1), np.zeros(1, int), np.ones(1), np.array([False]), 1.0)
    assert np.argmax(promise(belief, np.array([0.5]), some)) == tried_first
    assert np.argmax(promise(belief, np.array([0.5]), None)) == 1


def test_of_a_long_past_the_searches_that_are_doubted_least_are_learned_from_whole(caplog):
    encoding = Encoding(SPACE, CONDITIONS)
    studies = [
        replace(past(n, seed=seed), name=str(seed), doubt=doubt)
        for seed, (n, doubt) in enumerate(((400, 1.0), (1200, 2.0), (300, 4.0), (300, 3.0)))
    ]
    with caplog.at_level("INFO", logger="recsys.tuning.warm"):
        found = gather(encoding, studies)
    assert np.bincount(found.searches).tolist() == [400, 500, 300, 300]
    assert "500 of 1200 trials of 1 are learned from" in caplog.text
    # Of the search that is thinned out, what each trial is worth is told from all of it, and the best are there.
    assert set(found.values[found.searches == 1]) <= set(standardised(studies[1].trials))
    assert found.values[found.searches == 1].max() == standardised(studies[1].trials).max()
    assert sorted(np.sort(found.values[found.searches == 1])[-250:]) == sorted(
        np.sort(standardised(studies[1].trials))[-250:]
    )


def test_a_past_that_is_short_enough_is_learned_from_as_it_is():
    encoding, studies = Encoding(SPACE, CONDITIONS), [past(12, seed=0), past(20, seed=1)]
    found = gather(encoding, studies)
    np.testing.assert_array_equal(found.values, np.concatenate([standardised(study.trials) for study in studies]))
    points = [encoding.points([trial.parameters for trial in study.trials]) for study in studies]
    np.testing.assert_array_equal(found.points, np.concatenate(points))


def test_one_search_that_is_too_long_by_itself_is_thinned_out():
    found = gather(Encoding(SPACE, CONDITIONS), [past(1600)])
    assert len(found.values) == 1500


def test_a_trial_that_ran_out_of_time_says_as_little_as_one_whose_worker_was_lost():
    def fifth(**ending):
        asked = WarmSampler(space=SPACE, conditions=CONDITIONS, start=2)
        study = optuna.create_study(direction="maximize", sampler=asked)
        study.optimize(lambda trial: quality(suggest(trial)), n_trials=3)
        study.add_trial(
            optuna.trial.create_trial(
                params={"kind": "flat", "lr": 0.03, "idle": 0.5},
                distributions={name: SPACE[name] for name in ("kind", "lr", "idle")},
                **ending,
            )
        )
        return suggest(study.ask())

    pruned = {"state": TrialState.PRUNED, "intermediate_values": {1: 9.0}}
    lost = fifth(state=TrialState.FAIL, user_attrs={"lost": True})
    assert fifth(**pruned, user_attrs={"out_of_time": True}) == lost
    assert fifth(**pruned) != lost


def test_without_a_past_it_is_a_search_of_its_own():
    found = [max(run(sampler(seed=seed), 30)) for seed in range(3)]
    random = [max(run(optuna.samplers.RandomSampler(seed=seed), 30)) for seed in range(3)]
    assert np.mean(found) > np.mean(random)
    assert min(found) > 0.97


def test_the_same_seed_past_and_trials_give_the_same_proposals():
    assert run(sampler(past()), 8) == run(sampler(past()), 8)
    assert run(sampler(seed=1), 8) != run(sampler(seed=2), 8)


def test_what_is_minimised_is_searched_downwards():
    assert min(run(sampler(), 30, lambda p: -quality(p), "minimize")) < -0.97


def test_trials_under_way_keep_others_from_proposing_the_same():
    study = optuna.create_study(direction="maximize", sampler=sampler(past()))
    asked = [suggest(study.ask()) for _ in range(4)]
    assert len({tuple(sorted(parameters.items())) for parameters in asked}) == 4


def test_trials_that_have_not_taken_up_all_of_their_proposals_keep_others_from_the_same():
    allowed = [{"kind": "flat", "lr": 0.001 * n, "idle": 0.5} for n in range(1, 5)]
    asked = WarmSampler(space=SPACE, conditions=CONDITIONS, candidates=allowed)
    study = optuna.create_study(direction="maximize", sampler=asked)
    begun = [study.ask() for _ in range(4)]
    for trial in begun:
        trial.suggest_categorical("kind", ["flat", "deep"])
    assert sorted(suggest(trial)["lr"] for trial in begun) == [one["lr"] for one in allowed]


def test_threads_that_ask_at_the_same_moment_are_given_different_points():
    together = Barrier(4)

    def objective(trial):
        together.wait()
        return quality(suggest(trial))

    for studies in ((), (past(),)):
        allowed = [{"kind": "flat", "lr": 0.001 * n, "idle": 0.5} for n in range(1, 13)]
        asked = WarmSampler(studies, space=SPACE, conditions=CONDITIONS, candidates=allowed, start=4)
        study = optuna.create_study(direction="maximize", sampler=asked)
        study.optimize(objective, n_trials=12, n_jobs=4)
        assert len({trial.params["lr"] for trial in study.trials}) == 12


class Simultaneous(optuna.storages.InMemoryStorage):
    """A storage in which an earlier trial is given the same proposal just before the second one's is stored."""

    def set_trial_system_attr(self, trial_id, key, value):
        if key == PROPOSAL and trial_id == 1 and PROPOSAL not in self.get_trial(0).system_attrs:
            super().set_trial_system_attr(0, key, value)
        super().set_trial_system_attr(trial_id, key, value)


def test_of_two_that_store_the_same_proposal_at_once_the_later_trial_takes_another():
    def second(storage):
        study = optuna.create_study(direction="maximize", sampler=sampler(past()), storage=storage)
        study.ask()
        return study, suggest(study.ask())

    _, wanted = second(optuna.storages.InMemoryStorage())
    study, taken = second(Simultaneous())
    assert study.trials[0].system_attrs[PROPOSAL] == wanted
    assert taken == study.trials[1].system_attrs[PROPOSAL] != wanted
    assert quality(taken) > 0.8


def test_what_is_expected_is_expected_of_what_is_run():
    """Half of the trial is enqueued, and not what the past would have proposed."""
    known = past()
    study = optuna.create_study(direction="maximize", sampler=sampler(known))
    study.enqueue_trial({"kind": "flat", "lr": 0.9})
    suggest(study.ask())
    [trial] = study.trials
    encoding = Encoding(SPACE, CONDITIONS)
    model = gather(encoding, [known]).model
    assert trial.params["kind"] == "flat"
    assert trial.params["lr"] == 0.9
    assert trial.system_attrs[EXPECTED] == pytest.approx(float(model.expected(encoding.points([trial.params]))[0]))
    assert trial.system_attrs[PROPOSAL] == trial.params


def test_what_a_trial_leaves_open_is_proposed_for_what_it_was_given():
    """Of the family that was given, the past knows what is best, though it would have proposed the other one."""
    study = optuna.create_study(direction="maximize", sampler=sampler(past()))
    study.enqueue_trial({"kind": "flat"})
    assert abs(np.log10(suggest(study.ask())["lr"]) - np.log10(0.03)) < 0.5
    allowed = [{"kind": "deep", "lr": 0.03, "layers": 4, "idle": 0.5}, {"kind": "flat", "lr": 0.5, "idle": 0.5}]
    chosen = WarmSampler([past()], space=SPACE, conditions=CONDITIONS, candidates=allowed)
    study = optuna.create_study(direction="maximize", sampler=chosen)
    study.enqueue_trial({"kind": "flat"})
    study.enqueue_trial({"idle": 0.25})
    assert suggest(study.ask()) == allowed[1]
    assert suggest(study.ask()) == pytest.approx({**allowed[0], "idle": 0.25})


def test_of_a_trial_that_was_given_whole_nothing_is_expected():
    study = optuna.create_study(direction="maximize", sampler=sampler(past()))
    study.enqueue_trial({"kind": "flat", "lr": 0.9, "idle": 0.1})
    trial = study.ask()
    suggest(trial)
    trial.suggest_float("of no space", 0, 1)
    assert EXPECTED not in study.trials[0].system_attrs


def test_a_settled_parameter_that_trials_do_not_have_keeps_none_from_being_known():
    settled = {"idle": (SPACE["idle"], 0.5)}
    space = {"kind": CategoricalDistribution(["flat"]), "lr": FloatDistribution(0.1, 0.3, step=0.1)}
    study = optuna.create_study(direction="maximize", sampler=WarmSampler([past()], space=space, settled=settled))
    rates = [study.ask(space).params["lr"] for _ in range(3)]
    assert sorted(rates) == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize("state", ["failed", "infeasible"])
def test_what_could_not_be_run_is_not_proposed_again(state):
    def objective(trial):
        found = suggest(trial)
        if found["kind"] == "deep":
            if state == "failed":
                raise RuntimeError("it diverged")
            trial.set_constraint("size", 1.0)
        return quality(found)

    study = optuna.create_study(direction="maximize", sampler=sampler())
    study.optimize(objective, n_trials=24, catch=RuntimeError)
    late = [trial.params["kind"] for trial in study.trials[12:]]
    assert late.count("flat") >= 9


@pytest.mark.parametrize(
    "ending",
    [
        {"state": TrialState.PRUNED, "intermediate_values": {1: 0.5, 2: float("nan")}},
        {"state": TrialState.COMPLETE, "value": float("-inf")},
        {"state": TrialState.COMPLETE, "value": float("inf")},
        {"state": TrialState.COMPLETE, "value": -1.7e308},
    ],
)
def test_a_value_that_is_not_finite_tells_what_a_failure_does(ending):
    def eighth(**ending):
        study = optuna.create_study(direction="maximize", sampler=sampler(past()))
        study.optimize(lambda trial: quality(suggest(trial)), n_trials=6)
        params = {"kind": "flat", "lr": 0.03, "idle": 0.5}
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions={name: SPACE[name] for name in params}, **ending)
        )
        return suggest(study.ask()), study.sampler.correlation

    assert eighth(**ending) == eighth(state=TrialState.FAIL)
    assert eighth(**ending)[1] > 0.5


def test_a_past_in_which_values_are_not_finite_is_still_of_use():
    known = past()
    strange = tuple(
        PastTrial(parameters=known.trials[n].parameters, value=float(v)) for n, v in enumerate(["nan", "-inf"])
    )
    asked = sampler(replace(known, trials=known.trials[3:] + strange))
    assert run(asked, 1)[0] > 0.9
    assert asked.correlation > 0.5


def test_a_choice_that_nothing_can_be_computed_of_is_drawn_and_said_to_be(caplog):
    tiny = tuple(replace(trial, value=1e-250 * trial.value) for trial in past().trials)
    study = optuna.create_study(direction="maximize", sampler=sampler(PastStudy(name="before", trials=tiny)))
    study.optimize(lambda trial: 1e90 * quality(suggest(trial)), n_trials=6)
    said = [record for record in caplog.records if record.name == "recsys.tuning.warm"]
    assert said[-1].levelname == "ERROR"
    assert f"trial 5 of {study.study_name} is drawn at random: what is believed of it is not finite" in said[-1].message
    assert len({trial.params["lr"] for trial in study.trials}) == 6


def test_a_past_with_other_choices_and_a_wider_range_is_still_of_use():
    trials = tuple(
        PastTrial(
            parameters={**t.parameters, "kind": "wide" if t.parameters["kind"] == "flat" else "deep"}, value=t.value
        )
        for t in past().trials
    )
    narrow = {**SPACE, "lr": FloatDistribution(0.01, 0.1, log=True)}
    asked = WarmSampler([PastStudy(name="before", trials=trials)], space=narrow, conditions=CONDITIONS)
    study = optuna.create_study(direction="maximize", sampler=asked)

    study.optimize(lambda trial: quality(_narrow(trial)), n_trials=3)
    assert study.best_value > 0.95


def _narrow(trial):
    kind = trial.suggest_categorical("kind", ["flat", "deep"])
    found = {"kind": kind, "lr": trial.suggest_float("lr", 0.01, 0.1, log=True)}
    if kind == "deep":
        found["layers"] = trial.suggest_int("layers", 1, 9)
    return {**found, "idle": trial.suggest_float("idle", 0, 1)}


def test_a_study_of_several_objectives_is_refused():
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler())
    with pytest.raises(ValueError, match="takes studies of one objective, but this one has 2"):
        study.ask(dict(SPACE))


def test_a_study_without_a_given_space_is_searched_where_its_trials_were():
    study = optuna.create_study(direction="maximize", sampler=WarmSampler(seed=3))
    study.optimize(lambda trial: -((trial.suggest_float("x", -1, 1) - 0.3) ** 2), n_trials=20)
    assert study.best_params["x"] == pytest.approx(0.3, abs=0.05)


def test_workers_of_one_seed_draw_each_trial_alike_and_no_two_trials_the_same():
    def drawn(workers, name):
        """Draw six trials, each by the next of several workers, without a space."""
        storage = optuna.storages.InMemoryStorage()
        optuna.create_study(study_name=name, storage=storage)
        loaded = [
            optuna.load_study(study_name=name, storage=storage, sampler=WarmSampler(seed=4)) for _ in range(workers)
        ]
        trials = [loaded[number % workers].ask() for number in range(6)]
        return [(trial.suggest_float("x", -1, 1), trial.suggest_float("y", -1, 1)) for trial in trials]

    alone = drawn(1, "alone")
    assert drawn(2, "two") == drawn(6, "begun anew each time") == alone
    assert len({number for pair in alone for number in pair}) == 12


def test_a_past_that_cannot_be_used_yet_is_said_once(caplog):
    study = optuna.create_study(direction="maximize", sampler=WarmSampler([past()], seed=3))
    study.optimize(lambda trial: quality(suggest(trial)), n_trials=4)
    said = [record.message for record in caplog.records if record.name == "recsys.tuning.warm"]
    assert said == ["no space is given, so the past is not used before a trial is complete"]
    assert study.sampler.correlation is not None


def test_a_past_of_other_parameters_is_said_to_be_of_no_use_once_and_left_alone(caplog):
    space = {"x": FloatDistribution(-1, 1), "y": FloatDistribution(-1, 1)}
    known = WarmSampler([past()], space=space)

    def objective(trial):
        return -((trial.suggest_float("x", -1, 1) - 0.3) ** 2) - trial.suggest_float("y", -1, 1) ** 2

    study = optuna.create_study(direction="maximize", sampler=known)
    study.optimize(objective, n_trials=8)
    assert [record.message for record in caplog.records if record.name == "recsys.tuning.warm"] == [
        "nothing of the past is used: it tried idle, kind, layers, lr, and what is searched is x, y"
    ]
    assert known.correlation is None


def test_a_parameter_listed_before_the_one_it_hangs_on_is_proposed_all_the_same():
    turned = dict(reversed(SPACE.items()))
    asked = WarmSampler([past()], space=turned, conditions=CONDITIONS)
    study = optuna.create_study(direction="maximize", sampler=asked)
    proposed = study.sampler.sample_relative(study, study.ask()._cached_frozen_trial, turned)
    assert proposed["kind"] == "deep"
    assert abs(proposed["layers"] - 4) <= 2


def test_where_only_some_configurations_may_be_proposed_each_is_proposed_once():
    allowed = [
        {"kind": kind, "lr": lr, "idle": 0.5} | ({"layers": 4} if kind == "deep" else {})
        for kind in ("flat", "deep")
        for lr in (0.003, 0.03, 0.5)
    ]
    for studies in ((), (past(),)):
        chosen = WarmSampler(studies, space=SPACE, conditions=CONDITIONS, candidates=allowed, start=2, seed=0)
        study = optuna.create_study(direction="maximize", sampler=chosen)
        study.optimize(lambda trial: quality(suggest(trial)), n_trials=6)
        tried = sorted((t.params["kind"], t.params["lr"]) for t in study.trials)
        assert tried == sorted((one["kind"], one["lr"]) for one in allowed)


def test_a_kind_of_model_that_began_badly_is_still_tried():
    """Deep is best, but only at 4 of 9 layers and a narrow range of rates; all of flat is well above most of deep."""

    def trap(parameters):
        if parameters["kind"] == "flat":
            return 0.5 - 0.01 * abs(np.log10(parameters["lr"]) + 1)
        return 0.9 - 0.1 * abs(parameters["layers"] - 4) - 0.5 * abs(np.log10(parameters["lr"]) + 1.5)

    for seed in range(3):
        study = optuna.create_study(direction="maximize", sampler=sampler(seed=seed))
        study.optimize(lambda trial: trap(suggest(trial)), n_trials=40)
        kinds = [trial.params["kind"] for trial in study.trials]
        assert min(kinds.count("flat"), kinds.count("deep")) >= 8
        assert study.best_value > 0.8


def test_where_a_range_becomes_a_list_the_past_still_says_which_of_it_are_good():
    values = np.linspace(0.001, 1.0, 30)
    told = PastStudy(
        name="before", trials=tuple(PastTrial(parameters={"x": x}, value=-abs(float(x) - 0.7)) for x in values)
    )
    listed = {"x": CategoricalDistribution([0.1, 0.4, 0.72, 0.95])}
    asked = WarmSampler([told], space=listed, scales={"x": FloatDistribution(0.0, 1.0)})
    study = optuna.create_study(direction="maximize", sampler=asked)
    assert study.ask().suggest_categorical("x", listed["x"].choices) == 0.72
