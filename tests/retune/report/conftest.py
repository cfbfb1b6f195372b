"""Give tests a line's part of a store in which months have happened, written as the stages write it."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys import channel, ledger
from recsys.receipts import Receipt
from recsys.records import (
    Action,
    Bundle,
    Candidate,
    Check,
    ColumnDrift,
    Comparison,
    Dataset,
    DriftVerdict,
    Estimate,
    FileRef,
    GraphTrial,
    LatencyResult,
    ObjectRef,
    Outcome,
    Plan,
    Ratios,
    Refusal,
    Scorecard,
    Span,
    Study,
    TrialResult,
    Verdict,
    dump,
    load,
)
from recsys.settings import Line, read_line
from recsys.store import Store
from recsys.store.memory import MemoryStore

FIRST = datetime(1998, 1, 10, tzinfo=UTC)
WALL = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
COLUMNS = ("rating", "age", "gender", "occupation", "genre", "item popularity", "history length", "incumbent score")
DISTANCES = {  # beyond 0.1 a column has moved
    "first": (0.02, 0.31, 0.12, 0.44, 0.05, 0.21, 0.09, 0.0),
    "calm": (0.01, 0.06, 0.02, 0.08, 0.03, 0.05, 0.11, 0.02),
    "wild": (0.04, 0.36, 0.15, 0.59, 0.12, 0.33, 0.52, 0.18),
}


class Books:
    """Writes a line's records down, as its stages would."""

    def __init__(self, line: Line, store: Store) -> None:
        self.line = line
        self.store = store
        self._rng = np.random.default_rng(7)
        self._ledger_at = WALL

    @staticmethod
    def when(week: int) -> datetime:
        """The moment of a week's batch."""
        return FIRST + timedelta(weeks=week)

    def arrive(self, as_of: datetime, events: int, *, refused: Sequence[Refusal] = ()) -> None:
        """Commit a batch of one object; each refused object has a receipt of its own."""
        batch_id = _name("batch", as_of)
        self._receipt(f"landing/{as_of:%Y-%m-%d}.jsonl.gz", "committed", batch_id, (), as_of)
        for refusal in refused:
            self._receipt(refusal.source, "refused", "", (refusal,), as_of)
        self.write("committed", {"batch_id": batch_id, "rows_added": events})

    def freeze(self, as_of: datetime, events: int) -> Dataset:
        edges = [as_of - timedelta(days=days) for days in (150, 28, 21, 14, 0)]
        names = ("train", "window-1", "window-2", "holdout")
        shares = (0.8, 0.06, 0.06, 0.08)
        spans = [
            Span(name=n, begins=b, ends=e, events=round(events * s), users=300, items=1100)
            for n, b, e, s in zip(names, edges, edges[1:], shares, strict=False)
        ]
        made = Dataset(
            dataset_id=_name("dataset", as_of),
            table_version=1,
            train=spans[0],
            windows=tuple(spans[1:3]),
            holdout=spans[3],
            n_items=1500,
            n_users=700,
            files={},
            cache_hit=False,
            as_of=as_of,
        )
        self.put(f"datasets/{made.dataset_id}/dataset.json", made)
        self.write("frozen", {"dataset_id": made.dataset_id, "cache_hit": False})
        return made

    def baseline(self, dataset: Dataset) -> str:
        bundle = self.bundle("popularity", dataset, "baseline", (30_000, 12_000))
        self.move(bundle.release_id, "There was nothing in production.")
        return bundle.release_id

    def judge(self, dataset: Dataset, distances: Sequence[float] = ()) -> DriftVerdict:
        columns = tuple(
            ColumnDrift(column=name, method="psi", distance=d, threshold=0.1)
            for name, d in zip(COLUMNS, distances, strict=False)
        )
        moved = [column.column for column in columns if column.drifted]
        made = DriftVerdict(
            dataset_id=dataset.dataset_id,
            release_id=self.now,
            reference_id="reference",
            drifted=len(moved) > 0.3 * len(columns),
            columns=columns,
            because=f"{len(moved)} of {len(columns)} columns moved."
            if columns
            else "The incumbent was made from this.",
            report_key="",
            as_of=dataset.as_of,
        )
        self.put(f"drift/{dataset.dataset_id}/{self.now}/settings/verdict.json", made)
        return made

    def decide(
        self, verdict: DriftVerdict, action: Action, because: str, *, family: str = "markov", by: str = "schedule"
    ) -> Plan:
        made = Plan(
            plan_id=_name("plan", verdict.dataset_id, because),
            action=action,
            because=because,
            dataset_id=verdict.dataset_id,
            release_id=self.now,
            family=family,
            configuration={"decay": 0.5, "steps": 3} if family == "markov" else {"dim": 256, "layers": 4},
            budget_s=60,
            seed=20,
            by=by,
            as_of=verdict.as_of,
        )
        self.put(f"studies/{made.plan_id}/plan.json", made)
        return made

    def search(
        self, plan: Plan, trials: Sequence[TrialResult] | None = None, *, ended: str = "All stages ended."
    ) -> Study:
        found = tuple(self.trials(plan) if trials is None else trials)
        made = Study(
            plan=plan, trials=found, seconds=sum(t.seconds for t in found) / 2, ended=ended, incumbent_misses=()
        )
        self.put(f"studies/{plan.plan_id}/study.json", made)
        return made

    def trials(self, plan: Plan) -> list[TrialResult]:
        """Ten configurations, the four best again, the two best again with two seeds."""
        rng, made = self._rng, []
        for stage, count, level, cost in (("screen", 10, 0.055, 1.5), ("refine", 4, 0.085, 4), ("confirm", 4, 0.1, 9)):
            for i in range(count):
                trial = TrialResult(
                    number=len(made),
                    stage=stage,
                    state="complete",
                    family=plan.family if i == 0 else ("sasrec", "two_tower", "markov")[i % 3],
                    configuration=plan.configuration if i == 0 else {"dim": 16 * (i + 1), "lr": 0.003},
                    seed=20 + i,
                    ndcg_at_10=float(level + rng.normal(0, 0.006)),
                    seconds=float(cost * rng.uniform(0.4, 1.6)),
                )
                if stage == "screen" and i in (4, 7):
                    trial = replace(trial, state="pruned", ndcg_at_10=trial.ndcg_at_10 / 2, reason="below the median")
                if stage == "screen" and i == 5:
                    over = ("p99 is 14.20 ms, over budgets.p99_ms = 8",)
                    trial = replace(trial, ndcg_at_10=None, seconds=0.6, infeasible=over, state="pruned")
                if stage == "refine" and i == 3:
                    trial = replace(trial, state="fail", ndcg_at_10=None, reason="Diverged: the loss of epoch 2 is nan")
                made.append(trial)
        return made

    def choose(self, plan: Plan, family: str) -> Candidate:
        made = Candidate(
            candidate_id=_name("candidate", plan.plan_id),
            plan_id=plan.plan_id,
            dataset_id=plan.dataset_id,
            family=family,
            configuration=self._best(plan) or {"dim": 256, "layers": 4},
            seed=21,
            weights_key="",
            weights_sha256="",
            validation_ndcg_at_10=0.101,
            by=plan.by,
            as_of=plan.as_of,
        )
        self.put(f"studies/{plan.plan_id}/candidate.json", made)
        return made

    def _best(self, plan: Plan) -> Mapping[str, object]:
        study = load(Study, json.loads(self.store.get(f"studies/{plan.plan_id}/study.json").body))
        confirmed = [trial for trial in study.trials if trial.stage == "confirm"]
        return max(confirmed, key=lambda trial: trial.ndcg_at_10).configuration if confirmed else {}

    def package(self, candidate: Candidate, sizes: tuple[int, int] = (1_460_000, 412_000)) -> Bundle:
        return self.bundle(
            candidate.family, candidate, candidate.candidate_id, sizes, configuration=dict(candidate.configuration)
        )

    def bundle(
        self,
        family: str,
        about: Dataset | Candidate,
        candidate_id: str,
        sizes: tuple[int, int],
        configuration: Mapping[str, object] | None = None,
    ) -> Bundle:
        fp32, int8 = sizes
        made = Bundle(
            release_id=f"{family}-{_name(candidate_id, about.dataset_id)}",
            candidate_id=candidate_id,
            dataset_id=about.dataset_id,
            family=family,
            configuration=configuration or {},
            n_items=1500,
            history_length=50,
            serves="model.int8.onnx",
            serves_because="It is the quickest that loses nothing.",
            graphs=(
                GraphTrial(graph="fp32", size_bytes=fp32, ndcg_at_10=0.1, p50_ms=0.4),
                GraphTrial(
                    graph="int8-rows",
                    size_bytes=int8,
                    ndcg_at_10=0.0999,
                    p50_ms=0.3,
                    ndcg_loss=Estimate(value=0.001, low=-0.002, high=0.004),
                    top10_overlap=0.975,
                    tail_agreement=0.9987,
                ),
                GraphTrial(graph="int8", size_bytes=int8, ndcg_at_10=None, p50_ms=None),
            ),
            serves_graph="int8-rows",
            files={
                "model.onnx": FileRef(sha256="0" * 64, size_bytes=fp32),
                "model.int8.onnx": FileRef(sha256="1" * 64, size_bytes=int8),
            },
            largest_error=1e-6,
            by="schedule",
            as_of=about.as_of,
        )
        self.put(f"releases/{made.release_id}/manifest.json", made)
        return made

    def measure(
        self, bundle: Bundle, ndcg: Mapping[str, float], p99_ms: tuple[float, float] = (0.42, 0.71)
    ) -> Comparison:
        """Draw per-case evidence around the NDCG@10 given for candidate, incumbent, popularity and markov."""
        users = np.repeat(np.arange(250), 6)
        taste = self._rng.normal(0, 0.08, 250)[users]  # what is easy for one model is easy for all
        cards = {}
        for role, level in ndcg.items():
            release_id = {"candidate": bundle.release_id, "incumbent": self.now}.get(role, role)
            per_case = np.clip(level + taste + self._rng.normal(0, 0.05, len(users)), 0, 1)
            cards[role] = self._card(bundle, release_id, users, per_case + level - per_case.mean())
        int8, fp32 = p99_ms
        served = (_latency("model.int8.onnx", int8),)
        candidate = replace(cards["candidate"], latency=served, size_bytes=bundle.files["model.int8.onnx"].size_bytes)
        gain = ndcg["candidate"] - ndcg["incumbent"]
        slower = Estimate(value=int8 / 0.2, low=int8 / 0.21, high=int8 / 0.19)
        equal = Estimate(value=1.0, low=0.97, high=1.03)
        made = Comparison(
            candidate=candidate,
            incumbent=replace(cards["incumbent"], latency=(_latency("model.int8.onnx", 0.2),)),
            references={name: cards[name] for name in ("popularity", "markov")},
            ndcg_gain=Estimate(value=gain, low=gain - 0.006, high=gain + 0.006),
            ratios=Ratios(p50=slower, p99=slower),
            control=Ratios(p50=equal, p99=equal),
            other_latency=(_latency("model.onnx", fp32),),
            quantisation_loss=Estimate(value=0.004, low=-0.002, high=0.009),
            by="schedule",
            as_of=bundle.as_of,
        )
        self.put(f"releases/{bundle.release_id}/comparison.json", made)
        return made

    def gate(self, comparison: Comparison, *checks: Check) -> Verdict:
        outcomes = {check.outcome for check in checks}
        outcome = next(o for o in (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.PASS) if o in outcomes)
        made = Verdict(
            candidate=comparison.candidate.release_id,
            incumbent=comparison.incumbent.release_id,
            outcome=outcome,
            checks=checks,
            because=" ".join(check.because for check in checks if check.outcome is outcome),
            by="schedule",
            as_of=comparison.as_of,
        )
        self.put(f"releases/{made.candidate}/verdict.json", made)
        if outcome is Outcome.PASS:
            self.move(made.candidate, made.because)
        return made

    def move(self, release_id: str, reason: str, *, by: str = "schedule", bundle_of: Dataset | None = None) -> None:
        """Let the channel name a release; with `bundle_of`, one that is made up here."""
        if bundle_of is not None:
            release_id = self.bundle("popularity", bundle_of, release_id, (30_000, 12_000)).release_id
        before = channel.current(self.store)
        expect = before.release_id if before else None
        nonce = _name(release_id, expect, reason)
        channel.move(self.store, to=release_id, expect=expect, by=by, reason=reason, nonce=nonce, at=self._tick())

    def ndcg(self, card: Scorecard) -> np.ndarray:
        """Read the evidence of a scorecard, one number for each case."""
        return pq.read_table(pa.BufferReader(self.store.get(card.per_case_key).body))["ndcg"].to_numpy()

    @property
    def now(self) -> str:
        found = channel.current(self.store)
        return found.release_id if found else ""

    def write(self, what: str, evidence: Mapping[str, object]) -> None:
        ledger.append(
            self.store, ledger.Entry(at=self._tick(), what=what, who="schedule", why="it was due", evidence=evidence)
        )

    def put(self, key: str, record: object) -> None:
        self.store.put(key, json.dumps(dump(record)).encode())

    def _receipt(self, key: str, outcome: str, batch_id: str, refused: tuple[Refusal, ...], as_of: datetime) -> None:
        ref = ObjectRef(key=key, etag="etag", size_bytes=1000)
        receipt = Receipt(object=ref, outcome=outcome, batch_id=batch_id, refused=refused, as_of=as_of)
        self.put(f"receipts/{_name(key)}.json", receipt)

    def _card(self, bundle: Bundle, release_id: str, users: np.ndarray, ndcg: np.ndarray) -> Scorecard:
        key = f"releases/{bundle.release_id}/cases/{bundle.dataset_id}-{release_id}.parquet"
        sink = io.BytesIO()
        pq.write_table(pa.table({"user": users, "ndcg": ndcg}), sink)
        self.store.put(key, sink.getvalue())
        mean, half = float(ndcg.mean()), 0.011
        return Scorecard(
            release_id=release_id,
            dataset_id=bundle.dataset_id,
            ndcg_at_10=Estimate(value=mean, low=mean - half, high=mean + half),
            recall_at_10=Estimate(value=2 * mean, low=1.8 * mean, high=2.2 * mean),
            mrr=Estimate(value=mean, low=mean - half, high=mean + half),
            coverage=0.4,
            tail_share=0.2,
            cases=len(users),
            users=250,
            finite_share=1,
            constant_share=0,
            size_bytes=0,
            latency=(),
            arrivals=None,
            memory_mib=0.0,
            cold_start_s=0.0,
            per_case_key=key,
        )

    def _tick(self) -> datetime:
        self._ledger_at += timedelta(seconds=20)
        return self._ledger_at


