"""Define what stages hand to each other: frozen records that are JSON in the store and between tasks.

Each record says what a stage decided or made and where in the line's part of the store the heavy things lie.
`dump` and `load`, and for what lies in the store `to_json` and `parse`, are the only ways in and out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from recsys.errors import BadObject

Configuration = Mapping[str, int | float | str | bool]
"""A family's parameters by name, training parameters included."""

MIB = 2**20  # bytes

Record = TypeVar("Record")


def dump(record: object) -> dict[str, Any]:
    """Turn `record` into JSON's types."""
    data: dict[str, Any] = _adapter(type(record)).dump_python(record, mode="json")
    return data


def load(kind: type[Record], data: Mapping[str, Any]) -> Record:
    """Build a record of `kind` again from what `dump` gave.

    Raises:
        pydantic.ValidationError: A field is missing or of the wrong type. Unknown fields, a newer writer's, are passed
            over.

    >>> load(ObjectRef, dump(ObjectRef(key="landing/a.jsonl", etag="e", size_bytes=3)))
    ObjectRef(key='landing/a.jsonl', etag='e', size_bytes=3)
    """
    found: Record = _adapter(kind).validate_python(dict(data))
    return found


def to_json(record: object) -> bytes:
    """Write `record` as the JSON that `parse` reads, a line for each field, so that people can read it too."""
    return json.dumps(dump(record), indent=1).encode()


def parse(kind: type[Record], key: str, body: bytes) -> Record:
    """Build a record of `kind` from the JSON that lies under `key`.

    Raises:
        BadObject: It is not such a record; the message names the key, and each field with its rule and what was found.

    >>> parse(FileRef, "a.json", b'{"sha256": "5e"}')
    Traceback (most recent call last):
    recsys.errors.BadObject: a.json must hold a record of kind FileRef, but does not: size_bytes: Field required.
    """
    try:
        found: Record = _adapter(kind).validate_json(body)
    except ValidationError as error:
        reason = "; ".join(_explain(one) for one in error.errors(include_url=False))
        message = f"{key} must hold a record of kind {kind.__name__}, but does not: {reason}."
        raise BadObject(message, key=key, reason=reason) from error
    return found


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def _adapter(kind: type) -> TypeAdapter[Any]:
    """Make the adapter of a kind once, as that takes longer than reading a record with it."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def _explain(error: Mapping[str, Any]) -> str:
    """Say field, rule and finding of one of pydantic's errors."""
    field = "".join(f"{part}: " for part in (".".join(str(part) for part in error["loc"]),) if part)
    found = "" if error["type"] in ("missing", "json_invalid") else f", but is {error['input']!r:.80}"
    return f"{field}{error['msg']}{found}"


