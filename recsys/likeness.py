"""Say how unlike the items of a list are, by who had which of them before the holdout, whatever a model thinks of them.

Two items are as alike as the cosine of their users: how many had both, divided by the geometric mean of how many had
each (Sarwar et al. 2001, "Item-Based Collaborative Filtering Recommendation Algorithms"). The mean of 1 less it over
all pairs of a list is the list's diversity (Ziegler et al. 2005, "Improving Recommendation Lists Through Topic
Diversification"). It needs nothing but interactions, and is the same for all models.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from recsys.sequences import Sequences

USERS = 10_000  # spread evenly over all, of whom co-occurrence is counted
NEWEST = 50  # items of each of them; the square of it bounds what a user costs


@dataclass(frozen=True, slots=True)
class Likeness:
    """How many users had each item, and each pair of items."""

    together: sparse.csr_array  # [N + 1, N + 1] users who had both; on the diagonal, who had the item

    @classmethod
    def among(cls, items: NDArray[np.int64], before: Sequences) -> "Likeness":
        """Count co-occurrence.

        Args:
            items: Between which; of others nothing is known.
            before: What users had before the holdout.
        """
        users = np.unique(np.linspace(0, before.n_users - 1, min(before.n_users, USERS)).round().astype(np.int64))
        ends = before.offsets[users + 1]
        begins = np.maximum(before.offsets[users], ends - NEWEST)
        lengths = ends - begins
        rows = np.repeat(np.arange(len(users)), lengths)
        at = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths) + np.repeat(begins, lengths)
        had = before.items[at]
        kept = np.isin(had, items) & (had > 0)
        shape = (len(users), before.n_items + 1)
        once = np.unique(np.stack([rows[kept], had[kept]]), axis=1)
        table = sparse.csr_array((np.ones(once.shape[1]), (once[0], once[1])), shape=shape)
        return cls((table.T @ table).tocsr())

    def unlike(self, lists: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give the diversity of each list.

        Args:
            lists: Item ids, 0 where there is none, shape [C, k].

        Returns:
            Shape [C]; no number where a list has fewer than two items. Items that no user had are like no other.

        >>> had = Sequences(items=np.array([1, 2, 1, 3], np.int32), times=np.arange(4), offsets=np.array([0, 2, 4]),
        ...                 n_items=3)
        >>> Likeness.among(np.array([1, 2, 3]), had).unlike(np.array([[1, 2, 3], [2, 3, 0]])).round(3)
        array([0.529, 1.   ])
        """
        total, pairs = np.zeros(len(lists)), np.zeros(len(lists))
        for one, other in combinations(range(lists.shape[1]), 2):
            there = (lists[:, one] > 0) & (lists[:, other] > 0)
            if there.any():
                total[there] += 1 - self._cosine(lists[there, one], lists[there, other])
                pairs += there
        mean: NDArray[np.float64] = np.divide(total, pairs, out=np.full(len(lists), np.nan), where=pairs > 0)
        return mean

    def _cosine(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.float64]:
        had = self.together.diagonal()
        both = np.asarray(self.together[one, other]).ravel()
        apart = np.sqrt(had[one] * had[other])
        cosine: NDArray[np.float64] = np.divide(both, apart, out=np.zeros(len(one)), where=apart > 0)
        return cosine
