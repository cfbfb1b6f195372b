"""Define how what a release gained is divided among what changed."""

from dataclasses import dataclass
from datetime import datetime

from recsys.records.values import Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class KnobShare:
    """What one knob contributes to the difference between two configurations."""

    knob: str  # of the later one; "family" where that changed
    was: int | float | str | bool
    now: int | float | str | bool
    change: Estimate | None  # of NDCG@10; None: no search varies it, so nothing can be said


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """The difference between a release and the one that it was measured against, divided among what changed."""

    release_id: str
    predecessor: str
    shares: tuple[KnobShare, ...]  # the largest first, those that nothing can be said of last
    predicted: Estimate | None  # difference of NDCG@10, which the shares sum to; None: too little has been tried
    measured: Estimate  # the same at the gate, on the holdout
    confidence: float  # of the predicted intervals
    orders: int  # in which changes were made one after the other; 0: all of them, exactly
    studies: tuple[str, ...]  # whose trials tell, by plan, oldest first
    trials: int
    by: str
    as_of: datetime
    because: str  # one sentence
