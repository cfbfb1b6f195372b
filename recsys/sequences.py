"""Hold interactions as users' sequences, and the cases in which a model must name the next item.

Shape legend used throughout `recsys`: B batch, L history length, N items of the vocabulary, U users, C cases, E events,
D embedding.
Item ids are 1..N; 0 is both the padding and the item that the vocabulary does not know.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequences:
    """Every user's items in the order of time, laid end to end.

    User `u` did `items[offsets[u]:offsets[u + 1]]`, oldest first.
    """

    items: NDArray[np.int32]  # [E] item ids, 0 unknown
    times: NDArray[np.int64]  # [E] microseconds since 1970, UTC; never decreasing within a user
    offsets: NDArray[np.int64]  # [U + 1]
    n_items: int  # N, so that ids run 1..N

    def __post_init__(self) -> None:
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.items) or len(self.items) != len(self.times):
            raise ValueError(
                f"offsets must run from 0 to the {len(self.items)} items, with as many times, but run from "
                f"{self.offsets[0]} to {self.offsets[-1]} with {len(self.times)} times."
            )
        if len(self.items) and not 0 <= self.items.min() <= self.items.max() <= self.n_items:
            raise ValueError(f"items must lie in 0..{self.n_items} but span {self.items.min()}..{self.items.max()}.")

    @property
    def n_users(self) -> int:
        """U, the number of users."""
        return len(self.offsets) - 1

    @property
    def n_events(self) -> int:
        """E, the number of interactions."""
        return len(self.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cases:
    """Moments at which the next item is asked for: all that the user did before is the history, and nothing after.

    Case `c` has the target `sequences.items[positions[c]]`; its history is everything of the same user before that
    position.
    A target 0 is an item the vocabulary does not know: every model misses it.
    """

    sequences: Sequences
    positions: NDArray[np.int64]  # [C] index of each target in sequences.items, ascending

    @property
    def users(self) -> NDArray[np.int64]:
        """Index of each case's user. Shape [C]."""
        return np.searchsorted(self.sequences.offsets, self.positions, side="right") - 1

    @property
    def targets(self) -> NDArray[np.int32]:
        """Item that really came next. Shape [C]."""
        return self.sequences.items[self.positions]

    def histories(self, which: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        """Give the last `length` items before each case in `which`, padded on the left with 0.

        Returns:
            Item ids, shape [len(which), length].

        >>> items = np.array([5, 6, 7, 8], np.int32)
        >>> two = Sequences(items=items, times=np.arange(4), offsets=np.array([0, 3, 4]), n_items=8)
        >>> Cases(sequences=two, positions=np.array([2, 3])).histories(np.array([0, 1]), length=3)
        array([[0, 5, 6],
               [0, 0, 0]])
        """
        ends = self.positions[which]
        begins = self.sequences.offsets[self.users[which]]
        at = ends[:, None] + np.arange(-length, 0)  # [B, L] positions before the target
        inside = at >= begins[:, None]
        return np.where(inside, self.sequences.items[np.maximum(at, 0)], 0).astype(np.int64)

    def seen(self, which: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """List all pairs of (row of `which`, item id) that the user had before; they are removed from rankings.

        Returns:
            Rows and item ids, two arrays of the same length.
        """
        ends = self.positions[which]
        begins = self.sequences.offsets[self.users[which]]
        lengths = ends - begins
        rows = np.repeat(np.arange(len(which)), lengths)
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return rows, self.sequences.items[np.repeat(begins, lengths) + within].astype(np.int64)

    def spread(self, most: int) -> "Cases":
        """Keep up to `most` cases, spread evenly over all of them.

        >>> items = np.arange(1, 8, dtype=np.int32)
        >>> one = Sequences(items=items, times=np.arange(7), offsets=np.array([0, 7]), n_items=7)
        >>> Cases(sequences=one, positions=np.arange(7)).spread(3).targets
        array([1, 4, 7], dtype=int32)
        """
        kept = np.unique(np.linspace(0, len(self) - 1, min(len(self), most)).round().astype(np.int64))
        return Cases(sequences=self.sequences, positions=self.positions[kept])

    def __len__(self) -> int:
        return len(self.positions)
