"""End a home's supervisor from elsewhere, and whatever any supervisor of it has left."""

import logging
import os
import signal
import time
from pathlib import Path

from retune.guardian import end_marked, mark_of, marked
from retune.lease import running

log = logging.getLogger(__name__)


def down(home: Path, *, within_s: float = 60.0) -> bool:
    """End the supervisor of `home`, and everything that any supervisor of it has left.

    Args:
        home: the folder that was given to `Supervisor`.
        within_s: how long it may take to end in its own order; then it is killed.

    Returns:
        Whether anything was running.
    """
    home = home.resolve()
    supervisor = running(home)
    if supervisor is not None:
        _end_supervisor(home, supervisor.pid, within_s)
    left = end_marked(mark_of(home))
    if left:
        log.warning("killed %d processes that the supervisor of %s left behind", left, home)
    return supervisor is not None or left > 0


def survivors(home: Path) -> list[int]:
    """Return the processes that any supervisor of `home` has started and that still live."""
    return [process.pid for process in marked(mark_of(home.resolve()))]


def _end_supervisor(home: Path, pid: int, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    _send(pid, signal.SIGTERM)
    while running(home) is not None:
        if time.monotonic() > deadline:
            log.warning("supervisor %d of %s did not end in %.0f s and is killed", pid, home, within_s)
            _send(pid, signal.SIGKILL)
            deadline = float("inf")
        time.sleep(0.1)


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:  # it ended by itself
        log.info("supervisor %d had ended already", pid)
