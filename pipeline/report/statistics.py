"""Statistics of drawings without a network, and a test whether two sets of drawings differ in them."""

from __future__ import annotations

import warnings

import numpy as np

from pipeline.drawings.shards import Shard, Shards
from pipeline.stacking.rows import facts_of

STATISTICS = ("strokes", "points", "seconds", "length", "width", "height")
UNITS = {
    "strokes": "strokes", "points": "points", "seconds": "seconds drawn", "length": "length, px", "width": "width, px",
    "height": "height, px",
}  # fmt: skip
POINTS = 10  # test points of the two-sample test
LEAST_COMPARED = 100  # fewest rows of each sample


def statistics_of(shards: Shards) -> np.ndarray:
    """STATISTICS of each drawing, (N, 6) float32; 0 seconds without timing; pixels on a canvas of 256."""
    found = [np.empty((0, len(STATISTICS)), np.float32), *map(_measured, shards.shards)]
    return np.concatenate(found)


def _measured(shard: Shard) -> np.ndarray:
    facts = facts_of(Shards([shard]))
    if not len(shard):
        return np.empty((0, len(STATISTICS)), np.float32)
    starts, end = shard.points[:-1], shard.points[-1]
    x, y = (axis[:end].astype(np.float32) for axis in (shard.x, shard.y))
    steps = np.hypot(np.diff(x, append=x[-1]), np.diff(y, append=y[-1]))
    steps[np.cumsum(shard.stroke[: shard.strokes[-1]], dtype=np.int64) - 1] = 0  # not between strokes
    sizes = [np.maximum.reduceat(axis, starts) - np.minimum.reduceat(axis, starts) for axis in (x, y)]
    return np.column_stack([facts, np.add.reduceat(steps, starts), *sizes]).astype(np.float32)


def two_sample_test(one: np.ndarray, other: np.ndarray, seed: int) -> tuple[float, float]:
    """Test whether two sets of rows come from one distribution, by their mean embeddings at POINTS random points.

    Of the larger sample, evenly spread rows are used, as many as the smaller sample has. Columns are scaled to mean 0
    and deviation 1 over both samples. Source: Chwialkowski et al., Fast Two-Sample Testing with Analytic
    Representations of Probability Measures, arXiv:1506.04725 (hyppo); its cost grows with the rows, not their pairs.

    Args:
        one: (N, F) float.
        other: (M, F) float.
        seed: of the points.

    Returns:
        The statistic (about POINTS if the samples do not differ) and the p-value.

    Raises:
        ValueError: a sample has fewer than LEAST_COMPARED rows.
    """
    count = min(len(one), len(other))
    if count < LEAST_COMPARED:
        raise ValueError(f"a two-sample test needs {LEAST_COMPARED} rows per sample")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of SciPy's names that its dependency autograd imports
        from hyppo.ksample import MeanEmbeddingTest
    both = np.stack([side[np.linspace(0, len(side) - 1, count).astype(np.int64)] for side in (one, other)])
    varies = both.std(axis=(0, 1)) > 0
    both = both[:, :, varies].astype(np.float64)
    scaled = (both - both.mean(axis=(0, 1))) / both.std(axis=(0, 1))
    if (scaled[0] == scaled[1]).all():
        return 0.0, 1.0
    # A random state of 0 means none to hyppo, and NumPy allows states below 2**32.
    found = MeanEmbeddingTest(POINTS).test(*scaled, random_state=1 + seed % (2**32 - 1))
    return float(found.stat), float(found.pvalue)
