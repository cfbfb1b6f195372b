"""Replay searches on tables of real trainings: a proposal is answered with the nearest configuration not yet tried."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState, create_trial

from benchmarks import trainings
from recsys.models import FAMILIES
from recsys.tuning.encoding import Encoding
from recsys.tuning.kernel import differences
from recsys.tuning.outcomes import LOST
from recsys.tuning.space import FAMILY, Space

Parameters = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Table:
    """What every configuration reached in one window."""

    name: str
    space: Space
    parameters: list[Parameters]  # by Optuna's names
    values: NDArray[np.float64]  # [n] NDCG@10
    rows: tuple[int, ...]  # of the whole table

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
        """Give the untried configuration that differs least; every parameter counts alike."""
        point = self.encoding.points([parameters])
        apart = sum(
            differences(point[:, column], self.points[:, column], bool(categorical))[0]
            for column, categorical in enumerate(self.encoding.categorical)
        )
        apart = np.where(np.isin(np.arange(len(self.values)), list(tried)), np.inf, apart)
        return int(np.argmin(apart))

    def where(self, kept: Callable[[Parameters], bool]) -> "Table":
        """Keep some configurations."""
        return self.take([row for row, known in zip(self.rows, self.parameters, strict=True) if kept(known)])

    def take(self, rows: Sequence[int]) -> "Table":
        """Keep some rows."""
        at = [self.rows.index(row) for row in rows]
        return Table(self.name, self.space, [self.parameters[n] for n in at], self.values[at], tuple(rows))


@cache
def table(name: str) -> Table:
    """Read the table of a window."""
    found = pd.read_parquet(trainings.TABLES / f"{name}.parquet")
    space = trainings.space()
    parameters = []
    for row in found.to_dict("records"):
        family = str(row["family"])
        configuration: dict[str, Any] = {n: _plain(d, row[f"{family}.{n}"]) for n, d in space.families[family].items()}
        listed = space.parameters(family, {**FAMILIES[family].defaults, **configuration})
        assert listed is not None, f"{name}: {configuration} lies outside the space it was drawn from."
        parameters.append(listed)
    return Table(name, space, parameters, found[f"ndcg_{trainings.PARTS}"].to_numpy(), tuple(range(len(found))))


def search(
    answers: Table,
    sampler: BaseSampler,
    *,
    limit: int,
    first: Sequence[Parameters] = (),
    imported: Sequence[tuple[Parameters, float]] = (),
    space: Space | None = None,
    until: float | None = None,
) -> list[int]:
    """Run one search on a table, one trial after another.

    Args:
        answers: Where the values come from.
        sampler: Proposes.
        limit: Most trials.
        first: Configurations that are tried before the sampler is asked.
        imported: Trials of earlier searches that are put into the study with their old values.
        space: Where to look, if not in the table's own space.
        until: Value at which the search may stop.

    Returns:
        Rows of the table, in the order in which they were tried.
    """
    searched = space or answers.space
    study = optuna.create_study(direction="maximize", sampler=sampler)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for parameters, value in imported:
        study.add_trial(_complete(searched, parameters, value))
    tried: list[int] = []
    for number in range(min(limit, len(answers.values))):
        if number < len(first):
            proposed = first[number]
        else:
            trial = study.ask()
            searched.suggest(trial)
            proposed = trial.params
            # The study learns what was really tried, not what was proposed.
            trial.set_user_attr(LOST, True)
            study.tell(trial, state=TrialState.FAIL)
        row = answers.nearest(proposed, set(tried))
        tried.append(row)
        study.add_trial(_complete(searched, answers.parameters[row], float(answers.values[row])))
        if until is not None and answers.values[row] >= until:
            break
    return tried


def needed(answers: Table, tried: Sequence[int], limit: int) -> int:
    """Count the trials until the target was reached; `limit` + 1 where it never was."""
    there = np.flatnonzero(answers.values[list(tried)] >= answers.target)
    return int(there[0]) + 1 if len(there) else limit + 1


def _complete(space: Space, parameters: Parameters, value: float) -> optuna.trial.FrozenTrial:
    distributions: dict[str, BaseDistribution] = {name: space.distributions[name] for name in parameters}
    return create_trial(params=parameters, distributions=distributions, value=value)


def _plain(distribution: BaseDistribution, value: Any) -> object:  # noqa: ANN401  # a cell of a table
    """Give a value the type that its distribution has; Parquet and missing values turn whole numbers into floats."""
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return next(choice for choice in distribution.choices if choice == value)
    return int(value) if isinstance(distribution, optuna.distributions.IntDistribution) else float(value)


__all__ = ["FAMILY", "Parameters", "Table", "needed", "search", "table"]
