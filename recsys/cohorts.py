"""Find which of a holdout's cases belong to each group of the line's cohorts, and pair the models within it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recsys.dataset import Frozen
from recsys.records import CohortResult
from recsys.sequences import Cases
from recsys.settings import Cohort
from recsys.significance import pair

NONE = "none"
NO_CASE = "the holdout has no case in it"
"""The group of cases whose column holds no value."""

_DAY = 86_400_000_000  # microseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdout:
    """The cases of a holdout, and what tells them apart."""

    cases: Cases
    frozen: Frozen  # what lies before it
    begins: int  # microseconds since 1970
    contexts: pa.Table | None  # row c is case c; None: not frozen with them

    @property
    def activity(self) -> NDArray[np.float64]:
        """Events of the case's user before the holdout. Shape [C]."""
        return self._of_users(np.diff(self.frozen.before_holdout.offsets).astype(np.float64))

    @property
    def tenure(self) -> NDArray[np.float64]:
        """Days from the first event of the case's user to the holdout, 0 of who came later. Shape [C]."""
        before = self.frozen.before_holdout
        return self._of_users((self.begins - before.times[before.offsets[:-1]]) / _DAY)

    @property
    def popularity(self) -> NDArray[np.str_]:
        """Whether the item that was asked for belongs to the head of the catalogue. Shape [C]."""
        return np.where(self.frozen.head[self.cases.targets], *_SIDES)

    def _of_users(self, known: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give each case the value of its user; users are numbered by their first event, so new ones come last."""
        n_users = self.cases.sequences.n_users
        return np.concatenate([known, np.zeros(n_users - len(known))])[self.cases.users]


def pair_cohorts(
    cohorts: Mapping[str, Cohort],
    holdout: Holdout,
    candidate: NDArray[np.float64],
    incumbent: NDArray[np.float64],
    values: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> tuple[CohortResult, ...]:
    """Pair candidate and incumbent in each group of each cohort; one without a case is there and says so.

    Args:
        cohorts: As the line declares them, by name.
        holdout: Whose cases.
        candidate: Its metric per case, shape [C].
        incumbent: Its metric per case, shape [C].
        values: Which values the line declares of a column.
    """
    users = holdout.cases.users
    found = []
    for name, cohort in cohorts.items():
        if cohort.column is not None and _lacks(holdout.contexts, cohort.column):
            missing = f"the dataset was frozen without {cohort.column} of the holdout's events"
            found.append(CohortResult(cohort=name, group="", paired=None, missing=missing))
            continue
        for group, inside in _groups(cohort, holdout, values.get(cohort.column or "", ())):
            if not inside.any():
                found.append(CohortResult(cohort=name, group=group, paired=None, missing=NO_CASE))
                continue
            paired = pair(candidate[inside], incumbent[inside], users[inside])
            found.append(CohortResult(cohort=name, group=group, paired=paired))
    return tuple(found)


def _lacks(contexts: pa.Table | None, column: str) -> bool:
    return contexts is None or column not in contexts.column_names


def _groups(cohort: Cohort, holdout: Holdout, declared: Sequence[str]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Give the name of each group and which cases are in it, shape [C]."""
    if cohort.column is not None and holdout.contexts is not None:
        column = holdout.contexts[cohort.column]
        told = column.cast(pa.float64()) if cohort.bounds else pc.fill_null(column.cast(pa.string()), NONE)
        values = told.to_numpy()
    else:
        values = _BY[cohort.by or ""](holdout)
        declared = _SIDES if cohort.by == "popularity" else ()
    yield from _between(values, cohort.bounds) if cohort.bounds else _alike(values, declared)


_BY: Mapping[str, Callable[[Holdout], NDArray]] = {
    "activity": lambda holdout: holdout.activity,
    "tenure": lambda holdout: holdout.tenure,
    "popularity": lambda holdout: holdout.popularity,
}


_SIDES = ("head", "tail")


def _alike(labels: NDArray, declared: Sequence[str]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    found = {str(label): label for label in np.unique(labels)}
    for name in sorted({*found, *declared}):
        yield name, labels == found.get(name, name)


def _between(values: NDArray[np.float64], bounds: Sequence[float]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Divide at `bounds`, each of which begins a group; where there is no number the group is called none."""
    names = [
        f"under {bounds[0]:g}",
        *(f"{low:g} to under {high:g}" for low, high in pairwise(bounds)),
        f"{bounds[-1]:g} and more",
    ]
    which = np.where(np.isnan(values), len(names), np.digitize(values, bounds))
    for at, name in enumerate([*names, NONE]):
        inside = which == at
        if name != NONE or inside.any():
            yield name, inside
