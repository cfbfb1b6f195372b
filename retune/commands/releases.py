"""Promote a candidate, explain a release and roll it back, by hand."""

from typing import Annotated

import typer

from recsys.errors import Held
from recsys.records import dump
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
    reason: Reason = None,
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Package and measure a candidate, and release it if the gate passes it."""
    if again and not reason:
        raise ValueError("--again brings back what was rolled back and therefore needs --reason.")
    if reason and not again:
        raise ValueError("--reason belongs to --again, which brings back what was rolled back.")
    site = site_of(line)
    comparison = stages.measure(site, stages.package(site, stages.newest_candidate(site, plan)), by=who(by))
    verdict = stages.gate(site, comparison, by=who(by), again=reason)
    checks = Sheet(("check", "outcome", "because"), [(c.name, str(c.outcome), c.because) for c in verdict.checks])
    try:
        released = stages.release(site, verdict)
    except Held as held:
        show(as_json, {"outcome": "held", "verdict": dump(verdict)}, str(held), checks)
        raise typer.Exit(HELD) from held
    show(
        as_json,
        {"outcome": "released", "verdict": dump(verdict), "release": dump(released)},
        f"{verdict.because} Production is now {released.release_id}, generation {released.generation}.",
        checks,
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
