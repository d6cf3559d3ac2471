from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.drawings.shards import Shard, Shards
from pipeline.stacking.rows import facts_of

UNTIMED: list[Any] = [[([1, 2, 3], [4, 5, 6]), ([7], [8])], [([1, 2], [3, 4])]]
LATE = 2**32 - 60  # where float32 would round to 256 ms
TIMED: list[Any] = [
    [([1, 2, 3], [4, 5, 6], [100, 200, 400]), ([7], [8], [2600])],
    [([1, 2], [3, 4], [LATE, LATE + 50])],
]


def test_facts_are_strokes_points_and_seconds_where_they_are_known():
    shards = Shards([Shard.from_lists(TIMED), Shard.from_lists(UNTIMED[1:])])
    found = facts_of(shards)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.array([[2, 4, 2.5], [1, 2, 0.05], [1, 2, 0]]))


def test_facts_are_of_the_rows_that_are_kept():
    shards = Shards([Shard.from_lists(TIMED), Shard.from_lists(UNTIMED)])
    np.testing.assert_array_equal(facts_of(shards.first(3)), facts_of(shards)[:3])
    assert facts_of(shards.first(0)).shape == (0, 3)
