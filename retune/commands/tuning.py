"""Decide, search, and look at what searches found, by hand."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from recsys.errors import NoTime
from recsys.records import AblationPlan, Action, Plan, dump
from retune import knobs, stages
from retune import search as run
from retune.answers import HELD, INTERRUPTED, fail, show
from retune.commands.options import AsJson, By, LineName, Reason, json_object, site_of, who
from retune.sheet import Sheet

if TYPE_CHECKING:
    from retune.edits import Edited


def decide(
    line: LineName = None,
    *,
    action: Annotated[Action | None, typer.Option(help="Override the decision; needs --reason.")] = None,
    budget_s: Annotated[
        float | None, typer.Option(min=1, help="Seconds a search may take; the line's own if left out.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="The dataset to decide about; the newest if left out.")] = None,
    reason: Reason = None,
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Decide what to do, and say what each thing that could be done is expected to gain and to take.

    `retune search LINE --plan ID` carries the decision out.
    """
    _check_reason(action, reason)
    site = site_of(line)
    verdict = stages.judge(site, stages.newest_dataset(site, dataset))
    plan = stages.decide(
        site, verdict, by=who(by), reason=reason, action=action, budget_s=budget_s, nonce=secrets.token_hex(8)
    )
    then = "" if plan.action is Action.NOTHING else f" `retune search {site.line.name} --plan {plan.plan_id}` does it."
    show(
        as_json,
        {"outcome": "decided", "plan": dump(plan)},
        f"{plan.because} The plan: {plan.action}.{then}",
        _weighed(plan, site.line.decision.percent_worth_s),
    )


