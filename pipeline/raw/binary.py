"""Google's binary files of simplified drawings (.bin) → lines of CSV.

A drawing is, without padding and with the low byte first: key_id uint64, countrycode two letters, recognized int8,
timestamp uint32 in seconds since 1970 (0 if not known), the number of strokes uint16; then for each stroke its number
of points uint16, and as many x and as many y, a byte each. Source: examples/binary_file_parser.py of
https://github.com/googlecreativelab/quickdraw-dataset. The word stands only in the file's name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

import numba
import numpy as np

from pipeline.foundation.errors import SketchstackError
from pipeline.raw.flat import UNKNOWN, csv_lines, empty_flat

BLOCK = 2**20  # bytes read at a time
HEADER = 17  # bytes of a drawing before its strokes
LONGEST = 2**24  # bytes of a drawing; no drawing is longer
UNUSUAL = "is not a file of Google's binary format"

_compiled = numba.njit(nogil=True, cache=True)


def binary_lines(file: IO[bytes], place: object, word: str | None) -> Iterator[bytes]:
    """The drawings of a binary file as lines of CSV with the columns CONVERTED, some megabytes at a time.

    Args:
        file: read from start to end.
        place: of the file, for messages.
        word: of the drawings; None in the test set.

    Raises:
        SketchstackError: the file breaks off within a drawing, or is not of this format.
    """
    left, start, number = b"", 0, 0
    while True:
        more = file.read(BLOCK)
        content = left + more
        drawings = empty_flat(len(content) // HEADER, len(content) // 2, len(content) // 2)
        count, used = _take_drawings(np.frombuffer(content, np.uint8), *drawings)
        if start == 0 and content and (len(content) >= HEADER or not more):
            _check_first(content, place)
        yield csv_lines(drawings, 0, count, word)
        left, start, number = content[used:], start + used, number + count
        if len(left) > LONGEST or (left and not more):
            raise _broken(place, number + 1, start, len(left), at_end=not more)
        if not more:
            return


def _check_first(content: bytes, place: object) -> None:
    """Stop if the first drawing shows that the file is of another format."""
    letters, recognized = content[8:10], content[10:11]
    if len(content) < HEADER or (letters.strip(b"\0 ") and not letters.isalpha()) or recognized not in (b"\0", b"\1"):
        raise SketchstackError(
            f"{place} {UNUSUAL}: its first drawing should start with a key_id of 8 bytes, two letters of a country and "
            f"0 or 1, but the file starts with the bytes {content[:HEADER].hex(' ')}. Take the file from Google's "
            "full/binary, or remove it."
        )


def _broken(place: object, number: int, start: int, left: int, at_end: bool) -> SketchstackError:
    reason = f"the file ends {left} bytes later" if at_end else f"it would be longer than {LONGEST:,} bytes"
    return SketchstackError(
        f"{place} is damaged: drawing {number}, at byte {start}, is not complete ({reason}). Copy or download this "
        "file again, or remove it."
    )


@_compiled
def _pair(data, at):  # type: ignore[no-untyped-def]
    return np.int64(data[at]) | np.int64(data[at + 1]) << 8


@_compiled
def _length(data, at):  # type: ignore[no-untyped-def]
    """The number of bytes of the drawing that starts at `at`; 0 if the data end before it does."""
    if at + HEADER > len(data):
        return 0
    end = at + HEADER
    for _ in range(_pair(data, end - 2)):
        if end + 2 > len(data):
            return 0
        end += 2 + 2 * _pair(data, end)
    return end - at if end <= len(data) else 0


@_compiled
def _take_drawings(  # type: ignore[no-untyped-def]
    data, key_id, countrycode, recognized, timestamp, points, strokes, x, y, stroke
):
    """Copy all complete drawings of `data` into flat arrays; returns their number, and the end of the last."""
    at, row = 0, 0
    length = _length(data, at)
    while length > 0:
        key, seconds = np.uint64(0), np.int64(0)
        for place in range(8):
            key |= np.uint64(data[at + place]) << np.uint64(8 * place)
        for place in range(4):
            seconds |= np.int64(data[at + 11 + place]) << (8 * place)
        key_id[row], timestamp[row] = key, seconds if seconds > 0 else UNKNOWN
        blank = data[at + 8] == 32 and data[at + 9] == 32
        countrycode[row, 0] = 0 if blank else data[at + 8]
        countrycode[row, 1] = 0 if blank else data[at + 9]
        recognized[row] = data[at + 10] if data[at + 10] < 127 else 127  # -1 would say that it is not known
        end, point, first = at + HEADER, points[row], strokes[row]
        for s in range(_pair(data, end - 2)):
            count = _pair(data, end)
            end += 2
            for place in range(count):
                x[point + place], y[point + place] = data[end + place], data[end + count + place]
            stroke[first + s] = count
            point, end = point + count, end + 2 * count
        points[row + 1], strokes[row + 1] = point, first + _pair(data, at + HEADER - 2)
        at, row = end, row + 1
        length = _length(data, at)
    return row, at
