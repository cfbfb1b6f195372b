"""Hold our open-loop latencies beside those of MLPerf LoadGen: one bundle, one rate, in alternating turns."""

import json
import logging
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from benchmarks._gate_latency import bundle
from benchmarks._table import Table
from recsys.latency.arrivals import Arrivals, measure_arrivals
from recsys.latency.blocks import measure_latency
from recsys.latency.server import Histories, Served, serving
from recsys.records import Arrived, Estimate

logger = logging.getLogger(__name__)

TURNS = 6
SECONDS = 5.0  # of a turn
PER_S = (100.0, 500.0)
CONFIDENCE = 0.95
_ROLE = "ours"


def tables() -> Iterable[Table]:
    """Alternate between the two, `TURNS` times at each rate."""
    served, histories = bundle()
    rows: list[list[object]] = []
    for per_s in PER_S:
        ours, theirs = _alternate(served, histories, per_s)
        for percentile, estimate in (("50", ours.p50_ms), ("99", ours.p99_ms)):
            found = [turn[f"{percentile}.00"] for turn in theirs]
            rows.append([f"{per_s:g}", f"p{percentile}", *_compared(estimate, found)])
    yield Table(
        title=f"Milliseconds from when a request was due, {TURNS} turns of {SECONDS:g} s each, seeds 0 to {TURNS - 1}",
        columns=["requests/s", "quantile", "ours", "our 95 %", "LoadGen", "its turns", "inside"],
        rows=rows,
        figures={"loadgen_agrees": float(np.mean([row[-1] == "yes" for row in rows]))},
    )


def _compared(ours: Estimate, theirs: Sequence[float]) -> list[object]:
    typical = float(np.median(theirs))
    return [
        ours.value,
        f"{ours.low:.3f}-{ours.high:.3f}",
        typical,
        f"{min(theirs):.3f}-{max(theirs):.3f}",
        "yes" if ours.low <= typical <= ours.high else "no",
    ]


def _alternate(served: Served, histories: Histories, per_s: float) -> tuple[Arrived, list[dict[str, float]]]:
    core = [sorted(os.sched_getaffinity(0))[-1]]
    found, theirs = [], []
    with serving({_ROLE: served}, histories, cores=core) as servers:
        measure_latency(servers, n_histories=len(histories), batch_size=1, seconds=1.0, seed=0)
        for seed in range(TURNS):
            found.append(
                measure_arrivals(
                    servers, n_histories=len(histories), batch_size=1, per_s=per_s, seconds=SECONDS, seed=seed
                )
            )
            theirs.append(_loadgen(served, histories, core, per_s, seed))
            logger.info(
                "%g a second, turn %d: ours %s, LoadGen's %s.", per_s, seed, found[-1].result(_ROLE), theirs[-1]
            )
    turns = np.concatenate([each.turns[_ROLE] for each in found])
    together = Arrivals(per_s=per_s, batch_size=1, turns={_ROLE: turns}, seed=0)
    return together.result(_ROLE, confidence=CONFIDENCE), theirs


def _loadgen(served: Served, histories: Histories, cores: list[int], per_s: float, seed: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "served.pickle").write_bytes(pickle.dumps((served, histories, cores, per_s, SECONDS, seed)))
        command = [sys.executable, "-m", "benchmarks._loadgen", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer
