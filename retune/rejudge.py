"""Judge what was measured of past candidates by another policy, and say what would have come out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from recsys import channel, decisions, ledger, measured
from recsys.channel import Pointer
from recsys.errors import BadObject
from recsys.gate import judge, overall
from recsys.records import Check, Comparison, GateRecord, Outcome, Verdict, load, parse
from recsys.settings import Line
from recsys.store import Store
from retune import remeasure

LIMITS = (
    "Each candidate is held against what was in production when it was measured. By another policy other candidates "
    "would have been released, and later ones would have been searched from, and measured against, other incumbents: "
    "no replay knows how they would have fared.",
    "What a look may spend is what the recorded look could; where the policy would have led to other looks, the levels "
    "would have been others.",
)
"""What the verdicts of a replay do not mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejudged:
    """One comparison of a past candidate, as it was judged and as the policy judges it."""

    candidate: str
    incumbent: str
    measured_for: str  # key of the comparison
    at: datetime | None  # when it was judged; None: it never was
    then: Outcome | None
    now: Outcome
    changed: tuple[str, ...]  # checks with both outcomes
    because: str  # of the policy's verdict, and what is unreadable
    unreadable: tuple[str, ...] = ()  # records of the candidate, each with why
    open: tuple[str, ...] = ()  # keys of the policy that the evidence cannot judge, as `gate.confidence`


def rejudge(line: Line, policy: Line, store: Store) -> list[Rejudged]:
    """Judge every comparison that is kept, the latest judged last.

    Args:
        line: As its file is now; stands for what older versions kept no record of.
        policy: The line with the tables that judge.
        store: The line's part of the store; it is only read.

    Raises:
        BadObject: The channel or the ledger cannot be read.
    """
    past = _Past(
        moves=channel.history(store), gated=ledger.read(store, what="gated"), policy_of_today=remeasure.tables(line)
    )
    found = [
        _rejudged(store, policy, past, entry.key)
        for entry in store.list("releases/")
        if f"/{decisions.COMPARISONS}" in entry.key and entry.key.endswith(".json")
    ]
    return sorted(found, key=lambda each: (each.at is not None, each.at or 0, each.measured_for))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Past:
    moves: Sequence[Pointer]
    gated: Sequence[ledger.Entry]
    policy_of_today: Mapping[str, Any]

    def verdict(self, comparison: Comparison) -> tuple[Verdict, datetime] | None:
        """Give the newest verdict on a pair of which no record is kept."""
        pair = comparison.candidate.release_id, comparison.incumbent.release_id
        for entry in reversed(self.gated):
            if (entry.evidence.get("candidate"), entry.evidence.get("incumbent")) == pair:
                return load(Verdict, entry.evidence), entry.at
        return None


def _rejudged(store: Store, policy: Line, past: _Past, at: str) -> Rejudged:
    try:
        comparison = parse(Comparison, at, store.get(at).body)
    except BadObject as error:
        return Rejudged(
            candidate=at.split("/")[1],
            incumbent="?",
            measured_for=at,
            at=None,
            then=None,
            now=Outcome.INCONCLUSIVE,
            changed=(),
            because=f"It was measured by another version, in a form that cannot be judged any more: {error.reason}",
        )
    told = measured.known(store, comparison.candidate.release_id, comparison.incumbent.release_id)
    if told and measured.sha256(comparison) not in told:
        return Rejudged(
            candidate=comparison.candidate.release_id,
            incumbent=comparison.incumbent.release_id,
            measured_for=at,
            at=None,
            then=None,
            now=Outcome.INCONCLUSIVE,
            changed=(),
            because=f"It was changed since it was measured: the ledger has the SHA-256 {' or '.join(told)} of it.",
        )
    record = _record(store, comparison, at)
    broken = [] if record else decisions.unreadable(store, comparison.candidate.release_id)
    known = (record.verdict, record.at) if record else past.verdict(comparison)
    then, when = known or (None, None)
    judged = judge(
        policy,
        comparison,
        by="replay",
        moves=[move for move in past.moves if when is None or move.at <= when],
        again=record.again if record else None,
    )
    measured_by = record.policy if record else past.policy_of_today
    checks = tuple(remeasure.as_far_as_measured(judged.checks, measured_by, policy, comparison))
    return Rejudged(
        candidate=judged.candidate,
        incumbent=judged.incumbent,
        measured_for=at,
        at=when,
        then=then.outcome if then else None,
        now=overall(checks),
        changed=tuple(_changed(then.checks, checks)) if then else (),
        because=" ".join([" ".join(_reasons(checks)) or judged.because, *map(str, broken)]),
        unreadable=tuple(map(str, broken)),
        open=tuple(remeasure.unjudged(measured_by, policy, comparison)),
    )


def _record(store: Store, comparison: Comparison, at: str) -> GateRecord | None:
    kept = decisions.records(store, comparison.candidate.release_id)
    return next((record for record in kept if record.comparison_key == at), None)


def _reasons(checks: Iterable[Check]) -> dict[str, None]:
    """Give the reasons of all that did not pass, each once."""
    return dict.fromkeys(check.because for check in checks if check.outcome is not Outcome.PASS)


def _changed(then: Sequence[Check], now: Sequence[Check]) -> Iterator[str]:
    before = {check.name: check.outcome for check in then}
    after = {check.name: check.outcome for check in now}
    for name in dict.fromkeys([*before, *after]):
        was, is_now = before.get(name, "not checked"), after.get(name, "not checked")
        if was != is_now:
            yield f"{name}: {was}, now {is_now}"
