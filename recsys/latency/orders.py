"""Say in which way requests come to what answers them, and what they took: one after the other, or by themselves."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.clock import Clock, run_delay

Request = Callable[[], object]
"""One request that is ready to be answered: what it takes to call it is what is timed."""

Ask = Callable[[NDArray[np.int64]], Request]
"""Makes a request of the histories with these numbers, shape [B]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """What requests took."""

    ms: NDArray[np.float64]  # [n] of each request
    waited_ms: float  # that others had the core meanwhile, which is not counted in `ms`
    wall_ms: float  # from the first to the last
    busy_ms: float  # in which requests were being answered, less what others had the core meanwhile


class Order(Protocol):
    """What a process is asked to do."""

    def carry_out(self, ask: Ask, delay: Clock) -> Timed:
        """Do it, and say what it took."""
        ...


@dataclass(frozen=True, slots=True)
class Closed:
    """Answer one request after the other.

    Args:
        rows: Numbers of the histories that each request is made of, shape [n, B].
    """

    rows: NDArray[np.int64]

    def carry_out(self, ask: Ask, delay: Clock) -> Timed:
        """Time each request by itself."""
        requests = [ask(row) for row in self.rows]
        spent = np.zeros(len(requests))
        waited_before, began = delay(), time.perf_counter_ns()
        for at, request in enumerate(requests):
            waited, asked = delay(), time.perf_counter_ns()
            request()
            answered = time.perf_counter_ns()
            spent[at] = max(answered - asked - (delay() - waited), 0)
        return _timed(spent, began, waited_before, delay, busy_ns=spent.sum())


@dataclass(frozen=True, slots=True)
class Arriving:
    """Answer requests that arrive when they arrive, whether or not those before them have been answered.

    A request's time counts from when it was due, so that one that had to wait in the queue says so. Counted from when
    it was begun, a slow answer would hide the requests that it kept waiting ("coordinated omission").

    Args:
        rows: Numbers of the histories that each request is made of, shape [n, B].
        due_ns: When each arrives, nanoseconds after the first instant, ascending, shape [n].
        behind_ns: How long after the first instant the process becomes free, because of requests that came before.
    """

    rows: NDArray[np.int64]
    due_ns: NDArray[np.int64]
    behind_ns: int = 0

    def carry_out(self, ask: Ask, delay: Clock) -> Timed:
        """Time each request from the instant at which it is due."""
        requests = [ask(row) for row in self.rows]
        spent = np.zeros(len(requests))
        busy = 0
        waited_before, began = delay(), time.perf_counter_ns()

        def now() -> int:
            """The time that others have had the core does not pass here, so that they cannot make a queue."""
            return self.behind_ns + time.perf_counter_ns() - began - (delay() - waited_before)

        for at, (request, due) in enumerate(zip(requests, self.due_ns.tolist(), strict=True)):
            while (early := due - now()) > 0:
                time.sleep(early / 1e9)
            begun = now()
            request()
            answered = now()
            busy += answered - begun
            spent[at] = max(answered - due, 0)
        return _timed(spent, began, waited_before, delay, busy_ns=busy)


class Answers(Protocol):
    """What answers requests and says how long that took: a process, or what runs in this one."""

    def carry_out(self, order: Order) -> Timed:
        """Answer an order's requests."""
        ...


@dataclass(frozen=True, slots=True)
class Here:
    """Answers in this process: enough to tell which of several graphs of one model is quicker.

    Args:
        ask: Makes its requests.
    """

    ask: Ask

    def carry_out(self, order: Order) -> Timed:
        """Answer an order's requests."""
        with run_delay() as delay:
            return order.carry_out(self.ask, delay)


def _timed(spent_ns: NDArray[np.float64], began: int, waited_before: int, delay: Clock, *, busy_ns: float) -> Timed:
    wall_ms = (time.perf_counter_ns() - began) / 1e6
    return Timed(
        ms=spent_ns / 1e6, waited_ms=(delay() - waited_before) / 1e6, wall_ms=wall_ms, busy_ms=float(busy_ns) / 1e6
    )
