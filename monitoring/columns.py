"""Lay two windows out in the columns that drift compares, with rare values put together."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from recsys.columns import ITEM
from recsys.settings import Column

# No line can declare a column of these names, as they hold spaces.
POPULARITY = "item popularity"
HISTORY = "history length"
SCORE = "incumbent's score"

MISSING = "(missing)"
OTHER = "(other)"

FEWEST = 5
"""Events that a value must be expected to have in the smaller window to be compared on its own (Cochran 1954)."""

TAIL = 0.01
"""Share of the reference's numbers at either end that count as one, so that no outlier stretches the bins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The newest stretch of a dataset's time.

    Shape legend: C cases, S scored cases.
    """

    events: pa.Table  # the columns of feedback
    lengths: NDArray[np.int64]  # [C] how many items each positive event had behind it
    scores: NDArray[np.float32]  # [S] what the incumbent gave the item that was really taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Two windows side by side, in the same columns; a column that is shorter than the others ends in NaN."""

    reference: pd.DataFrame
    current: pd.DataFrame
    numbers: list[str]  # columns whose values are ordered
    categories: list[str]  # columns whose values are only equal or not

    @property
    def names(self) -> list[str]:
        """What is compared: the line's own columns in their order, then what is derived."""
        return [str(name) for name in self.reference.columns]


def compare(columns: Mapping[str, Column], reference: Window, current: Window, *, top_items: int) -> Compared:
    """Lay out both windows.

    Rare values of a category become one, and so do the ends of a number, by what the reference holds. A column that one
    of the windows does not have, or has no value of, is left out; of one that may be missing, it is compared as well
    whether it is.

    Args:
        columns: The line's own.
        reference: What the incumbent was made from.
        current: What is judged.
        top_items: How many items are compared on their own at most.
    """
    before, now = _lay_out(columns, reference), _lay_out(columns, current)
    both = [name for name in before if name in now and before[name].notna().any() and now[name].notna().any()]
    numbers = [name for name in both if pd.api.types.is_float_dtype(before[name])]
    categories = [name for name in both if name not in numbers]
    for name in numbers:
        low, high = before[name].quantile([TAIL, 1 - TAIL])
        before[name], now[name] = before[name].clip(low, high), now[name].clip(low, high)
    for name in categories:
        at_most = top_items if name == POPULARITY else None
        common = _common(before[name], smaller=min(len(before[name]), len(now[name])), at_most=at_most)
        before[name], now[name] = (x.where(x.isin(common), OTHER) for x in (before[name], now[name]))
    return Compared(
        reference=pd.DataFrame({name: before[name] for name in both}),
        current=pd.DataFrame({name: now[name] for name in both}),
        numbers=numbers,
        categories=categories,
    )


def _lay_out(columns: Mapping[str, Column], window: Window) -> dict[str, pd.Series]:
    """Give every column as floats or as strings."""
    laid: dict[str, pd.Series] = {}
    for name, column in columns.items():
        if name not in window.events.column_names:
            continue
        values = window.events[name].to_pandas()
        if column.type == "category":
            laid[name] = values.astype(object).where(values.notna(), MISSING).astype(str)
            continue
        laid[name] = values.astype(float)
        if column.nullable:
            laid[f"{name}, given or not"] = values.notna().map({True: "given", False: MISSING})
    laid[POPULARITY] = window.events[ITEM].to_pandas().astype(str)
    laid[HISTORY] = pd.Series(_octaves(window.lengths), dtype=object)
    laid[SCORE] = pd.Series(window.scores, dtype=float)
    return laid


def _common(values: pd.Series, *, smaller: int, at_most: int | None) -> list[str]:
    """Name the values, most common first, that should have `FEWEST` events even in a window of `smaller` events."""
    counted = values.value_counts().rename_axis("value").reset_index(name="events")
    counted = counted.sort_values(["events", "value"], ascending=[False, True])
    kept = counted[counted["events"] * smaller >= FEWEST * len(values)]["value"].iloc[:at_most]
    return list(kept)


def _octaves(lengths: NDArray[np.int64]) -> list[str]:
    """Name the power of two that each length lies in, as lengths are spread over orders of magnitude.

    >>> _octaves(np.array([0, 1, 2, 3, 4, 200]))
    ['0', '1', '2-3', '2-3', '4-7', '128-255']
    """
    exponents = np.frexp(lengths)[1]  # 2 ** (exponent - 1) <= length < 2 ** exponent
    names = {0: "0", 1: "1"} | {e: f"{2 ** (e - 1)}-{2**e - 1}" for e in range(2, 64)}
    return [names[int(exponent)] for exponent in exponents]
