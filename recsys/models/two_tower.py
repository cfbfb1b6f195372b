"""Score items by the dot product of a user tower, which pools the history, and an item tower."""

import torch
import torch.nn.functional as F  # noqa: N812
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from torch import Tensor, nn

from recsys.models.dropout import Dropout
from recsys.models.knob import LATER, TRAINED, Knob
from recsys.models.network import COLD, ON_REQUEST, STARTS, Family
from recsys.models.softmax import log_popularity, negatives_of, softmax_loss
from recsys.sequences import Sequences


class TwoTower(nn.Module):
    """Two towers that meet in one dot product, so that the item side can be computed ahead.

    Item tower: an embedding. User tower: the embeddings of the history are averaged with weights softmax(g_j + r_d),
    g_j a learned gate of the item and r_d a learned preference for how many items ago it was taken; the average and
    the newest item go through an MLP.
    """

    by_item = frozenset({"items.weight", "bias"})
    by_age = frozenset({"recency"})

    def __init__(
        self,
        *,
        n_items: int,
        dim: int,
        hidden: int,
        history_length: int,
        dropout: float,
        softmax: str,
        negatives: int,
    ) -> None:
        super().__init__()
        for key, value in (("dim", dim), ("hidden", hidden), ("history_length", history_length)):
            if value < 1:
                raise ValueError(f"{key} of two_tower must be 1 or more but is {value}.")
        self.n_items, self.history_length = n_items, history_length
        self.negatives = negatives_of("two_tower", softmax, negatives)
        self.items = nn.Embedding(n_items + 1, dim, padding_idx=0)
        self.bias = nn.Parameter(torch.zeros(n_items + 1))
        self.gate = nn.Linear(dim, 1)
        self.recency = nn.Parameter(torch.zeros(history_length))  # by distance: [0] is the newest item
        self.user = nn.Sequential(
            nn.Linear(2 * dim, hidden), nn.ReLU(), Dropout(dropout), nn.Linear(hidden, dim), nn.LayerNorm(dim)
        )
        self.dropout = Dropout(dropout)

    def prepare(self, train: Sequences, seed: int) -> None:
        """Draw fresh weights; the items' biases start at their log popularity, the recency at a gentle decay."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            for module in self.modules():
                if isinstance(module, nn.Linear | nn.LayerNorm):
                    module.reset_parameters()
            nn.init.normal_(self.items.weight, std=0.05)
            self.items.weight[0] = 0
            self.recency.copy_(-0.1 * torch.arange(self.history_length))
            self.bias.copy_(log_popularity(train))

    def loss(self, windows: Tensor) -> Tensor:
        """Give the softmax loss of every item after the ones before it. Shape [B, L + 1] to a scalar."""
        inputs, targets = windows[:, :-1], windows[:, 1:]
        embedded = self.dropout(self.items(inputs))  # [B, L, D]
        width = inputs.shape[1]
        distance = torch.arange(width)[:, None] - torch.arange(width)  # [L, L]
        recency = self.recency[distance.clamp(min=0)].masked_fill(distance.to(inputs.device) < 0, -torch.inf)
        logits = self.gate(embedded).transpose(1, 2) + recency  # [B, L, L]
        logits = logits.masked_fill(self._hidden(inputs), -torch.inf)
        pooled = torch.softmax(logits, -1) @ embedded
        users = self.user(torch.cat([pooled, embedded], -1))  # [B, L, D]
        there = targets > 0
        return softmax_loss(users[there], targets[there], self.items.weight, self.bias, negatives=self.negatives)

    def forward(self, history: Tensor) -> Tensor:
        """Score the catalogue. Shapes [B, L] to [B, N + 1]."""
        embedded = self.items(history)  # [B, L, D]
        logits = self.gate(embedded).squeeze(-1) + self.recency.flip(0)  # [B, L]
        padding = (history == 0) & (torch.arange(history.shape[1], device=history.device) < history.shape[1] - 1)
        weights = torch.softmax(logits.masked_fill(padding, -torch.inf), -1)
        pooled = (weights.unsqueeze(1) @ embedded).squeeze(1)  # [B, D]
        users = self.user(torch.cat([pooled, embedded[:, -1]], -1))
        return F.linear(users, self.items.weight, self.bias)

    def _hidden(self, inputs: Tensor) -> Tensor:
        """Mark the padding that a position may not read; each may read itself, so no row is empty. Shape [B, L, L]."""
        itself = torch.eye(inputs.shape[1], dtype=torch.bool, device=inputs.device)
        return (inputs == 0)[:, None, :] & ~itself


FAMILY = Family(
    name="two_tower",
    network=TwoTower,
    log_probabilities=True,
    defaults={
        "epochs": 20,
        "lr": 4e-3,
        "batch_size": 512,
        "weight_decay": 0.01,
        "start": COLD,
        "int8_share": 0.0,
        "dim": 64,
        "hidden": 128,
        "history_length": 50,
        "dropout": 0.3,
        "softmax": "full",
        "negatives": 256,
    },
    space={
        "epochs": IntDistribution(1, 40, log=True),
        "lr": FloatDistribution(1e-4, 3e-2, log=True),
        "weight_decay": FloatDistribution(1e-3, 0.3, log=True),
        "start": CategoricalDistribution(STARTS),
        "dim": CategoricalDistribution([16, 32, 64, 128]),
        "hidden": CategoricalDistribution([64, 128, 256]),
        "history_length": CategoricalDistribution([20, 50, 100]),
        "dropout": FloatDistribution(0.0, 0.6),
        "softmax": CategoricalDistribution(["full", "sampled"]),
        "negatives": IntDistribution(64, 1024, log=True),
    },
    knobs={
        **TRAINED,
        "hidden": Knob(
            meaning="Width of the layer that turns a history into a user's vector",
            unit="units",
            owner="serving",
            tier=LATER,
            capacity=True,
        ),
    },
    on_request=ON_REQUEST,
    conditions={"negatives": ("softmax", "sampled")},
    shape_parameters=frozenset({"dim", "hidden", "history_length"}),
)
