"""Score items with self-attention over the history.

SASRec: Kang and McAuley 2018, "Self-Attentive Sequential Recommendation".
"""

import torch
import torch.nn.functional as F  # noqa: N812
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from torch import Tensor, nn

from recsys.models.dropout import Dropout
from recsys.models.knob import LATER, TRAINED, Knob
from recsys.models.network import COLD, ON_REQUEST, STARTS, Family
from recsys.models.softmax import log_popularity, negatives_of, softmax_loss
from recsys.sequences import Sequences

PADDED = -1e4  # logit of padding: exp gives 0 beside any item, yet a row of padding alone can still be normalised


class SASRec(nn.Module):
    """Causal self-attention whose output meets the item embeddings in a dot product.

    What differs from the paper, and why: a softmax over the catalogue or shared negatives replaces one negative a
    position (Klenitskiy and Vasilev 2023, "Turning Dross Into Gold Loss"); normalisation stands before each sublayer,
    which trains steadily without long warm-up; positions enter as a learned bias by distance, so that a window means
    the same wherever it lies in its row.
    """

    by_item = frozenset({"items.weight", "bias"})
    by_age = frozenset({"distance"})

    def __init__(
        self,
        *,
        n_items: int,
        dim: int,
        layers: int,
        heads: int,
        history_length: int,
        dropout: float,
        softmax: str,
        negatives: int,
    ) -> None:
        super().__init__()
        for key, value in (("dim", dim), ("layers", layers), ("heads", heads), ("history_length", history_length)):
            if value < 1:
                raise ValueError(f"{key} of sasrec must be 1 or more but is {value}.")
        if dim % heads:
            raise ValueError(f"dim of sasrec must be a multiple of its {heads} heads but is {dim}.")
        self.n_items, self.history_length = n_items, history_length
        self.negatives = negatives_of("sasrec", softmax, negatives)
        self.items = nn.Embedding(n_items + 1, dim, padding_idx=0)
        self.bias = nn.Parameter(torch.zeros(n_items + 1))
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(Block(dim, heads, history_length, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def prepare(self, train: Sequences, seed: int) -> None:
        """Draw fresh weights; the items' biases start at their log popularity."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.xavier_uniform_(module.weight)
                    nn.init.zeros_(module.bias)
                elif isinstance(module, nn.LayerNorm):
                    module.reset_parameters()
                elif isinstance(module, Block):
                    nn.init.zeros_(module.distance)
            nn.init.normal_(self.items.weight, std=0.05)
            self.items.weight[0] = 0
            self.bias.copy_(log_popularity(train))

    def loss(self, windows: Tensor) -> Tensor:
        """Give the softmax loss of every item after the ones before it. Shape [B, L + 1] to a scalar."""
        inputs, targets = windows[:, :-1], windows[:, 1:]
        hidden = self.dropout(self.items(inputs))  # [B, L, D]
        for block in self.blocks:
            hidden = block(hidden, inputs == 0)
        there = targets > 0
        queries = self.norm(hidden[there])  # [T, D]
        return softmax_loss(queries, targets[there], self.items.weight, self.bias, negatives=self.negatives)

    def forward(self, history: Tensor) -> Tensor:
        """Score the catalogue; the last block works for the newest position alone. Shapes [B, L] to [B, N + 1]."""
        hidden, padding = self.items(history), history == 0
        for block in self.blocks[:-1]:
            hidden = block(hidden, padding)
        query = self.norm(self.blocks[-1](hidden, padding, newest=True))  # [B, 1, D]
        return F.linear(query.squeeze(1), self.items.weight, self.bias)


class Block(nn.Module):
    """Self-attention over the past, then a feed-forward network, each normalised first and added to what came in."""

    def __init__(self, dim: int, heads: int, history_length: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.distance = nn.Parameter(torch.zeros(heads, history_length))  # [heads, how many items ago]
        self.feed_norm = nn.LayerNorm(dim)
        self.feed = nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(), Dropout(dropout), nn.Linear(4 * dim, dim))
        self.dropout = Dropout(dropout)
        # Rows of the queries, keys and values belong to heads, and so do the columns that read what the heads found.
        self.grain = {"query": (heads, 1), "key_value": (2 * heads, 1), "out": (1, heads)}

    def silence(self) -> None:
        """Add nothing to what comes in, until it has learned to."""
        for last in (*self.out.parameters(), *self.feed[-1].parameters()):
            nn.init.zeros_(last)

    def forward(self, hidden: Tensor, padding: Tensor, *, newest: bool = False) -> Tensor:
        """Mix each position with those before it.

        Args:
            hidden: Shape [B, L, D].
            padding: Positions that hold no item, shape [B, L].
            newest: Compute the last position only.

        Returns:
            Shape [B, L, D], or [B, 1, D] for the newest.
        """
        normed = self.attention_norm(hidden)
        if newest:
            hidden = hidden[:, -1:]
        hidden = hidden + self.dropout(self._attend(normed, padding, n_queries=hidden.shape[1]))
        fed: Tensor = hidden + self.dropout(self.feed(self.feed_norm(hidden)))
        return fed

    def _attend(self, normed: Tensor, padding: Tensor, *, n_queries: int) -> Tensor:
        """Attend from the last `n_queries` positions to all before them. Shape [B, n_queries, D]."""
        length = normed.shape[1]
        query = self._split(self.query(normed[:, length - n_queries :]))  # [B, heads, Q, D / heads]
        key, value = (self._split(part) for part in self.key_value(normed).chunk(2, -1))  # [B, heads, L, D / heads]
        at = torch.arange(length, device=normed.device)
        ago = at[length - n_queries :, None] - at  # [Q, L]
        bias = self.distance[:, ago.clamp(min=0)].masked_fill(ago < 0, -torch.inf)  # [heads, Q, L]
        logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
        logits = logits.add_(bias).add_(PADDED * padding[:, None, None, :])  # in place: these are the largest tensors
        mixed: Tensor = self.out((torch.softmax(logits, -1) @ value).transpose(1, 2).flatten(2))
        return mixed

    def _split(self, hidden: Tensor) -> Tensor:
        """Shape [B, L, D] to [B, heads, L, D / heads]."""
        return hidden.view(*hidden.shape[:2], self.heads, -1).transpose(1, 2)


FAMILY = Family(
    name="sasrec",
    network=SASRec,
    log_probabilities=True,
    defaults={
        "epochs": 20,
        "lr": 4e-3,
        "batch_size": 512,
        "weight_decay": 0.01,
        "start": COLD,
        "int8_share": 0.0,
        "dim": 64,
        "layers": 1,
        "heads": 2,
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
        "layers": IntDistribution(1, 3),
        "heads": CategoricalDistribution([1, 2, 4]),
        "history_length": CategoricalDistribution([20, 50, 100]),
        "dropout": FloatDistribution(0.0, 0.6),
        "softmax": CategoricalDistribution(["full", "sampled"]),
        "negatives": IntDistribution(64, 1024, log=True),
    },
    knobs={
        **TRAINED,
        "layers": Knob(
            meaning="Blocks of attention, one after the other",
            unit="blocks",
            owner="serving",
            tier=LATER,
            capacity=True,
        ),
        "heads": Knob(
            meaning="Ways of attending side by side, which divide dim",
            unit="heads",
            owner="serving",
            tier=LATER,
            capacity=True,
        ),
    },
    on_request=ON_REQUEST,
    conditions={"negatives": ("softmax", "sampled")},
    shape_parameters=frozenset({"dim", "layers", "heads", "history_length"}),
)
