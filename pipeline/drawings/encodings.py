"""Encodings: drawings → the arrays that learners take, compiled, with the distortion of each drawing fused in.

    raster         → (N, side, side, C) uint8, a picture
    pen_movements  → (N, T, 5 or 7) float32 and lengths, what the pen did from point to point
    points         → (N, T, 4) float32 and lengths, where each point is in the picture and in the drawing

An encoding is a function of drawings, their distortion, and keyword-only params; a learner's `encoding` block in
params.yaml is checked against that signature. Coordinates are centred on the drawing's bounding box and scaled to
-1..1 before the distortion: Quick, Draw! aligns drawings to the top left, so a mirrored drawing would be recognisable.

The kernels read the memory-mapped shards and write into the result; several threads share the drawings of a call
(`set_threads`), and the result does not depend on their number.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numba
import numpy as np

from pipeline.drawings.shards import Drawings, Piece
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import Augmentation, Channels, Count, Fit, Width

HALF = np.float32(127.5)  # of the longer side of a simplified drawing
FADE = 13 / 255  # loss of ink from one stroke to the next
PALEST = 0.5
KINDS = ("stroke_order", "thirds", "velocity", "pause")
STROKE_ORDER, THIRDS, VELOCITY, PAUSE = range(4)
USUAL_SPEED = 0.2  # coordinates per millisecond: the median of raw drawings scaled to 0..255
USUAL_PAUSE = 400.0  # milliseconds between two strokes: the median of raw drawings
STROKES = 16  # a point's third feature is its stroke number divided by this
LANES = 16  # pixels inked at once
WORTHWHILE = 128  # fewest drawings per thread
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # splitmix64's step


class Distortion(NamedTuple):
    """The random changes of the drawings of a batch before they are encoded.

    Strokes are dropped first: the bounding box, the order of the strokes and the points are those of the remaining
    strokes. The stroke with the most points (the first one of several) is never dropped. Then the affine map moves all
    points, then each point is jittered independently. Dropout and jitter are pure functions of a drawing's seed and
    of the number of the stroke or point in the whole drawing.

    Attributes:
        affine: (N, 2, 3) float32 maps of coordinates in -1..1.
        seeds: (N,) uint64.
        jitter: largest movement of a point along each axis, in both directions, as a share of the canvas.
        dropout: probability that a stroke is dropped.
    """

    affine: np.ndarray
    seeds: np.ndarray
    jitter: float
    dropout: float


def identity(count: int) -> Distortion:
    """The distortion of `count` drawings that changes nothing."""
    return Distortion(np.tile(np.eye(2, 3, dtype=np.float32), (count, 1, 1)), np.zeros(count, np.uint64), 0.0, 0.0)


def mirror(count: int) -> Distortion:
    """The distortion of `count` drawings that swaps left and right."""
    still = identity(count)
    return still._replace(affine=still.affine * np.array([[-1, 1, 1], [1, 1, 1]], np.float32))


def random_distortion(rng: np.random.Generator, count: int, augmentation: Augmentation) -> Distortion:
    """Draw a distortion for each drawing; the affine map scales, then shears, then rotates, then flips, then shifts."""
    limit = augmentation
    affine = np.empty((count, 2, 3), np.float32)
    drawn = rng.uniform(-1, 1, (7, count))
    _random_maps(drawn, limit.flip, limit.rotate, limit.scale, limit.shear, limit.shift, affine)
    shaken = limit.jitter > 0 or limit.stroke_dropout > 0
    seeds = rng.integers(2**64, size=count, dtype=np.uint64) if shaken else np.zeros(count, np.uint64)
    return Distortion(affine, seeds, limit.jitter, limit.stroke_dropout)


@numba.njit(nogil=True, cache=True)
def _random_maps(drawn, flip, rotate, scale, shear, shift, affine):  # type: ignore[no-untyped-def]
    for n in range(len(affine)):
        turn, skew, wide, high, right, down, side = drawn[:, n]
        cos, sin = math.cos(math.radians(rotate) * turn), math.sin(math.radians(rotate) * turn)
        skew, wide, high = shear * skew, 1 + scale * wide, 1 + scale * high
        sign = -1 if (side + 1) / 2 < flip else 1
        affine[n, 0, 0], affine[n, 0, 1] = sign * cos * wide, sign * (cos * skew - sin) * high
        affine[n, 1, 0], affine[n, 1, 1] = sin * wide, (sin * skew + cos) * high
        affine[n, 0, 2], affine[n, 1, 2] = 2 * shift * right, 2 * shift * down


class _Threads:
    """The state of `set_threads`, and which threads are `workers`."""

    count = 1
    pool = ThreadPoolExecutor(1)  # starts its threads when they are needed
    here = threading.local()


def set_threads(count: int) -> None:
    """Make encoders use `count` threads from now on; their results do not depend on it."""
    if count != _Threads.count:
        _Threads.count = count
        _Threads.pool = workers()


def num_threads() -> int:
    """The number of threads that encoders use."""
    return _Threads.count


def workers() -> ThreadPoolExecutor:
    """A pool of `num_threads()` new threads for work that encodes; an encoder on one of them uses no other threads."""
    return ThreadPoolExecutor(_Threads.count, "encode", lambda: setattr(_Threads.here, "worker", True))


def _encode(kernel: Callable[..., None], drawings: Drawings, distortion: Distortion, *results: Any) -> None:
    """Run a kernel over all drawings, on several threads if there are many drawings."""
    count = 1 if hasattr(_Threads.here, "worker") else min(_Threads.count, len(drawings) // WORTHWHILE)
    parts = drawings.parts(count) if count > 1 else [drawings.pieces]
    waiting = [_Threads.pool.submit(_encode_part, kernel, part, distortion, results) for part in parts[1:]]
    _encode_part(kernel, parts[0], distortion, results)
    for each in waiting:
        each.result()


def _encode_part(kernel: Callable[..., None], pieces: Iterable[Piece], distortion: Distortion, results: Any) -> None:
    affine, seeds, jitter, dropout = distortion
    for shard, rows, places in pieces:
        arrays = (shard.x, shard.y, shard.t, shard.stroke, shard.points, shard.strokes)
        kernel(arrays, rows, places, affine, seeds, jitter, dropout, *results)


def _need_times(drawings: Drawings, purpose: str) -> None:
    if not drawings.timed:
        raise SketchstackError(
            f"{purpose} needs the time of each point, which simplified drawings do not have: name raw files in "
            "params.yaml under data (Kaggle's train_raw, or Google's raw ndjson), or remove it from the learner's "
            "encoding."
        )


@numba.njit(nogil=True, cache=True)
def _random(seed, number):  # type: ignore[no-untyped-def]
    """Random number `number` of the stream of a seed: splitmix64, https://prng.di.unimi.it/splitmix64.c."""
    z = seed + np.uint64(number) * GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@numba.njit(nogil=True, cache=True)
