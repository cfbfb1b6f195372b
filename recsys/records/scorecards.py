"""Define what is measured of a bundle, by itself and beside the incumbent."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from recsys.records.paired import CohortResult, Look, Paired
from recsys.records.values import MIB, Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyResult:
    """Milliseconds in which one graph's bundle answers a whole request, measured side by side with others."""

    graph: str  # a file of the bundle
    batch_size: int
    p50_ms: Estimate
    p99_ms: Estimate


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
    latency: tuple[LatencyResult, ...]  # the served graph first, then the bundle's other one; none for a reference
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
    p99_ratio: Estimate  # candidate over incumbent
    quantisation_loss: (
        Estimate | None
    )  # share of fp32's NDCG@10 that int8 loses, whichever serves; None: there is no int8
    by: str
    as_of: datetime
    paired: Paired | None = None  # NDCG@10 of both by user, of which the gate's test is made
    look: Look | None = None  # that was taken at the holdout
    cohorts: tuple[CohortResult, ...] = ()  # NDCG@10 of both by user, in each group of each of the line's cohorts
