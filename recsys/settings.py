"""Read what users write: one TOML file per line, and the two settings that say where things lie."""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from croniter import croniter
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from recsys.columns import KEYS, RELEASE
from recsys.errors import LineError
from recsys.spelling import nearest, suggestion

_LONGEST_DAYS = 3650  # of any span; a hundred such windows still reach back to a date that a calendar has
_LONGEST_MINUTES = 366 * 24 * 60
_DAYS = 365  # of a year
_BY_HAND = 52  # decisions a year of a line that no schedule moves

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Days = Annotated[float, Field(gt=0, le=_LONGEST_DAYS)]
_Factor = Annotated[float, Field(gt=0)]

_FEWEST_IN_A_BLOCK = 6  # what `recsys.tuning.factorial` needs for two parameters

# Of a task's longest time; a worker also starts, reads the dataset, and ends the trial that it has begun.
_LONGEST_SEARCH = 0.8


class _AtOdds(ValueError):
    """A value of a table that does not go with others; knows the key at fault, below the table's own."""

    def __init__(self, key: str, rule: str) -> None:
        super().__init__(rule)
        self.key = key


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Column(_Table):
    """One column of feedback beside the keys."""

    role: Literal["label", "context"]  # labels are what happened, contexts what was known before
    type: Literal["number", "integer", "category"]
    min: float | None = None
    max: float | None = None
    values: tuple[str, ...] = ()  # of a category; empty: any
    nullable: bool = False

    @field_validator("values", mode="before")
    @classmethod
    def _from_array(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("values")
    @classmethod
    def _names_each_once(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted({value for value in values if values.count(value) > 1}):
            raise ValueError(f"must name each value once, but {twice} stand there more than once")
        return values

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        if self.type == "category" and (self.min is not None or self.max is not None):
            raise ValueError("min and max belong to a number or integer, but type is category")
        if self.type != "category" and self.values:
            raise ValueError(f"values belong to a category, but type is {self.type}")
        for name in ("min", "max"):
            bound = getattr(self, name)
            if self.type == "integer" and bound is not None and not bound.is_integer():
                raise _AtOdds(name, f"must be a whole number, because type is integer, but is {bound}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min must not be over max, but {self.min} is over {self.max}")
        return self


class Positive(_Table):
    """Which events a retrieval model should have foreseen."""

    column: str
    at_least: float


class Feedback(_Table):
    """What lands, and what must be true of it."""

    columns: Mapping[str, Column]
    positive: Positive | None = None  # None: every event
    max_object_mib: float = Field(default=256, gt=0)
    min_batch_rows: Count = 1
    freshness_days: Days = 14  # the newest event of a batch may be this much older than the moment of the batch
    max_future_minutes: float = Field(default=60, ge=0, le=_LONGEST_MINUTES)
    max_bad_row_share: Share = 0.1  # more bad rows than this refuse the whole batch
    max_unknown_item_share: Share = 0.5  # events on items never seen before; more than this is a warning

    @field_validator("columns")
    @classmethod
    def _are_not_keys(cls, columns: Mapping[str, Column]) -> Mapping[str, Column]:
        for name in columns:
            if name in (*KEYS, RELEASE):
                raise ValueError(f"{name} is a column that every line has, so it must not be declared")
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                raise ValueError(f"names must be lower_case letters, digits and underscores, but one is {name!r}")
        return columns

    @model_validator(mode="after")
    def _positive_is_a_label(self) -> Self:
        if self.positive is not None:
            column = self.columns.get(self.positive.column)
            if column is None or column.role != "label":
                labels = [name for name, c in self.columns.items() if c.role == "label"]
                raise _AtOdds("positive.column", f"must be one of the labels {labels}, but is {self.positive.column!r}")
            if column.type == "category":
                raise _AtOdds(
                    "positive.column",
                    f"must be a number or integer, but {self.positive.column} is of type category",
                )
            least = self.positive.at_least
            if not (column.min is None or column.min <= least) or not (column.max is None or least <= column.max):
                raise _AtOdds(
                    "positive.at_least",
                    f"must lie within min and max of {self.positive.column}, {column.min} and {column.max}, "
                    f"but is {least}",
                )
        return self


class Split(_Table):
    """How a dataset is cut along event time, newest last: train, windows, holdout."""

    holdout_days: Days = 7
    window_days: Days = 7
    windows: Annotated[int, Field(ge=1, le=100)] = 2
    train_days: float = Field(default=0, ge=0, le=_LONGEST_DAYS)  # how far back training reaches; 0: to the first event
    min_item_events: Count = 1  # rarer items are unknown to the vocabulary
    min_train_events: Count = 1000
    head_share: Share = 0.2  # the most popular share of items that counts as the head


class Drift(_Table):
    """When a column has moved, and when so many have that the line has drifted."""

    max_psi: float = Field(default=0.1, gt=0)  # per column
    max_share: Share = 0.3  # of the columns
    min_events: Count = 500  # fewer events than this in the window judge nothing
    top_items: Count = 100  # items whose shares are compared; the rest is one more


class Stage(_Table):
    """One rung of a search."""

    trials: Count
    share: Annotated[float, Field(gt=0, le=1)] = 1.0  # of the training users
    epochs: Annotated[float, Field(gt=0, le=1)] = 1.0  # of the configuration's epochs
    seeds: Count = 1


class Screen(Stage):
    """The first rung of a search."""

    @field_validator("seeds")
    @classmethod
    def _tries_once(cls, seeds: int) -> int:
        if seeds != 1:
            raise ValueError(f"must be 1, because screening tries every configuration once, but is {seeds}")
        return seeds


class Past(_Table):
    """How what was found under a family's earlier name or parameters reads today."""

    family: str | None = None  # its name today, if that is another
    renamed: Mapping[str, str] = {}  # a parameter's name of then: its name today
    scaled: Mapping[str, tuple[_Factor, ...]] = {}  # a parameter of today: what a number is multiplied by, edit by edit
    implied: Mapping[str, int | float | str | bool] = {}  # what a parameter that did not exist then amounted to

    @field_validator("renamed")
    @classmethod
    def _to_names_of_their_own(cls, renamed: Mapping[str, str]) -> Mapping[str, str]:
        for name in renamed.values():
            if len(both := sorted(then for then, today in renamed.items() if today == name)) > 1:
                raise ValueError(
                    f"must give each parameter a name of its own, but {' and '.join(both)} are both {name!r}; what was "
                    f"renamed twice is written step by step, such as a = 'b' and b = 'c'"
                )
        return renamed

    @field_validator("scaled", mode="before")
    @classmethod
    def _from_numbers(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        return {name: _one_or_more(factors) for name, factors in value.items()}


class Search(_Table):
    """How hyperparameters are searched."""

    families: tuple[str, ...] = ("markov", "two_tower", "sasrec")
    budget_s: float = Field(gt=0)
    workers: Annotated[int, Field(ge=1, le=1024)] = 2  # as many as Airflow lets a task be mapped to
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0  # what NumPy's generators take
    screen: Screen
    refine: Stage
    confirm: Stage
    space: Mapping[str, Mapping[str, tuple[Any, ...]]] = {}  # family, parameter: the values or [low, high] to search
    interactions: Annotated[int, Field(ge=0)] = 0  # trials of the block that tells pairs of parameters apart
    warm: bool = True  # whether it starts from what earlier searches of the line found
    past: Mapping[str, Past] = {}  # by the family's name of then

    @field_validator("interactions")
    @classmethod
    def _is_a_block(cls, trials: int) -> int:
        if 0 < trials < _FEWEST_IN_A_BLOCK:
            raise ValueError(
                f"must be 0, or at least {_FEWEST_IN_A_BLOCK} (4 for two parameters and 2 for chance), but is {trials}"
            )
        return trials

    @field_validator("families", mode="before")
    @classmethod
    def _from_array(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("families")
    @classmethod
    def _are_known(cls, families: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if not families or len(set(families)) < len(families):
            raise ValueError(f"must name at least one family, each once, but are {list(families)}")
        known = info.context or families
        for family in families:
            if family not in known:
                raise ValueError(f"must be among {sorted(known)}, but one is {family!r}.{suggestion(family, known)}")
        return families

    @field_validator("space", mode="before")
    @classmethod
    def _from_arrays(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {
            f: {p: tuple(v) if isinstance(v, list) else v for p, v in t.items()} if isinstance(t, dict) else t
            for f, t in value.items()
        }

    @model_validator(mode="after")
    def _narrows(self) -> Self:
        for name, holds in (("trials", "not grow"), ("share", "not shrink"), ("epochs", "not shrink")):
            found = [getattr(stage, name) for stage in (self.screen, self.refine, self.confirm)]
            if found != sorted(found, reverse=name == "trials"):
                keys = f"screen.{name}, refine.{name} and confirm.{name}"
                raise ValueError(f"{keys} must {holds} from one to the next, but are {_listed(found)}")
        for family in self.space:
            if family not in self.families:
                slip = nearest(family, self.families)
                raise _AtOdds(
                    f"space.{family}",
                    f"must belong to one of search.families {list(self.families)}"
                    + (f", where {slip!r} looks like a slip of it" if slip else ""),
                )
        return self


class Budgets(_Table):
    """What serving can afford, whatever the quality."""

    p99_ms: float = Field(gt=0)
    size_mib: float = Field(gt=0)
    memory_mib: float | None = Field(default=None, gt=0)  # of a process that serves; None: any
    cold_start_s: float | None = Field(default=None, gt=0)  # of such a process; None: any
    batch_sizes: Annotated[tuple[Count, ...], Field(min_length=1)] = (1,)  # of requests; p99_ms is of the first
    arrivals_per_s: float | None = Field(default=None, gt=0)  # requests that come by themselves; None: it is not timed
    threads: Count = 1

    @field_validator("batch_sizes", mode="before")
    @classmethod
    def _from_array(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @property
    def batch_size(self) -> int:
        """The batch size of which the budgets are."""
        return self.batch_sizes[0]


class Cohort(_Table):
    """Some of the holdout's cases, in groups, none of which may lose much by a candidate."""

    by: Literal["activity", "tenure", "popularity"] | None = None
    column: str | None = None  # a context of the feedback, as it was at the case's event
    bounds: tuple[float, ...] = ()  # where a number's groups end: events, days, or the column's own unit
    margin: Share = 0.05  # of the incumbent's NDCG@10, that a group may lose
    must_find: Annotated[float, Field(gt=0, le=1)] = 0.2  # a group too small for a loss of this share to be found
    too_small: Literal["blocks", "is said"] = "is said"

    @field_validator("bounds", mode="before")
    @classmethod
    def _from_array(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _says_what_it_divides_by(self) -> Self:
        if (self.by is None) == (self.column is None):
            raise ValueError("must have either by or column, and not both")
        if self.by in ("activity", "tenure") and not self.bounds:
            raise _AtOdds("bounds", f"must be given, because by is {self.by!r}")
        if self.by == "popularity" and self.bounds:
            raise _AtOdds("bounds", "must be left out, because split.head_share already divides items by popularity")
        if any(low >= high for low, high in pairwise(self.bounds)):
            raise _AtOdds("bounds", f"must grow from one to the next, but are {list(self.bounds)}")
        if self.must_find <= self.margin:
            raise _AtOdds("must_find", f"must be over margin, which is {self.margin:g}, but is {self.must_find:g}")
        return self


class Exposure(_Table):
    """How much worse a candidate's lists of ten may be than the incumbent's; what has no margin is only shown."""

    max_coverage_loss: Share | None = None  # of the incumbent's catalogue coverage
    max_tail_share_loss: Share | None = None  # of the recommendations, that no longer go to the tail
    max_diversity_loss: Share | None = None  # of the incumbent's
    max_popularity_rise: Share | None = None  # on the logarithmic scale from items nobody took to the most popular


class Calibration(_Table):
    """How far a candidate's probabilities may be off; what has no margin is only shown."""

    max_ece: Share | None = None  # in units of probability
    max_ece_rise: Share | None = None  # over the incumbent's


class Gate(_Table):
    """What a candidate must show before it is promoted."""

    quality: Literal["superiority", "non-inferiority"] = "superiority"
    min_ndcg_gain: float = 0.0  # the gain must be shown to exceed it, where quality is superiority
    max_ndcg_loss: Annotated[float, Field(ge=0, lt=1)] = 0.0  # relative; of non-inferiority
    error_budget: Annotated[float, Field(gt=0, lt=0.5)] = 0.05  # chance of any false promotion in a year
    looks_a_year: Count | None = None  # at holdouts, that share the budget; None: as many as the schedule makes
    cohorts: Mapping[str, Cohort] = {}
    exposure: Exposure = Exposure()
    calibration: Calibration = Calibration()
    min_users: Annotated[int, Field(ge=2)] = 100  # of the holdout; with fewer, no interval is believed
    max_p99_ratio: float = Field(default=2.0, gt=0)  # to the incumbent
    max_p50_ratio: float = Field(default=2.0, gt=0)  # likewise
    ratios_from: Share = 0.5  # of budgets.p99_ms: a p99 within it is quick enough, whatever the ratios
    latency_margin: Annotated[float, Field(gt=0, lt=0.5)] = 0.08  # share by which a time may differ without mattering
    latency_confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.99
    latency_s: float = Field(default=30.0, gt=0, le=600)  # of timing, after which what is not known stays unknown
    max_quantisation_loss: float = Field(default=0.02, ge=0)  # relative NDCG@10 that int8 may cost
    min_top10_overlap: Share = 0.9  # of fp32's top 10, that int8's must hold in the mean
    min_tail_agreement: Share = 0.95  # rank correlation of int8 with fp32 among the items of the tail
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95

    @model_validator(mode="after")
    def _has_one_margin(self) -> Self:
        if self.quality == "superiority" and self.max_ndcg_loss:
            raise _AtOdds("max_ndcg_loss", "belongs to quality = 'non-inferiority', but quality is 'superiority'")
        if self.quality == "non-inferiority" and not self.max_ndcg_loss:
            raise _AtOdds("max_ndcg_loss", "must be over 0, because quality is 'non-inferiority', but is 0")
        if self.quality == "non-inferiority" and self.min_ndcg_gain:
            raise _AtOdds("min_ndcg_gain", "belongs to quality = 'superiority', but quality is 'non-inferiority'")
        return self


class Approval(_Table):
    """Who is asked before what the gate lets through goes into production."""

    users: tuple[str, ...]  # logins, as the auth manager has them
    timeout_hours: float = Field(default=24, gt=0, le=_LONGEST_MINUTES / 60)  # with no answer until then, it is no

    @field_validator("users", mode="before")
    @classmethod
    def _from_array(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("users")
    @classmethod
    def _names_people(cls, users: tuple[str, ...]) -> tuple[str, ...]:
        if not users or len(set(users)) < len(users) or not all(user.strip() for user in users):
            raise ValueError(f"must name at least one person, each once, but are {list(users)}")
        return users


class Decision(_Table):
    """What a better model is worth, by which the loop chooses what to do about a drift."""

    percent_worth_s: float = Field(default=3600, ge=0)  # seconds of training that a gain of 1 % of NDCG@10 is worth


class Schedule(_Table):
    """When the line moves by itself; cron expressions or Airflow's presets."""

    feedback: str | None = None  # None: only by hand
    retune: str | None = None  # None: when drift has been judged, or by hand
    rest_days: float = Field(default=0, ge=0, le=_LONGEST_DAYS)  # so long after a search, only a person begins another
    refit_after_days: Days = 28  # an incumbent older than this is refitted although nothing drifted
    watch: str | None = None  # None: when a dataset was frozen, or by hand
    feature_refresh: str | None = None  # when the line's features are refreshed; no search may still run then
    feature_refresh_margin_minutes: float = Field(default=10, ge=0, le=_LONGEST_MINUTES)  # it ends so long before
    timeout_minutes: float = Field(default=120, gt=0, le=_LONGEST_MINUTES)  # of any task

    @property
    def decisions_a_year(self) -> int:
        """How often new feedback or the line's own time may lead to a candidate: once a day at most, or by hand."""
        times = [expression for expression in (self.feedback, self.retune) if expression is not None]
        return min(sum(map(_times_a_year, times)), _DAYS) or _BY_HAND

    @field_validator("feedback", "retune", "watch", "feature_refresh")
    @classmethod
    def _is_a_time(cls, expression: str | None) -> str | None:
        """Refuse an expression at which Airflow would reject the DAGs of all lines."""
        if expression is not None and expression != "@quarterly":  # Airflow knows it, croniter does not
            try:
                croniter.expand(expression)
            except ValueError as error:
                raise ValueError(
                    f"must be a cron expression or a preset such as @daily, but is {expression!r}: {error}"
                ) from error
        return expression


class WatchedValue(_Table):
    """One value of what is served, by which a release is watched."""

    column: str  # a number of the feedback whose mean is watched
    predicted: str | None = None  # a number that foretold it; then the mean of the squared error is watched
    better: Literal["higher", "lower"] = "higher"
    change: Annotated[float, Field(gt=0, le=1)] = 0.05  # share by which a fall, or a rise, matters


class Watch(_Table):
    """How a release is watched in production, by feedback that names it."""

    values: Mapping[str, WatchedValue] = {}  # none: nothing is watched
    window_hours: float = Field(default=24, gt=0, le=24 * _LONGEST_DAYS)
    min_events: Count = 1000  # of a release in a window; with fewer the window is left out
    past_windows: Annotated[int, Field(ge=7)] = 28  # of the release before, at most; seven at least are compared with
    error_budget: Annotated[float, Field(gt=0, lt=0.5)] = 0.01  # chance of any false alarm about a release, ever
    rollback: bool = False  # whether a release that does worse is taken back without asking
    cooldown_days: Days = 7  # so long after it took one back, the watch takes none back again


class Line(_Table):
    """One production model that is kept tuned."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
    task: Literal["retrieval"]
    owner: str
    description: str = ""
    feedback: Feedback
    split: Split = Split()
    drift: Drift = Drift()
    search: Search
    budgets: Budgets
    gate: Gate = Gate()
    approval: Approval | None = None  # None: what the gate passes is released
    decision: Decision = Decision()
    schedule: Schedule = Schedule()
    watch: Watch = Watch()

    @property
    def longest_search_s(self) -> float:
        """The largest budget of a search whose workers, being tasks, still end by themselves."""
        return _LONGEST_SEARCH * 60 * self.schedule.timeout_minutes

    @property
    def looks_a_year(self) -> int:
        """How many candidates are held against production in a year, as said or as often as the schedule decides."""
        return self.gate.looks_a_year or self.schedule.decisions_a_year

    @field_validator("owner")
    @classmethod
    def _says_who(cls, owner: str) -> str:
        if not owner.strip():
            raise ValueError(f"must name who is asked, but is {owner!r}")
        return owner

    @model_validator(mode="after")
    def _cohorts_can_be_told(self) -> Self:
        for name, cohort in self.gate.cohorts.items():
            if cohort.column is None:
                continue
            column = self.feedback.columns.get(cohort.column)
            if column is None or column.role != "context":
                contexts = [name for name, c in self.feedback.columns.items() if c.role == "context"]
                raise _AtOdds(
                    f"gate.cohorts.{name}.column", f"must be one of the contexts {contexts}, but is {cohort.column!r}"
                )
            if (column.type == "category") == bool(cohort.bounds) and column.type != "integer":
                rule = "must be left out" if cohort.bounds else "must be given"
                raise _AtOdds(
                    f"gate.cohorts.{name}.bounds", f"{rule}, because {cohort.column} is of type {column.type}"
                )
        return self

    @model_validator(mode="after")
    def _values_can_be_watched(self) -> Self:
        numbers = [name for name, column in self.feedback.columns.items() if column.type != "category"]
        for name, value in self.watch.values.items():
            for key, column in (("column", value.column), ("predicted", value.predicted)):
                if column is not None and column not in numbers:
                    raise _AtOdds(
                        f"watch.values.{name}.{key}",
                        f"must be one of the columns of type number or integer {numbers}, but is {column!r}",
                    )
            if value.predicted is not None and value.better == "higher":
                raise _AtOdds(
                    f"watch.values.{name}.better", "must be 'lower', because an error is watched, but is 'higher'"
                )
        return self

    @model_validator(mode="after")
    def _searches_end_in_time(self) -> Self:
        if self.search.budget_s > self.longest_search_s:
            raise _AtOdds(
                "search.budget_s",
                f"must be at most {self.longest_search_s:g}, {_LONGEST_SEARCH:g} of the "
                f"{self.schedule.timeout_minutes:g} minutes of schedule.timeout_minutes, "
                f"but is {self.search.budget_s:g}",
            )
        return self


class Policy(_Table):
    """What past candidates are judged by again, in place of the line's own tables."""

    gate: Gate | None = None
    budgets: Budgets | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.gate is None and self.budgets is None:
            raise ValueError("must hold [gate] or [budgets], but holds neither")
        return self


def _times_a_year(expression: str) -> int:
    """Count how often a schedule comes up within a year, to once a day."""
    if expression == "@quarterly":  # Airflow knows it, croniter does not
        return 4
    begin = datetime(2027, 1, 1, tzinfo=UTC)
    times = croniter(expression, begin - timedelta(seconds=1))
    return sum(1 for time in islice(times.all_next(datetime), _DAYS) if time < begin + timedelta(days=_DAYS))


def _one_or_more(value: object) -> object:
    """Read one value as a list of one."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def read_line(path: Path, families: Iterable[str] = ()) -> Line:
    """Read and check the file of one line.

    Args:
        path: The TOML file; its stem must be the line's name.
        families: Names that `search.families` may use; none: not checked.

    Raises:
        LineError: The file is missing, is not TOML, or breaks a rule; the message names file, key, rule and finding.
    """
    data = _toml(path, "the lines found beside it are")
    try:
        line = Line.model_validate(data, context=tuple(families))
    except ValidationError as error:
        raise LineError("\n".join(_explain(path, e) for e in error.errors())) from error
    if line.name != path.stem:
        raise LineError(f"{path}: name: must be the file's own name {path.stem!r}, but is {line.name!r}.")
    return line


def read_policy(path: Path, line: Line) -> Line:
    """Give `line` as it would be with the tables `gate` and `budgets` of another file.

    Args:
        path: A TOML file with either table or both, as they would stand in the line's own file; a table that is left
            out is the line's, and a key that is left out of a table has its default.
        line: Whose other tables the file goes with.

    Raises:
        LineError: The file is missing, is not TOML, or breaks a rule; the message names file, key, rule and finding.
    """
    data = _toml(path, "the files found beside it are")
    try:
        Policy.model_validate(data)
        return Line.model_validate({**line.model_dump(), **data})
    except ValidationError as error:
        raise LineError("\n".join(_explain(path, e, Policy) for e in error.errors())) from error


def read_lines(folder: Path, families: Iterable[str] = ()) -> list[Line]:
    """Read every `*.toml` of `folder`, by name.

    Args:
        folder: Where the lines' files lie.
        families: Names that `search.families` may use; none: not checked.

    Raises:
        LineError: Files are wrong, or there is none; the message has all that is wrong with any of them.
    """
    paths = sorted(folder.glob("*.toml"))
    if not paths:
        raise LineError(f"{folder}: must hold a file NAME.toml for each line, but holds none.")
    lines, wrong = [], []
    for path in paths:
        try:
            lines.append(read_line(path, families))
        except LineError as error:
            wrong.append(str(error))
    if wrong:
        raise LineError("\n".join(wrong))
    return lines


def store_url() -> str:
    """Say where objects lie: `RETUNE_STORE`, or `file://` under the project's `var/`."""
    return os.environ.get("RETUNE_STORE") or (var_folder() / "store").as_uri()


def studies_url() -> str:
    """Say where studies lie: `RETUNE_STUDIES`, or a journal file under the project's `var/`."""
    return os.environ.get("RETUNE_STUDIES") or str(var_folder() / "studies.journal")


def lines_folder() -> Path:
    """Say where the lines' files lie: `RETUNE_LINES`, or `lines/` below the working directory."""
    return Path(os.environ.get("RETUNE_LINES") or "lines").resolve()


def var_folder() -> Path:
    """Say below which folder lies what no other setting places: `RETUNE_VAR`, or `var/` below the working directory."""
    return Path(os.environ.get("RETUNE_VAR") or "var").resolve()


def _toml(path: Path, beside: str) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        found = sorted(p.stem for p in path.parent.glob("*.toml"))
        raise LineError(f"{path}: there must be such a file, but {beside} {found}.") from error
    except OSError as error:
        raise LineError(f"{path}: must be a file that can be read, but: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LineError(f"{path}: must be TOML, but {error}.") from error


def _explain(path: Path, error: Mapping[str, Any], whole: type[BaseModel] = Line) -> str:
    """Say file, key, what must hold and what was found of one of pydantic's errors."""
    key = ".".join(str(part) for part in error["loc"]) or "the file"
    found, context = error["input"], error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            known = _known_keys(error["loc"][:-1], whole)
            return (
                f"{path}: {key}: no such key; it must be one of {sorted(known)}.{suggestion(error['loc'][-1], known)}"
            )
        case "missing":
            return f"{path}: {key}: must be given, but is missing."
        case "value_error":
            odds = context["error"]
            if isinstance(odds, _AtOdds):
                key = ".".join([*map(str, error["loc"]), odds.key])
            return f"{path}: {key}: {_sentence(str(odds))}"
        case "tuple_type":
            return f"{path}: {key}: must be a list of values, but is {found!r}."
        case "mapping_type" | "dict_type" | "model_type":
            return f"{path}: {key}: must be a table, but is {found!r}."
        case _:
            rule = error["msg"].removeprefix("Input ").replace("should", "must", 1)
            return f"{path}: {key}: {rule}, but is {found!r}."


def _listed(values: Sequence[float]) -> str:
    return f"{', '.join(map(str, values[:-1]))} and {values[-1]}"


def _sentence(said: str) -> str:
    return said if said.endswith((".", "?")) else f"{said}."


def _known_keys(parents: Iterable[str | int], whole: type[BaseModel]) -> list[str]:
    """List the keys that the table at `parents` of a file of kind `whole` may hold."""
    model = whole
    for part in parents:
        field = model.model_fields.get(str(part))
        if field is None:  # the name of a column: the table below it is a Column
            continue
        nested = [t for t in (field.annotation, *getattr(field.annotation, "__args__", ())) if isinstance(t, type)]
        model = next((t for t in nested if issubclass(t, BaseModel)), model)
    return list(model.model_fields)
