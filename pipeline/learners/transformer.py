"""Self-attention over the points of a drawing (torch)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import gelu, pad, scaled_dot_product_attention

from pipeline.drawings.encodings import STROKES, points
from pipeline.foundation.params import Count, Share, Widths
from pipeline.learners._torch import TorchLearner

OCTAVES = 4  # of sines and cosines of coordinates: the finest has 8 periods per canvas, each a few lines wide
FEATURES = 3 * (1 + 2 * OCTAVES) + 3  # input features per point: see `described`


class Learner(TorchLearner):
    """Convolutions along the points, a few points per token, pre-norm attention blocks, mean over the tokens.

    Attention: https://arxiv.org/abs/1706.03762; the norm before each part: https://arxiv.org/abs/2002.04745; sines and
    cosines of coordinates: https://arxiv.org/abs/2006.10739. Attention alone needs many drawings to learn which points
    are neighbours, so convolutions come first; a block's cost grows with the tokens, so a token holds a few points.
    """

    encode = points
    search: ClassVar = {"network.heads": [2, 4, 8], "network.points_a_token": [1, 2, 4]}

    def network(
        self,
        num_words: int,
        *,
        filters: Widths,
        points_a_token: Count,
        width: Count,
        heads: Count,
        layers: Count,
        dropout: Share,
    ) -> nn.Module:
        """Convolutions of these filters, then `layers` blocks of `width` with `heads` heads."""
        length = self.params.encoding["length"]
        if length % points_a_token:
            raise ValueError(f"length {length} is not a multiple of points_a_token {points_a_token}")
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of {heads} heads")
        return Transformer(num_words, filters, points_a_token, width, heads, layers, dropout)


class Transformer(nn.Module):
    """(B, T, 4) points and lengths (B,) → (B, num_words)."""

    octaves: torch.Tensor

    def __init__(
        self,
        num_words: int,
        filters: list[int],
        points_a_token: int,
        width: int,
        heads: int,
        layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.points_a_token = points_a_token
        self.register_buffer("octaves", torch.pi * 2.0 ** torch.arange(OCTAVES), persistent=False)
        self.convolutions = nn.ModuleList(
            nn.Sequential(nn.Conv1d(a, b, 5, padding=2, bias=False), nn.BatchNorm1d(b), nn.ReLU())
            for a, b in zip([FEATURES, *filters[:-1]], filters, strict=True)
        )
        self.token = nn.Linear(filters[-1] * points_a_token, width)
        self.stroke = nn.Embedding(STROKES + 1, width)  # the last one is shared by all later strokes
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, num_words))

    def forward(self, points: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Convolutions, attention and the mean ignore everything after the end of a drawing."""
        lengths = lengths.to(points.device, non_blocking=True)
        inside = torch.arange(points.shape[1], device=points.device) < lengths[:, None]  # (B, T)
        strokes = (points[:, :, 2] * STROKES).round()  # adversarial training moves inputs a little
        x = described(points, strokes, self.octaves).transpose(1, 2)  # (B, FEATURES, T)
        for convolution in self.convolutions:
            x = convolution(x.masked_fill(~inside[:, None], 0))
        x = x.masked_fill(~inside[:, None], 0).transpose(1, 2)  # (B, T, filters)
        first = slice(None, None, self.points_a_token)  # point of a token: decides if it is inside, and its stroke
        x = self.token(x.unflatten(1, (-1, self.points_a_token)).flatten(2))  # (B, tokens, width)
        x = x + self.stroke(strokes[:, first].long().clamp(0, STROKES))
        inside = inside[:, first]
        for block in self.blocks:
            x = block(x, inside[:, None, None])
        x = self.norm(x).masked_fill(~inside[:, :, None], 0)
        return self.head(x.sum(1) / inside.sum(1, keepdim=True))


def described(points: torch.Tensor, strokes: torch.Tensor, octaves: torch.Tensor) -> torch.Tensor:
    """Points (B, T, 4), strokes (B, T) and frequencies (OCTAVES,) → features of each point: (B, T, FEATURES).

    x, y and position, their sines and cosines, the step from the previous point (0 at the first point of a stroke),
    and whether it is the first point of a new stroke.
    """
    where = points[:, :, [0, 1, 3]]
    angles = (where[..., None] * octaves).flatten(2)  # (B, T, 3 * OCTAVES)
    first = pad(strokes[:, 1:] != strokes[:, :-1], (1, 0))[..., None]
    way = pad(points[:, 1:, :2] - points[:, :-1, :2], (0, 0, 1, 0)).masked_fill(first, 0)
    return torch.cat([where, angles.sin(), angles.cos(), way, first], 2)


class Block(nn.Module):
    """Attention, then a feed-forward layer, each with a residual connection: (B, T, width) → (B, T, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.asked, self.attended = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.forth, self.back = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """Attend to the tokens that are `inside`: (B, 1, 1, T)."""
        asked = self.asked(self.first_norm(x)).unflatten(2, (3, self.heads, -1))  # (B, T, 3, heads, width / heads)
        queries, keys, values = asked.permute(2, 0, 3, 1, 4)  # each (B, heads, T, width / heads)
        attended = scaled_dot_product_attention(queries, keys, values, attn_mask=inside)
        x = x + self.attended(attended.transpose(1, 2).flatten(2))
        return x + self.back(gelu(self.forth(self.second_norm(x))))
