"""Lines of raw files → the flat arrays of drawings, compiled: parse, check, simplify, hash.

It accepts a subset of the lines that `records` accepts, with the same values, many times faster. `records` reads every
line that is refused here: it accepts rarer spellings, or gives the reason of a reject. A line ends in a line feed,
which cannot be part of a row, so nothing is read past a row.

All kernels are in this file: Numba's cache on disk only notices edits to the file of the outermost kernel.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import types

MOST_POINTS = 65535  # of one stroke: the shards count a stroke's points in uint16
FARTHEST = 1e6  # a raw coordinate, in the pixels of the player's canvas
LATEST = 2**32 - 1  # a raw time, in milliseconds
# Pixels of one stroke's path, once its drawing is 255 pixels wide or high: a scribble from corner to corner, 120 points
# a second for the 20 seconds of a game, has 866,000. A thread needs 41 bytes of memory per pixel.
LONGEST = 2**20
EPSILON = 2.0  # pixels that simplifying may move a line
NO_TIME = np.iinfo(np.int64).min  # the timestamp is not known

OTHER, KEY_ID, DRAWING, WORD, COUNTRYCODE, RECOGNIZED, TIMESTAMP = range(7)  # kinds of fields of a row
FIELDS = {
    "key_id": KEY_ID, "drawing": DRAWING, "word": WORD, "countrycode": COUNTRYCODE, "recognized": RECOGNIZED,
    "timestamp": TIMESTAMP,
}  # fmt: skip
REFUSED = -1

_compiled = numba.njit(nogil=True, cache=True)
# Functions of Rows are inlined: a call would count references to each array, which costs as much as the parsing.
_inlined = numba.njit(nogil=True, cache=True, inline="always")
_to_double: Any = types.ExternalFunction(
    "strtod", types.double(types.uintp, types.uintp)
)  # C's own, exact for any text
_POWERS = 10.0 ** np.arange(23)  # all powers of ten that a double holds exactly
_DAYS_BEFORE = np.array([0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365])

_LINE, _TAB, _RETURN, _SPACE, _QUOTE, _COMMA = ord("\n"), ord("\t"), ord("\r"), ord(" "), ord('"'), ord(",")
_OPEN, _CLOSE, _MINUS, _PLUS, _POINT, _ZERO = ord("["), ord("]"), ord("-"), ord("+"), ord("."), ord("0")
_BEGIN, _END, _COLON, _ESCAPE, _EXPONENT, _UNDERSCORE = ord("{"), ord("}"), ord(":"), ord("\\"), ord("e"), ord("_")


class Rows(NamedTuple):
    """Parsed rows in arrays with spare capacity: row r has points `x[points[r]:points[r + 1]]`, strokes likewise.

    Attributes:
        file: int32, number of the raw file.
        line: int64, from 1.
        key_id: int64.
        word: int16, the label.
        countrycode: int16, 26 times the first letter plus the second, from A = 0; -1 if not known.
        recognized: int8, 0 or 1; -1 if not known.
        timestamp: int64, microseconds since 1970; NO_TIME if not known.
        hash: uint64, the hash of x, y and stroke.
        points, strokes: int64 offsets, one more than rows.
        x, y: uint8.
        t: uint32, milliseconds; of length 0 for untimed drawings.
        stroke: uint16, points of each stroke.
    """

    file: np.ndarray
    line: np.ndarray
    key_id: np.ndarray
    word: np.ndarray
    countrycode: np.ndarray
    recognized: np.ndarray
    timestamp: np.ndarray
    hash: np.ndarray
    points: np.ndarray
    strokes: np.ndarray
    x: np.ndarray
    y: np.ndarray
    t: np.ndarray
    stroke: np.ndarray


class Scratch(NamedTuple):
    """Scratch arrays for one drawing.

    Attributes:
        bytes: (a multiple of 8,) uint8, for the hash.
        raw: (3, points) float64: x, y, t of a raw drawing.
        lengths: (strokes,) int64: points of its strokes.
        path: (3, LONGEST + 2) float64: x, y, t along a stroke.
        keep: (LONGEST + 2,) bool.
        stack: (LONGEST + 2, 2) int64.
    """

    bytes: np.ndarray
    raw: np.ndarray
    lengths: np.ndarray
    path: np.ndarray
    keep: np.ndarray
    stack: np.ndarray


def scratch(size: int, timed: bool) -> Scratch:
    """Scratch arrays for the drawings of a text of up to `size` bytes.

    Memory that is never written is not allocated by the system.
    """
    size = (size // 8 + 8) * 8
    path = LONGEST + 2 if timed else 0
    raw = np.empty((3, size // 2 + 8 if timed else 0))  # a list of x may be as long as the text
    return Scratch(
        np.empty(size, np.uint8), raw, np.empty(size // 6 + 8, np.int64),
        np.empty((3, path)), np.empty(path, np.bool_), np.empty((path, 2), np.int64),
    )  # fmt: skip


@_compiled
def _past_space(text, at):  # type: ignore[no-untyped-def]
    while text[at] == _SPACE or text[at] == _TAB or text[at] == _RETURN:
        at += 1
    return at


@_compiled
def _past(text, at, token):  # type: ignore[no-untyped-def]
    """The position after a token with optional white space around it; REFUSED if it is another token."""
    at = _past_space(text, at)
    if text[at] != token:
        return REFUSED
    return _past_space(text, at + 1)


@_compiled
def _whole_numbers(text, at, found, place):  # type: ignore[no-untyped-def]
    """Read `[n, ...]` of numbers 0..255 into found[place:]; returns the end in the text and the end in `found`.

    Indices are unsigned where speed matters: Numba checks a signed index for counting from the end.
    """
    at = _past(text, at, _OPEN)
    if at < 0:
        return REFUSED, place
    while True:
        value = np.uint32(text[np.uint64(at)]) - np.uint32(_ZERO)
        if value >= np.uint32(10):
            return REFUSED, place
        at += 1
        digit = np.uint32(text[np.uint64(at)]) - np.uint32(_ZERO)
        while digit < np.uint32(10):
            if value == 0 or value > 25:  # a leading zero is not JSON, and 260 is out of range
                return REFUSED, place
            value = np.uint32(10) * value + digit
            at += 1
            digit = np.uint32(text[np.uint64(at)]) - np.uint32(_ZERO)
        if value > 255:
            return REFUSED, place
        found[np.uint64(place)] = value
        place += 1
        if text[np.uint64(at)] == _COMMA and text[np.uint64(at + 1)] == _SPACE:  # as in Kaggle's files
            at += 2
            continue
        at = _past_space(text, at)
        if text[at] == _CLOSE:
            return at + 1, place
        if text[at] != _COMMA:
            return REFUSED, place
        at = _past_space(text, at + 1)


@_compiled
def _simplified_drawing(text, at, x, y, points, stroke, strokes):  # type: ignore[no-untyped-def]
    """Read `[[[x, ...], [y, ...]], ...]`; returns the end in the text, and the ends of its points and strokes."""
    at = _past(text, at, _OPEN)
    while at >= 0:
        at = _past(text, at, _OPEN)
        if at < 0:
            break
        at, behind_x = _whole_numbers(text, at, x, points)
        if at < 0:
            break
        at = _past(text, at, _COMMA)
        if at < 0:
            break
        at, behind_y = _whole_numbers(text, at, y, points)
        if at < 0 or behind_x != behind_y or behind_x - points > MOST_POINTS:
            break
        stroke[strokes] = behind_x - points
        points, strokes = behind_x, strokes + 1
        at = _past(text, at, _CLOSE)
        if at < 0:
            break
        if text[at] == _CLOSE:
            return at + 1, points, strokes
        at = _past(text, at, _COMMA)
    return REFUSED, points, strokes


@_compiled
def _number(text, at):  # type: ignore[no-untyped-def]
    """Read a JSON number; returns its end and its value as the nearest double."""
    start = at
    negative = text[at] == _MINUS
    if negative:
        at += 1
    first, mantissa, decimals = at, 0, 0
    while _ZERO <= text[at] <= _ZERO + 9:
        mantissa = 10 * mantissa + (numba.int64(text[at]) - _ZERO)
        at += 1
    digits = at - first
    if digits == 0 or (digits > 1 and text[first] == _ZERO):
        return REFUSED, 0.0
    if text[at] == _POINT:
        at += 1
        while _ZERO <= text[at] <= _ZERO + 9:
            mantissa = 10 * mantissa + (numba.int64(text[at]) - _ZERO)
            at += 1
            decimals += 1
        if decimals == 0:
            return REFUSED, 0.0
    simple = digits + decimals <= 18 and decimals <= 22 and mantissa <= 2**53
    if (text[at] | 32) == _EXPONENT:
        simple = False
        at += 1
        if text[at] == _PLUS or text[at] == _MINUS:
            at += 1
        if not _ZERO <= text[at] <= _ZERO + 9:
            return REFUSED, 0.0
        while _ZERO <= text[at] <= _ZERO + 9:
            at += 1
    if not simple:
        return at, _to_double(text.ctypes.data + start, 0)
    value = mantissa / _POWERS[decimals]  # one rounding, as both are exact
    return at, -value if negative else value


@_compiled
def _numbers(text, at, found, place):  # type: ignore[no-untyped-def]
    """Read `[n, ...]` of any numbers into found[place:]; returns the end in the text and the end in `found`."""
    at = _past(text, at, _OPEN)
    while at >= 0:
        at, value = _number(text, at)
        if at < 0:
            break
        found[place] = value
        place += 1
        at = _past_space(text, at)
        if text[at] == _CLOSE:
            return at + 1, place
        at = _past(text, at, _COMMA)
    return REFUSED, place


@_compiled
def _raw_drawing(text, at, room):  # type: ignore[no-untyped-def]
    """Read `[[[x, ...], [y, ...], [t, ...]], ...]` into scratch; returns its end and its number of strokes."""
    points, strokes = 0, 0
    at = _past(text, at, _OPEN)
    while at >= 0:
        at = _past(text, at, _OPEN)
        behind = points
        for axis in range(3):
            if at >= 0 and axis > 0:
                at = _past(text, at, _COMMA)
            if at < 0:
                return REFUSED, strokes
            at, end = _numbers(text, at, room.raw[axis], points)
            if at < 0 or (axis > 0 and end != behind):
                return REFUSED, strokes
            behind = end
            limit = LATEST if axis == 2 else FARTHEST
            for place in range(points, end):
                value = room.raw[axis, place]
                if value > limit or value < (0 if axis == 2 else -limit):
                    return REFUSED, strokes
        room.lengths[strokes] = behind - points
        points, strokes = behind, strokes + 1
        at = _past(text, at, _CLOSE)
        if at < 0:
            break
        if text[at] == _CLOSE:
            return at + 1, strokes
        at = _past(text, at, _COMMA)
    return REFUSED, strokes


@_compiled
def simplify(room, strokes, x, y, t, points, stroke, first):  # type: ignore[no-untyped-def]
    """Simplify a raw drawing as Google does: see `records.simplified`, which calls this function.

    Args:
        room: scratch arrays with the drawing in `raw` and `lengths`.
        strokes: number of strokes.
        x, y, t, stroke: receive the simplified drawing, from x[points:] and stroke[first:] on.
        points, first: see above.

    Returns:
        The end of its points; REFUSED if a stroke is longer than LONGEST pixels or keeps more than MOST_POINTS points
        (or there is no room).
    """
    low_x, low_y, high_x, high_y = FARTHEST, FARTHEST, -FARTHEST, -FARTHEST
    total = 0
    for s in range(strokes):
        total += room.lengths[s]
    for place in range(total):
        low_x, high_x = min(low_x, room.raw[0, place]), max(high_x, room.raw[0, place])
        low_y, high_y = min(low_y, room.raw[1, place]), max(high_y, room.raw[1, place])
    size = max(high_x - low_x, high_y - low_y)
    start = 0
    for s in range(strokes):
        end = start + room.lengths[s]
        for place in range(start, end):
            room.raw[0, place] = (room.raw[0, place] - low_x) / size * 255 if size > 0 else 0.0
            room.raw[1, place] = (room.raw[1, place] - low_y) / size * 255 if size > 0 else 0.0
        count = _resample(room, start, end)
        if count < 0:
            return REFUSED
        _keep_corners(room, count)
        kept = 0
        for place in range(count):
            if room.keep[place]:
                if points >= len(x):
                    return REFUSED
                x[points], y[points] = np.rint(room.path[0, place]), np.rint(room.path[1, place])
                t[points] = np.rint(room.path[2, place])
                points, kept = points + 1, kept + 1
        if kept > MOST_POINTS or first + s >= len(stroke):
            return REFUSED
        stroke[first + s] = kept
        start = end
    return points


@_compiled
def _resample(room, start, end):  # type: ignore[no-untyped-def]
    """Sample a stroke in steps of one pixel into `path`, with its last point; returns the number of samples."""
    raw, path = room.raw, room.path
    count, walked = 0, 0.0
    for place in range(start, end - 1):
        step = math.sqrt((raw[0, place + 1] - raw[0, place]) ** 2 + (raw[1, place + 1] - raw[1, place]) ** 2)
        if walked + step > LONGEST:
            return REFUSED
        while step > 0 and count < walked + step:
            for axis in range(3):
                slope = (raw[axis, place + 1] - raw[axis, place]) / step
                path[axis, count] = slope * (count - walked) + raw[axis, place]
            count += 1
        walked += step
    if count == 0:  # all points are the same: Google gives such a stroke two points
        for axis in range(3):
            path[axis, 0] = raw[axis, start]
        count = 1
    for axis in range(3):
        path[axis, count] = raw[axis, end - 1]
    return count + 1


@_compiled
def _keep_corners(room, count):  # type: ignore[no-untyped-def]
    """Mark the points of a path that the Ramer-Douglas-Peucker method keeps."""
    path, keep, stack = room.path, room.keep, room.stack
    for place in range(count):
        keep[place] = place in (0, count - 1)
    stack[0, 0], stack[0, 1] = 0, count - 1
    waiting = 1
    while waiting > 0:
        waiting -= 1
        first, last = stack[waiting, 0], stack[waiting, 1]
        dx, dy = path[0, last] - path[0, first], path[1, last] - path[1, first]
        length = math.sqrt(dx * dx + dy * dy)
        farthest, at = -1.0, first
        for place in range(first + 1, last):
            px, py = path[0, place] - path[0, first], path[1, place] - path[1, first]
            gap = abs(px * dy - py * dx) / length if length > 0 else math.sqrt(px * px + py * py)
            if gap > farthest:
                farthest, at = gap, place
        if farthest > EPSILON:
            keep[at] = True
            stack[waiting, 0], stack[waiting, 1] = first, at
            stack[waiting + 1, 0], stack[waiting + 1, 1] = at, last
            waiting += 2


_P1, _P2, _P3 = np.uint64(0x9E3779B185EBCA87), np.uint64(0xC2B2AE3D27D4EB4F), np.uint64(0x165667B19E3779F9)
_P4, _P5 = np.uint64(0x85EBCA77C2B2AE63), np.uint64(0x27D4EB2F165667C5)


@_compiled
def _rotated(value, left):  # type: ignore[no-untyped-def]
    return (value << np.uint64(left)) | (value >> np.uint64(64 - left))


@_compiled
def _mixed(value, lane):  # type: ignore[no-untyped-def]
    return _rotated(value + lane * _P2, 31) * _P1


@_compiled
def point_hash(x, y, points, end, stroke, strokes, last, data):  # type: ignore[no-untyped-def]
    """64-bit xxHash, seed 0, of x[points:end], then y, then stroke[strokes:last] as uint16 with the low byte first.

    Compiled here because a call into the xxhash package for each drawing costs as much as parsing it. The algorithm:
    https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md. `data` is scratch for all these bytes.
    """
    size = 0
    for place in range(points, end):
        data[size] = x[place]
        size += 1
    for place in range(points, end):
        data[size] = y[place]
        size += 1
    for place in range(strokes, last):
        data[size], data[size + 1] = stroke[place] & 255, stroke[place] >> 8
        size += 2
    lanes = data.view(np.uint64)
    zero, value, lane = np.uint64(0), _P5, 0
    if size >= 32:
        a, b, c, d = _P1 + _P2, _P2, zero, zero - _P1
        while 8 * (lane + 4) <= size:
            a, b = _mixed(a, lanes[lane]), _mixed(b, lanes[lane + 1])
            c, d = _mixed(c, lanes[lane + 2]), _mixed(d, lanes[lane + 3])
            lane += 4
        value = _rotated(a, 1) + _rotated(b, 7) + _rotated(c, 12) + _rotated(d, 18)
        for each in (a, b, c, d):
            value = (value ^ _mixed(zero, each)) * _P1 + _P4
    value += np.uint64(size)
    while 8 * (lane + 1) <= size:
        value = _rotated(value ^ _mixed(zero, lanes[lane]), 27) * _P1 + _P4
        lane += 1
    at = 8 * lane
    if at + 4 <= size:
        value = _rotated(value ^ ((lanes[lane] & np.uint64(0xFFFFFFFF)) * _P1), 23) * _P2 + _P3
        at += 4
    while at < size:
        value = _rotated(value ^ (np.uint64(data[at]) * _P5), 11) * _P1
        at += 1
    value = (value ^ (value >> np.uint64(33))) * _P2
    value = (value ^ (value >> np.uint64(29))) * _P3
    return value ^ (value >> np.uint64(32))


@_compiled
def drawing_hashes(x, y, points, stroke, strokes):  # type: ignore[no-untyped-def]
    """The `point_hash` of each drawing of a shard's arrays, (N,) uint64."""
    count, most = len(points) - 1, 0
    for row in range(count):
        most = max(most, points[row + 1] - points[row] + strokes[row + 1] - strokes[row])
    data, found = np.empty(2 * most // 8 * 8 + 8, np.uint8), np.empty(count, np.uint64)
    for row in range(count):
        found[row] = point_hash(x, y, points[row], points[row + 1], stroke, strokes[row], strokes[row + 1], data)
    return found


@_compiled
def _spells(text, at, end, name):  # type: ignore[no-untyped-def]
    """Whether text[at:end] is `name`."""
    if end - at != len(name):
        return False
    same = 0
    while same < len(name) and text[at + same] == name[same]:
        same += 1
    return same == len(name)


@_compiled
def _digits(text, at, count):  # type: ignore[no-untyped-def]
    """The number of `count` digits; REFUSED if another character is among them."""
    value = 0
    for place in range(at, at + count):
        digit = numba.int64(text[place]) - _ZERO
        if digit < 0 or digit > 9:
            return REFUSED
        value = 10 * value + digit
    return value


@_compiled
def _timestamp(text, at, end):  # type: ignore[no-untyped-def]
    """Microseconds since 1970 of a text like `2017-03-09 00:28:55.63775 UTC`; NO_TIME for another format."""
    if end - at > 4 and _spells(text, end - 4, end, b" UTC"):
        end -= 4
    if end - at < 19 or end - at > 26 or end - at == 20:
        return NO_TIME
    year, month, day = _digits(text, at, 4), _digits(text, at + 5, 2), _digits(text, at + 8, 2)
    hour, minute, second = _digits(text, at + 11, 2), _digits(text, at + 14, 2), _digits(text, at + 17, 2)
    marks = text[at + 4] == _MINUS and text[at + 7] == _MINUS and text[at + 10] == _SPACE
    marks = marks and text[at + 13] == _COLON and text[at + 16] == _COLON
    if not marks or year < 1 or not 1 <= month <= 12 or day < 1 or not 0 <= hour < 24:
        return NO_TIME
    leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
    days = _DAYS_BEFORE[month] - _DAYS_BEFORE[month - 1] + (1 if month == 2 and leap else 0)
    if day > days or not 0 <= minute < 60 or not 0 <= second < 60:
        return NO_TIME
    fraction = 0
    if end - at > 19:
        fraction = _digits(text, at + 20, end - at - 20)
        if text[at + 19] != _POINT or fraction < 0:
            return NO_TIME
        for _ in range(26 - (end - at)):
            fraction *= 10
    past = year - 1
    day += 365 * past + past // 4 - past // 100 + past // 400 + _DAYS_BEFORE[month - 1] - 719163
    day += 1 if month > 2 and leap else 0
    return ((day * 24 + hour) * 60 + minute) * 60_000_000 + second * 1_000_000 + fraction


@_compiled
def _key_id(text, at, end):  # type: ignore[no-untyped-def]
    """The key_id, and whether it is one."""
    if end - at < 1 or end - at > 18:  # 19 digits may not fit
        return 0, False
    value = _digits(text, at, end - at)
    return value, value >= 0


@_compiled
def _is_the_word(text, at, end, word):  # type: ignore[no-untyped-def]
    """Whether text[at:end] is the file's word, in Kaggle's spelling or with spaces."""
    if end - at != len(word):
        return False
    for place in range(len(word)):
        letter = numba.int64(text[at + place])
        if (_UNDERSCORE if letter == _SPACE else letter) != word[place]:
            return False
    return True


@_inlined
def _take_field(text, at, end, what, word, rows, r):  # type: ignore[no-untyped-def]
    """Store the field text[at:end] of row r; False if its spelling is not the usual one."""
    if what == KEY_ID:
        rows.key_id[r], good = _key_id(text, at, end)
        return good
    if what == WORD:
        return _is_the_word(text, at, end, word)
    if end == at or what == OTHER:
        return True
    if what == COUNTRYCODE:
        first, second = numba.int64(text[at]) - ord("A"), numba.int64(text[at + 1]) - ord("A")
        rows.countrycode[r] = 26 * first + second
        return end - at == 2 and 0 <= first < 26 and 0 <= second < 26
    if what == RECOGNIZED:
        rows.recognized[r] = 1 if text[at] == ord("T") else 0
        return _spells(text, at, end, b"True") or _spells(text, at, end, b"False")
    rows.timestamp[r] = _timestamp(text, at, end)
    return rows.timestamp[r] != NO_TIME


@_inlined
def _take_drawing(text, at, rows, r, room):  # type: ignore[no-untyped-def]
    """Parse, check and hash a drawing into row r; returns its end."""
    points, strokes = rows.points[r], rows.strokes[r]
    if len(rows.t) == 0:
        at, end, last = _simplified_drawing(text, at, rows.x, rows.y, points, rows.stroke, strokes)
    else:
        at, count = _raw_drawing(text, at, room)
        last, end = strokes + count, points
        if at >= 0:
            end = simplify(room, count, rows.x, rows.y, rows.t, points, rows.stroke, strokes)
            if end < 0:
                return REFUSED
    if at >= 0:
        rows.points[r + 1], rows.strokes[r + 1] = end, last
        rows.hash[r] = point_hash(rows.x, rows.y, points, end, rows.stroke, strokes, last, room.bytes)
    return at


@_inlined
def _start_row(rows, r):  # type: ignore[no-untyped-def]
    rows.countrycode[r], rows.recognized[r], rows.timestamp[r] = -1, -1, NO_TIME


@_inlined
def _csv_value(text, at, what, quoted, word, rows, r, room):  # type: ignore[no-untyped-def]
    """Store the value of a field that starts at `at`; returns its end."""
    if what == DRAWING:
        at = _take_drawing(text, at, rows, r, room) if quoted else REFUSED
        return _past_space(text, at) if at >= 0 else REFUSED
    start = at
    while 32 <= text[at] < 128 and text[at] != _QUOTE and (quoted or text[at] != _COMMA):
        at += 1
    return at if _take_field(text, start, at, what, word, rows, r) else REFUSED


@_inlined
def _csv_row(text, at, fields, word, rows, r, room):  # type: ignore[no-untyped-def]
    """Read a line of CSV that starts at `at` as row r; returns its end, REFUSED if it is not in Kaggle's format."""
    _start_row(rows, r)
    for place in range(len(fields)):
        quoted = text[at] == _QUOTE
        at = _csv_value(text, at + 1 if quoted else at, fields[place], quoted, word, rows, r, room)
        if at < 0 or (quoted and text[at] != _QUOTE):
            return REFUSED
        if quoted:
            at += 1
        if place < len(fields) - 1:
            if text[at] != _COMMA:
                return REFUSED
            at += 1
    if text[at] == _RETURN:
        at += 1
    return at if text[at] == _LINE else REFUSED


@_compiled
def _field_of(text, at, end):  # type: ignore[no-untyped-def]
    """The kind of field of an ndjson key."""
    found = OTHER
    if _spells(text, at, end, b"drawing"):
        found = DRAWING
    elif _spells(text, at, end, b"key_id"):
        found = KEY_ID
    elif _spells(text, at, end, b"word"):
        found = WORD
    elif _spells(text, at, end, b"countrycode"):
        found = COUNTRYCODE
    elif _spells(text, at, end, b"recognized"):
        found = RECOGNIZED
    elif _spells(text, at, end, b"timestamp"):
        found = TIMESTAMP
    return found


@_compiled
def _string(text, at):  # type: ignore[no-untyped-def]
    """The end of a plain string that starts at `at`; REFUSED if it is not a string, or not ASCII without escapes."""
    if text[at] != _QUOTE:
        return REFUSED
    at += 1
    while 32 <= text[at] < 128 and text[at] != _QUOTE and text[at] != _ESCAPE:
        at += 1
    return at + 1 if text[at] == _QUOTE else REFUSED


@_inlined
def _json_value(text, at, what, word, rows, r, room):  # type: ignore[no-untyped-def]
    """Store the value of a key, which starts at `at`; returns its end."""
    if what == DRAWING:
        return _take_drawing(text, at, rows, r, room)
    start = at
    if what == RECOGNIZED:
        true = text[at] == ord("t")
        rows.recognized[r] = 1 if true else 0
        at += 4 if true else 5
        return at if _spells(text, start, at, b"true") or _spells(text, start, at, b"false") else REFUSED
    at = _string(text, at)
    return at if at >= 0 and _take_field(text, start + 1, at - 1, what, word, rows, r) else REFUSED


@_inlined
def _json_row(text, at, word, rows, r, room):  # type: ignore[no-untyped-def]
    """Read a line of ndjson that starts at `at` as row r; returns its end, REFUSED if it is not in Google's format."""
    _start_row(rows, r)
    seen, needed = 0, (1 << DRAWING) | (1 << KEY_ID) | (0 if len(word) == 0 else 1 << WORD)
    at = _past(text, at, _BEGIN)
    while at >= 0:
        start = at + 1
        at = _string(text, at)
        what = _field_of(text, start, at - 1) if at >= 0 else OTHER
        if what == OTHER or seen & (1 << what):
            return REFUSED
        seen |= 1 << what
        at = _past(text, at, _COLON)
        if at >= 0:
            at = _json_value(text, at, OTHER if what == WORD and len(word) == 0 else what, word, rows, r, room)
        if at < 0:
            return REFUSED
        at = _past_space(text, at)
        if text[at] == _END:
            at = _past_space(text, at + 1)
            return at if text[at] == _LINE and seen & needed == needed else REFUSED
        at = _past(text, at, _COMMA)
    return REFUSED


@_compiled
def read_lines(text, first, fields, word, file, label, rows, filled, room, refused):  # type: ignore[no-untyped-def]
    """Read whole lines into rows.

    Args:
        text: uint8, lines that each end in a line feed.
        first: number of the first line.
        fields: uint8, the kind of each column of a CSV; None for ndjson, which compiles to another reader.
        word: uint8, the word that each row must have, in Kaggle's spelling; of length 0 in the test set.
        file, label: of all rows.
        rows: receives the rows; needs capacity for as many rows as there are lines, half as many points as bytes, and
            a sixth as many strokes as bytes.
        filled: number of rows in `rows` already.
        room: scratch arrays for the length of the text.
        refused: (lines, 3) int64: receives number, start and end of each refused line.

    Returns:
        The number of rows in `rows` now, and the number of refused lines. Blank lines are neither.
    """
    at, line, left = 0, first, 0
    while at < len(text):
        if fields is not None:
            end = _csv_row(text, at, fields, word, rows, filled, room)
        else:
            end = _json_row(text, at, word, rows, filled, room)
        if end >= 0:
            rows.file[filled], rows.line[filled], rows.word[filled] = file, line, label
            filled += 1
        else:
            end = at
            while text[end] != _LINE:
                end += 1
            if _past_space(text, at) != end:
                refused[left, 0], refused[left, 1], refused[left, 2] = line, at, end
                left += 1
        at, line = end + 1, line + 1
    return filled, left
