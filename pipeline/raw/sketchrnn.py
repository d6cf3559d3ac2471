"""sketch-rnn's files (.npz) → lines of CSV.

A file holds the arrays train, valid and test; each item is a drawing of shape (points, 3): the offset of each point
from the point before in x and in y, and 1 if the pen is lifted behind it. The first offset is from an origin that is
not drawn.
Source: https://github.com/magenta/magenta/tree/main/magenta/models/sketch_rnn.

- The arrays are pickles, and a pickle can run any code. Here a pickle gets only the stand-ins of this module, whatever
  names it asks for; other names are refused.
- Drawings are aligned to the top left, scaled to a longer side of 255 and rounded, halves to even, as Google's
  simplified files are. They are not simplified again: their lines are simplified already, and a simplified drawing that
  went through this format comes back as it was.
- Drawings have no ids. A drawing gets 59 bits of a hash of its word, its points and the number of equal drawings before
  it in the file, so that the same file gives the same ids everywhere, and two equal drawings get different ids.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import zipfile
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import numba
import numpy as np
import xxhash

from pipeline.drawings.strokes import FARTHEST, MOST_POINTS, drawing_hashes
from pipeline.foundation.errors import SketchstackError
from pipeline.raw.flat import Flat, csv_lines, empty_flat
from pipeline.raw.packing import BROKEN_ZIP

ORDER = ("train", "valid", "test")  # of the arrays of a file; others follow by name
AT_ONCE = 2**13  # drawings that become lines at a time
ID_BITS = 59  # an id has at most 18 digits
AGAIN = "Copy or download this file again, or remove it."
EXPECTED = "sketch-rnn's arrays train, valid and test hold drawings of three columns: dx, dy, pen lifted (0 or 1)"
_NUMBERS = re.compile(r"b1|[iu][1248]|f[248]")  # dtypes of numbers
_LONG = re.compile(rb"(?<=\d)L")  # Python 2 wrote shapes as (70000L,)
_LEAST, _FAR, _LONG_STROKE = -1, -2, -3

_compiled = numba.njit(nogil=True, cache=True)


class Moves(NamedTuple):
    """Drawings of one array.

    Attributes:
        moves: (points, 3) float64: dx, dy, pen lifted.
        lengths: (N,) int64, points of each drawing.
    """

    moves: np.ndarray
    lengths: np.ndarray


def sketchrnn_drawings(file: IO[bytes], place: object) -> int:
    """The number of drawings that the headers of a file say.

    Raises:
        SketchstackError: the file is damaged, or holds other arrays.
    """
    with _Arrays(file, place) as arrays:
        return sum(arrays.count(name) for name in arrays.names)


def sketchrnn_lines(file: IO[bytes], place: object, word: str | None) -> Iterator[bytes]:
    """The drawings of a file as lines of CSV with the columns CONVERTED. Its arrays are read one after the other.

    Args:
        file: can be read out of order.
        place: of the file, for messages.
        word: of the drawings; None in the test set.

    Raises:
        SketchstackError: the file is damaged, holds other arrays, or asks for code that it may not run.
    """
    seen = np.empty(0, np.uint64)
    with _Arrays(file, place) as arrays:
        for name in arrays.names:
            drawings = _flattened(arrays.read(name), f"{place}, array {name!r}")
            hashes = drawing_hashes(drawings.x, drawings.y, drawings.points, drawings.stroke, drawings.strokes)
            seen = np.concatenate([seen, hashes])
            drawings.key_id[:] = hashed_ids(word, hashes, _equal_before(seen)[len(seen) - len(hashes) :])
            for first in range(0, len(hashes), AT_ONCE):
                yield csv_lines(drawings, first, min(first + AT_ONCE, len(hashes)), word)


def hashed_ids(word: str | None, hashes: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The ids of drawings that have none: (N,) uint64 below 2^59.

    Args:
        word: of the drawings, in Kaggle's spelling; None in the test set.
        hashes: (N,) uint64, of the drawings' points.
        before: (N,) integers, for each drawing the number of equal drawings before it in its file.
    """
    name = (word or "").encode()
    pairs = np.stack([hashes, before.astype(np.uint64)], axis=1).astype("<u8")
    found = (xxhash.xxh64_intdigest(name + pair.tobytes()) >> (64 - ID_BITS) for pair in pairs)
    return np.fromiter(found, np.uint64, len(hashes))


