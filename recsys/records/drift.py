"""Define what is said of drift."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDrift:
    """How far one column has moved from the reference."""

    column: str
    method: str  # psi, jensenshannon, wasserstein
    distance: float
    threshold: float

    @property
    def drifted(self) -> bool:
        """Whether the distance is beyond the threshold."""
        return self.distance > self.threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftVerdict:
    """Whether the newest window still looks like what the incumbent was made from."""

    dataset_id: str
    release_id: str  # the incumbent
    reference_id: str  # the dataset that the incumbent was made from
    drifted: bool
    columns: tuple[ColumnDrift, ...]
    because: str  # one sentence
    report_key: str  # HTML
    as_of: datetime
