"""Answer whoever runs a command: in words and tables for people, in JSON for programs, and by an exit code for both."""

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn

from rich.console import Console

from retune.sheet import Sheet

JSON = "--json"
"""The option by which programs ask for JSON."""

DONE, HELD, ERROR, INTERRUPTED = 0, 1, 2, 130


def show(as_json: bool, data: Mapping[str, Any], text: str, *sheets: Sheet) -> None:
    """Print either `data` as JSON or `text` and those of `sheets` that have rows for people."""
    if as_json:
        print_json(data)
        return
    console = Console()
    console.print(text, markup=False, highlight=False)
    for each in sheets:
        if each.rows:
            console.print(each)


def counted(number: int, thing: str) -> str:
    """Say how many there are.

    >>> counted(1, "line"), counted(2, "line")
    ('1 line', '2 lines')
    """
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def tell(text: str) -> None:
    """Print at once how far a command is that runs for long, with the time of day."""
    print(f"{datetime.now().astimezone():%H:%M:%S} {text}", flush=True)


def print_json(data: object, *, indent: int | None = None) -> None:
    """Print `data` as JSON; what JSON has no type for becomes text."""
    print(json.dumps(data, default=str, indent=indent))


def fail(outcome: str, because: Exception, code: int) -> NoReturn:
    """End the process with `code`, once it is said why: on stderr, and as JSON too where that was asked for."""
    print(because, file=sys.stderr)
    if JSON in sys.argv:  # the command, which alone knew its options, is over
        print_json({"outcome": outcome, "because": str(because)})
    sys.exit(code)
