"""Check that a candidate is quick enough: within what serving can afford, and not much slower than the incumbent."""

from enum import StrEnum

from recsys.records import Check, Comparison, Estimate, Outcome
from recsys.settings import Budgets, Gate

SPARE = 0.5  # a p99 within this share of the budget is quick enough, however much quicker the incumbent is

TWINS = 0.015  # processes that serve the same differ by about so much, so a difference must be shown to be larger


class Pace(StrEnum):
    """What is known of how two compare."""

    EQUAL = "as quick as"
    SLOWER = "slower than"
    FASTER = "faster than"
    UNKNOWN = "perhaps as quick as"


def pace(ratio: Estimate, margin: float) -> Pace:
    """Say what an interval of times over times tells, where what lies within `margin` of 1 does not matter.

    >>> pace(Estimate(value=1.01, low=0.98, high=1.04), margin=0.05) is Pace.EQUAL
    True
    >>> pace(Estimate(value=1.1, low=1.06, high=1.14), margin=0.05) is Pace.SLOWER
    True
    """
    if ratio.low >= 1 - margin and ratio.high <= 1 + margin:
        return Pace.EQUAL
    if ratio.low > 1 + TWINS:
        return Pace.SLOWER
    return Pace.FASTER if ratio.high < 1 - TWINS else Pace.UNKNOWN


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


def told(ratio: Estimate, control: Estimate, *, limit: float, margin: float) -> Outcome:
    """Say whether a ratio to the incumbent keeps to its limit, where what lies within `margin` of it does not matter.

    Args:
        ratio: The candidate's times over the incumbent's.
        control: The incumbent's in one process over those in another; a machine that tells these apart decides nothing.
        limit: How many times as long the candidate's may be.
        margin: By which share more does not matter.
    """
    if pace(control, margin) in (Pace.SLOWER, Pace.FASTER):
        return Outcome.INCONCLUSIVE
    if ratio.high <= limit * (1 + margin):
        return Outcome.PASS
    return Outcome.FAIL if ratio.low > limit * (1 + TWINS) else Outcome.INCONCLUSIVE


def _ratio(gate: Gate, budgets: Budgets, comparison: Comparison, quantile: str) -> Check:
    """The candidate is not many times slower than the incumbent, unless it is far within the budget anyway.

    Without the exemption nothing could follow a baseline that only looks up a list.
    """
    limit = {"p50": gate.max_p50_ratio, "p99": gate.max_p99_ratio}[quantile]
    ratio, control = getattr(comparison.ratios, quantile), getattr(comparison.control, quantile)
    p99, spare = comparison.candidate.latency[0].p99_ms, SPARE * budgets.p99_ms
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
    return [
        Check(
            name="p99_arrivals",
            outcome=within(found.p99_ms, budgets.p99_ms),
            because=(
                f"Where {found.per_s:g} requests a second come by themselves, p99 is {interval(found.p99_ms)} ms from "
                f"when each came, and the budget is {budgets.p99_ms:g} ms."
            ),
            evidence=evidence(found.p99_ms, budgets.p99_ms),
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


def within(found: Estimate, limit: float) -> Outcome:
    """Say whether the whole interval is within the limit, wholly beyond, or neither."""
    if found.high <= limit:
        return Outcome.PASS
    return Outcome.FAIL if found.low > limit else Outcome.INCONCLUSIVE


def evidence(found: Estimate, limit: float) -> dict[str, float]:
    """Give an estimate and its limit as numbers by name."""
    return {"value": found.value, "low": found.low, "high": found.high, "limit": limit}


def interval(found: Estimate) -> str:
    """Write an estimate with its interval, to three digits."""
    return f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]"
