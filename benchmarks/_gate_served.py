"""Measure what serving gains by the graph that is chosen, and what rankings lose by it.

One SASRec, trained on MovieLens-1M, is exported, quantised, and tried as a candidate is when it is packaged; what is
chosen there is then measured on later ratings, which took no part in the choice. All graphs are timed in one run on
the real histories before them, in blocks whose order is drawn anew in each round; intervals of times are of bootstraps
over rounds, those of losses over users. A SASRec of fifteen times as many items, whose weights are drawn, says what a
large catalogue costs. The *full* graph computes every position of the history through every block, as networks are
trained, and then scores after the newest one.

Shape legend: B batch, L history length, N items, R rounds, n requests of a block.
"""

import logging
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata
from torch import Tensor, nn

from benchmarks._data import find
from benchmarks._gate_scores import hold_out
from benchmarks._table import ROOT, Table
from benchmarks.quality import load
from recsys import synthetic
from recsys.checkpoints import load_weights, save_weights
from recsys.export import UNQUANTISED, choose_graph, try_graphs
from recsys.fidelity import rank_agreement, top_overlap
from recsys.graph import session, to_onnx
from recsys.metrics import evaluate, interval
from recsys.models import FAMILIES, Configuration, TorchScorer
from recsys.quantize import quantisations
from recsys.ranker import GraphScorer
from recsys.records import MIB
from recsys.sequences import Cases, Sequences
from recsys.settings import Line
from recsys.training import train

logger = logging.getLogger(__name__)

CONFIGURATION: Configuration = {
    **FAMILIES["sasrec"].defaults,
    "dim": 128,
    "layers": 2,
    "heads": 2,
    "history_length": 50,
    "batch_size": 1024,
    "lr": 2e-3,
    "softmax": "sampled",
    "negatives": 512,
    "epochs": 4,
}
N_DRAWN = 50_000  # items of the SASRec whose weights are drawn
CHOSEN_ON, MEASURED = 2000, 2  # cases that the choice sees; newest ratings of each user, which it does not see
HEAD = 0.2  # share of the items, most popular first, that do not belong to the tail
ROUNDS, REQUESTS, WARM_UP, HISTORIES = 120, 10, 20, 1000
AGREED = 512  # cases after which ranks of all items are compared
PLANTED, NORM = 0.01, 40  # share of the items whose embeddings become so many times as long
MOST_LOST, MOST_SIZE = 0.005, 0.3  # floors of the line: of NDCG@10, and of fp32's size
KEPT = ROOT / "var" / "bench" / "gate-served.safetensors"
FULL, EAGER = "fp32, full", "PyTorch, eager"
Request = Callable[[NDArray[np.int64]], object]
Times = Mapping[str, NDArray[np.float64]]


def tables() -> Iterator[Table]:
    """Give what each part shows."""
    torch.set_num_threads(1)
    known, choosing, measured = data()
    network = trained(known)
    graphs = variants(network)
    served = chosen(graphs, known, choosing)
    histories = _histories(measured.spread(HISTORIES))
    yield quality(graphs, served, measured)
    yield outliers(network, served, measured)  # which spoils the network for what only it shows
    yield speed(trained(known), graphs, served, histories)
    yield large(served)


def data() -> tuple[Sequences, Cases, Cases]:
    """Split MovieLens-1M into what is learned from, what the choice sees, and the newest ratings of each user."""
    known, cases = hold_out(load(find("ml-1m/sequences.txt")))
    n_users = len(np.unique(cases.users))
    positions = cases.positions.reshape(n_users, -1)
    earlier, newest = positions[:, :-MEASURED].ravel(), positions[:, -MEASURED:].ravel()
    return (
        known,
        Cases(sequences=cases.sequences, positions=earlier).spread(CHOSEN_ON),
        Cases(sequences=cases.sequences, positions=newest),
    )


def trained(known: Sequences) -> Any:  # noqa: ANN401 - a network's parts have no public type
    """Train the SASRec, once, and give it as it was kept."""
    network: Any = FAMILIES["sasrec"].build(CONFIGURATION, n_items=known.n_items)
    if not KEPT.exists():
        train(network, known, CONFIGURATION, seed=0)
        KEPT.parent.mkdir(parents=True, exist_ok=True)
        save_weights(network, KEPT)
    load_weights(network, KEPT)
    return network.eval()


def variants(network: nn.Module) -> dict[str, bytes]:
    """Export a network and make all int8 graphs of it."""
    graph = _graph(network)
    return {UNQUANTISED: graph, **quantisations(graph)}


