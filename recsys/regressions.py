"""Check that a candidate loses in no cohort by more than the line's margin, with one chance of error for all together.

Each group of each cohort is tested for a loss beyond its margin; Holm's step-down keeps the chance of any false alarm,
over all groups together and however much they overlap, at the level (Holm 1979, "A Simple Sequentially Rejective
Multiple Test Procedure"). A group in which nothing was found tells something only if a loss that matters would have
been found there; else it says how large one must be.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from recsys.records import Check, CohortResult, Outcome, Paired
from recsys.settings import Cohort, Gate
from recsys.significance import RELATIVE, detectable, estimate, tails

POWER = 0.9  # with which a loss of `must_find` must be found
FEWEST = 10  # users of a group of which anything is believed
_UNDECIDED = "undecided"  # in a check's evidence: 1 where the group is too small to tell


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """One group that can be tested."""

    result: CohortResult
    paired: Paired
    cohort: Cohort
    p: float  # of a loss beyond the margin


def checks(gate: Gate, results: Sequence[CohortResult]) -> tuple[Check, ...]:
    """Check each group of each cohort.

    Args:
        gate: The line's cohorts, and its confidence: 1 less it is the chance of any false alarm.
        results: What was measured of the groups; those of a cohort that the line does not declare are passed over.

    Returns:
        One check a group, in the order of `results`.
    """
    declared = [result for result in results if result.cohort in gate.cohorts]
    groups = [group for result in declared if (group := _group(result, gate.cohorts[result.cohort])) is not None]
    tested = dict(_holm(groups, 1 - gate.confidence))
    untested = {
        (result.cohort, result.group): _untested(result, gate.cohorts[result.cohort])
        for result in declared
        if (result.cohort, result.group) not in tested
    }
    return tuple((tested | untested)[result.cohort, result.group] for result in declared)


def undecided(checks: Sequence[Check]) -> list[str]:
    """Name the groups of cohorts that were too small to tell, whether or not that blocks."""
    return [check.name for check in checks if check.evidence.get(_UNDECIDED)]


def _group(result: CohortResult, cohort: Cohort) -> _Group | None:
    """Give what can be tested: where the incumbent reaches nothing, nothing can be lost."""
    paired = result.paired
    if paired is None or not paired.first[1]:
        return None
    return _Group(result=result, paired=paired, cohort=cohort, p=tails(paired, RELATIVE, -cohort.margin).worse)


def _holm(groups: Sequence[_Group], level: float) -> Iterator[tuple[tuple[str, str], Check]]:
    """Reject from the smallest p on, each at the level divided among those that are left, until one is not rejected."""
    left, rejecting = len(groups), True
    for group in sorted(groups, key=lambda each: each.p):
        own = level / left
        rejecting = rejecting and group.p <= own
        yield (group.result.cohort, group.result.group), _judged(group, own, rejecting, first=level / len(groups))
        if rejecting:
            left -= 1


def _judged(group: _Group, level: float, lost: bool, *, first: float) -> Check:
    found, cohort = estimate(group.paired, RELATIVE, level=level), group.cohort
    enough = group.paired.users >= FEWEST
    least = detectable(group.paired, RELATIVE, margin=cohort.margin, level=first, power=POWER) if enough else 1.0
    least = min(least, 1.0)  # nobody loses more than all
    ruled_out = enough and tails(group.paired, RELATIVE, -cohort.margin).better <= level
    undecided = not lost and not ruled_out and least > cohort.must_find
    if lost:
        outcome, said = Outcome.FAIL, "so much was lost"
    elif ruled_out:
        outcome, said = Outcome.PASS, "a larger loss is ruled out"
    elif undecided:
        outcome = _too_small(cohort)
        finds = f"only a loss of {least:.1%} would be found with {POWER:.0%}" if least < 1 else "no loss would be found"
        said = f"the group is too small to tell, for {finds}, and one of {cohort.must_find:.1%} must be"
    else:
        outcome, said = Outcome.PASS, f"a loss of {least:.1%} would have been found with {POWER:.0%}"
    return Check(
        name=_name(group.result),
        outcome=outcome,
        because=(
            f"NDCG@10 of {group.paired.users} users changes by {found.value:+.1%} [{found.low:+.1%}, {found.high:+.1%}]"
            f", and {-cohort.margin:+.1%} is allowed: p of a larger loss is {group.p:.2g}, held against {level:.2g}; "
            f"{said}."
        ),
        evidence={
            "value": found.value,
            "low": found.low,
            "high": found.high,
            "limit": -cohort.margin,
            "p": group.p,
            "level": level,
            "detectable": least,
            _UNDECIDED: float(undecided),
            "users": group.paired.users,
        },
    )


def _untested(result: CohortResult, cohort: Cohort) -> Check:
    if result.paired is None:
        outcome, because = _too_small(cohort), f"Nothing can be told: {result.missing}."
        return Check(name=_name(result), outcome=outcome, because=because, evidence={_UNDECIDED: 1.0})
    outcome, because = Outcome.PASS, f"The incumbent reaches nothing with {result.paired.users} users to lose."
    return Check(name=_name(result), outcome=outcome, because=because)


def _too_small(cohort: Cohort) -> Outcome:
    return Outcome.INCONCLUSIVE if cohort.too_small == "blocks" else Outcome.PASS


def _name(result: CohortResult) -> str:
    return f"cohort {result.cohort}: {result.group}" if result.group else f"cohort {result.cohort}"
