"""Define what all searches of a line say of what it searches."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from recsys.records.values import Estimate, Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """How much of what tells configurations of a family apart one parameter explains, where there is enough to tell."""

    parameter: str
    share: Estimate | None  # of the variance over the space, with all its interactions
    alone: float | None  # by itself
    p: float | None  # how often chance looks like as much
    above_chance: bool  # with the other parameters in mind: of what is called so, a twentieth is expected to be wrong
    best: int | float | str | bool | None  # where it is expected to be best by itself
    because: str = ""  # why there is not enough to tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Interaction:
    """How much of it two parameters explain only together."""

    parameters: tuple[str, str]
    share: Estimate
    p: float
    above_chance: bool  # with the other pairs in mind


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the trials of one family say of its parameters."""

    family: str
    studies: tuple[str, ...]  # whose trials, by plan, oldest first
    trials: int  # that ended with a value, or were pruned with one
    left_out: int  # others that lie outside what is searched today
    importances: tuple[Importance, ...]
    interactions: tuple[Interaction, ...]
    because: str = ""  # why there is not enough to tell of any parameter


@dataclass(frozen=True, slots=True, kw_only=True)
class PairEffect:
    """What two parameters do only together, as a block of trials tells it."""

    parameters: tuple[str, str]
    effect: Estimate  # of NDCG@10: half of how much one's effect differs between the levels of the other
    p: float  # how often seeds alone do as much
    above_noise: bool  # with the other pairs of the block in mind


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What the block of one search tells of pairs of parameters."""

    plan_id: str
    family: str
    levels: Mapping[str, Limits]  # the two values of each parameter
    runs: int  # complete ones
    repeats: int  # seeds with which the incumbent was tried at the same share and epochs
    deviation: float | None  # of NDCG@10 over them
    effects: tuple[PairEffect, ...]  # the largest first; none where too little ended
    because: str  # one sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """An end of a range at which the best trials lie, or a choice at which they never do."""

    family: str
    parameter: str
    kind: str  # low, high or never
    value: int | float | str | bool
    best: int  # how many of the best trials lie there
    of: int  # best trials
    by_chance: float  # how many would without a reason
    p: float  # how often chance looks like as much
    because: str  # one sentence, with what can be done about it


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One value of a line's file, as the proposal found it and as it should be."""

    key: tuple[str, ...]  # tables first
    was: Limits | int | float | str | bool | None  # None: not written
    now: Limits | int | float | str | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A change of what a line searches, for a person to apply."""

    name: str  # family.parameter, or the key of the line
    kind: str  # widen, drop, fix or tell apart
    because: str  # one sentence with the numbers
    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What all searches of a line up to one say of what it searches."""

    plan_id: str  # of the newest search
    line: str
    as_of: datetime
    studies: tuple[Findings, ...]  # each study and family by itself, oldest first
    over_studies: tuple[Findings, ...]  # each family over the newest studies, every trial counting once
    edges: tuple[Edge, ...]
    proposals: tuple[Proposal, ...]
    because: str  # one sentence
    blocks: tuple[Block, ...] = ()  # of the searches that had one, oldest first
