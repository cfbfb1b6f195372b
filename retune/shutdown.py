"""End a home's supervisor from elsewhere, and whatever any supervisor of it has left."""

import logging
import signal
import time
from pathlib import Path

import psutil

from retune.guardian import end_marked, mark_of, marked
from retune.lease import AlreadySupervised, Holder, running, supervised

log = logging.getLogger(__name__)


def down(home: Path, *, within_s: float = 60.0) -> bool:
    """End the supervisor of `home`, and everything that any supervisor of it has left.

    Args:
        home: the folder that was given to `Supervisor`.
        within_s: how long it may take to end in its own order; then it is killed.

    Returns:
        Whether anything was running.

    Raises:
        AlreadySupervised: the home is supervised by a process that cannot be found, so that nothing was ended.
    """
    home = home.resolve()
    found = _supervisor(home, within_s)
    if found is not None:
        _end(found, home, within_s)
    left = 0 if supervised(home) else end_marked(mark_of(home))  # one that has just begun ends what was left itself
    if left:
        log.warning("killed %d processes that the supervisor of %s left behind", left, home)
    return found is not None or left > 0


def survivors(home: Path) -> list[int]:
    """Return the processes that any supervisor of `home` has started and that still live."""
    return [process.pid for process in marked(mark_of(home.resolve()))]


def _supervisor(home: Path, within_s: float) -> Holder | None:
    """Return who holds the lease, which it writes down as soon as it has it; None when nobody does."""
    deadline = time.monotonic() + within_s
    while supervised(home):
        if found := running(home):
            return found.holder
        if time.monotonic() > deadline:
            raise AlreadySupervised(
                f"{home} is supervised by a process that is not to be found here; if it is one of another machine or "
                f"container, end it there."
            )
        time.sleep(0.1)
    return None


def _end(supervisor: Holder, home: Path, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    _send(supervisor, signal.SIGTERM)
    while supervisor.process() is not None and supervised(home):
        if time.monotonic() > deadline:
            log.warning("supervisor %d of %s did not end in %.0f s and is killed", supervisor.pid, home, within_s)
            _send(supervisor, signal.SIGKILL)
            deadline = float("inf")
        time.sleep(0.1)


def _send(supervisor: Holder, number: signal.Signals) -> None:
    process = supervisor.process()  # looked at once more: nobody else's process gets the signal
    try:
        if process is not None:
            process.send_signal(number)
    except psutil.NoSuchProcess:
        log.info("supervisor %d had ended already", supervisor.pid)
