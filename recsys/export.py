"""Package a candidate: export its network, prove that the graph scores alike, and choose the graph that serves."""

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from recsys import dataset as datasets
from recsys import ledger
from recsys.bundles import EARLY, FP32, INT8, VOCABULARY, WEIGHTS, identify, keep_bundle, refer, refuse_external_data
from recsys.checkpoints import load_weights
from recsys.dataset import Frozen
from recsys.errors import BadBundle, BadObject, BadScores
from recsys.graph import session, to_onnx
from recsys.latency.blocks import measure_latency
from recsys.latency.orders import Ask, Here
from recsys.metrics import evaluate
from recsys.models import FAMILIES, TorchScorer
from recsys.quantize import quantisations
from recsys.ranker import GraphScorer
from recsys.records import Bundle, Candidate, GraphTrial, dump
from recsys.sequences import Cases
from recsys.settings import Line
from recsys.store import Store

log = logging.getLogger(__name__)

UNQUANTISED = "fp32"  # name of the graph that no pass has changed
MAX_ERROR = 1e-4  # between graph and network, relative to the largest score
TIE = 1e-5  # scores nearer to each other than this share of their range may change places
COMPARED = 512  # real histories on which graph and network are compared
TRIED = 2000  # cases of the validation windows on which the graphs are compared
SECONDS = 2.0  # spent on timing the graphs
WORTH = 0.95  # int8 counts as faster where its p50 is at most this share of fp32's: less is within what timing can tell


