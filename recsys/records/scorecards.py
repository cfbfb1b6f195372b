"""Define what is measured of a bundle, by itself and beside the incumbent."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from recsys.records.balance import CalibrationResult, ExposureResult
from recsys.records.paired import CohortResult, Look, Paired
from recsys.records.releases import Check
from recsys.records.values import MIB, Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyResult:
    """Milliseconds in which one graph's bundle answers a whole request, measured side by side with others."""

    graph: str  # a file of the bundle
    batch_size: int
    p50_ms: Estimate
    p95_ms: Estimate
    p99_ms: Estimate
    users_per_s: Estimate  # that one process answers, one request after the other


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """Milliseconds from when a request came by itself until it was answered, the queue included."""

    per_s: float  # requests that came, on average
    batch_size: int
    turns: int  # that they came in
    p50_ms: Estimate
    p95_ms: Estimate
    p99_ms: Estimate
    busy: float  # share of the time in which the process was answering; 1 where it could not keep up


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratios:
    """How many times as long as the incumbent's requests those of another process take."""

    p50: Estimate
    p99: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorecard:
    """What was measured of one bundle on one holdout."""

    release_id: str
    dataset_id: str  # whose holdout
    ndcg_at_10: Estimate
    recall_at_10: Estimate
    mrr: Estimate
    coverage: float  # share of the catalogue in anyone's top 10
    tail_share: float  # share of recommendations outside the dataset's head, the most popular before the holdout
    cases: int
    users: int
    finite_share: float  # share of the cases for which every score was a finite number
    constant_share: float  # share of the cases for which all items scored the same
    size_bytes: int  # of the served graph; 0 for a reference, which is not packaged
    latency: tuple[LatencyResult, ...]  # at each batch size of the line, in their order; none for a reference
    arrivals: Arrived | None  # of requests that come by themselves; None: the line does not say how often they do
    memory_mib: float  # the most that a process which serves it held at once; 0 for a reference
    cold_start_s: float  # from the start of such a process to its first answer; 0 for a reference
    per_case_key: str  # parquet: user, ndcg, hit, reciprocal_rank per case, the evidence behind the estimates

    @property
    def size_mib(self) -> float:
        """Size of the served graph in MiB."""
        return self.size_bytes / MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Candidate and incumbent measured on the same holdout, in the same run, on the same machine."""

    candidate: Scorecard
    incumbent: Scorecard
    references: Mapping[str, Scorecard]  # popularity and Markov on the same holdout, for scale
    ndcg_gain: Estimate  # candidate less incumbent, paired over users
    ratios: Ratios  # candidate over incumbent, at the line's first batch size
    control: Ratios  # the incumbent in another process over the incumbent: what the machine makes of equals
    other_latency: tuple[LatencyResult, ...]  # of the candidate's graph that does not serve, where it has one
    quantisation_loss: Estimate | None  # share of fp32's NDCG@10 that int8 loses, whichever serves; None: no int8
    by: str
    as_of: datetime
    paired: Paired | None = None  # NDCG@10 of both by user, of which the gate's test is made
    look: Look | None = None  # that was taken at the holdout
    cohorts: tuple[CohortResult, ...] = ()  # NDCG@10 of both by user, in each group of each of the line's cohorts
    sanity: tuple[Check, ...] = ()  # of the candidate's bundle, before anything was measured; all passed
    exposure: tuple[ExposureResult, ...] = ()  # what both show to whom
    calibration: CalibrationResult | None = None  # how far their probabilities are right; None: not measured
    seconds: float | None = None  # that measuring took; None: an older version made it
