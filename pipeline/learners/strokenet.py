"""Features learned along the strokes, written onto a grid, then a residual network (torch)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import pad

from pipeline.drawings.encodings import STROKES, points
from pipeline.foundation.params import Count, Share, Widths
from pipeline.learners._torch import TorchLearner, square_root

CANVAS = 2.0  # side of the canvas: x and y are in -1..1
DOT = 1 / 16  # each stroke is lengthened by this share of CANVAS, so that a stroke of a single point leaves ink
SHORT = 1e-4  # shorter than any distance between two points, but its inverse keeps float32 accuracy
DESCRIBED = 7  # input features per sample: see `described_samples`


class Learner(TorchLearner):
    """Learned features of samples along the strokes, written onto a grid; then a residual network over the grid.

    The writing is bilinear, so gradients pass through it and all parts train together; after the competition's 8th
    place. Residual blocks: https://arxiv.org/abs/1512.03385. Squeeze and excitation: https://arxiv.org/abs/1709.01507.
    """

    encode = points

    def network(
        self,
        num_words: int,
        *,
        samples: Count,
        features: Widths,
        side: Count,
        widths: Widths,
        blocks: Count,
        dropout: Share,
    ) -> nn.Module:
        """`samples` positions along the strokes, convolutions with these `features`, a grid of side `side`.

        Then stages of these widths; each after the first halves the side; `blocks` residual blocks per stage.
        """
        return StrokeNet(num_words, samples, features, side, widths, blocks, dropout)


class StrokeNet(nn.Module):
    """(B, T, 4) points and lengths (B,) → (B, num_words)."""

    shares: torch.Tensor
    cells: torch.Tensor

    def __init__(
        self,
        num_words: int,
        samples: int,
        features: list[int],
        side: int,
        widths: list[int],
        blocks: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.register_buffer("shares", (torch.arange(samples) + 0.5) / samples, persistent=False)  # of the arc length
        self.register_buffer("cells", torch.arange(float(side)), persistent=False)
        learned: list[nn.Module] = []
        for a, b in zip([DESCRIBED, *features[:-1]], features, strict=True):
            learned += [nn.Conv1d(a, b, 5, padding=2, bias=False), nn.BatchNorm1d(b), nn.ReLU()]
        self.learned = nn.Sequential(*learned)
        width = features[-1]
        layers: list[nn.Module] = [nn.BatchNorm2d(width)]
        for stage, wider in enumerate(widths):
            for block in range(blocks):
                layers.append(Block(width, wider, stride=2 if block == 0 and stage > 0 else 1))
                width = wider
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(width, num_words)]
        self.read = nn.Sequential(*layers, *head)

    def forward(self, points: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Sample, describe and place in float32, whatever the precision of the learned layers."""
        with torch.autocast(points.device.type, enabled=False):
            samples, pace = walk(points.float(), lengths.to(points.device, non_blocking=True), self.shares)
            described, weights = described_samples(samples, pace), self.written(samples[:, :2], pace)
        features = self.learned(described)  # (B, C, samples)
        grid = weights.to(features.dtype) @ features.transpose(1, 2)  # (B, side * side, C): channels last
        return self.read(grid.unflatten(1, (len(self.cells), -1)).permute(0, 3, 1, 2))

    def written(self, places: torch.Tensor, pace: torch.Tensor) -> torch.Tensor:
        """The weight of each sample in each cell: (B, 2, samples) places, (B,) paces → (B, side * side, samples).

        A sample is shared bilinearly by the four cells around it, with a total weight of its arc length in cells.
        Written as a matrix product: scattering adds in no fixed order on a GPU, and sequentially on a CPU.
        """
        most = len(self.cells) - 1
        cells = (places + CANVAS / 2) * (most / CANVAS)  # (B, 2, samples)
        near = (1 - (cells[:, :, None] - self.cells[:, None]).abs()).clamp(min=0)  # (B, 2, side, samples)
        columns, rows = near.unbind(1)
        rows = rows * (pace * (most / CANVAS))[:, None, None]
        return (rows[:, :, None] * columns[:, None]).flatten(1, 2)


def walk(points: torch.Tensor, lengths: torch.Tensor, shares: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample each drawing at equal steps of arc length; the gaps between strokes have no length.

    Args:
        points: (B, T, 4) x, y, stroke number / STROKES, position in the drawing.
        lengths: (B,) number of points of each drawing.
        shares: (N,) where samples are taken, as shares of the total arc length.

    Returns:
        (B, 4, N) samples, interpolated linearly between the features of neighbouring points; (B,) the arc length
        between consecutive samples.
    """
    whole = (points[:, :, 2:3] * STROKES).round() / STROKES  # adversarial training moves inputs
    points = torch.cat([points[:, :, :2], whole, points[:, :, 3:]], 2)
    ahead = points[:, 1:] - points[:, :-1]  # (B, T - 1, 4)
    inside = torch.arange(1, points.shape[1], device=points.device) < lengths[:, None]  # (B, T - 1)
    drawn = inside & (ahead[:, :, 2] == 0)
    length = square_root(ahead[:, :, :2].square().sum(2).clamp(min=SHORT**2))
    way = torch.where(drawn, length, inside * (DOT * CANVAS))
    # A cumulative sum as a matrix product: torch.cumsum has no fixed order on a GPU.
    until = way @ torch.ones_like(way[0]).expand(way.shape[1], -1).triu()  # (B, T - 1)
    whole_way = until[:, -1] + DOT * CANVAS
    start = until - torch.where(drawn, way, way / 2)
    steepness = torch.where(drawn, 1 / length, inside / SHORT)
    at = shares * whole_way[:, None] - DOT * CANVAS / 2  # (B, N)
    passed = ((at[:, :, None] - start[:, None]) * steepness[:, None]).clamp(0, 1)  # (B, N, T - 1), share of a segment
    samples = points[:, :1] + passed @ ahead.masked_fill(~inside[:, :, None], 0)  # (B, N, 4)
    return samples.transpose(1, 2), whole_way / len(shares)


def described_samples(samples: torch.Tensor, pace: torch.Tensor) -> torch.Tensor:
    """Samples (B, 4, N) and the arc length between them (B,) → features of each sample: (B, DESCRIBED, N).

    The four features; the step in x and y from the previous sample divided by that arc length (of length 1 where the
    stroke is straight, 0 at the first sample of a stroke); whether it is the first sample of a new stroke.
    """
    steps = pad(samples[:, :3, 1:] - samples[:, :3, :-1], (1, 0))
    first = (steps[:, 2:] > 0.5 / STROKES).to(steps)
    return torch.cat([samples, steps[:, :2] / pace[:, None, None] * (1 - first), first], 1)


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
