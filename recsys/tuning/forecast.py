"""Forecast what a trial will take, from this search's trials and from those of the line's earlier ones.

The logarithm of the seconds is a line: of its family, of how large the model is, and of how fast the machine of its
search was. A search has a speed of its own, held near that of the others until its own trials say otherwise, so that
the first trials of a new search are forecast from the past, and later ones from what this machine turned out to do.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median

import numpy as np

from recsys.models import FAMILIES
from recsys.records import Configuration, Evidence
from recsys.settings import Stage
from recsys.tuning.budget import units, units_of
from recsys.tuning.evidence import COMPLETE
from recsys.tuning.regression import Prior, Regression, Vector

SURE = 0.9  # what is forecast is a length that so many of ten trials do not exceed
THIS = ""  # the search that is forecast, among the others' names
LEAST_S = 1e-3  # shorter parts count as this long
NOISE, TRUST = 0.15, 8  # seconds of equal trials differ by 15 %, a guess that is worth eight trials
LEVEL_SD = 6.0  # of a family's logarithm of seconds, of which nothing is known before
SPEED_SD = 0.5  # of a search's: machines differ by a factor of 1.6 or so
GROWTH, GROWTH_SD = 0.5, 0.5  # seconds grow with a model's size to a power about this
NEWEST = 20  # earlier searches that are asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """What an ended trial cost."""

    family: str
    units: float  # share of the users times epochs done, what training grows with
    training_s: float  # with the carrying of each epoch's checkpoint
    evaluation_s: float  # all else, but
    constraints_s: float = 0.0  # measuring what serving costs, which each shape is once in a search
    configuration: Configuration = field(default_factory=dict)
    study: str = THIS


@dataclass(frozen=True)
class Forecast:
    """Seconds that trials of each family will take."""

    paid: tuple[Paid, ...]
    measured: frozenset[str] | None = None

    @classmethod
    def of(cls, paid: Iterable[Paid], measured: frozenset[str] | None = None) -> "Forecast":
        """Learn from what trials have cost.

        Args:
            paid: That.
            measured: Shapes of which it is known what serving them costs; None: every one.
        """
        return cls(tuple(paid), measured)

    def trial(self, family: str, configuration: Configuration, stage: Stage, level: float = SURE) -> float | None:
        """Foresee the seconds of one trial.

        Args:
            family: Its family.
            configuration: With all of its epochs.
            stage: Says which part of them it is given.
            level: Probability that it takes no longer.

        Returns:
            Seconds; nothing where no trial of the family has ended.
        """
        if family not in self._levels:
            return None
        row = self._row(family, configuration, THIS)
        training = math.exp(self._training.foresee(row).quantile(level)) * units(configuration, stage)
        return training + math.exp(self._evaluation.foresee(row).quantile(level)) + self._first_s(family, configuration)

    def stage(self, tried: Sequence[tuple[str, Configuration]], stage: Stage, workers: int) -> float:
        """Foresee the seconds of a stage that tries these of families, if the workers share it as well as they can."""
        trials = [self.trial(family, configuration, stage) or 0.0 for family, configuration in tried]
        return max(sum(trials) * stage.seeds / workers, max(trials, default=0.0))

    def _first_s(self, family: str, configuration: Configuration) -> float:
        """Say what measuring a shape takes, by the middle of what others took; nothing for one that is known."""
        known = self.measured is None or shape(family, configuration) in self.measured
        return 0.0 if known else self._measuring_s

    @cached_property
    def _measuring_s(self) -> float:
        own = [one.constraints_s for one in self.paid if one.constraints_s and one.study == THIS]
        return median(own or [one.constraints_s for one in self.paid if one.constraints_s] or [0.0])

    @cached_property
    def _levels(self) -> dict[str, int]:
        """The column of each family of which a trial has ended."""
        return {family: column for column, family in enumerate(sorted({one.family for one in self.paid}))}

    @cached_property
    def _sizes(self) -> dict[tuple[str, str], int]:
        """The column of each family's parameters that make a model larger."""
        names = [(family, name) for family in self._levels for name in _sizes(family)]
        return {name: len(self._levels) + column for column, name in enumerate(names)}

    @cached_property
    def _speeds(self) -> dict[str, int]:
        """The column of each search."""
        begin = len(self._levels) + len(self._sizes)
        return {name: begin + column for column, name in enumerate(sorted({THIS, *(p.study for p in self.paid)}))}

    @cached_property
    def _training(self) -> Regression:
        return self._fit([math.log(max(one.training_s, LEAST_S) / one.units) for one in self.paid])

    @cached_property
    def _evaluation(self) -> Regression:
        return self._fit([math.log(max(one.evaluation_s, LEAST_S)) for one in self.paid])

    def _fit(self, values: list[float]) -> Regression:
        n, sizes = len(self._levels), len(self._sizes)
        mean = np.array([0.0] * n + [GROWTH] * sizes + [0.0] * len(self._speeds))
        sd = np.array([LEVEL_SD] * n + [GROWTH_SD] * sizes + [SPEED_SD] * len(self._speeds))
        rows = np.array([self._row(one.family, one.configuration, one.study) for one in self.paid])
        return Regression.fit(Prior(mean=mean, sd=sd, noise=NOISE, trust=TRUST), rows, values)

    def _row(self, family: str, configuration: Configuration, study: str) -> Vector:
        row = np.zeros(len(self._levels) + len(self._sizes) + len(self._speeds))
        row[self._levels[family]] = row[self._speeds[study]] = 1.0
        for name, usual in _sizes(family).items():
            value = configuration.get(name)
            known = isinstance(value, int | float) and value > 0  # older versions may have had other parameters
            row[self._sizes[family, name]] = math.log(float(value) / usual) if known else 0.0  # type: ignore[arg-type]
        return row


