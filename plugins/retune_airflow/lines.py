"""Tell the lines whose files are right, which become DAGs, from the others, which become one import error.

Airflow sets aside every DAG of a file that also has an import error. So the files that build DAGs pass over a wrong
line, and a file of its own, `dags/lines_dag.py`, complains about it: a slip in one line stops no other.

Families and search spaces are not looked at here: that would import PyTorch wherever DAGs are read.
"""

import logging
from collections.abc import Iterator

from recsys.errors import LineError
from recsys.settings import Line, lines_folder, read_line, read_lines

log = logging.getLogger(__name__)


def good_lines() -> Iterator[Line]:
    """Read the lines whose files are right, by name."""
    for path in sorted(lines_folder().glob("*.toml")):
        try:
            yield read_line(path)
        except LineError as error:
            log.warning("No DAGs for %s: %s", path.name, error)


def check_lines() -> None:
    """Refuse wrong lines.

    Raises:
        LineError: A file is wrong, or there is none; the message names file, key, what must hold and what was found,
            of every wrong file.
    """
    read_lines(lines_folder())
