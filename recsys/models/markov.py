"""Score items by how often they followed the last few items of the history, shrunk towards popularity."""

import numpy as np
import torch
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution, IntDistribution
from scipy import sparse
from torch import Tensor, nn

from recsys.models.knob import COUNTED, FIRST, LATER, Knob, Without
from recsys.models.network import Family
from recsys.sequences import Sequences


class Markov(nn.Module):
    """Transitions over several steps, kept for the strongest neighbours of each item.

    With c_ij = sum over d <= steps of decay^(d - 1) x how often j came d places after i, p_j the share of item j in
    all interactions and h_d the d-th last item of the history, the score of j is

        sum over d <= steps of decay^(d - 1) x (c_{h_d, j} + smoothing p_j) / (c_{h_d} + smoothing),

    which is additive (Dirichlet) smoothing of each row. A missing or unknown h_d has no counts and so votes for
    popularity.
    """

    indices: Tensor  # [N + 1, M] neighbours of each item
    weights: Tensor  # [N + 1, M] their share in the smoothed row
    prior: Tensor  # [N + 1] weight of popularity in each row
    popularity: Tensor  # [N + 1]
    fading: Tensor  # [steps] decay^(d - 1), oldest first

    def __init__(self, *, n_items: int, steps: int, decay: float, smoothing: float, neighbours: int) -> None:
        super().__init__()
        for key, value, rule in (
            ("steps", steps, steps >= 1),
            ("decay", decay, 0 < decay <= 1),
            ("smoothing", smoothing, smoothing > 0),
            ("neighbours", neighbours, neighbours >= 1),
        ):
            if not rule:
                raise ValueError(f"{key} of markov is out of range: {value}.")
        self.n_items, self.history_length = n_items, steps
        self.decay, self.smoothing = decay, smoothing
        self.neighbours = min(neighbours, n_items)
        self.register_buffer("indices", torch.zeros(n_items + 1, self.neighbours, dtype=torch.int64))
        self.register_buffer("weights", torch.zeros(n_items + 1, self.neighbours))
        self.register_buffer("prior", torch.ones(n_items + 1))
        self.register_buffer("popularity", torch.zeros(n_items + 1))
        self.register_buffer("fading", decay ** torch.arange(steps - 1, -1, -1, dtype=torch.float32))

    def prepare(self, train: Sequences, seed: int) -> None:
        """Count the transitions and the popularity of `train`."""
        counts = transitions(train, steps=self.history_length, decay=self.decay)
        totals = np.asarray(counts.sum(1)).ravel()  # [N + 1]
        indices, kept = strongest(counts, self.neighbours)
        popularity = np.bincount(train.items, minlength=self.n_items + 1).astype(np.float64)
        popularity[0] = 0
        self.indices.copy_(torch.from_numpy(indices))
        self.weights.copy_(torch.from_numpy(kept / (totals + self.smoothing)[:, None]))
        self.prior.copy_(torch.from_numpy(self.smoothing / (totals + self.smoothing)))
        self.popularity.copy_(torch.from_numpy(popularity / max(popularity.sum(), 1)))

    def loss(self, windows: Tensor) -> Tensor:
        """Refuse: nothing here is learned by steps.

        Raises:
            ValueError: Always.
        """
        raise ValueError("markov is counted, not trained in steps, so epochs must be 0.")

    def forward(self, history: Tensor) -> Tensor:
        """Add up what the last items vote for. Shapes [B, steps] to [B, N + 1]."""
        votes = self.weights[history] * self.fading[:, None]  # [B, steps, M]
        towards_popularity = (self.prior[history] * self.fading).sum(1, keepdim=True)  # [B, 1]
        scores = towards_popularity * self.popularity  # [B, N + 1]
        return scores.scatter_add(1, self.indices[history].flatten(1), votes.flatten(1))


def transitions(train: Sequences, *, steps: int, decay: float) -> sparse.csr_array:
    """Count how often one item followed another within `steps` places, weighted by decay^(distance - 1).

    Returns:
        Weighted counts c_ij, shape [N + 1, N + 1]; row and column 0, the unknown item, are empty.

    >>> a_user = Sequences(items=np.array([1, 2, 3], np.int32), times=np.arange(3), offsets=np.array([0, 3]), n_items=3)
    >>> transitions(a_user, steps=2, decay=0.5).toarray()[1:, 1:]
    array([[0. , 1. , 0.5],
           [0. , 0. , 1. ],
           [0. , 0. , 0. ]])
    """
    users = np.repeat(np.arange(train.n_users), np.diff(train.offsets))
    shape = (train.n_items + 1, train.n_items + 1)
    total = sparse.csr_array(shape, dtype=np.float64)
    for distance in range(1, min(steps, train.n_events - 1) + 1):
        before, after = train.items[:-distance], train.items[distance:]
        inside = (users[:-distance] == users[distance:]) & (before > 0) & (after > 0)
        weights = np.full(inside.sum(), decay ** (distance - 1))
        total = total + sparse.coo_array((weights, (before[inside], after[inside])), shape=shape).tocsr()
    return total


def strongest(counts: sparse.csr_array, neighbours: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Keep the largest entries of each row, the lower item id first among equals.

    Returns:
        Columns and values, both of shape [N + 1, neighbours]; rows with fewer entries are filled with column 0 and
        value 0.
    """
    counts.sort_indices()
    n_rows = counts.shape[0]
    lengths = np.diff(counts.indptr)
    rows = np.repeat(np.arange(n_rows), lengths)
    # One stable sort for all rows: the integer part of the key is the row, its fraction falls as the count grows.
    order = np.argsort(rows + 0.5 * (1 - counts.data / max(counts.data.max(initial=0), 1)), kind="stable")
    rank = np.arange(counts.nnz) - np.repeat(counts.indptr[:-1], lengths)
    kept = rank < neighbours
    indices = np.zeros((n_rows, neighbours), np.int64)
    values = np.zeros((n_rows, neighbours), np.float64)
    indices[rows[kept], rank[kept]] = counts.indices[order[kept]]
    values[rows[kept], rank[kept]] = counts.data[order[kept]]
    return indices, values


FAMILY = Family(
    name="markov",
    network=Markov,
    defaults={"epochs": 0, "steps": 9, "decay": 0.77, "smoothing": 57.0, "neighbours": 512},
    space={
        "steps": IntDistribution(1, 16),
        "decay": FloatDistribution(0.3, 1.0),
        "smoothing": FloatDistribution(1.0, 1000.0, log=True),
        "neighbours": IntDistribution(128, 1024, step=128),
    },
    knobs={
        **COUNTED,
        "steps": Knob(
            meaning="How many of the newest items vote for what comes next",
            unit="items",
            owner="serving",
            tier=FIRST,
            without=(Without(what="all but the newest item's vote", values={"steps": 1}),),
        ),
        "decay": Knob(
            meaning="What a transition over one more place counts, and an older item's vote",
            unit="share of the nearer one",
            owner="modelling",
            tier=FIRST,
            without=(Without(what="fading with distance", values={"decay": 1.0}),),
        ),
        "smoothing": Knob(
            meaning="How much popularity is added to the counts of an item",
            unit="transitions",
            owner="modelling",
            tier=FIRST,
            without=(Without(what="smoothing towards popularity", values={"smoothing": 1e-3}),),
        ),
        "neighbours": Knob(
            meaning="Strongest successors that are kept of an item", unit="items", owner="serving", tier=LATER
        ),
    },
    shape_parameters=frozenset({"steps", "neighbours"}),
)
