"""A synthetic drawing: a template of `figures`, drawn in a random drawing style, simplified as Google does it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numpy.random import Generator

from pipeline.synthetic.figures import FIGURES, Stroke

SIDE = 255
TOLERANCE = 2.0  # Ramer-Douglas-Peucker's epsilon in Google's simplification


@dataclass(frozen=True)
class Hand:
    """A drawing style of one person; lengths are shares of the canvas.

    Attributes:
        slant: horizontal shear. turn: rotation in degrees. stretch: factor of the width.
        bend: (2, 3) strength of a smooth distortion of the whole drawing.
        tremor: random shift of every point. wobble: slow variation along a stroke. gap: error of a stroke's ends.
        care: random shift of whole strokes. step: distance between points (a fast style has few points).
        rounding: number of times that corners are smoothed.
        backwards, omits, lifts, joins: probabilities that a stroke is drawn from its end, forgotten, split in two, or
            joined to the next stroke without lifting the pen.
    """

    slant: float
    turn: float
    stretch: float
    bend: np.ndarray
    tremor: float
    wobble: float
    gap: float
    care: float
    step: float
    rounding: int
    backwards: float
    omits: float
    lifts: float
    joins: float

    @classmethod
    def of_somebody(cls, rng: Generator) -> Hand:
        """A random drawing style: most are good, some are poor."""
        poor = rng.gamma(2.5, 0.4)  # mean 1, long tail
        return cls(
            slant=rng.normal(0, 0.1),
            turn=rng.normal(0, 6),
            stretch=np.exp(rng.normal(0, 0.18)),
            bend=rng.normal(0, 0.13, (2, 3)),
            tremor=0.004 * poor,
            wobble=0.012 * poor,
            gap=0.025 * poor,
            care=0.018 * poor,
            step=rng.uniform(0.02, 0.07),
            rounding=int(rng.integers(0, 4)),
            backwards=0.8 if rng.random() < 0.2 else 0.05,
            omits=0.12 if rng.random() < 0.4 else 0.0,
            lifts=0.25 if rng.random() < 0.15 else 0.02,
            joins=0.5 if rng.random() < 0.12 else 0.0,
        )


def draw(word: str, rng: Generator, *, unfinished: bool = False) -> list[Stroke]:
    """Draw a word in a random drawing style.

    Returns:
        Strokes as (points, 2) int64 in 0..255, simplified: top left at (0, 0), the longer side 255.
    """
    hand = Hand.of_somebody(rng)
    strokes = [trace(stroke, hand, rng) for stroke in rearranged(FIGURES[word](rng), hand, rng)]
    if rng.random() < 0.05:
        strokes.append(scribble(rng))
    if unfinished:
        strokes = cut_short(strokes, rng.uniform(0.2, 0.6))
    return simplified(distorted(strokes, hand))


def rearranged(strokes: list[Stroke], hand: Hand, rng: Generator) -> list[Stroke]:
    """Change a template's strokes by this style: forgotten, split, joined, backwards, in another order."""
    # The largest stroke is never forgotten. Sizes are rounded, so that ties of mirrored strokes are equal everywhere.
    largest = max(strokes, key=lambda stroke: round(float(np.ptp(stroke, axis=0).sum()), 6))
    kept = [stroke for stroke in strokes if stroke is largest or rng.random() >= hand.omits]
    if rng.random() < 0.15:
        kept = [kept[k] for k in rng.permutation(len(kept))]
    planned: list[Stroke] = []
    for stroke in kept:
        path = stroke[::-1] if rng.random() < hand.backwards else stroke
        if planned and rng.random() < hand.joins:
            planned[-1] = np.concatenate([planned[-1], path])
        elif rng.random() < hand.lifts and len(path) > 3:
            cut = int(rng.integers(1, len(path) - 1))
            planned += [path[: cut + 1], path[cut:]]
        else:
            planned.append(path)
    return planned


def trace(stroke: Stroke, hand: Hand, rng: Generator) -> Stroke:
    """Points along a stroke at the step of the style, (n, 2) float64."""
    steps = np.diff(stroke, axis=0)
    along = np.concatenate([[0.0], np.cumsum(np.sqrt(steps[:, 0] ** 2 + steps[:, 1] ** 2))])
    begin, end = rng.normal(0, hand.gap, 2).clip(-0.2 * along[-1], 0.2 * along[-1])
    count = max(3, round(along[-1] / hand.step))
    at = np.linspace(begin, along[-1] - end, count)  # outside 0..length the pen overshoots
    pen = np.column_stack([np.interp(at, along, stroke[:, axis]) for axis in (0, 1)])  # (count, 2)
    pen[0] += min(begin, 0) * _direction(stroke[0], stroke[1])
    pen[-1] += min(end, 0) * _direction(stroke[-1], stroke[-2])
    for _ in range(hand.rounding if count > 6 else 0):
        pen[1:-1] = (pen[:-2] + 2 * pen[1:-1] + pen[2:]) / 4
    phase, pace = rng.uniform(0, 2 * np.pi, 2), rng.uniform(4, 12, 2)
    sway = hand.wobble * np.sin(at[:, None] * pace + phase)
    off = rng.normal(0, hand.care, 2) + (pen - pen[0]) * rng.normal(0, 2 * hand.care, 2)
    return pen + sway + off + rng.normal(0, hand.tremor, pen.shape)


