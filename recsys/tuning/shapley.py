"""Divide what several changes do together among them, whatever the order in which they are made.

The share of a change is what it adds, in the mean over all orders in which the changes could be made one after the
other (Shapley 1953, "A value for n-person games"). Shares sum to what all changes do together.

Letters for shapes: n changes, M sets of changes.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import factorial
from typing import Self

import numpy as np
from numpy.typing import NDArray

EXACT = 8  # changes up to which all orders count: 256 sets
ORDERS = 200  # that are drawn above that; each also counts backwards


@dataclass(frozen=True, slots=True, eq=False)
class Game:
    """The sets of changes that must be valued, and how their values make shares.

    Args:
        sets: Which changes each set has, the empty set first, the whole last, shape [M, n].
        weights: Shares are `weights @ values`, shape [n, M]. They are linear, so a covariance of the values gives one
            of the shares.
        orders: How many orders were drawn; 0: all of them count.
    """

    sets: NDArray[np.bool_]
    weights: NDArray[np.float64]
    orders: int

    @classmethod
    def of(cls, n: int, *, seed: int) -> Self:
        """Lay out the game of `n` changes; above `EXACT` of them, orders are drawn.

        >>> game = Game.of(2, seed=0)
        >>> game.sets.tolist()
        [[False, False], [True, False], [False, True], [True, True]]
        >>> (game.weights @ [0.0, 1.0, 3.0, 8.0]).tolist()  # alone they do 1 and 3, together 8
        [3.0, 5.0]
        """
        return cls._exact(n) if n <= EXACT else cls._drawn(n, np.random.default_rng(seed))

    @classmethod
    def _exact(cls, n: int) -> Self:
        sets = (np.arange(2**n)[:, None] >> np.arange(n)) % 2 == 1
        sizes = sets.sum(1)
        weights = np.zeros((n, len(sets)))
        for change in range(n):
            for place in np.flatnonzero(~sets[:, change]):
                orders = factorial(int(sizes[place])) * factorial(n - int(sizes[place]) - 1) / factorial(n)
                weights[change, place] -= orders
                weights[change, place + 2**change] += orders
        return cls(sets, weights, 0)

    @classmethod
    def _drawn(cls, n: int, rng: np.random.Generator) -> Self:
        """Count drawn orders and the same backwards, in which what comes late in one comes early in the other."""
        drawn = [rng.permutation(n) for _ in range(ORDERS // 2)]
        numbers: dict[bytes, int] = {np.zeros(n, bool).tobytes(): 0}
        steps: list[tuple[int, int, int]] = []
        for order in [*drawn, *(order[::-1] for order in drawn)]:
            # The sets that the order goes through, one change more each.
            through = np.tril(np.ones((n + 1, n), bool), -1)[:, np.argsort(order)]
            places = [numbers.setdefault(each.tobytes(), len(numbers)) for each in through]
            steps += [(int(change), a, b) for change, (a, b) in zip(order, pairwise(places), strict=True)]
        whole = numbers[np.ones(n, bool).tobytes()]
        order_of = [*(place for place in range(len(numbers)) if place != whole), whole]
        weights = np.zeros((n, len(numbers)))
        for change, a, b in steps:
            weights[change, a] -= 1 / ORDERS
            weights[change, b] += 1 / ORDERS
        sets = np.array([np.frombuffer(each, bool) for each in numbers])
        return cls(sets[order_of], weights[:, order_of], ORDERS)
