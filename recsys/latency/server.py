"""Serve a bundle in a fresh process of its own, pinned to given cores, and time requests there.

A process that has served something else has its caches, its allocator and its interpreter in a state that no service
starts in. What is timed is timed inside the process, so that passing orders and answers on costs nothing.

The process is `python -m recsys.latency.server FD`, where FD is its end of a socket pair. It ends when the other end is
closed, also by the death of whoever holds it.
"""

import gc
import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import psutil
from numpy.typing import NDArray

from recsys.clock import run_delay
from recsys.errors import BadBundle, NotServed
from recsys.latency.orders import Order, Request, Timed
from recsys.records import MIB, Bundle

START_S = 60.0  # a process that has not answered by then never will

Histories = Sequence[Sequence[str]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a process serves: a bundle that has been read and verified, and one of its graphs."""

    bundle: Bundle
    files: Mapping[str, bytes]
    graph: str
    threads: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """How a process came up."""

    cold_start_s: float  # from its start to its first answer, the interpreter and its modules included
    rss_mib: float  # that it holds after that


class Server:
    """A process that serves one bundle.

    Args:
        served: What it serves.
        histories: Real histories, all that its requests are made of.
        cores: That it may run on.

    Raises:
        NotServed: It does not come up, or dies later, with what it said last.
        BadBundle: The bundle cannot be served.
    """

    def __init__(self, served: Served, histories: Histories, *, cores: Sequence[int]) -> None:
        self.started: Started
        ours, theirs = socket.socketpair()
        with theirs:
            began_ns = time.monotonic_ns()
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self._pipe = Connection(ours.detach())
        self._name = f"{served.graph} of {served.bundle.release_id}"
        try:
            self._send((served, [list(history) for history in histories], list(cores), began_ns))
            self.started = self._receive(Started, START_S)
        except BaseException:
            self.close()
            raise

    def carry_out(self, order: Order) -> Timed:
        """Have the process do something, and give what it took."""
        self._send(order)
        return self._receive(Timed, None)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def peak_mib(self) -> float:
        """The most memory that the process has held at once."""
        return _high_water_mib(self._process.pid)

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stderr:
            self._process.stderr.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, what: object) -> None:
        try:
            self._pipe.send(what)
        except OSError as error:
            raise self._dead() from error

    def _receive(self, kind: type[T], within_s: float | None) -> T:
        try:
            if not self._pipe.poll(within_s):
                raise NotServed(f"{self._name} must be served within {within_s:g} s, but was not.")
            found = self._pipe.recv()
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise self._dead() from error
        if isinstance(found, _Refused):
            raise BadBundle(found.because, file=found.file)
        assert isinstance(found, kind)
        return found

    def _dead(self) -> NotServed:
        self._process.kill()
        code = self._process.wait()
        said = self._process.stderr.read().decode(errors="replace").strip() if self._process.stderr else ""
        last = said.splitlines()[-1] if said else "nothing"
        return NotServed(f"The process that serves {self._name} must go on, but ended as {code} and said {last}.")


@contextmanager
def serving(
    served: Mapping[str, Served], histories: Histories, *, cores: Sequence[int] | None = None
) -> Iterator[dict[str, Server]]:
    """Start a process for each role, all of them on the same cores, and end them afterwards.

    Args:
        served: What to serve, by role.
        histories: Real histories, all that requests are made of.
        cores: That all of them run on; None: the last of this process's, as many as the most threads that any has.
    """
    own = sorted(os.sched_getaffinity(0))
    chosen = list(cores) if cores else own[-max(one.threads for one in served.values()) :]
    with ExitStack() as stack:
        yield {role: stack.enter_context(Server(one, histories, cores=chosen)) for role, one in served.items()}


@dataclass(frozen=True, slots=True)
class _Refused:
    """Why the process does not serve the bundle."""

    because: str
    file: str


def _high_water_mib(pid: int) -> float:
    """Read the most that a process has held; where the kernel does not keep it, what it holds now."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        found = next(line for line in lines if line.startswith("VmHWM:"))
        return int(found.split()[1]) / 1024
    except (OSError, StopIteration):
        return float(psutil.Process(pid).memory_info().rss) / MIB


def _serve(pipe: Connection) -> None:
    served, histories, cores, began_ns = pipe.recv()
    os.sched_setaffinity(0, cores)
    from recsys.ranker import Ranker  # what a service imports is part of its start

    try:
        ranker = Ranker.of(served.bundle, served.files, graph=served.graph, threads=served.threads)
    except BadBundle as error:
        pipe.send(_Refused(str(error), error.file))
        return
    ranker.recommend_batch([histories[0]])
    cold_start_s = (time.monotonic_ns() - began_ns) / 1e9
    pipe.send(Started(cold_start_s=cold_start_s, rss_mib=psutil.Process().memory_info().rss / MIB))
    gc.collect()
    gc.freeze()
    gc.disable()  # a pause of Python's collector is no property of a graph
    with run_delay() as delay:

        def ask(row: NDArray[np.int64]) -> Request:
            return partial(ranker.recommend_batch, [histories[at] for at in row])

        _obey(pipe, lambda order: order.carry_out(ask, delay))


def _obey(pipe: Connection, carry_out: Callable[[Order], Timed]) -> None:
    while True:
        try:
            order = pipe.recv()
        except EOFError:
            return
        found = carry_out(order)
        gc.collect(0)
        pipe.send(found)


if __name__ == "__main__":
    # What is pickled names its classes by their module, which is not this one under its name as a program.
    from recsys.latency import server

    server._serve(Connection(int(sys.argv[1])))
