"""Leave Airflow running with every line ready to be operated, until somebody ends it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from recsys.settings import lines_folder, store_url, studies_url, var_folder
from retune.airflow_home import AirflowHome
from retune.lease import last_supervisor
from retune.lines import check_lines_apart
from retune.shutdown import down as end
from retune.stages import HEAVY_MODULES
from retune.supervisor import Supervisor

PROJECT = Path(__file__).resolve().parents[1]
DAGS, PLUGINS = PROJECT / "dags", PROJECT / "plugins"


def up(*, home: Path | None, port: int | None, tell: Callable[[str], None]) -> None:
    """Run Airflow in the foreground until Ctrl-C, SIGTERM or `retune down`.

    Args:
        home: Airflow's home; None: `var/airflow`.
        port: Port of the page on 127.0.0.1; None: the one of last time where it is free, else any free one.
        tell: Called with one line of text for each thing that happens.

    Raises:
        LineError: A line is wrong, or there is none, so nothing is started.
        AlreadySupervised: Somebody else supervises the home.
        StartError: A component dies, or stays silent for too long.
    """
    tell(f"Checking the lines in {lines_folder()}, then starting Airflow in {_home(home)}.")
    lines = [line.name for line in check_lines_apart()]
    os.environ.update(_places())
    before_s = _since_start_s()
    with Supervisor(home=_home(home), dags=DAGS, plugins=PLUGINS, port=port, preload=HEAVY_MODULES) as airflow:
        tell(f"Airflow answers at {airflow.url} after {before_s + airflow.seconds_to_page:.0f} s.")
        tell(f"Log in as {airflow.login} with the password {airflow.password}")
        tell(f"Lines: {', '.join(lines)}. Objects: {store_url()}. Logs: {airflow.logs}.")
        tell("A line runs by itself once its DAGs are unpaused, on the page or with")
        for command in unpausing(lines):
            tell(f"  {command}")
        tell("Ctrl-C or `make down` ends everything.")
        airflow.wait()
    tell("Airflow is down.")


def unpausing(lines: Sequence[str]) -> list[str]:
    """List the commands that let the DAGs of `lines` run, one for each line."""
    return [f"{_COMMAND} airflow dags unpause --yes --treat-dag-id-as-regex '^[a-z]+_{line}$'" for line in lines]


def down(*, home: Path | None) -> bool:
    """End what `up` started on the same home, and say whether anything was running.

    Raises:
        AlreadySupervised: The home is supervised from another machine.
    """
    return end(_home(home))


def airflow(arguments: Sequence[str], *, home: Path | None) -> int:
    """Run a command of Airflow's own in the environment that `up` gives to its components.

    Args:
        arguments: What would follow `airflow`.
        home: Airflow's home; None: `var/airflow`.

    Returns:
        The command's exit code.

    Raises:
        ValueError: Nothing was ever up in that home.
    """
    last = last_supervisor(_home(home))
    if last is None:
        raise ValueError(f"{_home(home)} must be a home in which Airflow has been up, but is none; `make up` makes it.")
    port = int(last.url.rpartition(":")[2])
    described = AirflowHome(path=_home(home), dags=DAGS, plugins=PLUGINS, port=port, base={**os.environ, **_places()})
    command = [sys.executable, "-m", "airflow", *arguments]
    return subprocess.run(command, env=described.environment(), check=False).returncode


_COMMAND = ".venv/bin/retune"  # where `make` puts it


def _since_start_s() -> float:
    """Say for how many seconds this process has been there, its imports included."""
    return max(0.0, time.time() - float(psutil.Process().create_time()))


def _places() -> dict[str, str]:
    return {"RETUNE_STORE": store_url(), "RETUNE_STUDIES": studies_url(), "RETUNE_LINES": str(lines_folder())}


def _home(given: Path | None) -> Path:
    return (given or var_folder() / "airflow").resolve()
