"""Take a part of the users that is made up as the whole is, so that it ranks configurations as the whole would."""

import math

import numpy as np
from numpy.typing import NDArray

from recsys.sequences import Sequences

BINS = 4  # quarters of the users by activity, and of each by taste and by recency
GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples fill the unit interval as evenly as any sequence's, however many


def portion(sequences: Sequences, share: float, *, seed: int) -> Sequences:
    """Keep a `share` of the users, whole and in their order; a smaller share lies within a larger of the same seed.

    Users are laid out by stratum, as `strata` does, at random within each, and every one of them is kept with the same
    chance. Along that order kept users follow each other at even distances, so each stratum, and each run of strata, is
    there in proportion, up to a user or two. Shares that are rounded for each stratum, by the largest remainder, would
    not lie within each other: a larger share may give a stratum fewer users (the Alabama paradox; Balinski and Young
    1982, "Fair Representation").

    Args:
        sequences: Of all users.
        share: Part of the users, in (0, 1].
        seed: Fixes who is kept.

    Raises:
        ValueError: The share lies outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1] but is {share}.")
    if share == 1:
        return sequences
    return only(sequences, np.sort(_order(sequences, seed)[: math.ceil(share * sequences.n_users)]))


def strata(sequences: Sequences) -> NDArray[np.int64]:
    """Say which quarter of the users each belongs to, by activity, by taste and by time. Shape [U, 3].

    Activity is the number of a user's events. Taste is how popular the items are that the user takes, on average of
    the logarithm, because sequences know of no item's category. Time is that of the user's last event. Quarters are of
    equal size; equal users are in the same quarter.

    >>> items, times = np.array([1, 1, 2, 1, 1, 3], np.int32), np.array([0, 1, 2, 3, 4, 5])
    >>> strata(Sequences(items=items, times=times, offsets=np.array([0, 3, 4, 5, 6]), n_items=3))
    array([[3, 1, 0],
           [0, 2, 1],
           [0, 2, 2],
           [0, 0, 3]])
    """
    lengths = np.diff(sequences.offsets)
    user = np.repeat(np.arange(sequences.n_users), lengths)
    times_taken = np.bincount(sequences.items, minlength=sequences.n_items + 1)
    popularity = np.log1p(times_taken)[sequences.items]
    taste = np.bincount(user, popularity, minlength=sequences.n_users) / np.maximum(lengths, 1)
    last = sequences.times[np.maximum(sequences.offsets[1:] - 1, 0)] if sequences.n_events else np.zeros(len(lengths))
    return np.stack([_quarters(values) for values in (lengths, taste, np.where(lengths > 0, last, 0))], axis=1)


def only(sequences: Sequences, kept: NDArray[np.int64]) -> Sequences:
    """Give the sequences of the users `kept`, ascending, as sequences of their own."""
    lengths = np.diff(sequences.offsets)
    chosen = np.repeat(np.isin(np.arange(sequences.n_users), kept), lengths)
    return Sequences(
        items=sequences.items[chosen],
        times=sequences.times[chosen],
        offsets=np.concatenate([[0], np.cumsum(lengths[kept])]),
        n_items=sequences.n_items,
    )


def _quarters(values: NDArray) -> NDArray[np.int64]:
    """Cut values into bins of equal size; equal values are in the bin of the first of them. Shape [U]."""
    first = np.searchsorted(np.sort(values), values, side="left")
    return (BINS * first // max(1, len(values))).astype(np.int64)


def _order(sequences: Sequences, seed: int) -> NDArray[np.int64]:
    """Order the users so that the first of them, however many, are spread evenly over the strata. Shape [U]."""
    rng = np.random.default_rng(seed)
    activity, taste, recency = strata(sequences).T
    laid_out = np.lexsort((rng.permutation(sequences.n_users), recency, taste, activity))
    # A rotation by the golden ratio (Niederreiter 1992, chapter 3), begun anywhere: all users have the same chance.
    places = (rng.random() + GOLDEN * np.arange(sequences.n_users)) % 1
    return laid_out[np.argsort(places, kind="stable")]
