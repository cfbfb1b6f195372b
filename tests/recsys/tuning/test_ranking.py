from recsys.records import TrialResult
from recsys.settings import Stage
from recsys.tuning.promotion import contenders, promoted
from recsys.tuning.ranking import rank

A, B, C, OWN = ({"epochs": 1, "x": x} for x in "abco")


def trial(number, configuration, ndcg, *, stage="confirm", state="complete", seed=0):
    return TrialResult(
        number=number,
        stage=stage,
        state=state,
        family="f",
        configuration=configuration,
        seed=seed,
        ndcg_at_10=ndcg,
        seconds=1.0,
    )


def configurations(standings):
    return [standing.configuration for standing in standings]


def test_configurations_are_ranked_by_the_mean_over_their_seeds():
    found = rank([trial(0, A, 0.30), trial(1, B, 0.20), trial(2, B, 0.42, seed=1)], "confirm")
    assert [(s.configuration, s.ndcg_at_10, s.seeds, s.first) for s in found] == [(B, 0.31, 2, 1), (A, 0.30, 1, 0)]


def test_only_complete_trials_of_the_stage_count_and_the_earlier_of_equals_comes_first():
    trials = [
        trial(0, C, 0.9, stage="refine"),
        trial(1, B, 0.9, state="pruned"),
        trial(2, A, 0.3),
        trial(3, B, 0.3),
    ]
    assert configurations(rank(trials, "confirm")) == [A, B]


def test_the_last_stage_with_a_complete_challenger_is_what_counts(a_plan):
    plan = a_plan(family="f", configuration=OWN)
    trials = [trial(0, OWN, 0.2, stage="screen"), trial(1, A, 0.3, stage="screen"), trial(2, B, 0.4, stage="screen")]
    assert configurations(contenders(plan, trials)) == [B, A, OWN]
    refined = [*trials, trial(3, OWN, 0.9, stage="refine")]
    assert configurations(contenders(plan, refined)) == [B, A, OWN]  # the incumbent alone confirms nothing
    assert configurations(contenders(plan, [*refined, trial(4, A, 0.1, stage="refine")])) == [OWN, A]
    assert configurations(contenders(plan, [*refined, trial(4, A, 0.1, stage="refine")], before="refine")) == [
        B,
        A,
        OWN,
    ]
    assert configurations(contenders(plan, [trial(0, OWN, 0.2, stage="screen")])) == [OWN]
    assert contenders(plan, []) == []


def test_the_incumbent_is_promoted_beside_the_challengers(a_plan):
    plan = a_plan(family="f", configuration=OWN)
    ranked = rank([trial(0, A, 0.4), trial(1, B, 0.3), trial(2, C, 0.2), trial(3, OWN, 0.1)], "confirm")
    assert configurations(promoted(plan, ranked, Stage(trials=2))) == [A, OWN, B]
