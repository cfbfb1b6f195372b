"""Say how far a changed graph ranks as the graph does that it was made from.

NDCG sees only where the item stood that came next; both measures here see every item, so they tell damage before it
costs anybody anything.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata


def top_overlap(recommended: NDArray[np.int64], reference: NDArray[np.int64]) -> float:
    """Give the mean share of the reference's lists that the other lists hold too, in whatever order.

    Args:
        recommended: Item ids, shape [C, k], 0 where there was nothing left to recommend.
        reference: The same of the other graph.

    >>> top_overlap(np.array([[1, 2, 3, 4]]), np.array([[4, 9, 2, 8]]))
    0.5
    """
    shares = [
        len(np.intersect1d(row[row > 0], other[other > 0])) / int(np.count_nonzero(other))
        for row, other in zip(recommended, reference, strict=True)
        if other.any()
    ]
    return float(np.mean(shares)) if shares else 1.0


def rank_agreement(scores: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Give Spearman's rank correlation with the reference, ties sharing their mean rank, in the mean over rows.

    A row that is constant in one of the two and not in the other agrees in nothing, 0; in both, wholly, 1.

    Args:
        scores: Of some items, such as those of the tail, shape [C, T].
        reference: Of the same items by the other graph, shape [C, T].

    >>> scores, reference = [[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]], [[10.0, 20.0, 15.0], [1.0, 2.0, 3.0]]
    >>> round(rank_agreement(np.array(scores), np.array(reference)), 6)
    0.25
    """
    if not scores.size:
        return 1.0
    found = [rankdata(each, axis=1).astype(np.float64) for each in (scores, reference)]
    apart = [each - each.mean(1, keepdims=True) for each in found]
    lengths = [np.sqrt((each**2).sum(1)) for each in apart]
    norm = lengths[0] * lengths[1]
    both_constant = (lengths[0] == 0) & (lengths[1] == 0)
    agreed = np.where(norm > 0, (apart[0] * apart[1]).sum(1) / np.where(norm > 0, norm, 1.0), both_constant)
    return float(agreed.mean())
