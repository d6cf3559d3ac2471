"""A contact sheet of drawings, as they were drawn or as a learner sees them.

    sketchstack preview WORD... [--learner NAME [--augmented]]

Ink is dark on white, although a network gets bright ink on black: this is easier to read, and leaves colours free for
channels. Pixels are exactly the network's input, enlarged, with a colour for each value.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pyarrow as pa

from pipeline.drawings.encodings import (
    Distortion,
    identity,
    num_channels,
    pen_movements,
    points,
    random_distortion,
    raster,
)
from pipeline.drawings.pictures import BITS, SIDE, draw_path, drawn, paper, pixels
from pipeline.drawings.shards import TEST, Drawings, Shards, open_shards
from pipeline.drawings.words import Words, load_words, spell
from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.commandline import Parser
from pipeline.foundation.errors import SketchstackError, one_paragraph_errors
from pipeline.foundation.params import Params, load_params
from pipeline.foundation.places import places
from pipeline.learners._base import Learner, learner_class, load_learner
from pipeline.raw.columns import IDS, stored_id, written_id

WIDTH, MARGIN, GAP = 1600, 24, 12  # pixels: of a sheet, around it, between its tiles
NARROWEST = 124  # pixels: width of a key_id as text
LINE, TITLE_LINE, HEADING = 15, 20, 36  # pixels from one line of text to the next
PLAIN, BOLD = 400, 650  # weights of the font
INK, GREY, PALE, RED = (32, 32, 32), (120, 120, 120), (205, 205, 205), (40, 40, 200)  # blue, green, red
DOT = 40  # the radius of a point in sixteenths of a pixel
LEGENDS = {
    "stroke_order": "stroke_order: later strokes are paler",
    "thirds": "thirds: red first, then green, then blue",
    "velocity": "velocity: the faster, the darker",
    "pause": "pause: the longer the wait before a stroke, the darker",
}
DEFAULT = Path("preview.png")
INKS = np.array([[40, 40, 215], [60, 145, 25], [225, 80, 30]])  # of the thirds: red, green, blue


class Text(NamedTuple):
    """A line of text and its colour."""

    text: str
    colour: tuple[int, int, int]


class Tile(NamedTuple):
    """One drawing: a picture (height, width, 3) uint8 and the lines below it."""

    picture: np.ndarray
    lines: list[Text]


class Block(NamedTuple):
    """Some drawings under a heading."""

    heading: str
    tiles: list[Tile]


Artist = Callable[[Drawings], list[np.ndarray]]  # makes a picture of each drawing


def preview(
    names: Sequence[str], key_ids: Sequence[int], *, learner: str | None, augmented: bool, rows: int, test: bool
) -> np.ndarray:
    """A sheet of drawings of some words, or with some key_ids, or (if neither is given) of the first test drawings.

    Args:
        names: words, one block each.
        key_ids: in the order of the sheet.
        learner: show the input of this learner; None for the drawings as they were drawn.
        augmented: show below each drawing how it may look in training.
        rows: rows of tiles per block.
        test: show drawings of the test set.

    Returns:
        (height, width, 3) uint8, channels in OpenCV's order.

    Raises:
        SketchstackError: there is no such word, key_id or learner, or folds/ has not been made yet; the learner's
            encoding cannot be shown, or needs times that the drawings do not have.
    """
    params, words = load_params(), load_words(places().folds)
    labels = [_label(name, words) for name in names]
    folders = [places().folds / TEST] if test else [places().folds / f"fold{fold}" for fold in params.folds]
    shards = open_shards(folders)
    title, artist = _view(learner, params, words, augmented=augmented)
    width = max(NARROWEST, artist(shards[:1])[0].shape[1])
    columns = max(1, (WIDTH - 2 * MARGIN + GAP) // (width + GAP))
    blocks = []
    for heading, found in _chosen(shards, words, labels, key_ids, columns * rows):
        drawings = shards.take(found)
        notes = _notes(shards, drawings, folders)
        lines = [
            [Text(str(written_id(key_id)), GREY), *note] for key_id, note in zip(drawings.key_id, notes, strict=True)
        ]
        if key_ids and not test:
            lines = [[Text(words.names[label], INK), *each] for label, each in zip(drawings.word, lines, strict=True)]
        blocks.append(Block(heading, list(map(Tile, artist(drawings), lines))))
    return sheet(title, blocks, columns, width)


def _label(name: str, words: Words) -> int:
    """The label of a word, with spaces or underscores.

    Raises:
        SketchstackError: there is no such word.
    """
    label = words.index.get(spell(name))
    if label is None:
        near = ", ".join(difflib.get_close_matches(spell(name), words.names, 3, 0.5)) or "none"
        raise SketchstackError(
            f"no word {name!r} among the {len(words)} words of {places().folds / 'words.json'}; similar: {near}."
        )
    return label


def _chosen(
    shards: Shards, words: Words, labels: Sequence[int], key_ids: Sequence[int], count: int
) -> Iterator[tuple[str, np.ndarray]]:
    """The heading and the rows of each block; for a word the first rows, which are random after the shuffle.

    Raises:
        SketchstackError: there is no drawing with a given key_id.
    """
    for label in labels:
        rows = np.flatnonzero(shards.word == label)
        yield f"{words.names[label]}   {min(count, len(rows))} of {len(rows):,}", rows[:count]
    if key_ids:
        known = [stored_id(key_id) for key_id in key_ids if key_id in IDS]
        rows_of = {written_id(shards.key_id[row]): row for row in np.flatnonzero(np.isin(shards.key_id, known))}
        for key_id in key_ids:
            if key_id not in rows_of:
                raise SketchstackError(
                    f"no drawing has key_id {key_id} among these {len(shards):,}. For the test set give --test, for "
                    f"the folds omit --test; rejected drawings are listed in {places().folds}/rejects.csv."
                )
        yield "by key_id", np.array([rows_of[key_id] for key_id in key_ids])
    if not labels and not key_ids:
        yield f"test set   {min(count, len(shards))} of {len(shards):,}", np.arange(min(count, len(shards)))


def _notes(shards: Shards, drawings: Drawings, folders: Sequence[Path]) -> list[list[Text]]:
    """Notes on each drawing from columns of the shards: its country, and whether it was not recognised."""
    paths = [path for folder in folders for path in sorted(folder.glob("*.arrow"))]  # as open_shards orders them
    notes: list[list[Text]] = [[] for _ in range(len(drawings))]
    for shard, rows, positions in drawings.pieces:
        path = paths[next(n for n, each in enumerate(shards.shards) if each is shard)]
        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        for row, place in zip(rows.tolist(), positions, strict=True):
            country, recognized = (batch.column(name)[row].as_py() for name in ("countrycode", "recognized"))
            told = [country] if country else []
            if recognized is False:
                told.append("not recognized")
            notes[place] = [Text(" ".join(told), RED if recognized is False else GREY)] if told else []
    return notes


def _view(name: str | None, params: Params, words: Words, *, augmented: bool) -> tuple[list[str], Artist]:
    """The title lines of a sheet, and the artist: drawings as a learner sees them, or as they were drawn."""
    if name is None:
        return ["as they were drawn: from blue, the first stroke, to red, the last"], drawn
    learner_class(name)  # its error for an unknown name is clearer than that of the params
    learner = load_learner(name, params.learner(name), num_words=len(words), seed=(params.seed,), threads=1)
    encoding = learner.params.encoding
    told = [f"{key} {', '.join(value) if isinstance(value, list) else value}" for key, value in encoding.items()]
    encode = type(learner).encode
    title = [f"as {name} sees them: {encode.__name__} of {', '.join(told)}"]
    if encode is raster:
        title += ["    ".join(LEGENDS[channel] for channel in encoding["channels"])]
        view = partial(rasters, learner)
    elif encode in (pen_movements, points):
        title += ["dots: the points that the network gets; pale: what it does not get"]
        view = partial(paths, learner)
    else:
        raise SketchstackError(
            f"pipeline/learners/{name}.py encodes with {encode.__name__}; only raster, pen_movements and points of "
            "pipeline/drawings/encodings.py can be shown."
        )
    if not augmented:
        return title, lambda drawings: view(drawings, identity(len(drawings)))
    rng = np.random.default_rng([params.seed])
    title[0] += "; below each, how it may look in training"

    def with_distorted(drawings: Drawings) -> list[np.ndarray]:
        plain = view(drawings, identity(len(drawings)))
        moved = view(drawings, random_distortion(rng, len(drawings), learner.params.augmentation))
        return [_joined(pair, axis=0) for pair in zip(plain, moved, strict=True)]

    return title, with_distorted


def rasters(learner: Learner, drawings: Drawings, distortion: Distortion) -> list[np.ndarray]:
    """The input images of a learner, pixel by pixel: one panel per entry of its `channels`."""
    images = learner.inputs(drawings, distortion)  # (N, side, side, C)
    names = learner.params.encoding["channels"]
    cuts = np.cumsum([num_channels([name]) for name in names])[:-1]
    times = max(1, round(SIDE / images.shape[1]))
    pictures = []
    for image in images:
        panels = [inked(planes).repeat(times, 0).repeat(times, 1) for planes in np.split(image, cuts, axis=2)]
        pictures.append(_joined(panels, axis=1))
    return pictures


def inked(image: np.ndarray) -> np.ndarray:
    """Planes (side, side, 1 or 3) uint8 as ink on white paper, black or red, green and blue: (side, side, 3) uint8."""
    inks = np.zeros((1, 3)) if image.shape[2] == 1 else INKS
    return np.rint(255 - image / 255 @ (255 - inks)).clip(0).astype(np.uint8)


def paths(learner: Learner, drawings: Drawings, distortion: Distortion) -> list[np.ndarray]:
    """The input points of a learner and the lines between them, over the whole drawing as a pale line."""
    lengths = [shard.points[rows + 1] - shard.points[rows] for shard, rows, _ in drawings.pieces]
    most = max((int(each.max()) for each in lengths), default=1)
    whole = type(learner).encode(drawings, distortion, **{**learner.params.encoding, "length": most})
    pictures = []
    for drawing, fed in zip(
        _strokes(learner, whole), _strokes(learner, learner.inputs(drawings, distortion)), strict=True
    ):
        picture = paper()
        for stroke in drawing:
            draw_path(picture, stroke, PALE, 2)
        for x, y in pixels(np.concatenate(fed)):
            cv2.circle(picture, (x, y), DOT, RED, cv2.FILLED, cv2.LINE_AA, BITS)
        for stroke in fed:
            draw_path(picture, stroke, INK, 1)
        pictures.append(picture)
    return pictures


def _strokes(learner: Learner, inputs: tuple[np.ndarray, np.ndarray]) -> Iterator[list[np.ndarray]]:
    """The points (n, 2) of each stroke of each sequence, in -1..1 unless the drawing is distorted."""
    for sequence, length in zip(*inputs, strict=True):
        fed = sequence[:length]
        if type(learner).encode is pen_movements:
            yield np.split(fed[:, 3:5], np.flatnonzero(fed[:-1, 2]) + 1)
        else:
            yield np.split(fed[:, :2], np.flatnonzero(np.diff(fed[:, 2])) + 1)


def _joined(pictures: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """Pictures of one size beside or below each other, with a pale line between them."""
    line = np.full_like(pictures[0], PALE)
    line = line[:1] if axis == 0 else line[:, :1]
    return np.concatenate([part for picture in pictures for part in (line, picture)][1:], axis=axis)


def sheet(title: Sequence[str], blocks: Sequence[Block], columns: int, width: int) -> np.ndarray:
    """Lay out blocks of tiles, `columns` in a row, each as wide as `width`: (height, width of the sheet, 3) uint8."""
    places: list[tuple[int, int, Tile]] = []
    texts = [(MARGIN, MARGIN + TITLE_LINE * n, line, 14, PLAIN, GREY) for n, line in enumerate(title, 1)]
    y = MARGIN + TITLE_LINE * len(title)
    for block in blocks:
        y += HEADING
        texts.append((MARGIN, y, block.heading, 18, BOLD, INK))
        y += GAP
        for start in range(0, len(block.tiles), columns):
            row = block.tiles[start : start + columns]
            places += [(MARGIN + n * (width + GAP), y, tile) for n, tile in enumerate(row)]
            y += max(len(tile.picture) + LINE * len(tile.lines) for tile in row) + GAP
    font = cv2.FontFace("sans")
    ends = [x + max(tile.picture.shape[1], width) for x, _, tile in places]
    ends += [x + cv2.getTextSize((0, 0), text, (0, 0), font, size, weight)[2] for x, _, text, size, weight, _ in texts]
    canvas = np.full((y + MARGIN, max(ends) + MARGIN, 3), 255, np.uint8)
    for x, y, tile in places:
        height, wide = tile.picture.shape[:2]
        cv2.rectangle(canvas, (x - 1, y - 1), (x + wide, y + height), PALE)
        canvas[y : y + height, x : x + wide] = tile.picture
        texts += [(x, y + height + LINE * n, line.text, 11, PLAIN, line.colour) for n, line in enumerate(tile.lines, 1)]
    for x, y, text, size, weight, colour in texts:
        cv2.putText(canvas, text, (x, y), colour, font, size, weight)
    return canvas


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Draw a contact sheet of drawings, as they were drawn or as a learner sees them."""
    parser = Parser(
        "preview",
        main.__doc__,
        "sketchstack preview cat dog --rows 3",
        'sketchstack preview "wine glass" --learner mobilenet --augmented',
        "sketchstack preview --test --learner gru --out test.png",
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help="words to show, one block each")
    parser.add_argument("--learner", metavar="NAME", help="show the input of this learner of params.yaml")
    parser.add_argument(
        "--augmented", action="store_true", help="below each drawing, show it as the learner may see it in training"
    )
    parser.add_argument("--rows", type=int, default=1, metavar="N", help="rows per block (default 1)")
    parser.add_argument("--key-ids", type=int, nargs="+", default=[], metavar="ID", help="show these drawings")
    parser.add_argument("--test", action="store_true", help="show drawings of the test set, which have no words")
    parser.add_argument(
        "--out", type=Path, default=DEFAULT, metavar="FILE", help="a new file (%(default)s, which is replaced)"
    )
    given = parser.parse_args(arguments)
    if bool(given.words) + bool(given.key_ids) > 1 or (given.words and given.test):
        parser.error("name words, or --key-ids, or --test (with --key-ids or without)")
    if not (given.words or given.key_ids or given.test):
        parser.error("name some words, or --key-ids, or --test")
    if given.augmented and not given.learner:
        parser.error("--augmented needs --learner: it shows the augmentation of this learner")
    if given.rows < 1:
        parser.error("--rows must be at least 1")
    if given.out != DEFAULT and given.out.exists():
        raise SketchstackError(f"{given.out} exists already; name a new file with --out, or remove it first.")
    image = preview(
        given.words,
        given.key_ids,
        learner=given.learner,
        augmented=given.augmented,
        rows=given.rows,
        test=given.test,
    )
    try:
        with whole_file(given.out) as file:
            file.write_bytes(cv2.imencode(".png", image)[1].data)
    except OSError as error:
        raise SketchstackError(f"{given.out} cannot be written: {error.strerror}; name another with --out.") from None
    print(f"{given.out}: {image.shape[1]} × {image.shape[0]} pixels")


if __name__ == "__main__":
    main()
