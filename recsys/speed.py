"""Check that a candidate is quick enough: within what serving can afford, and not much slower than the incumbent."""

from recsys.latency.pace import Pace, pace, told, within
from recsys.records import Check, Comparison, Estimate, Outcome
from recsys.settings import Budgets, Gate

MOST_BUSY = 0.6  # share of the time; beyond it, queues come and go in minutes and not in seconds
NO_REST = 0.995  # share of the time from which on a queue only grows


def checks(gate: Gate, budgets: Budgets, comparison: Comparison) -> tuple[Check, ...]:
    """Put what was timed to the line's budgets and to what it allows a candidate to be slower.

    Args:
        gate: What is allowed.
        budgets: What serving can afford.
        comparison: What was measured.
    """
    return (
        _p99(budgets, comparison),
        *(_ratio(gate, budgets, comparison, quantile) for quantile in ("p50", "p99")),
        *_arrivals(budgets, comparison),
        *_limit("memory", "A process that serves it holds", comparison.candidate.memory_mib, budgets.memory_mib, "MiB"),
        *_limit("cold_start", "It answers first after", comparison.candidate.cold_start_s, budgets.cold_start_s, "s"),
    )


def _p99(budgets: Budgets, comparison: Comparison) -> Check:
    found, budget = comparison.candidate.latency[0], budgets.p99_ms
    return Check(
        name="p99",
        outcome=within(found.p99_ms, budget),
        because=f"p99 is {interval(found.p99_ms)} ms at batch {found.batch_size}, and the budget is {budget:g} ms.",
        evidence=evidence(found.p99_ms, budget),
    )


def _ratio(gate: Gate, budgets: Budgets, comparison: Comparison, quantile: str) -> Check:
    """The candidate is not many times slower than the incumbent, unless it is far within the budget anyway.

    Without the exemption nothing could follow a baseline that only looks up a list.
    """
    limit = {"p50": gate.max_p50_ratio, "p99": gate.max_p99_ratio}[quantile]
    ratio, control = getattr(comparison.ratios, quantile), getattr(comparison.control, quantile)
    p99, spare = comparison.candidate.latency[0].p99_ms, gate.ratios_from * budgets.p99_ms
    because = (
        f"{quantile} is {interval(ratio)} times the incumbent's, which is {pace(ratio, gate.latency_margin)} it, and "
        f"{limit:g} times is allowed"
    )
    outcome = told(ratio, control, limit=limit, margin=gate.latency_margin)
    if p99.high <= spare:
        outcome = Outcome.PASS
        because += f"; at {p99.high:.3g} ms or less its p99 is within {spare:g} ms, where the ratio does not count"
    elif pace(control, gate.latency_margin) in (Pace.SLOWER, Pace.FASTER):
        because += (
            f"; but the machine is too noisy to tell, as the incumbent is {interval(control)} times itself in another "
            "process"
        )
    return Check(
        name=f"{quantile}_ratio",
        outcome=outcome,
        because=f"{because}.",
        evidence={**evidence(ratio, limit), "control_low": control.low, "control_high": control.high},
    )


def _arrivals(budgets: Budgets, comparison: Comparison) -> list[Check]:
    found = comparison.candidate.arrivals
    if found is None:
        return []
    outcome = within(found.p99_ms, budgets.p99_ms)
    because = (
        f"Where {found.per_s:g} requests a second come by themselves, p99 is {interval(found.p99_ms)} ms from when "
        f"each came, and the budget is {budgets.p99_ms:g} ms"
    )
    if found.busy >= NO_REST:
        outcome = Outcome.FAIL
        because += "; the process cannot keep up with them"
    elif found.busy > MOST_BUSY and outcome is Outcome.PASS:
        outcome = Outcome.INCONCLUSIVE
        because += (
            f"; but it is busy {found.busy:.0%} of the time, where seconds are too short to see its longest queues"
        )
    return [
        Check(
            name="p99_arrivals",
            outcome=outcome,
            because=f"{because}.",
            evidence={**evidence(found.p99_ms, budgets.p99_ms), "busy": found.busy},
        )
    ]


def _limit(name: str, says: str, found: float, budget: float | None, unit: str) -> list[Check]:
    if budget is None:
        return []
    return [
        Check(
            name=name,
            outcome=Outcome.PASS if found <= budget else Outcome.FAIL,
            because=f"{says} {found:.3g} {unit}, and the budget is {budget:g} {unit}.",
            evidence={"value": found, "limit": budget},
        )
    ]


def evidence(found: Estimate, limit: float) -> dict[str, float]:
    """Give an estimate and its limit as numbers by name."""
    return {"value": found.value, "low": found.low, "high": found.high, "limit": limit}


def interval(found: Estimate) -> str:
    """Write an estimate with its interval, to three digits."""
    return f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]"
