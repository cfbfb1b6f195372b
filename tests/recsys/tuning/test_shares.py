from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from recsys.models import FAMILIES
from recsys.settings import Past
from recsys.tuning.shares import divide

MARKOV, TOWER = FAMILIES["markov"].defaults, FAMILIES["two_tower"].defaults
AS_OF = datetime(2026, 1, 26, tzinfo=UTC)


@pytest.fixture
def search(trial_evidence, search_evidence):
    """Make what a search left whose trials gained so much."""

    def search(number, trials):
        found = [trial_evidence(family, made, 0.1 + gain, gain=gain) for family, made, gain in trials]
        as_of = AS_OF + timedelta(days=number)
        return search_evidence(*found, plan_id=f"r{number}", as_of=as_of, configuration=MARKOV)

    return search


@pytest.fixture
def decays(search):
    """Make what a search left in which `decay` gains 0.1 over its range, evenly, and `smoothing` nothing."""

    def decays(number=1, n=60):
        rng = np.random.default_rng(number)
        return search(
            number,
            [
                ("markov", {**MARKOV, "decay": decay, "smoothing": float(10 ** rng.uniform(0, 3))}, (decay - 0.3) / 7)
                for decay in np.linspace(0.3, 1.0, n).tolist()
            ],
        )

    return decays


def shares(before, after, *evidence, edits=None):
    return divide(before, after, evidence, edits or {}, confidence=0.9)


def test_the_knob_that_did_it_gets_the_difference(decays):
    found = shares(
        ("markov", {**MARKOV, "decay": 0.5, "smoothing": 20.0}),
        ("markov", {**MARKOV, "decay": 0.9, "smoothing": 200.0}),
        decays(),
    )
    decay, smoothing = found.shares
    assert (decay.knob, decay.was, decay.now) == ("decay", 0.5, 0.9)
    assert (smoothing.knob, smoothing.was, smoothing.now) == ("smoothing", 20.0, 200.0)
    assert decay.change.value == pytest.approx(0.4 / 7, rel=0.35)  # ranks stand for the values, so about
    assert decay.change.low > 0
    assert abs(smoothing.change.value) < 0.1 * decay.change.value
    assert smoothing.change.low < 0 < smoothing.change.high
    assert decay.change.value + smoothing.change.value == pytest.approx(found.total.value)
    assert (found.orders, found.trials, found.studies) == (0, 60, ("r1",))


def test_more_searches_leave_less_doubt(decays):
    question = ("markov", {**MARKOV, "decay": 0.5}), ("markov", {**MARKOV, "decay": 0.9})
    few, many = shares(*question, decays(n=15)), shares(*question, decays(1), decays(2), decays(3))
    assert many.studies == ("r1", "r2", "r3")
    assert many.total.high - many.total.low < few.total.high - few.total.low


def test_another_family_is_one_change_and_what_it_has_beside_its_defaults_are_others(search):
    both = search(
        1,
        [("markov", {**MARKOV, "decay": d}, 0.0) for d in np.linspace(0.3, 1, 20).tolist()]
        + [("two_tower", {**TOWER, "dropout": d}, 0.05 + 0.1 * d) for d in np.linspace(0, 0.6, 20).tolist()],
    )
    found = shares(("markov", {**MARKOV, "decay": 0.5}), ("two_tower", {**TOWER, "dropout": 0.6}), both)
    assert {share.knob: (share.was, share.now) for share in found.shares} == {
        "family": ("markov", "two_tower"),
        "dropout": (0.3, 0.6),
    }
    by_knob = {share.knob: share.change.value for share in found.shares}
    assert by_knob["family"] > by_knob["dropout"] > 0
    assert sum(by_knob.values()) == pytest.approx(found.total.value)


def test_what_no_search_varies_is_named_last_and_left_open(search):
    found = shares(
        ("two_tower", TOWER),
        ("two_tower", {**TOWER, "batch_size": 256, "dropout": 0.1}),
        search(1, [("two_tower", {**TOWER, "dropout": d}, d) for d in np.linspace(0, 0.6, 20).tolist()]),
    )
    assert [(share.knob, share.change is None) for share in found.shares] == [("dropout", False), ("batch_size", True)]
    assert found.total.value == found.shares[0].change.value


def test_what_does_nothing_beside_the_others_has_not_changed(decays):
    found = shares(("two_tower", TOWER), ("two_tower", {**TOWER, "negatives": 64}), decays())
    assert found.shares == ()
    assert found.total is None


def test_a_name_of_then_is_read_as_the_line_says(search, decays):
    old = decays()
    renamed = [
        (t.family, {("fading" if k == "decay" else k): v for k, v in t.configuration.items()}, t.gain)
        for t in old.trials
    ]
    question = ("markov", {**MARKOV, "decay": 0.5}), ("markov", {**MARKOV, "decay": 0.9})
    found = shares(*question, search(1, renamed), edits={"markov": Past(renamed={"fading": "decay"})})
    assert found.total == shares(*question, old).total


def test_too_few_trials_divide_nothing_but_name_what_changed(decays):
    found = shares(("markov", MARKOV), ("markov", {**MARKOV, "decay": 0.9}), decays(n=14))
    assert [(share.knob, share.change) for share in found.shares] == [("decay", None)]
    assert (found.total, found.trials) == (None, 14)
    assert shares(("markov", MARKOV), ("markov", {**MARKOV, "decay": 0.9})).trials == 0


def test_more_changes_than_have_all_orders_counted_still_sum_up(search):
    rng = np.random.default_rng(0)
    trials = []
    for _ in range(40):
        lr, dropout = float(10 ** rng.uniform(-3, -2)), float(rng.uniform(0, 0.6))
        trials.append(("two_tower", {**TOWER, "lr": lr, "dropout": dropout}, dropout))
    changed = {
        "epochs": 10,
        "lr": 0.01,
        "dropout": 0.1,
        "weight_decay": 0.1,
        "dim": 32,
        "history_length": 20,
        "softmax": "sampled",
        "negatives": 64,
        "hidden": 64,
    }
    found = shares(("two_tower", TOWER), ("two_tower", {**TOWER, **changed}), search(1, trials))
    assert found.orders == 200
    assert len(found.shares) == 9
    assert sum(share.change.value for share in found.shares) == pytest.approx(found.total.value)
