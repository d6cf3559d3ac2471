"""Shards: drawings in Arrow IPC files, memory-mapped into flat NumPy arrays that the encoders read in place.

Shards         all rows of some shard files, numbered from 0
  .take(rows)  → Drawings: rows of shards in a given order; no point is copied
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import xxhash

from pipeline.foundation.contents import intact
from pipeline.foundation.errors import SketchstackError

TEST = "test"
SUMMARY = "summary.json"  # beside the folds' folders; lists every shard with the hash of its bytes
NO_LABEL = -1
AT_A_TIME = 8  # shards hashed at once; the hash is as fast as memory

_TIMES = pa.field("t", pa.list_(pa.field("item", pa.uint32(), nullable=False)), nullable=False)
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
TIMED_SCHEMA = SCHEMA.append(_TIMES)  # of raw drawings: the time of each point that was kept


@dataclass(frozen=True)
class Shard:
    """N drawings as flat read-only arrays: drawing i has points `x[points[i]:points[i + 1]]`, strokes likewise.

    Attributes:
        key_id: (N,) int64.
        word: (N,) int16 labels; -1 where not known.
        x, y: (P,) uint8 coordinates, 0..255, y downwards.
        t: (P,) uint32 milliseconds as recorded; empty without timing.
        stroke: (S,) uint16, number of points of each stroke.
        points: (N + 1,) int32 offsets into x, y and t.
        strokes: (N + 1,) int32 offsets into `stroke`.
    """

    key_id: np.ndarray
    word: np.ndarray
    x: np.ndarray
    y: np.ndarray
    t: np.ndarray
    stroke: np.ndarray
    points: np.ndarray
    strokes: np.ndarray

    def __post_init__(self) -> None:
        for array in vars(self).values():
            array.setflags(write=False)  # as memory maps: one array type, one compiled kernel

    def __len__(self) -> int:
        return len(self.key_id)

    @property
    def timed(self) -> bool:
        """Whether each point has its time."""
        return len(self.t) == len(self.x)

    @classmethod
    def from_lists(
        cls, drawings: Sequence[Sequence[Sequence[Sequence[int]]]], words: Sequence[int] | None = None
    ) -> Shard:
        """Build a shard from lists of strokes, each (xs, ys) or (xs, ys, ts); key_ids count up from 0.

        Raises:
            ValueError: a drawing has no strokes, or a stroke no points.
        """
        if not all(drawing and all(len(stroke[0]) for stroke in drawing) for drawing in drawings):
            raise ValueError("each drawing needs a stroke, and each stroke a point")
        flat = [stroke for drawing in drawings for stroke in drawing]
        axes = [np.fromiter(itertools.chain.from_iterable(axis), int) for axis in zip(*flat, strict=True)]
        x, y, *t = axes or [np.empty(0, int)] * 2
        return cls(
            key_id=np.arange(len(drawings), dtype=np.int64),
            word=np.asarray(words if words is not None else [NO_LABEL] * len(drawings), np.int16),
            x=x.astype(np.uint8),
            y=y.astype(np.uint8),
            t=t[0].astype(np.uint32) if t else np.empty(0, np.uint32),
            stroke=np.asarray([len(stroke[0]) for stroke in flat], np.uint16),
            points=offsets([sum(len(stroke[0]) for stroke in drawing) for drawing in drawings]),
            strokes=offsets([len(drawing) for drawing in drawings]),
        )


def offsets(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """Offsets (N + 1,) int32 of consecutive pieces of these lengths."""
    found = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=found[1:])
    return found


class Piece(NamedTuple):
    """Some drawings of one shard, and their positions in the result.

    Attributes:
        shard: the shard.
        rows: (n,) int64 rows of the shard.
        places: (n,) int64 row i is drawing places[i].
    """

    shard: Shard
    rows: np.ndarray
    places: np.ndarray


@dataclass(frozen=True)
class Drawings:
    """N drawings in some order, not copied: encoders go through the pieces and read the points from the shards.

    Attributes:
        count: N.
        pieces: the rows of each shard; together they have every position 0..N-1 once.
    """

    count: int
    pieces: tuple[Piece, ...]

    def __len__(self) -> int:
        return self.count

    @cached_property
    def key_id(self) -> np.ndarray:
        """(N,) int64."""
        return self._column("key_id", np.int64)

    @cached_property
    def word(self) -> np.ndarray:
        """(N,) int16 labels; -1 where not known."""
        return self._column("word", np.int16)

    def _column(self, name: str, dtype: type[np.generic]) -> np.ndarray:
        column = np.empty(len(self), dtype)
        for shard, rows, places in self.pieces:
            column[places] = getattr(shard, name)[rows]
        return column

    @classmethod
    def from_lists(
        cls, drawings: Sequence[Sequence[Sequence[Sequence[int]]]], words: Sequence[int] | None = None
    ) -> Drawings:
        """Drawings in a new shard; see `Shard.from_lists`."""
        return Shards([Shard.from_lists(drawings, words)])[:]

    @property
    def timed(self) -> bool:
        """Whether each point has its time."""
        return all(piece.shard.timed for piece in self.pieces)

    def strokes_of(self, place: int) -> list[tuple[np.ndarray, ...]]:
        """The strokes of one drawing, each (x, y) or (x, y, t), for people and previews; encoders read the shards."""
        for shard, rows, places in self.pieces:
            for row in rows[places == place]:
                lengths = shard.stroke[shard.strokes[row] : shard.strokes[row + 1]]
                cuts = shard.points[row] + np.cumsum([0, *lengths.tolist()])
                axes = (shard.x, shard.y, shard.t) if shard.timed else (shard.x, shard.y)
                return [tuple(axis[start:end] for axis in axes) for start, end in itertools.pairwise(cuts)]
        raise IndexError(f"place {place} of {len(self)} drawings")

    def parts(self, count: int) -> list[tuple[Piece, ...]]:
        """Split the pieces into up to `count` parts with about the same number of drawings.

        Together the parts have each position once, so encoders may fill the same arrays from several threads.
        """
        ends = np.cumsum([0, *(len(rows) for _, rows, _ in self.pieces)]).tolist()
        parts = [
            tuple(
                Piece(shard, rows[max(0, low - start) : high - start], places[max(0, low - start) : high - start])
                for (shard, rows, places), (start, end) in zip(self.pieces, itertools.pairwise(ends), strict=True)
                if max(low, start) < min(high, end)
            )
            for low, high in itertools.pairwise(np.linspace(0, ends[-1], count + 1).astype(int).tolist())
        ]
        return [part for part in parts if part]


class Shards:
    """The drawings of several shard files as one numbered sequence of rows, read through memory maps."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = list(shards)
        self._starts = np.cumsum([0, *map(len, self.shards)])  # int64

    def __len__(self) -> int:
        """The number of drawings (not of shards)."""
        return int(self._starts[-1])

    def __getitem__(self, rows: slice) -> Drawings:
        """The drawings of a range of rows."""
        return self.take(np.arange(*rows.indices(len(self))))

    @cached_property
    def key_id(self) -> np.ndarray:
        """(rows,) int64."""
        return np.concatenate([np.empty(0, np.int64), *(shard.key_id for shard in self.shards)])

    @cached_property
    def word(self) -> np.ndarray:
        """(rows,) int16."""
        return np.concatenate([np.empty(0, np.int16), *(shard.word for shard in self.shards)])

    @property
    def timed(self) -> bool:
        """Whether each point has its time."""
        return all(shard.timed for shard in self.shards)

    def first(self, count: int) -> Shards:
        """The first `count` rows."""
        kept = []
        for shard, start in zip(self.shards, self._starts, strict=False):
            rows = min(len(shard), count - start)
            if rows > 0:
                cut = {name: getattr(shard, name)[:rows] for name in ("key_id", "word")}
                cut |= {name: getattr(shard, name)[: rows + 1] for name in ("points", "strokes")}
                kept.append(Shard(**{**vars(shard), **cut}))
        return Shards(kept)

    def chunks(self, size: int) -> Iterator[Drawings]:
        """All drawings in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def take(self, rows: np.ndarray) -> Drawings:
        """Drawings by row number, in the order of `rows`.

        Args:
            rows: (N,) integers below len(self).

        Raises:
            IndexError: a row number is out of range.
        """
        places = np.argsort(rows)  # sorted rows are grouped by shard
        ordered = np.asarray(rows)[places].astype(np.int64)
        if len(ordered) and (ordered[0] < 0 or ordered[-1] >= len(self)):
            raise IndexError(f"rows must be in 0..{len(self) - 1}")
        cuts = itertools.pairwise(np.searchsorted(ordered, self._starts).tolist())
        pieces = tuple(
            Piece(shard, ordered[start:end] - first, places[start:end])
            for shard, first, (start, end) in zip(self.shards, self._starts, cuts, strict=False)
            if end > start
        )
        return Drawings(len(ordered), pieces)


def write_shard(path: Path, table: pa.Table) -> None:
    """Write one shard as an Arrow IPC file of a single record batch, so that each flat list maps to one array.

    Args:
        path: the file.
        table: columns of SCHEMA or TIMED_SCHEMA; `countrycode` may be plain strings.
    """
    schema = TIMED_SCHEMA if "t" in table.schema.names else SCHEMA
    place, codes = table.schema.get_field_index("countrycode"), table["countrycode"].combine_chunks()
    if not pa.types.is_dictionary(codes.type):
        table = table.set_column(place, "countrycode", codes.dictionary_encode())
    batches = table.cast(schema).combine_chunks().to_batches()
    batch = batches[0] if batches else pa.RecordBatch.from_pylist([], schema=schema)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(batch)


def shard_hashes(folder: Path, names: Sequence[str] = ("*",)) -> dict[str, str]:
    """128-bit xxHash of the bytes of every shard, by path inside the folder of the folds.

    Args:
        folder: the folder of the folds.
        names: of the folders in it; all by default.
    """
    paths = sorted(path for name in names for path in folder.glob(f"{name}/*.arrow"))
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return dict(zip((str(path.relative_to(folder)) for path in paths), pool.map(_hash_of, paths), strict=True))


def _hash_of(path: Path) -> str:
    with pa.memory_map(str(path)) as file:
        return xxhash.xxh3_128_hexdigest(file.read_buffer())


def open_shard(path: Path) -> Shard:
    """Memory-map one shard.

    Raises:
        SketchstackError: the file is not a shard that `write_shard` wrote.
    """
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        if reader.num_record_batches != 1 or not reader.schema.equals(SCHEMA) | reader.schema.equals(TIMED_SCHEMA):
            columns = ", ".join(f"{field.name} {field.type}" for field in reader.schema)
            raise pa.ArrowInvalid(f"{reader.num_record_batches} record batches of columns {columns}")
        batch = reader.get_batch(0)
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(path, f"is not a shard ({error})") from None
    x, stroke = batch.column("x"), batch.column("stroke")
    return Shard(
        key_id=mapped_array(batch.column("key_id"), np.int64),
        word=mapped_array(batch.column("word"), np.int16),
        x=mapped_array(x.values, np.uint8),
        y=mapped_array(batch.column("y").values, np.uint8),
        t=mapped_array(batch.column("t").values, np.uint32) if "t" in batch.schema.names else np.empty(0, np.uint32),
        stroke=mapped_array(stroke.values, np.uint16),
        points=mapped_array(x.offsets, np.int32),
        strokes=mapped_array(stroke.offsets, np.int32),
    )


def mapped_array(values: pa.Array, dtype: type[np.generic]) -> np.ndarray:
    """A NumPy view of an Arrow array without nulls; pyarrow's `to_numpy` does the same, but imports pandas first."""
    return np.frombuffer(values.buffers()[1], dtype)[values.offset : values.offset + len(values)]


