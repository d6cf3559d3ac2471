"""The rows to stack with their labels, folds and facts; a position is a row's number in their order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pipeline.drawings.shards import TEST, Shards, open_shards
from pipeline.drawings.words import Words
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import Params
from pipeline.foundation.places import places
from pipeline.predictions.cache import cached_share, check_cached_words
from pipeline.stacking.metalearners._base import FACTS


@dataclass(frozen=True)
class Rows:
    """The rows to stack: OOF rows fold by fold, then test rows.

    Attributes:
        key_ids: (N,) int64 of the OOF rows.
        labels: (N,) int16.
        folds: (N,) int8, ascending.
        test_key_ids: (T,) int64.
        facts: (N + T, len(FACTS)) float32, see `facts_of`.
    """

    key_ids: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    test_key_ids: np.ndarray
    facts: np.ndarray

    def __len__(self) -> int:
        return len(self.key_ids)

    def of_fold(self, fold: int) -> np.ndarray:
        """Positions of a fold's OOF rows."""
        return np.flatnonzero(self.folds == fold)

    @cached_property
    def fold_numbers(self) -> list[int]:
        """The folds, ascending."""
        return [int(fold) for fold in np.unique(self.folds)]

    @property
    def test_positions(self) -> np.ndarray:
        """(T,) int64 positions of the test rows, after those of the OOF rows."""
        return len(self) + np.arange(len(self.test_key_ids))


def read_rows(params: Params, folds: Path | None = None) -> Rows:
    """Read key_ids, labels and facts of the rows that learners cache from the shards."""
    folds = folds or places().folds
    held_out = [open_shards([folds / f"fold{fold}"]) for fold in params.folds]
    cached = [shards.first(cached_share(len(shards), params)) for shards in held_out]
    test = open_shards([folds / TEST])
    return Rows(
        key_ids=np.concatenate([shards.key_id for shards in cached]),
        labels=np.concatenate([shards.word for shards in cached]),
        folds=np.repeat(np.array(params.folds, np.int8), [len(shards) for shards in cached]),
        test_key_ids=test.key_id,
        facts=np.concatenate([facts_of(shards) for shards in (*cached, test)]),
    )


def facts_of(shards: Shards) -> np.ndarray:
    """Simple facts of each drawing, (N, len(FACTS)) float32: strokes, points, seconds from first to last point."""
    found = [np.empty((0, len(FACTS)), np.float32)]
    for shard in shards.shards:
        facts = np.zeros((len(shard), len(FACTS)), np.float32)
        facts[:, 0], facts[:, 1] = np.diff(shard.strokes), np.diff(shard.points)
        if shard.timed and len(shard):
            first, last = (shard.t[at].astype(np.int64) for at in (shard.points[:-1], shard.points[1:] - 1))
            facts[:, 2] = (last - first) / 1000
        found.append(facts)
    return np.concatenate(found)


def check_rows(rows: Rows, words: Words) -> None:
    """Refuse rows on which nested stacks cannot be fitted.

    Raises:
        SketchstackError: there are fewer than three folds, or a word has rows in one fold only.
    """
    if len(rows.fold_numbers) < 3:
        raise SketchstackError(
            f"params.yaml, folds: {len(rows.fold_numbers)} are too few to stack. To score the SuperLearner on a fold, "
            f"it is fitted on the other folds, which it splits again: write at least three, such as [0, 1, 2]."
        )
    check_cached_words(rows.labels, rows.folds, words)