def _direction(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Unit vector (2,) from one point to another; zero if they are the same."""
    dx, dy = end - start
    return (end - start) / max(np.sqrt(dx * dx + dy * dy), 1e-9)


def scribble(rng: Generator) -> Stroke:
    """A meaningless stroke: crossing out, shading, a signature."""
    corners = int(rng.integers(3, 9))
    width, height = rng.uniform(0.1, 0.5, 2)
    xs = rng.random() + np.linspace(0, width, corners) + rng.normal(0, 0.02, corners)
    return np.column_stack([xs, rng.random() + height * (np.arange(corners) % 2)])


def cut_short(strokes: list[Stroke], share: float) -> list[Stroke]:
    """The first points of a drawing, a given share of all, at least six."""
    left, kept = max(6, round(share * sum(map(len, strokes)))), []
    for stroke in strokes:
        if left < 2:
            break
        kept.append(stroke[:left])
        left -= len(stroke)
    return kept


def distorted(strokes: list[Stroke], hand: Hand) -> list[Stroke]:
    """Bend, stretch, slant and turn a whole drawing about the middle of the canvas."""
    x, y = (np.concatenate(strokes) - 0.5).T
    (a, b, c), (d, e, f) = hand.bend
    x, y = x + a * y * y + b * x * y + c * x * x, y + d * x * x + e * x * y + f * y * y
    x = hand.stretch * x + hand.slant * y
    cos, sin = np.cos(np.radians(hand.turn)), np.sin(np.radians(hand.turn))
    points = np.column_stack([cos * x - sin * y, sin * x + cos * y])
    return np.split(points, np.cumsum([len(stroke) for stroke in strokes])[:-1])


def simplified(strokes: list[Stroke]) -> list[Stroke]:
    """Simplify as Google does: align to the top left, longer side 255, Ramer-Douglas-Peucker, round to nearest.

    Google also resamples at 1 pixel, which hardly moves corners. In Google's files the longer side can be slightly
    below 255, if the simplification drops the outermost point; here the result is scaled again.
    https://github.com/googlecreativelab/quickdraw-dataset#simplified-drawing-files-ndjson
    """
    # The last bits of sine and exponential differ between machines; on a grid of 2^-20 all later steps are exact.
    aligned = _aligned([np.rint(stroke * 2**20) / 2**20 for stroke in strokes])
    return [np.rint(stroke).astype(np.int64) for stroke in _aligned([s[corners(s, TOLERANCE)] for s in aligned])]


def _aligned(strokes: list[Stroke]) -> list[Stroke]:
    """Move a drawing to the top left and scale its longer side to 255."""
    points = np.concatenate(strokes)
    low, high = points.min(axis=0), points.max(axis=0)
    return [(stroke - low) * (SIDE / (high - low).max()) for stroke in strokes]


@numba.njit(cache=True)
def corners(points, tolerance):  # type: ignore[no-untyped-def]
    """The points that Ramer-Douglas-Peucker keeps: points (n, 2) float64 → (n,) bool."""
    keep = np.zeros(len(points), np.bool_)
    keep[0] = keep[-1] = True
    spans = [(0, len(points) - 1)]
    while spans:
        first, last = spans.pop()
        dx, dy = points[last, 0] - points[first, 0], points[last, 1] - points[first, 1]
        length = np.sqrt(dx * dx + dy * dy)
        farthest, distance = first, tolerance
        for k in range(first + 1, last):
            x, y = points[k, 0] - points[first, 0], points[k, 1] - points[first, 1]
            off = abs(dx * y - dy * x) / length if length > 0 else np.sqrt(x * x + y * y)
            if off > distance:
                farthest, distance = k, off
        if farthest != first:
            keep[farthest] = True
            spans.append((first, farthest))
            spans.append((farthest, last))
    return keep


def drawing_json(strokes: Sequence[Stroke]) -> str:
    """A drawing as text of Kaggle's drawing column."""
    return json.dumps([stroke.T.tolist() for stroke in strokes])