def chosen(graphs: Mapping[str, bytes], known: Sequences, cases: Cases) -> str:
    """Choose the graph that serves as `package` does, for a line of one user a request and the floors of the table."""
    line = Line.model_validate(
        {
            **tomllib.loads(synthetic.LINE),
            "budgets": {"p99_ms": 50.0, "size_mib": MOST_SIZE * len(graphs[UNQUANTISED]) / MIB},
            "gate": {"max_quantisation_loss": MOST_LOST},
        }
    )
    taken = np.bincount(known.items, minlength=known.n_items + 1)
    tail = np.ones(known.n_items + 1, bool)
    tail[0] = False
    tail[np.argsort(-taken[1:], kind="stable")[: int(HEAD * known.n_items)] + 1] = False
    length = int(CONFIGURATION["history_length"])
    choice = choose_graph(line, try_graphs(line, graphs, cases, history_length=length, tail=tail))
    logger.info(choice.because)
    return choice.serves


def quality(graphs: Mapping[str, bytes], served: str, cases: Cases) -> Table:
    """Evaluate the graphs on ratings that nothing was chosen by."""
    found = {name: evaluate(scorer, cases) for name, scorer in _scorers(graphs).items()}
    whole = found[UNQUANTISED]
    mean = float(whole.ndcg.mean())
    rows, figures = [], {}
    for name, each in found.items():
        low, high = (bound / mean for bound in interval(whole.ndcg - each.ndcg, each.users, seed=0))
        loss, overlap = 1 - float(each.ndcg.mean()) / mean, top_overlap(each.recommended, whole.recommended)
        rows.append([name, float(each.ndcg.mean()), f"{loss:.2%}", f"{low:.2%} to {high:.2%}", overlap])
        if name == served:
            figures = {
                "served": served,
                "ndcg_loss": round(loss, 5),
                "ndcg_loss_95": [round(low, 5), round(high, 5)],
                "top10_overlap": round(overlap, 4),
            }
    return Table(
        title=f"SASRec trained on MovieLens-1M, {len(cases):,} newest ratings, batches of 256; chosen is {served}",
        columns=["graph", "NDCG@10", "loss", "95 %", "top-10 overlap"],
        rows=rows,
        figures=figures,
    )


def outliers(network: Any, served: str, cases: Cases) -> Table:  # noqa: ANN401 - as above
    """Make some embeddings much longer, in place, and compare how all others are ranked."""
    long = np.zeros(network.n_items + 1, bool)
    long[1 + np.random.default_rng(0).permutation(network.n_items)[: int(PLANTED * network.n_items)]] = True
    with torch.no_grad():
        network.items.weight[torch.from_numpy(long)] *= NORM
    others = np.flatnonzero(~long)[1:]
    graphs = variants(network)
    graphs["one scale a matrix"] = _one_scale(graphs[UNQUANTISED])
    histories = _histories(cases.spread(AGREED))
    scores = {name: scorer(histories)[:, others] for name, scorer in _scorers(graphs).items()}
    by_history = {
        name: np.array(
            [rank_agreement(*pair) for pair in zip(each[:, None], scores[UNQUANTISED][:, None], strict=True)]
        )
        for name, each in scores.items()
    }
    rows = [
        [name, f"{each.mean():.5f}", "{:.5f} to {:.5f}".format(*_mean_95(each))] for name, each in by_history.items()
    ]
    return Table(
        title=f"{long.sum()} embeddings made {NORM} times as long: Spearman's correlation with fp32 over all others",
        columns=["graph", "rank agreement", "95 %"],
        rows=rows,
        figures={
            "tail_rank_agreement": round(float(by_history[served].mean()), 5),
            "tail_rank_agreement_95": [round(bound, 5) for bound in _mean_95(by_history[served])],
            "tail_rank_agreement_one_scale": round(float(by_history["one scale a matrix"].mean()), 5),
        },
    )


