"""Measure a bundle and the incumbent on the same locked holdout, in the same run."""

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recsys import calibration, channel, exposure, ledger, looks, measured, parquet, sanity
from recsys import dataset as datasets
from recsys.bundles import FP32, INT8, key, read_bundle
from recsys.calibration import Normalising, Predictions
from recsys.cohorts import Holdout, pair_cohorts
from recsys.errors import BadBundle, BadObject, NoRelease, NotFound, Unsound
from recsys.holdout import contexts, load_holdout
from recsys.latency import CANDIDATE, INCUMBENT, Served, SideBySide, time_side_by_side
from recsys.metrics import Evaluation, Scorer, TailShare, evaluate, interval
from recsys.models import FAMILIES
from recsys.ranker import LOWEST, Ranker, Translated
from recsys.records import (
    Arrived,
    Bundle,
    CalibrationResult,
    Check,
    Comparison,
    Dataset,
    Estimate,
    LatencyResult,
    Outcome,
    Scorecard,
    Verdict,
    parse,
    to_json,
)
from recsys.references import references
from recsys.sequences import Cases
from recsys.settings import Line
from recsys.significance import pair
from recsys.split import microseconds
from recsys.store import Store

log = logging.getLogger(__name__)

COMPARISON = "comparison.json"
TIMED = 1000  # real histories that requests are made of
OTHER = "candidate's other graph"
_MEASURES = 5  # counts the ways in which comparisons have been made; one of an earlier way is made again
SEED = 0  # of the bootstraps and of the order of the blocks


def measure(line: Line, store: Store, bundle: Bundle, *, by: str) -> Comparison:
    """Compare a bundle with the incumbent: quality on the holdout of the bundle's dataset, and latency side by side.

    Every ranking is that of the graph which serves. The incumbent answers in its own vocabulary, item by item of the
    same name: what it does not know it cannot recommend, as in production. Latency is that of whole requests to fresh
    processes that serve the two, from a user's items to the ten that are recommended.

    To measure the same bundle against the same incumbent by the same settings again gives the comparison that was kept:
    the holdout is not read again, and no draw of latencies can be repeated until it is a lucky one.

    Args:
        line: Whose budgets and confidence the measurement follows.
        store: The line's part of the store.
        bundle: The candidate's.
        by: Who asks; a person, or `schedule`. The ledger names them as the reader of the holdout.

    Returns:
        The comparison, which then also lies beside the bundle, with the per-case evidence.

    Raises:
        NoRelease: The channel names no incumbent.
        Unsound: The bundle is not sound, which `recsys.sanity` says before the holdout is read.
        BadBundle: The bytes of the incumbent's bundle are not those of its manifest.
        NoFeedback: The bundle's dataset is gone.
        NotServed: A process that serves either of them did not come up, or died.
        BadObject: The comparison that was kept cannot be read, or is not the one of which the ledger was told.
    """
    incumbent = channel.current(store)
    if incumbent is None:
        raise NoRelease(f"There must be an incumbent to measure {bundle.release_id} against, but nothing is released.")
    name = f"{incumbent.release_id}-{_settings(line)}"
    kept_at = key(bundle.release_id, f"comparisons/{name}.json")
    if (kept := measured.find(store, bundle.release_id, name)) is not None:
        if _newest(store, bundle.release_id) != kept:
            _announce(store, kept, name)
        return kept
    began = time.perf_counter()
    dataset = datasets.dataset(store, bundle.dataset_id)
    frozen = datasets.load(store, dataset)
    threads = line.budgets.threads
    inspected = sanity.inspect(store, bundle.release_id, frozen, threads=threads)
    if not inspected.sound:
        raise Unsound(_unsound(bundle, incumbent.release_id, inspected.checks, by))
    served = _served(store, bundle.release_id, incumbent.release_id, threads=threads)
    rankers = {role: Ranker.of(one.bundle, one.files, graph=one.graph, threads=threads) for role, one in served.items()}
    translated = {
        role: Translated.into(ranker, frozen.vocabulary, at_once=_at_once(line, ranker))
        for role, ranker in rankers.items()
    }
    fitted = references(frozen)  # before the holdout is read, so that it cannot be otherwise

    look = looks.take(
        store,
        dataset_id=dataset.dataset_id,
        candidate=bundle.release_id,
        incumbent=incumbent.release_id,
        who=by,
        budget=line.gate.error_budget,
        looks_a_year=line.looks_a_year,
    )
    cases = load_holdout(store, dataset, by=by, why=f"to measure {bundle.release_id} against {incumbent.release_id}")
    normalising = {role: Normalising(translated[role]) for role in (CANDIDATE, INCUMBENT)}
    scorers: dict[str, Scorer] = {**translated, **normalising, **fitted}
    seen = {role: Seen.by(scorer, cases) for role, scorer in scorers.items()}
    timed = time_side_by_side(
        served,
        _histories(cases.spread(TIMED), frozen.vocabulary),
        budgets=line.budgets,
        gate=line.gate,
        seconds=line.gate.latency_s,
        seed=SEED,
    )

    card = _Cards(
        line=line,
        store=store,
        bundle=bundle,
        dataset=dataset,
        tail_share=TailShare(frozen.head),
        rankers=rankers,
        timed=timed,
    )
    reached = seen[CANDIDATE].evaluation, seen[INCUMBENT].evaluation
    begins, known = microseconds(dataset.holdout.begins), contexts(store, dataset)
    comparison = Comparison(
        candidate=card.served(CANDIDATE, seen[CANDIDATE]),
        incumbent=card.served(INCUMBENT, seen[INCUMBENT]),
        references={name: card.reference(name, seen[name]) for name in fitted},
        ndcg_gain=_paired(*reached, line.gate.confidence),
        ratios=timed.ratios,
        control=timed.control,
        other_latency=timed.results(OTHER) if OTHER in served else (),
        quantisation_loss=_loss(bundle, seen, line.gate.confidence),
        by=by,
        as_of=bundle.as_of,
        paired=pair(reached[0].ndcg, reached[1].ndcg, cases.users),
        look=look,
        cohorts=pair_cohorts(
            line.gate.cohorts,
            Holdout(cases=cases, frozen=frozen, begins=begins, contexts=known),
            reached[0].ndcg,
            reached[1].ndcg,
            {name: column.values for name, column in line.feedback.columns.items()},
        ),
        sanity=inspected.checks,
        exposure=exposure.compare(*reached, frozen),
        calibration=_calibrated(normalising, rankers, seen, line.gate.confidence),
        seconds=time.perf_counter() - began,
    )
    store.put(kept_at, to_json(comparison))
    _announce(store, comparison, name)
    return comparison


