"""Define what can be done about a drift verdict, and what was decided."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from recsys.records.values import Configuration, Estimate
from recsys.records.weights import Weights


class Action(StrEnum):
    """What a line does about a drift verdict."""

    NOTHING = "nothing"
    REFIT = "refit"  # train a given configuration again on the new data
    SENTINELS = "sentinels"  # try it beside a few others that earlier searches found good, and train the best
    RETUNE = "retune"  # search for a better one

    @property
    def searches(self) -> bool:
        """Whether it opens a study."""
        return self in (Action.SENTINELS, Action.RETUNE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """What a search gives the trials of one stage, where earlier searches tell something of it."""

    stage: str
    share: float  # of the training users
    epochs: float  # of a configuration's own
    because: str  # one sentence with the numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One thing that could be done about a verdict, and what it is expected to be worth."""

    action: Action
    gain: Estimate  # expected gain of NDCG@10 over doing nothing, as a share of it, with a 90 % interval
    seconds: float  # expected seconds of training
    score: float  # seconds that the gain is worth by the line, less those that it takes
    barred: str = ""  # the rule by which the loop may not choose it by itself; empty: it may


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentinel:
    """A configuration that a short search tries beside the incumbent's."""

    family: str
    configuration: Configuration
    because: str  # one phrase


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do about a verdict, and within which limits."""

    plan_id: str  # also the study's name
    action: Action
    because: str
    dataset_id: str
    release_id: str  # the incumbent
    family: str  # the incumbent's, or the one to refit
    configuration: Configuration  # the first trial of a retune; the only one of a refit
    budget_s: float
    seed: int
    by: str  # a person, or schedule
    as_of: datetime
    past: tuple[str, ...] = ()  # a sentence for each earlier search: what of it was carried over, changed and dropped
    rungs: tuple[Rung, ...] = ()  # what takes the place of the line's own shares and epochs
    options: tuple[Option, ...] = ()  # all that could be done, this action among them
    sentinels: tuple[Sentinel, ...] = ()  # of a short search: what it tries beside the incumbent's configuration
    ordered: bool = False  # whether a person chose the action
    weights: Weights | None = None  # of the incumbent, from which trials may begin; None: all begin cold
    refit_weights: Weights | None = None  # from which the last training may, which learns up to the holdout
    cold_because: str = ""  # why trials may not begin from the incumbent's weights
    control: Configuration = field(default_factory=dict)  # the incumbent's, trained cold beside it; empty: it is cold
    brief: Configuration = field(default_factory=dict)  # the incumbent's, for few epochs from its weights; empty: none