def _equal_before(values: np.ndarray) -> np.ndarray:
    """For each value the number of equal values before it, (N,) int64."""
    order = np.argsort(values, kind="stable")
    ordered, places = values[order], np.arange(len(values))
    starts = np.ones(len(values), bool)
    starts[1:] = ordered[1:] != ordered[:-1]
    before = np.empty(len(values), np.int64)
    before[order] = places - np.maximum.accumulate(np.where(starts, places, 0))
    return before


def _flattened(moves: Moves, place: str) -> Flat:
    """Drawings of one array in flat arrays, aligned and scaled."""
    drawings = empty_flat(len(moves.lengths), len(moves.moves), len(moves.moves))
    bad, why = _accumulate(moves.moves, moves.lengths, drawings.points, drawings.strokes, drawings.x, drawings.y,
                           drawings.stroke)  # fmt: skip
    if why:
        reason = {
            _LEAST: "a value is not a number, or a pen is neither 0 nor 1",
            _FAR: f"a point lies more than {FARTHEST:,.0f} pixels from the origin",
            _LONG_STROKE: f"a stroke has more than {MOST_POINTS} points",
        }[why]
        raise SketchstackError(f"{place}, drawing {bad + 1}: {reason}. {EXPECTED}; write the file again without it.")
    return drawings


@_compiled
def _accumulate(moves, lengths, points, strokes, x, y, stroke):  # type: ignore[no-untyped-def]
    """Fill flat arrays with drawings; returns the first bad drawing and what is wrong with it, 0 if nothing is."""
    path = np.empty((2, max(1, lengths.max() if len(lengths) else 0)))
    start = 0
    for row in range(len(lengths)):
        count, at_x, at_y = lengths[row], 0.0, 0.0
        low_x, low_y, high_x, high_y = np.inf, np.inf, -np.inf, -np.inf
        kept, last = 0, strokes[row]
        for place in range(count):
            dx, dy, pen = moves[start + place]
            if not (math.isfinite(dx) and math.isfinite(dy)) or (pen not in (0.0, 1.0)):
                return row, _LEAST
            at_x, at_y = at_x + dx, at_y + dy
            if abs(at_x) > FARTHEST or abs(at_y) > FARTHEST:
                return row, _FAR
            path[0, place], path[1, place] = at_x, at_y
            low_x, high_x, low_y, high_y = min(low_x, at_x), max(high_x, at_x), min(low_y, at_y), max(high_y, at_y)
            kept += 1
            if kept > MOST_POINTS:
                return row, _LONG_STROKE
            if pen == 1.0 or place == count - 1:
                stroke[last] = kept
                kept, last = 0, last + 1
        size = max(high_x - low_x, high_y - low_y)
        for place in range(count):
            x[start + place] = np.rint((path[0, place] - low_x) / size * 255) if size > 0 else 0
            y[start + place] = np.rint((path[1, place] - low_y) / size * 255) if size > 0 else 0
        start += count
        points[row + 1], strokes[row + 1] = start, last
    return 0, 0


class _Header(NamedTuple):
    """The header of an .npy."""

    shape: tuple[int, ...]
    columns_first: bool
    dtype: np.dtype[Any]


