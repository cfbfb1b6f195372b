"""Measure how well a ranking of the whole catalogue names the item that came next.

Each case has one target. Its rank is 1 plus the number of items that the user had not had before and that score
higher, items of equal score taken by ascending id. A target that the vocabulary does not know, or that the user had
already had and that is therefore removed, has no rank, written 0, and every metric counts it as missed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from recsys.errors import BadScores
from recsys.sequences import Cases


class Scorer(Protocol):
    """Whatever scores the catalogue after a history: a PyTorch network, an ONNX session."""

    @property
    def history_length(self) -> int:
        """L, how many items of history are read."""
        ...

    def __call__(self, history: NDArray[np.int64]) -> NDArray[np.float32]:
        """Score the catalogue. Shapes [B, L], left padded with 0, to [B, N + 1]."""
        ...


@dataclass(frozen=True, slots=True)
class NDCG:
    """Normalised discounted cumulative gain among the first `k` (Järvelin and Kekäläinen 2002).

    With one target the ideal ranking gains 1, so a case gives 1 / log2(1 + rank) where rank <= k and 0 elsewhere.

    >>> NDCG(k=10).of(np.array([1, 3, 10, 11, 0])).round(3)
    array([1.   , 0.5  , 0.289, 0.   , 0.   ])
    """

    k: int = 10

    def of(self, ranks: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give the metric of each case. Shape [C]."""
        return np.where(_within(ranks, self.k), 1 / np.log2(1 + np.maximum(ranks, 1)), 0.0)


