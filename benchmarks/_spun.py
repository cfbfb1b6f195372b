"""Slow a process down by a known part; a module of its own because the process has to import it."""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.clock import Clock
from recsys.latency.orders import Ask, Closed, Request, Timed


@dataclass(frozen=True, slots=True)
class Spun:
    """Has each request that takes the processor for longer than `beyond_ms` take it for longer by the share `slower`.

    Args:
        rows: Numbers of the histories that each request is made of, shape [n, B].
        slower: Share by which they are slower.
        beyond_ms: Milliseconds.
    """

    rows: NDArray[np.int64]
    slower: float
    beyond_ms: float

    def carry_out(self, ask: Ask, delay: Clock) -> Timed:
        """Time the requests with their work."""
        return Closed(self.rows).carry_out(lambda row: self._slowed(ask(row)), delay)

    def _slowed(self, request: Request) -> Request:
        def slowed() -> object:
            began = time.thread_time_ns()
            answer = request()
            own_ns = time.thread_time_ns() - began
            if own_ns > 1e6 * self.beyond_ms:
                while time.thread_time_ns() - began < (1 + self.slower) * own_ns:
                    pass
            return answer

        return slowed
