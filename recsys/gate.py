"""Decide whether a candidate may replace the incumbent; where the evidence does not decide, the incumbent stays."""

import hashlib
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from recsys import balance, channel, decisions, ledger, novelty, quality, regressions, speed
from recsys.bundles import INT8, key
from recsys.channel import Pointer
from recsys.errors import NoRelease, NotFound
from recsys.latency.pace import within
from recsys.records import Check, Comparison, Outcome, Verdict, dump, parse, to_json
from recsys.settings import Line
from recsys.store import Store

log = logging.getLogger(__name__)

VERDICT = "verdict.json"


def gate(line: Line, store: Store, comparison: Comparison, *, by: str, again: str | None = None) -> Verdict:
    """Judge a comparison by the line's thresholds, and keep the verdict and its record beside the candidate's bundle.

    Whoever asks the same again gets the verdict that is kept, and nothing is written.

    Args:
        line: Whose gate and budgets count.
        store: The line's part of the store.
        comparison: What was measured.
        by: Who asks; a person, or `schedule`.
        again: Why a release that was rolled back may come back; None: it may not.

    Raises:
        ValueError: `again` says nothing.
        BadObject: The verdict that is kept, or the channel, cannot be read.
    """
    began = time.perf_counter()
    found = judge(line, comparison, by=by, moves=channel.history(store), again=again)
    judged_s = time.perf_counter() - began
    dataset_id = comparison.candidate.dataset_id
    return keep(line, store, found, comparison, dataset_id=dataset_id, again=again, judged_s=judged_s)


def keep(
    line: Line,
    store: Store,
    found: Verdict,
    comparison: Comparison | None = None,
    *,
    dataset_id: str,
    again: str | None = None,
    judged_s: float = 0.0,
) -> Verdict:
    """Keep a verdict and its record beside the candidate's bundle, and in the ledger; the same one is kept once.

    Args:
        line: Whose policy judged.
        store: The line's part of the store.
        found: The verdict.
        comparison: What was judged; None: the bundle is not sound and was therefore not measured.
        dataset_id: Whose holdout it was, or would have been.
        again: Why a release that was rolled back might come back.
        judged_s: Seconds that judging took.

    Returns:
        The verdict that is kept; that of whoever asked first, where it is the same.

    Raises:
        BadObject: The verdict that is kept cannot be read.
    """
    kept = _kept(store, found.candidate)
    same = kept if kept and to_json(replace(kept, by=found.by)) == to_json(found) else None
    record = decisions.keep(
        line, store, same or found, comparison, dataset_id=dataset_id, again=again, judged_s=judged_s
    )
    if same:
        return same
    body = to_json(found)
    ledger.append(
        store,
        ledger.Entry(
            at=record.at,
            what="gated",
            who=found.by,
            why=found.because,
            evidence=dump(found),
            id=f"gated-{hashlib.sha256(body + record.at.isoformat().encode()).hexdigest()[:32]}",
        ),
    )
    store.put(key(found.candidate, VERDICT), body)
    log.info("%s: %s", found.outcome, found.because)
    return found


def verdict(store: Store, release_id: str) -> Verdict:
    """Give the newest verdict on a bundle.

    Raises:
        NoRelease: The bundle has not been judged.
        BadObject: The verdict cannot be read.
    """
    found = _kept(store, release_id)
    if found is None:
        raise NoRelease(f"{release_id!r} must have been judged, but there is no verdict on it.")
    return found


def judge(
    line: Line, comparison: Comparison, *, by: str, moves: Sequence[Pointer] = (), again: str | None = None
) -> Verdict:
    """Put every check of the line to a comparison.

    One failed check fails the candidate; else one inconclusive check leaves it undecided; only all passed lets it
    through.

    Args:
        line: Whose gate and budgets count.
        comparison: What was measured.
        by: Who asks; a person, or `schedule`.
        moves: Of the channel so far, oldest first.
        again: Why a release that was rolled back may come back; None: it may not.

    Raises:
        ValueError: `again` says nothing.
    """
    checks = (
        novelty.check(comparison.candidate.release_id, comparison.incumbent.release_id, moves, again),
        *comparison.sanity,
        _sanity(comparison),
        _users(line, comparison),
        quality.check(line.gate, comparison),
        *regressions.checks(line.gate, comparison.cohorts),
        *balance.checks(line.gate, comparison),
        *speed.checks(line.gate, line.budgets, comparison),
        _size(line, comparison),
        _quantisation(line, comparison),
    )
    outcome = overall(checks)
    because = _because(line, comparison, outcome, checks)
    return Verdict(
        candidate=comparison.candidate.release_id,
        incumbent=comparison.incumbent.release_id,
        outcome=outcome,
        checks=checks,
        because=f"{because} {again}" if again else because,
        by=by,
        as_of=comparison.as_of,
    )


