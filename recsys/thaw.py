"""Let what a network has taken over rest at first, and thaw it layer by layer from the scores back to the items.

After gradual unfreezing (Howard and Ruder 2018, "Universal Language Model Fine-tuning for Text Classification", section
3.3): what is new learns first, so that its noise does not spoil what is known already.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

THAWED = 0.5  # share of the epochs after which everything learns


class Thaw:
    """Decides for each epoch which numbers of a network rest.

    Args:
        network: A `Network` that has taken numbers over.
        taken: Which of each of its learner's parameters, booleans of its shape; the others never rest.
        epochs: How many the training has.
    """

    def __init__(self, network: nn.Module, taken: Mapping[str, Tensor], epochs: int) -> None:
        learner = getattr(network, "learner", network)
        self._parameters, self._taken, self._epochs = dict(learner.named_parameters()), taken, epochs
        self._layers = layers(learner)

    def resting(self, epoch: int) -> list[str]:
        """Name the parameters of which what was taken over rests in `epoch`, which counts from 1."""
        return [
            name
            for depth, layer in enumerate(self._layers)
            if epoch < begins(depth, n_layers=len(self._layers), epochs=self._epochs)
            for name in layer
            if self._taken[name].any()
        ]

    @contextmanager
    def during(self, epoch: int) -> Iterator["Rest"]:
        """Keep at rest, for the steps inside, what rests in `epoch`."""
        names = self.resting(epoch)
        whole = [self._parameters[name] for name in names if self._taken[name].all()]
        for parameter in whole:
            parameter.requires_grad_(False)
        partly = [(self._parameters[name], self._taken[name]) for name in names if not self._taken[name].all()]
        try:
            yield Rest([(p, mark.to(p.device), p.detach().clone()) for p, mark in partly])
        finally:
            for parameter in whole:
                parameter.requires_grad_(True)


@dataclass(frozen=True, slots=True)
class Rest:
    """Parameters of which some numbers rest: each with the mark of these, and as it was."""

    parts: list[tuple[Tensor, Tensor, Tensor]]

    def calm(self) -> None:
        """Take the resting numbers out of the gradients, before these are shortened and stepped along."""
        for parameter, mark, _ in self.parts:
            if parameter.grad is not None:
                parameter.grad[mark] = 0

    def restore(self) -> None:
        """Undo what a step did to them nevertheless, such as weight decay."""
        with torch.no_grad():
            for parameter, mark, was in self.parts:
                parameter.copy_(torch.where(mark, was, parameter))


def layers(learner: nn.Module) -> list[list[str]]:
    """List the names of a network's parameters by layer, from the scores back to the items.

    Layers are the network's parts in the order in which it lists them, the members of a list of parts each by itself;
    parameters that belong to no part stand by the scores.
    """
    names = list(dict(learner.named_parameters()))
    parts: list[str] = []
    for path, part in learner.named_children():
        parts += (
            [f"{path}.{member}" for member, _ in part.named_children()] if isinstance(part, nn.ModuleList) else [path]
        )
    found = [[name for name in names if name.startswith(f"{part}.")] for part in reversed(parts)]
    first, *others = [layer for layer in found if layer] or [[]]
    alone = [name for name in names if "." not in name]
    return [alone + first, *others]


def begins(depth: int, *, n_layers: int, epochs: int) -> int:
    """Say in which epoch a layer begins to learn.

    >>> [begins(depth, n_layers=4, epochs=10) for depth in range(4)]
    [1, 3, 5, 6]
    >>> [begins(depth, n_layers=4, epochs=1) for depth in range(4)]  # what rests has no epoch to thaw in
    [1, 2, 2, 2]
    """
    return 1 + math.ceil(depth * THAWED * epochs / max(n_layers - 1, 1))
