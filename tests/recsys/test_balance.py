from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from recsys.balance import checks
from recsys.records import CalibrationResult, Estimate, ExposureResult, Outcome, Reliability, ReliabilityBin
from recsys.settings import Calibration, Exposure, Gate
from recsys.significance import pair

PASS, FAIL, INCONCLUSIVE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE
NONE = "scores of popularity are no probabilities"


def result(measure: str, candidate: float, incumbent: float, *, spread: float = 0.01) -> ExposureResult:
    """What 400 users were shown, half of them `spread` more than the mean, half less."""
    spread_out = candidate + np.tile([-spread, spread], 200)
    paired = pair(spread_out, np.full(400, incumbent), np.arange(400))
    return ExposureResult(measure=measure, candidate=candidate, incumbent=incumbent, paired=paired)


def half(spread: float = 0.01) -> float:
    """By Student's t, half the width of the interval of 95 %."""
    return float(stats.t.ppf(0.975, 399)) * spread / np.sqrt(399)


def judged(result: ExposureResult, **margins):
    [found] = checks(Gate(exposure=Exposure(**margins)), SimpleNamespace(exposure=(result,), calibration=None))
    return found


def around(value: float, off: float) -> Estimate:
    return Estimate(value=value, low=max(value - off, 0), high=value + off)


def calibrated(release_id: str, ece: float) -> Reliability:
    curve = (
        ReliabilityBin(shown=10, predicted=0.01, observed=0.02),
        ReliabilityBin(shown=10, predicted=0.1, observed=0.08),
    )
    return Reliability(release_id=release_id, ece=around(ece, 0.004), curve=curve)


BOTH = CalibrationResult(
    candidate=calibrated("a", 0.02), incumbent=calibrated("b", 0.01), rise=Estimate(value=0.01, low=0.004, high=0.016)
)


def of_calibration(found: CalibrationResult, **margins):
    gate = Gate(calibration=Calibration(**margins))
    return checks(gate, SimpleNamespace(exposure=(), calibration=found))


@pytest.mark.parametrize(
    ("measure", "key", "candidate", "relative", "worse"),
    [
        ("coverage", "max_coverage_loss", 0.4, True, 0.2),
        ("tail share", "max_tail_share_loss", 0.4, False, 0.1),
        ("diversity", "max_diversity_loss", 0.4, True, 0.2),
        ("popularity", "max_popularity_rise", 0.6, False, 0.1),
    ],
)
def test_a_margin_must_be_shown_to_hold(measure, key, candidate, relative, worse):
    off = half() / (0.5 if relative else 1.0)
    found = judged(result(measure, candidate, 0.5), **{key: worse + 1.05 * off})
    assert (found.name, found.outcome) == (measure, PASS)
    way = 1 if "rise" in key else -1
    assert found.evidence["value"] == pytest.approx(way * worse)
    assert found.evidence["low"] == pytest.approx(way * worse - off)
    assert found.evidence["high"] == pytest.approx(way * worse + off)
    assert found.evidence["limit"] == pytest.approx(way * (worse + 1.05 * off))
    assert judged(result(measure, candidate, 0.5), **{key: worse}).outcome is INCONCLUSIVE
    assert judged(result(measure, candidate, 0.5), **{key: worse - 1.05 * off}).outcome is FAIL


def test_what_has_no_margin_is_shown_and_passes():
    found = judged(result("coverage", 0.1, 0.5))
    assert found.outcome is PASS
    assert found.because.startswith("Coverage is 0.100 where the incumbent's is 0.500, a change of -80.0% [-80.2%, ")
    assert found.because.endswith("of it; the line sets no margin.")
    assert "limit" not in found.evidence


def test_a_check_says_which_way_is_worse_and_what_is_allowed():
    rises = judged(result("popularity", 0.6, 0.5), max_popularity_rise=0.02)
    assert rises.because.endswith("a change of +0.100 [+0.099, +0.101], and a rise of 0.02 is allowed.")
    assert judged(result("popularity", 0.4, 0.5), max_popularity_rise=0.02).outcome is PASS
    assert judged(result("tail share", 0.6, 0.5), max_tail_share_loss=0.02).outcome is PASS


def test_of_nothing_nothing_can_be_lost():
    found = judged(result("coverage", 0.1, 0.0), max_coverage_loss=0.0)
    assert found.outcome is PASS
    assert "of which nothing can be lost" in found.because


@pytest.mark.parametrize(("limit", "outcome"), [(0.025, PASS), (0.02, INCONCLUSIVE), (0.015, FAIL), (None, PASS)])
def test_calibration_is_held_against_the_line_s_margin(limit, outcome):
    found, _ = of_calibration(BOTH, max_ece=limit)
    assert (found.name, found.outcome) == ("calibration", outcome)
    assert "off by 0.0200 [0.0160, 0.0240] in the mean of 2 bins" in found.because
    assert "observed is 0.020 where 0.010 is predicted and 0.080 where 0.100 is predicted" in found.because


@pytest.mark.parametrize(("limit", "outcome"), [(0.02, PASS), (0.01, INCONCLUSIVE), (0.001, FAIL), (None, PASS)])
def test_calibration_is_held_against_the_incumbent_s(limit, outcome):
    _, found = of_calibration(BOTH, max_ece_rise=limit)
    assert (found.name, found.outcome) == ("calibration against the incumbent", outcome)


def test_where_there_are_no_probabilities_that_is_said_and_a_margin_is_not_known_to_be_kept():
    without = Reliability(release_id="b", missing=NONE)
    unable = replace(BOTH, candidate=without, rise=None)
    [found] = of_calibration(unable)
    assert (found.outcome, found.because) == (PASS, f"There is no calibration to judge, because {NONE}.")
    [found] = of_calibration(unable, max_ece=0.001)
    assert found.outcome is INCONCLUSIVE
    assert found.because.endswith(f"{NONE}, so nobody knows whether max_ece = 0.001 is kept.")
    [found] = of_calibration(unable, max_ece=0.01, max_ece_rise=0.002)
    assert found.because.endswith("whether max_ece = 0.01 and max_ece_rise = 0.002 are kept.")
    first, second = of_calibration(replace(BOTH, incumbent=without, rise=None), max_ece=0.001)
    assert (first.outcome, second.outcome) == (FAIL, PASS)
    assert second.because.endswith(f"because {NONE}.")
    _, second = of_calibration(replace(BOTH, incumbent=without, rise=None), max_ece_rise=0.001)
    assert second.outcome is INCONCLUSIVE


def test_what_earlier_versions_did_not_measure_is_not_known_where_the_line_asks_for_it(a_comparison, a_scorecard):
    comparison = a_comparison(a_scorecard("a", 0.1), a_scorecard("b", 0.1))
    assert checks(Gate(), comparison) == ()
    [found] = checks(Gate(exposure=Exposure(max_coverage_loss=0.0)), comparison)
    assert (found.name, found.outcome) == ("coverage", INCONCLUSIVE)
    [found] = checks(Gate(calibration=Calibration(max_ece=0.1)), comparison)
    assert (found.name, found.outcome) == ("calibration", INCONCLUSIVE)
