import math

import pytest

from recsys.models import FAMILIES
from recsys.settings import Stage
from recsys.tuning.forecast import Forecast, Paid, paid_before, seconds_of_any, shape

HALF = Stage(trials=1, share=0.5, epochs=0.4)
WHOLE = Stage(trials=2, seeds=3)
TOWER = FAMILIES["two_tower"].defaults


def paid(seconds, *, family="two_tower", units=1.0, study="", evaluation_s=1.0, constraints_s=0.0, **configuration):
    return Paid(
        family=family,
        units=units,
        training_s=seconds,
        evaluation_s=evaluation_s,
        constraints_s=constraints_s,
        configuration={**TOWER, **configuration},
        study=study,
    )


def typical(forecast, stage=WHOLE, **configuration):
    return forecast.trial("two_tower", {**TOWER, "epochs": 10, **configuration}, stage, 0.5)


def test_equal_trials_are_forecast_by_the_middle_of_those_before():
    # 2, 3 and 4.5 s a unit: 3 in the middle, as seconds differ by factors.
    forecast = Forecast.of([paid(4.0, units=2.0), paid(3.0), paid(18.0, units=4.0)])
    assert typical(forecast) == pytest.approx(3.0 * 10 + 1.0, rel=0.01)
    assert typical(forecast, HALF) == pytest.approx(3.0 * 0.5 * 4 + 1.0, rel=0.01)
    assert forecast.trial("markov", {"epochs": 0}, WHOLE) is None


def test_a_forecast_is_longer_than_the_middle_and_comes_nearer_to_it_with_what_is_known():
    few, many = ([paid(3.0)] * n for n in (1, 12))
    longer = [Forecast.of(seen).trial("two_tower", {**TOWER, "epochs": 10}, WHOLE) / 31 for seen in (few, many)]
    assert 1.35 > longer[0] > longer[1] > 1.05


def test_what_scatters_is_forecast_with_more_care():
    calm = Forecast.of([paid(3.0), paid(3.1), paid(2.9), paid(3.0)])
    wild = Forecast.of([paid(1.0), paid(9.0), paid(1.0), paid(9.0)])
    configuration = {**TOWER, "epochs": 10}
    calm_s, wild_s = (f.trial("two_tower", configuration, WHOLE) / typical(f) for f in (calm, wild))
    assert wild_s > 2 * calm_s


def test_measuring_what_serving_costs_is_forecast_for_shapes_that_are_not_known():
    others = [paid(3.0, constraints_s=seconds) for seconds in (2.0, 0.0, 9.0, 4.0)]  # one was of a known shape
    past = [paid(3.0, constraints_s=70.0, study="before")] * 9  # on another machine
    known = frozenset({shape("two_tower", TOWER)})
    for seen, takes_s in ((others, 4.0), ([*past, *others], 4.0), (past, 70.0), ([paid(3.0)], 0.0)):
        base_s = typical(Forecast.of(seen))
        assert typical(Forecast.of(seen, frozenset())) == pytest.approx(base_s + takes_s)
        assert typical(Forecast.of(seen, known)) == pytest.approx(base_s)
        assert typical(Forecast.of(seen, known), lr=0.5) == pytest.approx(base_s)  # which no graph shows
    wider_s = (typical(Forecast.of(others, shapes), dim=2 * TOWER["dim"]) for shapes in (known, None))
    assert next(wider_s) - next(wider_s) == pytest.approx(4.0)


def test_a_new_search_is_forecast_from_the_past_until_its_own_machine_is_known():
    past = [paid(seconds, study="before") for seconds in (3.0, 3.0, 3.0, 3.0)]
    assert typical(Forecast.of(past)) == pytest.approx(31, rel=0.02)
    slow = [typical(Forecast.of([*past, *[paid(9.0, evaluation_s=3.0)] * n])) for n in (1, 6)]
    assert 31 < slow[0] < slow[1]
    assert slow[1] == pytest.approx(93, rel=0.1)


def test_how_fast_the_machine_is_is_learned_from_one_family_for_all():
    past = [paid(3.0, study="before")] * 4 + [paid(1.0, family="markov", study="before")] * 4
    slow = Forecast.of([*past, *[paid(3.0, family="markov", evaluation_s=3.0)] * 4])
    assert typical(slow) > 2.3 * typical(Forecast.of(past))


def test_a_larger_model_is_forecast_to_take_longer_the_more_so_if_larger_ones_did():
    guessed = Forecast.of([paid(3.0)] * 4)
    assert typical(guessed, dim=2 * TOWER["dim"]) > 1.2 * typical(guessed)
    learned = Forecast.of([paid(3.0 * factor, dim=TOWER["dim"] * factor) for factor in (1, 2, 4) for _ in range(4)])
    assert typical(learned, dim=8 * TOWER["dim"]) == pytest.approx(241, rel=0.25)


def test_a_stage_is_shared_by_its_workers_but_no_trial_is():
    forecast = Forecast.of([paid(3.0)] * 4)
    tried = [("two_tower", {**TOWER, "epochs": n}) for n in (10, 2)]
    long, short = (forecast.trial(*which, WHOLE) for which in tried)
    assert forecast.stage(tried, WHOLE, workers=2) == pytest.approx((long + short) * 3 / 2)
    assert forecast.stage(tried, WHOLE, workers=9) == pytest.approx(long)


def test_a_trial_of_which_nothing_is_known_is_taken_for_one_of_its_stage():
    assert seconds_of_any([]) is None
    found = seconds_of_any([2.0] * 9)
    # Noise 0.15 that counts eight numbers, nine numbers that do not scatter: t with 17 degrees of freedom, at 0.9.
    scale = 0.15 * math.sqrt(8 / 17 * (1 + 1 / 9))
    assert found == pytest.approx(2.0 * math.exp(1.3334 * scale), rel=0.001)


def test_of_earlier_searches_what_was_trained_to_its_end_is_a_price(trial_evidence, search_evidence):
    def trial(family="two_tower", **changes):
        known = {"share": 0.5, "epochs": 0.4, "seconds": 8.0}
        return trial_evidence(family, {**TOWER, "epochs": 30}, 0.1, **known, **changes)

    def search(name, *trials):
        return search_evidence(*trials, plan_id=name)

    found = search(
        "before",
        trial(),
        trial(units=3.0, evaluation_s=2.0, constraints_s=1.5),
        trial(state="pruned"),
        trial(reused="trial 1 of another"),
        trial(family="oracle"),
    )
    got = [
        (p.study, p.units, p.training_s, p.evaluation_s, p.constraints_s)
        for p in paid_before([found, search("own", trial())], but="own")
    ]
    assert got == [("before", 6.0, 8.0, 0.0, 0.0), ("before", 3.0, 6.0, 0.5, 1.5)]
