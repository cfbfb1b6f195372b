from datetime import timedelta

import pytest

from recsys.ledger import Entry
from recsys.records import Action, ColumnDrift, Estimate, dump
from recsys.tuning.gains import Conditions, Seen, expect, seen_of

NOW = Conditions(drift=1.0, age_days=28.0)


def seen(action, gain, *, sd=0.001, over_refit=False, under=NOW):
    return Seen(action=action, under=under, gain=gain, sd=sd, over_refit=over_refit)


def test_a_young_line_goes_by_the_prior():
    found = {action: gain.value for action, gain in expect([], NOW).items()}
    # A refit: 1.5 % for drift at its threshold, 1 % for four weeks. A search: 1 % always and 1 % for drift.
    assert found == pytest.approx(
        {Action.NOTHING: 0.0, Action.REFIT: 0.025, Action.SENTINELS: 0.035, Action.RETUNE: 0.045}
    )
    calm = expect([], Conditions(drift=0.0, age_days=0.0))
    assert [calm[action].value for action in Action] == pytest.approx([0.0, 0.0, 0.005, 0.01])


def test_every_expectation_but_that_of_nothing_has_an_interval_around_it():
    found = expect([], NOW)
    assert (found[Action.NOTHING].low, found[Action.NOTHING].high) == (0.0, 0.0)
    for action in (Action.REFIT, Action.SENTINELS, Action.RETUNE):
        assert found[action].low < 0 < found[action].value < found[action].high


def test_what_a_line_gained_before_is_expected_again():
    lucky = expect([seen(Action.REFIT, 0.10)] * 8, NOW)
    assert lucky[Action.REFIT].value == pytest.approx(0.10, abs=0.02)
    barren = expect([seen(Action.RETUNE, 0.0, over_refit=True)] * 12, NOW)
    more = barren[Action.RETUNE].value - barren[Action.REFIT].value
    assert more < 0.006  # the prior says 0.02
    assert barren[Action.REFIT].value == pytest.approx(0.025)  # what a search adds says nothing of a refit


def test_gains_that_came_with_drift_are_expected_with_drift():
    calm, moved = Conditions(drift=0.0, age_days=0.0), Conditions(drift=3.0, age_days=0.0)
    history = [seen(Action.REFIT, 0.0, under=calm), seen(Action.REFIT, 0.12, under=moved)] * 6
    assert expect(history, moved)[Action.REFIT].value > 0.09
    assert abs(expect(history, calm)[Action.REFIT].value) < 0.02


def test_a_gain_that_was_measured_badly_moves_little():
    sure, unsure = (expect([seen(Action.REFIT, 0.2, sd=sd)], NOW)[Action.REFIT].value for sd in (0.001, 0.2))
    assert sure > 0.08
    assert unsure < 0.03


def test_drift_is_the_mean_of_the_distances_in_thresholds(verdict):
    columns = [ColumnDrift(column=str(d), method="psi", distance=d, threshold=0.1) for d in (0.05, 0.15, 9.0)]
    assert Conditions.of(verdict(columns=tuple(columns)), 3.0).drift == pytest.approx((0.5 + 1.5 + 3.0) / 3)
    assert Conditions.of(verdict(drifted=True), 3.0) == Conditions(drift=1.0, age_days=3.0)
    assert Conditions.of(verdict(drifted=False), -1.0) == Conditions(drift=0.0, age_days=0.0)


@pytest.fixture
def verdict(shop):
    from dataclasses import replace

    return lambda **changes: replace(shop.verdict(), **changes)


@pytest.fixture
def told(a_scorecard, a_comparison):
    """What the ledger keeps of a plan from its decision to its measurement, with an incumbent at 0.2."""

    def told(plan_id, action, *, as_of, of_incumbent=True, family="markov", gain=0.01, **searched):
        release_id, candidate_id = f"release of {plan_id}", f"candidate of {plan_id}"
        decided = {
            "plan_id": plan_id,
            "action": action,
            "family": family,
            "drift": 2.0,
            "age_days": 7.0,
            "of_incumbent": of_incumbent,
        }
        cards = a_scorecard(release_id, 0.2 + gain), a_scorecard("production", 0.2)
        known = Estimate(value=gain, low=gain - 0.00784, high=gain + 0.00784)
        measured = a_comparison(*cards, ndcg_gain=known, as_of=as_of)
        facts = [
            ("decided", decided),
            *([("searched", {"plan_id": plan_id, **searched})] if searched else []),
            ("chosen", {"plan_id": plan_id, "candidate_id": candidate_id}),
            ("packaged", {"candidate_id": candidate_id, "release_id": release_id}),
            ("measured", dump(measured)),
        ]
        return [Entry(what=what, who="tests", why="a test", evidence=evidence, id=plan_id) for what, evidence in facts]

    return told


def test_gains_are_read_from_the_ledger_as_shares_with_their_error(a_plan, told):
    as_of = a_plan().as_of
    entries = [
        *told("a", "refit", as_of=as_of),
        *told("b", "retune", as_of=as_of + timedelta(days=1), gain=0.02, relative_gain=0.04, rivals=2, noise=0.01),
        *told("by hand", "refit", as_of=as_of, of_incumbent=False),
        *told("from the baseline", "retune", as_of=as_of, family="popularity", gain=0.1),
    ]
    found = seen_of(entries, ("markov", "two_tower"), confidence=0.95)
    under = Conditions(drift=2.0, age_days=7.0)
    assert [(one.action, one.under, one.over_refit) for one in found] == [
        (Action.REFIT, under, False),
        (Action.RETUNE, under, False),
        (Action.RETUNE, under, True),
    ]
    assert [one.gain for one in found] == pytest.approx([0.05, 0.1, 0.04 - 0.01 * 0.56419], abs=1e-6)  # 1 / sqrt(pi)
    assert [one.sd for one in found] == pytest.approx([0.02, 0.02, 0.02], rel=1e-3)  # 0.00784 / 1.96 / 0.2
