"""Define the files that serve a model."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from recsys.records.values import MIB, Configuration, Estimate
from recsys.records.weights import Begun


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRef:
    """One file of a bundle."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphTrial:
    """What one exported graph of a bundle was worth on the validation windows when it was packaged."""

    graph: str  # fp32, or the pass of `recsys.quantize` that made it
    size_bytes: int
    ndcg_at_10: float | None  # None: its scores are not all finite numbers, so it cannot serve
    p50_ms: float | None  # of scoring the line's batch, side by side with the others; None: not timed
    ndcg_loss: Estimate | None = None  # share of fp32's NDCG@10 that it loses, paired; None: fp32, or as NDCG@10
    top10_overlap: float | None = None  # share of fp32's top 10 that its own holds; None: as the loss
    tail_agreement: float | None = None  # of ranks among the items of the tail, with fp32's; None: as the loss

    @property
    def size_mib(self) -> float:
        """Its size in MiB."""
        return self.size_bytes / MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The files that serve a model; they lie under releases/<release_id>/."""

    release_id: str  # the family and a hash of what the model is and of its files
    candidate_id: str
    dataset_id: str
    family: str
    configuration: Configuration
    n_items: int
    history_length: int
    serves: str  # the graph that is served, one of `files`
    serves_because: str  # one sentence
    graphs: tuple[GraphTrial, ...]  # fp32 first
    files: Mapping[str, FileRef]
    largest_error: float  # between PyTorch and the fp32 graph, relative, on real histories
    by: str
    as_of: datetime
    begun: Begun | None = None  # as of the candidate
    serves_graph: str = ""  # what `graphs` calls the one that is served; empty: an older version packaged it
