"""Encodings: drawings → the arrays that learners take, compiled, with a random affine map fused in.

An encoding is a function of drawings, one affine map each, and keyword-only params; a learner's `encoding` block in
params.yaml is checked against that signature. Coordinates are centred on the drawing's bounding box and scaled to
-1..1 before the map is applied: Quick, Draw! aligns drawings to the top left, which a mirrored drawing would give away.
"""

from __future__ import annotations

import math
from typing import Literal

import numba
import numpy as np

from pipeline.drawings import Drawings
from pipeline.params import Augmentation, Count, Width

HALF = np.float32(127.5)  # of the longer side of a simplified drawing
FADE = 13 / 255  # of the ink, from one stroke to the next
PALEST = 0.5


def identity(count: int) -> np.ndarray:
    """Affine maps that change nothing, (count, 2, 3) float32."""
    return np.tile(np.eye(2, 3, dtype=np.float32), (count, 1, 1))


def mirror(count: int) -> np.ndarray:
    """Affine maps that swap left and right, (count, 2, 3) float32."""
    return identity(count) * np.array([[-1, 1, 1], [1, 1, 1]], np.float32)


def random_affine(rng: np.random.Generator, count: int, augmentation: Augmentation) -> np.ndarray:
    """Draw an affine map for each drawing: scale, then shear, then rotate, then flip, then shift.

    Returns:
        (count, 2, 3) float32, to be applied to coordinates in -1..1.
    """
    limit = augmentation
    angle, shear, scale_x, scale_y, shift_x, shift_y = rng.uniform(-1, 1, (6, count))
    flip = np.where(rng.random(count) < limit.flip, -1.0, 1.0)
    angle, shear = np.deg2rad(limit.rotate) * angle, limit.shear * shear
    scale_x, scale_y = 1 + limit.scale * scale_x, 1 + limit.scale * scale_y
    cos, sin = np.cos(angle), np.sin(angle)
    maps = np.empty((count, 2, 3), np.float32)
    maps[:, 0, 0], maps[:, 0, 1] = flip * cos * scale_x, flip * (cos * shear - sin) * scale_y
    maps[:, 1, 0], maps[:, 1, 1] = sin * scale_x, (sin * shear + cos) * scale_y
    maps[:, 0, 2], maps[:, 1, 2] = 2 * limit.shift * shift_x, 2 * limit.shift * shift_y
    return maps


def raster(
    drawings: Drawings, affine: np.ndarray, *, side: Count, stroke_width: Width, margin: Width, channels: Literal[1, 3]
) -> np.ndarray:
    """Draw each drawing with anti-aliased strokes; the ink fades from stroke to stroke.

    The grey by stroke order follows the public 0.892 leaderboard kernel (13 grey levels a stroke). With three
    channels the first, second and last third of the points each have their own, as in the top write-ups' RGB images.

    Args:
        drawings: N drawings.
        affine: (N, 2, 3) float32 maps of coordinates in -1..1.
        side: pixels of a side.
        stroke_width: in pixels.
        margin: empty pixels at each border of a drawing that is not moved.
        channels: 1 or 3.

    Returns:
        (N, side, side, channels) uint8, 0 where there is no ink, channels last.
    """
    images = np.zeros((len(drawings), side, side, channels), np.uint8)
    d = drawings
    _raster(d.x, d.y, d.stroke, d.points, d.strokes, affine, np.float32(stroke_width), np.float32(margin), images)
    return images


@numba.njit(nogil=True, cache=True)
def _middle(axis, start, end):  # type: ignore[no-untyped-def]
    """Half-way between the smallest and the largest of axis[start:end], float32."""
    low, high = axis[start], axis[start]
    for place in range(start, end):
        low, high = min(low, axis[place]), max(high, axis[place])
    return (np.float32(low) + np.float32(high)) / np.float32(2)


