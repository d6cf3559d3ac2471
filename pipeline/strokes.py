"""Parse and check a drawing's strokes, as Kaggle's CSV column and Google's ndjson field hold them."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import xxhash

MOST_POINTS = 65535  # of one stroke: the shards count a stroke's points in uint16


class BadDrawingError(ValueError):
    """A drawing that cannot be used; its text is the reason, in words fit for rejects.csv."""


class Strokes(NamedTuple):
    """One drawing's points, all strokes joined.

    Attributes:
        x, y: coordinates, one byte a point.
        stroke: (strokes,) uint16, points of each.
    """

    x: bytes
    y: bytes
    stroke: np.ndarray


def parse_drawing(text: str) -> Strokes:
    """Read the JSON of a simplified drawing, `[[[x, ...], [y, ...]], ...]`.

    Raises:
        BadDrawingError: it is not JSON, or not what `check_drawing` takes.
    """
    try:
        drawing = json.loads(text)
    except (ValueError, RecursionError):  # a number of thousands of digits is a plain ValueError
        raise BadDrawingError("drawing is not JSON") from None
    return check_drawing(drawing)


def check_drawing(drawing: Any) -> Strokes:
    """Join the strokes of a decoded drawing.

    Raises:
        BadDrawingError: no strokes, a stroke without points, x and y of unequal length, anything but whole numbers,
            or a coordinate outside 0..255.
    """
    if not isinstance(drawing, list):
        raise BadDrawingError("drawing is not a list of strokes")
    if not drawing:
        raise BadDrawingError("drawing has no strokes")
    xs, ys, lengths = [], [], []
    for stroke in drawing:
        x, y = _check_stroke(stroke)
        xs.append(x)
        ys.append(y)
        lengths.append(len(x))
    return Strokes(b"".join(xs), b"".join(ys), np.asarray(lengths, np.uint16))


def _check_stroke(stroke: Any) -> tuple[bytes, bytes]:
    if not isinstance(stroke, list) or not all(isinstance(axis, list) for axis in stroke):
        raise BadDrawingError("a stroke is not a pair of lists [x, y]")
    if len(stroke) != 2:
        raise BadDrawingError(f"a stroke has {len(stroke)} lists in place of [x, y]")
    x, y = stroke
    if len(x) != len(y):
        raise BadDrawingError("x and y of a stroke are of unequal length")
    if not x:
        raise BadDrawingError("a stroke has no points")
    if len(x) > MOST_POINTS:
        raise BadDrawingError(f"a stroke has more than {MOST_POINTS} points")
    return _check_axis(x), _check_axis(y)


def _check_axis(coordinates: list[Any]) -> bytes:
    if set(map(type, coordinates)) != {int}:
        raise BadDrawingError("a coordinate is not a whole number")
    try:
        return bytes(coordinates)
    except ValueError:
        raise BadDrawingError("a coordinate lies outside 0..255") from None


def point_hash(strokes: Strokes) -> int:
    """64-bit xxHash of a drawing's points and strokes: the same drawing has the same hash wherever it comes from."""
    digest = xxhash.xxh64(strokes.x)
    digest.update(strokes.y)
    digest.update(strokes.stroke.astype("<u2").tobytes())
    return digest.intdigest()
