"""Let Syne Tune's quantile-based transfer propose configurations (Salinas, Shen and Perrone 2020, ICML)."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial
from syne_tune.config_space import Domain, choice, lograndint, loguniform, randint, uniform
from syne_tune.optimizer.schedulers.transfer_learning.quantile_based.quantile_based_searcher import (
    QuantileBasedSurrogateSearcher,
)
from syne_tune.optimizer.schedulers.transfer_learning.transfer_learning_task_evaluation import (
    TransferLearningTaskEvaluations,
)

from benchmarks._replay import Window
from recsys.tuning.encoding import value
from recsys.tuning.evidence import PastStudy

METRIC = "loss"  # it minimises
ROW = "row"  # of the table, beside the parameters of a proposal


class QuantileSampler(BaseSampler):
    """Syne Tune's searcher behind Optuna's interface.

    It chooses among the configurations of a window, each once. Its space is flat: a parameter that does not exist in a
    configuration takes the middle of its range there.

    Args:
        past: Earlier searches.
        answers: The window.
        seed: Of what it draws.
    """

    def __init__(self, past: Sequence[PastStudy], answers: Window, *, seed: int) -> None:
        self._space = answers.space.distributions
        self._answers = answers
        self._proposed: set[int] = set()
        domains = {name: _domain(distribution) for name, distribution in self._space.items()}
        evaluations = {study.name: _evaluations(study, self._space, domains) for study in past}
        rows = [_flat(parameters, self._space) for parameters in answers.parameters]
        self._searcher = _Searcher(domains, evaluations, drawn=_drawn(tuple(self._space.items())), rows=rows, seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Propose everything at once."""
        return self._space

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Ask the searcher, which learns nothing from the new trials, until it names something new."""
        while (row := int(self._searcher.suggest()[ROW])) in self._proposed:
            pass
        self._proposed.add(row)
        return dict(self._answers.parameters[row])

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401  # as Optuna has it
        """Refuse: all parameters are proposed together."""
        raise ValueError(f"{param_name} must be in the searcher's space, but is not.")


class _Searcher(QuantileBasedSurrogateSearcher):
    """The searcher as it is, except for what it chooses among: the rows of a table in place of 100,000 draws."""

    def __init__(
        self,
        domains: dict[str, Domain],
        past: dict[str, TransferLearningTaskEvaluations],
        *,
        drawn: Sequence[dict[str, Any]],
        rows: Sequence[dict[str, Any]],
        seed: int,
    ) -> None:
        self._drawn = iter(drawn)
        logging.getLogger("syne_tune").setLevel(logging.WARNING)
        with warnings.catch_warnings(), redirect_stdout(StringIO()):  # it tells how long each of its steps took
            warnings.simplefilter("ignore")
            super().__init__(domains, past, random_seed=seed)
        table = pd.DataFrame(rows)
        self.mu_pred = self.model_pipeline.predict(table).reshape(-1, 1)
        self.sigma_pred = np.full_like(self.mu_pred, float(self.sigma_pred.flat[0]))  # type: ignore[has-type]
        self.X_candidates = table.assign(**{ROW: range(len(table))})

    def _sample_random_config(self) -> dict[str, Any]:
        return next(self._drawn)


@cache
def _drawn(space: tuple[tuple[str, BaseDistribution], ...]) -> list[dict[str, Any]]:
    rng = np.random.RandomState(0)
    columns = {name: _domain(distribution).sample(size=100_000, random_state=rng) for name, distribution in space}
    return pd.DataFrame(columns).to_dict("records")  # type: ignore[return-value]


def _domain(distribution: BaseDistribution) -> Domain:
    if isinstance(distribution, CategoricalDistribution):
        return choice(list(distribution.choices))
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if isinstance(distribution, IntDistribution):
        return (lograndint if distribution.log else randint)(distribution.low, distribution.high)
    return (loguniform if distribution.log else uniform)(distribution.low, distribution.high)


def _evaluations(
    study: PastStudy, space: Mapping[str, BaseDistribution], domains: dict[str, Domain]
) -> TransferLearningTaskEvaluations:
    known = [trial for trial in study.trials if trial.value is not None]
    rows = [_flat(trial.parameters, space) for trial in known]
    losses = np.array([-float(trial.value) for trial in known if trial.value is not None])
    return TransferLearningTaskEvaluations(
        configuration_space=domains,
        hyperparameters=pd.DataFrame(rows),
        objectives_names=[METRIC],
        objectives_evaluations=losses.reshape(-1, 1, 1, 1),
    )


def _flat(parameters: Mapping[str, Any], space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    return {name: parameters.get(name, _middle(distribution)) for name, distribution in space.items()}


def _middle(distribution: BaseDistribution) -> object:
    return value(distribution, 0.0 if isinstance(distribution, CategoricalDistribution) else 0.5)
