import pytest

from recsys.models import FAMILIES
from recsys.records import Action, Sentinel
from recsys.tuning.prices import prices

MARKOV = FAMILIES["markov"].defaults


def priced(line, *, evidence=(), searched_s=(), sentinels=2, budget_s=300.0):
    few = [Sentinel(family="markov", configuration=MARKOV, because="a test")] * sentinels
    return prices(line, "markov", MARKOV, sentinels=few, evidence=evidence, searched_s=searched_s, budget_s=budget_s)


def test_of_what_is_not_known_every_training_has_its_part_of_the_budget(a_line):
    # 5 trials of 0.5 * 0.2, 3 of 0.4 and twice 2 whole ones are 5.7 whole ones, in 300 s of two workers.
    whole = 600 / 5.7
    # The incumbent and two sentinels are screened; it and the best are confirmed with two seeds.
    short = (3 * 0.1 * whole + 2 * 2 * whole) / 2
    assert priced(a_line()) == pytest.approx(
        {Action.NOTHING: 0.0, Action.REFIT: whole, Action.SENTINELS: short + whole, Action.RETUNE: 300 + whole}
    )


def test_what_is_known_counts(a_line, trial_evidence, search_evidence):
    trial = trial_evidence("markov", MARKOV, 0.1, stage="confirm", seconds=3.0, units=1.0, evaluation_s=1.0)
    before = search_evidence(*[trial] * 4)
    found = priced(a_line(), evidence=[before], searched_s=[100.0, 80.0, 500.0])
    assert found[Action.REFIT] == pytest.approx(3.0, rel=0.01)
    assert found[Action.RETUNE] == pytest.approx(100 + 3.0, rel=0.01)


def test_no_search_is_expected_to_take_more_than_its_budget(a_line):
    found = priced(a_line(), searched_s=[500.0], sentinels=40)
    assert found[Action.RETUNE] - found[Action.REFIT] == 300
    assert found[Action.SENTINELS] - found[Action.REFIT] == pytest.approx(min(300, (41 * 0.1 + 4) * 600 / 5.7 / 2))
