import numpy as np
import pytest
from scipy import stats

from recsys.records import CohortResult, Outcome
from recsys.regressions import checks, undecided
from recsys.settings import Cohort, Gate
from recsys.significance import pair

PASS, FAIL, INCONCLUSIVE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE


def losing(share, *, users=400, spread=0.02):
    """Users who reach 0.2, and lose this share of it, half of them by `spread` more, half by less."""
    incumbent = np.full(users, 0.2)
    return pair(incumbent * (1 - share) + np.tile([-spread, spread], users // 2), incumbent, np.arange(users))


def results(**groups):
    return [CohortResult(cohort="device", group=group, paired=paired) for group, paired in groups.items()]


def gate(**said):
    return Gate(cohorts={"device": Cohort(column="device", **{"margin": 0.0, **said})})


def outcomes(found):
    return {check.name.rpartition(": ")[2]: check.outcome for check in found}


def p_of(share, users=400, spread=0.02):
    """By Student's t: losses of 0.2 times the share, and a spread of 0.02."""
    return stats.t.sf(0.2 * share / (spread / np.sqrt(users - 1)), users - 1)


def test_only_the_group_that_loses_fails():
    found = checks(gate(), results(app=losing(0.0), phone=losing(0.2)))
    assert outcomes(found) == {"app": PASS, "phone": FAIL}
    assert [check.name for check in found] == ["cohort device: app", "cohort device: phone"]
    assert found[1].because.startswith("NDCG@10 of 400 users changes by -20.0% [")


def test_a_loss_within_the_margin_is_allowed():
    assert outcomes(checks(gate(margin=0.05), results(app=losing(0.04), phone=losing(0.2)))) == {
        "app": PASS,
        "phone": FAIL,
    }


def test_the_level_is_divided_among_the_groups_that_are_left():
    """p-values of about 0.011 and 0.022: alone either is found at 0.05, and so is each that Holm comes to."""
    smaller, larger = 0.0115, 0.0101
    assert 0.05 / 3 > p_of(smaller) > 0.05 / 8
    assert 0.05 / 2 > p_of(larger) > 0.05 / 3
    stepped = checks(gate(), results(a=losing(smaller), b=losing(larger), c=losing(-0.1)))
    assert outcomes(stepped) == {"a": FAIL, "b": FAIL, "c": PASS}
    assert [round(check.evidence["level"], 4) for check in stepped] == [0.0167, 0.025, 0.05]
    others = {f"o{n}": losing(-0.1) for n in range(5)}
    crowded = checks(gate(), results(a=losing(smaller), b=losing(larger), c=losing(-0.1), **others))
    assert set(outcomes(crowded).values()) == {PASS}
    assert [check.evidence["level"] for check in crowded] == pytest.approx([0.05 / 8] * 8)


def test_the_interval_and_the_verdict_of_a_group_agree():
    for share in np.linspace(-0.02, 0.04, 25):
        for check in checks(gate(), results(a=losing(share), b=losing(0.01), c=losing(0.2))):
            assert (check.evidence["high"] < check.evidence["limit"]) == (check.outcome is FAIL), check


@pytest.mark.parametrize(("too_small", "outcome"), [("is said", PASS), ("blocks", INCONCLUSIVE)])
def test_a_group_too_small_says_what_it_would_have_found_and_the_line_whether_that_blocks(too_small, outcome):
    [found] = checks(gate(too_small=too_small, must_find=0.1), results(tablet=losing(0.0, users=10, spread=0.05)))
    # Standard error 0.05 / 3 of 0.2 is 8.3 %; Student's t of 9 degrees at 0.05 and 0.9 sums to 3.216.
    assert found.evidence["detectable"] == pytest.approx((1.833 + 1.383) * 0.05 / 3 / 0.2, rel=1e-3)
    assert found.outcome is outcome
    assert "too small to tell, for only a loss of 26.8% would be found with 90%, and one of 10.0% must" in found.because


def test_a_loss_that_a_small_group_shows_is_found_all_the_same():
    [found] = checks(gate(must_find=0.01), results(tablet=losing(0.5, users=10, spread=0.05)))
    assert found.outcome is FAIL


@pytest.mark.parametrize(("too_small", "outcome"), [("is said", PASS), ("blocks", INCONCLUSIVE)])
def test_cases_that_cannot_be_told_apart_are_said(too_small, outcome):
    unknown = CohortResult(cohort="device", group="", paired=None, missing="the dataset was frozen without device")
    [found] = checks(gate(too_small=too_small), [unknown])
    assert (found.name, found.outcome) == ("cohort device", outcome)
    assert found.because == "Nothing can be told: the dataset was frozen without device."


@pytest.mark.parametrize(("too_small", "outcome"), [("is said", PASS), ("blocks", INCONCLUSIVE)])
def test_users_who_all_lose_everything_are_no_proof_that_nothing_is_lost(too_small, outcome):
    lost = pair(np.zeros(40), np.full(40, 0.2), np.arange(40))  # alike, so that nothing is known of what chance does
    few = losing(0.0, users=8, spread=1e-4)
    for paired in (lost, few):
        [found] = checks(gate(too_small=too_small, must_find=0.9, margin=0.01), results(phone=paired))
        assert found.outcome is outcome
        assert "too small to tell, for no loss would be found, and one of 90.0% must be" in found.because
        assert undecided([found]) == ["cohort device: phone"]


def test_a_larger_loss_that_is_ruled_out_passes_whatever_would_be_found():
    """So few users would show a loss of no less than 20 %; but these gain, and by far more than chance does."""
    gaining = losing(-0.9, users=20, spread=0.08)
    [found] = checks(gate(must_find=0.1, too_small="blocks"), results(phone=gaining))
    assert found.evidence["detectable"] > 0.1
    assert found.outcome is PASS
    assert "a larger loss is ruled out" in found.because
    assert undecided([found]) == []


def test_no_loss_is_larger_than_all():
    [found] = checks(gate(must_find=0.5), results(phone=losing(0.0, users=10, spread=0.2)))
    assert found.evidence["detectable"] == 1.0
    assert "100" not in found.because.partition(";")[2]


def test_where_the_incumbent_reaches_nothing_nothing_is_lost_and_no_level_spent():
    nothing = pair(np.zeros(50), np.zeros(50), np.arange(50))
    found = checks(gate(), results(app=losing(0.2), tail=nothing))
    assert outcomes(found) == {"app": FAIL, "tail": PASS}
    assert found[0].evidence["level"] == pytest.approx(0.05)


def test_what_the_line_does_not_declare_is_passed_over():
    assert checks(Gate(), results(app=losing(0.5))) == ()
