"""Test whether a candidate is better or worse than the incumbent by more than a margin, users being what is drawn.

A user's cases are alike, so users and not cases count as independent (clusters). Whether the candidate's mean over the
cases exceeds the incumbent's by more than a margin is asked of the users' totals: for a margin of m, whether
(candidate - incumbent - m cases) has a mean above 0. That is a test of one mean, and no ratio is approximated (Fieller
1954, "Some Problems in Interval Estimation").

The mean is studentised and corrected for skewness (Hall 1992, "On the Removal of Skewness by Transformation"), but only
where that makes the test stricter: levels of one in ten thousand lie so far out that a sample's own skewness says too
little to promise more by it. `docs/decisions/a-years-errors.md` has what was measured of this and of other tests.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, product
from math import prod, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from recsys.records import Estimate, Paired

Weights = tuple[float, float, float]
"""Of a user's totals: the candidate's, the incumbent's, and the number of cases."""

_EXACT = 1e-12  # of the way to an interval's end


@dataclass(frozen=True, slots=True)
class Scale:
    """In what a margin is said: it enters the weights of a user's totals in proportion."""

    at_zero: Weights  # weights of candidate, incumbent and cases without a margin
    slope: Weights  # what a margin of 1 takes from them
    most: float  # no difference is larger; where an interval has no end, it is said to end here

    def weights(self, margin: float) -> Weights:
        """Give the weights under which the totals have a mean above 0 if the margin is exceeded."""
        candidate, incumbent, cases = (at - margin * by for at, by in zip(self.at_zero, self.slope, strict=True))
        return candidate, incumbent, cases


ABSOLUTE = Scale((1.0, -1.0, 0.0), (0.0, 0.0, 1.0), most=1.0)
"""Candidate less incumbent, in units of a metric within 0 and 1."""

RELATIVE = Scale((1.0, -1.0, 0.0), (0.0, 1.0, 0.0), most=99.0)
"""Candidate less incumbent, as a share of the incumbent."""


class Tails(NamedTuple):
    """How likely at most a difference as large is by chance, if there is none beyond the margin."""

    better: float  # p of the candidate's exceeding the margin
    worse: float  # p of its falling short of it


def pair(candidate: NDArray[np.float64], incumbent: NDArray[np.float64], users: NDArray[np.int64]) -> Paired:
    """Sum what two models reached on the same cases.

    Args:
        candidate: Its metric per case, shape [C].
        incumbent: Its metric per case, shape [C].
        users: User of each case, shape [C].
    """
    _, which = np.unique(users, return_inverse=True)
    columns = (candidate, incumbent, np.ones(len(users)))
    totals = np.array([np.bincount(which, column) for column in columns])  # [3, U]
    return Paired(users=totals.shape[1], first=_sums(totals, 1), second=_sums(totals, 2), third=_sums(totals, 3))


def tails(paired: Paired, scale: Scale, margin: float) -> Tails:
    """Test a margin.

    Args:
        paired: What was measured.
        scale: Of the margin.
        margin: Above 0, the candidate must be so much better; below 0, it may be so much worse.

    Returns:
        The two one-sided p-values; 1 where fewer than two users, or no difference between users, tell nothing.
    """
    found = _studentised(paired, scale.weights(margin))
    if found is None:
        return Tails(better=1.0, worse=1.0)
    t, skewness = found
    degrees = paired.users - 1
    return Tails(
        better=float(stdtr(degrees, -_corrected(t, min(skewness, 0.0), paired.users))),
        worse=float(stdtr(degrees, _corrected(t, max(skewness, 0.0), paired.users))),
    )


def estimate(paired: Paired, scale: Scale, *, level: float) -> Estimate:
    """Give the difference with the interval of all margins that the tests at `level` leave open on both sides.

    The candidate is shown to exceed a margin at `level` where the whole interval lies at or above it.

    Args:
        paired: What was measured.
        scale: Of what is shown.
        level: Of each of the two one-sided tests, so that 1 less twice of it is the interval's confidence.

    Raises:
        ValueError: The level lies outside (0, 0.5), or there is nothing that the candidate could be relative to.
    """
    if not 0 < level < 0.5:
        raise ValueError(f"level must lie in (0, 0.5) but is {level}.")
    centre, error = _centre(paired, scale)
    if _studentised(paired, scale.weights(centre)) is None:
        return Estimate(value=centre, low=centre, high=centre)
    low = _first(lambda by: tails(paired, scale, centre - by).better <= level, step=error, most=centre + 1)
    high = _first(lambda by: tails(paired, scale, centre + by).worse <= level, step=error, most=scale.most - centre)
    return Estimate(value=centre, low=centre - low, high=centre + high)