def overall(checks: Iterable[Check]) -> Outcome:
    """Give the outcome of all checks together: that of the worst."""
    outcomes = {check.outcome for check in checks}
    return next(o for o in (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.PASS) if o in outcomes)


def _kept(store: Store, release_id: str) -> Verdict | None:
    try:
        return parse(Verdict, key(release_id, VERDICT), store.get(key(release_id, VERDICT)).body)
    except NotFound:
        return None


def _sanity(comparison: Comparison) -> Check:
    """Scores are numbers that tell items apart: without that nothing else means anything."""
    finite, constant = comparison.candidate.finite_share, comparison.candidate.constant_share
    return Check(
        name="sanity",
        outcome=Outcome.PASS if finite == 1 and constant == 0 else Outcome.FAIL,
        because=(
            f"Scores are finite in {finite:.2%} of the cases, which must be all, and all alike in {constant:.2%}, "
            "which must be none."
        ),
        evidence={"finite_share": finite, "constant_share": constant},
    )


def _users(line: Line, comparison: Comparison) -> Check:
    """There are enough users for the intervals to mean what they say: those of one user would have no width at all.

    Users are what the bootstrap draws, and of few of them it knows too little (Cameron, Gelbach and Miller 2008,
    "Bootstrap-Based Improvements for Inference with Clustered Errors").
    """
    users, least = comparison.candidate.users, line.gate.min_users
    return Check(
        name="users",
        outcome=Outcome.PASS if users >= least else Outcome.INCONCLUSIVE,
        because=f"The holdout has {users} users, and intervals are believed from {least} on.",
        evidence={"value": users, "limit": least},
    )


def _size(line: Line, comparison: Comparison) -> Check:
    size_mib, budget = comparison.candidate.size_mib, line.budgets.size_mib
    return Check(
        name="size",
        outcome=Outcome.PASS if size_mib <= budget else Outcome.FAIL,
        because=f"The served graph has {size_mib:.2f} MiB, and the budget is {budget:g} MiB.",
        evidence={"value": size_mib, "limit": budget},
    )


def _quantisation(line: Line, comparison: Comparison) -> Check:
    """Quantisation, where int8 serves, has not cost more than the line allows.

    A point within the limit passes although the interval reaches beyond: that the served graph is good enough is what
    the quality check proves, and this one only looks for harm.
    """
    loss, limit = comparison.quantisation_loss, line.gate.max_quantisation_loss
    if loss is None or comparison.candidate.latency[0].graph != INT8:
        return Check(
            name="quantisation", outcome=Outcome.PASS, because="fp32 serves, so quantisation has cost nothing."
        )
    return Check(
        name="quantisation",
        outcome=Outcome.PASS if loss.value <= limit else within(loss, limit),
        because=(
            f"int8 costs {loss.value:.2%} [{loss.low:.2%}, {loss.high:.2%}] of fp32's NDCG@10, "
            f"and {limit:.2%} is allowed."
        ),
        evidence=speed.evidence(loss, limit),
    )


def _untold(checks: tuple[Check, ...]) -> str:
    """Name what the gate lets through without knowing."""
    names = regressions.undecided(checks)
    return f" Too small to tell: {', '.join(names)}." if names else ""


def _because(line: Line, comparison: Comparison, outcome: Outcome, checks: tuple[Check, ...]) -> str:
    """Say in one sentence why."""
    candidate, incumbent = comparison.candidate, comparison.incumbent
    if outcome is Outcome.PASS:
        return (
            f"{candidate.release_id} may replace {incumbent.release_id}: NDCG@10 changes by "
            f"{quality.gain(line.gate, comparison)}, p99 is {speed.interval(candidate.latency[0].p99_ms)} ms, "
            f"and every budget is kept.{_untold(checks)}"
        )
    verb = {Outcome.FAIL: "fails", Outcome.INCONCLUSIVE: "does not show"}[outcome]
    deciding = [check for check in checks if check.outcome is outcome]
    names = " and ".join(check.name for check in deciding if check.name != "users")
    said = [f"{verb} {names}"] if names else []
    if any(check.name == "users" for check in deciding):
        said.append("was tried on a holdout with too few users")
    reasons = " ".join(check.because for check in deciding)
    return f"{candidate.release_id} {' and '.join(said)}, so {incumbent.release_id} stays: {reasons}"
