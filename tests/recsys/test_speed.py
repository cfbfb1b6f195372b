from dataclasses import replace

import pytest

from recsys.latency.pace import Pace, pace, told
from recsys.records import Arrived, Estimate, LatencyResult, Outcome, Ratios
from recsys.settings import Budgets, Gate
from recsys.speed import checks

PASS, FAIL, INCONCLUSIVE = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE


def between(low: float, high: float) -> Estimate:
    return Estimate(value=(low + high) / 2, low=low, high=high)


EQUAL = between(0.98, 1.02)


@pytest.fixture
def compared(a_scorecard, a_comparison):
    """Requests of 2 ms at p50 and 5 to 6 at p99, as quick as the incumbent's."""

    def make(*, ratios=None, control=None, p99=(5.0, 6.0), **served):
        times = {"p50_ms": between(2, 2), "p95_ms": between(4, 4), "p99_ms": between(*p99)}
        latency = (LatencyResult(graph="model.onnx", batch_size=1, users_per_s=between(400, 500), **times),)
        candidate, incumbent = (a_scorecard(name, 0.1, latency=latency, **served) for name in ("candidate", "now"))
        beside = {"ratios": ratios or Ratios(p50=EQUAL, p99=EQUAL), "control": control or Ratios(p50=EQUAL, p99=EQUAL)}
        return a_comparison(candidate, incumbent, **beside)

    return make


def outcomes(comparison, gate=None, **budgets):
    found = checks(gate or Gate(max_p50_ratio=1.0, max_p99_ratio=1.0), Budgets(size_mib=1, **budgets), comparison)
    return {check.name: check.outcome for check in found}


@pytest.mark.parametrize(
    ("ratio", "says"),
    [
        (between(0.93, 1.07), Pace.EQUAL),
        (between(1.01, 1.05), Pace.EQUAL),  # surely slower, by what does not matter
        (between(1.02, 1.09), Pace.SLOWER),
        (between(1.01, 1.09), Pace.UNKNOWN),  # two processes of one bundle may differ by so much
        (between(0.9, 0.98), Pace.FASTER),
        (between(0.9, 0.99), Pace.UNKNOWN),
        (between(0.8, 1.2), Pace.UNKNOWN),
    ],
)
def test_a_ratio_says_as_much_as_its_interval_tells(ratio, says):
    assert pace(ratio, margin=0.08) is says


@pytest.mark.parametrize(
    ("ratio", "outcome"),
    [
        (between(1.9, 2.16), PASS),  # 8 % over the limit do not matter
        (between(1.9, 2.17), INCONCLUSIVE),
        (between(2.02, 2.3), INCONCLUSIVE),
        (between(2.04, 2.3), FAIL),
    ],
)
def test_a_ratio_may_exceed_its_limit_by_what_does_not_matter(ratio, outcome):
    assert told(ratio, EQUAL, limit=2.0, margin=0.08) is outcome


@pytest.mark.parametrize("control", [between(1.1, 1.2), between(0.8, 0.9)])
@pytest.mark.parametrize("ratio", [between(0.99, 1.01), between(1.5, 1.6)])
def test_a_machine_that_tells_the_incumbent_from_itself_decides_nothing_and_says_so(compared, ratio, control):
    noisy = compared(ratios=Ratios(p50=EQUAL, p99=ratio), control=Ratios(p50=EQUAL, p99=control))
    assert outcomes(noisy, p99_ms=7) == {"p99": PASS, "p50_ratio": PASS, "p99_ratio": INCONCLUSIVE}
    [said] = [each.because for each in checks(Gate(), Budgets(p99_ms=7, size_mib=1), noisy) if each.name == "p99_ratio"]
    assert "the machine is too noisy to tell" in said


def test_a_slower_candidate_fails_at_the_quantile_that_is_slower(compared):
    slow = between(1.06, 1.14)
    for name in ("p50", "p99"):
        found = compared(ratios=replace(Ratios(p50=EQUAL, p99=EQUAL), **{name: slow}))
        assert outcomes(found, p99_ms=7) == {"p99": PASS, "p50_ratio": PASS, "p99_ratio": PASS, f"{name}_ratio": FAIL}
        assert outcomes(found, p99_ms=12)[f"{name}_ratio"] is PASS  # within half of the budget
        strict = Gate(max_p50_ratio=1.0, max_p99_ratio=1.0, ratios_from=0.4)
        assert outcomes(found, strict, p99_ms=12)[f"{name}_ratio"] is FAIL
        assert outcomes(found, strict, p99_ms=15)[f"{name}_ratio"] is PASS


@pytest.mark.parametrize(
    ("low", "high", "busy", "outcome"),
    [
        (5, 7, 0.6, PASS),
        (5, 7, 0.7, INCONCLUSIVE),  # so busy, its queue would have to be watched for longer
        (5, 7, 0.996, FAIL),
        (5, 7.1, 0.2, INCONCLUSIVE),
        (7.1, 8, 0.2, FAIL),
        (7.1, 8, 0.7, FAIL),
    ],
)
def test_requests_that_come_by_themselves_must_keep_to_the_budget_too(compared, low, high, busy, outcome):
    times = {"p50_ms": between(2, 3), "p95_ms": between(4, 5), "p99_ms": between(low, high)}
    queue = Arrived(per_s=50, batch_size=1, turns=12, busy=busy, **times)
    assert outcomes(compared(arrivals=queue), p99_ms=7)["p99_arrivals"] is outcome
    assert "p99_arrivals" not in outcomes(compared(), p99_ms=7)


def test_memory_and_cold_start_have_budgets_where_the_line_gives_them(compared):
    found = compared(memory_mib=300.0, cold_start_s=2.0)
    assert {"memory", "cold_start"}.isdisjoint(outcomes(found, p99_ms=7))
    for memory_mib, cold_start_s, outcome in ((300, 2, PASS), (299, 1.9, FAIL)):
        told_of = outcomes(found, p99_ms=7, memory_mib=memory_mib, cold_start_s=cold_start_s)
        assert (told_of["memory"], told_of["cold_start"]) == (outcome, outcome)
