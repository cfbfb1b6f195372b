"""Find the request from which on a process is warm.

First requests are slow because memory is touched for the first time, and a runtime may go on settling for long, or not
at all (Barrett et al. 2017, "Virtual Machine Warmup Blows Hot and Cold"). How many they are is seen in the times, where
they change their level, and not fixed beforehand.
"""

import numpy as np
from numpy.typing import NDArray

GROUP = 5  # requests whose median stands for them, so that a single slow one is no level
PENALTY = 3.0  # a change must explain so many times the logarithm of the groups; 2 is what Schwarz's criterion asks


def warm_after(ms: NDArray[np.float64]) -> int:
    """Give how many of the first requests are not like those after them.

    Levels are split where two means explain the logarithms of the times best, by as much as a criterion asks (Yao 1988,
    "Estimating the number of change-points via Schwarz' criterion"), and split again in what follows until nothing
    changes any more.

    Args:
        ms: What each request took, in their order, shape [n].

    Returns:
        A number from 0 to n; n where the times still change at their end, so that nothing is known to be warm.

    >>> warm_after(np.array([9.0] * 10 + [1.0] * 40))
    10
    >>> warm_after(np.array([1.0] * 50))
    0
    """
    n_groups = len(ms) // GROUP
    levels = np.log(np.maximum(np.median(ms[: n_groups * GROUP].reshape(n_groups, GROUP), axis=1), 1e-6))
    begins = 0
    while (at := _change(levels[begins:])) is not None:
        begins += at
        if n_groups - begins < 2:
            return len(ms)
    return begins * GROUP


def _change(levels: NDArray[np.float64]) -> int | None:
    """Give where the level changes, from 1 to n - 1; nothing where it does not."""
    n = len(levels)
    if n < 2:
        return None
    centred = levels - levels.mean()
    left = np.arange(1, n)
    sums = np.cumsum(centred)[:-1]
    explained = sums**2 * (1 / left + 1 / (n - left))  # of the sum of squares, by a split after each
    at = int(np.argmax(explained))
    whole = float(centred @ centred)
    unexplained = max(whole - float(explained[at]), 1e-12 * max(whole, 1e-12))
    if whole <= 1e-9 * n or n * np.log(whole / unexplained) <= PENALTY * np.log(n):
        return None
    return at + 1
