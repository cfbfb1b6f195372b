"""Define what records of every kind are made of."""

from collections.abc import Mapping
from dataclasses import dataclass

Configuration = Mapping[str, int | float | str | bool]
"""A family's parameters by name, training parameters included."""

MIB = 2**20  # bytes

Limits = tuple[int | float | str | bool, ...]
"""The two ends of a range, or choices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its confidence interval."""

    value: float
    low: float
    high: float
