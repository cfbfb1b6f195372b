"""Say what the components of a configuration are worth, from what users saw with and without each of them.

Letters for shapes: C cases, V variants, S seeds, R resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys.metrics import resampled
from recsys.records import Estimate

RESAMPLES = 10_000  # so that a p-value can be small enough for many components

Vector = NDArray[np.float64]
Seeds = Mapping[int, Vector]
"""NDCG of every case, by the seed of the training. Shape [C] each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What leaving one component out changes."""

    seeds: int  # that both have
    ndcg_at_10: float  # mean over cases and those seeds
    change: Estimate  # against the whole
    p: float  # that chance alone changes as much, with the number of components in mind
    significant: bool


def worth(
    whole: Seeds, variants: Sequence[Seeds], users: NDArray[np.int64], *, confidence: float, seed: int
) -> list[Worth]:
    """Compare each variant with the whole on the users, cases and seeds that both have.

    Two things are left to chance: which users there are, and which weights and batches a training drew. Users are drawn
    again with all their cases, the same for both sides. What the seeds do is taken from all variants together, because
    two or three seeds of one say little of it, and added to each draw as Student's t; with one seed it is unknown and
    left out. Seeds are paired but counted as if they were not, so the intervals are rather too wide than too narrow.

    Args:
        whole: Of the configuration itself.
        variants: Each shares a seed with the whole.
        users: User of each case, shape [C].
        confidence: Of the intervals, and 1 less the level of the test.
        seed: Of everything that is drawn.
    """
    if not variants:
        return []
    shared = [sorted(set(whole) & set(variant)) for variant in variants]
    changes = np.column_stack(
        [np.mean([variant[s] - whole[s] for s in own], axis=0) for variant, own in zip(variants, shared, strict=True)]
    )  # [C, V]
    draws = resampled(changes, users, seed=seed, resamples=RESAMPLES)  # [R, V]
    spread, freedom = deviation([whole, *variants])
    if spread is not None:
        chance = np.random.default_rng([seed, 1]).standard_t(freedom, size=draws.shape)
        draws += chance * spread * np.sqrt([2 / len(own) for own in shared])
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    p = holm([_two_sided(column) for column in draws.T])
    return [
        Worth(
            seeds=len(own),
            ndcg_at_10=float(np.mean([variant[s] for s in own])),
            change=Estimate(value=float(changes[:, v].mean()), low=float(low[v]), high=float(high[v])),
            p=p[v],
            significant=p[v] <= 1 - confidence,
        )
        for v, (variant, own) in enumerate(zip(variants, shared, strict=True))
    ]


def deviation(variants: Sequence[Seeds]) -> tuple[float | None, int]:
    """Give the standard deviation over the seeds of a variant, from all of them together, and its degrees of freedom.

    Returns:
        None and 0 where no variant has two seeds.

    >>> deviation([{1: np.array([0.1]), 2: np.array([0.3])}, {1: np.array([0.5]), 2: np.array([0.5])}])
    (0.1, 2)
    """
    means = [np.array([values.mean() for values in variant.values()]) for variant in variants if variant]
    freedom = sum(len(own) - 1 for own in means)
    if not freedom:
        return None, 0
    squares = sum(float(((own - own.mean()) ** 2).sum()) for own in means)
    return round((squares / freedom) ** 0.5, 12), freedom


def holm(p: Sequence[float]) -> list[float]:
    """Adjust p-values so that one wrong find among all of them is as rare as it would be with one (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p, kind="stable")
    scaled = [min(1.0, p[at] * (len(p) - rank)) for rank, at in enumerate(order)]
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(scaled)
    return [float(value) for value in adjusted]


def _two_sided(draws: Vector) -> float:
    """Say how often a draw lies on the other side of no change, either side counting. Shape [R]."""
    below, above = (1 + np.sum(draws <= 0)) / (1 + len(draws)), (1 + np.sum(draws >= 0)) / (1 + len(draws))
    return min(1.0, float(2 * min(below, above)))