def comparison(store: Store, release_id: str) -> Comparison:
    """Give the comparison of a bundle with the incumbent that it was last measured against.

    Raises:
        NoRelease: The bundle has not been measured.
        BadObject: The comparison cannot be read, or is none of those of which the ledger was told.
    """
    found = _read(store, key(release_id, COMPARISON))
    if found is None:
        raise NoRelease(f"{release_id!r} must have been measured, but there is no comparison of it.")
    measured.require(store, found)
    return found


@dataclass(frozen=True, slots=True)
class Seen:
    """What one model did on the cases, and whether its scores were numbers that tell items apart."""

    evaluation: Evaluation
    finite_share: float
    constant_share: float

    @classmethod
    def by(cls, scorer: Scorer, cases: Cases) -> "Seen":
        """Evaluate `scorer`; a score that is no number counts as the lowest, and its case as not finite."""
        watched = _Watched(scorer)
        evaluation = evaluate(watched, cases)
        n = max(len(cases), 1)
        return cls(evaluation, finite_share=1 - watched.not_finite / n, constant_share=watched.constant / n)


class _Watched:
    """Passes scores on and counts the rows that no ranking can be made of."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.not_finite = 0
        self.constant = 0

    @property
    def history_length(self) -> int:
        return self._scorer.history_length

    def __call__(self, history: NDArray[np.int64]) -> NDArray[np.float32]:
        scores = self._scorer(history)
        known = scores[:, 1:]
        finite = np.isfinite(known)
        self.not_finite += int((~finite.all(1)).sum())
        told_apart = np.where(known == LOWEST, np.nan, known)  # items that the model does not know say nothing
        self.constant += int((np.fmax.reduce(told_apart, axis=1) == np.fmin.reduce(told_apart, axis=1)).sum())
        if not finite.all():
            scores = np.where(np.isfinite(scores), scores, np.float32(LOWEST))
        return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cards:
    """Writes what was seen down as scorecards, and the evidence beside the candidate's bundle."""

    line: Line
    store: Store
    bundle: Bundle
    dataset: Dataset
    tail_share: TailShare
    rankers: Mapping[str, Ranker]
    timed: SideBySide

    def served(self, role: str, seen: Seen) -> Scorecard:
        ranker = self.rankers[role]
        return self._card(
            role,
            seen,
            release_id=ranker.bundle.release_id,
            size_bytes=ranker.bundle.files[ranker.graph].size_bytes,
            latency=self.timed.results(role),
            arrivals=self.timed.arrived(role),
            memory_mib=self.timed.memory_mib[role],
            cold_start_s=self.timed.cold_start_s[role],
        )

    def reference(self, name: str, seen: Seen) -> Scorecard:
        return self._card(name, seen, release_id=name)

    def _card(
        self,
        role: str,
        seen: Seen,
        *,
        release_id: str,
        size_bytes: int = 0,
        latency: tuple[LatencyResult, ...] = (),
        arrivals: Arrived | None = None,
        memory_mib: float = 0.0,
        cold_start_s: float = 0.0,
    ) -> Scorecard:
        found, confidence = seen.evaluation, self.line.gate.confidence
        per_case_key = key(self.bundle.release_id, f"cases/{self.dataset.dataset_id}-{release_id}.parquet")
        self.store.put(per_case_key, parquet.pack(_per_case(found)))
        return Scorecard(
            release_id=release_id,
            dataset_id=self.dataset.dataset_id,
            ndcg_at_10=_mean(found.ndcg, found.users, confidence),
            recall_at_10=_mean(found.hit, found.users, confidence),
            mrr=_mean(found.reciprocal_rank, found.users, confidence),
            coverage=found.coverage,
            tail_share=self.tail_share.of(found.recommended),
            cases=len(found.users),
            users=len(np.unique(found.users)),
            finite_share=seen.finite_share,
            constant_share=seen.constant_share,
            size_bytes=size_bytes,
            latency=latency,
            arrivals=arrivals,
            memory_mib=memory_mib,
            cold_start_s=cold_start_s,
            per_case_key=per_case_key,
        )


