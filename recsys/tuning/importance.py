"""Say how much each parameter of a family matters, for as many trials as it takes to tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from scipy.stats import false_discovery_control

from recsys.records import Estimate, Findings, Importance, Interaction
from recsys.tuning.anova import Axis, Effect, effects, varies
from recsys.tuning.encoding import Encoding, Points, place, value
from recsys.tuning.evidence import COMPLETE, PRUNED, PastTrial, standardised
from recsys.tuning.kernel import Vector
from recsys.tuning.space import FAMILY, Space

LEAST = 15  # trials from which anything is said
A_PARAMETER = 3  # and as many for each parameter
THERE = 10  # trials that must have a parameter, or both of a pair
LARGEST = 400  # trials that are looked at together; of more, the newest studies count
FALSE = 0.05  # share of what is said to be above chance that may be wrong (Benjamini and Hochberg 1995)
STEPS = 30  # places that stand for a range


@dataclass(frozen=True, eq=False)
class Tried:
    """What searches tried of one family within what is searched of it today.

    Args:
        family: Which.
        axes: How each parameter with more than one value is spread over the space, by its name without the family's.
        encoding: Of those parameters.
        studies: By plan, oldest first.
        trials: Those that have a value.
        searches: Which study each is of, shape [n].
        left_out: How many of each study lie outside what is searched today.
    """

    family: str
    axes: Mapping[str, Axis]
    encoding: Encoding
    studies: tuple[str, ...]
    trials: tuple[PastTrial, ...]
    searches: NDArray[np.int64]
    left_out: tuple[int, ...]

    @property
    def names(self) -> list[str]:
        """The parameters in the order of the columns."""
        return list(self.axes)

    @cached_property
    def points(self) -> Points:
        """Shape [n, D]."""
        return self.encoding.points([trial.parameters for trial in self.trials])

    @cached_property
    def values(self) -> Vector:
        """Standard normal within each study, shape [n]."""
        found = np.zeros(len(self.trials))
        for study in np.unique(self.searches):
            own = np.flatnonzero(self.searches == study)
            found[own] = standardised([self.trials[place] for place in own])
        return found

    def distribution(self, name: str) -> BaseDistribution:
        """Give what is searched of a parameter."""
        return self.encoding.distributions[f"{self.family}.{name}"]

    def apart(self) -> list["Tried"]:
        """Give each study by itself, oldest first."""
        return [self._only([number]) for number in range(len(self.studies))]

    def newest(self) -> "Tried":
        """Give the newest studies together, as many as have no more than `LARGEST` trials, and at least one."""
        sizes = np.bincount(self.searches, minlength=len(self.studies))
        kept: list[int] = []
        for number in reversed(range(len(self.studies))):
            if kept and sizes[[*kept, number]].sum() > LARGEST:
                break
            kept.insert(0, number)
        return self._only(kept)

    def _only(self, numbers: Sequence[int]) -> "Tried":
        own = np.flatnonzero(np.isin(self.searches, numbers))
        return replace(
            self,
            studies=tuple(self.studies[number] for number in numbers),
            trials=tuple(self.trials[place] for place in own),
            searches=np.searchsorted(np.array(numbers, int), self.searches[own]),
            left_out=tuple(self.left_out[number] for number in numbers),
        )


def tried(space: Space, family: str, studies: Mapping[str, Sequence[PastTrial]]) -> Tried:
    """Gather what searches tried of a family.

    Trials that failed or that serving could not afford tell nothing of quality, so they are passed over. So is what
    lies outside the space of today, for importance is a property of a space.

    Args:
        space: Where the line searches today.
        family: One of it.
        studies: What each search tried, in the terms of the space, by plan, oldest first.
    """
    searched = {
        f"{family}.{name}": d
        for name, d in space.families[family].items()
        if not d.single() and _exists(space, f"{family}.{name}") > 0
    }
    encoding = Encoding(searched, space.conditions)
    found: list[PastTrial] = []
    searches: list[int] = []
    left_out: list[int] = []
    for number, trials in enumerate(studies.values()):
        own = [
            trial
            for trial in trials
            if trial.parameters[FAMILY] == family and trial.state in (COMPLETE, PRUNED) and trial.value is not None
        ]
        within = _within(encoding, encoding.points([trial.parameters for trial in own]))
        found += [trial for trial, inside in zip(own, within, strict=True) if inside]
        searches += [number] * int(within.sum())
        left_out.append(len(own) - int(within.sum()))
    axes = {name.partition(".")[2]: _axis(space, name) for name in searched}
    return Tried(family, axes, encoding, tuple(studies), tuple(found), np.array(searches, int), tuple(left_out))


def findings(found: Tried, *, seed: int) -> Findings:
    """Say how much each parameter and each pair of a family matters, or why that cannot be told.

    Args:
        found: What was tried.
        seed: Of what is permuted and drawn.
    """
    n, names = len(found.trials), found.names
    said = Findings(
        family=found.family,
        studies=found.studies,
        trials=n,
        left_out=sum(found.left_out),
        importances=(),
        interactions=(),
    )
    needed = max(LEAST, A_PARAMETER * len(names))
    if not names:
        return replace(said, because=f"Nothing of {found.family} is searched.")
    if n < needed:
        return replace(
            said, because=f"Not enough to tell: {len(names)} parameters need {needed} trials, and it has {n}."
        )
    told = [column for column in range(len(names)) if varies(found.points[:, column], THERE)]
    if not told:
        return replace(said, because="Not enough to tell: no parameter was varied enough.")
    axes = list(found.axes.values())
    made = effects(found.points[:, told], found.values, found.searches, [axes[c] for c in told], apart=THERE, seed=seed)
    own = {told[column]: effect for column, effect in made.parameters.items()}
    best = {told[column]: axes[told[column]].places[int(np.argmax(curve))] for column, curve in made.curves.items()}
    pairs = {(names[told[a]], names[told[b]]): effect for (a, b), effect in made.pairs.items()}
    return replace(
        said,
        importances=tuple(_importances(found, own, best)),
        interactions=tuple(_interactions(pairs)),
    )


def _importances(found: Tried, own: Mapping[int, Effect], best: Mapping[int, float]) -> list[Importance]:
    """Order the parameters by what they explain; those of which nothing is said come last."""
    certain = dict(zip(own, _certain([effect.p for effect in own.values()]), strict=True))
    made = [
        Importance(
            parameter=found.names[column],
            share=Estimate(value=effect.share, low=effect.low, high=effect.high),
            alone=effect.alone,
            p=effect.p,
            above_chance=certain[column],
            best=value(found.distribution(found.names[column]), best[column]),  # type: ignore[arg-type]
        )
        for column, effect in sorted(own.items(), key=lambda item: -item[1].share)
    ]
    unsaid = [
        Importance(
            parameter=name,
            share=None,
            alone=None,
            p=None,
            above_chance=False,
            best=None,
            because=f"not enough to tell: it needs {THERE} trials that have it, and a fifth of them with other values",
        )
        for column, name in enumerate(found.names)
        if column not in own
    ]
    return [*made, *unsaid]


def _interactions(pairs: Mapping[tuple[str, str], Effect]) -> list[Interaction]:
    certain = _certain([effect.p for effect in pairs.values()])
    made = [
        Interaction(
            parameters=pair,
            share=Estimate(value=effect.share, low=effect.low, high=effect.high),
            p=effect.p,
            above_chance=sure,
        )
        for (pair, effect), sure in zip(pairs.items(), certain, strict=True)
    ]
    return sorted(made, key=lambda interaction: -interaction.share.value)


def _certain(p: Sequence[float]) -> list[bool]:
    return [bool(adjusted <= FALSE) for adjusted in false_discovery_control(p)] if p else []


def _within(encoding: Encoding, points: Points) -> NDArray[np.bool_]:
    """Say which points lie inside the space. Shape [n]."""
    last = np.array(
        [len(d.choices) - 1 if isinstance(d, CategoricalDistribution) else 1.0 for d in encoding.distributions.values()]
    )
    fits: NDArray[np.bool_] = np.isnan(points) | ((points >= -1e-9) & (points <= last + 1e-9))
    return np.asarray(fits.all(axis=1))


def _axis(space: Space, name: str) -> Axis:
    distribution = space.distributions[name]
    return Axis(_places(distribution), isinstance(distribution, CategoricalDistribution), _exists(space, name))


def _places(distribution: BaseDistribution) -> Vector:
    """Give places that an even draw would take equally often."""
    if isinstance(distribution, CategoricalDistribution):
        return np.arange(len(distribution.choices), dtype=float)
    middles = (np.arange(STEPS) + 0.5) / STEPS
    return np.array([place(distribution, value(distribution, middle)) for middle in middles])


def _exists(space: Space, name: str) -> float:
    """Say in which part of a family's space a parameter exists."""
    parent, needed = space.conditions[name]
    if parent == FAMILY:
        return 1.0
    distribution = space.distributions[parent]
    has = [value(distribution, at) == needed for at in _places(distribution)]
    return float(np.mean(has)) * _exists(space, parent)
