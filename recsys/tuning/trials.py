"""Keep the trials of one search where all of its workers see them: list, claim, end, and take up again after a death.

A stage is a list of waiting trials, so its workers share it exactly, and it is done when nothing waits. A trial belongs
to one attempt of one task. Optuna refuses every write to a trial that has ended, and that is what keeps a late worker
from doing harm: whoever ends its trial has shut it out.
"""

import logging
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from recsys.records import AblationPlan, Configuration, Plan, TrialResult
from recsys.tuning.budget import busy_s
from recsys.tuning.outcomes import LOST, NOT_BEGUN, RESUMES, SEEN_AT, Progress, interval, progress, result
from recsys.tuning.plateau import Plateau
from recsys.tuning.storage import open_storage

log = logging.getLogger(__name__)

optuna.logging.disable_default_handler()  # its lines go where ours go
optuna.logging.enable_propagation()
optuna.logging.set_verbosity(logging.NOTSET)  # and at the level at which ours do

OPENED_AT = "opened_at"
RESERVED = "reserved"
PLATEAU = "plateau"
LISTED_AT = "listed_at"  # when a trial was put on its list, in seconds since 1970


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """The seconds that were set aside for a search when it was opened."""

    seconds: float
    until: float | None = None  # moment by which it must have ended, in seconds since 1970; None: any


RUN, REPEAT = "run", "repeat"
"""Trials of the block that tells interactions apart: at two levels of some knobs, and of the incumbent again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of one worker: a task that died or was cleared starts again with a higher `attempt`."""

    run: str
    map_index: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a stage's list."""

    name: str  # unique within the study
    seed: int
    family: str | None = None  # None: the sampler chooses
    configuration: Configuration | None = None
    parameters: Mapping[str, Any] | None = None  # those that the sampler shall learn from, by Optuna's names
    incumbent: bool = False
    sentinel: bool = False  # tried to its end whatever others say of it
    given: bool = False  # whether it is there whatever else is: the incumbent, a family's defaults, a sentinel
    block: str = ""  # RUN or REPEAT


