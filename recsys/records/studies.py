"""Define what a whole search did, and the candidate that came of it."""

from dataclasses import dataclass
from datetime import datetime

from recsys.records.plans import Plan
from recsys.records.trials import TrialResult
from recsys.records.values import Configuration, Estimate
from recsys.records.weights import Begun


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far one rung of a search ranked configurations as a higher one did, over this search and earlier ones."""

    lower: str  # the stages
    upper: str
    configurations: int  # that have ended on both
    tau: Estimate | None  # Kendall's tau-b; None: too few to tell
    because: str  # the numbers in words


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """Seconds of a search's trials that went into one thing."""

    cause: str  # useful, pruned, failed, infeasible, unsound, duplicate, lost, after the plateau, overhead
    trials: int
    seconds: float
    saved_s: float = 0.0  # of duplicates: what their results had taken elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class StageGain:
    """What one stage of a search found, and for how much."""

    stage: str  # or all, for the whole search: the gain of its last stage for the seconds of all
    trials: int  # that began and ended
    seconds: float  # of all of them, side by side or not
    gain: float | None  # best NDCG@10 less the incumbent's in the same stage; None: either has no value
    gain_per_hour: float | None  # the same for each hour of `seconds`; None also: hardly a second found anything new


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What it was worth to begin the incumbent's configuration from its weights instead of cold."""

    stage: str
    pairs: int  # of a seed and a validation window in which both were measured
    ndcg_gain: Estimate  # from the weights, less cold; of a single pair the interval is all that can be
    seconds: float | None  # of the trials from the weights; None: results were taken over, so nobody knows
    cold_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What a search did."""

    plan: Plan
    trials: tuple[TrialResult, ...]
    seconds: float  # in which at least one trial ran, however often it was opened
    ended: str  # why the search ended
    incumbent_misses: tuple[str, ...]  # the line's own budgets that the incumbent's configuration misses
    agreements: tuple[Agreement, ...] = ()  # of every two rungs that differ
    reserved_s: float = 0.0  # seconds that were set aside when it was opened
    spending: tuple[Spending, ...] = ()  # what the seconds of all trials went into; they add up
    stages: tuple[StageGain, ...] = ()  # what each stage found for its seconds
    transfer: Transfer | None = None  # None: nothing began from weights beside an equal that began cold


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The configuration and weights that a study chose, before the gate."""

    candidate_id: str
    plan_id: str
    dataset_id: str
    family: str
    configuration: Configuration
    seed: int
    weights_key: str  # safetensors
    weights_sha256: str
    validation_ndcg_at_10: float | None
    by: str
    as_of: datetime
    begun: Begun | None = None  # None: it was trained cold
    early_key: str = (
        ""  # safetensors that know nothing of the validation windows, for later searches; "": there are none
    )
    early_sha256: str = ""
