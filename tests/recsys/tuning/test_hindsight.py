import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from recsys.tuning.hindsight import said
from recsys.tuning.warm import CORRELATION, EXPECTED


def proposed(expected, reached, *, weight=0.5):
    return create_trial(
        state=TrialState.FAIL if reached is None else TrialState.COMPLETE,
        value=reached,
        system_attrs={EXPECTED: expected, CORRELATION: weight},
    )


def test_what_was_expected_and_what_was_reached_are_compared_by_rank():
    pairs = [(0.1, 0.20), (0.2, 0.10), (0.3, 0.30), (0.4, 0.40), (0.5, 0.50), (9.0, None)]
    # One neighbouring pair of five is the wrong way round: 1 - 6 x 2 / (5 x 24) = 0.9.
    assert said([proposed(*pair) for pair in pairs]) == (
        "Earlier searches were believed with a correlation of 0.50 in the end; what they expected of the 5 proposals "
        "that came to their end has a rank correlation of 0.90 with what these reached."
    )


def test_too_few_proposals_are_not_ranked():
    assert said([proposed(0.1, 0.2, weight=0.1), proposed(0.3, None, weight=0.1)]) == (
        "Earlier searches were believed with a correlation of 0.10 in the end, which is as good as not at all; "
        "1 proposal came to its end, too few to say whether that was right."
    )


def test_what_was_enqueued_whole_is_no_proposal():
    def enqueued(fixed, **attributes):
        return create_trial(
            value=0.5,
            params={"x": 0.1, "y": 0.2},
            distributions=dict.fromkeys("xy", FloatDistribution(0, 1)),
            system_attrs={"fixed_params": fixed, **attributes},
        )

    partly, whole = (
        enqueued(fixed, **{EXPECTED: 0.1, CORRELATION: 0.5}) for fixed in ({"x": 0.1}, {"x": 0.1, "y": 0.2})
    )
    assert said([whole]) == ""
    assert said([partly, whole, proposed(0.1, None)]).endswith(
        "; 1 proposal came to its end, too few to say whether that was right."
    )
    assert said([proposed(0.1, None)]).endswith(
        "; no proposals came to their end, too few to say whether that was right."
    )


@pytest.mark.parametrize("alike", ["expected", "reached"])
def test_proposals_that_are_all_alike_are_not_ranked(alike):
    trials = [proposed(0.3 if alike == "expected" else n, 0.3 if alike == "reached" else n) for n in range(5)]
    assert said(trials).endswith("the 5 proposals that came to their end were all alike, and cannot be ranked.")


def test_nothing_is_said_where_no_past_was_asked():
    assert said([create_trial(state=TrialState.COMPLETE, value=0.1)]) == ""
