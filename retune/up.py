"""Leave Airflow running with every line ready to be operated, until somebody ends it."""

import os
from collections.abc import Callable
from pathlib import Path

from recsys.settings import lines_folder, read_lines, store_url, studies_url
from retune.shutdown import down as end
from retune.stages import HEAVY_MODULES
from retune.supervisor import Supervisor

PROJECT = Path(__file__).resolve().parents[1]


def up(*, home: Path | None, port: int | None, tell: Callable[[str], None]) -> None:
    """Run Airflow in the foreground until Ctrl-C, SIGTERM or `retune down`.

    Args:
        home: Airflow's home; None: `var/airflow`.
        port: Port of the page on 127.0.0.1; None: the one of last time where it is free, else any free one.
        tell: Called with one line of text for each thing that happens.

    Raises:
        LineError: A line's file is wrong, so nothing is started.
        AlreadySupervised: Somebody else supervises the home.
        StartError: A component dies, or stays silent for too long.
    """
    lines = read_lines(lines_folder())
    os.environ.update(RETUNE_STORE=store_url(), RETUNE_STUDIES=studies_url(), RETUNE_LINES=str(lines_folder()))
    with Supervisor(
        home=_home(home), dags=PROJECT / "dags", plugins=PROJECT / "plugins", port=port, preload=HEAVY_MODULES
    ) as airflow:
        tell(f"Airflow answers at {airflow.url} after {airflow.seconds_to_page:.0f} s.")
        tell(f"Log in as {airflow.login} with the password {airflow.password}")
        tell(f"Lines: {', '.join(line.name for line in lines)}. Objects: {store_url()}. Logs: {airflow.logs}.")
        tell("Unpause a line's DAGs to let it run by itself. Ctrl-C or `make down` ends everything.")
        airflow.wait()
    tell("Airflow is down.")


def down(*, home: Path | None, tell: Callable[[str], None]) -> None:
    """End what `up` started on the same home."""
    tell("Airflow is down." if end(_home(home)) else "Nothing was running.")


def _home(given: Path | None) -> Path:
    return (given or Path("var") / "airflow").resolve()
