"""Open the place where studies lie: a journal file that the processes of one machine share, or a database."""

import fcntl
import os
from pathlib import Path

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock


def open_storage(studies: str) -> BaseStorage:
    """Open the storage that `studies` names.

    Args:
        studies: Path of a journal file, made where it is missing, or URL of a database as SQLAlchemy writes it.
    """
    if "://" in studies:
        return RDBStorage(studies, engine_kwargs={"pool_pre_ping": True})  # a database that restarts is found again
    path = Path(studies).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(path), lock_obj=KernelLock(path)))


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
