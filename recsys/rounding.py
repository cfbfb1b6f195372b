"""Let a network learn with the weights that int8 will leave it (quantisation-aware training).

What a step sees are the weights rounded as `recsys.rowwise` rounds them: each row of an embedding, and each of a layer,
which gives one of its results, to whole multiples of its own scale. Gradients pass through the rounding as if it were
not there (the straight-through estimator: Bengio et al. 2013, "Estimating or Propagating Gradients Through Stochastic
Neurons"; Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference"), so that the weights move to where rounding costs little.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call

LARGEST = 127  # multiple of a row's scale


def rounded_loss(network: nn.Module, windows: Tensor) -> Tensor:
    """Give `network.loss` as it is with rounded weights; the weights themselves stay as they are and get the gradients.

    Args:
        network: A `Network`.
        windows: As its `loss` takes them.
    """
    weights = {f"network.{name}": _rounded(weight) for name, weight in matrices(network).items()}
    loss: Tensor = functional_call(_Loss(network), weights, (windows,))
    return loss


def matrices(network: nn.Module) -> dict[str, Tensor]:
    """Give what int8 rounds, by the name of the parameter: embeddings, and the weights of layers."""
    return {
        f"{name}.weight": module.weight
        for name, module in network.named_modules()
        if isinstance(module, nn.Embedding | nn.Linear)
    }


class _Loss(nn.Module):
    """A network whose loss can be called with other weights."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, windows: Tensor) -> Tensor:
        loss: Tensor = self.network.loss(windows)  # type: ignore[operator]
        return loss


def _rounded(weight: Tensor) -> Tensor:
    """Round each row to whole multiples of its own scale. Shape [R, C]."""
    scales = weight.detach().abs().amax(1) / LARGEST
    scales = torch.where(scales > 0, scales, 1.0)
    nothing = torch.zeros_like(scales, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scales, nothing, 0, -LARGEST, LARGEST)
