"""Lay out trials at two levels of each knob, so that pairs of knobs can be told apart with few of them.

Each level of a knob stands in half of the runs, and each pair of levels in a quarter of them, so what a knob or a pair
does is the difference of two means over all runs (Box, Hunter and Hunter 2005, "Statistics for Experimenters", chapters
5 and 6). Up to four knobs take every combination. Five take the half of them in which the fifth's level is the product
of the others': resolution V, in which a pair is mixed up with three knobs together at least, and never with another
pair or a single knob.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution

from recsys.records import Configuration
from recsys.tuning.encoding import place, value
from recsys.tuning.space import Value

RUNS: Mapping[int, int] = MappingProxyType({2: 4, 3: 8, 4: 16, 5: 16})
"""How many runs tell all pairs of so many knobs apart."""

FEWEST, MOST = 2, 4  # repeats of the incumbent with other seeds, which say what chance does
REACH = 0.25  # of a range, from the incumbent to either level

Levels = Mapping[str, tuple[Value, Value]]


def knobs_for(trials: int) -> int:
    """Say how many knobs a block of so many trials can tell apart at most; 0 where it is too small for any.

    >>> [knobs_for(trials) for trials in (5, 6, 9, 10, 17, 18, 40)]
    [0, 2, 2, 3, 3, 5, 5]
    """
    return max((knobs for knobs, runs in RUNS.items() if runs + FEWEST <= trials), default=0)


def design(knobs: int) -> NDArray[np.int64]:
    """Give the level of each knob in each run, -1 or 1. Shape [runs, knobs].

    >>> design(2).tolist()
    [[-1, -1], [-1, 1], [1, -1], [1, 1]]
    """
    free = min(knobs, 4)
    full = np.array(list(product((-1, 1), repeat=free)))
    return full if knobs == free else np.column_stack([full, full.prod(1)])


def runs(levels: Levels) -> list[dict[str, Value]]:
    """Give the values of the knobs in each run."""
    return [
        {name: pair[(level + 1) // 2] for (name, pair), level in zip(levels.items(), row, strict=True)}
        for row in design(len(levels)).tolist()
    ]


def levels(distribution: BaseDistribution, now: Value) -> tuple[Value, Value] | None:
    """Give a value on either side of the one that there is now, or nothing where there are no two.

    Of numbers these lie a quarter of the range off, and of listed ones they are the neighbours; near an end both move.
    Of other choices they are the present one and the next.
    """
    if isinstance(distribution, CategoricalDistribution):
        return _of_choices(distribution.choices, now)  # type: ignore[arg-type]
    at = place(distribution, now)
    middle = float(np.clip(0.5 if np.isnan(at) else at, REACH, 1 - REACH))
    low, high = value(distribution, middle - REACH), value(distribution, middle + REACH)
    if low == high:
        low, high = value(distribution, 0.0), value(distribution, 1.0)
    return (low, high) if low != high else None  # type: ignore[return-value]


def _of_choices(choices: Sequence[Value], now: Value) -> tuple[Value, Value] | None:
    if len(choices) < 2:
        return None
    numbers = all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in choices)
    known = sorted(choices) if numbers else list(choices)
    at = known.index(now) if now in known else 0
    if not numbers:
        return known[at], known[(at + 1) % len(known)]
    return known[max(at - 1, 0)], known[min(at + 1, len(known) - 1)]


def changed(configuration: Configuration, run: Mapping[str, Value]) -> Configuration:
    """Give the configuration of a run."""
    return {**configuration, **run}
