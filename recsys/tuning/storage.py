"""Open the place where studies lie: a journal file that the processes of one machine share, or a database."""

import fcntl
import json
import os
import re
from pathlib import Path

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError


def open_storage(studies: str) -> BaseStorage:
    """Open the storage that `studies` names.

    Args:
        studies: Path of a journal file, made where it is missing, or URL of a database as SQLAlchemy writes it.

    Raises:
        ValueError: No storage can lie there, or what lies there is none.
    """
    check_studies(studies)
    if "://" in studies:
        return RDBStorage(studies, engine_kwargs={"pool_pre_ping": True})  # a database that restarts is found again
    path = Path(studies).absolute()
    try:
        return JournalStorage(JournalFileBackend(str(path), lock_obj=KernelLock(path)))
    except json.JSONDecodeError as error:
        raise _wrong(studies, f"what lies there is no journal of studies: {error}") from error


def check_studies(studies: str) -> None:
    """Refuse a place in which no studies can lie; makes the folder of a file, and does not ask a database.

    Args:
        studies: As `open_storage` takes it.

    Raises:
        ValueError: It is one; the message names the setting, what must hold and what was found.
    """
    if "://" in studies:
        try:
            create_engine(studies)
        except (SQLAlchemyError, ImportError, ValueError) as error:
            raise _wrong(_masked(studies), _masked(str(error))) from error
        return
    path = Path(studies).absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _wrong(studies, f"the folder {path.parent} cannot be made: {error.strerror}") from error
    if path.is_dir():
        raise _wrong(studies, "that is a folder")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise _wrong(studies, "it may not be written")


def _wrong(studies: str, why: str) -> ValueError:
    rule = (
        "must be the path of a file, or the URL of a database whose driver is installed, as in postgresql+psycopg://…"
    )
    return ValueError(f"RETUNE_STUDIES {rule}, but is {studies!r}: {' '.join(why.split()).rstrip('.')}.")


def _masked(said: str) -> str:
    """Hide the password of every URL in a message.

    >>> _masked("mysql://retune:secret@host/studies")
    'mysql://retune:***@host/studies'
    """
    return re.sub(r"(://[^:/@\s]*:)[^\s]*@", r"\1***@", said)


class KernelLock(BaseJournalFileLock):
    """Lets one writer at a time append to a journal, and leaves no trace of a writer that was killed.

    The kernel drops the lock with the process that held it; Optuna's own locks are files, which outlive their makers
    and make everybody else wait for half a minute. Whoever gets the lock also cuts off what a dead writer, or a full
    disk, has left of a line: any line after it would make the whole journal unreadable.
    """

    def __init__(self, journal: Path) -> None:
        self._journal, self._beside = journal, journal.with_name(journal.name + ".lock")
        self._held = -1

    def acquire(self) -> bool:
        """Wait for the lock and mend the journal."""
        handle = os.open(self._beside, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(handle, fcntl.LOCK_EX)
        self._held = handle
        self._mend()
        return True

    def release(self) -> None:
        """Let the next writer in."""
        handle, self._held = self._held, -1
        fcntl.flock(handle, fcntl.LOCK_UN)  # closing is not enough: a process forked meanwhile holds the same lock
        os.close(handle)

    def _mend(self) -> None:
        with self._journal.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
                file.truncate(self._journal.read_bytes().rfind(b"\n") + 1)