def _histories(cases: Cases, vocabulary: Sequence[str]) -> list[list[str]]:
    """Give all that the users had before each case, by name, as a service would send it."""
    rows, items = cases.seen(np.arange(len(cases)))
    each = np.split(items, np.searchsorted(rows, np.arange(1, len(cases))))
    return [[vocabulary[item - 1] for item in history.tolist() if item] for history in each]


def _served(store: Store, candidate: str, incumbent: str, *, threads: int) -> dict[str, Served]:
    """Read what is compared: both bundles with the graph that serves, and the candidate's other one if it has one."""
    bundle, files = read_bundle(store, candidate)
    own, own_files = _incumbent(store, incumbent)
    graphs = {CANDIDATE: bundle.serves}
    if INT8 in files:
        graphs[OTHER] = FP32 if bundle.serves == INT8 else INT8
    served = {role: Served(bundle=bundle, files=files, graph=graph, threads=threads) for role, graph in graphs.items()}
    return {**served, INCUMBENT: Served(bundle=own, files=own_files, graph=own.serves, threads=threads)}


def _at_once(line: Line, ranker: Ranker) -> int | None:
    """Give how many histories a graph scores at once, where that changes its scores."""
    return line.budgets.batch_size if ranker.graph == INT8 else None


def _incumbent(store: Store, release_id: str) -> tuple[Bundle, dict[str, bytes]]:
    try:
        return read_bundle(store, release_id)
    except BadBundle as error:
        raise BadBundle(
            f"The incumbent has lost what it was: {error} Nothing can be measured against it. `retune promote --plan "
            "PLAN` with the plan that it came from packages it again and puts its files back, or `retune rollback` "
            f"takes production to another release; a baseline's files come back from a copy of {store.url}/releases/"
            f"{release_id}/.",
            file=error.file,
        ) from error


def _paired(one: Evaluation, other: Evaluation, confidence: float) -> Estimate:
    """Give the difference of the two NDCG@10, the same users drawn for both."""
    return _mean(one.ndcg - other.ndcg, one.users, confidence)


