"""A line of a raw file, read slowly and exactly: a row, or the reason of its rejection.

The compiled reader of `strokes` reads lines in the usual spelling of Kaggle and Google. This module reads the lines
that it refuses, and so defines what a valid row is.
"""

from __future__ import annotations

import csv
import datetime
import json
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.drawings.strokes import FARTHEST, LATEST, LONGEST, MOST_POINTS, point_hash, scratch, simplify
from pipeline.drawings.words import spell
from pipeline.raw.columns import IDS, stored_id

LONGEST_FIELD = 80  # most characters of a field that a reason quotes
COUNTRY = re.compile(r"[A-Za-z]{2}")
STAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?))? ?(Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?", re.I
)
LAST_CLOCK = 2**53  # milliseconds since 1970 that a double holds exactly
BOOLEANS = {"true": True, "false": False, "1": True, "0": False}
INTEGER = re.compile(r"-?[0-9]{1,20}")  # int() also accepts 1_0 and digits of other scripts
csv.field_size_limit(2**27)  # raw drawings reach megabytes


class BadRowError(ValueError):
    """A row that cannot be used; its text is the reason for rejects.csv."""


class Strokes(NamedTuple):
    """The points of one drawing, with all strokes concatenated.

    Attributes:
        x, y: (points,) uint8.
        t: (points,) uint32 milliseconds; None for a simplified drawing.
        stroke: (strokes,) uint16, number of points of each stroke.
    """

    x: np.ndarray
    y: np.ndarray
    t: np.ndarray | None
    stroke: np.ndarray


class Row(NamedTuple):
    """A row of a raw file, parsed and checked; `key_id` as the shards store it, an int64."""

    key_id: int
    countrycode: str | None
    recognized: bool | None
    timestamp: datetime.datetime | None
    strokes: Strokes


def csv_record(line: bytes, columns: list[str]) -> dict[str, Any]:
    """A line of CSV by column.

    Raises:
        BadRowError: it is not UTF-8, not CSV, or has more or fewer fields than columns.
    """
    try:
        values = next(csv.reader([line.decode("utf-8")], strict=True))
    except UnicodeDecodeError:
        raise BadRowError("line is not UTF-8") from None
    except csv.Error as error:
        raise BadRowError(f"line is not CSV: {error}") from None
    if len(values) != len(columns):
        raise BadRowError(f"{len(values)} fields in place of {len(columns)}")
    return dict(zip(columns, values, strict=True))


