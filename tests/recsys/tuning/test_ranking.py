from recsys.tuning.ranking import rank

A, B, C = ({"epochs": 1, "x": x} for x in "abc")


def configurations(standings):
    return [standing.configuration for standing in standings]


def test_configurations_are_ranked_by_the_mean_over_their_seeds(a_trial):
    found = rank([a_trial(0, A, 0.30), a_trial(1, B, 0.20), a_trial(2, B, 0.42, seed=1)], "confirm")
    assert [(s.configuration, s.ndcg_at_10, s.seeds, s.first) for s in found] == [(B, 0.31, 2, 1), (A, 0.30, 1, 0)]


def test_only_complete_trials_of_the_stage_count_and_the_earlier_of_equals_comes_first(a_trial):
    trials = [
        a_trial(0, C, 0.9, stage="refine"),
        a_trial(1, B, 0.9, state="pruned"),
        a_trial(2, A, 0.3),
        a_trial(3, B, 0.3),
    ]
    assert configurations(rank(trials, "confirm")) == [A, B]