def _room(points, strokes, rows):  # type: ignore[no-untyped-def]
    """Scratch arrays for the longest of some drawings; see `_trace`."""
    most_points, most_strokes = 1, 1
    for row in rows:
        most_points = max(most_points, points[row + 1] - points[row])
        most_strokes = max(most_strokes, strokes[row + 1] - strokes[row])
    return (
        np.empty(most_points, np.float32),
        np.empty(most_points, np.float32),
        np.empty(most_strokes, np.int64),
        np.empty(most_strokes, np.int64),
    )


@numba.njit(nogil=True, cache=True)
def _trace(arrays, row, affine, seed, jitter, dropout, room):  # type: ignore[no-untyped-def]
    """Write the distorted drawing of one row into scratch arrays; return the number of remaining strokes.

    Args:
        arrays: of the shard: x, y, t, stroke, points, strokes.
        row: of the shard.
        affine, seed, jitter, dropout: the drawing's distortion.
        room: the scratch arrays: coordinates in -1..1 of the remaining points, (points,) each; for each remaining
            stroke the position of its first point in the shard, and its end among the remaining points.
    """
    x, y, _, stroke, points, strokes = arrays
    to_x, to_y, starts, ends = room
    first = strokes[row]
    count = strokes[row + 1] - first
    longest = 0
    for s in range(count):
        if stroke[first + s] > stroke[first + longest]:
            longest = s
    start, end, kept = np.int64(points[row]), np.int64(0), 0
    for s in range(count):
        size = np.int64(stroke[first + s])
        # Points draw from the seed's stream forwards, strokes backwards.
        if dropout == 0 or s == longest or (_random(seed, -1 - s) >> np.uint64(11)) * 2.0**-53 >= dropout:
            end += size
            starts[kept], ends[kept] = start, end
            kept += 1
        start += size
    low_x, high_x, low_y, high_y = x[starts[0]], x[starts[0]], y[starts[0]], y[starts[0]]
    begin = np.int64(0)
    for s in range(kept):
        start, size = starts[s], ends[s] - begin
        across, down = x[start : start + size], y[start : start + size]
        for k in range(size):
            low_x, high_x = min(low_x, across[k]), max(high_x, across[k])
            low_y, high_y = min(low_y, down[k]), max(high_y, down[k])
        begin = ends[s]
    middle_x = (np.float32(low_x) + np.float32(high_x)) / np.float32(2)
    middle_y = (np.float32(low_y) + np.float32(high_y)) / np.float32(2)
    (a, b, c), (d, e, f) = affine[0], affine[1]
    begin = np.int64(0)
    for s in range(kept):
        start, size = starts[s], ends[s] - begin
        across, down = x[start : start + size], y[start : start + size]
        right, low = to_x[begin : ends[s]], to_y[begin : ends[s]]
        for k in range(size):
            u, v = (across[k] - middle_x) / HALF, (down[k] - middle_y) / HALF
            right[k], low[k] = a * u + b * v + c, d * u + e * v + f
        if jitter > 0:
            most = np.float32(2 * jitter)  # the canvas is 2 wide
            for k in range(size):
                bits = _random(seed, start + k - points[row])
                right[k] += most * _either_way(bits >> np.uint64(40))
                low[k] += most * _either_way((bits >> np.uint64(16)) & np.uint64(0xFFFFFF))
        begin = ends[s]
    return kept