class _Arrays:
    """The arrays of a .npz, read without running code."""

    def __init__(self, file: IO[bytes], place: object) -> None:
        self._place = place
        try:
            self._packed = zipfile.ZipFile(file)
        except BROKEN_ZIP as error:
            raise SketchstackError(f"{place} is damaged or no .npz ({error}). {AGAIN}") from None
        names = [name.removesuffix(".npy") for name in self._packed.namelist()]
        self.names = sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))

    def __enter__(self) -> _Arrays:
        return self

    def __exit__(self, *_: object) -> None:
        self._packed.close()

    def count(self, name: str) -> int:
        """The number of drawings of an array, from its header."""
        member, header = self._opened(name)
        member.close()
        return header.shape[0]

    def read(self, name: str) -> Moves:
        """The drawings of an array."""
        member, header = self._opened(name)
        pickled = header.dtype.hasobject
        with member:
            try:
                content = _unpickled(member) if pickled else _Array.of(header, member.read())
                if member.read(1):
                    raise pickle.UnpicklingError("there are more bytes behind the array")
            except _RefusedError as error:
                raise SketchstackError(
                    f"{self._place}, array {name!r}: its pickle asks for {error}, which is no part of an array of "
                    "numbers; it was not run. Do not trust this file: take the word's file from Google's sketchrnn "
                    "folder."
                ) from None
            except (*BROKEN_ZIP, *_PICKLE_FAULTS) as error:
                reason = str(error) or type(error).__name__
                raise SketchstackError(f"{self._place}, array {name!r}: it is damaged ({reason}). {AGAIN}") from None
        items: Any = content.content if pickled else [content]
        if pickled and (not isinstance(items, list) or (len(items),) != header.shape):
            raise self._other(name, f"it is not a list of {header.shape[0]} arrays")
        for number, item in enumerate(items, 1):
            if reason := _fault(item):
                raise self._other(name, f"drawing {number} {reason}")
        return _joined(items)

    def _opened(self, name: str) -> tuple[IO[bytes], _Header]:
        """An array's content, and its header."""
        try:
            member = self._packed.open(f"{name}.npy")
            header = _header(member)
        except (*BROKEN_ZIP, KeyError) as error:
            raise SketchstackError(f"{self._place}, array {name!r}: it cannot be read ({error}). {AGAIN}") from None
        shape, _, dtype = header
        if (len(shape) != 1) if dtype.hasobject else (len(shape) != 3 or shape[2] != 3):
            raise self._other(name, f"it has the shape {shape} and holds {dtype.name}")
        return member, header

    def _other(self, name: str, reason: str) -> SketchstackError:
        return SketchstackError(
            f"{self._place}, array {name!r}: {reason}. {EXPECTED}; write the file again with only such arrays, or use "
            "Google's .ndjson of the word."
        )


def _header(member: IO[bytes]) -> _Header:
    """The header of an .npy, read from its start."""
    start = member.read(8)
    size = member.read(2 if start[6:7] == b"\1" else 4)
    header = member.read(int.from_bytes(size, "little"))
    copy = io.BytesIO(start + size + _LONG.sub(b" ", header))
    version = np.lib.format.read_magic(copy)
    if version == (1, 0):
        return _Header(*np.lib.format.read_array_header_1_0(copy))
    return _Header(*np.lib.format.read_array_header_2_0(copy))


class _RefusedError(Exception):
    """A pickle asks for something that is no part of an array; its text is the name of it."""


_PICKLE_FAULTS = (
    pickle.UnpicklingError, ArithmeticError, AttributeError, EOFError, IndexError, KeyError, MemoryError,
    RecursionError, TypeError, ValueError,
)  # fmt: skip


