import numpy as np
import pytest

from recsys.tuning.edges import edges, losing_families
from recsys.tuning.evidence import PastTrial
from recsys.tuning.importance import findings, tried
from recsys.tuning.space import search_space

WHOLE = {"steps": [9], "smoothing": [57.0], "neighbours": [512]}


@pytest.fixture
def hit(a_line):
    """Find the edges of `decay`, 0.3 to 1, for what each of its places gains and for where a search has looked."""

    def make(gain, places):
        space = search_space(a_line(families=["markov"], space={"markov": WHOLE}))
        noise = np.random.default_rng(1).normal(0, 0.02, len(places))
        parameters = {"family": "markov", "markov.steps": 9, "markov.smoothing": 57.0, "markov.neighbours": 512}
        trials = [
            PastTrial(parameters={**parameters, "markov.decay": 0.3 + 0.7 * place}, value=gain(place) + off)
            for place, off in zip(places, noise, strict=True)
        ]
        found = tried(space, "markov", {"r1": trials})
        return [(edge.kind, edge.value) for edge in edges(found, findings(found, seed=1))]

    return make


EVENLY = (np.arange(60) + 0.5) / 60


def test_the_best_at_an_end_are_found(hit):
    assert hit(lambda place: place, EVENLY) == [("high", 1.0)]
    assert hit(lambda place: -place, EVENLY) == [("low", 0.3)]


def test_the_best_near_an_end_but_not_at_it_are_none(hit):
    # The best fifth lies from 0.77 to 0.97, so most of it in the last fifth; but beyond 0.87 it gets worse again.
    assert hit(lambda place: -5 * abs(place - 0.87), EVENLY) == []


def test_the_best_in_the_middle_are_none(hit):
    assert hit(lambda place: -abs(place - 0.5), EVENLY) == []


def test_an_end_at_which_a_search_has_hardly_been_is_found(hit):
    rarely = np.concatenate([np.linspace(0, 0.75, 55), np.linspace(0.82, 1.0, 5)])
    # 5 of the 12 best are no more than even draws may put there, but they are all of those that were tried there.
    assert hit(lambda place: place, rarely) == [("high", 1.0)]


def test_an_end_at_which_a_search_has_mostly_been_is_found(hit):
    mostly = np.concatenate([np.linspace(0, 0.75, 12), np.linspace(0.8, 1.0, 48)])
    assert hit(lambda place: place, mostly) == [("high", 1.0)]


def test_what_does_not_matter_has_no_edges_wherever_the_best_lie(hit):
    assert hit(lambda place: 0.0, np.linspace(0.85, 1.0, 60)) == []


def test_productions_family_is_never_called_a_loser():
    def trial(family, value):
        return PastTrial(parameters={"family": family}, value=value)

    studies = {"r1": [trial("hybrid", 1.0 + n) for n in range(30)] + [trial("markov", -1.0 - n) for n in range(30)]}
    assert [edge.value for edge in losing_families(studies, "hybrid")] == ["markov"]
    assert losing_families(studies, "markov") == []
    # Of 60, 12 are the best, and none is one of the 30: 30! 48! / (18! 60!), about 6 in 100,000.
    assert losing_families(studies, "hybrid")[0].p == pytest.approx(6.2e-5, rel=0.05)