def _loss(bundle: Bundle, seen: Mapping[str, Seen], confidence: float) -> Estimate | None:
    """Give the share of fp32's NDCG@10 that int8 loses."""
    if OTHER not in seen:
        return None
    fp32, int8 = (OTHER, CANDIDATE) if bundle.serves == INT8 else (CANDIDATE, OTHER)
    lost = _paired(seen[fp32].evaluation, seen[int8].evaluation, confidence)
    whole = float(seen[fp32].evaluation.ndcg.mean()) or 1.0
    return Estimate(value=lost.value / whole, low=lost.low / whole, high=lost.high / whole)


def _mean(per_case: NDArray[np.float64], users: NDArray[np.int64], confidence: float) -> Estimate:
    low, high = interval(per_case, users, seed=SEED, level=confidence)
    return Estimate(value=float(per_case.mean()), low=low, high=high)


def _calibrated(
    normalising: Mapping[str, Normalising], rankers: Mapping[str, Ranker], seen: Mapping[str, Seen], confidence: float
) -> CalibrationResult:
    """Measure how far the probabilities of candidate and incumbent are right, where their scores are any."""

    def predictions(role: str) -> tuple[str, Predictions | str]:
        bundle, found = rankers[role].bundle, seen[role].evaluation
        family = FAMILIES.get(bundle.family)
        if family is None or not family.log_probabilities:
            return bundle.release_id, f"scores of {bundle.family} are no probabilities"
        return bundle.release_id, Predictions.of(normalising[role].probabilities(found), found)

    return calibration.measure(predictions(CANDIDATE), predictions(INCUMBENT), level=confidence, seed=SEED)


def _unsound(bundle: Bundle, incumbent: str, checks: tuple[Check, ...], by: str) -> Verdict:
    """Judge a bundle that is not worth measuring."""
    failed = [check for check in checks if check.outcome is Outcome.FAIL]
    names = " and ".join(check.name for check in failed)
    reasons = " ".join(check.because for check in failed)
    return Verdict(
        candidate=bundle.release_id,
        incumbent=incumbent,
        outcome=Outcome.FAIL,
        checks=checks,
        because=f"{bundle.release_id} fails {names}, so it was not measured and {incumbent} stays: {reasons}",
        by=by,
        as_of=bundle.as_of,
    )


def _per_case(found: Evaluation) -> pa.Table:
    return pa.table(
        {
            "user": found.users,
            "rank": found.ranks,
            "ndcg": found.ndcg,
            "hit": found.hit,
            "reciprocal_rank": found.reciprocal_rank,
        }
    )


def _settings(line: Line) -> str:
    """Hash what of the line decides about a comparison; what only judges one, such as a limit, does not."""
    asked = {"confidence", "latency_margin", "latency_confidence", "latency_s"}
    included = {"budgets": {"batch_sizes", "arrivals_per_s", "threads"}, "gate": asked}
    settings = line.model_dump(mode="json", include=included)
    settings["measures"] = _MEASURES
    settings["cohorts"] = {
        name: cohort.model_dump(mode="json", include={"by", "column", "bounds"})
        for name, cohort in line.gate.cohorts.items()
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _read(store: Store, at: str) -> Comparison | None:
    try:
        return parse(Comparison, at, store.get(at).body)
    except NotFound:
        return None


def _newest(store: Store, release_id: str) -> Comparison | None:
    try:
        return _read(store, key(release_id, COMPARISON))
    except BadObject:
        return None  # a copy, which is made again


def _announce(store: Store, made: Comparison, name: str) -> None:
    """Write a comparison into the ledger, once, and make it the bundle's newest."""
    candidate, incumbent, gain = made.candidate, made.incumbent, made.ndcg_gain
    why = (
        f"{candidate.release_id} reaches NDCG@10 {candidate.ndcg_at_10.value:.4f} on {candidate.cases} cases of "
        f"{candidate.users} users, {incumbent.release_id} {incumbent.ndcg_at_10.value:.4f}: gain {gain.value:+.4f} "
        f"[{gain.low:+.4f}, {gain.high:+.4f}]."
    )
    ledger.append(
        store,
        ledger.Entry(
            what="measured",
            who=made.by,
            why=why,
            evidence=measured.evidence(made),
            id=measured.entry_id(candidate.release_id, name),
        ),
    )
    store.put(key(candidate.release_id, COMPARISON), to_json(made))
    log.info("%s", why)
