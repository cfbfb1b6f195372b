"""Hold our open-loop latencies beside those of MLPerf LoadGen: one bundle, one rate, in alternating turns."""

import json
import logging
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from benchmarks._gate_latency import bundle
from benchmarks._table import Table
from recsys.clock import Clock
from recsys.latency.arrivals import measure_arrivals
from recsys.latency.blocks import measure_latency
from recsys.latency.orders import Answers, Ask, Order, Timed
from recsys.latency.server import Histories, Served, Server, serving
from recsys.records import Estimate

logger = logging.getLogger(__name__)

TURNS = 10
SECONDS = 5.0  # of a turn
PER_S = (100.0, 500.0)
CONFIDENCE = 0.95
QUANTILES = ("50", "99")
_ROLE = "ours"


@dataclass(frozen=True, slots=True)
class _ByWallClock:
    """Counts the time that others have the core, as LoadGen does."""

    order: Order

    def carry_out(self, ask: Ask, _: Clock) -> Timed:
        return self.order.carry_out(ask, lambda: 0)


@dataclass(frozen=True, slots=True)
class _Wall:
    """A process whose requests are timed so."""

    server: Server

    def carry_out(self, order: Order) -> Timed:
        return self.server.carry_out(_ByWallClock(order))


def tables() -> Iterable[Table]:
    """Alternate between the two, `TURNS` times at each rate."""
    served, histories = bundle()
    rows: list[list[object]] = []
    figures: dict[str, float] = {}
    for per_s in PER_S:
        turns = _alternate(served, histories, per_s)
        for quantile in QUANTILES:
            ours, theirs = (np.array([turn[at][quantile] for turn in turns]) for at in (0, 1))
            ratio = _ratio(ours, theirs)
            inside = ratio.low <= 1 <= ratio.high
            rows.append(
                [
                    f"{per_s:g}",
                    f"p{quantile}",
                    float(np.median(ours)),
                    float(np.median(theirs)),
                    ratio.value,
                    f"{ratio.low:.3f}-{ratio.high:.3f}",
                    "yes" if inside else "no",
                ]
            )
            figures[f"loadgen_p{quantile}_ratio_{per_s:g}"] = ratio.value
    figures["loadgen_agrees"] = float(np.mean([row[-1] == "yes" for row in rows]))
    yield Table(
        title=(
            f"Milliseconds by the wall clock from when a request was due, {TURNS} turns of {SECONDS:g} s each, seeds 0 "
            f"to {TURNS - 1}; ratio of a turn of ours to the turn of LoadGen's beside it"
        ),
        columns=["requests/s", "quantile", "ours", "LoadGen", "ratio", "its 95 %", "1 inside"],
        rows=rows,
        figures=figures,
    )


def _ratio(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Estimate:
    """Give the geometric mean of the turns' ratios, with Student's interval."""
    logs = np.log(ours / theirs)
    centre = float(logs.mean())
    away = float(stdtrit(len(logs) - 1, (1 + CONFIDENCE) / 2) * logs.std(ddof=1) / len(logs) ** 0.5)
    return Estimate(value=float(np.exp(centre)), low=float(np.exp(centre - away)), high=float(np.exp(centre + away)))


def _alternate(served: Served, histories: Histories, per_s: float) -> list[tuple[dict[str, float], dict[str, float]]]:
    """Give milliseconds by quantile, ours and LoadGen's, of each turn; who begins a turn alternates too."""
    core = [sorted(os.sched_getaffinity(0))[-1]]
    turns = []
    with serving({_ROLE: served}, histories, cores=core) as servers:
        measure_latency(servers, n_histories=len(histories), batch_size=1, seconds=1.0, seed=0)
        wall = {_ROLE: _Wall(servers[_ROLE])}
        for seed in range(TURNS):
            found: dict[str, dict[str, float]] = {}
            for who in ("ours", "theirs") if seed % 2 else ("theirs", "ours"):
                if who == "ours":
                    found[who] = _ours(wall, len(histories), per_s, seed)
                else:
                    found[who] = _loadgen(served, histories, core, per_s, seed)
            turns.append((found["ours"], found["theirs"]))
            logger.info("%g a second, turn %d: ours %s, LoadGen's %s.", per_s, seed, *turns[-1])
    return turns


def _ours(servers: Mapping[str, Answers], n_histories: int, per_s: float, seed: int) -> dict[str, float]:
    found = measure_arrivals(
        servers, n_histories=n_histories, batch_size=1, per_s=per_s, seconds=SECONDS, seed=seed
    ).result(_ROLE)
    return {"50": found.p50_ms.value, "99": found.p99_ms.value}


def _loadgen(served: Served, histories: Histories, cores: list[int], per_s: float, seed: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "served.pickle").write_bytes(pickle.dumps((served, histories, cores, per_s, SECONDS, seed)))
        command = [sys.executable, "-m", "benchmarks._loadgen", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return {quantile: answer[f"{quantile}.00"] for quantile in QUANTILES}
