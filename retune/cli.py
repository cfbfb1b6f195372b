"""Run any part of the loop by hand: the command `retune`.

Exit codes: 0 done, 1 held by the gate, or nothing taken because all of it was refused, or a search put off by the
line's feature refresh, 2 error, 130 a search was ended by Ctrl-C or SIGTERM.
"""

import json
import logging
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from recsys.errors import Held, LineError, NoFeedback, NoTime, RecsysError, RefusedBatch
from recsys.records import Action, dump
from retune import stages

if TYPE_CHECKING:
    from recsys.records import CheckedBatch, Plan, TableVersion
    from retune.edits import Edited

DONE, HELD, ERROR, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    help="Keep a production recommender tuned.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # errors as plain lines, which logs and scripts can read
)

_JSON = "--json"

LineName = Annotated[
    str | None, typer.Argument(help="The line; may be left out where there is only one.", metavar="LINE")
]
AsJson = Annotated[bool, typer.Option(_JSON, help="Print JSON instead of text, also when it is refused or fails.")]
AsOf = Annotated[
    datetime | None,
    typer.Option(help="The moment to act for, in UTC; now if left out. Freshness counts from it.", metavar="TIME"),
]
By = Annotated[str, typer.Option(help="Who acts; goes into the ledger.")]
Reason = Annotated[str | None, typer.Option(help="Why; goes into the ledger.")]


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(version("retune"))
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """Keep a production recommender tuned."""


def main() -> None:
    """Run the command line and turn what happened into an exit code."""
    try:
        logging.basicConfig(level=_log_level(), format="%(asctime)s %(name)s %(message)s")
        alone = _JSON not in sys.argv  # then Typer itself shows what is wrong, and ends
        sys.exit(app(prog_name="retune", standalone_mode=alone))
    except typer.TyperException as wrong:
        _fail("error", ValueError(wrong.format_message()), wrong.exit_code)
    except Held as held:
        _fail("held", held, HELD)
    except RefusedBatch as refused:
        _fail("refused", refused, HELD)
    except (RecsysError, ValueError) as error:
        _fail("error", error, ERROR)
    except Exception as error:
        logging.getLogger(__name__).exception("retune stopped on an error that it does not know")
        _fail("error", error, ERROR)