def package(line: Line, store: Store, candidate: Candidate) -> Bundle:
    """Export, check and quantise the candidate into an immutable bundle; the same candidate gives the same release.

    int8 is kept in its smallest form whose NDCG@10 on the validation windows is within `gate.max_quantisation_loss` of
    fp32's. It serves if it is also faster at the line's batch size, or if it fits into `budgets.size_mib` and fp32 does
    not; else fp32 serves. (The network has been refitted on those windows: they compare graphs of one model, and say
    nothing of the model.)

    Args:
        line: Whose gate and budgets choose the graph.
        store: The line's part of the store.
        candidate: What a study chose.

    Raises:
        BadBundle: Weights or the scores of fp32 are not finite, all scores are the same, or the graph does not score as
            the network does.
        BadObject: The weights are not those that the candidate was made with, or do not belong to its configuration.
        NoFeedback: The candidate's dataset is gone.
    """
    frozen = datasets.load(store, datasets.dataset(store, candidate.dataset_id))
    weights = _verified(store, candidate, candidate.weights_key, candidate.weights_sha256)
    network = _network(candidate, weights, n_items=frozen.before_holdout.n_items)
    graph = _exported(network)
    cases = _window_cases(frozen)
    largest_error = compare(graph, network, cases)
    graphs = {UNQUANTISED: graph, **quantisations(graph)}
    trials = try_graphs(line, graphs, cases, history_length=_length(network))
    choice = choose_graph(line, trials)
    bodies = {FP32: graph, WEIGHTS: weights, VOCABULARY: json.dumps(frozen.vocabulary, ensure_ascii=False).encode()}
    if choice.int8 is not None:
        bodies[INT8] = graphs[choice.int8]
    if candidate.early_key:
        bodies[EARLY] = _verified(store, candidate, candidate.early_key, candidate.early_sha256)
    files = {name: refer(body) for name, body in bodies.items()}
    made = Bundle(
        release_id=identify(
            family=candidate.family,
            configuration=candidate.configuration,
            dataset_id=candidate.dataset_id,
            history_length=_length(network),
            files=files,
        ),
        candidate_id=candidate.candidate_id,
        dataset_id=candidate.dataset_id,
        family=candidate.family,
        configuration=candidate.configuration,
        n_items=frozen.before_holdout.n_items,
        history_length=_length(network),
        serves=INT8 if choice.int8_serves else FP32,
        serves_because=choice.because,
        graphs=trials,
        files=files,
        largest_error=largest_error,
        by=candidate.by,
        as_of=candidate.as_of,
        begun=candidate.begun,
    )
    kept = keep_bundle(store, made, bodies)
    ledger.append(
        store,
        ledger.Entry(
            what="packaged",
            who=kept.by,
            why=kept.serves_because,
            evidence=dump(kept),
            id=f"packaged-{kept.release_id}",
        ),
    )
    log.info("Candidate %s is bundle %s: %s", candidate.candidate_id, kept.release_id, kept.serves_because)
    return kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which quantised graph a bundle holds, and whether it serves."""

    int8: str | None  # the pass that made it; None: no pass gave another graph, or none that can serve
    int8_serves: bool
    because: str


def choose_graph(line: Line, trials: Sequence[GraphTrial]) -> Choice:
    """Choose by the rule that `package` states.

    Args:
        line: Whose gate and budgets decide.
        trials: What each graph of one model was worth, fp32 first.
    """
    fp32, *others = trials
    if not others:
        return Choice(int8=None, int8_serves=False, because="fp32 serves: its graph has no weights to make int8.")
    spoilt = " and ".join(each.graph for each in others if each.ndcg_at_10 is None)
    dropped = f"{spoilt} is no choice, because not all of its scores are finite numbers." if spoilt else ""
    quantised = [each for each in others if each.ndcg_at_10 is not None]
    if not quantised:
        return Choice(int8=None, int8_serves=False, because=f"fp32 serves: {dropped}")
    limit, budget_mib = line.gate.max_quantisation_loss, line.budgets.size_mib
    loss = {each.graph: _loss(each, fp32) for each in quantised}
    within = [each for each in quantised if loss[each.graph] <= limit]
    kept = min(within, key=lambda each: each.size_bytes) if within else min(quantised, key=lambda e: loss[e.graph])
    assert kept.p50_ms is not None  # all are timed where there are several
    assert fp32.p50_ms is not None
    faster = kept.p50_ms <= WORTH * fp32.p50_ms
    only_it_fits = kept.size_mib <= budget_mib < fp32.size_mib
    serves = bool(within) and (faster or only_it_fits)
    because = (
        f"{kept.graph if serves else 'fp32'} serves: {kept.graph} loses {loss[kept.graph]:.2%} of NDCG@10 on the "
        f"windows ({limit:.2%} is allowed), takes {kept.p50_ms:.3f} ms against {fp32.p50_ms:.3f} ms at batch "
        f"{line.budgets.batch_size}, and has {kept.size_mib:.2f} MiB against {fp32.size_mib:.2f} MiB of a budget of "
        f"{budget_mib:g} MiB."
    )
    return Choice(int8=kept.graph, int8_serves=serves, because=f"{because} {dropped}".rstrip())


def try_graphs(line: Line, graphs: Mapping[str, bytes], cases: Cases, *, history_length: int) -> tuple[GraphTrial, ...]:
    """Measure the graphs of one model: quality on `cases`, size, and speed at the line's batch size.

    Args:
        line: Whose batch size and threads count.
        graphs: fp32 and what the passes made of it, by name.
        cases: Moments of the validation windows.
        history_length: L of the graphs.

    Returns:
        One trial for each graph. One whose scores are not all finite numbers has no NDCG@10 and is not timed.

    Raises:
        BadBundle: That one is fp32.
    """
    scorers = {
        name: GraphScorer(session(graph, threads=line.budgets.threads), history_length)
        for name, graph in graphs.items()
    }
    ndcg = {name: _ndcg(name, scorer, cases) for name, scorer in scorers.items()}
    finite = {name: scorer for name, scorer in scorers.items() if ndcg[name] is not None}
    p50_ms = _time(line, finite, cases) if len(finite) > 1 else {}
    return tuple(
        GraphTrial(graph=name, size_bytes=len(graph), ndcg_at_10=ndcg[name], p50_ms=p50_ms.get(name))
        for name, graph in graphs.items()
    )


def compare(graph: bytes, network: nn.Module, cases: Cases) -> float:
    """Prove on real histories, and on the empty one, that a graph scores as the network does.

    Args:
        graph: An fp32 graph of `network`.
        network: In evaluation mode.
        cases: Whose histories to take.

    Returns:
        The largest difference of two scores, relative to the largest score.

    Raises:
        BadBundle: The difference is over `MAX_ERROR`, a top 10 differs by more than ties, or scores are not finite or
            all the same.
    """
    compared = cases.spread(COMPARED)
    real = compared.histories(np.arange(len(compared)), _length(network))
    histories = np.vstack([real, np.zeros((1, _length(network)), np.int64)])
    expected = TorchScorer(network)(histories)[:, 1:]  # [H, N]
    found = GraphScorer(session(graph), _length(network))(histories)[:, 1:]
    if not (np.isfinite(expected).all() and np.isfinite(found).all()):
        raise BadBundle("Every score must be a finite number, but on real histories some are not.", file=FP32)
    if len(found) and (np.ptp(found, axis=1) == 0).all():
        raise BadBundle("Scores must tell items apart, but on real histories all items score the same.", file=FP32)
    largest = float(np.abs(expected).max())
    error = float(np.abs(found - expected).max()) / max(largest, 1e-30)
    if error > MAX_ERROR:
        raise BadBundle(
            f"The graph must score as the network within {MAX_ERROR:g} of the largest score, but is {error:.2g} off.",
            file=FP32,
        )
    _compare_top(expected, found)
    return error


def _compare_top(expected: NDArray[np.float32], found: NDArray[np.float32], *, k: int = 10) -> None:
    """Refuse a graph whose best `k` hold an item that the network does not rank there, ties apart."""
    k = min(k, expected.shape[1])
    best = np.argpartition(-found, k - 1, axis=1)[:, :k]
    chosen = np.take_along_axis(expected, best, 1).min(1)
    least = -np.partition(-expected, k - 1, axis=1)[:, k - 1]
    wrong = int((chosen < least - TIE * np.ptp(expected, axis=1)).sum())
    if wrong:
        raise BadBundle(
            f"The graph must rank the same {k} items first as the network, but does not for {wrong} of {len(best)} "
            "real histories.",
            file=FP32,
        )


def _verified(store: Store, candidate: Candidate, at: str, sha256: str) -> bytes:
    body = store.get(at).body
    found = refer(body).sha256
    if found != sha256:
        reason = f"must have the SHA-256 {sha256}, but has {found}"
        raise BadObject(f"{at} of candidate {candidate.candidate_id} {reason}.", key=at, reason=reason)
    return body


def _network(candidate: Candidate, weights: bytes, *, n_items: int) -> nn.Module:
    network = FAMILIES[candidate.family].build(candidate.configuration, n_items=n_items)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / WEIGHTS
        path.write_bytes(weights)
        load_weights(network, path)
    spoiled = [name for name, tensor in network.state_dict().items() if not tensor.isfinite().all()]
    if spoiled:
        raise BadBundle(
            f"Weights must be finite numbers, but those of candidate {candidate.candidate_id} are not in {spoiled}.",
            file=WEIGHTS,
        )
    return network.eval()


def _exported(network: nn.Module) -> bytes:
    """Give the graph without what only says where and how it was exported, so that equal weights give equal bytes."""
    with tempfile.TemporaryDirectory() as folder:
        model = onnx.load(to_onnx(network, Path(folder) / FP32))
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    exported: bytes = model.SerializeToString(deterministic=True)
    refuse_external_data(exported, name=FP32)
    return exported


def _window_cases(frozen: Frozen) -> Cases:
    """Take up to `TRIED` moments of the validation windows, spread evenly, in the ids of the whole vocabulary."""
    positions = np.flatnonzero(frozen.before_holdout.times >= frozen.begins[0])
    return Cases(sequences=frozen.before_holdout, positions=positions).spread(TRIED)


def _ndcg(name: str, scorer: GraphScorer, cases: Cases) -> float | None:
    """Give the NDCG@10 of a graph, or None where a quantised one gives scores that are no finite numbers."""
    try:
        return evaluate(scorer, cases).over_cases["ndcg_at_10"]
    except BadScores as error:
        if name == UNQUANTISED:
            raise BadBundle(f"{FP32} must give finite scores on the validation windows: {error}", file=FP32) from error
        log.warning("%s is no choice: %s", name, error)
        return None


def _loss(quantised: GraphTrial, fp32: GraphTrial) -> float:
    """Say which share of fp32's NDCG@10 a graph loses, where fp32 has any to lose."""
    assert quantised.ndcg_at_10 is not None  # the others are no choice
    return 1 - quantised.ndcg_at_10 / fp32.ndcg_at_10 if fp32.ndcg_at_10 else 0.0


def _time(line: Line, scorers: Mapping[str, GraphScorer], cases: Cases) -> dict[str, float]:
    """Give the median milliseconds that each graph takes to score the line's batch: what they share is left out."""
    length = next(iter(scorers.values())).history_length
    histories = cases.histories(np.arange(len(cases)), length)

    def ask(scorer: GraphScorer) -> Ask:
        return lambda row: partial(scorer, histories[row])

    measured = measure_latency(
        {name: Here(ask(scorer)) for name, scorer in scorers.items()},
        n_histories=len(histories),
        batch_size=line.budgets.batch_size,
        seconds=SECONDS,
        seed=0,
    )
    return {name: float(np.median(times)) for name, times in measured.blocks.items()}


def _length(network: nn.Module) -> int:
    return int(network.history_length)  # type: ignore[arg-type]
