"""Package a candidate: export its network, prove that the graph scores alike, and choose the graph that serves."""

import hashlib
import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import nn

from recsys import dataset as datasets
from recsys import golden, ledger, restore
from recsys.bundles import (
    EARLY,
    FP32,
    INT8,
    VOCABULARY,
    WEIGHTS,
    identify,
    keep_bundle,
    refer,
    refuse_external_data,
)
from recsys.checkpoints import load_weights
from recsys.dataset import Frozen
from recsys.errors import BadBundle, BadObject, BadScores, Conflict, NotFound
from recsys.fidelity import rank_agreement, top_overlap
from recsys.graph import session, to_onnx
from recsys.latency.blocks import measure_latency
from recsys.latency.orders import Ask, Here
from recsys.metrics import Evaluation, evaluate, interval
from recsys.models import FAMILIES, TorchScorer
from recsys.quantize import quantisations
from recsys.ranker import GraphScorer
from recsys.records import Bundle, Candidate, Estimate, GraphTrial, dump
from recsys.sequences import Cases
from recsys.settings import Gate, Line
from recsys.store import Store

log = logging.getLogger(__name__)

UNQUANTISED = "fp32"  # name of the graph that no pass has changed
MAX_ERROR = 1e-4  # between graph and network, relative to the largest score
TIE = 1e-5  # scores nearer to each other than this share of their range may change places
AGREED = 256  # of these cases, on which ranks among the items of the tail are compared
COMPARED = 512  # real histories on which graph and network are compared
TRIED = 2000  # cases of the validation windows on which the graphs are compared
SECONDS = 2.0  # spent on timing the graphs
WORTH = 0.95  # int8 counts as faster where its p50 is at most this share of fp32's: less is within what timing can tell