@app.command()
def feedback(
    line: LineName = None,
    *,
    as_of: AsOf = None,
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Pull, check, commit and freeze what has landed."""
    site = _site(line)
    try:
        batch = stages.pull(site, as_of=_moment(as_of))
    except NoFeedback as nothing:
        if nothing.refused:
            _refused(as_json, nothing)
            raise typer.Exit(HELD) from nothing
        _show(as_json, {"outcome": "nothing new", "because": str(nothing)}, str(nothing))
        return
    checked = stages.check(site, batch)
    version = stages.commit(site, checked)
    try:
        dataset = stages.freeze(site, version)
    except NoFeedback as nothing:  # committed, but not yet enough to learn from
        told = {"outcome": "committed", "because": str(nothing), **_taken(checked, version)}
        _show(as_json, told, f"{_taken_said(version)}. {nothing}")
        return
    incumbent = stages.baseline(site, dataset, by=_who(by))
    _show(
        as_json,
        {
            "outcome": "done",
            **_taken(checked, version),
            "dataset": dump(dataset),
            "incumbent": incumbent.release_id,
        },
        f"{_taken_said(version)}, frozen as dataset {dataset.dataset_id}"
        f"{', seen before' if dataset.cache_hit else ''}; the incumbent is {incumbent.release_id}.",
    )


@app.command()
def drift(
    line: LineName = None,
    *,
    dataset: Annotated[str | None, typer.Option(help="The dataset to judge; the newest if left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """Judge whether the newest window has drifted from what the incumbent was made from."""
    site = _site(line)
    verdict = stages.judge(site, stages.newest_dataset(site, dataset))
    _show(
        as_json,
        {"outcome": "drifted" if verdict.drifted else "steady", **dump(verdict)},
        verdict.because,
        _table(
            ("column", "method", "distance", "threshold", ""),
            [
                (c.column, c.method, f"{c.distance:.4f}", f"{c.threshold:.4f}", "moved" if c.drifted else "")
                for c in verdict.columns
            ],
        ),
    )


@app.command()
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
    if action is not None and not reason:
        raise ValueError("--action overrides the decision and therefore needs --reason.")
    site = _site(line)
    verdict = stages.judge(site, stages.newest_dataset(site, dataset))
    plan = stages.decide(
        site, verdict, by=_who(by), reason=reason, action=action, budget_s=budget_s, nonce=secrets.token_hex(8)
    )
    then = "" if plan.action is Action.NOTHING else f" `retune search {site.line.name} --plan {plan.plan_id}` does it."
    _show(
        as_json,
        {"outcome": "decided", "plan": dump(plan)},
        f"{plan.because} The plan: {plan.action}.{then}",
        _weighed(plan, site.line.decision.percent_worth_s),
    )


@app.command()
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
    from retune import search as run

    if plan_id and (action or family or configuration or budget_s or dataset or reason):
        raise ValueError("--plan takes up what was decided, and therefore goes with no option that decides otherwise.")
    if action is not None and not reason:
        raise ValueError("--action overrides the decision and therefore needs --reason.")
    asked_for = _json_object(configuration, "--configuration")
    site = _site(line)
    if plan_id:
        plan = stages.open_plan(site, plan_id)
    else:
        verdict = stages.judge(site, stages.newest_dataset(site, dataset))
        plan = stages.decide(
            site,
            verdict,
            by=_who(by),
            reason=reason,
            action=action,
            family=family,
            configuration=asked_for,
            budget_s=budget_s,
            # What a person asks for is a new decision, whatever was decided on the same data.
            nonce=secrets.token_hex(8),
        )
    if plan.action is Action.NOTHING:
        _show(as_json, {"outcome": "nothing to do", "plan": dump(plan)}, plan.because)
        return
    try:
        with run.ended_by_sigterm():
            with run.live(plan, quiet=as_json) as on_trial:
                study = run.run(site, plan, on_trial=on_trial)
            candidate = stages.choose(site, plan)
    except NoTime as late:
        again = f"`retune search {site.line.name} --plan {plan.plan_id}` carries it out later."
        _show(as_json, {"outcome": "put off", "plan": dump(plan), "because": str(late)}, f"{late} {again}")
        raise typer.Exit(HELD) from late
    except KeyboardInterrupt:
        again = f"retune search {site.line.name} --plan {plan.plan_id}"
        stopped = InterruptedError(f"{plan.plan_id} was ended before it was done; `{again}` takes it up again.")
        _fail("interrupted", stopped, INTERRUPTED)
    _show(
        as_json,
        {"outcome": "done", "plan": dump(plan), "study": dump(study), "candidate": dump(candidate)},
        f"{plan.because} {study.ended} The candidate is {candidate.candidate_id}: {candidate.family} "
        f"{json.dumps(dict(candidate.configuration))}."
        + "".join(f"\nThe past, {told}" for told in plan.past)
        + "".join(f"\n{rung.because}" for rung in plan.rungs),
        _table(("", "trials", "seconds", "gain", "gain an hour", ""), run.account(study)),
    )


@app.command()
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
    site = _site(line)
    plan = stages.newest_search(site)
    if apply:
        _applied(as_json, stages.apply_review(site, plan, by=_who(by), only=only, reason=reason))
        return
    from retune import knobs

    found = stages.review(site, plan, by=_who(by))
    _show(
        as_json,
        {"outcome": "reviewed", "review": dump(found)},
        found.because,
        *(_table(part.heads, part.rows, title=part.title) for part in knobs.parts(found)),
    )


@app.command()
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
    from retune import knobs
    from retune import search as run

    site = _site(line)
    plan = stages.plan_ablation(
        site,
        by=_who(by),
        release_id=release,
        of_candidate=candidate,
        dataset_id=dataset,
        seeds=seeds,
        budget_s=budget_s,
    )
    try:
        with run.ended_by_sigterm(), run.live(plan, quiet=as_json) as on_trial:
            found = run.run_ablation(site, plan, on_trial=on_trial)
    except KeyboardInterrupt:
        stopped = InterruptedError(f"{plan.plan_id} was ended before it was done; the same command takes it up again.")
        _fail("interrupted", stopped, INTERRUPTED)
    part = knobs.ablated(found)
    _show(
        as_json,
        {"outcome": "ablated", "ablation": dump(found)},
        found.because,
        _table(part.heads, part.rows, title=part.title),
    )


@app.command()
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
    site = _site(line)
    comparison = stages.measure(site, stages.package(site, stages.newest_candidate(site, plan)), by=_who(by))
    verdict = stages.gate(site, comparison, by=_who(by), again=reason)
    table = _table(("check", "outcome", "because"), [(c.name, str(c.outcome), c.because) for c in verdict.checks])
    try:
        released = stages.release(site, verdict)
    except Held as held:
        _show(as_json, {"outcome": "held", "verdict": dump(verdict)}, str(held), table)
        raise typer.Exit(HELD) from held
    _show(
        as_json,
        {"outcome": "released", "verdict": dump(verdict), "release": dump(released)},
        f"{verdict.because} Production is now {released.release_id}, generation {released.generation}.",
        table,
    )


@app.command()
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
    from retune import knobs

    found = stages.attribute(_site(line), release, by=_who(by))
    part = knobs.attributed(found)
    _show(
        as_json,
        {"outcome": "attributed", "attribution": dump(found)},
        found.because,
        _table(part.heads, part.rows, title=part.title),
    )


@app.command()
def rollback(
    line: LineName = None,
    *,
    reason: Annotated[str, typer.Option(help="Why; goes into the ledger.")],
    to: Annotated[str | None, typer.Option(help="The release to go back to; the previous one if left out.")] = None,
    by: By = "",
    as_json: AsJson = False,
) -> None:
    """Take production back to an earlier release."""
    released = stages.rollback(_site(line), to=to, reason=reason, by=_who(by))
    _show(
        as_json,
        {"outcome": "rolled back", "release": dump(released)},
        f"Production is now {released.release_id}, generation {released.generation}, instead of {released.replaced}.",
    )


@app.command()
def status(line: LineName = None, *, as_json: AsJson = False) -> None:
    """Say what is in production and what the loop last did, of every line if none is named.

    As JSON, an array with an object for each line.
    """
    from retune.status import look, rows

    found = {name: look(stages.site(name, probe=False)) for name in ([line] if line else _names())}
    if as_json:
        _print_json([{"line": name, **state} for name, state in found.items()])
        return
    for name, state in found.items():
        _show(as_json, {}, name, _table(("", ""), rows(state)))


@app.command()
def history(
    line: LineName = None,
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many decisions, newest last.")] = 30,
    as_json: AsJson = False,
) -> None:
    """List the decisions of a line, each with who took it and why."""
    from recsys import ledger

    name = line or _only_line()
    entries = ledger.read(stages.site(name, probe=False).store, limit=limit)
    _show(
        as_json,
        {"line": name, "entries": [dump(entry) for entry in entries]},
        f"{_counted(len(entries), 'decision')} of {name}.",
        _table(
            ("when", "what", "who", "why"),
            [(e.at.strftime("%Y-%m-%d %H:%M:%S"), e.what, e.who, e.why) for e in entries],
        ),
    )


@app.command()
def lines(*, as_json: AsJson = False) -> None:
    """Check every line's file and list what is found."""
    from recsys.settings import lines_folder
    from retune.lines import check_lines

    found = check_lines()
    _show(
        as_json,
        {"lines": [line.model_dump(mode="json") for line in found]},
        f"{_counted(len(found), 'line')} in {lines_folder()}, {'all' if len(found) > 1 else 'which is'} well.",
        _table(("line", "task", "owner", "description"), [(x.name, x.task, x.owner, x.description) for x in found]),
    )


@app.command()
def knobs(line: LineName = None, *, as_json: AsJson = False) -> None:
    """List what a line's search may turn: each knob with its tier, the range that it has today, owner and meaning."""
    from recsys.settings import read_line
    from retune.lines import file_named, file_of
    from retune.ranges import look, rows

    name = line or _only_line()
    described = read_line(file_of(name))
    with file_named(described):
        found = look(described)
    _show(
        as_json,
        {"line": name, "knobs": found},
        f"{_counted(len(found), 'knob')} of {name}.",
        _table(("family", "knob", "tier", "range", "default", "unit", "owner", "meaning"), rows(found)),
    )


@app.command()
def up(
    *,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of the page; a free one if left out.")
    ] = None,
    home: Annotated[Path | None, typer.Option(help="Airflow's home; var/airflow if left out.")] = None,
) -> None:
    """Run Airflow with every line ready, until Ctrl-C or `retune down`."""
    from retune import up as run

    run.up(home=home, port=port, tell=_tell)