class Outcome(StrEnum):
    """What a check of the gate found; only PASS lets a candidate through."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


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
class Estimate:
    """A number with its confidence interval."""

    value: float
    low: float
    high: float


# --- feedback


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRef:
    """One version of one object under `landing/`."""

    key: str
    etag: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Something that was put into quarantine, and why."""

    source: str  # key of the landed object, or the batch for refused rows
    kept_at: str  # key under quarantine/ where the refused bytes or rows lie
    reasons: tuple[str, ...]
    rows: int = 0  # rows refused; 0 where not even rows could be read
    brought_by: str = ""  # of rows: the landed objects that they came from, some by key and the others counted

    @property
    def landed(self) -> str:
        """What people know the refused thing by: the landed object, or the objects of the rows."""
        return self.brought_by or self.source


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """New events, read but not yet believed."""

    batch_id: str  # hash of the objects' keys and ETags, so the same objects are the same batch
    objects: tuple[ObjectRef, ...]  # the readable ones
    refused: tuple[Refusal, ...]  # the unreadable ones
    events_key: str  # parquet of the events under staging/
    rows: int
    as_of: datetime  # the moment the batch was asked for; freshness counts from it


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One expectation that did not hold."""

    expectation: str
    column: str | None
    severity: str  # critical or warning
    observed: str
    rows: int  # rows that broke it; 0 where it speaks of the whole batch


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedBatch:
    """A batch that may be committed, less the rows that broke a critical expectation."""

    batch: Batch
    accepted_key: str  # parquet under staging/
    accepted_rows: int
    refused: tuple[Refusal, ...]  # what pull and check put into quarantine
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableVersion:
    """A version of the feedback table and what the commit that made it added."""

    version: int
    batch_id: str
    rows_added: int
    rows: int  # in the whole table
    refused: tuple[Refusal, ...]
    as_of: datetime


# --- dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A half-open interval of event time with what lies in it."""

    name: str  # train, window-1, …, holdout
    begins: datetime
    ends: datetime
    events: int
    users: int
    items: int  # known to the vocabulary or not


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A frozen, content-addressed snapshot of validated feedback."""

    dataset_id: str
    table_version: int
    train: Span
    windows: tuple[Span, ...]  # validation, oldest first; together they directly precede the holdout
    holdout: Span
    n_items: int
    n_users: int
    files: Mapping[str, str]  # name below datasets/<id>/ to SHA-256
    cache_hit: bool  # whether the same content had been frozen before
    as_of: datetime


# --- drift and the decision about it


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
class Weights:
    """A checkpoint of a release, from which trainings may begin."""

    release_id: str
    file: str  # of its bundle
    sha256: str
    learned_before: datetime  # nothing that happened then or later has been learned


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """How much of a network was taken over from another one's weights."""

    parameters: float  # share of the numbers that are learned
    items: float  # share of the items whose rows were found
    interactions: float  # share of the interactions with known items that are with these


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What a training began from."""

    weights: Weights
    covered: Covered


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


# --- search


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What a trial used of the machine that it ran on."""

    cpu_s: float  # of all threads of its process
    waited_s: float  # from when it was listed until a worker began it
    rss_growth_mib: float  # how far its process grew at most beyond where it stood
    gpu_s: float | None = None  # in which it held the GPU, training and evaluating; None: there was none
    gpu_peak_mib: float | None = None  # memory of the GPU at most


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """One trial that ended, however it ended."""

    number: int
    stage: str
    state: str  # complete, pruned, fail
    family: str
    configuration: Configuration
    seed: int
    ndcg_at_10: float | None
    seconds: float
    infeasible: tuple[str, ...] = ()  # the line's budgets that it would miss, or what is unsound, with the numbers
    reason: str = ""  # why it was pruned or failed
    unfinished: bool = False  # its worker or its time was lost, which says nothing of its configuration
    training: str = ""  # names what was trained, on which data and by which code; trials of one name end alike
    reused: str = ""  # the earlier trial whose result this one was given, instead of being trained once more
    curve: Mapping[int, float] = field(default_factory=dict)  # NDCG@10 after each quarter of its training, if measured
    saved_s: float = 0.0  # what training and judging that one had taken
    units: float = 0.0  # share of the users times epochs trained here
    evaluation_s: float = 0.0  # of the seconds, those in which nothing was trained
    constraints_s: float = 0.0  # of these, those in which what serving costs was measured; 0: it was known
    use: Use | None = None  # None: its worker was lost, or of an older version
    block: str = ""  # run or repeat: it is of the block that tells interactions apart
    windows: tuple[float, ...] = ()  # NDCG@10 in each validation window, oldest first
    covered: Covered | None = None  # how much of it was taken over from the incumbent; None: it began cold

    @property
    def over_budget(self) -> bool:
        """Whether it was not trained, because serving it would cost too much."""
        return bool(self.infeasible) and not self.training

    @property
    def unsound(self) -> bool:
        """Whether it was trained, and what it learned is unsound."""
        return bool(self.infeasible and self.training)


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
    gain: float | None  # over the incumbent's configuration in the same stage, on the same data and seeds
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a closed search found, kept for the searches to come."""

    plan_id: str
    dataset_id: str
    as_of: datetime
    family: str  # the incumbent's
    configuration: Configuration
    popularity: Mapping[str, float]  # share of the dataset's interactions, of its most popular items
    trials: tuple[TrialEvidence, ...]


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


# --- review of what is searched


Limits = tuple[int | float | str | bool, ...]


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


# --- ablation


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


# --- bundle and what was measured of it


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRef:
    """One file of a bundle."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphTrial:
    """What one exported graph of a bundle was worth on the validation windows when it was packaged."""

    graph: str  # the pass that made it: fp32, int8, int8-matmul
    size_bytes: int
    ndcg_at_10: float | None  # None: its scores are not all finite numbers, so it cannot serve
    p50_ms: float | None  # of scoring the line's batch, side by side with the others; None: not timed

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


# --- gate and release


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that the gate looked at."""

    name: str
    outcome: Outcome
    because: str  # one sentence with the numbers
    evidence: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a candidate may replace the incumbent."""

    candidate: str  # release id of the candidate's bundle
    incumbent: str
    outcome: Outcome
    checks: tuple[Check, ...]
    because: str
    by: str
    as_of: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What the channel names: the bundle in production."""

    release_id: str
    generation: int  # counts the moves of the pointer
    previous: str | None  # where the next rollback leads
    replaced: str | None  # what was in production until then
    family: str
    dataset_id: str
    reason: str
    by: str
    at: datetime
