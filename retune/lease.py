"""Say who supervises a home: a lock that goes with its holder's process, and a note of what the holder runs.

The lock's file names its holder: by the process's number, which the system gives to others later, and by the time of
its start, which tells it from those.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

import psutil

from recsys.errors import RecsysError


class AlreadySupervised(RecsysError):
    """Another process supervises the home."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """One process, told from all that have had or will have its number.

    Args:
        pid: its number.
        started_s: when it was started, in seconds after the machine was, so that no clock that is set changes it.
    """

    pid: int
    started_s: float

    @classmethod
    def of(cls, process: psutil.Process) -> Self:
        """Describe a living process.

        Raises:
            psutil.NoSuchProcess: It has ended.
        """
        return cls(pid=process.pid, started_s=round(process.create_time() - psutil.boot_time(), 2))

    def process(self) -> psutil.Process | None:
        """Return the process while it lives; None when it has ended, whoever has its number now."""
        try:
            found = psutil.Process(self.pid)
            return found if abs(Holder.of(found).started_s - self.started_s) < _BLUR_S else None
        except psutil.NoSuchProcess:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What a supervisor writes down about itself, for people and for those that come after it.

    Args:
        holder: the supervisor's process.
        url: where the page answers; empty while it does not yet.
        components: first process of each component.
        restarts: how often each component was replaced.
    """

    holder: Holder
    url: str = ""
    components: Mapping[str, int] = field(default_factory=dict)
    restarts: Mapping[str, int] = field(default_factory=dict)


class Lease:
    """The right to supervise one home, held by this process until it gives it back or ends, however it ends."""

    def __init__(self, home: Path, descriptor: int, holder: Holder) -> None:
        self._home = home
        self._descriptor = descriptor
        self._holder = holder

    @classmethod
    def take(cls, home: Path) -> Self:
        """Take the lease of `home`, a folder that is made when it is missing, and write down who has it.

        Raises:
            AlreadySupervised: another process holds it.
        """
        home.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(home / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            other = running(home)
            by = f" by process {other.holder.pid}" if other else ""
            at = f" at {other.url}" if other and other.url else ""
            raise AlreadySupervised(f"{home} is supervised already{by}{at}; `retune down` ends it.") from error
        holder = Holder.of(psutil.Process())
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(holder)).encode(), 0)
        return cls(home, descriptor, holder)

    def write(self, *, url: str, components: Mapping[str, int], restarts: Mapping[str, int]) -> None:
        """Let others read what is running; they see the old note or the new one, never a part."""
        note = Running(holder=self._holder, url=url, components=components, restarts=restarts)
        draft = self._home / f"{_NOTE}.draft"
        draft.write_text(json.dumps(asdict(note)), encoding="utf-8")
        draft.replace(self._home / _NOTE)

    def give_back(self) -> None:
        """Let another process take the lease."""
        os.close(self._descriptor)


def supervised(home: Path) -> bool:
    """Whether some process holds the lease of `home`, whether or not it has written down who it is."""
    try:
        descriptor = os.open(home / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def running(home: Path) -> Running | None:
    """Return what supervises `home`, as far as it has come.

    Returns:
        None when nothing does, whatever an old note says; and for the moment between the taking of a lease and the
        writing down of who took it.
    """
    if not supervised(home) or (holder := _holder(home)) is None or holder.process() is None:
        return None
    note = last_supervisor(home)
    return note if note is not None and note.holder == holder else Running(holder=holder)


def last_supervisor(home: Path) -> Running | None:
    """Return the note of whoever supervised `home` last, running or not."""
    try:
        said = json.loads((home / _NOTE).read_text(encoding="utf-8"))
        return Running(**{**said, "holder": Holder(**said["holder"])})
    except (FileNotFoundError, KeyError):  # an earlier version named no holder
        return None


def _holder(home: Path) -> Holder | None:
    """Read who has taken the lease of `home` last; None while that is being written."""
    try:
        return Holder(**json.loads((home / _LOCK).read_text(encoding="utf-8")))
    except json.JSONDecodeError:
        return None


_BLUR_S = 1.5  # Linux tells the moment of its own start in whole seconds, and not always the same one
_LOCK = "supervisor.lock"
_NOTE = "supervisor.json"
