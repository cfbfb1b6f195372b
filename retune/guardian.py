"""End every process that a supervisor started, even those that outlive it or have left its process group.

Airflow's tasks run in process groups of their own, and a killed scheduler leaves its workers behind, so neither a group
nor a parent finds them all. What they cannot shed is the environment they were born with: each component is started
with a mark in it, every descendant inherits the mark, and whoever carries it belongs to the supervisor.

The supervisor starts this module as a process of its own, `python -m retune.guardian MARK`, which waits for the
supervisor to end and then ends whoever still carries the mark: SIGKILL of the supervisor leaves nothing behind.
"""

import os
import select
import sys
import time
from pathlib import Path

import psutil

MARK = "RETUNE_SUPERVISED"

# setproctitle, which Airflow uses, would write over the environment that the mark is read from.
KEEP_MARKS = {"SPT_NOENV": "1"}


def mark_of(home: Path) -> str:
    """Return how the marks of everything begin that any supervisor of `home` has started.

    >>> mark_of(Path("/srv/airflow"))
    '/srv/airflow|'
    """
    return f"{home}|"


def marked(mark: str) -> list[psutil.Process]:
    """Return the living processes, other than this one, whose mark begins with `mark`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK, "").startswith(mark):
                found.append(process)
        except psutil.Error:  # ended meanwhile, a zombie, or somebody else's
            continue
    return found


def end_marked(mark: str, *, within_s: float = 10.0) -> int:
    """Kill every process whose mark begins with `mark`, until a look finds none.

    Args:
        mark: the beginning of the marks; see `retune.supervisor` for how they are made.
        within_s: how long the kernel may take to end them.

    Returns:
        How many processes were killed.

    Raises:
        TimeoutError: some process did not end, as one does that waits on a lost disk.
    """
    deadline = time.monotonic() + within_s
    killed = set()
    while found := marked(mark):
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {sorted(process.pid for process in found)} did not end in {within_s} s.")
        for process in found:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
            killed.add(process.pid)
        psutil.wait_procs(found, timeout=1)
    return len(killed)


def _outlive(mark: str, parent: int) -> None:
    """Wait until the supervisor closes its end of standard input or is gone, then end whoever carries `mark`."""
    while os.getppid() == parent:
        readable, _, _ = select.select([sys.stdin], [], [], 0.5)
        if readable and not os.read(sys.stdin.fileno(), 1):
            break
    end_marked(mark)


if __name__ == "__main__":
    _outlive(sys.argv[1], int(sys.argv[2]))
