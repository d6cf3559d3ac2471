"""Shards: drawings in Arrow IPC files, memory-mapped into flat NumPy arrays without a Python object a point."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
import pyarrow as pa

from pipeline.errors import SketchstackError

TEST = "test"
NO_LABEL = -1

SCHEMA = pa.schema(
    [
        pa.field("key_id", pa.int64(), nullable=False),
        pa.field("word", pa.int16(), nullable=False),  # index into words.json; -1 in the test set
        pa.field("countrycode", pa.dictionary(pa.int16(), pa.string())),
        pa.field("recognized", pa.bool_()),
        pa.field("timestamp", pa.timestamp("us", tz="UTC")),
        pa.field("x", pa.list_(pa.field("item", pa.uint8(), nullable=False)), nullable=False),
        pa.field("y", pa.list_(pa.field("item", pa.uint8(), nullable=False)), nullable=False),
        pa.field("stroke", pa.list_(pa.field("item", pa.uint16(), nullable=False)), nullable=False),
    ]
)


@dataclass(frozen=True)
class Drawings:
    """N drawings as flat arrays: drawing i has points `x[points[i]:points[i + 1]]`, strokes likewise.

    Attributes:
        key_id: (N,) int64.
        word: (N,) int16 labels; -1 where not known.
        x, y: (P,) uint8 coordinates, 0..255, y downwards.
        stroke: (S,) uint16, points of each stroke.
        points: (N + 1,) int64 offsets into x and y.
        strokes: (N + 1,) int64 offsets into `stroke`.
    """

    key_id: np.ndarray
    word: np.ndarray
    x: np.ndarray
    y: np.ndarray
    stroke: np.ndarray
    points: np.ndarray
    strokes: np.ndarray

    def __len__(self) -> int:
        return len(self.key_id)

    @classmethod
    def from_lists(
        cls, drawings: Sequence[Sequence[tuple[Sequence[int], Sequence[int]]]], words: Sequence[int] | None = None
    ) -> Drawings:
        """Build drawings from lists of strokes, each an (xs, ys) pair; key_ids count up from 0."""
        flat = [stroke for drawing in drawings for stroke in drawing]
        lengths = [len(xs) for xs, _ in flat]
        return cls(
            key_id=np.arange(len(drawings), dtype=np.int64),
            word=np.asarray(words if words is not None else [NO_LABEL] * len(drawings), np.int16),
            x=np.fromiter(itertools.chain.from_iterable(xs for xs, _ in flat), np.uint8),
            y=np.fromiter(itertools.chain.from_iterable(ys for _, ys in flat), np.uint8),
            stroke=np.asarray(lengths, np.uint16),
            points=_offsets([sum(len(xs) for xs, _ in drawing) for drawing in drawings]),
            strokes=_offsets([len(drawing) for drawing in drawings]),
        )

    def strokes_of(self, row: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """The strokes of one drawing as (x, y) pairs, for people and previews; encoders read the flat arrays."""
        start, pairs = int(self.points[row]), []
        for length in self.stroke[self.strokes[row] : self.strokes[row + 1]]:
            pairs.append((self.x[start : start + length], self.y[start : start + length]))
            start += int(length)
        return pairs


def _offsets(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """Offsets (N + 1,) int64 of consecutive pieces of these lengths."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


