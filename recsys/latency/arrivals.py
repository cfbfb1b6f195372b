"""Time requests that arrive by themselves, as those of a service's users do.

Users do not wait for each other: requests come at random instants (a Poisson process), queue where the one before is
still being answered, and take as long as from when they came. What is measured one request after the other knows no
queue, and its p99 is better than what users see.

Processes take turns of half a second, in an order that is drawn anew, so that whatever slows the machine down slows
them all; a turn is the unit of the bootstrap. A process begins its turn with the queue that its last one left, and the
first turns, in which queues grow to what they are, do not count. The time that other processes have the core is taken
off, as it is where requests follow each other.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recsys.clock import Clock
from recsys.latency.intervals import Floats, Resampled, estimate_of_few
from recsys.latency.orders import Answers, Arriving
from recsys.records import Arrived, Estimate

TURN_S = 0.5  # about how long a turn is
LEAST_TURNS = 12
FEWEST = 20  # requests of a turn
UNCOUNTED = 1 / 6  # of the turns, the first
PATIENCE = 2.0
RESAMPLES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """Every request's milliseconds from when it was due, by role and turn."""

    per_s: float  # requests that arrive, on average
    batch_size: int
    turns: Mapping[str, Floats]  # [R, n] each: n requests in each of R turns
    busy: Mapping[str, float]  # share of the time in which each was answering
    seed: int

    def result(self, role: str, *, confidence: float = 0.95) -> Arrived:
        """Give the quantiles of one role with their intervals."""
        quantiles = self._drawn().quantiles(self.turns[role], [0.5, 0.95, 0.99])
        p50, p95, p99 = (estimate_of_few(found, self.rounds, confidence) for found in quantiles)
        return Arrived(
            per_s=self.per_s,
            batch_size=self.batch_size,
            p50_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
            turns=self.rounds,
            busy=self.busy[role],
        )

    def ratio(self, role: str, to: str, *, quantile: float = 0.99, confidence: float = 0.95) -> Estimate:
        """Say how many times the quantile of `to` that of `role` is, both resampled by the same turns."""
        one, other = (self._drawn().quantiles(self.turns[each], [quantile])[0] for each in (role, to))
        return estimate_of_few(one / other, self.rounds, confidence)

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
    busy_ms, behind_ns = dict.fromkeys(roles, 0.0), dict.fromkeys(roles, 0)
    counted_ns = 0
    began = clock()
    for turn in range(n_turns):
        if turn >= LEAST_TURNS and clock() - began > 1e9 * PATIENCE * seconds:
            break
        instants = np.cumsum(rng.exponential(1e9 / per_s, size=n_requests + 1)).astype(np.int64)
        due_ns, next_ns = instants[:-1], int(instants[-1])  # the next turn's first instant would be after the last
        rows = rng.integers(n_histories, size=(n_requests, batch_size))
        counts = turn >= UNCOUNTED * n_turns
        counted_ns += next_ns if counts else 0
        for which in rng.permutation(len(roles)):
            role = roles[which]
            timed = servers[role].carry_out(Arriving(rows, due_ns, behind_ns[role]))
            ended_ns = behind_ns[role] + int(1e6 * (timed.wall_ms - timed.waited_ms))
            behind_ns[role] = max(ended_ns - next_ns, 0)
            if counts:
                turns[role].append(timed.ms)
                busy_ms[role] += timed.busy_ms
    return Arrivals(
        per_s=per_s,
        batch_size=batch_size,
        turns={role: np.array(ms) for role, ms in turns.items()},
        busy={role: min(1e6 * ms / counted_ns, 1.0) for role, ms in busy_ms.items()},
        seed=seed,
    )