def seconds_of_any(paid: Sequence[float]) -> float | None:
    """Foresee a trial of which not even the family is known, from the seconds of the others in its stage."""
    if not paid:
        return None
    prior = Prior(mean=np.zeros(1), sd=np.array([LEVEL_SD]), noise=NOISE, trust=TRUST)
    fitted = Regression.fit(prior, np.ones((len(paid), 1)), [math.log(max(one, LEAST_S)) for one in paid])
    return math.exp(fitted.foresee([1.0]).quantile(SURE))


def paid_before(evidence: Sequence[Evidence], *, but: str = "") -> list[Paid]:
    """Say what trials of the line's newest searches had cost.

    A record of an older version does not tell training from the rest, so all of its seconds count as training.

    Args:
        evidence: What searches found, oldest first.
        but: The plan whose own search is left out.
    """
    return [
        Paid(
            family=trial.family,
            units=trial.units or units_of(trial.configuration, share=trial.share, epochs_share=trial.epochs),
            training_s=trial.seconds - trial.evaluation_s,
            evaluation_s=trial.evaluation_s - trial.constraints_s,
            constraints_s=trial.constraints_s,
            configuration=trial.configuration,
            study=found.plan_id,
        )
        for found in [one for one in evidence if one.plan_id != but][-NEWEST:]
        for trial in found.trials
        if trial.state == COMPLETE and not trial.reused and trial.seconds > 0 and trial.family in FAMILIES
    ]


def shape(family: str, configuration: Configuration) -> str:
    """Name all that decides which graph a configuration is exported to, beside the catalogue."""
    return json.dumps([family, FAMILIES[family].shape(configuration)])


def _sizes(family: str) -> Mapping[str, float]:
    """Give the parameters that make a model of the family larger, each with its usual value."""
    own = FAMILIES.get(family)
    if own is None:
        return {}
    found = {name: own.defaults[name] for name, knob in own.knobs.items() if knob.capacity}
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float) and value > 0}
