"""Define what a search leaves to those that come later."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from recsys.records.values import Configuration


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialEvidence:
    """What one trial showed, in terms that later searches can use."""

    stage: str
    share: float  # part of the users that it learned from
    epochs: float  # part of the configuration's epochs that it was given
    seed: int
    family: str
    configuration: Configuration
    state: str  # complete, pruned, fail or infeasible
    ndcg_at_10: float | None
    gain: float | None  # over the incumbent's configuration in the same stage, on the same data
    seconds: float
    number: int = -1  # of the trial in its study; -1: of an older version, which did not keep it
    training: str = ""  # as of the trial's result
    reused: str = ""  # as of the trial's result
    curve: Mapping[int, float] = field(default_factory=dict)  # gain over the incumbent's own at the same quarters
    saved_s: float = 0.0  # as of the trial's result
    units: float = 0.0  # as of the trial's result; 0: of an older version, which did not keep it
    evaluation_s: float = 0.0  # as of the trial's result
    constraints_s: float = 0.0  # as of the trial's result
    block: str = ""  # as of the trial's result
    paired: bool = True  # whether the incumbent's had the same seed; where not, gain and curve hold what seeds do, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a line's file said of a family's earlier name, names of parameters and units."""

    family: str = ""  # its name after the edit; empty: the same
    renamed: Mapping[str, str] = field(default_factory=dict)  # as in the file, likewise the others
    scaled: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a search has found, kept for the searches to come."""

    plan_id: str
    dataset_id: str
    as_of: datetime
    family: str  # the incumbent's
    configuration: Configuration
    popularity: Mapping[str, float]  # share of the dataset's interactions, of its most popular items
    trials: tuple[TrialEvidence, ...]
    edits: Mapping[str, Reading] = field(default_factory=dict)  # by the family's name of then: made before the trials
    ended: bool = True  # whether the search was closed; where not, more may come


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What earlier searches had found when a plan was made."""

    ended: tuple[str, ...]  # plans of those that were closed, of which nothing changes any more
    open: tuple[Evidence, ...]  # what the others had found until then
