from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from recsys import attribution, channel, ledger
from recsys.bundles import key
from recsys.errors import BadObject, Forgotten, NoRelease
from recsys.models import FAMILIES
from recsys.records import Estimate, to_json
from recsys.store.memory import MemoryStore

AS_OF = datetime(2026, 1, 26, tzinfo=UTC)
MARKOV = FAMILIES["markov"].defaults
NOW = {**MARKOV, "decay": 0.9}
GAIN = Estimate(value=0.012, low=0.004, high=0.02)


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def keep(store, keep_bundle):
    def keep(configuration, family="markov"):
        return keep_bundle(store, {"model.onnx": b"a graph"}, family=family, configuration=configuration).release_id

    return keep


@pytest.fixture
def measure(store, a_scorecard, a_comparison):
    """Keep what the gate saw of two bundles."""

    def measure(candidate, incumbent):
        seen = a_comparison(a_scorecard(candidate, 0.1), a_scorecard(incumbent, 0.1), ndcg_gain=GAIN)
        store.put(key(candidate, "comparison.json"), to_json(seen))

    return measure


@pytest.fixture
def search(store, trial_evidence, search_evidence):
    """Keep a search in which `decay` gains evenly."""

    def search(as_of, slope, n=40):
        tried = [
            trial_evidence("markov", {**MARKOV, "decay": decay}, 0.1 + slope * decay, gain=slope * decay)
            for decay in np.linspace(0.3, 1.0, n).tolist()
        ]
        found = search_evidence(*tried, plan_id=f"r{as_of:%Y%m%d}", as_of=as_of, configuration=MARKOV)
        store.put(f"evidence/{found.plan_id}.json", to_json(found))

    return search


@pytest.fixture
def pair(keep, measure, search):
    """A release and its predecessor, with which it was measured, and a search between them."""
    before, after = keep(MARKOV), keep(NOW)
    measure(after, before)
    search(AS_OF - timedelta(days=1), slope=0.1)
    return before, after


def test_what_is_foreseen_stands_beside_what_the_gate_measured(shop_line, store, pair):
    before, after = pair
    found = attribution.attribute(shop_line, store, after, by="ann")
    [share] = found.shares
    assert (found.predecessor, found.measured, found.confidence) == (before, GAIN, 0.95)
    assert (share.knob, share.was, share.now) == ("decay", 0.77, 0.9)
    assert share.change == found.predicted
    assert found.predicted.value == pytest.approx(0.013, rel=0.35)
    assert found.because == (
        f"{after} was foreseen to change NDCG@10 by {found.predicted.value:+.4f} [{found.predicted.low:+.4f}, "
        f"{found.predicted.high:+.4f}] over {before}: decay {found.predicted.value:+.4f}; at the gate it was +0.0120 "
        "[+0.0040, +0.0200] on the holdout."
    )
    [entry] = ledger.read(store, what="attributed")
    assert (entry.who, entry.why) == ("ann", found.because)


def test_later_searches_change_nothing_of_what_was_said(shop_line, store, pair, search):
    _, after = pair
    found = attribution.attribute(shop_line, store, after, by="ann")
    search(AS_OF + timedelta(days=1), slope=-0.1)
    assert attribution.attribute(shop_line, store, after, by="bob") == found
    store.delete(key(after, "attribution.json"))
    assert attribution.attribute(shop_line, store, after, by="ann") == found
    assert len(ledger.read(store, what="attributed")) == 1


def test_a_release_that_was_measured_against_another_is_divided_anew(shop_line, store, pair, keep, measure):
    before, after = pair
    attribution.attribute(shop_line, store, after, by="ann")
    other = keep({**MARKOV, "decay": 0.4})
    measure(after, other)
    found = attribution.attribute(shop_line, store, after, by="ann")
    assert found.predecessor == other
    assert found.shares[0].was == 0.4
    assert [entry.evidence["predecessor"] for entry in ledger.read(store, what="attributed")] == [before, other]


def test_production_is_asked_about_unless_a_release_is_named(shop_line, store, pair):
    with pytest.raises(NoRelease, match="nothing is released"):
        attribution.attribute(shop_line, store, by="ann")
    channel.move(store, to=pair[1], expect=None, by="tests", reason="a test", nonce="n")
    assert attribution.attribute(shop_line, store, by="ann").release_id == pair[1]


def test_what_was_never_measured_has_no_predecessor(shop_line, store, pair):
    with pytest.raises(NoRelease, match="must have been measured"):
        attribution.attribute(shop_line, store, pair[0], by="ann")


def test_the_same_configuration_on_other_data_has_nothing_to_divide(shop_line, store, keep, measure):
    before, after = keep(MARKOV), keep({**MARKOV, "gone": 1})
    measure(after, before)
    found = attribution.attribute(shop_line, store, after, by="ann")
    assert (found.shares, found.predicted) == ((), None)
    assert found.because.startswith(f"{after} has the configuration of {before}, on other data; at the gate it was ")


def test_too_little_evidence_is_said(shop_line, store, keep, measure):
    before, after = keep(MARKOV), keep(NOW)
    measure(after, before)
    found = attribution.attribute(shop_line, store, after, by="ann")
    assert "changed decay; what each did cannot be told from the 0 trials that there were" in found.because


def test_a_family_that_is_gone_is_named(shop_line, store, keep, measure):
    before, after = keep({"x": 1}, family="forgotten"), keep(NOW)
    measure(after, before)
    with pytest.raises(Forgotten, match=r"must be of a family of today, one of \[.*\], but is 'forgotten'"):
        attribution.attribute(shop_line, store, after, by="ann")


def test_a_record_that_is_broken_is_named(shop_line, store, pair):
    store.put(key(pair[1], "attribution.json"), b"{}")
    with pytest.raises(BadObject, match=r"attribution.json must hold a record of kind Attribution"):
        attribution.attribute(shop_line, store, pair[1], by="ann")
