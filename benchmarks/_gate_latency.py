"""Judge identical bundles, and some that are slower by a tenth, as the gate does: in fresh processes side by side.

Each core of the machine judges its share of the pairs, so that each gate has neighbours as it would in production.
"""

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from benchmarks._data import find
from benchmarks._spun import Spun
from benchmarks._table import Table
from benchmarks.quality import load
from recsys.bundles import FP32, VOCABULARY, refer
from recsys.graph import to_onnx
from recsys.latency.blocks import measure_latency
from recsys.latency.orders import Answers, Closed, Order, Timed
from recsys.latency.pace import Pace, pace, told
from recsys.latency.server import Histories, Served, Server, serving
from recsys.latency.sidebyside import CANDIDATE, INCUMBENT, TWINS, compared, controlled, started, tells
from recsys.models import FAMILIES
from recsys.records import Bundle, Outcome, Ratios
from recsys.settings import Budgets, Gate

logger = logging.getLogger(__name__)

GATES = 200
SLOWED = 50  # gates of each kind of slowdown
SLOWER = 0.1  # by which the slowed ones are
USERS = 1000  # whose histories requests are made of
NAIVE = 1000  # requests to one bundle after the other, as a naive rule times them
NAIVE_LIMIT = 0.1  # by which two p99 may differ before a naive rule calls one of them slower
GATE = Gate(max_p50_ratio=1.0, max_p99_ratio=1.0, ratios_from=0.0)  # a candidate that must not be slower
BUDGETS = Budgets(p99_ms=1000.0, size_mib=1000.0)  # only the ratios count
_MODEL = {**FAMILIES["sasrec"].defaults, "dim": 64, "layers": 1, "heads": 1, "history_length": 50}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What was judged of one pair of identical bundles."""

    alike: "_Judged"
    naive: float  # ratio of p99 by the naive rule
    slowed: Mapping[str, "_Judged"]  # by the quantile that was slowed


def tables() -> Iterable[Table]:
    """Judge `GATES` pairs of identical bundles, and in some of their processes slowed candidates as well."""
    cores = sorted(os.sched_getaffinity(0))
    shares = [range(at, GATES, len(cores)) for at in range(len(cores))]
    with ProcessPoolExecutor(len(cores), mp_context=get_context("spawn")) as workers:
        yield _table([seen for share in workers.map(_share_of, cores, shares) for seen in share])


def _share_of(core: int, seeds: Sequence[int]) -> list[_Seen]:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    os.sched_setaffinity(0, [core])
    served, histories = bundle()
    return [_seen(served, histories, seed) for seed in seeds]


def _seen(served: Served, histories: Histories, seed: int) -> _Seen:
    slowed = {}
    with _twins(served, histories) as servers:
        alike = _judge(servers, len(histories), seed)
        naive = _naive(servers, len(histories), seed)
        if seed < SLOWED:
            slowed["p50"] = _judge(_slow(servers, beyond=0.0), len(histories), seed)
            beyond = _typical_p95(servers[CANDIDATE], len(histories), seed)
            slowed["p99"] = _judge(_slow(servers, beyond=beyond), len(histories), seed)
    logger.info("Gate %d: %s%s", seed, alike, "".join(f"; {name} slower: {each}" for name, each in slowed.items()))
    return _Seen(alike=alike, naive=naive, slowed=slowed)


def bundle() -> tuple[Served, Histories]:
    """Give a sasrec over the items of MovieLens-1M, untrained as scores do not matter, and real histories."""
    sequences = load(find("ml-1m/sequences.txt"))
    torch.manual_seed(0)
    network = FAMILIES["sasrec"].build(_MODEL, n_items=sequences.n_items).eval()
    with tempfile.TemporaryDirectory() as folder:
        graph = to_onnx(network, Path(folder) / FP32).read_bytes()
    vocabulary = [f"movie-{item}" for item in range(1, sequences.n_items + 1)]
    files = {FP32: graph, VOCABULARY: json.dumps(vocabulary).encode()}
    made = Bundle(
        release_id=f"sasrec-{hashlib.sha256(graph).hexdigest()[:16]}",
        candidate_id="benchmark",
        dataset_id="ml-1m",
        family="sasrec",
        configuration=_MODEL,
        n_items=sequences.n_items,
        history_length=int(_MODEL["history_length"]),
        serves=FP32,
        serves_because="It is the only one.",
        graphs=(),
        files={name: refer(body) for name, body in files.items()},
        largest_error=0.0,
        by="benchmark",
        as_of=datetime.now(UTC),
    )
    users = np.random.default_rng(0).choice(len(sequences.offsets) - 1, USERS, replace=False)
    histories = [
        [
            vocabulary[item - 1]
            for item in sequences.items[sequences.offsets[user] : sequences.offsets[user + 1]]
            if item
        ]
        for user in users
    ]
    return Served(bundle=made, files=files, graph=FP32), histories


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """What the gate would say of a candidate that must not be slower than the incumbent."""

    ratios: Ratios
    control: Ratios
    seconds: float

    def outcome(self, quantile: str) -> Outcome:
        ratio, control = getattr(self.ratios, quantile), getattr(self.control, quantile)
        return told(ratio, control, limit=1.0, margin=GATE.latency_margin)

    @property
    def false(self) -> bool:
        """Whether identical bundles are told apart."""
        return any(
            self.outcome(quantile) is Outcome.FAIL
            or pace(getattr(self.ratios, quantile), GATE.latency_margin) is Pace.FASTER
            for quantile in ("p50", "p99")
        )

    def __str__(self) -> str:
        p50, p99 = self.ratios.p50, self.ratios.p99
        return (
            f"p50 {p50.value:.3f} [{p50.low:.3f}, {p50.high:.3f}], p99 {p99.value:.3f} [{p99.low:.3f}, {p99.high:.3f}],"
            f" {self.seconds:.1f} s"
        )


@contextmanager
def _twins(served: Served, histories: Histories) -> Iterator[dict[str, Server]]:
    with serving(started({CANDIDATE: served, INCUMBENT: served}), histories) as servers:
        yield servers


def _judge(servers: Mapping[str, Answers], n_histories: int, seed: int) -> _Judged:
    began = time.perf_counter()
    found = measure_latency(
        servers,
        enough=partial(tells, GATE, BUDGETS),
        n_histories=n_histories,
        batch_size=1,
        seconds=GATE.latency_s,
        seed=seed,
    )
    seconds = time.perf_counter() - began
    return _Judged(
        ratios=compared(found, confidence=GATE.latency_confidence),
        control=controlled(found, confidence=GATE.latency_confidence),
        seconds=seconds,
    )


@dataclass(frozen=True, slots=True)
class _Slowed:
    """A process whose slow requests are slower."""

    server: Answers
    beyond_ms: float

    def carry_out(self, order: Order) -> Timed:
        assert isinstance(order, Closed)
        return self.server.carry_out(Spun(order.rows, SLOWER, self.beyond_ms))


def _slow(servers: Mapping[str, Answers], *, beyond: float) -> dict[str, Answers]:
    """Slow the candidate's processes down."""
    return {role: _Slowed(server, beyond) if role in TWINS[CANDIDATE] else server for role, server in servers.items()}