def package(line: Line, store: Store, candidate: Candidate) -> Bundle:
    """Export, check and quantise the candidate into an immutable bundle; the same candidate gives the same release.

    Packaged again, a bundle is held against its manifest, and files that are gone or have other bytes are put back; a
    manifest that is gone or broken, from the ledger.

    Every pass of `recsys.quantize` is tried, and `choose_graph` takes one. (The network has been refitted on the
    validation windows on which they are: these compare graphs of one model, and say nothing of the model.)

    Args:
        line: Whose gate and budgets choose the graph.
        store: The line's part of the store.
        candidate: What a study chose.

    Raises:
        BadBundle: Weights or the scores of fp32 are not finite, all scores are the same, or the graph does not score as
            the network does. Or a file of the bundle that was packaged before has other bytes, and what is made of the
            candidate now has others still.
        BadObject: What was packaged before cannot be read. Or the weights are not those that the candidate was made
            with, or do not belong to its configuration.
        NoFeedback: The candidate's dataset is gone.
    """
    frozen = datasets.load(store, datasets.dataset(store, candidate.dataset_id))
    weights = _verified(store, candidate, candidate.weights_key, candidate.weights_sha256)
    network = _network(candidate, weights, n_items=frozen.before_holdout.n_items)
    graph = _exported(network)
    cases = _window_cases(frozen)
    largest_error = compare(graph, network, cases)
    packaged_at = f"packaged/{_made_of(line, candidate, graph)}.json"
    bodies = {FP32: graph, WEIGHTS: weights, VOCABULARY: json.dumps(frozen.vocabulary, ensure_ascii=False).encode()}
    if candidate.early_key:
        bodies[EARLY] = _verified(store, candidate, candidate.early_key, candidate.early_sha256)
    if (before := _packaged(store, packaged_at)) is not None:
        restore.restore(store, before, bodies, cases)
        return _written_down(store, before)  # who packaged it may have died before that
    graphs = {UNQUANTISED: graph, **quantisations(graph)}
    trials = try_graphs(line, graphs, cases, history_length=_length(network), tail=_tail(frozen))
    choice = choose_graph(line, trials)
    if choice.int8 is not None:
        bodies[INT8] = graphs[choice.int8]
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
        serves_graph=choice.serves,
        graphs=trials,
        files=files,
        largest_error=largest_error,
        by=candidate.by,
        as_of=candidate.as_of,
        begun=candidate.begun,
    )
    return _written_down(store, _announced(store, packaged_at, keep_bundle(store, *golden.added(made, bodies, cases))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which quantised graph a bundle holds, and whether it serves."""

    int8: str | None  # the pass that made it; None: no pass gave another graph, or none that can serve
    int8_serves: bool
    because: str

    @property
    def serves(self) -> str:
        """The name of the graph that serves."""
        return self.int8 if self.int8 is not None and self.int8_serves else UNQUANTISED


def choose_graph(line: Line, trials: Sequence[GraphTrial]) -> Choice:
    """Choose among the graphs that meet the line's floors, by speed and then by size.

    The floors are `gate.max_quantisation_loss`, `gate.min_top10_overlap` and `gate.min_tail_agreement`. Of what meets
    them and fits into `budgets.size_mib`, where anything does, the fastest at the line's batch size is kept; where
    timing cannot tell several from it, the smallest of these. It serves if it is also faster than fp32, or if it fits
    into the budget and fp32 does not; else fp32 serves. Where nothing meets the floors, what loses least is kept for
    the gate to look at, and fp32 serves.

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
    budget_mib = line.budgets.size_mib
    within = [each for each in quantised if _meets_floors(line.gate, each, fp32)]
    kept = _best(within, budget_mib) if within else min(quantised, key=lambda each: _loss(each, fp32))
    assert kept.p50_ms is not None  # all are timed where there are several
    assert fp32.p50_ms is not None
    faster = kept.p50_ms <= WORTH * fp32.p50_ms
    only_it_fits = kept.size_mib <= budget_mib < fp32.size_mib
    serves = bool(within) and (faster or only_it_fits)
    because = (
        f"{kept.graph if serves else 'fp32'} serves: {kept.graph}{_floors_said(line.gate, kept, fp32)}, takes "
        f"{kept.p50_ms:.3f} ms against {fp32.p50_ms:.3f} ms at batch {line.budgets.batch_size}, and has "
        f"{kept.size_mib:.2f} MiB against {fp32.size_mib:.2f} MiB of a budget of {budget_mib:g} MiB."
    )
    return Choice(int8=kept.graph, int8_serves=serves, because=f"{because} {dropped}".rstrip())


def try_graphs(
    line: Line, graphs: Mapping[str, bytes], cases: Cases, *, history_length: int, tail: NDArray[np.bool_]
) -> tuple[GraphTrial, ...]:
    """Measure the graphs of one model: quality on `cases`, likeness to fp32, size, and speed at the line's batch size.

    Args:
        line: Whose batch size, threads and confidence count.
        graphs: fp32 and what the passes made of it, by name, fp32 first.
        cases: Moments of the validation windows.
        history_length: L of the graphs.
        tail: Whether an item belongs to the tail, shape [N + 1].

    Returns:
        One trial for each graph. One whose scores are not all finite numbers has no NDCG@10 and is not timed.

    Raises:
        BadBundle: That one is fp32.
    """
    scorers = {
        name: GraphScorer(session(graph, threads=line.budgets.threads), history_length)
        for name, graph in graphs.items()
    }
    found = {name: _evaluated(name, scorer, cases) for name, scorer in scorers.items()}
    finite = {name: scorer for name, scorer in scorers.items() if found[name] is not None}
    p50_ms = _time(line, finite, cases) if len(finite) > 1 else {}
    whole = found[UNQUANTISED]
    assert whole is not None  # or it had been refused
    compared = cases.spread(AGREED)
    wanted = _tail_scores(scorers[UNQUANTISED], compared, tail)
    trials = []
    for name, graph in graphs.items():
        trial = GraphTrial(graph=name, size_bytes=len(graph), ndcg_at_10=None, p50_ms=p50_ms.get(name))
        if (own := found[name]) is not None:
            trial = replace(trial, ndcg_at_10=own.over_cases["ndcg_at_10"])
            if name != UNQUANTISED:
                trial = replace(
                    trial,
                    ndcg_loss=_paired_loss(own, whole, line.gate.confidence),
                    top10_overlap=top_overlap(own.recommended, whole.recommended),
                    tail_agreement=rank_agreement(_tail_scores(scorers[name], compared, tail), wanted),
                )
        log.info("Graph tried: %s", trial)
        trials.append(trial)
    return tuple(trials)


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


def _made_of(line: Line, candidate: Candidate, graph: bytes) -> str:
    """Name a packaging by all that decides about it but the clock."""
    made_of = {
        "graph": refer(graph).sha256,
        "files": [candidate.weights_sha256, candidate.early_sha256, candidate.dataset_id],
        "configuration": [candidate.family, dict(candidate.configuration)],
        "budgets": line.budgets.model_dump(mode="json"),
        "gate": line.gate.model_dump(mode="json", include=_FLOORS),
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


_FLOORS = {"max_quantisation_loss", "min_top10_overlap", "min_tail_agreement", "confidence"}


def _packaged(store: Store, at: str) -> Bundle | None:
    """Give the bundle that an earlier packaging made: timing may choose another graph each time, and did once."""
    try:
        release_id = str(json.loads(store.get(at).body)["release_id"])
    except NotFound:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise BadObject(
            f"{at} must say which release was packaged, but does not.", key=at, reason=str(error)
        ) from error
    return restore.find(store, release_id)


def _announced(store: Store, at: str, bundle: Bundle) -> Bundle:
    """Say that a packaging has made `bundle`, or give what another worker has made meanwhile."""
    try:
        store.create(at, json.dumps({"release_id": bundle.release_id}).encode())
    except Conflict:
        return _packaged(store, at) or bundle
    return bundle


def _written_down(store: Store, bundle: Bundle) -> Bundle:
    """Tell the ledger what was packaged, once however often it is told."""
    ledger.append(
        store,
        ledger.Entry(
            what="packaged",
            who=bundle.by,
            why=bundle.serves_because,
            evidence=dump(bundle),
            id=f"packaged-{bundle.release_id}",
        ),
    )
    log.info("Candidate %s is bundle %s: %s", bundle.candidate_id, bundle.release_id, bundle.serves_because)
    return bundle


def _tail(frozen: Frozen) -> NDArray[np.bool_]:
    tail = ~frozen.head
    tail[0] = False
    return tail


def _evaluated(name: str, scorer: GraphScorer, cases: Cases) -> Evaluation | None:
    """Evaluate a graph; give None where a quantised one gives scores that are no finite numbers."""
    try:
        return evaluate(scorer, cases)
    except BadScores as error:
        if name == UNQUANTISED:
            raise BadBundle(f"{FP32} must give finite scores on the validation windows: {error}", file=FP32) from error
        log.warning("%s is no choice: %s", name, error)
        return None


def _paired_loss(quantised: Evaluation, fp32: Evaluation, confidence: float) -> Estimate:
    """Give the share of fp32's NDCG@10 that a graph loses, the same users drawn for both."""
    lost, whole = fp32.ndcg - quantised.ndcg, float(fp32.ndcg.mean()) or 1.0
    low, high = interval(lost, fp32.users, seed=0, level=confidence)
    return Estimate(value=float(lost.mean()) / whole, low=low / whole, high=high / whole)


def _tail_scores(scorer: GraphScorer, cases: Cases, tail: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Score the items of the tail. Shape [C, T]."""
    batches = np.array_split(np.arange(len(cases)), max(1, len(cases) // 64))
    return np.vstack([scorer(cases.histories(which, scorer.history_length))[:, tail] for which in batches])


def _loss(quantised: GraphTrial, fp32: GraphTrial) -> float:
    """Say which share of fp32's NDCG@10 a graph loses, where fp32 has any to lose."""
    assert quantised.ndcg_at_10 is not None  # the others are no choice
    return 1 - quantised.ndcg_at_10 / fp32.ndcg_at_10 if fp32.ndcg_at_10 else 0.0


def _meets_floors(gate: Gate, quantised: GraphTrial, fp32: GraphTrial) -> bool:
    return (
        _loss(quantised, fp32) <= gate.max_quantisation_loss
        and (quantised.top10_overlap is None or quantised.top10_overlap >= gate.min_top10_overlap)
        and (quantised.tail_agreement is None or quantised.tail_agreement >= gate.min_tail_agreement)
    )


def _floors_said(gate: Gate, kept: GraphTrial, fp32: GraphTrial) -> str:
    """Say what a graph does to rankings, each with its floor."""
    said = f" loses {_loss(kept, fp32):.2%}"
    if kept.ndcg_loss is not None:
        said += f" [{kept.ndcg_loss.low:.2%}, {kept.ndcg_loss.high:.2%}]"
    said += f" of NDCG@10 on the windows ({gate.max_quantisation_loss:.2%} is allowed)"
    if kept.top10_overlap is not None and kept.tail_agreement is not None:
        said += (
            f", keeps {kept.top10_overlap:.2%} of the top 10 ({gate.min_top10_overlap:.2%} is asked) and ranks the "
            f"tail with an agreement of {kept.tail_agreement:.4f} ({gate.min_tail_agreement:g} is asked)"
        )
    return said


def _best(within: Sequence[GraphTrial], budget_mib: float) -> GraphTrial:
    """Take the fastest that fits, or the smallest of those which timing cannot tell from it."""
    fitting = [each for each in within if each.size_mib <= budget_mib] or within
    fastest = min(_ms(each) for each in fitting)
    return min((each for each in fitting if WORTH * _ms(each) <= fastest), key=lambda each: each.size_bytes)


def _ms(trial: GraphTrial) -> float:
    assert trial.p50_ms is not None  # all are timed where there are several
    return trial.p50_ms


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