def open_shards(folders: Sequence[Path]) -> Shards:
    """Open all shards of some folders (`folds/fold0`, `folds/test`), in the order of folders and file names.

    The hash of each shard is checked, so a damaged drawing never trains a network.

    Raises:
        SketchstackError: a folder holds no shards, or not the shards that the summary beside it lists.
    """
    paths: list[Path] = []
    for folder in folders:
        listed, found = _listed(folder), shard_hashes(folder.parent, [folder.name])
        if not listed:
            raise SketchstackError(f"{folder} holds no shards (*.arrow); run `dvc repro shuffle` to write them.")
        for name in sorted({*listed, *found}):
            if name not in found:
                raise _damaged(folder.parent / name, "is missing")
            if name not in listed:
                raise _damaged(folder.parent / name, f"is not listed in {folder.parent / SUMMARY}")
            if listed[name] != found[name]:
                raise _damaged(folder.parent / name, "was cut or altered since it was written")
        paths += [folder.parent / name for name in listed]
    return Shards([open_shard(path) for path in paths])


def _listed(folder: Path) -> dict[str, str]:
    """The shards of a folder of the folds with their hashes, as the summary lists them."""
    path = folder.parent / SUMMARY
    try:
        listed: dict[str, str] = json.loads(intact(path).read_text(encoding="utf-8"))["shards"]
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError):
        raise _damaged(path, "does not list the shards") from None
    return {name: found for name, found in sorted(listed.items()) if name.startswith(f"{folder.name}/")}


def _damaged(path: Path, fault: str) -> SketchstackError:
    return SketchstackError(f"{path} {fault}; run `dvc repro -f shuffle` to write it again.")