@numba.njit(nogil=True, cache=True)
def _either_way(bits):  # type: ignore[no-untyped-def]
    """Map 24 random bits to -1..1, exactly in float32."""
    return np.float32(bits) * np.float32(2.0**-23) - np.float32(1)


@numba.njit(nogil=True, cache=True)
def _share(value, usual):  # type: ignore[no-untyped-def]
    """Map 0..∞ to 0..1, and the usual value to 0.5."""
    return np.float32(value / (value + usual)) if value > 0 else np.float32(0)


@numba.njit(nogil=True, cache=True)
def _speed(x, y, t, start, end):  # type: ignore[no-untyped-def]
    """Recorded speed of the pen between two points of a stroke, by their positions in a shard: 0..1, usual is 0.5."""
    across, down = np.float64(x[end]) - np.float64(x[start]), np.float64(y[end]) - np.float64(y[start])
    waited = max(np.float64(t[end]) - np.float64(t[start]), 0.0)
    return _share(math.sqrt(across * across + down * down), USUAL_SPEED * waited)


@numba.njit(nogil=True, cache=True)
def _pause(t, start):  # type: ignore[no-untyped-def]
    """Time from the previous stroke's last point to the first point of this one, at `start`: 0..1, usual is 0.5."""
    return _share(np.float64(t[start]) - np.float64(t[start - 1]), USUAL_PAUSE)


def num_channels(channels: Sequence[str]) -> int:
    """Number of channels of a picture of `raster`."""
    return sum(3 if name == "thirds" else 1 for name in channels)


