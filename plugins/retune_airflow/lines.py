"""Tell the lines whose files are right, which become DAGs, from the others, which become one import error.

Airflow sets aside every DAG of a file that also has an import error. So the files that build DAGs pass over a wrong
line, and a file of its own, `dags/lines_dag.py`, complains about it: a slip in one line stops no other.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

from croniter import croniter

from recsys.errors import LineError
from recsys.settings import Line, lines_folder, read_line

log = logging.getLogger(__name__)


def good_lines() -> Iterator[Line]:
    """Read the lines whose files are right, by name."""
    for path in _files():
        try:
            yield _read(path)
        except LineError as error:
            log.warning("No DAGs for %s: %s", path.name, error)


def check_lines() -> None:
    """Refuse wrong lines.

    Raises:
        LineError: A file is wrong, or there is none; the message names file, key, what must hold and what was found,
            of every wrong file.
    """
    files = _files()
    if not files:
        raise LineError(f"{lines_folder()}: must hold a file NAME.toml for each line, but holds none.")
    found = []
    for path in files:
        try:
            _read(path)
        except LineError as error:
            found.append(str(error))
    if found:
        raise LineError("\n".join(found))


def _read(path: Path) -> Line:
    line = read_line(path)
    _check_schedule(path, "feedback", line.schedule.feedback)
    _check_schedule(path, "retune", line.schedule.retune)
    return line


def _check_schedule(path: Path, key: str, expression: str | None) -> None:
    """Refuse an expression at which Airflow would reject the DAGs of all lines."""
    if expression is None or expression == "@quarterly":  # Airflow knows it, croniter does not
        return
    try:
        croniter.expand(expression)
    except ValueError as error:
        raise LineError(
            f"{path}: schedule.{key}: must be a cron expression or a preset such as @daily, "
            f"but is {expression!r}: {error}"
        ) from error


def _files() -> list[Path]:
    return sorted(lines_folder().glob("*.toml"))
