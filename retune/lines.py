"""Check lines wholly: their files, and the families and search spaces that only the libraries of a search know."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from recsys.errors import LineError
from recsys.settings import Line, lines_folder, read_lines


def file_of(name: str) -> Path:
    """Say where the file of the line called `name` lies."""
    return lines_folder() / f"{name}.toml"


def check_lines() -> list[Line]:
    """Read all lines, and refuse those that cannot be searched; imports PyTorch and Optuna.

    Raises:
        LineError: Lines are wrong, or there is none; the message has file, key, rule and finding of every wrong one.
    """
    from recsys.models import FAMILIES

    lines, wrong = read_lines(lines_folder(), FAMILIES), []
    for line in lines:
        try:
            check_search(line)
        except LineError as error:
            wrong.append(str(error))
    if wrong:
        raise LineError("\n".join(wrong))
    return lines


def check_lines_apart() -> list[Line]:
    """Do the same in a process that then ends, so that what it imports takes no memory here.

    Raises:
        LineError: As `check_lines` does.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(check_lines).result()


def check_search(line: Line) -> None:
    """Refuse a line that names families, parameters or values which do not exist; imports PyTorch and Optuna.

    Raises:
        LineError: It does; the message names the line's file.
    """
    from recsys.tuning import check_past, search_space

    with file_named(line):
        search_space(line)
        check_past(line)


@contextmanager
def file_named(line: Line) -> Iterator[None]:
    """Put the line's file before each thing that the block finds wrong in it.

    Raises:
        LineError: The block raised one.
    """
    try:
        yield
    except LineError as error:
        raise LineError("\n".join(f"{file_of(line.name)}: {said}" for said in str(error).splitlines())) from error