def json_record(line: bytes) -> dict[str, Any]:
    """A line of ndjson by key.

    Raises:
        BadRowError: it is not a JSON object.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        raise BadRowError("line is not JSON") from None
    if not isinstance(record, dict):
        raise BadRowError("line is not a JSON object")
    return record


def checked_row(record: dict[str, Any], word: str | None, timed: bool) -> Row:
    """The row of a record.

    Args:
        record: fields by name.
        word: the required word; None in the test set.
        timed: whether the file holds raw drawings.

    Raises:
        BadRowError: the record cannot be used.
    """
    if word is not None and spell(str(record.get("word", ""))) != word:
        raise BadRowError(f"word is not the file's: {str(record.get('word'))[:LONGEST_FIELD]!r}")
    drawing = decoded_drawing(record)
    strokes = simplified(drawing) if timed else check_drawing(drawing)
    return Row(
        _key_id(record.get("key_id")),
        _countrycode(record.get("countrycode")),
        _recognized(record.get("recognized")),
        _timestamp(record.get("timestamp")),
        strokes,
    )


def decoded_drawing(record: dict[str, Any]) -> Any:
    """The drawing of a record, decoded from JSON: a CSV has it as text.

    Raises:
        BadRowError: it is not JSON.
    """
    drawing = record.get("drawing")
    if not isinstance(drawing, str):
        return drawing
    try:
        return json.loads(drawing)
    except (ValueError, RecursionError):  # a number of thousands of digits is a plain ValueError
        raise BadRowError("drawing is not JSON") from None


def check_drawing(drawing: Any) -> Strokes:
    """Concatenate the strokes of a decoded simplified drawing, `[[[x, ...], [y, ...]], ...]`.

    Raises:
        BadRowError: no strokes, a stroke without points, x and y of unequal length, a value that is not an integer, or
            a coordinate outside 0..255.
    """
    xs, ys, lengths = [], [], []
    for x, y in _axes(drawing, ["x", "y"]):
        if len(x) > MOST_POINTS:
            raise BadRowError(f"a stroke has more than {MOST_POINTS} points")
        xs.append(_bytes(x))
        ys.append(_bytes(y))
        lengths.append(len(x))
    joined_x, joined_y = np.frombuffer(b"".join(xs), np.uint8), np.frombuffer(b"".join(ys), np.uint8)
    return Strokes(joined_x, joined_y, None, np.asarray(lengths, np.uint16))


def _axes(drawing: Any, names: Sequence[str]) -> list[list[list[Any]]]:
    """The strokes of a decoded drawing, each with one list per name, of equal length."""
    if not isinstance(drawing, list):
        raise BadRowError("drawing is not a list of strokes")
    if not drawing:
        raise BadRowError("drawing has no strokes")
    for stroke in drawing:
        if not isinstance(stroke, list) or not all(isinstance(axis, list) for axis in stroke):
            raise BadRowError(f"a stroke is not a list of lists [{', '.join(names)}]")
        if len(stroke) != len(names):
            raise BadRowError(f"a stroke has {len(stroke)} lists in place of [{', '.join(names)}]")
        if len(set(map(len, stroke))) > 1:
            raise BadRowError(f"{', '.join(names[:-1])} and {names[-1]} of a stroke are of unequal length")
        if not stroke[0]:
            raise BadRowError("a stroke has no points")
    return drawing


def _bytes(coordinates: list[Any]) -> bytes:
    whole = all(type(value) is int or (type(value) is float and value.is_integer()) for value in coordinates)
    if not whole:
        raise BadRowError("a coordinate is not a whole number")
    try:
        return bytes(map(int, coordinates))
    except ValueError:
        raise BadRowError("a coordinate lies outside 0..255") from None


def simplified(drawing: Any) -> Strokes:
    """Simplify a decoded raw drawing, `[[[x, ...], [y, ...], [t, ...]], ...]`, as Google made its simplified files.

    Align to the top left, scale the longer side to 255, sample each stroke in steps of one pixel, simplify it by the
    Ramer-Douglas-Peucker method with an epsilon of 2 pixels, round to the nearest pixel, halves to even. Source:
    https://github.com/googlecreativelab/quickdraw-dataset#simplified-drawing-files-ndjson. A stroke of one point gets
    two points, as in Google's files. Each kept point has its interpolated time.

    Raises:
        BadRowError: no strokes, a stroke without points, lists of unequal length, a value that is not a finite number,
            an impossible coordinate or time, or a stroke that is too long.
    """
    strokes = _axes(drawing, ["x", "y", "t"])
    points = sum(len(x) for x, _, _ in strokes)
    room = scratch(6 * points, timed=True)
    for axis, limits in enumerate([(-FARTHEST, FARTHEST), (-FARTHEST, FARTHEST), (0, LATEST)]):
        values = [value for stroke in strokes for value in stroke[axis]]
        if axis == 2:
            values = _since_first(values)
        room.raw[axis, :points] = _finite(values, "time" if axis == 2 else "coordinate", *limits)
    room.lengths[: len(strokes)] = [len(x) for x, _, _ in strokes]
    most = 2 * points + 2 * len(strokes)  # kept points are next to a corner, or are ends
    x, y, t = np.empty(most, np.uint8), np.empty(most, np.uint8), np.empty(most, np.uint32)
    stroke = np.empty(len(strokes), np.uint16)
    end = simplify(room, len(strokes), x, y, t, 0, stroke, 0)
    if end < 0:
        raise BadRowError(
            f"a stroke is longer than {LONGEST} pixels of a canvas of 255, or keeps over {MOST_POINTS} points"
        )
    return Strokes(x[:end], y[:end], t[:end], stroke)


def _since_first(times: list[Any]) -> list[Any]:
    """Times of a clock that began before the drawing, less the first of them; other times as they are."""
    if not set(map(type, times)) <= {int, float}:
        return times
    if all(-LAST_CLOCK < time < LAST_CLOCK for time in times) and max(times) > LATEST:
        return [time - min(times) for time in times]
    return times


def _finite(values: list[Any], what: str, least: float, most: float) -> list[float]:
    if not set(map(type, values)) <= {int, float} or not all(
        map(math.isfinite, (v for v in values if type(v) is float))
    ):
        raise BadRowError(f"a {what} is not a finite number")
    if not all(least <= value <= most for value in values):
        raise BadRowError(f"a {what} lies outside {least:.0f}..{most:.0f}")
    return [float(value) for value in values]


def hash_of(strokes: Strokes) -> int:
    """64-bit xxHash of a drawing's points and strokes: the same drawing has the same hash in any file format."""
    x, y, _, stroke = strokes
    room = np.empty((len(x) + len(stroke) + 4) // 4 * 8, np.uint8)
    return int(point_hash(x, y, 0, len(x), stroke, 0, len(stroke), room))


def _key_id(value: Any) -> int:
    written = isinstance(value, str) and INTEGER.fullmatch(value)
    if not (written or type(value) is int) or abs(int(value)) not in IDS:
        raise BadRowError("key_id is not a 64-bit integer")
    if int(value) < 0:
        raise BadRowError("key_id is negative")
    return stored_id(int(value))


def _countrycode(value: Any) -> str | None:
    if not value:
        return None
    if not isinstance(value, str) or not COUNTRY.fullmatch(value):
        raise BadRowError("countrycode is not two letters")
    return value.upper()


def _recognized(value: Any) -> bool | None:
    if value is None or value == "":
        return None
    if str(value).lower() not in BOOLEANS:
        raise BadRowError("recognized is neither True nor False")
    return BOOLEANS[str(value).lower()]


def _timestamp(value: Any) -> datetime.datetime | None:
    if not value:
        return None
    try:
        if not (parts := STAMP.fullmatch(str(value).strip())):
            raise ValueError
        day, time, zone = parts.groups("")
        offset = "+00:00" if zone.upper() in ("", "Z", "UTC", "GMT") else zone
        stamp = datetime.datetime.fromisoformat(f"{day}T{time or '00:00'}{offset}")
        return stamp.astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        raise BadRowError("timestamp is not a date and time") from None
