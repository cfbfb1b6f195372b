"""Say who supervises a home: a lock that goes with its holder's process, and a note of what the holder runs."""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from recsys.errors import RecsysError


class AlreadySupervised(RecsysError):
    """Another process supervises the home."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What a supervisor writes down about itself, for `down` and `status`.

    Args:
        pid: the supervisor's process.
        url: where the page answers.
        components: first process of each component.
        restarts: how often each component was replaced.
    """

    pid: int
    url: str
    components: Mapping[str, int] = field(default_factory=dict)
    restarts: Mapping[str, int] = field(default_factory=dict)


class Lease:
    """The right to supervise one home, held by this process until it gives it back or ends, however it ends."""

    def __init__(self, home: Path, descriptor: int) -> None:
        self._home = home
        self._descriptor = descriptor

    @classmethod
    def take(cls, home: Path) -> Self:
        """Take the lease of `home`, a folder that is made when it is missing.

        Raises:
            AlreadySupervised: another process holds it.
        """
        home.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(home / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            other = last_supervisor(home)
            by = f" by process {other.pid} at {other.url}" if other else ""
            raise AlreadySupervised(f"{home} is supervised already{by}; `retune down` ends it.") from error
        return cls(home, descriptor)

    def write(self, note: Running) -> None:
        """Let others read what is running; they see the old note or the new one, never a part."""
        draft = self._home / f"{_NOTE}.draft"
        draft.write_text(json.dumps(asdict(note)), encoding="utf-8")
        draft.replace(self._home / _NOTE)

    def give_back(self) -> None:
        """Let another process take the lease."""
        os.close(self._descriptor)


def running(home: Path) -> Running | None:
    """Return what supervises `home`, or None when nothing does, whatever an old note says."""
    try:
        descriptor = os.open(home / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return last_supervisor(home)
    finally:
        os.close(descriptor)
    return None


def last_supervisor(home: Path) -> Running | None:
    """Return the note of whoever supervised `home` last, running or not."""
    file = home / _NOTE
    if not file.exists():
        return None
    return Running(**json.loads(file.read_text(encoding="utf-8")))


_LOCK = "supervisor.lock"
_NOTE = "supervisor.json"
