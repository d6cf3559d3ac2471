"""Drawings of binary formats in flat arrays → lines of CSV, compiled."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

CONVERTED = ("key_id", "countrycode", "recognized", "timestamp", "word", "drawing")  # columns of the lines
UNKNOWN = -1  # recognized or timestamp
_LONGEST = 128  # most bytes of a line without its word and its points
_A_STROKE, _A_POINT = 10, 10  # most bytes that a stroke and a point add

_compiled = numba.njit(nogil=True, cache=True)


class Flat(NamedTuple):
    """Drawings in arrays: drawing r has points `x[points[r]:points[r + 1]]`, strokes likewise.

    Attributes:
        key_id: (N,) uint64.
        countrycode: (N, 2) uint8, two letters; zeros if not known.
        recognized: (N,) int8; UNKNOWN if not known.
        timestamp: (N,) int64, seconds since 1970; UNKNOWN if not known.
        points, strokes: (N + 1,) int64 offsets.
        x, y: (points,) uint8.
        stroke: (strokes,) uint16, points of each stroke.
    """

    key_id: np.ndarray
    countrycode: np.ndarray
    recognized: np.ndarray
    timestamp: np.ndarray
    points: np.ndarray
    strokes: np.ndarray
    x: np.ndarray
    y: np.ndarray
    stroke: np.ndarray


def empty_flat(drawings: int, points: int, strokes: int) -> Flat:
    """Room for drawings that have no country code, are neither recognized nor not, and have no timestamp."""
    return Flat(
        np.empty(drawings, np.uint64), np.zeros((drawings, 2), np.uint8), np.full(drawings, UNKNOWN, np.int8),
        np.full(drawings, UNKNOWN, np.int64), np.zeros(drawings + 1, np.int64), np.zeros(drawings + 1, np.int64),
        np.empty(points, np.uint8), np.empty(points, np.uint8), np.empty(strokes, np.uint16),
    )  # fmt: skip


def csv_lines(drawings: Flat, first: int, last: int, word: str | None) -> bytes:
    """Drawings first..last as lines of CSV with the columns CONVERTED."""
    quoted = np.frombuffer(bytearray(_quoted(word or "").encode()), np.uint8)
    points = int(drawings.points[last] - drawings.points[first])
    strokes = int(drawings.strokes[last] - drawings.strokes[first])
    out = np.empty((last - first) * (_LONGEST + len(quoted)) + strokes * _A_STROKE + points * _A_POINT, np.uint8)
    return out[: _write_lines(*drawings, first, last, quoted, out)].tobytes()


def _quoted(text: str) -> str:
    """A field of CSV in quotes; in a line, as a row is a line."""
    inside = text.replace("\r", " ").replace("\n", " ").replace('"', '""')
    return f'"{inside}"'


@_compiled
def _write_text(out, at, text):  # type: ignore[no-untyped-def]
    for place in range(len(text)):
        out[at + place] = text[place]
    return at + len(text)


@_compiled
def _write_number(out, at, value):  # type: ignore[no-untyped-def]
    """Write an unsigned integer in decimal; returns its end."""
    ten, zero = np.uint64(10), np.uint64(48)
    digits, rest = 1, value // ten
    while rest > 0:
        digits, rest = digits + 1, rest // ten
    end = at + digits
    for place in range(end - 1, at - 1, -1):
        out[place] = zero + value % ten
        value //= ten
    return end


@_compiled
def _write_padded(out, at, value, digits):  # type: ignore[no-untyped-def]
    for place in range(at + digits - 1, at - 1, -1):
        out[place] = 48 + value % 10
        value //= 10
    return at + digits


@_compiled
def _write_time(out, at, seconds):  # type: ignore[no-untyped-def]
    """Write seconds since 1970 as `2017-03-09 00:28:55`; returns its end.

    In the Gregorian calendar 400 years have 146,097 days. A year is counted from March on, so a leap day is its last.
    """
    days = seconds // 86400 + 719468  # since 0000-03-01
    era, day = days // 146097, days % 146097
    year = (day - day // 1460 + day // 36524 - day // 146096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    at = _write_padded(out, at, year + era * 400 + (1 if month >= 10 else 0), 4)
    out[at] = 45
    at = _write_padded(out, at + 1, month + 3 if month < 10 else month - 9, 2)
    out[at] = 45
    at = _write_padded(out, at + 1, day - (153 * month + 2) // 5 + 1, 2)
    out[at] = 32
    rest = seconds % 86400
    at = _write_padded(out, at + 1, rest // 3600, 2)
    out[at] = 58
    at = _write_padded(out, at + 1, rest // 60 % 60, 2)
    out[at] = 58
    return _write_padded(out, at + 1, rest % 60, 2)


@_compiled
def _write_axis(out, at, values, start, end):  # type: ignore[no-untyped-def]
    """Write `[1, 2, 255]`; returns its end."""
    out[at] = 91
    at += 1
    for place in range(start, end):
        if place > start:
            out[at], out[at + 1] = 44, 32
            at += 2
        value = np.uint32(values[place])
        if value >= 100:
            out[at] = 48 + value // 100
            at += 1
        if value >= 10:
            out[at] = 48 + value // 10 % 10
            at += 1
        out[at] = 48 + value % 10
        at += 1
    out[at] = 93
    return at + 1


@_compiled
def _write_lines(  # type: ignore[no-untyped-def]
    key_id, countrycode, recognized, timestamp, points, strokes, x, y, stroke, first, last, word, out
):
    at = 0
    for row in range(first, last):
        at = _write_number(out, at, key_id[row])
        out[at] = 44
        at += 1
        if countrycode[row, 0] != 0 or countrycode[row, 1] != 0:
            for letter in countrycode[row]:  # a byte that is no capital letter must not end the field
                out[at] = letter if 65 <= letter <= 90 else 63
                at += 1
        out[at] = 44
        at += 1
        if recognized[row] == 0:
            at = _write_text(out, at, b"False")
        elif recognized[row] == 1:
            at = _write_text(out, at, b"True")
        elif recognized[row] != UNKNOWN:
            at = _write_number(out, at, np.uint64(recognized[row] & 255))
        out[at] = 44
        at += 1
        if timestamp[row] != UNKNOWN:
            at = _write_time(out, at, timestamp[row])
        out[at] = 44
        at = _write_text(out, at + 1, word)
        out[at], out[at + 1], out[at + 2] = 44, 34, 91
        at += 3
        start = points[row]
        for s in range(strokes[row], strokes[row + 1]):
            if s > strokes[row]:
                out[at], out[at + 1] = 44, 32
                at += 2
            end = start + stroke[s]
            out[at] = 91
            at = _write_axis(out, at + 1, x, start, end)
            out[at], out[at + 1] = 44, 32
            at = _write_axis(out, at + 2, y, start, end)
            out[at] = 93
            at += 1
            start = end
        out[at], out[at + 1], out[at + 2] = 93, 34, 10
        at += 3
    return at
