"""Hold a search to its seconds: what each stage has left, and which waiting trial can end in it."""

import time
from collections.abc import Callable, Sequence
from statistics import median

from optuna.trial import FrozenTrial

from recsys.records import Configuration, Evidence, Plan
from recsys.settings import Line, Stage
from recsys.tuning.budget import fits, left_s
from recsys.tuning.forecast import SURE, Forecast, paid_before, seconds_of_any
from recsys.tuning.outcomes import measured, paid
from recsys.tuning.promotion import STAGES, contenders, ended, is_own, own_confirmed, promoted
from recsys.tuning.ranking import identity
from recsys.tuning.trials import Trials

MIDDLE = 0.5  # probability from which a trial will rather end than not
FIRST = 0.1  # share of the budget that each confirmation of the incumbent may take before there are challengers


class Contract:
    """The seconds that were reserved for a search, and what its trials may still have of them.

    Args:
        line: Says what each stage gives a trial.
        plan: Says which configuration is the incumbent's.
        trials: Of its study.
        evidence: What the line's searches found, from which the first trials are forecast.
    """

    def __init__(self, line: Line, plan: Plan, trials: Trials, evidence: Sequence[Evidence] = ()) -> None:
        self._line, self._plan, self._trials = line, plan, trials
        self._before = paid_before(evidence, but=plan.plan_id)
        self._known: tuple[int, frozenset[str], Forecast] | None = None

    @property
    def forecast(self) -> Forecast:
        """What trials take, by all that ended up to now."""
        trials = self._trials.all()
        own, shapes = list(paid(trials)), measured(trials)
        if self._known is None or self._known[:2] != (len(own), shapes):
            self._known = len(own), shapes, Forecast.of([*self._before, *own], shapes)
        return self._known[2]

    def left_s(self, stage: str) -> float:
        """Say how many seconds `stage` has left, what is forecast for the stages after it being set aside."""
        reservation = self._trials.reservation
        spent_s = self._trials.spent_s
        after = STAGES[STAGES.index(stage) + 1 :]
        left = left_s(reservation.seconds, spent_s, self._reserves_s(after), self._had_s(after))
        if reservation.until is None:
            return left
        missing_s = spent_s + reservation.until - time.time() - reservation.seconds
        return left + min(0.0, missing_s)  # what queues and restarts have taken, the line's next refresh does not give

    def _reserves_s(self, after: Sequence[str]) -> list[float] | None:
        """Forecast what each stage of `after` still needs; None while nobody knows what will be tried there."""
        results = self._trials.settled()
        ranked = contenders(self._plan, results, before=after[0] if after else None)
        if after and all(is_own(self._plan, standing) for standing in ranked):
            return None
        reserves_s, workers = [], self._line.search.workers
        for name in after:
            rung = self.rung(name)
            done = ended(results, name, rung)
            tried = promoted(self._plan, name, rung, ranked)
            awaited = [which for which in tried if identity(*which) not in done]
            reserves_s.append(self.forecast.stage(awaited, rung, workers=workers))
        return reserves_s

    def _had_s(self, stages: Sequence[str]) -> float:
        """Say how long the trials that have ended in `stages` would have kept all workers busy, shared evenly."""
        seconds = sum(found.seconds for found in self._trials.results() if found.stage in stages)
        return seconds / self._line.search.workers

    def fitting(self, stage: str) -> Callable[[FrozenTrial], bool]:
        """Give the rule by which a waiting trial of `stage` may begin now."""
        left_s = self.left_s(stage)
        return lambda waiting: self.may_begin(stage, waiting, left_s)

    @property
    def confirmed_at_once(self) -> list[Configuration]:
        """What of the incumbent can be confirmed before anything else without starving what finds its challengers."""
        rung, most_s = self.rung(STAGES[-1]), FIRST * self._trials.reservation.seconds
        foreseen_s = [
            (which, self.forecast.trial(self._plan.family, which, rung)) for which in own_confirmed(self._plan)
        ]
        return [which for which, seconds in foreseen_s if seconds is not None and seconds <= most_s]

    def may_begin(self, stage: str, waiting: FrozenTrial, left_s: float) -> bool:
        """Whether a waiting trial of `stage` would end in the seconds that are left.

        Without the incumbent's configuration and its control nobody knows what the others gained. So they may begin in
        the first stage while there is time at all, and later if they will rather end than not.
        """
        if not waiting.user_attrs.get("incumbent"):
            return fits(self.foreseen(stage, waiting)[0], left_s)
        return fits(None if stage == STAGES[0] else self.foreseen(stage, waiting, level=MIDDLE)[0], left_s)

    def foreseen(self, stage: str, waiting: FrozenTrial, *, level: float = SURE) -> tuple[float | None, str]:
        """Give the seconds that a waiting trial of `stage` will not exceed, if they can be known, and its family.

        One that the sampler is to fill is taken for one of its stage, and is of a new shape if most of these were.

        Args:
            stage: Whose list it is on.
            waiting: The trial.
            level: Probability that it takes no longer.
        """
        facts = waiting.user_attrs
        if "configuration" in facts:
            family, configuration = facts["family"], facts["configuration"]
            return self.forecast.trial(family, configuration, self.rung(stage), level), family
        ended = [found for found in self._trials.results() if found.stage == stage and found.units]
        trained_s = seconds_of_any([found.seconds - found.constraints_s for found in ended])
        measured_s = median(found.constraints_s for found in ended) if ended else 0.0
        return None if trained_s is None else trained_s + measured_s, "a new configuration"

    def rung(self, stage: str) -> Stage:
        """Say what `stage` gives a trial."""
        found: Stage = getattr(self._line.search, stage)
        return found