@app.command()
def down(
    *,
    home: Annotated[Path | None, typer.Option(help="Airflow's home; var/airflow if left out.")] = None,
    as_json: AsJson = False,
) -> None:
    """End what `retune up` started."""
    from retune import up as run

    ended = run.down(home=home)
    _show(
        as_json,
        {"outcome": "down" if ended else "nothing was running"},
        "Airflow is down." if ended else "Nothing was running.",
    )


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False},
)
def airflow(
    arguments: typer.Context,
    *,
    home: Annotated[Path | None, typer.Option(help="Airflow's home; var/airflow if left out.")] = None,
) -> None:
    """Run a command of Airflow's own on what `retune up` runs or ran last, such as `retune airflow dags list`.

    `retune airflow cheat-sheet` lists Airflow's commands, and `retune airflow dags --help` explains some of them.
    """
    from retune import up as run

    raise typer.Exit(run.airflow(arguments.args, home=home))


@app.command()
def demo(
    *,
    folder: Annotated[
        Path, typer.Option(help="Where the demo's store, Airflow and report lie; a new or empty folder, or a demo's.")
    ] = Path("var/demo"),
) -> None:
    """Replay weeks of MovieLens feedback through the real DAGs and tell the story."""
    from retune import demo as run

    summary = run.run(folder.resolve(), tell=_tell)
    print(json.dumps({key: summary[key] for key in ("seconds", "tracebacks", "quality")}, indent=2))