def _latency(graph: str, p99_ms: float) -> LatencyResult:
    return LatencyResult(
        graph=graph,
        batch_size=1,
        p50_ms=Estimate(value=p99_ms * 0.6, low=p99_ms * 0.58, high=p99_ms * 0.62),
        p95_ms=Estimate(value=p99_ms * 0.9, low=p99_ms * 0.85, high=p99_ms * 0.95),
        p99_ms=Estimate(value=p99_ms, low=p99_ms * 0.93, high=p99_ms * 1.12),
        users_per_s=Estimate(value=1600 / p99_ms, low=1500 / p99_ms, high=1700 / p99_ms),
    )


def _name(*parts: object) -> str:
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:8]


def passed(name: str, because: str) -> Check:
    return Check(name=name, outcome=Outcome.PASS, because=because)


BROKEN = Refusal(
    source="landing/broken-week-19.jsonl.gz",
    kept_at="quarantine/1998-02-07/0b1c/object",
    reasons=("it must be gzip, but Compressed file ended before the end-of-stream marker was reached",),
)


def live_through(line: Line, store: Store) -> Books:
    """Let half a year happen: a baseline, two releases, a calm week with a broken object, one doubt, one too slow."""
    books = Books(line, store)
    ndcg = {"candidate": 0.081, "incumbent": 0.062, "popularity": 0.062, "markov": 0.079}
    small, budget = "The served graph has 0.39 MiB, and the budget is 8 MiB.", "and the budget is 8 ms."

    def turn(week: int, events: int, kind: str | None, refused: Sequence[Refusal] = ()) -> DriftVerdict:
        as_of = books.when(week)
        books.arrive(as_of, events, refused=refused)
        dataset = books.freeze(as_of, 60_000 + events)
        if not books.now:
            books.baseline(dataset)
        return books.judge(dataset, DISTANCES[kind] if kind else ())

    plan = books.decide(
        turn(0, 61_284, None), Action.RETUNE, "The incumbent is popularity, which is not among what is searched."
    )
    books.search(plan)
    measured = books.measure(books.package(books.choose(plan, "markov")), ndcg, (0.11, 0.12))
    quality = passed("quality", "NDCG@10 changes by +0.0190 [+0.0130, +0.0250] from 0.0620.")
    books.gate(measured, quality, passed("p99", f"p99 is 0.11 ms at batch 1, {budget}"), passed("size", small))

    plan = books.decide(turn(2, 7_411, "first"), Action.RETUNE, "The line has drifted: 4 of 8 columns moved.")
    books.search(plan, ended="The budget of 60 s was spent.")
    ndcg = {"candidate": 0.104, "incumbent": 0.083, "popularity": 0.066, "markov": 0.086}
    measured = books.measure(books.package(books.choose(plan, "sasrec")), ndcg)
    books.gate(
        measured, passed("quality", "NDCG@10 changes by +0.0210 [+0.0150, +0.0270] from 0.0830."), passed("size", small)
    )

    books.decide(
        turn(4, 6_902, "calm", [BROKEN]),
        Action.NOTHING,
        "Nothing has drifted, and the incumbent is 14.0 days old, which is not over 28.",
        family="sasrec",
    )

    plan = books.decide(
        turn(8, 12_873, "wild"), Action.RETUNE, "The line has drifted: 7 of 8 columns moved.", family="sasrec"
    )
    books.search(plan)
    ndcg = {"candidate": 0.109, "incumbent": 0.107, "popularity": 0.071, "markov": 0.090}
    measured = books.measure(books.package(books.choose(plan, "sasrec")), ndcg, (0.55, 0.92))
    doubt = "NDCG@10 changes by +0.0020 [-0.0040, +0.0080] from 0.1070, and the interval must lie above +0.0000."
    books.gate(measured, Check(name="quality", outcome=Outcome.INCONCLUSIVE, because=doubt), passed("size", small))

    last = turn(12, 9_044, "first")
    plan = books.decide(last, Action.RETUNE, "The line has drifted: 4 of 8 columns moved.", family="sasrec")
    books.search(plan)
    ndcg = {"candidate": 0.118, "incumbent": 0.103, "popularity": 0.069, "markov": 0.089}
    measured = books.measure(books.package(books.choose(plan, "sasrec")), ndcg, (0.47, 0.80))
    books.gate(
        measured, passed("quality", "NDCG@10 changes by +0.0150 [+0.0090, +0.0210] from 0.1030."), passed("size", small)
    )

    why = "Would a network many times as large be worth its latency?"
    plan = books.decide(last, Action.REFIT, why, family="sasrec", by="operator")
    books.search(plan, [], ended="A refit searches nothing.")
    ndcg = {"candidate": 0.116, "incumbent": 0.118, "popularity": 0.069, "markov": 0.089}
    measured = books.measure(books.package(books.choose(plan, "sasrec"), (21_400_000, 5_900_000)), ndcg, (11.3, 19.6))
    slow = f"p99 is 11.3 [10.5, 12.7] ms at batch 1, {budget}"
    worse = "NDCG@10 changes by -0.0020 [-0.0080, +0.0040] from 0.1180, and the interval must lie above +0.0000."
    books.gate(
        measured,
        Check(name="quality", outcome=Outcome.INCONCLUSIVE, because=worse),
        Check(name="p99", outcome=Outcome.FAIL, because=slow),
    )
    return books


@pytest.fixture(scope="session")
def line() -> Line:
    return read_line(Path(__file__).parents[3] / "lines" / "movielens.toml")


@pytest.fixture
def books(line: Line) -> Books:
    """An empty part of a store, and who writes there."""
    return Books(line, MemoryStore().under(line.name))


@pytest.fixture(scope="session")
def months(line: Line) -> Books:
    """The part of the store of a line to which half a year has happened; to be read only."""
    return live_through(line, MemoryStore().under(line.name))


@pytest.fixture
def lived(line: Line) -> Books:
    """The same, to be written on."""
    return live_through(line, MemoryStore().under(line.name))
