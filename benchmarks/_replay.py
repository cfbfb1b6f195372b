"""Replay searches on tables of real trainings.

A table holds some hundred configurations, and a search tries each at most once. A sampler that can be told which ones
there are chooses among them; what another proposes becomes the nearest one that has not been tried.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import Any

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from benchmarks import trainings
from recsys.models import FAMILIES, Configuration
from recsys.records import Evidence, TrialEvidence
from recsys.settings import Past
from recsys.tuning.encoding import Encoding
from recsys.tuning.evidence import PastStudy
from recsys.tuning.kernel import differences
from recsys.tuning.outcomes import LOST
from recsys.tuning.past import carry
from recsys.tuning.space import FAMILY, Space

Parameters = dict[str, Any]
Tried = Sequence[tuple[Parameters, float]]
"""Parameters by Optuna's names and what they reached, in the order of the trials."""


@dataclass(frozen=True, eq=False)
class Window:
    """What the configurations inside a space reached in one window."""

    name: str
    space: Space
    parameters: list[Parameters]  # by Optuna's names
    values: NDArray[np.float64]  # [n] NDCG@10

    @cached_property
    def target(self) -> float:
        """What closes 95 % of the gap between the median and the best configuration."""
        middle = float(np.median(self.values))
        return middle + 0.95 * (float(self.values.max()) - middle)

    @cached_property
    def encoding(self) -> Encoding:
        """Of the configurations, for distances."""
        return Encoding(self.space.distributions, self.space.conditions)

    @cached_property
    def points(self) -> NDArray[np.float64]:
        """The configurations as points, shape [n, D]."""
        return self.encoding.points(self.parameters)

    def nearest(self, parameters: Parameters, tried: set[int]) -> int:
        """Give the configuration not yet tried that differs least; every parameter counts alike."""
        point = self.encoding.points([parameters])
        apart = sum(
            differences(point[:, column], self.points[:, column], bool(categorical))[0]
            for column, categorical in enumerate(self.encoding.categorical)
        )
        apart = np.where(np.isin(np.arange(len(self.values)), list(tried)), np.inf, apart)
        return int(np.argmin(apart))


def window(name: str, space: Space) -> Window:
    """Give the part of a table that lies inside a space."""
    found = [(space.parameters(family, configuration), value) for family, configuration, value in table(name)]
    inside = [(parameters, value) for parameters, value in found if parameters is not None]
    return Window(name, space, [dict(parameters) for parameters, _ in inside], np.array([value for _, value in inside]))


@cache
def table(name: str) -> list[tuple[str, Configuration, float]]:
    """Read the table of a window: family, configuration and NDCG@10 of each training."""
    found = pd.read_parquet(trainings.TABLES / f"{name}.parquet")
    rows: list[tuple[str, Configuration, float]] = []
    for row in found.to_dict("records"):
        own = FAMILIES[str(row["family"])]
        space = trainings.space().families[own.name]
        # What was not searched yet when a table was made stood at the family's default.
        searched = {n: _plain(d, row[f"{own.name}.{n}"]) for n, d in space.items() if f"{own.name}.{n}" in row}
        rows.append((own.name, {**own.defaults, **searched}, float(row[f"ndcg_{trainings.PARTS}"])))
    return rows


def search(
    answers: Window,
    sampler: BaseSampler,
    *,
    limit: int,
    first: Sequence[Parameters] = (),
    imported: Tried = (),
    until: float = np.inf,
) -> Tried:
    """Run one search on a window, one trial after another.

    Args:
        answers: Where the values come from.
        sampler: Proposes.
        limit: Most trials.
        first: Configurations that are tried before the sampler is asked.
        imported: Trials of earlier searches that are put into the study with their values of then.
        until: Value at which the search may stop.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for parameters, value in imported:
        study.add_trial(_complete(answers, parameters, value))
    tried: list[int] = []
    while len(tried) < min(limit, len(answers.values)):
        if len(tried) < len(first):
            proposed = first[len(tried)]
        else:
            trial = study.ask()
            answers.space.suggest(trial)
            proposed = trial.params
            # The study learns what was really tried, not what was proposed.
            trial.set_user_attr(LOST, True)
            study.tell(trial, state=TrialState.FAIL)
        row = answers.nearest(proposed, set(tried))
        tried.append(row)
        study.add_trial(_complete(answers, answers.parameters[row], float(answers.values[row])))
        if answers.values[row] >= until:
            break
    return [(answers.parameters[row], float(answers.values[row])) for row in tried]


def needed(answers: Window, tried: Tried, limit: int) -> int:
    """Count the trials until the target was reached; `limit` + 1 where it never was."""
    return next((n for n, (_, value) in enumerate(tried, start=1) if value >= answers.target), limit + 1)


def evidence(name: str, tried: Tried) -> Evidence:
    """Write a search down as the loop does when it closes one."""
    trials = [(parameters[FAMILY], _configuration(parameters), value) for parameters, value in tried]
    family, configuration, own = trials[0]
    return Evidence(
        plan_id=name,
        dataset_id=name,
        as_of=datetime(2000, 1, 1, tzinfo=UTC),
        family=family,
        configuration=configuration,
        popularity={},
        trials=tuple(
            TrialEvidence(
                stage="screen",
                share=1.0,
                epochs=1.0,
                seed=0,
                family=family,
                configuration=configuration,
                state="complete",
                ndcg_at_10=value,
                gain=value - own,
                seconds=1.0,
            )
            for family, configuration, value in trials
        ),
    )


def carried(found: Evidence, space: Space, edits: Mapping[str, Past]) -> PastStudy:
    """Carry a search's evidence into a space as the loop does when it begins one."""
    return PastStudy(name=found.plan_id, trials=carry(found, space, edits)[0])


def _complete(answers: Window, parameters: Parameters, value: float) -> FrozenTrial:
    distributions = {name: answers.space.distributions[name] for name in parameters}
    return create_trial(params=parameters, distributions=distributions, value=value)


def _configuration(parameters: Parameters) -> Configuration:
    family = parameters[FAMILY]
    own = {name.removeprefix(f"{family}."): value for name, value in parameters.items() if name != FAMILY}
    return {**FAMILIES[family].defaults, **own}


def _plain(distribution: BaseDistribution, value: Any) -> Any:  # noqa: ANN401  # a cell of a table
    """Give a value the type that its distribution has; Parquet and missing values turn whole numbers into floats."""
    if isinstance(distribution, CategoricalDistribution):
        return next(choice for choice in distribution.choices if choice == value)
    return int(value) if isinstance(distribution, IntDistribution) else float(value)
