"""Say what of a policy stored evidence cannot answer, and leave the checks that rest on it undecided."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from recsys import decisions
from recsys.records import Check, Comparison, Outcome
from recsys.settings import Line

TIMED = ("p50", "p95", "p99")
"""How the names of checks of times begin."""

_ASKED = {  # what a measurement of times was asked for, by table and key: what of a line only judges is not among it
    "budgets": ("batch_size", "batch_sizes", "arrivals_per_s", "threads"),
    "gate": ("confidence", "latency_confidence"),
}
_CUT_BY = ("by", "column", "bounds")  # what decides which cases belong to a cohort

WHY = {
    "gate.error_budget": "the level of a look was spent when it was taken",
    "gate.looks_a_year": "the level of a look was spent when it was taken",
    "gate.latency_s": "how long to go on timing was decided while it was timed",
    "gate.latency_margin": "how long to go on timing was decided while it was timed",
    "gate.max_quantisation_loss": "it also chooses the graph that serves, which was chosen when it was packaged",
    "gate.min_top10_overlap": "it chooses the graph that serves, which was chosen when it was packaged",
    "gate.min_tail_agreement": "it chooses the graph that serves, which was chosen when it was packaged",
    "budgets.size_mib": "it also chooses the graph that serves, which was chosen when it was packaged",
    "budgets.batch_size": "times were measured otherwise",
    "budgets.batch_sizes": "times were measured otherwise",
    "budgets.arrivals_per_s": "times were measured otherwise",
    "budgets.threads": "times were measured otherwise",
    "gate.confidence": "the intervals that were kept are of another confidence",
    "gate.latency_confidence": "the intervals that were kept are of another confidence",
    "gate.cohorts": "a cohort was not measured, or was cut otherwise",
}
"""The keys of a policy that evidence cannot answer where it was measured by other ones, each with the reason."""


def unjudged(measured_by: Mapping[str, Any], policy: Line, comparison: Comparison) -> Iterator[str]:
    """Name the keys of a policy that a comparison cannot judge, as it was measured by others."""
    asked = tables(policy)
    for name in WHY:
        table, _, key = name.partition(".")
        if name == "gate.cohorts":
            other = any(_cohorts_missing(measured_by, asked, comparison))
        else:
            other = measured_by.get(table, {}).get(key) != asked[table].get(key)
        if other:
            yield name


def as_far_as_measured(
    checks: Iterable[Check], measured_by: Mapping[str, Any], policy: Line, comparison: Comparison
) -> Iterator[Check]:
    """Leave undecided what the policy asks of a comparison that was never measured so."""
    asked = tables(policy)
    others = list(_others(measured_by, asked))
    missing = dict(_cohorts_missing(measured_by, asked, comparison))
    for check in checks:
        if any(check.name == f"cohort {name}" or check.name.startswith(f"cohort {name}: ") for name in missing):
            continue
        touching = [said for said in others if _touches(said, check)]
        yield _undecided(check, touching) if touching else check
    for name, why in missing.items():
        yield Check(name=f"cohort {name}", outcome=Outcome.INCONCLUSIVE, because=why)


def _others(measured_by: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[str]:
    """Say which settings of the measurement the policy has otherwise."""
    for table, keys in _ASKED.items():
        for key in keys:
            was, wanted = measured_by.get(table, {}).get(key), asked[table].get(key)
            if was != wanted:
                yield f"{table}.{key} = {was} and not {wanted}"


def _touches(said: str, check: Check) -> bool:
    """Whether a check rests on what was measured by another setting; what int8 costs has an interval, too."""
    if check.name == "quantisation":
        return "low" in check.evidence and said.startswith("gate.confidence ")
    return check.name.startswith(TIMED)


def _undecided(check: Check, why: Sequence[str]) -> Check:
    because = f"It was measured with {' and '.join(why)}, so it must be measured again."
    return replace(check, outcome=Outcome.INCONCLUSIVE, because=because)


def _cohorts_missing(
    measured_by: Mapping[str, Any], asked: Mapping[str, Any], comparison: Comparison
) -> Iterator[tuple[str, str]]:
    measured = {result.cohort for result in comparison.cohorts}
    then = measured_by.get("gate", {}).get("cohorts", {})
    for name, cohort in asked["gate"]["cohorts"].items():
        if name not in measured:
            yield name, f"The cohort {name} was not measured then, so it must be measured again."
        elif name in then and any(then[name].get(key) != cohort[key] for key in _CUT_BY):
            yield name, f"The cohort {name} was cut otherwise then, so it must be measured again."


def tables(line: Line) -> dict[str, Any]:
    """Give the tables of a line that judge, as JSON."""
    found: dict[str, Any] = line.model_dump(mode="json", include=decisions.POLICY)
    return found
