"""Check that a candidate shows no less of the catalogue, nor more of what is popular, than the line allows.

What of it matters is the line's to say, so a measure without a margin is shown and passes. One with a margin must be
shown to be within it, and where there is nothing to show it by, nothing is known. A candidate must pass every one of
them: whatever it exceeds truly, its chance of being let through is within one check's level, however many checks there
are (intersection-union test: Berger 1982, "Multiparameter Hypothesis Testing and Acceptance Sampling"). So nothing is
divided among them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from recsys.exposure import COVERAGE, DIVERSITY, POPULARITY, TAIL_SHARE
from recsys.records import CalibrationResult, Check, Comparison, Estimate, ExposureResult, Outcome, Reliability
from recsys.settings import Gate
from recsys.significance import ABSOLUTE, RELATIVE, Scale, estimate


def checks(gate: Gate, comparison: Comparison) -> tuple[Check, ...]:
    """Check exposure and calibration.

    Args:
        gate: The line's margins, and the confidence of the intervals.
        comparison: What was measured; earlier versions measured nothing of this.
    """
    measured = {result.measure for result in comparison.exposure}
    exposure = (_exposure(gate, result) for result in comparison.exposure)
    lacking = (
        _unknown(measure, {margin.key: getattr(gate.exposure, margin.key)}, "It was not measured")
        for measure, margin in _MARGINS.items()
        if measure not in measured and getattr(gate.exposure, margin.key) is not None
    )
    calibration = comparison.calibration
    if calibration is not None:
        return (*exposure, *lacking, *_calibration(gate, calibration))
    limits = {name: limit for name, limit in gate.calibration.model_dump().items() if limit is not None}
    unmeasured = [_unknown("calibration", limits, "It was not measured")] if limits else []
    return (*exposure, *lacking, *unmeasured)


def _unknown(name: str, limits: Mapping[str, float | None], because: str) -> Check:
    """Say that there is nothing to judge, which decides nothing only where the line asks for nothing."""
    asked = [f"{key} = {limit:g}" for key, limit in limits.items() if limit is not None]
    if not asked:
        return Check(name=name, outcome=Outcome.PASS, because=f"{because}.")
    return Check(
        name=name,
        outcome=Outcome.INCONCLUSIVE,
        because=f"{because}, so nobody knows whether {' and '.join(asked)} {'is' if len(asked) == 1 else 'are'} kept.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Margin:
    """How a measure is said and which way is worse."""

    key: str  # of the margin, in the line's table
    scale: Scale
    rises: bool = False  # whether more of it is worse
    shares: bool = True  # whether it is said in per cent


_MARGINS = {
    COVERAGE: _Margin(key="max_coverage_loss", scale=RELATIVE),
    TAIL_SHARE: _Margin(key="max_tail_share_loss", scale=ABSOLUTE),
    DIVERSITY: _Margin(key="max_diversity_loss", scale=RELATIVE),
    POPULARITY: _Margin(key="max_popularity_rise", scale=ABSOLUTE, rises=True, shares=False),
}


def _exposure(gate: Gate, result: ExposureResult) -> Check:
    margin = _MARGINS[result.measure]
    limit: float | None = getattr(gate.exposure, margin.key)
    reached = f"{result.measure.capitalize()} is {result.candidate:.3f} where the incumbent's is {result.incumbent:.3f}"
    if margin.scale is RELATIVE and not result.paired.first[1]:
        return Check(name=result.measure, outcome=Outcome.PASS, because=f"{reached}, of which nothing can be lost.")
    changed = estimate(result.paired, margin.scale, level=(1 - gate.confidence) / 2)
    say = "{:+.1%} [{:+.1%}, {:+.1%}]" if margin.shares else "{:+.3f} [{:+.3f}, {:+.3f}]"
    reached = f"{reached}, a change of {say.format(changed.value, changed.low, changed.high)}"
    if margin.scale is RELATIVE:
        reached += " of it"
    if limit is None or margin.rises:
        return _judged(
            result.measure, reached, changed, limit, "" if limit is None else f"a rise of {limit:g} is allowed"
        )
    return _judged(result.measure, reached, changed, -limit, f"a loss of {limit:g} is allowed", falls=True)


def _calibration(gate: Gate, found: CalibrationResult) -> Iterator[Check]:
    candidate, limits = found.candidate, gate.calibration
    if candidate.ece is None:
        yield _unknown(
            "calibration", limits.model_dump(), f"There is no calibration to judge, because {candidate.missing}"
        )
        return
    reached = (
        f"The probabilities of what is shown are off by {_interval(candidate.ece)} in the mean of "
        f"{len(candidate.curve)} bins, {_shown(candidate)}"
    )
    allowed = "" if limits.max_ece is None else f"{limits.max_ece:g} is allowed"
    yield _judged("calibration", reached, candidate.ece, limits.max_ece, allowed)
    if found.rise is None:
        yield _unknown(
            "calibration against the incumbent",
            {"max_ece_rise": limits.max_ece_rise},
            f"There is nothing to compare the candidate's calibration with, because {found.incumbent.missing}",
        )
        return
    allowed = "" if limits.max_ece_rise is None else f"a rise of {limits.max_ece_rise:g} is allowed"
    reached = f"The error of the probabilities changes by {_interval(found.rise)}"
    yield _judged("calibration against the incumbent", reached, found.rise, limits.max_ece_rise, allowed)


def _shown(found: Reliability) -> str:
    """Say what is predicted at both ends of the reliability curve, and what is observed."""
    ends = [found.curve[at] for at in (0, -1)]
    said = " and ".join(f"{each.observed:.3f} where {each.predicted:.3f} is predicted" for each in ends)
    return f"observed is {said}"


def _judged(
    name: str, reached: str, found: Estimate, limit: float | None, allowed: str, *, falls: bool = False
) -> Check:
    """Hold a number against the most it may be, where there is one; of one that `falls`, the least."""
    evidence = {"value": found.value, "low": found.low, "high": found.high}
    if limit is None:
        because = f"{reached}; the line sets no margin."
        return Check(name=name, outcome=Outcome.PASS, because=because, evidence=evidence)
    within, beyond = (found.low >= limit, found.high < limit) if falls else (found.high <= limit, found.low > limit)
    outcome = Outcome.PASS if within else Outcome.FAIL if beyond else Outcome.INCONCLUSIVE
    return Check(name=name, outcome=outcome, because=f"{reached}, and {allowed}.", evidence=evidence | {"limit": limit})


def _interval(found: Estimate) -> str:
    return f"{found.value:.4f} [{found.low:.4f}, {found.high:.4f}]"
