"""Run any part of the loop by hand: the command `retune`.

Exit codes: 0 done, 1 held by the gate or by people, or nothing taken because all of it was refused, or a search put off
by the line's feature refresh, or a release whose chain is broken, 2 error, 130 a search was ended by Ctrl-C or SIGTERM.
"""

import logging
import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from recsys.errors import Held, RecsysError, RefusedBatch
from retune.answers import ERROR, HELD, JSON, fail
from retune.commands import data, evidence, overview, releases, services, tuning

app = typer.Typer(
    help="Keep a production recommender tuned.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # errors as plain lines, which logs and scripts can read
)

for _command in (  # in the order in which the help lists them
    data.feedback,
    data.drift,
    data.watch,
    tuning.decide,
    tuning.search,
    tuning.review,
    tuning.ablate,
    releases.promote,
    evidence.gate,
    evidence.why,
    releases.attribute,
    releases.rollback,
    overview.status,
    overview.history,
    overview.lines,
    overview.knobs,
    services.up,
    services.down,
):
    app.command()(_command)
app.command(  # what stands behind its name is for Airflow to read
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False},
)(services.airflow)
app.command()(services.demo)


def main() -> None:
    """Run the command line and turn what happened into an exit code."""
    try:
        logging.basicConfig(level=_log_level(), format="%(asctime)s %(name)s %(message)s")
        alone = JSON not in sys.argv  # then Typer itself shows what is wrong, and ends
        sys.exit(app(prog_name="retune", standalone_mode=alone))
    except typer.TyperException as wrong:
        fail("error", ValueError(wrong.format_message()), wrong.exit_code)
    except Held as held:
        fail("held", held, HELD)
    except RefusedBatch as refused:
        fail("refused", refused, HELD)
    except (RecsysError, ValueError) as error:
        fail("error", error, ERROR)
    except Exception as error:
        logging.getLogger(__name__).exception("retune stopped on an error that it does not know")
        fail("error", error, ERROR)


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(version("retune"))
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """Keep a production recommender tuned."""


def _log_level() -> str:
    levels = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    level = os.environ.get("RETUNE_LOG") or "WARNING"
    if level.upper() not in levels:
        raise ValueError(f"RETUNE_LOG must be one of {', '.join(levels)}, but is {level!r}.")
    return level.upper()


if __name__ == "__main__":
    main()