def speed(
    network: nn.Module, graphs: Mapping[str, bytes], served: str, histories: NDArray[np.int64], prefix: str = ""
) -> Table:
    """Time all graphs of a network at batch 1, its full graph and eager PyTorch beside them."""
    whole = {FULL: _graph(Everything(network)), **graphs}
    times = _timed({EAGER: TorchScorer(network), **{name: _run(graph) for name, graph in whole.items()}}, histories)
    p50 = {name: float(np.median(each)) for name, each in times.items()}
    sizes = {name: len(graph) / len(graphs[UNQUANTISED]) for name, graph in whole.items()}
    figures: dict[str, Any] = {f"{prefix}size_ratio": round(sizes[served], 4)}
    for key, against in (("over_ort_fp32", FULL), ("over_eager", EAGER), ("over_last_position", UNQUANTISED)):
        figures[f"{prefix}served_{key}"] = round(p50[against] / p50[served], 3)
        figures[f"{prefix}served_{key}_95"] = [*_ratio(times, against, served)]
    n_items, dim, layers = int(network.n_items), CONFIGURATION["dim"], CONFIGURATION["layers"]  # type: ignore[arg-type]
    return Table(
        title=(
            f"SASRec of {n_items:,} items, {dim} dimensions, {layers} blocks, L {CONFIGURATION['history_length']}: one "
            f"history a request, one thread, {ROUNDS} rounds of {REQUESTS}; chosen is {served}"
        ),
        columns=["graph", "p50 ms", "times the full graph's speed", "from", "to", "size"],
        rows=[
            [name, p50[name], p50[FULL] / p50[name], *_ratio(times, FULL, name), sizes.get(name, "")] for name in times
        ],
        figures=figures,
    )


def large(served: str) -> Table:
    """Time a SASRec of many items; weights are drawn, biases too, so that no part of it can be folded away."""
    network: Any = FAMILIES["sasrec"].build(CONFIGURATION, n_items=N_DRAWN)
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.05)
    length = int(CONFIGURATION["history_length"])
    histories = np.random.default_rng(1).integers(1, N_DRAWN + 1, (HISTORIES, length))
    return speed(network.eval(), variants(network), served, histories, prefix="large_")


class Everything(nn.Module):
    """A SASRec that computes every position of the history through every block."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.history_length = network.history_length

    def forward(self, history: Tensor) -> Tensor:
        """Score the catalogue. Shapes [B, L] to [B, N + 1]."""
        own: Any = self.network
        hidden, padding = own.items(history), history == 0
        for block in own.blocks:
            hidden = block(hidden, padding)
        return F.linear(own.norm(hidden)[:, -1], own.items.weight, own.bias)


def _scorers(graphs: Mapping[str, bytes]) -> dict[str, GraphScorer]:
    length = int(CONFIGURATION["history_length"])
    return {name: GraphScorer(session(graph), length) for name, graph in graphs.items()}


def _histories(cases: Cases) -> NDArray[np.int64]:
    return cases.histories(np.arange(len(cases)), int(CONFIGURATION["history_length"]))


def _one_scale(graph: bytes) -> bytes:
    """Quantise as ONNX Runtime does by default, look-ups included: one scale for each matrix."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        model = onnx.load_model_from_string(graph)
        add_pre_process_metadata(model)
        logging.disable(logging.WARNING)  # the library tells every tensor that it passes over
        quantize_dynamic(model, path, op_types_to_quantize=["MatMul", "Gemm", "Gather"], weight_type=QuantType.QInt8)
        logging.disable(logging.NOTSET)
        return path.read_bytes()


def _graph(network: nn.Module) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return to_onnx(network, Path(folder) / "model.onnx").read_bytes()


def _run(graph: bytes) -> Request:
    opened = session(graph)
    return lambda history: opened.run(None, {"history": history})


def _timed(requests: Mapping[str, Request], histories: NDArray[np.int64]) -> Times:
    """Time requests of one history each in interleaved blocks. Milliseconds, shape [R, n] each."""
    rng = np.random.default_rng(1)
    times = {name: np.empty((ROUNDS, REQUESTS)) for name in requests}
    for request in requests.values():
        for at in range(WARM_UP):
            request(histories[at : at + 1])
    for number in range(ROUNDS):
        asked = rng.integers(0, len(histories), REQUESTS)
        for name in rng.permutation(list(requests)):
            for place, which in enumerate(asked):
                began = time.perf_counter_ns()
                requests[name](histories[which : which + 1])
                times[name][number, place] = (time.perf_counter_ns() - began) / 1e6
    return times


def _ratio(times: Times, against: str, name: str) -> tuple[float, float]:
    """Give the 95 % interval of how many times as fast a graph is by p50, rounds being drawn for both."""
    which = np.random.default_rng(2).integers(0, ROUNDS, (1000, ROUNDS))
    ratios = [np.median(times[against][rows]) / np.median(times[name][rows]) for rows in which]
    low, high = np.quantile(ratios, [0.025, 0.975])
    return round(float(low), 3), round(float(high), 3)


def _mean_95(values: NDArray[np.float64]) -> tuple[float, float]:
    """Give the 95 % interval of a mean, values being drawn anew."""
    which = np.random.default_rng(3).integers(0, len(values), (1000, len(values)))
    low, high = np.quantile(values[which].mean(1), [0.025, 0.975])
    return float(low), float(high)