def raster(
    drawings: Drawings,
    distortion: Distortion,
    *,
    side: Count,
    stroke_width: Width,
    margin: Width,
    channels: Channels,
) -> np.ndarray:
    """Draw each drawing with anti-aliased strokes.

    Channels, in the order they are named:
        stroke_order: ink fades by 13 grey levels from stroke to stroke, down to half, after the public greyscale
            kernel, https://www.kaggle.com/gaborfodor/greyscale-mobilenet-lb-0-892.
        thirds: three channels, one for the first, second and last third of the points, in the ink of stroke_order,
            as in the top write-ups' RGB images.
        velocity: the faster the pen, the more ink, after
            https://github.com/rpauli/QuickDraw-DoodleRecognitionChallenge. The speed is that of the recording.
        pause: the longer the wait before a stroke, the more ink, after
            https://github.com/kownse/kaggle_doodle_recognition. A stroke that follows one that is left out keeps its
            wait; the first that stays has none.

    The last two need raw drawings; their ink runs from half (no speed, no wait) to full. Scales are ours.

    Args:
        drawings: N drawings.
        distortion: of each drawing.
        side: pixels of a side.
        stroke_width: in pixels.
        margin: empty pixels at each border of an undistorted drawing.
        channels: names, at least one.

    Returns:
        (N, side, side, C) uint8, 0 without ink, channels last; C is `num_channels(channels)`.

    Raises:
        SketchstackError: `channels` has velocity or pause, but the drawings have no times.
    """
    if {"velocity", "pause"} & {*channels}:
        _need_times(drawings, " and ".join(name for name in channels if name in ("velocity", "pause")))
    images = np.empty((len(drawings), side, side, num_channels(channels)), np.uint8)
    kinds = np.array([KINDS.index(name) for name in channels])
    _encode(_raster, drawings, distortion, float(stroke_width), float(margin), kinds, images)
    return images


@numba.njit(nogil=True, cache=True)
def _raster(arrays, rows, places, affine, seeds, jitter, dropout, stroke_width, margin, kinds, images):  # type: ignore[no-untyped-def]
    x, y, t, _, points, strokes = arrays
    side, channels = images.shape[1], images.shape[3]
    reach = np.float32(stroke_width / 2 + 0.5)
    scale, centre = np.float32((side - 1) / 2 - margin), np.float32((side - 1) / 2)
    room = _room(points, strokes, rows)
    to_x, to_y, starts, ends = room
    canvas = np.zeros(channels * side * max(side, LANES), np.uint8)  # channels first: rows are contiguous
    for n in range(len(rows)):
        place = places[n]
        kept = _trace(arrays, rows[n], affine[place], seeds[place], jitter, dropout, room)
        total = ends[kept - 1]
        for k in range(total):
            to_x[k], to_y[k] = to_x[k] * scale + centre, to_y[k] * scale + centre
        channel = 0
        for kind in kinds:
            begin = np.int64(0)
            for s in range(kept):
                ink = np.float32(max(PALEST, 1 - FADE * s) * 255)
                if kind == PAUSE:
                    ink = _ink(_pause(t, starts[s]) if s > 0 else np.float32(0))
                third = 0
                for k in range(min(begin + 1, ends[s] - 1), ends[s]):  # a stroke of one point is a segment of length 0
                    last = max(begin, k - 1)
                    if kind == THIRDS:
                        third = k * 3 // total
                    elif kind == VELOCITY:
                        ink = _ink(_speed(x, y, t, starts[s] + last - begin, starts[s] + k - begin))
                    _segment(canvas, channel + third, side, to_x[last], to_y[last], to_x[k], to_y[k], reach, ink)
                begin = ends[s]
            channel += 3 if kind == THIRDS else 1
        _move(canvas, side, channels, images[place].reshape(-1))


@numba.njit(nogil=True, cache=True)
def _ink(share):  # type: ignore[no-untyped-def]
    """Grey level of ink for a share of 0..1, from the palest to full ink."""
    return np.float32(255) * (np.float32(PALEST) + np.float32(1 - PALEST) * share)


