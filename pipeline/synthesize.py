"""Stage: write a competition that needs no download, in Kaggle's exact format, with the true words of its test set.

Every drawing is a plan from `pipeline.figures` drawn by a hand of its own: people slant, tremble, hurry, round
corners off, leave gaps or overshoot, forget strokes, draw them in another order or backwards, scribble, run out of
time, or misread the word. Each drawing has a generator of its own, so that it is the same whatever the other words
and however many drawings are asked for.
"""

from __future__ import annotations

import argparse
import csv
import json
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
from numpy.random import Generator

from pipeline.artefacts import whole_folder
from pipeline.errors import SketchstackError, one_paragraph_errors
from pipeline.figures import FIGURES, Stroke
from pipeline.params import PARAMS, Params, load_params
from pipeline.words import Words, spell

TRAIN, TEST = 0, 1  # the part of the competition, a part of every seed
FIRST_KEY_ID = {TRAIN: 4_500_000_000_000_000, TEST: 9_000_000_000_000_000}  # as on Kaggle, 16 digits, never in both
KEY_IDS = 900_000_000_000_000
MISREAD = 24  # a misread word is one of the first so many figures: more words change no drawing that there was
COUNTRIES = ["US", "GB", "DE", "RU", "SE", "FR", "BR", "SA", "KR", "JP"]
OPENED = datetime(2017, 1, 23)  # the game's days in Kaggle's data: until the end of March 2017
SIDE = 255
TOLERANCE = 2.0  # Ramer-Douglas-Peucker's epsilon in Google's simplification


class Row(NamedTuple):
    """One drawing of the competition; `word` is the one it was asked for."""

    key_id: int
    countrycode: str
    drawing: str
    recognized: bool
    timestamp: str
    word: str


@dataclass(frozen=True)
class Hand:
    """How one person draws; lengths are shares of the canvas.

    Attributes:
        slant: shear of the uprights. turn: degrees. stretch: of the width.
        bend: (2, 3) strength of a smooth distortion of the whole.
        tremor: of every point. wobble: slow swaying along a stroke. gap: how far a stroke's ends miss.
        care: how far strokes land from where they belong. step: between two points (a fast hand has few).
        rounding: how many times corners are smoothed.
        backwards, omits, lifts, joins: chances a stroke is drawn from its end, forgotten, drawn in two, or drawn on to
        the next one without lifting the pen.
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
        """A hand from the crowd: most are fair, some are poor."""
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
    """Draw a word by somebody's hand.

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
    """Plan the same strokes as this hand would: forgotten, split, joined, backwards, in another order."""
    # Nobody forgets the largest stroke. Sizes are rounded, so that mirrored strokes tie alike on every machine.
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
    """Run the pen along a planned stroke: points at the hand's pace, (n, 2) float64."""
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
    """A stroke that means nothing: crossing out, shading, a signature."""
    corners = int(rng.integers(3, 9))
    width, height = rng.uniform(0.1, 0.5, 2)
    xs = rng.random() + np.linspace(0, width, corners) + rng.normal(0, 0.02, corners)
    return np.column_stack([xs, rng.random() + height * (np.arange(corners) % 2)])


def cut_short(strokes: list[Stroke], share: float) -> list[Stroke]:
    """The first share of the points of a drawing, at least six."""
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
    """Simplify as Google does: to the top left, the longer side 255, Ramer-Douglas-Peucker, round to nearest.

    Google also resamples at 1 pixel, which moves no corner that matters. Its longer side may fall a little short of
    255, where the simplification drops the outermost point; ours is scaled again.
    https://github.com/googlecreativelab/quickdraw-dataset#simplified-drawing-files-ndjson
    """
    # The last bits of sine and exponential differ between machines; on a grid of 2^-20 the rest of the way is exact.
    aligned = _aligned([np.rint(stroke * 2**20) / 2**20 for stroke in strokes])
    return [np.rint(stroke).astype(np.int64) for stroke in _aligned([s[corners(s, TOLERANCE)] for s in aligned])]


def _aligned(strokes: list[Stroke]) -> list[Stroke]:
    """Move a drawing to the top left and scale its longer side to 255."""
    points = np.concatenate(strokes)
    low, high = points.min(axis=0), points.max(axis=0)
    return [(stroke - low) * (SIDE / (high - low).max()) for stroke in strokes]


@numba.njit(cache=True)
def corners(points, tolerance):  # type: ignore[no-untyped-def]
    """Which points Ramer-Douglas-Peucker keeps: points (n, 2) float64 → (n,) bool."""
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
    """The text of Kaggle's drawing column."""
    return json.dumps([stroke.T.tolist() for stroke in strokes])


