"""Score items with self-attention and with counted transitions, and interpolate the two distributions."""

from dataclasses import replace

import torch
from optuna.distributions import FloatDistribution
from torch import Tensor, nn

from recsys.models import markov, sasrec
from recsys.models.knob import FIRST, FIXED, Knob, Without
from recsys.models.markov import Markov
from recsys.models.network import Family
from recsys.models.sasrec import SASRec
from recsys.sequences import Sequences

TINY = 1e-12  # keeps the logarithm finite where both distributions give nothing


class Hybrid(nn.Module):
    """SASRec and k-step Markov in one graph: log((1 - markov_weight) x softmax(SASRec) + markov_weight x Markov).

    Interpolating a learned with a counted model is old in language modelling (Jelinek and Mercer 1980). Counts are
    strong where feedback is little, attention on what several items say together, and their errors differ.
    """

    def __init__(
        self,
        *,
        n_items: int,
        markov_weight: float,
        steps: int,
        decay: float,
        smoothing: float,
        neighbours: int,
        dim: int,
        layers: int,
        heads: int,
        history_length: int,
        dropout: float,
        softmax: str,
        negatives: int,
    ) -> None:
        super().__init__()
        if not 0 <= markov_weight <= 1:
            raise ValueError(f"markov_weight of hybrid must lie in [0, 1] but is {markov_weight}.")
        if steps > history_length:
            raise ValueError(f"steps of hybrid must be at most its history_length {history_length} but is {steps}.")
        self.n_items, self.history_length, self.markov_weight = n_items, history_length, markov_weight
        self.attention = SASRec(
            n_items=n_items,
            dim=dim,
            layers=layers,
            heads=heads,
            history_length=history_length,
            dropout=dropout,
            softmax=softmax,
            negatives=negatives,
        )
        self.markov = Markov(n_items=n_items, steps=steps, decay=decay, smoothing=smoothing, neighbours=neighbours)

    @property
    def learner(self) -> SASRec:
        """The part that learns by steps."""
        return self.attention

    def prepare(self, train: Sequences, seed: int) -> None:
        """Draw the weights of the attention and count the transitions."""
        self.attention.prepare(train, seed)
        self.markov.prepare(train, seed)

    def loss(self, windows: Tensor) -> Tensor:
        """Give the loss of the attention alone: transitions counted on `windows` know its targets already."""
        return self.attention.loss(windows)

    def forward(self, history: Tensor) -> Tensor:
        """Score the catalogue with log probabilities. Shapes [B, L] to [B, N + 1]."""
        learned = torch.softmax(self.attention(history)[:, 1:], -1)  # [B, N]
        votes = self.markov(history[:, -self.markov.history_length :])[:, 1:]  # [B, N]
        counted = votes / votes.sum(-1, keepdim=True).clamp(min=TINY)
        mixed = (1 - self.markov_weight) * learned + self.markov_weight * counted
        return nn.functional.pad(torch.log(mixed + TINY), (1, 0))


FAMILY = Family(
    name="hybrid",
    network=Hybrid,
    log_probabilities=True,
    defaults={**sasrec.FAMILY.defaults, **markov.FAMILY.defaults, "epochs": 20, "markov_weight": 0.65},
    space={
        **sasrec.FAMILY.space,
        "markov_weight": FloatDistribution(0.1, 0.9),
    },
    knobs={
        **{name: replace(knob, tier=FIXED) for name, knob in markov.FAMILY.knobs.items()},
        **sasrec.FAMILY.knobs,
        "history_length": replace(
            sasrec.FAMILY.knobs["history_length"],
            without=(Without(what="all but the newest item", values={"history_length": 1, "steps": 1}),),
        ),
        "markov_weight": Knob(
            meaning="How much the counted transitions count beside attention",
            unit="share of the probability",
            owner="modelling",
            tier=FIRST,
            without=(
                Without(what="transitions", values={"markov_weight": 0.0}),
                Without(what="attention", values={"markov_weight": 1.0}),
            ),
        ),
    },
    on_request=sasrec.FAMILY.on_request,
    conditions=sasrec.FAMILY.conditions,
    shape_parameters=sasrec.FAMILY.shape_parameters | markov.FAMILY.shape_parameters,
)
