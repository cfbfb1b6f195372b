from recsys.tuning.ranking import rank

A, B, C = ({"epochs": 1, "x": x} for x in "abc")


def configurations(standings):
    return [standing.configuration for standing in standings]


def standings(found):
    return [(s.configuration, s.ndcg_at_10, s.seeds, s.first) for s in found]


def test_configurations_are_ranked_by_the_mean_over_their_seeds(a_trial):
    both = [a_trial(0, A, 0.30), a_trial(1, B, 0.20), a_trial(2, A, 0.30, seed=1), a_trial(3, B, 0.42, seed=1)]
    assert standings(rank(both, "confirm")) == [(B, 0.31, 2, 1), (A, 0.30, 2, 0)]


def test_a_seed_that_only_some_have_had_counts_for_none(a_trial):
    ended_midway = [a_trial(0, A, 0.30), a_trial(1, B, 0.20), a_trial(2, B, 0.42, seed=1)]
    assert standings(rank(ended_midway, "confirm")) == [(A, 0.30, 1, 0), (B, 0.20, 1, 1)]
    a_failed = [
        a_trial(0, A, None, state="fail"),
        a_trial(1, B, 0.9),
        a_trial(2, A, 0.4, seed=1),
        a_trial(3, B, 0.3, seed=1),
    ]
    assert standings(rank(a_failed, "confirm")) == [(A, 0.4, 1, 2), (B, 0.3, 1, 1)]
    nothing_shared = [a_trial(0, A, 0.30), a_trial(1, B, 0.42, seed=1)]
    assert standings(rank(nothing_shared, "confirm")) == [(B, 0.42, 1, 1), (A, 0.30, 1, 0)]


def test_what_is_only_counted_has_one_value_for_all_seeds(a_trial):
    counted = {"epochs": 0, "x": "k"}
    trials = [a_trial(0, counted, 0.25), a_trial(1, A, 0.1), a_trial(2, A, 0.6, seed=1)]
    assert standings(rank(trials, "confirm")) == [(A, 0.35, 2, 1), (counted, 0.25, 1, 0)]


def test_only_complete_trials_of_the_stage_count_and_the_earlier_of_equals_comes_first(a_trial):
    trials = [
        a_trial(0, C, 0.9, stage="refine"),
        a_trial(1, B, 0.9, state="pruned"),
        a_trial(2, A, 0.3),
        a_trial(3, B, 0.3),
    ]
    assert configurations(rank(trials, "confirm")) == [A, B]
