"""Time requests that arrive by themselves, as those of a service's users do.

Users do not wait for each other: requests come at random instants (a Poisson process), queue where the one before is
still being answered, and take as long as from when they came. What is measured one request after the other knows no
queue, and its p99 is better than what users see.

Processes take turns of some seconds each, in an order that is drawn anew, so that whatever slows the machine down slows
them all; a turn is the unit of the bootstrap. The time that other processes have the core is taken off, as it is where
requests follow each other.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recsys.clock import Clock
from recsys.latency.intervals import Floats, Resampled, estimate
from recsys.latency.orders import Answers, Arriving
from recsys.records import Arrived, Estimate

TURN_S = 0.5  # about how long a turn is
LEAST_TURNS = 12
FEWEST = 20  # requests of a turn
PATIENCE = 2.0
RESAMPLES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Every request's milliseconds from when it was due, by role and turn."""

    per_s: float  # requests that arrive, on average
    batch_size: int
    turns: Mapping[str, Floats]  # [R, n] each: n requests in each of R turns
    seed: int

    def result(self, role: str, *, confidence: float = 0.95) -> Arrived:
        """Give the quantiles of one role with their intervals."""
        p50, p95, p99 = (
            estimate(found, confidence) for found in self._drawn().quantiles(self.turns[role], [0.5, 0.95, 0.99])
        )
        return Arrived(
            per_s=self.per_s, batch_size=self.batch_size, p50_ms=p50, p95_ms=p95, p99_ms=p99, turns=self.rounds
        )

    def ratio(self, role: str, to: str, *, quantile: float = 0.99, confidence: float = 0.95) -> Estimate:
        """Say how many times the quantile of `to` that of `role` is, both resampled by the same turns."""
        one, other = (self._drawn().quantiles(self.turns[each], [quantile])[0] for each in (role, to))
        return estimate(one / other, confidence)

    @property
    def rounds(self) -> int:
        """How many turns each had."""
        return len(next(iter(self.turns.values())))

    def _drawn(self) -> Resampled:
        return Resampled(self.rounds, resamples=RESAMPLES, seed=self.seed)


def measure_arrivals(
    servers: Mapping[str, Answers],
    *,
    n_histories: int,
    batch_size: int,
    per_s: float,
    seconds: float,
    seed: int,
    clock: Clock = time.perf_counter_ns,
) -> Arrivals:
    """Let requests arrive at each process in turns; the requests and their instants of a round are the same for all.

    Args:
        servers: What to time, by role; warm, as they are after requests have followed each other.
        n_histories: H, how many real histories the processes have; requests are made of numbers below it.
        batch_size: Histories of a request.
        per_s: Requests that arrive in a second, on average.
        seconds: How long requests arrive at all processes together. More than a process can answer makes it longer, up
            to twice as long.
        seed: Fixes the requests, their instants, the order of turns and the resamples.
        clock: Tells the wall clock, in nanoseconds.

    Raises:
        ValueError: `per_s` is not above 0.
    """
    if not per_s > 0:
        raise ValueError(f"per_s must be above 0 but is {per_s}.")
    rng = np.random.default_rng(seed)
    roles = list(servers)
    n_turns = max(LEAST_TURNS, round(seconds / (TURN_S * len(roles))))
    n_requests = max(FEWEST, round(per_s * seconds / (n_turns * len(roles))))
    turns: dict[str, list[Floats]] = {role: [] for role in roles}
    began = clock()
    for turn in range(n_turns):
        if turn >= LEAST_TURNS and clock() - began > 1e9 * PATIENCE * seconds:
            break
        due_ns = np.cumsum(rng.exponential(1e9 / per_s, size=n_requests)).astype(np.int64)
        rows = rng.integers(n_histories, size=(n_requests, batch_size))
        for which in rng.permutation(len(roles)):
            turns[roles[which]].append(servers[roles[which]].carry_out(Arriving(rows, due_ns)).ms)
    return Arrivals(
        per_s=per_s, batch_size=batch_size, turns={role: np.array(ms) for role, ms in turns.items()}, seed=seed
    )
