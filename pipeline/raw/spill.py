"""Rows between raw files and shards: gathered in memory, spilled to part files, joined into shards.

A part holds the rows of one future shard. Several threads fill the parts concurrently, so the order within a part is
arbitrary; `join` sorts it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numba
import numpy as np
import pyarrow as pa

from pipeline.drawings.shards import SCHEMA, TIMED_SCHEMA, mapped_array, write_shard
from pipeline.drawings.strokes import NO_TIME, Rows
from pipeline.foundation.errors import SketchstackError
from pipeline.raw.records import Row, Strokes, hash_of

ROWS = 2**16  # rows that a thread gathers before it spills them
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
COUNTRIES = pa.array([first + second for first in LETTERS for second in LETTERS])

_TYPES: dict[str, Any] = {
    "file": np.int32, "line": np.int64, "key_id": np.int64, "word": np.int16, "countrycode": np.int16,
    "recognized": np.int8, "timestamp": np.int64, "hash": np.uint64, "points": np.int64, "strokes": np.int64,
    "x": np.uint8, "y": np.uint8, "t": np.uint32, "stroke": np.uint16,
}  # fmt: skip
_LISTS = {"x": "points", "y": "points", "t": "points", "stroke": "strokes"}  # with the offsets of each
_PLAIN = [name for name in _TYPES if name not in _LISTS and name not in _LISTS.values()]


def empty_rows(rows: int, points: int, strokes: int, timed: bool) -> Rows:
    """Empty arrays for these numbers of rows, points and strokes; memory that is never written is not allocated."""
    sizes = {"points": rows + 1, "strokes": rows + 1, "x": points, "y": points, "t": points if timed else 0}
    sizes["stroke"] = strokes
    found = Rows(**{name: np.empty(sizes.get(name, rows), kind) for name, kind in _TYPES.items()})
    found.points[0] = found.strokes[0] = 0
    return found


def put_row(rows: Rows, place: int, file: int, line: int, label: int, row: Row) -> None:
    """Write a row from `records` to a position of `rows`, which must have capacity for it."""
    stamp, strokes = row.timestamp, row.strokes
    rows.file[place], rows.line[place], rows.key_id[place], rows.word[place] = file, line, row.key_id, label
    rows.countrycode[place] = -1
    if row.countrycode:
        rows.countrycode[place] = 26 * LETTERS.index(row.countrycode[0]) + LETTERS.index(row.countrycode[1])
    rows.recognized[place] = -1 if row.recognized is None else row.recognized
    rows.timestamp[place] = NO_TIME if stamp is None else np.datetime64(stamp.replace(tzinfo=None), "us").astype(int)
    rows.hash[place] = hash_of(strokes)
    for name, values in zip(Strokes._fields, strokes, strict=True):
        if values is not None:
            offsets: np.ndarray = getattr(rows, _LISTS[name])
            offsets[place + 1] = offsets[place] + len(values)
            getattr(rows, name)[offsets[place] : offsets[place + 1]] = values


def picked(rows: Rows, order: np.ndarray) -> Rows:
    """Rows in the given order, copied to new arrays."""
    points = _picked_offsets(rows.points, order)
    strokes = _picked_offsets(rows.strokes, order)
    found = empty_rows(len(order), points[-1], strokes[-1], timed=len(rows.t) > 0)
    found = found._replace(points=points, strokes=strokes)
    for name in _PLAIN:
        np.take(getattr(rows, name), order, out=getattr(found, name))
    for name, offsets in _LISTS.items():
        if len(getattr(rows, name)):
            _copy_lists(getattr(rows, name), getattr(rows, offsets), order, getattr(found, name))
    return found


def _picked_offsets(offsets: np.ndarray, order: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(offsets[order + 1] - offsets[order])]).astype(np.int64)


@numba.njit(nogil=True, cache=True)
def _copy_lists(source, offsets, order, target):  # type: ignore[no-untyped-def]
    """Copy the lists order[0], order[1], ... of `source` to `target`, one after the other."""
    into = np.uint64(0)  # with unsigned indices the loop is vectorised: four times as fast
    for row in order:
        start, count = np.uint64(offsets[row]), np.uint64(offsets[row + 1] - offsets[row])
        for place in range(count):
            target[into + place] = source[start + place]
        into += count


def _list_array(rows: Rows, name: str) -> pa.ListArray:
    offsets = getattr(rows, _LISTS[name])
    values = pa.field("item", pa.from_numpy_dtype(_TYPES[name]), nullable=False)
    return pa.ListArray.from_arrays(offsets.astype(np.int32), getattr(rows, name), type=pa.list_(values))


class Parts:
    """Part files in a folder, appended to by several threads.

    Args:
        folder: for the files `<part>.arrows`.
        timed: whether each point has its time.
    """

    def __init__(self, folder: Path, timed: bool) -> None:
        self.folder, self.timed = folder, timed
        self._lists = [name for name in _LISTS if timed or name != "t"]
        self._files, self._lock = ExitStack(), threading.Lock()
        self._writers: dict[int, tuple[Any, threading.Lock]] = {}

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._files.close()

    def add(self, rows: Rows, parts: np.ndarray) -> None:
        """Append each row to its part: (rows,) integers."""
        order = np.argsort(parts, kind="stable")
        starts = np.flatnonzero(np.diff(parts[order], prepend=-1))
        ends = [*starts[1:].tolist(), len(order)]
        batch = self._batch(picked(rows, order))
        for start, end in zip(starts.tolist(), ends, strict=True):
            writer, lock = self._writer(int(parts[order[start]]), batch.schema)
            with lock:
                writer.write_batch(batch.slice(start, end - start))

    def _batch(self, rows: Rows) -> pa.RecordBatch:
        columns = {name: pa.array(getattr(rows, name)) for name in _PLAIN}
        return pa.record_batch({**columns, **{name: _list_array(rows, name) for name in self._lists}})

    def _writer(self, part: int, schema: pa.Schema) -> tuple[Any, threading.Lock]:
        with self._lock:
            if part not in self._writers:
                try:
                    file = self._files.enter_context(pa.OSFile(str(self._path(part)), "wb"))
                except OSError as error:
                    raise SketchstackError(
                        f"{self._path(part)} cannot be written ({error}); if too many files are open, lower "
                        "shuffle.shards in params.yaml or raise `ulimit -n`."
                    ) from None
                writer = self._files.enter_context(pa.ipc.new_stream(file, schema))
                self._writers[part] = writer, threading.Lock()
            return self._writers[part]

    def _path(self, part: int) -> Path:
        return self.folder / f"{part}.arrows"

    def rows_with(self, key_ids: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
        """(key_id, hash, file, line) of each row with one of these key_ids; call it after all rows are added."""
        for part in self._writers:
            for batch in pa.ipc.open_stream(pa.memory_map(str(self._path(part)))):
                found = np.isin(mapped_array(batch["key_id"], np.int64), key_ids)
                names = ("key_id", "hash", "file", "line")
                columns = [mapped_array(batch[name], _TYPES[name])[found].tolist() for name in names]
                yield from zip(*columns, strict=True)

    def read(self, part: int) -> Rows:
        """All rows of a part."""
        if part not in self._writers:
            return empty_rows(0, 0, 0, self.timed)
        try:
            table = pa.ipc.open_stream(pa.memory_map(str(self._path(part)))).read_all().combine_chunks()
        except pa.ArrowInvalid as error:
            raise SketchstackError(
                f"a shard would hold too many points ({error}); raise shuffle.shards in params.yaml."
            ) from None
        columns = {name: table[name].chunk(0) for name in table.column_names}
        found = {name: mapped_array(columns[name], _TYPES[name]) for name in _PLAIN} | {"t": np.empty(0, np.uint32)}
        for name in self._lists:
            found[name] = mapped_array(columns[name].values, _TYPES[name])
            found[_LISTS[name]] = mapped_array(columns[name].offsets, np.int32).astype(np.int64)
        return Rows(**found)

    def join(self, part: int, place: Path, order: Callable[[Rows], np.ndarray]) -> np.ndarray:
        """Write a part as a shard.

        Args:
            part: its number.
            place: the file to write.
            order: the rows to keep, in the order to write them.

        Returns:
            (rows,) int16 labels of the shard.
        """
        rows = self.read(part)
        rows = picked(rows, order(rows))
        recognized, known = rows.recognized, rows.timestamp != NO_TIME
        columns = {
            "key_id": pa.array(rows.key_id),
            "word": pa.array(rows.word),
            "countrycode": _countries(rows.countrycode),
            "recognized": pa.array(recognized == 1, mask=recognized < 0),
            "timestamp": pa.array(rows.timestamp, mask=~known).view(pa.timestamp("us", tz="UTC")),
            **{name: _list_array(rows, name) for name in self._lists},
        }
        schema = TIMED_SCHEMA if self.timed else SCHEMA
        write_shard(place, pa.table([columns[name] for name in schema.names], schema=schema))
        return rows.word


def _countries(codes: np.ndarray) -> pa.DictionaryArray:
    """Two-letter country codes from their numbers, as a dictionary array with the codes in alphabetical order."""
    known = np.unique(codes[codes >= 0])
    places = pa.array(np.searchsorted(known, codes).astype(np.int16), mask=codes < 0)
    return pa.DictionaryArray.from_arrays(places, COUNTRIES.take(pa.array(known)))


class Receiver(Protocol):
    """What takes gathered rows.

    Attributes:
        timed: whether each point has its time.
    """

    timed: bool

    def add(self, rows: Rows, parts: np.ndarray) -> None:
        """Take rows, each with the number of its part: (rows,) integers. They are overwritten afterwards."""


class Gathered:
    """Rows that a thread gathers from its files until there are enough to spill.

    Args:
        parts: receives the rows.
        part_of: rows → the part of each row.
    """

    def __init__(self, parts: Receiver, part_of: Callable[[Rows], np.ndarray]) -> None:
        self.parts, self._part_of = parts, part_of
        self.filled, self._told = 0, 0
        self.rows = empty_rows(0, 0, 0, parts.timed)

    def make_room(self, rows: int, points: int, strokes: int) -> None:
        """Ensure capacity for these numbers of rows, points and strokes after row `filled`; spills rows if needed."""
        at = self.filled
        fits = at + rows <= len(self.rows.line) and self.rows.points[at] + points <= len(self.rows.x)
        if at >= ROWS or not fits or self.rows.strokes[at] + strokes > len(self.rows.stroke):
            self.spill()
        if rows > len(self.rows.line) or points > len(self.rows.x) or strokes > len(self.rows.stroke):
            most = ROWS + rows, 64 * ROWS + points, 16 * ROWS + strokes
            self.rows = empty_rows(*most, self.parts.timed)

    def spill(self) -> None:
        """Append the gathered rows to the parts."""
        if self.filled:
            count = self.filled
            ends = {"points": self.rows.points[count], "strokes": self.rows.strokes[count]}
            cut = {name: getattr(self.rows, name)[:count] for name in _PLAIN}
            cut |= {name: getattr(self.rows, name)[: ends[offsets]] for name, offsets in _LISTS.items()}
            cut |= {name: getattr(self.rows, name)[: count + 1] for name in ends}
            rows = Rows(**cut)
            self.parts.add(rows, self._part_of(rows))
        self.filled = self._told = 0

    def newest(self) -> slice:
        """The positions of the rows gathered since the last call; call it after each block, before a spill."""
        newest = slice(self._told, self.filled)
        self._told = self.filled
        return newest
