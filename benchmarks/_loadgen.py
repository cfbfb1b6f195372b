"""Let MLPerf LoadGen send requests to a bundle, as its server scenario does: `python -m benchmarks._loadgen FOLDER`.

The folder holds `served.pickle`: what to serve, the histories, the cores, requests a second, seconds and a seed.
Printed are milliseconds as JSON, by percentile, as LoadGen's own summary has them.
"""

import gc
import json
import os
import pickle
import re
import sys
from pathlib import Path

import mlperf_loadgen as loadgen

from recsys.ranker import Ranker


def main() -> None:
    """Run the scenario once."""
    folder = Path(sys.argv[1])
    served, histories, cores, per_s, seconds, seed = pickle.loads((folder / "served.pickle").read_bytes())
    ranker = Ranker.of(served.bundle, served.files, graph=served.graph, threads=served.threads)
    for history in histories[:200]:
        ranker.recommend_batch([history])

    gc.collect()
    gc.freeze()
    gc.disable()

    pinned: list[int] = []

    def answer(samples: list[loadgen.QuerySample]) -> None:
        if not pinned:  # this is LoadGen's thread that answers; those that keep its logs may run elsewhere
            pinned.extend(cores)
            os.sched_setaffinity(0, cores)
        for sample in samples:
            ranker.recommend_batch([histories[sample.index]])
            loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(sample.id, 0, 0)])

    system = loadgen.ConstructSUT(answer, lambda: None)
    library = loadgen.ConstructQSL(len(histories), len(histories), lambda _: None, lambda _: None)
    loadgen.StartTestWithLogSettings(system, library, _settings(per_s, seconds, seed), _log(folder))
    loadgen.DestroyQSL(library)
    loadgen.DestroySUT(system)
    summary = (folder / "mlperf_log_summary.txt").read_text()
    found = re.findall(r"^([\d.]+) percentile latency \(ns\)\s*:\s*(\d+)", summary, re.MULTILINE)
    print(json.dumps({percentile: int(ns) / 1e6 for percentile, ns in found}))


def _settings(per_s: float, seconds: float, seed: int) -> loadgen.TestSettings:
    settings = loadgen.TestSettings()
    settings.scenario = loadgen.TestScenario.Server
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.server_target_qps = per_s
    settings.server_target_latency_ns = 10**9
    settings.min_duration_ms = round(1000 * seconds)
    settings.max_duration_ms = 0
    settings.min_query_count = 100
    settings.schedule_rng_seed = settings.sample_index_rng_seed = settings.qsl_rng_seed = seed
    return settings


def _log(folder: Path) -> loadgen.LogSettings:
    output = loadgen.LogOutputSettings()
    output.outdir = str(folder)
    output.copy_summary_to_stdout = False
    log = loadgen.LogSettings()
    log.log_output = output
    log.enable_trace = False
    return log


if __name__ == "__main__":
    main()
