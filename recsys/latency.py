"""Measure side by side what it costs to answer a request, so that two graphs can be compared on a busy machine.

All graphs run in this process in short blocks whose order is drawn anew each round, so that whatever slows the machine
down slows them all. Milliseconds are wall clock less the time during which the kernel let others use our core (the run
delay of Linux's schedstat): they say what the graph costs and not how crowded the machine is. With several threads a
request, only the delay of the one that asks is known and taken off. A round is the unit of the bootstrap, because
requests that follow each other are alike (Künsch 1989, "The Jackknife and the Bootstrap for General Stationary
Observations").
"""

import gc
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.clock import Clock, run_delay
from recsys.records import Estimate, LatencyResult

log = logging.getLogger(__name__)

ROUNDS = 40  # blocks of each graph
ENOUGH = 20  # rounds after which a run that is out of time ends
PATIENCE = 2.0  # times the seconds that a run was given, by the wall clock: a crowded machine makes it longer
FEWEST, MOST = 5, 100  # requests in a block
WARM_UP = 20  # requests of each graph before anything counts
RESAMPLES = 1000

Requests = Callable[[NDArray[np.int64]], Callable[[], object]]
"""Makes a request of the histories with these numbers, shape [B]; only calling what it gives is timed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """Every request's milliseconds, by graph and round."""

    batch_size: int
    blocks: Mapping[str, NDArray[np.float64]]  # [R, n] each: n requests in each of R rounds
    waited_share: float  # of the wall clock, taken from us by others and not counted above
    seed: int

    def result(self, graph: str, *, confidence: float = 0.95) -> LatencyResult:
        """Give p50 and p99 of one graph with their intervals."""
        return LatencyResult(
            graph=graph,
            batch_size=self.batch_size,
            p50_ms=_estimate(self._quantiles(graph, 0.5), confidence),
            p99_ms=_estimate(self._quantiles(graph, 0.99), confidence),
        )

    def ratio(self, graph: str, to: str, *, quantile: float = 0.99, confidence: float = 0.95) -> Estimate:
        """Say how many times the quantile of `to` that of `graph` is, both resampled by the same rounds."""
        return _estimate(self._quantiles(graph, quantile) / self._quantiles(to, quantile), confidence)

    def _quantiles(self, graph: str, quantile: float) -> NDArray[np.float64]:
        """Give the quantile of all rounds, then that of each resample. Shape [1 + RESAMPLES]."""
        blocks = self.blocks[graph]
        n_rounds = len(blocks)
        draws = np.random.default_rng(self.seed).integers(n_rounds, size=(RESAMPLES, n_rounds))
        draws = np.vstack([np.arange(n_rounds), draws])
        return np.concatenate(
            [
                np.quantile(blocks[rounds].reshape(len(rounds), -1), quantile, axis=1)
                for rounds in np.array_split(draws, 20)  # 50 resamples at a time keep the table small
            ]
        )


def measure_latency(
    requests: Mapping[str, Requests],
    *,
    n_histories: int,
    batch_size: int,
    seconds: float,
    seed: int,
    clock: Clock = time.perf_counter_ns,
    delays: Callable[[], AbstractContextManager[Clock]] = run_delay,
) -> Latencies:
    """Time requests of all graphs in interleaved blocks.

    Args:
        requests: What to time, by name of the graph.
        n_histories: H, how many real histories there are; requests are made of numbers below it, drawn at random and
            the same for all graphs.
        batch_size: Histories of a request.
        seconds: About how long all of it may take on a quiet machine. It takes longer where others have the core,
            though then with fewer rounds, and for a slow graph, as each round needs a few requests.
        seed: Fixes the order of the blocks, the histories and later the resamples.
        clock: Tells the wall clock.
        delays: Opens the clock of what is not counted.
    """
    rng = np.random.default_rng(seed)
    names = list(requests)
    with delays() as delay, _without_collector():

        def block(name: str, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], int]:
            return _time([requests[name](which) for which in rows], clock, delay)

        began = clock()
        warm = rng.integers(n_histories, size=(WARM_UP, batch_size))
        typical_ms = [float(np.median(block(name, warm)[0])) for name in names]
        n_requests = int(np.clip(1000 * seconds / (ROUNDS * max(sum(typical_ms), 1e-6)), FEWEST, MOST))
        taken: dict[str, list[NDArray[np.float64]]] = {name: [] for name in names}
        waited_ns = 0
        for done in range(ROUNDS):
            if done >= ENOUGH and clock() - began > 1e9 * PATIENCE * seconds:
                break
            rows = rng.integers(n_histories, size=(n_requests, batch_size))
            for which in rng.permutation(len(names)):
                times, waited = block(names[which], rows)
                taken[names[which]].append(times)
                waited_ns += waited
    blocks = {name: np.array(times) for name, times in taken.items()}
    own_ms = sum(float(times.sum()) for times in blocks.values())
    waited_share = waited_ns / max(waited_ns + 1e6 * own_ms, 1)
    measured = Latencies(batch_size=batch_size, blocks=blocks, waited_share=waited_share, seed=seed)
    log.info(
        "%d rounds of %d requests of %d histories: p50 %s; others had the core %.0f %% of the time.",
        *next(iter(blocks.values())).shape,
        batch_size,
        ", ".join(f"{name} {np.median(times):.3f} ms" for name, times in blocks.items()),
        100 * waited_share,
    )
    return measured


def _estimate(values: NDArray[np.float64], confidence: float) -> Estimate:
    """Take the first value as measured and the others as its resamples."""
    low, high = np.quantile(values[1:], [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value=float(values[0]), low=float(low), high=float(high))


def _time(requests: list[Callable[[], object]], clock: Clock, delay: Clock) -> tuple[NDArray[np.float64], int]:
    """Answer each request.

    Returns:
        Milliseconds of each, shape [n], and the nanoseconds in all of them that others had the core.
    """
    spent_ns = np.zeros(len(requests))
    waited_ns = 0
    for at, request in enumerate(requests):
        waited_before = delay()
        began = clock()
        request()
        ended = clock()
        waited = delay() - waited_before
        spent_ns[at] = max(ended - began - waited, 0)
        waited_ns += waited
    return spent_ns / 1e6, waited_ns


@contextmanager
def _without_collector() -> Iterator[None]:
    """Keep Python's garbage collector from pausing a request."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