class Trials:
    """The trials of one plan's study."""

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._storage = study._storage

    @classmethod
    def create(cls, plan: Plan | AblationPlan, studies: str, reservation: Reservation | None = None) -> Self:
        """Create the plan's study, or find the one that is there, write its reservation down, and start its clock.

        Args:
            plan: Whose study.
            studies: Path of a journal file, or URL of a database.
            reservation: What the search may take; None: the plan's budget.
        """
        study = optuna.create_study(
            study_name=plan.plan_id,
            storage=open_storage(studies),
            direction=StudyDirection.MAXIMIZE,
            load_if_exists=True,
            sampler=RandomSampler(seed=plan.seed),
        )
        study.set_user_attr(RESERVED, asdict(reservation or Reservation(seconds=plan.budget_s)))
        study.set_user_attr(OPENED_AT, time.time())
        return cls(study)

    @classmethod
    def load(cls, plan: Plan | AblationPlan, studies: str) -> Self:
        """Find the plan's study.

        Raises:
            ValueError: It has not been opened, or `open_storage` refuses the place.
        """
        found = cls.find(plan, studies)
        if found is None:
            raise ValueError(f"The study {plan.plan_id} must be opened first, but {studies} has none.")
        return found

    @classmethod
    def find(cls, plan: Plan | AblationPlan, studies: str) -> Self | None:
        """Find the plan's study; None: it has not been opened.

        Raises:
            ValueError: `open_storage` refuses the place.
        """
        storage = open_storage(studies)
        try:
            # A trial that is claimed gets the sampler of its stage.
            study = optuna.load_study(study_name=plan.plan_id, storage=storage, sampler=RandomSampler(seed=plan.seed))
        except KeyError:
            return None
        return cls(study)

    @property
    def opened_at(self) -> float:
        """When the study was opened last, in seconds since 1970."""
        return float(self._study.user_attrs[OPENED_AT])

    @property
    def reservation(self) -> Reservation:
        """What was set aside when the study was opened last."""
        return Reservation(**self._study.user_attrs[RESERVED])

    @property
    def spent_s(self) -> float:
        """Seconds since then in which at least one trial ran, on the clocks of the workers: the budget counts these."""
        return busy_s((max(begin, self.opened_at), end) for begin, end in self._begun())

    @property
    def taken_s(self) -> float:
        """Seconds in which at least one trial ran, however often the study was opened."""
        return busy_s(self._begun())

    def all(self) -> list[FrozenTrial]:
        """Every trial in the order of its number, those waiting and running included."""
        return self._study.get_trials(deepcopy=False)

    def of(self, stage: str, *states: TrialState) -> list[FrozenTrial]:
        """The trials of one stage, of the given states or of all; no copies."""
        return [t for t in self._listed() if t.user_attrs.get("stage") == stage and (not states or t.state in states)]

    def enter(self, stage: str, entries: Sequence[Entry]) -> None:
        """Put entries on the list of `stage`; one that is there already, by its name, stays as it is.

        Storages know no write on condition. Two workers who list the same at once both do, and the later is a copy,
        which nobody takes.
        """
        there = {trial.user_attrs.get("entry") for trial in self.all()}
        for entry in entries:
            if entry.name not in there:
                self._enqueue(entry.parameters or {}, {"stage": stage, "entry": entry.name, **_facts(entry)})

    def claim(
        self,
        stage: str,
        owner: Attempt,
        *,
        sampler: Callable[[], BaseSampler],
        pruner: BasePruner,
        fits: Callable[[FrozenTrial], bool],
    ) -> optuna.Trial | None:
        """Take the next waiting trial of `stage`; those that somebody had to leave come first, then those of each seed.

        Its sampler and its pruner see the trials of the same stage alone.

        Args:
            stage: Whose list.
            owner: Who takes it.
            sampler: Makes the sampler for what the entry leaves open; made anew each time, so that what it draws
                depends on the study alone.
            pruner: Decides about the trial while it runs.
            fits: Whether a waiting trial can end in time; the others stay on the list.

        Returns:
            The trial, running from now on; nothing when no trial is left that fits.
        """
        waiting = self.of(stage, TrialState.WAITING)
        for frozen in sorted(waiting, key=_turn):
            if fits(frozen) and self._take(frozen, owner):
                log.info("%s trial %d of %s is begun by %s", stage, frozen.number, self._study.study_name, owner)
                return optuna.Trial(_Rung(self._study, stage, sampler(), pruner), frozen._trial_id)
        return None

    def end(self, trial: optuna.Trial, state: TrialState, value: float | None, facts: Mapping[str, Any]) -> None:
        """Keep the facts of a trial and end it.

        Raises:
            UpdateFinishedTrialError: A later attempt has ended it already.
        """
        for name, fact in facts.items():
            trial.set_user_attr(name, fact)
        self._storage.set_trial_state_values(trial._trial_id, state, None if value is None else [value])

    def supersede(self, stage: str, owner: Attempt) -> int:
        """End what earlier attempts of `owner`'s task left running, and put it on the list again.

        Returns:
            How many trials there were.
        """
        left = [trial for trial in self.of(stage, TrialState.RUNNING) if _owned_before(trial, owner)]
        self._take_back(left, f"superseded by attempt {owner.attempt}")
        return len(left)

    def take_back(self, stage: str, *, because: str) -> None:
        """End all that runs in `stage`, whose workers are dead, and put it on the list again."""
        self._take_back(self.of(stage, TrialState.RUNNING), f"its worker was lost before {because}")

    def seen_s_ago(self) -> float | None:
        """Say how many seconds ago a running trial gave its last sign of life; None: none runs."""
        running = [trial for trial in self.all() if trial.state is TrialState.RUNNING]
        signs = [trial.user_attrs.get(SEEN_AT, interval(trial)[0]) for trial in running]
        return time.time() - max(signs) if signs else None

    def end_stage(self, stage: str, *, because: str) -> None:
        """End all that still runs or waits in `stage`: its time is over."""
        for trial in self.of(stage, TrialState.RUNNING):
            self._fail(trial, {"reason": f"its worker was lost before {because}", LOST: True})
        waiting = self.of(stage, TrialState.WAITING)
        everything = [t for t in self.all() if t.user_attrs.get("stage") == stage and t.state is TrialState.WAITING]
        for trial in everything:
            self._fail(trial, {"reason": f"not begun before {because}", NOT_BEGUN: True})
        if waiting:
            log.info("%d trials of %s were not begun before %s", len(waiting), stage, because)

    @property
    def plateau(self) -> Plateau | None:
        """Where screening came to a plateau; None: it has not."""
        found = self._study.user_attrs.get(PLATEAU)
        return Plateau(**found) if found else None

    def level_off(self, stage: str, plateau: Plateau) -> None:
        """Leave what waits in `stage`, because nothing better is to be expected; what was begun before goes on."""
        self._study.set_user_attr(PLATEAU, asdict(plateau))
        for trial in self.of(stage, TrialState.WAITING):
            if RESUMES not in trial.user_attrs:
                self._fail(trial, {"reason": f"not begun: {plateau.said}", NOT_BEGUN: True})
        log.info("study %s: %s", self._study.study_name, plateau.said)

    def progress(self) -> list[Progress]:
        """Say how far each stage that has begun has come, in their order."""
        by_stage: dict[str, list[FrozenTrial]] = {}
        for trial in self._listed():
            by_stage.setdefault(trial.user_attrs.get("stage", ""), []).append(trial)
        return [progress(stage, trials) for stage, trials in by_stage.items()]

    def results(self) -> list[TrialResult]:
        """Every trial that began and ended, in the order of its number."""
        return [result(t) for t in self.all() if t.state.is_finished() and NOT_BEGUN not in t.user_attrs]

    def settled(self) -> list[TrialResult]:
        """Every result but those of trials whose workers were lost, which are taken up again."""
        lost = {trial.number for trial in self.all() if LOST in trial.user_attrs}
        return [found for found in self.results() if found.number not in lost]

    def _begun(self) -> list[tuple[float, float]]:
        return [interval(trial) for trial in self.all() if trial.datetime_start]

    def _listed(self) -> list[FrozenTrial]:
        """Every trial but the copies: of those of one entry, the first, and what took up one whose worker died."""
        everything = self.all()
        names = [trial.user_attrs.get("entry", trial.number) for trial in everything]
        first = dict(zip(reversed(names), reversed(everything), strict=True))
        return [
            trial
            for name, trial in zip(names, everything, strict=True)
            if RESUMES in trial.user_attrs or first[name] is trial
        ]

    def _take(self, frozen: FrozenTrial, owner: Attempt) -> bool:
        """Make a waiting trial `owner`'s, unless somebody is faster.

        Storages know no write of state and owner at once. So the wish is written first: a trial that runs without an
        owner, because its worker died between the two, is found by who had wished for it.
        """
        try:
            self._storage.set_trial_user_attr(frozen._trial_id, _wish(owner), owner.attempt)
            if not self._storage.set_trial_state_values(frozen._trial_id, TrialState.RUNNING):
                return False
            self._storage.set_trial_user_attr(frozen._trial_id, "owner", asdict(owner))
        except UpdateFinishedTrialError:  # somebody has ended it already
            return False
        return True

    def _take_back(self, left: Sequence[FrozenTrial], why: str) -> None:
        for trial in left:
            self._list_again(trial)
            self._fail(trial, {"reason": f"{why}, and its configuration taken up again", LOST: True})

    def _list_again(self, trial: FrozenTrial) -> None:
        if any(other.user_attrs.get(RESUMES) == trial.number for other in self.all()):
            return  # an attempt that died just here has done so
        kept = ("stage", "entry", "seed", "incumbent", "sentinel", "given", "family", "configuration", "block")
        facts = {name: trial.user_attrs[name] for name in kept if name in trial.user_attrs}
        fixed = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        self._enqueue(fixed, {**facts, RESUMES: trial.number}, trial.intermediate_values)

    def _enqueue(
        self, parameters: Mapping[str, Any], facts: Mapping[str, Any], reported: Mapping[int, float] | None = None
    ) -> None:
        """Do what `enqueue_trial` does, which cannot hand on what an earlier owner has reported to the pruner."""
        self._study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.WAITING,
                system_attrs={"fixed_params": dict(parameters)},
                user_attrs={**facts, LISTED_AT: time.time()},
                intermediate_values=dict(reported or {}),
            )
        )

    def _fail(self, frozen: FrozenTrial, facts: Mapping[str, Any]) -> None:
        try:
            for name, fact in facts.items():
                self._storage.set_trial_user_attr(frozen._trial_id, name, fact)
            self._storage.set_trial_state_values(frozen._trial_id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            log.info("trial %d of %s has ended by itself meanwhile", frozen.number, self._study.study_name)
        else:
            if LOST in facts:
                log.warning("trial %d of %s was %s", frozen.number, self._study.study_name, facts["reason"])


class _Rung(optuna.Study):
    """A study as the sampler and the pruner of one stage see it.

    Values of different fidelities cannot be compared, and trials of several stages run side by side.
    """

    def __init__(self, study: optuna.Study, stage: str, sampler: BaseSampler, pruner: BasePruner) -> None:
        super().__init__(study.study_name, study._storage, sampler, pruner)
        self._stage = stage

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        """Give what every reading of trials comes to, the public one and those of Optuna's own samplers."""
        found = super()._get_trials(deepcopy, states, use_cache)
        return [trial for trial in found if trial.user_attrs.get("stage") == self._stage]


def _turn(waiting: FrozenTrial) -> tuple[bool, int, int]:
    """Say which of several waiting trials comes first."""
    return RESUMES not in waiting.user_attrs, waiting.user_attrs["seed"], waiting.number


def waited_s(trial: optuna.Trial) -> float:
    """Say how long a trial that runs had waited: from when it was listed, last, until a worker began it."""
    assert trial.datetime_start is not None
    begun = trial.datetime_start.timestamp()
    listed = float(trial.user_attrs.get(LISTED_AT, begun))
    return round(max(0.0, begun - listed), 4)


def _facts(entry: Entry) -> dict[str, Any]:
    known = {
        "family": entry.family,
        "configuration": entry.configuration and dict(entry.configuration),
        "block": entry.block or None,
    }
    return {
        "seed": entry.seed,
        "incumbent": entry.incumbent,
        "sentinel": entry.sentinel,
        "given": entry.given,
        **{name: fact for name, fact in known.items() if fact is not None},
    }


def _owned_before(trial: FrozenTrial, owner: Attempt) -> bool:
    """Whether an earlier attempt of the same task has the trial, or this one had before it was started over."""
    had = trial.user_attrs.get("owner")
    if had is None:
        return trial.user_attrs.get(_wish(owner), owner.attempt + 1) <= owner.attempt  # type: ignore[no-any-return]
    return (had["run"], had["map_index"]) == (owner.run, owner.map_index) and had["attempt"] <= owner.attempt


def _wish(owner: Attempt) -> str:
    """Name the attribute in which a task says that it wants a trial, beside those of other tasks that do."""
    return f"wish/{owner.run}/{owner.map_index}"
