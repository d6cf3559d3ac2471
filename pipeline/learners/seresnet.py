"""A squeeze-and-excitation residual network over a raster (torch)."""

from __future__ import annotations

import torch
from torch import nn

from pipeline.drawings.encodings import num_channels, raster
from pipeline.foundation.params import Count, Share, Widths
from pipeline.learners._torch import TorchLearner


class Learner(TorchLearner):
    """Stages of residual blocks with channel attention, then global average pooling and a linear head.

    Residual blocks: https://arxiv.org/abs/1512.03385. Squeeze and excitation: https://arxiv.org/abs/1709.01507.
    """

    encode = raster

    def network(self, num_words: int, *, widths: Widths, blocks: Count, dropout: Share) -> nn.Module:
        """Stages of these widths; each after the first halves the side; `blocks` residual blocks per stage."""
        channels = num_channels(self.params.encoding["channels"])
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 3, padding=1, stride=2, bias=False)]
        layers += [nn.BatchNorm2d(widths[0]), nn.ReLU()]
        width = widths[0]
        for stage, wider in enumerate(widths):
            for block in range(blocks):
                layers.append(Block(width, wider, stride=2 if block == 0 and stage > 0 else 1))
                width = wider
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(width, num_words)]
        return nn.Sequential(*layers, *head)


class Block(nn.Module):
    """Two 3 by 3 convolutions, channel attention, and a shortcut around them: (B, C, H, W) → (B, wider, H', W')."""

    def __init__(self, width: int, wider: int, stride: int) -> None:
        super().__init__()
        last_norm = nn.BatchNorm2d(wider)
        nn.init.zeros_(last_norm.weight)  # a block starts as its shortcut
        self.residual = nn.Sequential(
            nn.Conv2d(width, wider, 3, stride, 1, bias=False),
            nn.BatchNorm2d(wider),
            nn.ReLU(),
            nn.Conv2d(wider, wider, 3, 1, 1, bias=False),
            last_norm,
        )
        squeezed = max(1, wider // 8)
        self.attention = nn.Sequential(nn.Linear(wider, squeezed), nn.ReLU(), nn.Linear(squeezed, wider), nn.Sigmoid())
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or width != wider:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride), nn.Conv2d(width, wider, 1, bias=False), nn.BatchNorm2d(wider)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Gate the residual by its channel means and add the shortcut."""
        residual = self.residual(x)
        gate = self.attention(residual.mean((2, 3)))[:, :, None, None]  # (B, C, 1, 1)
        return torch.relu(self.shortcut(x) + residual * gate)
