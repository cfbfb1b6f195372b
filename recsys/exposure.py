"""Measure what two models show to whom: how much of the catalogue, how far into its tail, how diverse, how popular.

All of it is kept as sums over users, of which any margin can be tested at any level, as of quality. Tail share,
diversity and popularity are means over the lists that were shown. Coverage is not: how many items anybody is shown
grows with the users, a bootstrap draws too few different ones and finds too little of it, and its spread is too small.
So coverage is taken at as many users as there are, the same for both models, and its spread by the jackknife over
users: leaving one out loses what nobody else is shown. For any function of independent users that is no less than the
true spread in the mean (Efron and Stein 1981, "The Jackknife Estimate of Variance").
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from recsys.dataset import Frozen
from recsys.likeness import Likeness
from recsys.metrics import Coverage, Evaluation
from recsys.records import ExposureResult
from recsys.significance import pair

COVERAGE, TAIL_SHARE, DIVERSITY, POPULARITY = MEASURES = ("coverage", "tail share", "diversity", "popularity")


def compare(candidate: Evaluation, incumbent: Evaluation, frozen: Frozen) -> tuple[ExposureResult, ...]:
    """Measure what two models showed on the same cases, by what was known before the holdout.

    Args:
        candidate: What it recommended.
        incumbent: What it recommended for the same cases.
        frozen: Popularity, head and co-occurrence of the items.

    Returns:
        One result for each of `MEASURES`; only coverage where no list holds two items.
    """
    results = [_coverage(candidate, incumbent, n_items=frozen.before_holdout.n_items)]
    for measure, of in _per_list(candidate, incumbent, frozen).items():
        theirs, ours = of(candidate.recommended), of(incumbent.recommended)
        known = np.isfinite(theirs) & np.isfinite(ours)
        if known.any():
            results.append(
                ExposureResult(
                    measure=measure,
                    candidate=float(theirs[known].mean()),
                    incumbent=float(ours[known].mean()),
                    paired=pair(theirs[known], ours[known], candidate.users[known]),
                )
            )
    return tuple(results)


def popularity(frozen: Frozen) -> NDArray[np.float64]:
    """Give how popular each item was before the holdout, on a logarithmic scale: 0 nobody, 1 the most. Shape [N + 1].

    >>> np.log1p([0, 1, 3]) / np.log1p(3)
    array([0. , 0.5, 1. ])
    """
    counts = np.bincount(frozen.before_holdout.items, minlength=frozen.before_holdout.n_items + 1)
    counts[0] = 0
    scale: NDArray[np.float64] = np.log1p(counts) / max(np.log1p(counts.max()), 1e-12)
    return scale


def leaving_out(lists: NDArray[np.int64], users: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give each user a number, so that their mean is how many items are shown and spreads as the jackknife says.

    Args:
        lists: Item ids, 0 where there is none, shape [C, k].
        users: User of each case, shape [C].

    Returns:
        For each user in the order of ids, how many items are shown to anybody, and U times how many more than the mean
        of users only this one is shown (Tukey's pseudo-values without their shift). Shape [U].

    >>> leaving_out(np.array([[1, 2], [1, 3], [3, 0]]), np.array([0, 1, 1]))
    array([3., 3.])
    >>> leaving_out(np.array([[1, 2], [1, 0]]), np.array([0, 1]))
    array([3., 1.])
    """
    known, which = np.unique(users, return_inverse=True)
    shown = np.stack([lists.ravel(), np.repeat(which, lists.shape[1])])
    items, to = np.unique(shown[:, lists.ravel() > 0], axis=1)
    of = np.bincount(items) if len(items) else np.zeros(1, np.int64)
    alone = np.bincount(to[of[items] == 1], minlength=len(known)).astype(np.float64)
    given: NDArray[np.float64] = np.count_nonzero(of) + len(known) * (alone - alone.mean())
    return given


def _coverage(candidate: Evaluation, incumbent: Evaluation, *, n_items: int) -> ExposureResult:
    ours, theirs = (leaving_out(each.recommended, each.users) / n_items for each in (candidate, incumbent))
    covered = Coverage(n_items)
    return ExposureResult(
        measure=COVERAGE,
        candidate=covered.of(candidate.recommended),
        incumbent=covered.of(incumbent.recommended),
        paired=pair(ours, theirs, np.arange(len(ours))),
    )


def _per_list(
    candidate: Evaluation, incumbent: Evaluation, frozen: Frozen
) -> Mapping[str, Callable[[NDArray[np.int64]], NDArray[np.float64]]]:
    """Give what is a mean over lists; each makes one number of each list, or none where the list has too few items."""
    shown = np.unique(np.concatenate([candidate.recommended.ravel(), incumbent.recommended.ravel()]))
    tail, popular = ~frozen.head, popularity(frozen)
    return {
        TAIL_SHARE: lambda lists: _mean(tail.astype(np.float64), lists),
        DIVERSITY: Likeness.among(shown, frozen.before_holdout).unlike,
        POPULARITY: lambda lists: _mean(popular, lists),
    }


def _mean(values: NDArray[np.float64], lists: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the mean of the values of each list's items, no number where there is none. Shape [C]."""
    there = lists > 0
    total, items = np.where(there, values[lists], 0.0).sum(1), there.sum(1)
    mean: NDArray[np.float64] = np.divide(total, items, out=np.full(len(lists), np.nan), where=items > 0)
    return mean
