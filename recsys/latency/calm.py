"""Tell calm rounds from those in which others used the machine.

Time during which others have our core is taken off what is timed, but they leave their mark: caches are cold after
them, and the clock of the core may have changed. Whether a round counts is told by how long others had the core in it
and never by what requests took, so that setting rounds aside favours nobody.
"""

import numpy as np
from numpy.typing import NDArray

QUIET = 0.01  # share of a round that others may have the core without disturbing it


def calm(waited_ms: NDArray[np.float64], own_ms: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Choose rounds that were hardly disturbed: at least half of all, however crowded the machine is.

    Args:
        waited_ms: How long others had the core in each round, shape [R].
        own_ms: How long we had it, shape [R].

    Returns:
        Whether each round counts, shape [R].

    >>> calm(np.array([0.0, 5.0, 0.1, 0.0]), np.array([30.0, 30.0, 30.0, 30.0])).tolist()
    [True, False, True, True]
    >>> calm(np.array([9.0, 9.0, 9.0, 9.0]), np.array([30.0, 30.0, 30.0, 30.0])).tolist()
    [True, True, True, True]
    """
    shares = waited_ms / np.maximum(waited_ms + own_ms, 1e-9)
    chosen: NDArray[np.bool_] = shares <= max(QUIET, float(np.median(shares)))
    return chosen