def detectable(paired: Paired, scale: Scale, *, margin: float, level: float, power: float) -> float:
    """Give the smallest true loss that a test for more than `margin` would find so surely.

    By the normal approximation: margin + (z of the level + z of the power) standard errors, the larger of those with
    the users' spread around what was found and around the margin. Users who all lost the same spread around neither.

    Args:
        paired: What was measured.
        scale: Of the margin.
        margin: Loss that is allowed, at least 0.
        level: Of the test.
        power: Chance to find it.

    Returns:
        A loss, in units of the scale; that of fewer than two users, or of users who are all alike, is the largest that
        can be said.
    """
    at_margin = scale.weights(-margin)
    if _studentised(paired, at_margin) is None:
        return scale.most
    n, against = paired.users, _moment(paired.first, scale.slope, 1)
    mean, square = (_moment(sums, at_margin, order) / n for order, sums in ((1, paired.first), (2, paired.second)))
    error: float = max(_centre(paired, scale)[1], ((square - mean**2) / (n - 1)) ** 0.5 / (against / n))
    degrees = paired.users - 1
    return min(margin + float(stdtrit(degrees, 1 - level) + stdtrit(degrees, power)) * error, scale.most)


def _sums(totals: NDArray[np.float64], order: int) -> tuple[float, ...]:
    chosen = combinations_with_replacement(range(len(totals)), order)
    return tuple(float(np.prod(totals[list(which)], axis=0).sum()) for which in chosen)


def _studentised(paired: Paired, weights: Weights) -> tuple[float, float] | None:
    """Give t and the skewness of the weighted totals; None where their spread is nothing but rounding."""
    n = paired.users
    if n < 2:
        return None
    mean = _moment(paired.first, weights, 1) / n
    square = _moment(paired.second, weights, 2) / n
    cube = _moment(paired.third, weights, 3) / n
    variance = square - mean**2
    size = max(map(abs, weights)) ** 2 * max(paired.second) / n
    if variance <= 1e-12 * size:
        return None
    skewness = (cube - 3 * mean * square + 2 * mean**3) / variance**1.5
    return mean / (variance / (n - 1)) ** 0.5, skewness


def _moment(sums: Sequence[float], weights: Weights, order: int) -> float:
    """Sum a power of the weighted totals over users."""
    found = 0.0
    for (which, times), value in zip(_TERMS[order], sums, strict=True):
        found += times * prod(weights[at] for at in which) * value
    return found


def _terms(order: int) -> tuple[tuple[tuple[int, ...], int], ...]:
    """List the products in a power of three weighted totals, and how often each occurs."""
    times = Counter(tuple(sorted(which)) for which in product(range(3), repeat=order))
    return tuple((which, times[which]) for which in combinations_with_replacement(range(3), order))


_TERMS = {order: _terms(order) for order in (1, 2, 3)}


def _corrected(t: float, skewness: float, n: int) -> float:
    """Remove the skewness of t by a cubic that never decreases (Hall 1992, section 2)."""
    a = skewness / (3 * sqrt(n))
    return t + a * t**2 + a**2 * t**3 / 3 + a / 2


def _centre(paired: Paired, scale: Scale) -> tuple[float, float]:
    """Give the margin at which the weighted totals cancel out, and its standard error."""
    gained = _moment(paired.first, scale.at_zero, 1)
    against = _moment(paired.first, scale.slope, 1)
    if against <= 0:
        raise ValueError("There must be something to be relative to, but the incumbent's metric is 0 in every case.")
    centre = gained / against
    n = paired.users
    variance = max(_moment(paired.second, scale.weights(centre), 2) / n, 0.0)  # their mean is 0
    return centre, (variance / max(n - 1, 1)) ** 0.5 / (against / n)


def _first(holds: Callable[[float], bool], *, step: float, most: float) -> float:
    """Find how far from 0 something begins to hold: outward in doubled steps, then by halves."""
    before, after = 0.0, min(step, most)
    while not holds(after):
        if after >= most:
            return most
        before, after = after, min(2 * after, most)
    while after - before > _EXACT * after:
        middle = (before + after) / 2
        before, after = (before, middle) if holds(middle) else (middle, after)
    return after
