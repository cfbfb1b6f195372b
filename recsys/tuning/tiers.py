"""Say which knobs a cold search leaves alone at first, and how far capacity may grow."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Self

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from recsys.models import FAMILIES
from recsys.models.knob import FIRST
from recsys.records import Configuration, Evidence, Plan, TrialEvidence
from recsys.tuning.evidence import COMPLETE, INFEASIBLE
from recsys.tuning.ranking import identity
from recsys.tuning.space import Space, Value, allows

FIRST_TRIALS = 16  # of screening vary the first tier alone: four for each of the four such knobs of the largest family
STABLE = 0.05  # standard deviation over seeds, as a share of their mean, up to which a configuration comes out alike


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiers:
    """What each screening trial of a cold search may not vary."""

    space: Space
    plan: Plan
    ceilings: Mapping[str, Mapping[str, Value]]  # family, knob: the largest capacity that may be tried

    @classmethod
    def of(cls, space: Space, plan: Plan, evidence: Sequence[Evidence]) -> Self:
        """Read from what the line's searches found, oldest first, how far capacity may grow now."""
        found = {family: _ceilings(space, plan, family, evidence) for family in space.families}
        return cls(space=space, plan=plan, ceilings=found)

    def held(self, number: int) -> dict[str, Value]:
        """Give what screening trial `number` may not choose itself, by Optuna's names.

        Among the first trials that is all but the first tier, each at its base: the incumbent's value, or the default
        of another family. Later it is the capacity that may not grow freely yet, each drawn from what is allowed. A
        base that the line has narrowed away is not held, unless it is capacity: then the next smaller value is.
        """
        fixed: dict[str, Value] = {}
        rng = np.random.default_rng(list(hashlib.sha256(f"{self.plan.plan_id}/{number}".encode()).digest()))
        for family, searched in self.space.families.items():
            for name, distribution in searched.items():
                value = self._held(number, family, name, distribution, rng)
                if value is not None:
                    fixed[f"{family}.{name}"] = value
        return fixed

    def _held(
        self, number: int, family: str, name: str, distribution: BaseDistribution, rng: np.random.Generator
    ) -> Value | None:
        knob, base = FAMILIES[family].knobs[name], _base(self.plan, family)[name]
        if number < FIRST_TRIALS and knob.tier != FIRST:
            value = _at_most(distribution, base) if knob.capacity else base
            return value if allows(distribution, value) else None
        if not knob.capacity:
            return None
        values = _values(distribution)
        allowed = [value for value in values if value <= self.ceilings[family][name]]  # type: ignore[operator]
        return None if len(allowed) == len(values) else allowed[int(rng.integers(len(allowed)))]


def stable(evidence: Iterable[Evidence], family: str) -> list[Configuration]:
    """List the configurations that came out alike with several seeds in the newest search that repeated any.

    A configuration of which one seed was found unsound did not. One that did not is enough for the list to be empty:
    then noise, and not capacity, is what the family's differences may be made of.
    """
    for search in sorted(evidence, key=lambda found: (found.as_of, found.plan_id), reverse=True):
        repeated = [trials for trials in _by_configuration(search, family) if len({t.seed for t in trials}) > 1]
        if repeated:
            return [t[0].configuration for t in repeated] if all(_alike(trials) for trials in repeated) else []
    return []


def _ceilings(space: Space, plan: Plan, family: str, evidence: Sequence[Evidence]) -> dict[str, Value]:
    """Allow each capacity its base, and one step more than what was shown to be stable."""
    shown, base, found = stable(evidence, family), _base(plan, family), {}
    for name, distribution in space.families[family].items():
        if FAMILIES[family].knobs[name].capacity:
            reached = max((configuration.get(name, base[name]) for configuration in shown), default=None)
            above = [value for value in _values(distribution) if reached is not None and value > reached]  # type: ignore[operator]
            highest = above[0] if above else _values(distribution)[-1]
            lowest = _at_most(distribution, base[name])
            found[name] = lowest if reached is None else max(lowest, highest)
    return found


def _by_configuration(search: Evidence, family: str) -> list[list[TrialEvidence]]:
    """Gather the trained trials of a family that are of one configuration in one stage."""
    found: dict[tuple[str, str], list[TrialEvidence]] = defaultdict(list)
    for trial in search.trials:
        asked = trial.family == family and not trial.block  # whose repeats learn from other users with each seed
        if asked and trial.configuration.get("epochs") and trial.state in (COMPLETE, INFEASIBLE):
            found[trial.stage, identity(family, trial.configuration)].append(trial)
    return list(found.values())


def _alike(trials: Sequence[TrialEvidence]) -> bool:
    values = {trial.seed: trial.ndcg_at_10 for trial in trials if trial.state == COMPLETE}
    known = [value for value in values.values() if value is not None]
    return len(known) == len({trial.seed for trial in trials}) and stdev(known) <= STABLE * mean(known)


def _base(plan: Plan, family: str) -> Configuration:
    """Give the incumbent's values for its own family, and the defaults of another."""
    return {**FAMILIES[family].defaults, **(plan.configuration if plan.family == family else {})}


def _at_most(distribution: BaseDistribution, value: Value) -> Value:
    """Give the largest value that may be chosen and is not over `value`, or the smallest there is."""
    values = _values(distribution)
    return max((v for v in values if v <= value), default=values[0])  # type: ignore[operator]


def _values(distribution: BaseDistribution) -> list[Value]:
    """List what a knob of capacity may be, smallest first."""
    if isinstance(distribution, CategoricalDistribution):
        return sorted(distribution.choices)  # type: ignore[arg-type]
    assert isinstance(distribution, IntDistribution), "capacity is counted in whole numbers"
    return list(range(distribution.low, distribution.high + 1, distribution.step))
