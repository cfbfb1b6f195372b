"""Measure how far columns have moved, and say how far they would seem to have moved by chance alone."""

import os
import warnings
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import chi2

from monitoring.columns import Compared
from recsys.records import ColumnDrift

if TYPE_CHECKING:
    from evidently.core.report import Snapshot

FALSE_ALARMS = 0.001
"""How often a column may seem to have moved although nothing has."""


def measure(compared: Compared, *, max_psi: float) -> tuple[tuple[ColumnDrift, ...], "Snapshot"]:
    """Measure each column's population stability index (PSI) with Evidently.

    With p and q the shares of the reference and of the window in each bin, PSI = sum of (p - q) ln(p / q).

    Args:
        compared: Both windows.
        max_psi: A column whose PSI is over this, and over what chance explains, has moved.

    Returns:
        The columns in their order, and Evidently's report.
    """
    evidently = _evidently()
    thresholds = {name: max(max_psi, chance(compared, name)) for name in compared.names}
    definition = evidently.DataDefinition(numerical_columns=compared.numbers, categorical_columns=compared.categories)
    report = evidently.Report(
        [
            evidently.metrics.ValueDrift(column=name, method="psi", threshold=threshold)
            for name, threshold in thresholds.items()
        ]
    )
    snapshot = report.run(
        evidently.Dataset.from_pandas(compared.current, definition),
        evidently.Dataset.from_pandas(compared.reference, definition),
    )
    moved = {found["config"]["column"]: float(found["value"]) for found in snapshot.dict()["metrics"]}
    columns = tuple(
        ColumnDrift(column=name, method="psi", distance=moved[name], threshold=threshold)
        for name, threshold in thresholds.items()
    )
    return columns, snapshot


def chance(compared: Compared, name: str) -> float:
    """Give the PSI that a column exceeds in `FALSE_ALARMS` of all cases although both windows are drawn alike.

    Of n and m independent events in B bins, PSI is distributed as (1/n + 1/m) times chi-squared with B - 1 degrees of
    freedom (Yurdakul and Naranjo 2020, "Statistical properties of the population stability index").
    """
    before, now = compared.reference[name].dropna(), compared.current[name].dropna()
    quantile = float(chi2.ppf(1 - FALSE_ALARMS, max(_bins(before, now, name in compared.numbers) - 1, 1)))
    return quantile * (1 / len(before) + 1 / len(now))


def _bins(before: pd.Series, now: pd.Series, numbers: bool) -> int:
    """Count the bins that Evidently fills: its own for numbers of more than 20 values, else one for each value."""
    both = pd.concat([before, now])
    if numbers and before.nunique() > 20:
        return int(np.count_nonzero(np.histogram(both, np.histogram_bin_edges(both, "sturges"))[0]))
    return int(both.nunique())


def _evidently() -> ModuleType:
    """Import Evidently, which takes seconds and warns of what its own dependencies will remove."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import_module("evidently.metrics")
        return import_module("evidently")
