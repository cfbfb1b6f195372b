"""Give the softmax loss over the catalogue, whole or on negatives that a batch shares."""

import math

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from recsys.sequences import Sequences


def softmax_loss(queries: Tensor, targets: Tensor, items: Tensor, bias: Tensor, *, negatives: int) -> Tensor:
    """Give the mean cross-entropy of the targets against the catalogue or a uniform sample of it.

    With `negatives` = 0 the softmax runs over all N items. Otherwise all positions share one sample, drawn without
    repetition, whose logits are raised by log(N / negatives) so that the sum over it estimates that over the catalogue
    (sampled softmax, Jean et al. 2015, "On Using Very Large Target Vocabulary for Neural Machine Translation"). A
    position whose target was drawn does without that draw.

    Args:
        queries: One vector per position, shape [T, D].
        targets: The item that came next, 1..N, shape [T].
        items: Vectors of the items 0..N, shape [N + 1, D].
        bias: Logit of each item that does not depend on the query, shape [N + 1].
        negatives: Items drawn for the denominator; 0, or N and more, takes all.
    """
    n_items = len(items) - 1
    if not 0 < negatives < n_items:
        return F.cross_entropy(torch.addmm(bias[1:], queries, items[1:].T), targets - 1)  # [T, N]
    drawn = 1 + torch.randperm(n_items, device=items.device)[:negatives]
    positive = (queries * items[targets]).sum(-1, keepdim=True) + bias[targets, None]  # [T, 1]
    negative = torch.addmm(bias[drawn] + math.log(n_items / negatives), queries, items[drawn].T)  # [T, negatives]
    column = torch.full((n_items + 1,), -1, device=items.device)
    column[drawn] = torch.arange(negatives, device=items.device)
    hit = (column[targets] >= 0).nonzero().squeeze(1)
    negative[hit, column[targets[hit]]] = -torch.inf
    # The target stands in column 0.
    return F.cross_entropy(torch.cat([positive, negative], 1), torch.zeros_like(targets))


def negatives_of(family: str, softmax: str, negatives: int) -> int:
    """Give the number of negatives that `softmax_loss` takes: 0 where the softmax is full.

    Raises:
        ValueError: There is no such softmax, or it would be sampled from nothing.
    """
    if softmax not in ("full", "sampled"):
        raise ValueError(f"softmax of {family} must be 'full' or 'sampled' but is {softmax!r}.")
    if negatives < 1:
        raise ValueError(f"negatives of {family} must be 1 or more but is {negatives}.")
    return negatives if softmax == "sampled" else 0


def log_popularity(train: Sequences) -> Tensor:
    """Give the log of each item's share in `train`, with one interaction added to each item. Shape [N + 1], float32.

    >>> twos = Sequences(items=np.array([2, 2], np.int32), times=np.arange(2), offsets=np.array([0, 2]), n_items=2)
    >>> [round(float(share), 2) for share in log_popularity(twos).exp()[1:]]
    [0.25, 0.75]
    """
    counts = np.bincount(train.items, minlength=train.n_items + 1) + 1.0
    counts[0] = 1.0
    return torch.from_numpy(np.log(counts / counts[1:].sum())).float()