# --- helping the commands


def _weighed(plan: "Plan", percent_worth_s: float) -> Table:
    """Lay out what could be done, by what it is worth, and say what the columns mean."""
    return _table(
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


def _log_level() -> str:
    levels = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    level = os.environ.get("RETUNE_LOG") or "WARNING"
    if level.upper() not in levels:
        raise ValueError(f"RETUNE_LOG must be one of {', '.join(levels)}, but is {level!r}.")
    return level.upper()


def _site(name: str | None) -> stages.Site:
    return stages.site(name or _only_line())


def _only_line() -> str:
    names = _names()
    if len(names) != 1:
        raise ValueError(f"LINE must be given, because there is not one line but {names}.")
    return names[0]


def _names() -> list[str]:
    from recsys.settings import lines_folder

    names = sorted(path.stem for path in lines_folder().glob("*.toml"))
    if not names:
        raise LineError(f"{lines_folder()}: must hold a file NAME.toml for each line, but holds none.")
    return names


def _moment(given: datetime | None) -> datetime:
    return given.replace(tzinfo=given.tzinfo or UTC) if given else datetime.now(UTC)


def _who(by: str) -> str:
    return by or os.environ.get("USER") or "command line"


def _json_object(text: str | None, option: str) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{option} must be a JSON object, but {error}.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{option} must be a JSON object, but is {text!r}.")  # noqa: TRY004 - what a user wrote
    return found


def _taken(checked: "CheckedBatch", version: "TableVersion") -> dict[str, Any]:
    """Say in JSON's types what of a batch is in the table and what is not."""
    events, objects = _refused_of(version)
    return {
        "events_committed": version.rows_added,
        "events_refused": events,
        "objects_refused": objects,
        "version": dump(version),
        "findings": [dump(finding) for finding in checked.findings],
    }


def _taken_said(version: "TableVersion") -> str:
    events, objects = _refused_of(version)
    return (
        f"{_counted(version.rows_added, 'event')} committed as version {version.version}, "
        f"{_counted(events, 'event')} and {_counted(objects, 'object')} refused"
    )


def _refused_of(version: "TableVersion") -> tuple[int, int]:
    """Count the single events that were refused, and the objects of which not even events could be read."""
    refused = version.refused
    return sum(each.rows for each in refused), sum(each.source != version.batch_id for each in refused)


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _refused(as_json: bool, nothing: NoFeedback) -> None:
    """Say what landed and could not be read, where nothing else did."""
    _show(
        as_json,
        {"outcome": "refused", "because": str(nothing), "refused": [dump(refusal) for refusal in nothing.refused]},
        str(nothing),
        _table(("refused", "because"), [(each.source, "; ".join(each.reasons)) for each in nothing.refused]),
    )


def _applied(as_json: bool, edited: "Edited") -> None:
    """Say what was written into the line's file."""
    done, before = [p.name for p in edited.applied], [p.name for p in edited.there_already]
    outcome = "applied" if done else "nothing to apply"
    already = f" There already: {', '.join(before)}." if before else ""
    _show(
        as_json,
        {"outcome": outcome, "applied": done, "there_already": before, "diff": edited.diff},
        f"{edited.diff}Applied: {', '.join(done)}.{already}" if done else f"There is nothing to apply.{already}",
    )


def _tell(text: str) -> None:
    print(f"{datetime.now().astimezone():%H:%M:%S} {text}", flush=True)


def _show(as_json: bool, data: Mapping[str, Any], text: str, *tables: Table) -> None:
    """Print either `data` as JSON or `text` and `tables` for people."""
    if as_json:
        _print_json(data)
        return
    console = Console()
    console.print(text, markup=False, highlight=False)
    for table in tables:
        if table.row_count:
            console.print(table)


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, title: str | None = None) -> Table:
    table = Table(*heads, show_header=any(heads), box=None, pad_edge=False, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(_plain(cell) for cell in row))
    return table


def _plain(cell: str) -> str:
    from rich.markup import escape

    return escape(cell)


def _print_json(data: object) -> None:
    print(json.dumps(data, default=str))


def _fail(outcome: str, because: Exception, code: int) -> NoReturn:
    print(because, file=sys.stderr)
    if _JSON in sys.argv:  # the command, which alone knew its options, is over
        _print_json({"outcome": outcome, "because": str(because)})
    sys.exit(code)


if __name__ == "__main__":
    main()
