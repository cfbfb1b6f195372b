"""How much of what the best of several gained is luck, and what a line learns of its searches without that."""

import numpy as np
import pytest

from recsys.ledger import Entry
from recsys.records import Action, TrialResult
from recsys.tuning.gains import Conditions, expect, seen_of
from recsys.tuning.luck import UNSEEN, Luck, expected_maximum, luck
from recsys.tuning.ranking import rank

NOW = Conditions(drift=1.0, age_days=28.0)
LEVEL = 0.2  # NDCG@10 of the incumbent


def trials(values):
    """One configuration a row, one seed a column; the first is the incumbent's. Shape [configurations, seeds]."""
    return [
        TrialResult(
            number=number,
            stage="confirm",
            state="complete",
            family="f",
            configuration={"rank": number, "epochs": 1},
            seed=seed,
            ndcg_at_10=value,
            seconds=1.0,
        )
        for number, row in enumerate(values)
        for seed, value in enumerate(row)
    ]


def chosen(values):
    found = trials(values)
    return luck(rank(found, "confirm"), found, LEVEL)


def test_the_expected_maximum_is_that_of_draws():
    drawn = np.random.default_rng(0).standard_normal((100_000, 9)).max(axis=1).mean()
    assert expected_maximum(9) == pytest.approx(drawn, abs=0.01)


def test_noise_is_what_neither_configurations_nor_seeds_explain():
    # Means of configurations 0.20 and 0.22, of seeds -0.01 and +0.01; what is left is 0.001 in each corner, with one
    # degree of freedom: sqrt(4 x 0.001^2) = 0.002, 1 % of 0.2; over two seeds.
    found = chosen([[0.191, 0.209], [0.209, 0.231]])
    assert found.noise == pytest.approx(0.01 / np.sqrt(2))
    assert found.rivals == 1  # 0.02 is further than 3.5 x 0.0014


def test_without_two_seeds_a_share_is_taken_for_the_noise_and_what_lies_far_behind_is_no_rival():
    assert chosen([[0.2], [0.201], [0.199], [0.15]]) == Luck(rivals=3, noise=UNSEEN)


def test_a_choice_of_one_has_no_luck():
    assert Luck(rivals=1, noise=0.05).expected == pytest.approx(0.0, abs=1e-12)


def surplus(rng, *, searches, seeds, truth):
    """Expect what a retune gains over a refit after as many simulated searches."""
    entries = []
    for number in range(searches):
        values = LEVEL * (1 + truth[:, None] + 0.01 * rng.standard_normal((len(truth), seeds)))
        found = rank(results := trials(values), "confirm")
        own = next(standing.ndcg_at_10 for standing in found if standing.configuration["rank"] == 0)
        picked = luck(found, results, own)
        decided = {
            "plan_id": str(number),
            "action": "retune",
            "family": "f",
            "of_incumbent": True,
            "drift": NOW.drift,
            "age_days": NOW.age_days,
        }
        searched = {
            "plan_id": str(number),
            "relative_gain": found[0].ndcg_at_10 / own - 1,
            "rivals": picked.rivals,
            "noise": picked.noise,
        }
        entries += [
            Entry(what=what, who="tests", why="a test", evidence=evidence, id=str(number))
            for what, evidence in (("decided", decided), ("searched", searched))
        ]
    gains = expect(seen_of(entries, ("f",), confidence=0.95), NOW)
    return gains[Action.RETUNE].value - gains[Action.REFIT].value


ALIKE = np.zeros(9)
BETTER = np.array([0.0, *[0.02] * 8])  # each finalist
ONE = np.array([*[0.0] * 8, 0.02])


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_searches_that_find_nothing_are_expected_to_find_nothing_by_twenty_of_them(seeds):
    rng = np.random.default_rng(1)
    found = [surplus(rng, searches=20, seeds=seeds, truth=ALIKE) for _ in range(40)]
    assert np.mean(found) < 0.003


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_searches_that_find_two_percent_are_expected_to_find_them_again(seeds):
    rng = np.random.default_rng(2)
    found = [surplus(rng, searches=20, seeds=seeds, truth=BETTER) for _ in range(20)]
    assert np.mean(found) == pytest.approx(0.02, abs=0.003)


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_one_finalist_alone_that_is_better_is_not_taken_for_luck(seeds):
    rng = np.random.default_rng(3)
    found = [surplus(rng, searches=20, seeds=seeds, truth=ONE) for _ in range(20)]
    assert np.mean(found) > 0.008