@numba.njit(nogil=True, cache=True, inline="always")
def _segment(canvas, channel, side, x0, y0, x1, y1, reach, ink):  # type: ignore[no-untyped-def]
    """Ink the pixels near a segment by their distance from it; where strokes cross, the most ink counts.

    Args:
        canvas: (channels * side * stride,) uint8; stride is `side`, but LANES at least.
        channel: its number.
        side: pixels of a side.
        x0, y0, x1, y1: the segment, in pixels.
        reach: distance at which ink ends; full ink starts one pixel closer.
        ink: in the middle of the stroke.
    """
    left, right = max(0, int(np.ceil(min(x0, x1) - reach))), min(side - 1, int(np.floor(max(x0, x1) + reach)))
    top, bottom = max(0, int(np.ceil(min(y0, y1) - reach))), min(side - 1, int(np.floor(max(y0, y1) + reach)))
    dx, dy, middle_x, middle_y = x1 - x0, y1 - y0, (x0 + x1) / np.float32(2), (y0 + y1) / np.float32(2)
    length = np.float32(math.sqrt(dx * dx + dy * dy))
    # Distances along the segment (from its middle) and across it are in units of ink, not pixels.
    step_x, step_y = (dx * (ink / length), dy * (ink / length)) if length > 0 else (ink, np.float32(0))
    half, most = ink * length / np.float32(2), ink * reach
    slanted = right - left >= 2 * LANES and dy != 0  # then ink in each row only the pixels that the line can reach
    slope, breadth = (dx / dy, reach * length / abs(dy)) if slanted else (np.float32(0), np.float32(0))
    first, last, stride = left, right, max(side, LANES)
    for row in range(top, bottom + 1):
        down = np.float32(row) - middle_y
        if slanted:
            first = max(left, int(np.ceil(middle_x + down * slope - breadth)))
            last = min(right, int(np.floor(middle_x + down * slope + breadth)))
        for column in range(first, last + 1, LANES):
            start = min(column, stride - LANES)  # inking a pixel twice does no harm
            aside = np.float32(start) - middle_x
            along, across = aside * step_x + down * step_y, aside * step_y - down * step_x
            place = np.uint64((channel * side + row) * stride + start)
            for lane in range(LANES):  # vector instructions
                behind = max(np.float32(0), abs(along + np.float32(lane) * step_x) - half)
                beside = across + np.float32(lane) * step_y
                value = min(ink, max(np.float32(0), most - np.sqrt(behind * behind + beside * beside)))
                pixel = place + np.uint64(lane)
                canvas[pixel] = max(canvas[pixel], np.uint8(np.int32(value)))


@numba.njit(nogil=True, cache=True)
def _move(canvas, side, channels, image):  # type: ignore[no-untyped-def]
    """Copy a canvas (channels * side * stride,), see `_segment`, to an image (side * side * channels,) and clear it."""
    stride = max(side, LANES)
    for row in range(side):
        if channels == 3:  # unrolled, so that it compiles to vector shuffles
            area = np.uint64(side * stride)
            start, to = np.uint64(row * stride), np.uint64(row * side * 3)
            for column in range(side):
                taken, put = start + np.uint64(column), to + np.uint64(column) * np.uint64(3)
                image[put] = canvas[taken]
                image[put + np.uint64(1)] = canvas[taken + area]
                image[put + np.uint64(2)] = canvas[taken + area + area]
        else:
            for channel in range(channels):
                start, to = np.uint64((channel * side + row) * stride), np.uint64(row * side * channels + channel)
                for column in range(side):
                    image[to + np.uint64(column) * np.uint64(channels)] = canvas[start + np.uint64(column)]
    for pixel in range(len(canvas)):
        canvas[pixel] = 0


def num_features(*, timing: bool) -> int:
    """Number of features per point of `pen_movements`."""
    return 7 if timing else 5


