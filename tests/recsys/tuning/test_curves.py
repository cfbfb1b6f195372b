import math
from dataclasses import replace

import pytest

from recsys.records import Evidence
from recsys.settings import Past, Stage
from recsys.tuning.curves import Foresight, Pair, earlier_pairs, foresee, proved, rebased

OWN, COUNTED = {"epochs": 8, "x": "own"}, {"epochs": 0, "x": "counted"}


def pair(gain, end, **changes):
    return Pair(**{"family": "f", "quarter": 1, "gain": gain, "end": end, **changes})


# The end is the gain after the first quarter, less or more 0.01.
PAST = [pair(gain, gain + miss) for gain in (0.0, 0.1) for miss in (-0.01, 0.01, -0.01, 0.01)]


@pytest.fixture
def foresight(a_plan, a_trial):
    """What the past says of a search whose incumbent was at 0.15 after a quarter and ended at 0.2."""

    def make(*others, past=PAST, incumbent=True, curve=None):
        """Each other trial: what it had gained over the incumbent after a quarter, and what it ended with."""
        own = replace(a_trial(0, OWN, 0.2, stage="screen"), curve={1: 0.15} if curve is None else curve)
        found = [
            replace(a_trial(n, {"epochs": 8, "x": n}, 0.2 + end, stage="screen"), curve={1: 0.15 + gain})
            for n, (gain, end) in enumerate(others, 1)
        ]
        results = [own, *found] if incumbent else found
        plan = a_plan(family="f", configuration=OWN)
        return Foresight(plan=plan, stage="screen", goes_on=2, past=past, results=lambda: results)

    return make


HERE = ((0.0, 0.005), (0.1, 0.105), (0.05, 0.05))


def test_what_a_trial_will_end_with_is_read_from_a_line_through_the_pairs():
    found = foresee(PAST, 0.05)
    # Eight residuals of 0.01 with six degrees of freedom; in the middle of the gains, an eighth more.
    assert found.mean == pytest.approx(0.05)
    assert found.scale == pytest.approx(math.sqrt(8 * 0.01**2 / 6 * (1 + 1 / 8)))
    assert found.freedom == 6
    assert found.chance_over(0.05) == pytest.approx(0.5)


def test_pairs_that_are_doubted_twice_as_much_count_half():
    doubted = [replace(one, doubt=2.0) for one in PAST * 2]
    one, two = foresee(doubted, 0.03), foresee(PAST, 0.03)
    assert (one.mean, one.scale, one.freedom) == pytest.approx((two.mean, two.scale, two.freedom))
    assert foresee([replace(one, doubt=1.1) for one in PAST], 0.03) is None  # which is less than eight


def test_pairs_of_one_gain_foresee_nothing():
    assert foresee([pair(0.0, end) for end in (0.1, 0.2) * 5], 0.0) is None


def test_a_trial_that_cannot_go_on_is_stopped_with_the_numbers(foresight):
    said = foresight(*HERE).objection("f", 1, 0.15 - 0.05)
    assert said.startswith("a chance of 0.0 % to be among the 2 that go on: after quarter 1 it is at -0.0500 NDCG@10")
    assert "by 11 curves it would end at -0.0" in said
    assert said.endswith("and +0.0500 goes on so far")


@pytest.mark.parametrize(
    ("why", "how", "quarter", "family", "gain"),
    [
        ("it may still go on", {}, 1, "f", 0.035),
        ("the incumbent has not ended here", {"incumbent": False}, 1, "f", -0.05),
        ("the incumbent was not measured at that quarter", {"curve": {2: 0.15}}, 1, "f", -0.05),
        ("the past knows no other quarter", {}, 2, "f", -0.05),
        ("the past knows no other family", {}, 1, "g", -0.05),
        ("there is no past", {"past": ()}, 1, "f", -0.05),
    ],
)
def test_the_past_stops_nothing_where(foresight, why, how, quarter, family, gain):
    assert foresight(*HERE, **how).objection(family, quarter, 0.15 + gain) == ""


def test_fewer_trials_than_go_on_stop_nothing(foresight):
    assert replace(foresight(*HERE), goes_on=4).objection("f", 1, 0.0) == ""


def test_a_past_that_this_search_contradicts_stops_nothing(foresight):
    late = ((-0.05, 0.1), (0.0, 0.06), (0.05, 0.02))  # here, who is behind after a quarter wins
    assert foresight(*late).objection("f", 1, 0.15 - 0.05) == ""
    assert not proved(PAST, [pair(gain, end) for gain, end in late])
    assert proved(PAST, [pair(gain, end) for gain, end in HERE])
    assert not proved(PAST, [pair(gain, end) for gain, end in HERE[:2]])  # two prove nothing


def test_another_level_of_scores_changes_nothing(foresight):
    """The same differences on data where everything scores 0.3 more."""

    def higher(results):
        return [
            replace(r, ndcg_at_10=r.ndcg_at_10 + 0.3, curve={q: value + 0.3 for q, value in r.curve.items()})
            for r in results
        ]

    one = foresight(*HERE)
    two = replace(one, results=lambda: higher(one.results()))
    assert two.objection("f", 1, 0.15 - 0.05 + 0.3) == one.objection("f", 1, 0.15 - 0.05)
    assert one.objection("f", 1, 0.15 - 0.05) != ""


def test_a_curve_is_rebased_where_the_incumbent_was_measured_and_what_is_counted_was_always(a_trial):
    trial = replace(a_trial(1, {"epochs": 8}, 0.3), curve={1: 0.1, 2: 0.2, 3: 0.25})
    trained = replace(a_trial(0, OWN, 0.2), curve={2: 0.16})
    assert rebased(trial, trained) == pytest.approx({2: 0.04})
    assert rebased(trial, a_trial(0, COUNTED, 0.2)) == pytest.approx({1: -0.1, 2: 0.0, 3: 0.05})


def test_pairs_are_those_of_complete_trials_with_the_same_share_and_epochs(a_plan, trial_evidence):
    def evidence(x, *, gain=0.02, share=0.5, state="complete", family="then", curve=None, paired=True):
        curve = {1: 0.01, 3: 0.03} if curve is None else curve
        known = {"share": share, "epochs": 0.2, "gain": gain, "state": state, "curve": curve}
        known |= {"paired": paired}
        return trial_evidence(family, {"epochs": 8, "x": x}, 0.2, **known)

    trials = (
        evidence("a"),
        evidence("f", paired=False),
        evidence("b", share=0.25),
        evidence("c", state="pruned"),
        evidence("d", gain=None),
        evidence("e", curve={}),
        evidence("own"),
    )
    plan = a_plan()
    search = Evidence(
        plan_id="before",
        dataset_id="d",
        as_of=plan.as_of,
        family="then",
        configuration=OWN,
        popularity={},
        trials=trials,
    )
    rung = Stage(trials=5, share=0.5, epochs=0.2)
    found = earlier_pairs([search], "screen", rung, lambda _: 3.0, {"then": Past(family="f")})
    assert found == [
        pair(0.01, 0.02, quarter=1, doubt=3.0),
        pair(0.03, 0.02, quarter=3, doubt=3.0),
    ]
    assert earlier_pairs([search], "refine", rung, lambda _: 3.0, {}) == []
