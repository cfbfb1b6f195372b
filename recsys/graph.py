"""Turn a network into an ONNX graph, open it for serving, and time it roughly.

Shape legend: B batch, L history length, N items, H histories.
"""

import copy
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from recsys.clock import Clock, run_delay
from recsys.metrics import top_k

if TYPE_CHECKING:
    from torch import nn

OPSET = 20
MAX_BATCH = 65_536
BLOCKS = 5  # a short run is cut into this many blocks, of which the quietest counts
WARM_UP = 3  # requests before the clock counts: the first ones allocate
K = 10  # items that a request asks for


def to_onnx(network: "nn.Module", path: Path) -> Path:
    """Export a network of `recsys.models` with a free batch dimension, as one file without external data.

    The graph has the input `history` int64 [B, L] and the output `scores` float32 [B, N + 1]. The network itself stays
    as it is, on its device.

    Args:
        network: Any `Network`, trained or not; its `history_length` is the L of the graph.
        path: File to write.

    Returns:
        `path`.
    """
    import torch  # who serves a graph needs no torch, which takes seconds to import

    served = copy.deepcopy(network).cpu().eval()
    history = torch.zeros(2, int(network.history_length), dtype=torch.int64)  # type: ignore[arg-type]
    with _quietly(), torch.no_grad():
        program = torch.onnx.export(
            served,
            (history,),
            dynamo=True,
            input_names=["history"],
            output_names=["scores"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=MAX_BATCH)},),
            opset_version=OPSET,
            optimize=True,
            verbose=False,
        )
    assert program is not None
    program.save(path, external_data=False)
    return path


def session(graph: bytes, *, threads: int = 1) -> ort.InferenceSession:
    """Open a graph for scoring on the CPU.

    Args:
        graph: The bytes of an ONNX file that are known to be what its maker wrote.
        threads: CPU threads that one request may use.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads take the cores from whatever else runs beside the server.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def rough_latency(
    scorer: ort.InferenceSession, histories: NDArray[np.int64], *, batch_size: int, seconds: float
) -> tuple[float, float]:
    """Time requests one after another for a short while; a filter before training, never a measurement to report.

    A request is scored and its best ten chosen, which is what grows with the catalogue; that items have to be looked up
    is left out, so a request to a bundle takes a little longer. Milliseconds are wall clock less the time in which
    others had our core. Neighbours can then only add time, by what they do to caches, so the run is cut into blocks and
    the quietest one counts.

    Args:
        scorer: An open graph.
        histories: Real histories that the requests cycle through, shape [H, L].
        batch_size: Histories of one request.
        seconds: How long to go on; each block has one request at least.

    Returns:
        p50 and p99 of a request, in milliseconds.
    """
    requests = _requests(histories, batch_size)
    for _ in range(WARM_UP):
        _answer(scorer, next(requests))
    with run_delay() as delay:
        blocks = [_block(scorer, requests, delay, seconds / BLOCKS) for _ in range(BLOCKS)]
    p50 = min(float(np.percentile(block, 50)) for block in blocks)
    p99 = min(float(np.percentile(block, 99)) for block in blocks)
    return p50, p99


def _block(
    scorer: ort.InferenceSession, requests: Iterator[NDArray[np.int64]], delay: Clock, seconds: float
) -> list[float]:
    """Time requests for `seconds`, one at least; give the milliseconds of each."""
    took_ms: list[float] = []
    ends = time.perf_counter() + seconds
    while not took_ms or time.perf_counter() < ends:
        request = next(requests)
        waited, began = delay(), time.perf_counter_ns()
        _answer(scorer, request)
        took_ms.append((time.perf_counter_ns() - began - (delay() - waited)) / 1e6)
    return took_ms


def _answer(scorer: ort.InferenceSession, request: NDArray[np.int64]) -> None:
    top_k(scorer.run(None, {"history": request})[0], K)


def _requests(histories: NDArray[np.int64], batch_size: int) -> Iterator[NDArray[np.int64]]:
    """Cycle through the histories for ever, `batch_size` at a time."""
    at = np.arange(batch_size)
    while True:
        yield histories[at % len(histories)]
        at = (at + batch_size) % len(histories)


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the exporter from telling each of its steps, and from missing a package at every export that none needs."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    talkative = [logging.getLogger(name) for name in ("onnx_ir", "onnxscript")]
    levels = [each.level for each in talkative]

    def speaks_of_other_things(record: logging.LogRecord) -> bool:
        return "torchvision is not installed" not in str(record.msg)

    logger.addFilter(speaks_of_other_things)
    for each in talkative:
        each.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.removeFilter(speaks_of_other_things)
        for each, level in zip(talkative, levels, strict=True):
            each.setLevel(level)