@numba.njit(nogil=True, cache=True)
def _raster(x, y, stroke, points, strokes, affine, width, margin, images):  # type: ignore[no-untyped-def]
    side, channels = images.shape[1], images.shape[3]
    scale, centre = np.float32((side - 1) / 2 - margin), np.float32((side - 1) / 2)
    for n in range(len(images)):
        (a, b, c), (d, e, f) = affine[n, 0], affine[n, 1]
        place, total = points[n], points[n + 1] - points[n]
        middle_x, middle_y = _middle(x, points[n], points[n + 1]), _middle(y, points[n], points[n + 1])
        for s in range(strokes[n + 1] - strokes[n]):
            ink = np.float32(max(PALEST, 1 - FADE * s) * 255)
            from_x, from_y = np.float32(0), np.float32(0)
            for k in range(stroke[strokes[n] + s]):
                u, v = (x[place] - middle_x) / HALF, (y[place] - middle_y) / HALF
                to_x = (a * u + b * v + c) * scale + centre
                to_y = (d * u + e * v + f) * scale + centre
                if k == 0:
                    from_x, from_y = to_x, to_y
                if k > 0 or stroke[strokes[n] + s] == 1:
                    channel = min(channels - 1, (place - points[n]) * channels // total)
                    _segment(images[n], channel, from_x, from_y, to_x, to_y, width, ink)
                from_x, from_y = to_x, to_y
                place += 1


@numba.njit(nogil=True, cache=True, inline="always")
def _segment(image, channel, x0, y0, x1, y1, width, ink):  # type: ignore[no-untyped-def]
    """Ink the pixels near a segment by their distance from it; where strokes cross, the darkest stays."""
    side = image.shape[0]
    reach = width / 2 + np.float32(0.5)
    left, right = max(0, math.ceil(min(x0, x1) - reach)), min(side - 1, math.floor(max(x0, x1) + reach))
    top, bottom = max(0, math.ceil(min(y0, y1) - reach)), min(side - 1, math.floor(max(y0, y1) + reach))
    dx, dy = x1 - x0, y1 - y0
    squared = dx * dx + dy * dy
    inverse = np.float32(1) / squared if squared > 0 else np.float32(0)
    for row in range(top, bottom + 1):
        for column in range(left, right + 1):
            px, py = column - x0, row - y0
            along = min(np.float32(1), max(np.float32(0), (px * dx + py * dy) * inverse))
            off_x, off_y = px - along * dx, py - along * dy
            gap = reach - np.float32(math.sqrt(off_x * off_x + off_y * off_y))
            if gap > 0:
                value = np.uint8(min(np.float32(1), gap) * ink)
                if value > image[row, column, channel]:
                    image[row, column, channel] = value


def pen_movements(drawings: Drawings, affine: np.ndarray, *, length: Count) -> tuple[np.ndarray, np.ndarray]:
    """Write each drawing as the movements of its pen.

    After the ink representation of Google's drawing-classification tutorial (dx, dy, end of stroke), with the
    absolute position added. A longer drawing keeps `length` of its points, evenly spaced.

    Args:
        drawings: N drawings.
        affine: (N, 2, 3) float32 maps of coordinates in -1..1.
        length: T, the most points kept.

    Returns:
        (N, T, 5) float32 of dx, dy, 1 at a stroke's last point, x, y; 0 behind the end. And (N,) int32 lengths.
    """
    movements = np.zeros((len(drawings), length, 5), np.float32)
    lengths = np.minimum(np.diff(drawings.points), length).astype(np.int32)
    d = drawings
    _pen_movements(d.x, d.y, d.stroke, d.points, d.strokes, affine, movements)
    return movements, lengths


@numba.njit(nogil=True, cache=True)
def _pen_movements(x, y, stroke, points, strokes, affine, movements):  # type: ignore[no-untyped-def]
    most = movements.shape[1]
    for n in range(len(movements)):
        (a, b, c), (d, e, f) = affine[n, 0], affine[n, 1]
        total = points[n + 1] - points[n]
        middle_x, middle_y = _middle(x, points[n], points[n + 1]), _middle(y, points[n], points[n + 1])
        kept = min(total, most)
        s, end = strokes[n], points[n]  # the stroke of the point at hand, and where it ends
        last_x, last_y = np.float32(0), np.float32(0)
        for k in range(kept):
            place = points[n] + (k * total) // kept
            following = points[n] + ((k + 1) * total) // kept
            while place >= end:
                end += stroke[s]
                s += 1
            u, v = (x[place] - middle_x) / HALF, (y[place] - middle_y) / HALF
            now_x, now_y = a * u + b * v + c, d * u + e * v + f
            if k > 0:
                movements[n, k, 0], movements[n, k, 1] = now_x - last_x, now_y - last_y
            movements[n, k, 2] = 1 if following >= end else 0
            movements[n, k, 3], movements[n, k, 4] = now_x, now_y
            last_x, last_y = now_x, now_y
