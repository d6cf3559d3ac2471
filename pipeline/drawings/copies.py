"""Duplicates of a drawing, found by the hash of its points and strokes in any shard."""

from __future__ import annotations

import numpy as np

from pipeline.drawings.shards import Shards
from pipeline.drawings.strokes import drawing_hashes


def point_hashes(shards: Shards) -> np.ndarray:
    """The hash of each drawing's points and strokes, by which `shuffle` finds its fold: (rows,) uint64."""
    parts = [drawing_hashes(s.x, s.y, s.points, s.stroke, s.strokes) for s in shards.shards]
    return np.concatenate([np.empty(0, np.uint64), *parts])
