"""Define what the parts of a configuration are, and what each of them is worth."""

from dataclasses import dataclass
from datetime import datetime

from recsys.records.trials import TrialResult
from recsys.records.values import Configuration, Estimate
from recsys.records.weights import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One part of a configuration, and what changes where it is left out."""

    name: str  # in words that follow "without"
    knob: str  # that it belongs to
    changes: Configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationPlan:
    """What to take apart, and within which limits; the same plan goes on where an earlier call was ended."""

    plan_id: str  # also the study's name
    of: str  # id of the release or candidate
    dataset_id: str
    family: str
    configuration: Configuration
    components: tuple[Component, ...]
    seeds: int  # each variant is trained with so many, from `seed` on
    seed: int
    budget_s: float
    by: str
    as_of: datetime
    weights: Weights | None = None  # from which the whole began; None: it began cold


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablated:
    """What a configuration comes to without one of its components."""

    component: Component
    seeds: int  # with which both it and the whole were measured
    ndcg_at_10: float | None  # on the validation windows, mean over cases and those seeds; None: not measured
    change: Estimate | None  # of NDCG@10 against the whole, paired over users; negative: the component is worth it
    p: float | None  # that chance alone changes as much, with the number of components in mind (Holm)
    significant: bool
    because: str = ""  # why it was not measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Ablation:
    """What each component of a configuration is worth."""

    plan: AblationPlan
    trials: tuple[TrialResult, ...]
    ndcg_at_10: Estimate | None  # of the whole; None: it was not measured
    cases: int
    users: int
    deviation: float | None  # of NDCG@10 over the seeds of one variant; None: with one seed it is unknown
    confidence: float  # of the intervals
    parts: tuple[Ablated, ...]  # in the order of the plan
    seconds: float
    because: str  # one sentence
