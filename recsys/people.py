"""Decide what people's words do to a judged candidate: who may approve it, and what may be overridden."""

import hashlib
import json

from recsys.errors import Held
from recsys.records import Answer, Outcome, Override, Said, Verdict, dump
from recsys.settings import Approval

SANITY = "sanity"
"""How the names of the checks begin whose failure nobody overrides: what is broken is not a matter of judgement."""

NOBODY = "nobody"
NAMELESS = "somebody without a name"
"""Who started a run of which no name is kept: it might be anybody, so nobody else can be told from them."""


def digest(verdict: Verdict) -> str:
    """Name a verdict, so that an answer to it is one to no other."""
    return hashlib.sha256(json.dumps(dump(verdict), sort_keys=True).encode()).hexdigest()[:32]


def check_override(verdict: Verdict, override: Override) -> None:
    """Refuse an override of what nobody's judgement can mend.

    Raises:
        Held: A check of sanity has not passed, or the candidate is in production already.
    """
    broken = [check for check in verdict.checks if _is_of_sanity(check.name) and check.outcome is not Outcome.PASS]
    if broken:
        raise Held(
            f"{override.by} may not override {' and '.join(check.name for check in broken)}, which is about what is "
            f"broken and no matter of judgement: {' '.join(check.because for check in broken)}"
        )
    if verdict.candidate == verdict.incumbent:
        raise Held(f"{verdict.candidate} is in production already, so there is nothing to override.")


def overridden(verdict: Verdict, override: Override) -> str:
    """Say in one sentence what an override does."""
    return (
        f"{override.by} releases {verdict.candidate} instead of {verdict.incumbent} although the verdict is "
        f"{verdict.outcome}: {override.reason.strip().rstrip('.')}."
    )


def hear(approval: Approval, verdict: Verdict, answer: Answer, *, searched_by: str) -> Said:
    """Say whether an answer lets a candidate through.

    It does if one of the line's approvers gave it, to this very verdict, and had not started the run that asks, nor
    ordered the candidate.

    Args:
        approval: The line's approvers.
        verdict: What may be released.
        answer: What came back.
        searched_by: Who ordered the candidate; a person, or `schedule` or `asset`.
    """
    objection = _objection(approval, verdict, answer, searched_by)
    if objection is None:
        return Said(
            what="approved",
            who=answer.by,
            why=f"{answer.name} approved {verdict.candidate}, for which {answer.asked_by} had asked.",
            at=answer.at,
        )
    return Said(
        what="rejected",
        who=answer.by or NOBODY,
        why=f"{objection}, so {verdict.incumbent} stays instead of {verdict.candidate}.",
        at=answer.at,
    )


def _objection(approval: Approval, verdict: Verdict, answer: Answer, searched_by: str) -> str | None:
    if not answer.by:
        return f"Nobody answered within {approval.timeout_hours:g} h"
    if not answer.approved:
        return f"{answer.name} rejected it"
    if answer.of != digest(verdict):
        return f"{answer.name} approved it, but was shown another verdict"
    if answer.by not in approval.users:
        return f"{answer.name} approved it, but is not among approval.users {list(approval.users)}"
    if answer.asked_by == NAMELESS:
        return f"{answer.name} approved it, but it is not known whether they had started the run that asks themselves"
    own = {name.casefold() for name in (answer.by, answer.name)}
    if answer.asked_by.casefold() in own:
        return f"{answer.name} approved it, but had started the run that asks, and nobody approves what is their own"
    if searched_by.casefold() in own:
        return f"{answer.name} approved it, but had ordered the candidate, and nobody approves what is their own"
    return None


def _is_of_sanity(name: str) -> bool:
    return name == SANITY or name.startswith(f"{SANITY}: ")
