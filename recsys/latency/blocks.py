"""Time whole requests to several processes in short blocks whose order is drawn anew each round.

Whatever slows the machine down then slows them all. Milliseconds are wall clock less the time during which the kernel
let others use our core (the run delay of Linux's schedstat): they say what an answer costs and not how crowded the
machine is. With several threads a request, only the delay of the one that asks is known and taken off.

The first requests of a block find the caches as another process left them, and do not count. Rounds in which others
used the machine do not either, as long as half of them remain (`recsys.latency.calm`).

Rounds go on until what was measured is enough for whoever asked, or the time is over. Whether it is enough is asked a
few times only, because each time is one more chance of a wrong answer: with three looks at intervals of 99 %, that of
being wrong on a given side is at most three times half of 1 %.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.clock import Clock
from recsys.latency.calm import calm
from recsys.latency.intervals import Floats, Resampled, estimate, estimate_ratio
from recsys.latency.orders import Answers, Closed
from recsys.latency.warmup import warm_after
from recsys.records import Estimate, LatencyResult

log = logging.getLogger(__name__)

QUANTILES = (0.5, 0.95, 0.99)
P50 = (0.5,)
P99 = (0.98, 0.985, 0.99, 0.995)  # around it, as a single quantile that far out hangs on a handful of requests
BLOCK_MS = 30.0  # about how long a block takes: short beside what comes and goes on a machine
FEWEST, MOST = 5, 400  # requests in a block that count
FIRST = 3  # requests of a block that do not count
ROUNDS = 12  # before which nothing ends
LOOKS = (0.2, 0.45, 1.0)  # of the seconds, after which is asked whether it is enough
RESAMPLES = 1000
PATIENCE = 2.0  # times the seconds that a run was given, by the wall clock: a crowded machine makes it longer
Roles = tuple[str, ...]
"""Processes that serve the same, taken together: what one of them has by its start alone counts for less."""
Rows = Callable[[int], NDArray[np.int64]]  # draws so many requests, shape [n, B]
WARM_UP, WARM_UP_S = 100, 1.0  # requests after which is looked whether a process is warm, and seconds after which it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """Every request's milliseconds, by role and round."""

    batch_size: int
    blocks: Mapping[str, Floats]  # [R, n] each: n requests in each of R calm rounds
    disturbed: int  # rounds that do not count, as others used the machine
    warm_up: Mapping[str, int]  # requests before these, which were not like those after them
    waited_share: float  # of the wall clock, taken from us by others and not counted above
    seconds: float  # that all of it took by the wall clock
    seed: int

    def result(self, *roles: str, confidence: float = 0.95) -> LatencyResult:
        """Give the quantiles of roles together, and what one of them can answer, with intervals."""
        blocks = self._of(roles)
        p50, p95, p99 = (estimate(found, confidence) for found in self._drawn().quantiles(blocks, QUANTILES))
        users = 1000 * self.batch_size / self._drawn().means(blocks)
        return LatencyResult(
            graph=roles[0],
            batch_size=self.batch_size,
            p50_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
            users_per_s=estimate(users, confidence),
        )

    def ratio(self, roles: Roles, to: Roles, *, quantiles: Sequence[float] = P99, confidence: float = 0.95) -> Estimate:
        """Say how many times as long as those of `to` the slowest requests of `roles` take, or typical ones (`P50`).

        Args:
            roles: Processes that serve the same.
            to: Likewise.
            quantiles: Whose ratios' geometric mean is given, all resampled by the same rounds.
            confidence: Of the interval.
        """
        drawn = self._drawn()
        one, other = (np.log(drawn.quantiles(self._of(each), quantiles)).mean(axis=0) for each in (roles, to))
        return estimate_ratio(np.exp(one - other), confidence)

    def _of(self, roles: Roles) -> Floats:
        return np.hstack([self.blocks[role] for role in roles])

    def _drawn(self) -> Resampled:
        return Resampled(len(next(iter(self.blocks.values()))), resamples=RESAMPLES, seed=self.seed)