def search(
    line: LineName = None,
    *,
    action: Annotated[Action | None, typer.Option(help="Override the decision; needs --reason.")] = None,
    family: Annotated[str | None, typer.Option(help="Family of the configuration to refit.")] = None,
    configuration: Annotated[
        str | None, typer.Option(help="Configuration to refit, as a JSON object.", metavar="JSON")
    ] = None,
    budget_s: Annotated[
        float | None, typer.Option(min=1, help="Seconds the search may take; the line's own if left out.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="The dataset to search on; the newest if left out.")] = None,
    plan_id: Annotated[
        str | None,
        typer.Option("--plan", help="Take up an open search again that nothing works on any more.", metavar="ID"),
    ] = None,
    reason: Reason = None,
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Decide, and search for a better configuration if that is the decision."""
    if plan_id and (action or family or configuration or budget_s or dataset or reason):
        raise ValueError("--plan takes up what was decided, and therefore goes with no option that decides otherwise.")
    _check_reason(action, reason)
    asked_for = json_object(configuration, "--configuration")
    site = site_of(line)
    if plan_id:
        plan = stages.open_plan(site, plan_id)
    else:
        verdict = stages.judge(site, stages.newest_dataset(site, dataset))
        plan = stages.decide(
            site,
            verdict,
            by=who(by),
            reason=reason,
            action=action,
            family=family,
            configuration=asked_for,
            budget_s=budget_s,
            # What a person asks for is a new decision, whatever was decided on the same data.
            nonce=secrets.token_hex(8),
        )
    if plan.action is Action.NOTHING:
        show(as_json, {"outcome": "nothing to do", "plan": dump(plan)}, plan.because)
        return
    try:
        with _resumable(plan, f"`retune search {site.line.name} --plan {plan.plan_id}`"):
            with run.live(plan, quiet=as_json) as on_trial:
                study = run.run(site, plan, on_trial=on_trial)
            candidate = stages.choose(site, plan)
    except NoTime as late:
        again = f"`retune search {site.line.name} --plan {plan.plan_id}` carries it out later."
        show(as_json, {"outcome": "put off", "plan": dump(plan), "because": str(late)}, f"{late} {again}")
        raise typer.Exit(HELD) from late
    show(
        as_json,
        {"outcome": "done", "plan": dump(plan), "study": dump(study), "candidate": dump(candidate)},
        f"{plan.because} {study.ended} The candidate is {candidate.candidate_id}: {candidate.family} "
        f"{json.dumps(dict(candidate.configuration))}."
        + "".join(f"\nThe past, {told}" for told in plan.past)
        + "".join(f"\n{rung.because}" for rung in plan.rungs),
        Sheet(("", "trials", "seconds", "gain", "gain an hour", ""), run.account(study)),
    )


def review(
    line: LineName = None,
    *,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write what the last review proposed into the line's file.")
    ] = False,
    only: Annotated[str | None, typer.Option(help="Apply one proposal alone.", metavar="NAME")] = None,
    reason: Reason = None,
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Say which parameters have mattered over all searches and where ranges end too early, and propose changes."""
    if (only or reason) and not apply:
        raise ValueError("--only and --reason belong to --apply, which changes the line's file.")
    site = site_of(line)
    plan = stages.newest_search(site)
    if apply:
        _applied(as_json, stages.apply_review(site, plan, by=who(by), only=only, reason=reason))
        return
    found = stages.review(site, plan, by=who(by))
    show(
        as_json,
        {"outcome": "reviewed", "review": dump(found)},
        found.because,
        *knobs.parts(found),
    )


def ablate(
    line: LineName = None,
    release: Annotated[
        str | None, typer.Argument(help="The release to take apart; what is in production if left out.")
    ] = None,
    *,
    candidate: Annotated[
        bool, typer.Option("--candidate", help="Take the newest candidate apart instead of a release.")
    ] = False,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Trainings of each variant; the line's own if left out.")
    ] = None,
    budget_s: Annotated[
        float | None, typer.Option(min=1, help="Seconds that trials may run; the line's own if left out.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="The dataset to train on; the newest if left out.")] = None,
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Train a release without one component at a time, and say what each of them is worth.

    What was ended goes on when it is asked for again; what is known already is not trained again.
    """
    site = site_of(line)
    plan = stages.plan_ablation(
        site,
        by=who(by),
        release_id=release,
        of_candidate=candidate,
        dataset_id=dataset,
        seeds=seeds,
        budget_s=budget_s,
    )
    with _resumable(plan, "the same command"), run.live(plan, quiet=as_json) as on_trial:
        found = run.run_ablation(site, plan, on_trial=on_trial)
    show(
        as_json,
        {"outcome": "ablated", "ablation": dump(found)},
        found.because,
        knobs.ablated(found),
    )


def _check_reason(action: Action | None, reason: str | None) -> None:
    if action is not None and not reason:
        raise ValueError("--action overrides the decision and therefore needs --reason.")


@contextmanager
def _resumable(plan: Plan | AblationPlan, command: str) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the block and then the process, which says by which command the plan goes on."""
    try:
        with run.ended_by_sigterm():
            yield
    except KeyboardInterrupt:
        stopped = InterruptedError(f"{plan.plan_id} was ended before it was done; {command} takes it up again.")
        fail("interrupted", stopped, INTERRUPTED)


def _weighed(plan: Plan, percent_worth_s: float) -> Sheet:
    """Lay out what could be done, by what it is worth, and say what the columns mean."""
    return Sheet(
        ("", "action", "expected gain", "nine of ten", "takes", "worth", "not by itself, because"),
        [
            (
                "→" if option.action is plan.action else "",
                str(option.action),
                f"{100 * option.gain.value:+.1f} %",
                f"{100 * option.gain.low:+.1f} to {100 * option.gain.high:+.1f} %",
                f"{option.seconds:.0f} s",
                f"{option.score:+.0f} s",
                option.barred,
            )
            for option in plan.options
        ],
        title=(
            "\nGain: of NDCG@10 over doing nothing; nine of ten: nine of ten gains lie in this interval; worth: the "
            f"expected gain in seconds, {percent_worth_s:g} s for 1 % (decision.percent_worth_s), less what it takes"
        ),
    )


def _applied(as_json: bool, edited: "Edited") -> None:
    """Say what was written into the line's file."""
    done, before = [p.name for p in edited.applied], [p.name for p in edited.there_already]
    outcome = "applied" if done else "nothing to apply"
    already = f" There already: {', '.join(before)}." if before else ""
    show(
        as_json,
        {"outcome": outcome, "applied": done, "there_already": before, "diff": edited.diff},
        f"{edited.diff}Applied: {', '.join(done)}.{already}" if done else f"There is nothing to apply.{already}",
    )
