"""Measure how well a ranking of the whole catalogue names the item that came next.

Each case has one target. Its rank is 1 plus the number of items that the user had not had before and that score
higher, items of equal score taken by ascending id. A target that the vocabulary does not know, or that the user had
already had and that is therefore removed, has no rank, written 0, and every metric counts it as missed.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

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

    The head is the fifth of the items that were taken most often, ties by ascending id; the tail is all the rest
    (Abdollahpouri et al. 2019, "Managing Popularity Bias in Recommender Systems with Personalized Re-ranking").

    >>> TailShare(popularity=np.array([0, 9, 5, 5, 1, 1])).of(np.array([[1, 2], [1, 5]]))
    0.5
    """

    popularity: NDArray[np.int64]  # [N + 1] how often each item was taken
    head_share: float = 0.2

    def of(self, recommended: NDArray[np.int64]) -> float:
        """Give the share; `recommended` has shape [C, k], 0 where there was nothing left to recommend."""
        n_head = math.ceil(self.head_share * (len(self.popularity) - 1))
        head = 1 + np.argsort(-self.popularity[1:], kind="stable")[:n_head]
        given = recommended[recommended > 0]
        return float(np.mean(~np.isin(given, head))) if len(given) else 0.0


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
    coverage: float
    tail_share: float

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
        ValueError: A score is not a finite number; rankings made of it would mean nothing.
    """
    ranks = np.zeros(len(cases), np.int64)
    recommended = np.zeros((len(cases), min(k, cases.sequences.n_items)), np.int64)
    for which in _batches(len(cases), batch_size):
        scores = scorer(cases.histories(which, scorer.history_length))
        if not np.isfinite(scores[:, 1:]).all():
            raise ValueError(f"Scores must be finite, but those of the cases {which[0]} to {which[-1]} are not.")
        rows, items = cases.seen(which)
        allowed = _allowed(scores, rows, items)
        ranks[which] = _ranks(allowed, cases.targets[which])
        recommended[which] = _best(allowed, k)
    popularity = np.bincount(cases.sequences.items, minlength=cases.sequences.n_items + 1)
    return Evaluation(
        k=k,
        users=cases.users,
        ranks=ranks,
        ndcg=NDCG(k).of(ranks),
        hit=Recall(k).of(ranks),
        reciprocal_rank=MRR().of(ranks),
        coverage=Coverage(cases.sequences.n_items).of(recommended),
        tail_share=TailShare(popularity).of(recommended),
    )


def top_k(
    scores: NDArray[np.float32], seen_rows: NDArray[np.int64], seen_items: NDArray[np.int64], k: int
) -> NDArray[np.int64]:
    """Give the best `k` items of each row, best first, without those seen.

    Items of equal score come by ascending id. Where fewer than k items are left, the row ends in 0.

    Args:
        scores: Shape [B, N + 1]; column 0 is ignored.
        seen_rows: Row of each pair of (row, item) to leave out.
        seen_items: Item of each such pair.
        k: Length of the list; more than N gives N.

    Returns:
        Item ids, shape [B, min(k, N)].

    >>> top_k(np.array([[9, 3, 1, 2, 3]], np.float32), np.array([0]), np.array([3]), k=2)
    array([[1, 4]])
    """
    return _best(_allowed(scores, seen_rows, seen_items), k)


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
    means, sizes = _per_user(per_case, users)
    rng = np.random.default_rng(seed)
    # How often each user is drawn; 64 resamples at a time keep the table small.
    draws = (rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=n) for n in _chunks(resamples, 64))
    estimates = np.concatenate([counts @ (means * sizes) / (counts @ sizes) for counts in draws])
    low, high = np.quantile(estimates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


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


def _best(allowed: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Best `k` columns of each row, best first, 0 where nothing is left. Shape [B, min(k, N)]."""
    k = min(k, allowed.shape[1] - 1)
    best = np.sort(np.argpartition(-allowed, k - 1, axis=1)[:, :k], axis=1)
    # The partition takes any of several items that tie for the last place; such rows are sorted whole.
    last = np.take_along_axis(allowed, best, 1).min(1, keepdims=True)
    tied = np.flatnonzero((allowed >= last).sum(1) > k)
    best[tied] = np.sort(np.argsort(-allowed[tied], axis=1, kind="stable")[:, :k], axis=1)
    values = np.take_along_axis(allowed, best, 1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.where(np.isneginf(np.take_along_axis(values, order, 1)), 0, np.take_along_axis(best, order, 1))


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
