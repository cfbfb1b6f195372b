"""Look at lines: what is in production, what was decided, what their files say and what their searches may turn."""

from typing import Annotated

import typer

from recsys import ledger
from recsys.records import dump
from recsys.settings import lines_folder, read_line
from retune import stages
from retune import status as state
from retune.answers import counted, print_json, show
from retune.commands.options import AsJson, LineName, line_names, only_line
from retune.lines import check_lines, file_named, file_of
from retune.sheet import Sheet


def status(line: LineName = None, *, as_json: AsJson = False) -> None:
    """Say what is in production and what the loop last did, of every line if none is named.

    As JSON, an array with an object for each line.
    """
    found = {name: state.look(stages.site(name, probe=False)) for name in ([line] if line else line_names())}
    if as_json:
        print_json([{"line": name, **told} for name, told in found.items()])
        return
    for name, told in found.items():
        show(as_json, {}, name, Sheet(("", ""), state.rows(told)))


def history(
    line: LineName = None,
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many decisions, newest last.")] = 30,
    as_json: AsJson = False,
) -> None:
    """List the decisions of a line, each with who took it and why."""
    name = line or only_line()
    entries = ledger.read(stages.site(name, probe=False).store, limit=limit)
    show(
        as_json,
        {"line": name, "entries": [dump(entry) for entry in entries]},
        f"{counted(len(entries), 'decision')} of {name}.",
        Sheet(
            ("when", "what", "who", "why"),
            [(e.at.strftime("%Y-%m-%d %H:%M:%S"), e.what, e.who, e.why) for e in entries],
        ),
    )


def lines(*, as_json: AsJson = False) -> None:
    """Check every line's file and list what is found."""
    found = check_lines()
    show(
        as_json,
        {"lines": [line.model_dump(mode="json") for line in found]},
        f"{counted(len(found), 'line')} in {lines_folder()}, {'all' if len(found) > 1 else 'which is'} well.",
        Sheet(("line", "task", "owner", "description"), [(x.name, x.task, x.owner, x.description) for x in found]),
    )


def knobs(line: LineName = None, *, as_json: AsJson = False) -> None:
    """List what a line's search may turn: each knob with its tier, the range that it has today, owner and meaning."""
    from retune.ranges import look, sheets  # imports PyTorch and Optuna

    name = line or only_line()
    described = read_line(file_of(name))
    with file_named(described):
        found = look(described)
    show(
        as_json,
        {"line": name, "knobs": found},
        f"{counted(len(found), 'knob')} of {name}.",
        *sheets(found),
    )
