"""Run Airflow, with the lines or with the demo, and end it."""

from pathlib import Path
from typing import Annotated

import typer

from retune.answers import print_json, show, tell
from retune.commands.options import AsJson

Home = Annotated[Path | None, typer.Option(help="Airflow's home; var/airflow if left out.")]


def up(
    *,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of the page; a free one if left out.")
    ] = None,
    home: Home = None,
) -> None:
    """Run Airflow with every line ready, until Ctrl-C or `retune down`."""
    from retune import up as run

    run.up(home=home, port=port, tell=tell)


def down(
    *,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """End what `retune up` started."""
    from retune import up as run

    ended = run.down(home=home)
    show(
        as_json,
        {"outcome": "down" if ended else "nothing was running"},
        "Airflow is down." if ended else "Nothing was running.",
    )


def airflow(
    arguments: typer.Context,
    *,
    home: Home = None,
) -> None:
    """Run a command of Airflow's own on what `retune up` runs or ran last, such as `retune airflow dags list`.

    `retune airflow cheat-sheet` lists Airflow's commands, and `retune airflow dags --help` explains some of them.
    """
    from retune import up as run

    raise typer.Exit(run.airflow(arguments.args, home=home))


def demo(
    *,
    folder: Annotated[
        Path, typer.Option(help="Where the demo's store, Airflow and report lie; a new or empty folder, or a demo's.")
    ] = Path("var/demo"),
) -> None:
    """Replay weeks of MovieLens feedback through the real DAGs and tell the story."""
    from retune import demo as run

    summary = run.run(folder.resolve(), tell=tell)
    print_json({key: summary[key] for key in ("seconds", "tracebacks", "quality")}, indent=2)