def pen_movements(
    drawings: Drawings, distortion: Distortion, *, length: Count, fit: Fit, timing: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Encode each drawing as the movements of its pen.

    After the ink representation of Google's drawing-classification tutorial (dx, dy, end of stroke), with the
    absolute position added, and optional timing. Positions are in -1..1 unless the drawing is distorted, movements in
    the same unit, all other features in 0..1.

    Args:
        drawings: N drawings.
        distortion: of each drawing.
        length: T, the most points kept.
        fit: points to keep of a longer drawing: its first `length` points (truncate), or `length` points evenly
            spaced by their number (resample).
        timing: add the speed from the previous point (0 at the first kept point of a stroke) and the wait before the
            stroke (at its first kept point, else 0), as `raster` does; 0.5 is usual.

    Returns:
        (N, T, 5 or 7) float32 of dx, dy, 1 at a stroke's last point, x, y, speed, wait; 0 after the end. And (N,)
        int32 lengths. With resample, the last kept point of a stroke counts as its last point.

    Raises:
        SketchstackError: `timing` is set, but the drawings have no times.
    """
    if timing:
        _need_times(drawings, "timing: true")
    movements = np.zeros((len(drawings), length, num_features(timing=timing)), np.float32)
    lengths = np.zeros(len(drawings), np.int32)
    _encode(_pen_movements, drawings, distortion, fit == "resample", movements, lengths)
    return movements, lengths


@numba.njit(nogil=True, cache=True)
def _pen_movements(arrays, rows, places, affine, seeds, jitter, dropout, resample, movements, lengths):  # type: ignore[no-untyped-def]
    x, y, t, _, points, strokes = arrays
    most, timing = movements.shape[1], movements.shape[2] == 7
    room = _room(points, strokes, rows)
    to_x, to_y, starts, ends = room
    for n in range(len(rows)):
        place = places[n]
        written = movements[place]
        staying = _trace(arrays, rows[n], affine[place], seeds[place], jitter, dropout, room)
        total = ends[staying - 1]
        kept = min(total, most)
        lengths[place] = kept
        span = total if resample else kept  # the points among which `kept` are spread evenly
        s, begin, last = 0, np.int64(0), np.int64(-1)  # the stroke at hand, its first point, the last point kept
        for k in range(kept):
            point = k * span // kept
            while point >= ends[s]:
                begin = ends[s]
                s += 1
            if last >= 0:
                written[k, 0], written[k, 1] = to_x[point] - to_x[last], to_y[point] - to_y[last]
            following = (k + 1) * span // kept
            written[k, 2] = 1 if following >= ends[s] else 0
            written[k, 3], written[k, 4] = to_x[point], to_y[point]
            if timing:
                shift = starts[s] - begin
                if last >= begin:
                    written[k, 5] = _speed(x, y, t, last + shift, point + shift)
                elif s > 0:
                    written[k, 6] = _pause(t, starts[s])
            last = point


def points(drawings: Drawings, distortion: Distortion, *, length: Count, fit: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Encode each drawing as its points, each with its stroke and position, for networks without a notion of order.

    Args:
        drawings: N drawings.
        distortion: of each drawing.
        length: T, the most points kept.
        fit: as in `pen_movements`.

    Returns:
        (N, T, 4) float32 of x and y (in -1..1 unless the drawing is distorted), the number of the stroke from 0 divided
        by STROKES, the position among the drawing's points from 0 (the first) to 1 (the last); 0 after the end. And
        (N,) int32 lengths.
    """
    found = np.zeros((len(drawings), length, 4), np.float32)
    lengths = np.zeros(len(drawings), np.int32)
    _encode(_points, drawings, distortion, fit == "resample", found, lengths)
    return found, lengths


@numba.njit(nogil=True, cache=True)
def _points(arrays, rows, places, affine, seeds, jitter, dropout, resample, found, lengths):  # type: ignore[no-untyped-def]
    _, _, _, _, points, strokes = arrays
    most = found.shape[1]
    room = _room(points, strokes, rows)
    to_x, to_y, _, ends = room
    for n in range(len(rows)):
        place = places[n]
        written = found[place]
        staying = _trace(arrays, rows[n], affine[place], seeds[place], jitter, dropout, room)
        total = ends[staying - 1]
        kept = min(total, most)
        lengths[place] = kept
        span = total if resample else kept
        s = 0
        for k in range(kept):
            point = k * span // kept
            while point >= ends[s]:
                s += 1
            written[k, 0], written[k, 1] = to_x[point], to_y[point]
            written[k, 2] = np.float32(s) / np.float32(STROKES)
            written[k, 3] = np.float32(point) / np.float32(max(1, total - 1))
