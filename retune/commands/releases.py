"""Promote a candidate, explain a release and roll it back, by hand."""

from typing import Annotated

import typer

from recsys.errors import Held
from recsys.records import Outcome, Override, Verdict, dump
from retune import knobs, stages
from retune.answers import HELD, show
from retune.commands.options import AsJson, By, LineName, Reason, site_of, who
from retune.sheet import Sheet


def promote(
    line: LineName = None,
    *,
    plan: Annotated[
        str | None, typer.Option(help="The plan whose candidate to promote; the newest if left out.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also if it was rolled back; needs --reason.")] = False,
    override: Annotated[
        bool, typer.Option("--override", help="Also if the gate does not pass it; needs --reason.")
    ] = False,
    reason: Reason = None,
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Package and measure a candidate, and release it if the gate passes it, or if a person overrides the gate.

    A line that asks people for their approval is released by the DAG promote alone: this measures and judges.
    """
    _check_reason(again=again, override=override, reason=reason)
    site = site_of(line)
    wish = Override(by=who(by), reason=reason) if override and reason else None
    bundle = stages.package(site, stages.newest_candidate(site, plan))
    try:
        comparison = stages.measure(site, bundle, by=who(by), again=reason if again else None, override=wish)
        verdict = stages.gate(site, comparison, by=who(by), again=reason if again else None)
        released = stages.release(site, verdict, override=wish)
    except Held as held:
        verdict = stages.verdict(site, bundle.release_id)
        show(as_json, {"outcome": "held", "verdict": dump(verdict)}, str(held), _checks(verdict))
        raise typer.Exit(HELD) from held
    because = verdict.because if verdict.outcome is Outcome.PASS else released.reason
    show(
        as_json,
        {"outcome": "released", "verdict": dump(verdict), "release": dump(released)},
        f"{because} Production is now {released.release_id}, generation {released.generation}.",
        _checks(verdict),
    )


def _check_reason(*, again: bool, override: bool, reason: str | None) -> None:
    if again and override:
        raise ValueError("--again and --override must not both be given: an override brings back what it names, too.")
    if again and not (reason and reason.strip()):
        raise ValueError("--again brings back what was rolled back and therefore needs --reason.")
    if override and not (reason and reason.strip()):
        raise ValueError("--override releases what the gate does not pass and therefore needs --reason.")
    if reason and not (again or override):
        raise ValueError(
            "--reason belongs to --again, which brings back what was rolled back, and to --override, which releases "
            "what the gate does not pass."
        )


def attribute(
    line: LineName = None,
    release: Annotated[
        str | None, typer.Argument(help="The release to ask about; what is in production if left out.")
    ] = None,
    *,
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Say which changed knobs made a release differ from its predecessor, as foreseen, and what the gate measured."""
    found = stages.attribute(site_of(line), release, by=who(by))
    show(
        as_json,
        {"outcome": "attributed", "attribution": dump(found)},
        found.because,
        knobs.attributed(found),
    )


def rollback(
    line: LineName = None,
    *,
    reason: Annotated[str, typer.Option(help="Why; goes into the ledger.")],
    to: Annotated[str | None, typer.Option(help="The release to go back to; the previous one if left out.")] = None,
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Take production back to an earlier release."""
    released = stages.rollback(site_of(line), to=to, reason=reason, by=who(by))
    show(
        as_json,
        {"outcome": "rolled back", "release": dump(released)},
        f"Production is now {released.release_id}, generation {released.generation}, instead of {released.replaced}.",
    )


def _checks(verdict: Verdict) -> Sheet:
    return Sheet(("check", "outcome", "because"), [(c.name, str(c.outcome), c.because) for c in verdict.checks])