class _StandIn:
    """What a pickle gets in place of a name. It cannot be changed by the pickle."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("a name has a state")


class _Encoded(_StandIn):
    """`_codecs.encode`, with which Python 3 writes bytes for Python 2."""

    def __new__(cls, text: str, encoding: str) -> bytes:  # type: ignore[misc]
        return str.encode(text, "latin1")


class _NoBytes(_StandIn):
    """`bytes`, with which Python 3 writes empty bytes for Python 2."""

    def __new__(cls) -> bytes:  # type: ignore[misc]
        return b""


class _Dtype(_StandIn):
    """`numpy.dtype`: the text of a dtype."""

    __slots__ = ("kind", "order")

    def __init__(self, kind: str, *_: object) -> None:
        self.kind, self.order = str(kind), "<"

    def __setstate__(self, state: Any) -> None:
        self.order = ">" if state[1] == ">" else "<"


_NO_DTYPE = _Dtype("")


class _Array(_StandIn):
    """`numpy.ndarray`: its shape, dtype and content, which are not checked yet."""

    __slots__ = ("columns_first", "content", "dtype", "shape")

    def __init__(self, *_: object) -> None:
        self.shape: tuple[int, ...] = ()
        self.dtype, self.columns_first, self.content = _NO_DTYPE, False, b""

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.columns_first, self.content = state

    @classmethod
    def of(cls, header: _Header, content: bytes) -> _Array:
        """Drawings of equal length as one array, which needs no pickle."""
        found = cls()
        found.shape, found.columns_first, found.content = header.shape, header.columns_first, content
        found.dtype = _Dtype(header.dtype.str[1:])
        found.dtype.order = header.dtype.str[0]
        return found


_ALLOWED = {
    **{(f"numpy{core}.multiarray", "_reconstruct"): _Array for core in (".core", "._core")},
    ("numpy", "ndarray"): _Array, ("numpy", "dtype"): _Dtype, ("_codecs", "encode"): _Encoded,
    ("builtins", "bytes"): _NoBytes, ("__builtin__", "bytes"): _NoBytes,
}  # fmt: skip


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise _RefusedError(f"{module}.{name}")
        return _ALLOWED[module, name]


def _unpickled(file: IO[bytes]) -> _Array:
    found = _Unpickler(file, encoding="latin1").load()
    if not isinstance(found, _Array):
        raise pickle.UnpicklingError(f"it is a {type(found).__name__}")
    return found


def _fault(item: Any) -> str:
    """Why an item is not a drawing; empty if it is one."""
    if not isinstance(item, _Array):
        return f"is a {type(item).__name__} in place of an array"
    if isinstance(item.content, str):  # bytes of Python 2
        item.content = item.content.encode("latin1", "ignore")  # what is left out makes it too short
    shape, kind = item.shape, item.dtype.kind if isinstance(item.dtype, _Dtype) else ""
    whole = isinstance(shape, tuple) and all(type(length) is int and length >= 0 for length in shape)
    if not whole or len(shape) not in (2, 3) or shape[-1] != 3:
        return f"has the shape {shape}"
    if not _NUMBERS.fullmatch(kind):
        return f"holds {kind or 'no numbers'}"
    if not isinstance(item.content, bytes) or len(item.content) != math.prod(shape) * int(kind[1:]):
        return "is not complete"
    return ""


def _joined(items: list[_Array]) -> Moves:
    """The drawings of arrays that have no fault."""
    dtypes = {item.dtype.order + item.dtype.kind for item in items}
    if len(dtypes) == 1 and not any(item.columns_first for item in items):
        content = b"".join(item.content for item in items)
        moves = np.frombuffer(content, dtypes.pop()).reshape(-1, 3).astype(np.float64)
    else:
        moves = np.concatenate([np.empty((0, 3)), *map(_values, items)])
    lengths = [[item.shape[-2]] * (item.shape[0] if len(item.shape) == 3 else 1) for item in items]
    return Moves(moves, np.array([length for each in lengths for length in each], np.int64))


def _values(item: _Array) -> np.ndarray:
    values = np.frombuffer(item.content, item.dtype.order + item.dtype.kind)
    return values.reshape(item.shape, order="F" if item.columns_first else "C").reshape(-1, 3).astype(np.float64)
