"""Time whole requests to several processes in short blocks whose order is drawn anew each round.

Whatever slows the machine down then slows them all. Milliseconds are wall clock less the time during which the kernel
let others use our core (the run delay of Linux's schedstat): they say what an answer costs and not how crowded the
machine is. With several threads a request, only the delay of the one that asks is known and taken off.

Rounds go on until the interval of the ratio that is asked for is as narrow as it must be, or the time is over. When
to end is decided by how wide the intervals are and never by where they lie, so that ending favours no answer (Chow and
Robbins 1965, "On the Asymptotic Theory of Fixed-Width Sequential Confidence Intervals for the Mean").
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.clock import Clock
from recsys.latency.intervals import Floats, Resampled, estimate
from recsys.latency.orders import Answers, Closed
from recsys.latency.warmup import warm_after
from recsys.records import Estimate, LatencyResult

log = logging.getLogger(__name__)

QUANTILES = (0.5, 0.95, 0.99)
BLOCK_MS = 15.0  # about how long a block takes: short beside what comes and goes on a machine
FEWEST, MOST = 5, 200  # requests in a block
ROUNDS = 24  # after which is looked for the first time, and from then on after half or a quarter as many more
RESAMPLES, LOOKS = 1000, 300  # in the end, and each time that is looked whether it is the end
PATIENCE = 2.0  # times the seconds that a run was given, by the wall clock: a crowded machine makes it longer
Roles = tuple[str, ...]
"""Processes that serve the same, taken together: what one of them has by its start alone counts for less."""
Rows = Callable[[int], NDArray[np.int64]]  # draws so many requests, shape [n, B]
WARM_UP, WARM_UP_S = 100, 1.0  # requests after which is looked whether a process is warm, and seconds after which it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """Every request's milliseconds, by role and round."""

    batch_size: int
    blocks: Mapping[str, Floats]  # [R, n] each: n requests in each of R rounds
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

    def ratio(self, roles: Roles, to: Roles, *, quantile: float = 0.99, confidence: float = 0.95) -> Estimate:
        """Say how many times the quantile of `to` that of `roles` is, all resampled by the same rounds."""
        return self._ratio(roles, to, quantile, confidence, RESAMPLES)

    def _ratio(self, roles: Roles, to: Roles, quantile: float, confidence: float, resamples: int) -> Estimate:
        drawn = self._drawn(resamples)
        one, other = (drawn.quantiles(self._of(each), [quantile])[0] for each in (roles, to))
        return estimate(one / other, confidence)

    def _of(self, roles: Roles) -> Floats:
        return np.hstack([self.blocks[role] for role in roles])

    def _drawn(self, resamples: int = RESAMPLES) -> Resampled:
        return Resampled(len(next(iter(self.blocks.values()))), resamples=resamples, seed=self.seed)

    def narrow(self, roles: Roles, to: Roles, *, width: float, confidence: float) -> bool:
        """Whether the interval of the ratio of p99 is no wider than that."""
        found = self._ratio(roles, to, QUANTILES[-1], confidence, LOOKS)
        return found.high - found.low <= width


def measure_latency(
    servers: Mapping[str, Answers],
    *,
    compared: tuple[Roles, Roles] | None = None,
    n_histories: int,
    batch_size: int,
    seconds: float,
    seed: int,
    width: float = 0.0,
    confidence: float = 0.95,
    clock: Clock = time.perf_counter_ns,
) -> Latencies:
    """Time requests to all processes in interleaved blocks.

    Args:
        servers: What to time, by role.
        compared: Roles, and those to which the ratio of their p99 must be known; None: the time that is given is
            used up.
        n_histories: H, how many real histories the processes have; requests are made of numbers below it, drawn at
            random and the same for all roles.
        batch_size: Histories of a request.
        seconds: About how long all of it may take on a quiet machine. It takes longer where others have the core,
            though then with fewer rounds.
        seed: Fixes the order of the blocks, the histories and later the resamples.
        width: How wide the interval of that ratio may be.
        confidence: Of that interval.
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
    waited_ms = own_ms = 0.0

    def measured() -> Latencies:
        return Latencies(
            batch_size=batch_size,
            blocks={role: np.array(times) for role, times in taken.items()},
            warm_up={role: n for role, (n, _) in warm.items()},
            waited_share=waited_ms / max(waited_ms + own_ms, 1e-9),
            seconds=(clock() - began) / 1e9,
            seed=seed,
        )

    look = ROUNDS
    while True:
        each = rows(n_requests)
        for which in rng.permutation(len(roles)):
            timed = servers[roles[which]].carry_out(Closed(each))
            taken[roles[which]].append(timed.ms)
            waited_ms, own_ms = waited_ms + timed.waited_ms, own_ms + float(timed.ms.sum())
        done = len(taken[roles[0]])
        if done < look:
            continue
        look = done + max(ROUNDS // 2, done // 4)
        wall_s = (clock() - began) / 1e9
        over = own_ms > 1000 * seconds or wall_s > PATIENCE * seconds
        found = measured()
        if over or (compared and found.narrow(*compared, width=width, confidence=confidence)):
            break
    log.info(
        "%d rounds of %d requests of %d histories in %.1f s: p50 %s; others had the core %.0f %% of the time.",
        done,
        n_requests,
        batch_size,
        found.seconds,
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