Enough = Callable[[Latencies], bool]
"""Whether what was measured answers what was asked."""


def measure_latency(
    servers: Mapping[str, Answers],
    *,
    enough: Enough | None = None,
    n_histories: int,
    batch_size: int,
    seconds: float,
    seed: int,
    clock: Clock = time.perf_counter_ns,
) -> Latencies:
    """Time requests to all processes in interleaved blocks.

    Args:
        servers: What to time, by role.
        enough: Says whether what was measured is enough, asked after each of `LOOKS`; None: the time that is given is
            used up.
        n_histories: H, how many real histories the processes have; requests are made of numbers below it, drawn at
            random and the same for all roles.
        batch_size: Histories of a request.
        seconds: About how long all of it may take on a quiet machine. It takes longer where others have the core,
            though then with fewer rounds.
        seed: Fixes the order of the blocks, the histories and later the resamples.
        clock: Tells the wall clock, in nanoseconds.
    """
    rng = np.random.default_rng(seed)
    roles = list(servers)

    def rows(n: int) -> NDArray[np.int64]:
        return rng.integers(n_histories, size=(n, batch_size))

    began = clock()
    warm = {role: _warm_up(server, rows) for role, server in servers.items()}
    typical_ms = max(sum(ms for _, ms in warm.values()) / len(warm), 1e-6)
    n_requests = int(np.clip(BLOCK_MS / typical_ms, FEWEST, MOST))
    taken: dict[str, list[Floats]] = {role: [] for role in roles}
    waited_ms: list[float] = []  # of each round, by all roles
    own_ms: list[float] = []

    def measured() -> Latencies:
        waited, own = np.array(waited_ms), np.array(own_ms)
        counts = calm(waited, own)
        return Latencies(
            batch_size=batch_size,
            blocks={role: np.array(times)[counts] for role, times in taken.items()},
            disturbed=int((~counts).sum()),
            warm_up={role: n for role, (n, _) in warm.items()},
            waited_share=float(waited.sum() / max(waited.sum() + own.sum(), 1e-9)),
            seconds=(clock() - began) / 1e9,
            seed=seed,
        )

    looks = iter(LOOKS)
    look = next(looks)
    while True:
        each = rows(FIRST + n_requests)
        waited_ms.append(0.0)
        own_ms.append(0.0)
        for which in rng.permutation(len(roles)):
            timed = servers[roles[which]].carry_out(Closed(each))
            taken[roles[which]].append(timed.ms[FIRST:])
            waited_ms[-1] += timed.waited_ms
            own_ms[-1] += float(timed.ms.sum())
        spent = max(sum(own_ms) / 1000, (clock() - began) / 1e9 / PATIENCE) / seconds
        if spent < look or len(own_ms) < ROUNDS:
            continue
        found = measured()
        if spent >= 1 or (enough and enough(found)):
            break
        look = next(at for at in looks if at > spent)
    log.info(
        "%d rounds of %d requests of %d histories in %.1f s, %d of them disturbed: p50 %s; others had the core %.0f %% "
        "of the time.",
        len(own_ms),
        n_requests,
        batch_size,
        found.seconds,
        found.disturbed,
        ", ".join(f"{role} {np.median(times):.3f} ms" for role, times in found.blocks.items()),
        100 * found.waited_share,
    )
    return found


def _warm_up(server: Answers, rows: Rows) -> tuple[int, float]:
    """Ask a process until it is warm; give how many requests that took, and the milliseconds of one from then on."""
    ms = np.zeros(0)
    began = time.monotonic()
    while True:
        ms = np.concatenate([ms, server.carry_out(Closed(rows(WARM_UP))).ms])
        cold = warm_after(ms)
        if cold <= len(ms) // 2 or time.monotonic() - began > WARM_UP_S:
            return len(ms), float(np.median(ms[len(ms) // 2 :]))
