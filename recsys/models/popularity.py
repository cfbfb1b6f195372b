"""Score items by how often they were taken, older interactions counting less: the baseline that is always there."""

import numpy as np
import torch
from optuna.distributions import FloatDistribution
from torch import Tensor, nn

from recsys.models.knob import COUNTED, FIRST, Knob, Without
from recsys.models.network import Family
from recsys.sequences import Sequences

MICROSECONDS_A_DAY = 86_400 * 1_000_000


class Popularity(nn.Module):
    """Decayed counts of the items, the same for every user."""

    history_length = 1  # read only for its batch size

    counts: Tensor  # [N + 1]

    def __init__(self, *, n_items: int, half_life_days: float) -> None:
        super().__init__()
        if half_life_days <= 0:
            raise ValueError(f"half_life_days of popularity must be positive but is {half_life_days}.")
        self.n_items = n_items
        self.half_life_days = half_life_days
        self.register_buffer("counts", torch.zeros(n_items + 1))

    def prepare(self, train: Sequences, seed: int) -> None:
        """Count `train`; an interaction loses half its weight every `half_life_days` before the newest one."""
        age_days = (train.times.max(initial=0) - train.times) / MICROSECONDS_A_DAY
        counts = np.bincount(train.items, np.exp2(-age_days / self.half_life_days), minlength=self.n_items + 1)
        counts[0] = 0
        self.counts.copy_(torch.from_numpy(counts))

    def loss(self, windows: Tensor) -> Tensor:
        """Refuse: nothing here is learned by steps.

        Raises:
            ValueError: Always.
        """
        raise ValueError("popularity is counted, not trained in steps, so epochs must be 0.")

    def forward(self, history: Tensor) -> Tensor:
        """Give every row the same scores. Shapes [B, L] to [B, N + 1]."""
        return self.counts + 0.0 * history[:, -1:].float()  # keeps the batch dimension when exported


FAMILY = Family(
    name="popularity",
    network=Popularity,
    defaults={"epochs": 0, "half_life_days": 365.0},
    space={"half_life_days": FloatDistribution(7.0, 3650.0, log=True)},
    knobs={
        **COUNTED,
        "half_life_days": Knob(
            meaning="Age at which an interaction counts half",
            unit="days",
            owner="modelling",
            tier=FIRST,
            without=(Without(what="forgetting with age", values={"half_life_days": 36_500.0}),),
        ),
    },
)
