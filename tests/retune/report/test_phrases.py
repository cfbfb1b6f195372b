from dataclasses import replace

import pytest

from recsys.records import Estimate
from retune import report
from retune.report.phrases import headline, lift


@pytest.fixture(scope="module")
def story(line, months):
    return report.tell(line, months.store)


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        ((0.0345, 0.0276, 0.0414), "50 % (40 to 60) above popularity"),
        ((-0.0138, -0.0207, -0.0069), "20 % (10 to 30) below popularity"),
        ((0.0069, -0.0069, 0.0207), "not surely above or below popularity (-10 to +30 %)"),
    ],
)
def test_a_lift_says_its_direction_only_where_the_interval_does(story, gain, said):
    """Popularity stands at 0.069, so a gain of 0.0069 is a tenth of it."""
    value, low, high = gain
    found = replace(story.promoted[-1], gains={"popularity": Estimate(value=value, low=low, high=high)})
    assert lift(found, "popularity") == said


def test_a_reference_at_zero_is_compared_in_points(story):
    found = story.promoted[-1]
    card = replace(found.references["markov"], ndcg_at_10=Estimate(value=0, low=0, high=0))
    none = replace(
        found,
        comparison=replace(found.comparison, references={"markov": card}),
        gains={"markov": Estimate(value=0.1, low=0.09, high=0.11)},
    )
    assert lift(none, "markov") == "+0.100 (+0.090 to +0.110) from a tuned Markov model"


def test_without_paired_gains_the_headline_gives_the_value_with_its_interval(story):
    turns = tuple(replace(t, rounds=tuple(replace(r, gains={}) for r in t.rounds)) for t in story.turns)
    assert headline(replace(story, turns=turns)) == "SASRec is in production, with NDCG@10 0.118 (0.107 to 0.129)."