@dataclass(frozen=True, slots=True)
class Recall:
    """Share of a case's targets among the first `k`; with one target it is the hit rate HR@k.

    >>> Recall(k=10).of(np.array([1, 3, 10, 11, 0]))
    array([1., 1., 1., 0., 0.])
    """

    k: int = 10

    def of(self, ranks: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give the metric of each case. Shape [C]."""
        return _within(ranks, self.k).astype(np.float64)


@dataclass(frozen=True, slots=True)
class MRR:
    """Reciprocal rank of the target over the whole ranking (Voorhees 1999, "The TREC-8 Question Answering Track").

    >>> MRR().of(np.array([1, 4, 50, 0]))
    array([1.  , 0.25, 0.02, 0.  ])
    """

    def of(self, ranks: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give the metric of each case. Shape [C]."""
        return np.where(ranks > 0, 1 / np.maximum(ranks, 1), 0.0)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Share of the catalogue that is recommended to anybody (Herlocker et al. 2004, "catalog coverage").

    >>> Coverage(n_items=8).of(np.array([[1, 2], [2, 3]]))
    0.375
    """

    n_items: int

    def of(self, recommended: NDArray[np.int64]) -> float:
        """Give the share; `recommended` has shape [C, k], 0 where there was nothing left to recommend."""
        return len(np.unique(recommended[recommended > 0])) / self.n_items


@dataclass(frozen=True, slots=True)
class TailShare:
    """Share of the recommendations that go to the long tail.

    The head are the items that were taken most often, such as `recsys.dataset.Frozen.head`; the tail is all the rest
    (Abdollahpouri et al. 2019, "Managing Popularity Bias in Recommender Systems with Personalized Re-ranking").

    >>> TailShare(head=np.array([False, True, False, False, False, False])).of(np.array([[1, 2], [1, 5]]))
    0.5
    """

    head: NDArray[np.bool_]  # [N + 1] whether an item belongs to it

    def of(self, recommended: NDArray[np.int64]) -> float:
        """Give the share; `recommended` has shape [C, k], 0 where there was nothing left to recommend."""
        given = recommended[recommended > 0]
        return float(np.mean(~self.head[given])) if len(given) else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was measured on a set of cases: per case, and in the mean over cases and over users.

    The mean over cases counts every request alike, as traffic does; the mean over users counts every user alike,
    however active.
    """

    k: int
    users: NDArray[np.int64]  # [C]
    ranks: NDArray[np.int64]  # [C] 0 where the target could not be ranked
    ndcg: NDArray[np.float64]  # [C]
    hit: NDArray[np.float64]  # [C] Recall@k
    reciprocal_rank: NDArray[np.float64]  # [C]
    recommended: NDArray[np.int64]  # [C, min(k, N)] best first, 0 where there was nothing left to recommend
    scores: NDArray[np.float32]  # [C, min(k, N)] of what is recommended, minus infinity where there was nothing left
    coverage: float

    @property
    def over_cases(self) -> dict[str, float]:
        """NDCG@k, Recall@k and MRR, every case counted alike."""
        return {name: float(values.mean()) if len(values) else 0.0 for name, values in self._per_case().items()}

    @property
    def over_users(self) -> dict[str, float]:
        """NDCG@k, Recall@k and MRR, every user counted alike."""
        return {
            name: float(_per_user(values, self.users)[0].mean()) if len(values) else 0.0
            for name, values in self._per_case().items()
        }

    def _per_case(self) -> dict[str, NDArray[np.float64]]:
        return {f"ndcg_at_{self.k}": self.ndcg, f"recall_at_{self.k}": self.hit, "mrr": self.reciprocal_rank}


def evaluate(scorer: Scorer, cases: Cases, *, k: int = 10, batch_size: int = 256) -> Evaluation:
    """Rank the whole catalogue for every case, without what the user had before, and measure the rankings.

    Args:
        scorer: Gives the scores; a PyTorch network is wrapped in `recsys.models.TorchScorer`.
        cases: Histories and targets.
        k: Length of the list that is shown.
        batch_size: Cases scored at once.

    Raises:
        BadScores: A score is not a finite number; rankings made of it would mean nothing.
    """
    ranks = np.zeros(len(cases), np.int64)
    recommended = np.zeros((len(cases), min(k, cases.sequences.n_items)), np.int64)
    given = np.zeros(recommended.shape, np.float32)
    for which in _batches(len(cases), batch_size):
        scores = scorer(cases.histories(which, scorer.history_length))
        if not np.isfinite(scores[:, 1:]).all():
            raise BadScores(f"Scores must be finite, but not all of the cases {which[0]} to {which[-1]} are.")
        rows, items = cases.seen(which)
        allowed = _allowed(scores, rows, items)
        ranks[which] = _ranks(allowed, cases.targets[which])
        recommended[which] = top_k(allowed, k)
        given[which] = np.take_along_axis(allowed, recommended[which], axis=1)
    return Evaluation(
        k=k,
        users=cases.users,
        ranks=ranks,
        ndcg=NDCG(k).of(ranks),
        hit=Recall(k).of(ranks),
        reciprocal_rank=MRR().of(ranks),
        recommended=recommended,
        scores=given,
        coverage=Coverage(cases.sequences.n_items).of(recommended),
    )


def top_k(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Give the best `k` items of each row, best first, those of equal score by ascending id.

    Args:
        scores: Shape [B, N + 1]; what may not be recommended scores minus infinity, and so must the item 0.
        k: Length of the list, at least 1; more than N gives N.

    Returns:
        Item ids, shape [B, min(k, N)]; a row ends in 0 where no more may be recommended.

    >>> top_k(np.array([[-np.inf, 3, 1, -np.inf, 3], [-np.inf, -np.inf, 1, -np.inf, -np.inf]], np.float32), k=2)
    array([[1, 4],
           [2, 0]])
    """
    n_scores = scores.shape[1]
    k = min(k, n_scores - 1)
    least = np.partition(scores, n_scores - k, axis=1)[:, n_scores - k]
    least = np.maximum(least, np.finfo(scores.dtype).min)  # what scores minus infinity is never among the best
    rows, items = np.divmod(np.flatnonzero(scores >= least[:, None]), n_scores)  # all that tie for the last place too
    order = np.lexsort((-scores[rows, items], rows))  # which leaves equal ones in the order of their ids
    rows, items = rows[order], items[order]
    place = np.arange(len(rows)) - np.searchsorted(rows, rows)
    kept = place < k
    best = np.zeros((len(scores), k), np.int64)
    best[rows[kept], place[kept]] = items[kept]
    return best


def interval(
    per_case: NDArray[np.float64], users: NDArray[np.int64], *, seed: int, level: float = 0.95, resamples: int = 2000
) -> tuple[float, float]:
    """Give a percentile bootstrap interval of the mean over cases, users being drawn with all their cases.

    Cases of one user are alike, so drawing single cases would promise too narrow an interval (Efron and Tibshirani
    1993, chapter 8). For a mean over users, give one value per user; for a paired comparison, give the differences.

    Args:
        per_case: One value per case, shape [C].
        users: User of each case, shape [C].
        seed: Fixes the draws.
        level: Share of intervals that hold the true mean.
        resamples: Number of draws.

    Raises:
        ValueError: There is no case, or the level lies outside (0, 1).
    """
    if not len(per_case) or not 0 < level < 1:
        raise ValueError(f"An interval needs cases and a level in (0, 1) but got {len(per_case)} cases and {level}.")
    estimates = resampled(per_case[:, None], users, seed=seed, resamples=resamples)[:, 0]
    low, high = np.quantile(estimates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def resampled(
    per_case: NDArray[np.float64], users: NDArray[np.int64], *, seed: int, resamples: int
) -> NDArray[np.float64]:
    """Draw users with all their cases, again and again, and give the means over the cases of each draw.

    Args:
        per_case: What is averaged, V values per case; the same users are drawn for all of them. Shape [C, V].
        users: User of each case, shape [C].
        seed: Fixes the draws.
        resamples: Number of draws, R.

    Returns:
        Shape [R, V].
    """
    _, which, sizes = np.unique(users, return_inverse=True, return_counts=True)
    totals = np.column_stack([np.bincount(which, column) for column in per_case.T])  # [U, V]
    rng = np.random.default_rng(seed)
    # How often each user is drawn; 64 resamples at a time keep the table small.
    draws = (rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=n) for n in _chunks(resamples, 64))
    return np.concatenate([counts @ totals / (counts @ sizes)[:, None] for counts in draws])


def _allowed(scores: NDArray[np.float32], rows: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.float32]:
    """Give a copy in which what may not be recommended scores minus infinity."""
    allowed = scores.copy()
    allowed[rows, items] = -np.inf
    allowed[:, 0] = -np.inf
    return allowed


def _ranks(allowed: NDArray[np.float32], targets: NDArray[np.int32]) -> NDArray[np.int64]:
    """Rank of each row's target, 0 where it is not allowed. Shape [B]."""
    own = allowed[np.arange(len(targets)), targets][:, None]
    earlier_id = np.arange(allowed.shape[1]) < targets[:, None]
    better = (allowed > own) | ((allowed == own) & earlier_id)
    return np.where(np.isneginf(own[:, 0]), 0, 1 + better.sum(1))


def _within(ranks: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    return (ranks > 0) & (ranks <= k)


def _per_user(values: NDArray[np.float64], users: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Mean and number of cases of each user that has any. Shapes [U], [U]."""
    _, which, sizes = np.unique(users, return_inverse=True, return_counts=True)
    return np.bincount(which, values) / sizes, sizes


def _batches(n: int, size: int) -> Iterator[NDArray[np.int64]]:
    for begin in range(0, n, size):
        yield np.arange(begin, min(begin + size, n))


def _chunks(n: int, size: int) -> Iterator[int]:
    for begin in range(0, n, size):
        yield min(size, n - begin)