def row(word: str, number: int, part: int, *, seed: int, unrecognized: float, mislabelled: float) -> Row:
    """Drawing `number` of a word in the training or test part: a pure function of its arguments.

    Args:
        word: a key of FIGURES.
        number: counts the word's drawings in that part.
        part: TRAIN or TEST.
        seed: of the competition.
        unrecognized: chance that the drawing is left unfinished.
        mislabelled: chance that it shows another word.
    """
    rng = np.random.default_rng([seed, zlib.crc32(word.encode()), part, number])
    key_id = FIRST_KEY_ID[part] + int(rng.integers(KEY_IDS))
    time = OPENED + timedelta(microseconds=int(rng.integers(67 * 24 * 3600 * 10**6)))
    country = COUNTRIES[min(int(rng.exponential(2.5)), len(COUNTRIES) - 1)]
    unfinished, misread = rng.random() < unrecognized, rng.random() < mislabelled
    shown = rng.choice([other for other in list(FIGURES)[:MISREAD] if other != word]) if misread else word
    drawing = drawing_json(draw(shown, rng, unfinished=unfinished))
    return Row(key_id, country, drawing, not unfinished, f"{time:%Y-%m-%d %H:%M:%S.%f}", word)


def write_csv(path: Path, header: str, rows: Iterable[Sequence[object]]) -> None:
    """Write rows as Kaggle does: line feeds, quotes only where a comma asks for them."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header.split(","))
        writer.writerows(rows)


def write_train(folder: Path, params: Params) -> None:
    """Write `<word>.csv` of every word into a new folder."""
    folder.mkdir()
    chances = params.synthesize.model_dump(include={"unrecognized", "mislabelled"})
    for word in FIGURES:
        rows = (row(word, k, TRAIN, seed=params.seed, **chances) for k in range(params.synthesize.train_rows))
        table = ((r.countrycode, r.drawing, r.key_id, r.recognized, r.timestamp, r.word) for r in rows)
        write_csv(folder / f"{word}.csv", "countrycode,drawing,key_id,recognized,timestamp,word", table)


def write_test(folder: Path, params: Params) -> None:
    """Write the test drawings, the sample submission and the true words, all in order of key_id as on Kaggle."""
    chances = {"unrecognized": params.synthesize.unrecognized, "mislabelled": 0.0}  # the truth is the truth
    numbers = range(params.synthesize.test_rows)
    rows = sorted(row(word, k, TEST, seed=params.seed, **chances) for word in FIGURES for k in numbers)
    write_csv(folder / params.data.test, "key_id,countrycode,drawing", (r[:3] for r in rows))
    guesses = " ".join(Words.from_names(FIGURES).names[:3])
    write_csv(folder / params.data.sample_submission, "key_id,word", ((r.key_id, guesses) for r in rows))
    if params.data.labels:
        write_csv(folder / params.data.labels, "key_id,word", ((r.key_id, spell(r.word)) for r in rows))


def check_profile(competition: str, params: Params) -> None:
    """Refuse to write where raw files of another competition lie.

    Raises:
        SketchstackError: the params in force are another profile's, or read their raw files from another folder.
    """
    listed, folder = params.synthesize.competitions, Path("data", competition)
    if competition not in listed:
        raise SketchstackError(
            f"{PARAMS}: synthesize.competitions is {listed}, so {competition!r} is not to be written for profile "
            f"{params.profile!r}; name a listed one, or first put the profile in force that lists it "
            f"(`make profile NAME=synthetic`)."
        )
    if Path(params.data.folder) != folder:
        raise SketchstackError(
            f"{PARAMS}: data.folder is {params.data.folder}, but the competition {competition!r} goes to {folder}; "
            f"set data.folder to {folder}, or synthesize.competitions to [] to use the raw files that lie there."
        )


@one_paragraph_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Write data/<competition>."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.synthesize", description="Write a synthetic competition in Kaggle's format."
    )
    parser.add_argument("competition", help="its name in synthesize.competitions of params.yaml, as in data/<name>")
    competition = parser.parse_args(arguments).competition
    params = load_params()
    check_profile(competition, params)
    with whole_folder(Path(params.data.folder)) as folder:
        write_train(folder / params.data.train, params)
        write_test(folder, params)
    print(f"{params.data.folder}: {len(FIGURES)} words, {params.synthesize.train_rows} training drawings each")


if __name__ == "__main__":
    main()
