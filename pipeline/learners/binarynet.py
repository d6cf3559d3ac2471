"""A residual network of binary convolutions over a raster (torch); one bit per weight on disk."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, conv2d

from pipeline.drawings.encodings import num_channels, raster
from pipeline.foundation.params import Count, Share, Widths
from pipeline.learners._torch import TorchLearner
from pipeline.training.checkpoints import State


class Learner(TorchLearner):
    """Convolutions of binary inputs (-1, 1) and binary weights, each with a real-valued shortcut; first and last real.

    Signs of latent real weights, trained by a straight-through estimator: https://arxiv.org/abs/1602.02830. A shortcut
    around every convolution and the estimator's slope: https://arxiv.org/abs/1808.00278. Learned thresholds and
    shortcuts without weights: https://arxiv.org/abs/2003.03488. Norms follow the convolutions, so binary kernels need
    no scales.

    weights.safetensors holds signs, eight to a byte; the latent weights are in checkpoints only.
    """

    encode = raster

    def network(self, num_words: int, *, widths: Widths, layers: Count, dropout: Share) -> nn.Module:
        """Stages of these widths; each after the first halves the side; `layers` binary convolutions per stage."""
        channels = num_channels(self.params.encoding["channels"])
        parts: list[nn.Module] = [nn.Conv2d(channels, widths[0], 3, padding=1, stride=2, bias=False)]
        parts.append(nn.BatchNorm2d(widths[0]))
        width = widths[0]
        for stage, wider in enumerate(widths):
            for layer in range(layers):
                parts.append(Layer(width, wider, stride=2 if layer == 0 and stage > 0 else 1))
                width = wider
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(width, num_words)]
        return nn.Sequential(*parts, *head)

    def weights(self) -> State:
        """The network's arrays; binary kernels as packed sign bits `<layer>.bits` uint8, 1 for not negative."""
        found = super().weights()
        for name in self._binary():
            found[f"{name}.bits"] = np.packbits(found.pop(f"{name}.weight") >= 0)
        return found

    def set_weights(self, weights: State) -> None:
        """Put `weights()` back into a built network.

        Raises:
            KeyError, ValueError, RuntimeError: the weights belong to another network.
        """
        weights = dict(weights)
        for name, convolution in self._binary().items():
            bits, latent = weights.pop(f"{name}.bits"), convolution.weight
            if 8 * len(bits) - latent.numel() not in range(8):
                raise ValueError(f"{name}: {len(bits)} bytes for {latent.numel()} bits")
            positive = np.unpackbits(bits, count=latent.numel()).reshape(latent.shape) == 1
            # As large as the initial latent weights, so that a fit that starts from a file can flip signs.
            size = np.float32(latent[0].numel() ** -0.5)
            weights[f"{name}.weight"] = np.where(positive, size, -size)
        super().set_weights(weights)

    def _binary(self) -> dict[str, BinaryConvolution]:
        return {name: part for name, part in self.model.named_modules() if isinstance(part, BinaryConvolution)}


class Layer(nn.Module):
    """A binary convolution and its shortcut: (B, C, H, W) → (B, wider, H', W')."""

    def __init__(self, width: int, wider: int, stride: int) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.zeros(width))
        self.convolution = BinaryConvolution(width, wider, stride)
        self.norm, self.bend = nn.BatchNorm2d(wider), nn.PReLU(wider)
        self.copies, self.wider, self.stride = -(-wider // width), wider, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Where the convolution strides and widens, the shortcut averages neighbours and repeats channels."""
        around = avg_pool2d(x, self.stride) if self.stride > 1 else x
        around = torch.cat([around] * self.copies, 1)[:, : self.wider]
        x = x - self.threshold[:, None, None]
        # The step gets the slope of a parabola on each side of it, 0 where |x| > 1.
        binary = Signs.apply(x, (2 - 2 * x.detach().abs()).clamp(min=0)) if self.training else signs(x)
        return self.bend(self.norm(self.convolution(binary)) + around)


class BinaryConvolution(nn.Module):
    """A 3 by 3 convolution with the signs of its latent weights: (B, C, H, W) → (B, wider, H', W')."""

    def __init__(self, width: int, wider: int, stride: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(wider, width, 3, 3).uniform_(-1, 1) * (9 * width) ** -0.5)
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A latent weight outside -1..1 stays there: its gradient is 0."""
        weight = self.weight
        binary = Signs.apply(weight, (weight.detach().abs() <= 1).to(weight)) if self.training else signs(weight)
        return conv2d(x, binary, stride=self.stride, padding=1)


class Signs(torch.autograd.Function):
    """Signs of numbers, with a given slope in the backward pass: the straight-through estimator."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:  # noqa: D102
        ctx.save_for_backward(slope)
        return signs(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # noqa: D102
        (slope,) = ctx.saved_tensors
        return gradient * slope, None


def signs(x: torch.Tensor) -> torch.Tensor:
    """1 where a number is not negative, else -1; same dtype."""
    return (x >= 0).to(x) * 2 - 1