def _typical_p95(server: Answers, n_histories: int, seed: int) -> float:
    rows = np.random.default_rng(seed).integers(n_histories, size=(2000, 1))
    return float(np.quantile(server.carry_out(Closed(rows)).ms, 0.95))


def _naive(servers: Mapping[str, Answers], n_histories: int, seed: int) -> float:
    """Time one process and then the other, and divide their p99."""
    rng = np.random.default_rng(seed)
    p99 = [
        np.quantile(servers[role].carry_out(Closed(rng.integers(n_histories, size=(NAIVE, 1)))).ms, 0.99)
        for role in (CANDIDATE, INCUMBENT)
    ]
    return float(p99[0] / p99[1])


def _table(seen: Sequence[_Seen]) -> Table:
    alike = [each.alike for each in seen]
    slowed = {name: [each.slowed[name] for each in seen if name in each.slowed] for name in ("p50", "p99")}
    naive = float(np.mean([abs(each.naive - 1) > NAIVE_LIMIT for each in seen]))
    return Table(
        title=(
            f"Bundles judged side by side, one that must not be slower (margin {GATE.latency_margin:.0%}, seeds 0 to "
            f"{GATES - 1}); a naive rule, p99 of {NAIVE} requests each within {NAIVE_LIMIT:.0%}, errs in {naive:.3f}"
        ),
        columns=["candidate", "gates", "told apart", "p50 fails", "p99 fails", "p50 passes", "p99 passes", "median s"],
        rows=[
            _row("identical", alike),
            *(_row(f"{name} slower by {SLOWER:.0%}", judged) for name, judged in slowed.items()),
        ],
        figures={
            "aa_false": float(np.mean([judged.false for judged in alike])),
            "aa_false_naive": naive,
            "power_p50": _share(slowed["p50"], "p50", Outcome.FAIL),
            "power_p99": _share(slowed["p99"], "p99", Outcome.FAIL),
            "decision_s": float(np.median([judged.seconds for judged in [*slowed["p50"], *slowed["p99"]]])),
            "decision_s_identical": float(np.median([judged.seconds for judged in alike])),
        },
    )


def _row(name: str, judged: list[_Judged]) -> list[object]:
    return [
        name,
        len(judged),
        float(np.mean([each.false for each in judged])),
        *(_share(judged, quantile, Outcome.FAIL) for quantile in ("p50", "p99")),
        *(_share(judged, quantile, Outcome.PASS) for quantile in ("p50", "p99")),
        float(np.median([each.seconds for each in judged])),
    ]


def _share(judged: list[_Judged], quantile: str, outcome: Outcome) -> float:
    return float(np.mean([each.outcome(quantile) is outcome for each in judged]))