class Shards:
    """The drawings of several shard files as one numbered sequence of rows, read through memory maps.

    Attributes:
        key_id: (rows,) int64.
        word: (rows,) int16.
    """

    def __init__(self, shards: Sequence[Drawings]) -> None:
        self._shards = list(shards)
        self._starts = _offsets([len(shard) for shard in self._shards])
        self.key_id = _joined([shard.key_id for shard in self._shards], np.int64)
        self.word = _joined([shard.word for shard in self._shards], np.int16)

    def __len__(self) -> int:
        """How many drawings there are (not shards)."""
        return int(self._starts[-1])

    def __getitem__(self, rows: slice) -> Drawings:
        """The drawings of a range of rows."""
        return self.take(np.arange(*rows.indices(len(self))))

    def first(self, count: int) -> Shards:
        """The first `count` rows."""
        return Shards([self[:count]])

    def chunks(self, size: int) -> Iterator[Drawings]:
        """All drawings in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def take(self, rows: np.ndarray) -> Drawings:
        """Gather drawings by row number, in the order asked for.

        Args:
            rows: (N,) integers below len(self).

        Raises:
            IndexError: a row number is out of range.
        """
        rows = np.asarray(rows, np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"rows must lie in 0..{len(self) - 1}")
        homes = np.searchsorted(self._starts, rows, side="right") - 1  # (N,) the shard of each row
        point_counts, stroke_counts = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
        places = [(home, np.flatnonzero(homes == home)) for home in np.unique(homes)]
        for home, at in places:
            shard, local = self._shards[home], rows[at] - self._starts[home]
            point_counts[at] = shard.points[local + 1] - shard.points[local]
            stroke_counts[at] = shard.strokes[local + 1] - shard.strokes[local]
        points, strokes = _offsets(point_counts), _offsets(stroke_counts)
        x, y = np.empty(points[-1], np.uint8), np.empty(points[-1], np.uint8)
        stroke = np.empty(strokes[-1], np.uint16)
        for home, at in places:
            shard, local = self._shards[home], rows[at] - self._starts[home]
            _copy_pieces(shard.x, shard.points, local, x, points, at)
            _copy_pieces(shard.y, shard.points, local, y, points, at)
            _copy_pieces(shard.stroke, shard.strokes, local, stroke, strokes, at)
        return Drawings(self.key_id[rows], self.word[rows], x, y, stroke, points, strokes)


def _joined(pieces: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(pieces) if pieces else np.empty(0, dtype)


@numba.njit(nogil=True, cache=True)
def _copy_pieces(source, source_offsets, rows, target, target_offsets, places):  # type: ignore[no-untyped-def]
    """Copy piece rows[i] of `source` to place places[i] of `target`."""
    for i in range(len(rows)):
        start, end = source_offsets[rows[i]], source_offsets[rows[i] + 1]
        into = target_offsets[places[i]]
        for j in range(end - start):
            target[into + j] = source[start + j]


def write_shard(path: Path, table: pa.Table) -> None:
    """Write one shard as an Arrow IPC file of a single record batch, so that its flat lists map as one array each."""
    place = table.schema.get_field_index("countrycode")
    codes = table["countrycode"].combine_chunks().dictionary_encode()
    batches = table.set_column(place, "countrycode", codes).cast(SCHEMA).combine_chunks().to_batches()
    batch = batches[0] if batches else pa.RecordBatch.from_pylist([], schema=SCHEMA)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        writer.write_batch(batch)


def open_shard(path: Path) -> Drawings:
    """Memory-map one shard.

    Raises:
        SketchstackError: the file is not a shard that `write_shard` wrote.
    """
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        if reader.num_record_batches != 1 or reader.schema.names != SCHEMA.names:
            raise pa.ArrowInvalid(f"{reader.num_record_batches} record batches of columns {reader.schema.names}")
        batch = reader.get_batch(0)
    except (pa.ArrowInvalid, OSError) as error:
        raise SketchstackError(
            f"{path} is not a shard ({error}); run `dvc repro -f shuffle` to write it anew."
        ) from None
    x, stroke = batch.column("x"), batch.column("stroke")
    return Drawings(
        key_id=batch.column("key_id").to_numpy(),
        word=batch.column("word").to_numpy(),
        x=x.values.to_numpy(),
        y=batch.column("y").values.to_numpy(),
        stroke=stroke.values.to_numpy(),
        points=x.offsets.to_numpy().astype(np.int64),
        strokes=stroke.offsets.to_numpy().astype(np.int64),
    )


def open_shards(folders: Sequence[Path]) -> Shards:
    """Open all shards of some folders (`folds/fold0`, `folds/test`), in the order of folders and file names.

    Raises:
        SketchstackError: a folder holds no shards.
    """
    paths = []
    for folder in folders:
        found = sorted(folder.glob("*.arrow"))
        if not found:
            raise SketchstackError(f"{folder} holds no shards (*.arrow); run `dvc repro shuffle` to write them.")
        paths += found
    return Shards([open_shard(path) for path in paths])
