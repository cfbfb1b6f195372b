"""Define the options that several commands have, and turn what people write in them into what stages take."""

import json
import os
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from recsys.errors import LineError
from recsys.settings import lines_folder
from retune import stages
from retune.answers import JSON

LineName = Annotated[
    str | None, typer.Argument(help="The line; may be left out where there is only one.", metavar="LINE")
]
AsJson = Annotated[bool, typer.Option(JSON, help="Print JSON instead of text, also when it is refused or fails.")]
AsOf = Annotated[
    datetime | None,
    typer.Option(help="The moment to act for, in UTC; now if left out. Freshness counts from it.", metavar="TIME"),
]
By = Annotated[str, typer.Option(help="Who acts; goes into the ledger.")]
Reason = Annotated[str | None, typer.Option(help="Why; goes into the ledger.")]


def site_of(name: str | None) -> stages.Site:
    """Open the line called `name`, or the only one."""
    return stages.site(name or only_line())


def only_line() -> str:
    """Give the name of the only line.

    Raises:
        ValueError: There are several.
        LineError: There is none.
    """
    names = line_names()
    if len(names) != 1:
        raise ValueError(f"LINE must be given, because there is not one line but {names}.")
    return names[0]


def line_names() -> list[str]:
    """Give the names of all lines.

    Raises:
        LineError: There is none.
    """
    names = sorted(path.stem for path in lines_folder().glob("*.toml"))
    if not names:
        raise LineError(f"{lines_folder()}: must hold a file NAME.toml for each line, but holds none.")
    return names


def moment(given: datetime | None) -> datetime:
    """Give the moment to act for: what was given, in UTC unless it says otherwise, or now."""
    return given.replace(tzinfo=given.tzinfo or UTC) if given else datetime.now(UTC)


def who(by: str) -> str:
    """Say who acts."""
    return by or os.environ.get("USER") or "command line"


def json_object(text: str | None, option: str) -> dict[str, Any] | None:
    """Read what `option` was given.

    Raises:
        ValueError: It is no JSON object.
    """
    if text is None:
        return None
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{option} must be a JSON object, but {error}.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{option} must be a JSON object, but is {text!r}.")  # noqa: TRY004 - what a user wrote
    return found
