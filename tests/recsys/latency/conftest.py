from dataclasses import dataclass, field

import numpy as np
import pytest

from recsys.latency.orders import Timed


class Clock:
    """A wall clock that only the processes below move, in nanoseconds."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


@dataclass
class Process:
    """Takes the milliseconds that `takes` draws for each request, of which others have the core for `waits`."""

    clock: Clock
    takes: object
    waits: float = 0.0
    orders: list = field(default_factory=list)

    def carry_out(self, order):
        self.orders.append(order)
        ms = np.array([self.takes() for _ in order.rows], np.float64)
        wall_ms = ms.sum() + self.waits * len(ms)
        self.clock.now_ns += round(1e6 * wall_ms)
        return Timed(ms=ms, waited_ms=self.waits * len(ms), wall_ms=wall_ms, busy_ms=float(ms.sum()))


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def process(clock):
    def made(takes, waits=0.0):
        return Process(clock, takes, waits)

    return made
