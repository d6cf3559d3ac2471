"""Small sets: some drawings move to other folds, so that each word is in two folds at least and no fold is empty.

The hash of a drawing chooses its fold. By chance it can choose one fold for all the few drawings of a word, which then
could not be learned with this fold held out, or none for a fold. Only then drawings move, chosen by their hashes: the
result does not depend on the order of the rows, and copies of a drawing stay together.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.drawings.copies import point_hashes
from pipeline.drawings.shards import Shards, open_shard, write_shard
from pipeline.foundation.errors import SketchstackError

PASSES = 3  # over the words: a drawing of two words that moves for one can be missed by the other
SHARE = 4  # an empty fold gets this part of an even share


def is_spread(counts: np.ndarray) -> bool:
    """Whether each word has rows in two folds, and each fold has rows; counts: (folds, num_words)."""
    return bool(((counts > 0).sum(axis=0) > 1).all() and counts.any(axis=1).all())


def spread(folder: Path, counts: np.ndarray, shards: int) -> np.ndarray:
    """Move drawings between the shards of the folds until each word is in two folds and no fold is empty, if possible.

    Args:
        folder: the folder of the folds, whose shards are written.
        counts: (folds, num_words) their rows.
        shards: per fold.

    Returns:
        (folds, num_words) rows after the moves.

    Raises:
        SketchstackError: there are fewer different drawings than folds.
    """
    folds = len(counts)
    paths = [folder / f"fold{fold}" / f"{shard:04d}.arrow" for fold in range(folds) for shard in range(shards)]
    opened = [open_shard(path) for path in paths]
    hashes = [point_hashes(Shards([shard])) for shard in opened]
    labels = np.concatenate([shard.word for shard in opened]).astype(np.int64)
    homes = np.repeat(
        np.arange(folds), [sum(map(len, hashes[at : at + shards])) for at in range(0, len(paths), shards)]
    )
    drawn, first, of_row = np.unique(np.concatenate(hashes), return_index=True, return_inverse=True)
    if len(drawn) < folds:
        raise SketchstackError(
            f"there are {len(drawn)} different training drawings, too few for {folds} folds: each fold needs one, so "
            f"add {folds - len(drawn)} drawings at least; tens of each word are a start."
        )
    now = new_homes(labels, of_row, homes[first], counts.shape[1], folds)
    moved = np.flatnonzero(now != homes[first])
    _move(paths, hashes, drawn[moved], now[moved], shards)
    print(f"{len(moved):,} drawings moved to another fold, so that each word is in two folds and no fold is empty")
    found = np.zeros_like(counts)
    np.add.at(found, (now[of_row], labels), 1)
    return found


def new_homes(labels: np.ndarray, of_row: np.ndarray, homes: np.ndarray, num_words: int, folds: int) -> np.ndarray:
    """The fold of each different drawing, (D,) int64, after the moves.

    Args:
        labels: (N,) of all rows.
        of_row: (N,) the number of each row's drawing, in the order of their hashes.
        homes: (D,) the fold of each drawing before.
        num_words: number of words.
        folds: number of folds.
    """
    homes = homes.copy()
    by_word = [np.unique(of_row[labels == label]) for label in range(num_words)]
    for _ in range(PASSES):
        for own in by_word:
            if len(own) > 1 and len(np.unique(homes[own])) == 1:
                filled = np.bincount(homes[of_row], minlength=folds)
                others = [int(fold) for fold in np.argsort(filled, kind="stable") if fold != homes[own[0]]]
                for drawing, fold in zip(own[1::2], itertools.cycle(others)):
                    homes[drawing] = fold
    least = max(1, len(homes) // (SHARE * folds))
    for empty in np.flatnonzero(np.bincount(homes, minlength=folds) == 0).tolist():
        _fill(empty, least, homes, by_word)
    return homes


def _fill(fold: int, least: int, homes: np.ndarray, by_word: list[np.ndarray]) -> None:
    """Move drawings to an empty fold until it has `least`: in turn of the words with the most drawings outside it."""
    while (homes == fold).sum() < least:
        outside = [own[homes[own] != fold] for own in by_word]
        spare = [own for own in outside if len(own) > 1] or [own for own in outside if len(own)]
        fullest = np.bincount(homes).argmax()
        from_fullest = [own[homes[own] == fullest] for own in spare]
        homes[max(from_fullest, key=len)[-1]] = fold


def _move(paths: list[Path], hashes: list[np.ndarray], moved: np.ndarray, to: np.ndarray, shards: int) -> None:
    """Rewrite the shards that drawings leave or come to; those that come are its last rows.

    Args:
        paths: of all shards, fold by fold.
        hashes: of the drawings of each.
        moved: (M,) uint64 hashes of the drawings to move, ascending.
        to: (M,) their new folds.
        shards: per fold.
    """
    tables, coming = {}, defaultdict(list)
    for place, (path, own) in enumerate(zip(paths, hashes, strict=True)):
        at = np.flatnonzero(np.isin(own, moved))
        if not len(at):
            continue
        tables[place] = (table := _read(path)).filter(pa.array(~np.isin(own, moved)))
        for row in at.tolist():
            fold = int(to[np.searchsorted(moved, own[row])])
            coming[fold * shards + place % shards].append(table.slice(row, 1))
    for place in sorted({*tables, *coming}):
        kept = tables[place] if place in tables else _read(paths[place])
        write_shard(paths[place], pa.concat_tables([kept, *coming[place]]).unify_dictionaries())


def _read(path: Path) -> pa.Table:
    """A shard in memory, as its file is written again."""
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_file(file).read_all()
