"""The body of a request → the drawings that a network sees, exactly as the shuffle reads them from files.

`raw.records` reads and simplifies a drawing. What it refuses is looked for here, so that the answer can name the place.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.drawings.shards import NO_LABEL, Drawings, Shard, Shards, offsets
from pipeline.drawings.strokes import FARTHEST
from pipeline.drawings.words import Words, spell
from pipeline.raw.records import LAST_CLOCK, BadRowError, Strokes, check_drawing, simplified
from pipeline.serving.limits import (
    LONGEST_PATH,
    MOST_DRAWINGS,
    MOST_POINTS,
    MOST_POINTS_IN_ALL,
    MOST_STROKES,
    RefusedError,
    parsed_json,
    shown,
)

KEYS = ("drawing", "drawings", "word", "top")
AXES = ("x", "y", "t")
TOP, MOST_TOP = 3, 10  # guesses that a request gets and may ask for
LONGEST_WORD = 100
DRAWING = "a drawing is a list of strokes, each [[x...], [y...]] of integers 0..255, or [[x...], [y...], [t...]]"


class Asked(NamedTuple):
    """A request.

    Attributes:
        drawings: simplified.
        claim: the label of the word that they are said to show; None for none.
        top: guesses per drawing.
    """

    drawings: list[Strokes]
    claim: int | None
    top: int


def asked(body: bytes, words: Words, timed: bool) -> Asked:
    """What a body asks for.

    Args:
        body: JSON.
        words: that the model knows.
        timed: whether the model needs the time of each point.

    Raises:
        RefusedError: the body is not a request.
    """
    given = parsed_json(body)
    if not isinstance(given, dict):
        raise refused("body", f"it is {kind(given)} in place of an object", 'send {"drawing": [...]}')
    for key in given:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, 1)
            raise refused(shown(key), "there is no such key", f"the keys are {', '.join(KEYS)}", near)
    if ("drawing" in given) == ("drawings" in given):
        reason = "both are given" if "drawing" in given else "neither is given"
        raise refused("drawing, drawings", reason, 'send {"drawing": [...]} or {"drawings": [[...], [...]]}')
    claim, top = _claim(given.get("word"), words), _top(given)
    if "drawing" in given:
        return Asked([strokes_of(given["drawing"], "drawing", timed)], claim, top)
    many = given["drawings"]
    if not isinstance(many, list) or not many:
        told = f"it is {kind(many)}" if not isinstance(many, list) else "it is empty"
        raise refused("drawings", told, f"send a list of 1..{MOST_DRAWINGS} drawings")
    if len(many) > MOST_DRAWINGS:
        raise refused("drawings", f"it has {len(many)} drawings", f"send at most {MOST_DRAWINGS} in one request")
    for place, drawing in enumerate(many):
        _check_form(drawing, f"drawings[{place}]")
    points = sum(len(stroke[0]) for drawing in many for stroke in drawing)
    if points > MOST_POINTS_IN_ALL:
        raise refused(
            "drawings", f"they have {points:,} points", f"send at most {MOST_POINTS_IN_ALL:,} points in one request"
        )
    return Asked([strokes_of(each, f"drawings[{place}]", timed) for place, each in enumerate(many)], claim, top)


def _claim(word: Any, words: Words) -> int | None:
    if word is None:
        return None
    if not isinstance(word, str) or not 0 < len(word) <= LONGEST_WORD:
        raise refused("word", f"{shown(word)} is not a word", "name a word of GET /words, or leave it out")
    label = words.index.get(spell(word))
    if label is None:
        near = difflib.get_close_matches(spell(word), words.names, 1)
        raise refused("word", f"the model does not know {shown(word)}", "name a word of GET /words", near)
    return label


def _top(given: dict[str, Any]) -> int:
    top = given.get("top", TOP)
    if type(top) is not int or not 1 <= top <= MOST_TOP:
        raise refused("top", f"{shown(top)} is not a number of guesses", f"send an integer 1..{MOST_TOP}")
    return top


def strokes_of(drawing: Any, field: str, timed: bool = False) -> Strokes:
    """A drawing of a request, simplified if it is raw.

    Args:
        drawing: decoded.
        field: its place in the request.
        timed: whether times are needed.

    Raises:
        RefusedError: it is not a drawing, or larger than the limits.
    """
    _check_form(drawing, field)
    raw = len(drawing[0]) == len(AXES)
    if timed and not raw:
        raise refused(
            field,
            "it has no times, and this model was trained with the time of each point",
            "send strokes of [[x...], [y...], [t...]], t in milliseconds",
        )
    _check_values(drawing, field, raw)
    if raw and (length := path_length(drawing)) > LONGEST_PATH:
        raise refused(
            field,
            f"its strokes are {length:,.0f} pixels long on a canvas of 255",
            f"send at most {LONGEST_PATH:,} pixels, which is minutes of drawing",
        )
    try:
        return simplified(drawing) if raw else check_drawing(drawing)
    except BadRowError as error:
        raise refused(field, str(error), DRAWING) from None


def _check_form(drawing: Any, field: str) -> None:
    """Refuse what is not lists of equally long lists, and what is larger than the limits."""
    if not isinstance(drawing, list):
        raise refused(field, f"it is {kind(drawing)} in place of a list of strokes", DRAWING)
    if not drawing:
        raise refused(field, "the drawing is empty: it has no strokes", "draw something first")
    if len(drawing) > MOST_STROKES:
        raise refused(field, f"it has {len(drawing):,} strokes", f"send at most {MOST_STROKES:,} strokes")
    points = 0
    for place, stroke in enumerate(drawing):
        _check_stroke(stroke, f"{field}[{place}]")
        if len(stroke) != len(drawing[0]):
            raise refused(
                f"{field}[{place}]",
                f"it has {len(stroke)} lists, and the first stroke has {len(drawing[0])}",
                "send times with every stroke or with none",
            )
        points += len(stroke[0])
    if points > MOST_POINTS:
        raise refused(field, f"it has {points:,} points", f"send at most {MOST_POINTS:,} points in a drawing")


def _check_stroke(stroke: Any, field: str) -> None:
    if not isinstance(stroke, list):
        raise refused(field, f"the stroke is {kind(stroke)} in place of lists", DRAWING)
    if len(stroke) not in (2, 3):
        raise refused(field, f"the stroke has {len(stroke)} lists in place of 2 or 3", DRAWING)
    for name, axis, values in zip(AXES, range(3), stroke, strict=False):
        if not isinstance(values, list):
            raise refused(f"{field}[{axis}]", f"{name} is {kind(values)} in place of a list of numbers", DRAWING)
        if len(values) != len(stroke[0]):
            reason = f"{name} has {len(values):,} numbers, and x has {len(stroke[0]):,}"
            raise refused(f"{field}[{axis}]", reason, "send one number per point in each list of a stroke")
    if not stroke[0]:
        raise refused(field, "the stroke has no points", "leave out strokes without points")


def _check_values(drawing: list[list[list[Any]]], field: str, raw: bool) -> None:
    """Refuse numbers that cannot be coordinates or times, with the place of the first."""
    for place, stroke in enumerate(drawing):
        for axis, values in enumerate(stroke):
            for at, value in enumerate(values):
                if (reason := _fault(value, AXES[axis], raw)) is not None:
                    remedy = DRAWING if not raw else "send finite numbers: coordinates in pixels, times in milliseconds"
                    raise refused(f"{field}[{place}][{axis}][{at}]", reason, remedy)


def _fault(value: Any, axis: str, raw: bool) -> str | None:
    """Why a value is none of an axis."""
    if type(value) not in (int, float):
        return f"{axis} is {kind(value)} in place of a number"
    if type(value) is float and not math.isfinite(value):
        return f"{axis} is not a finite number"
    if not raw and value != value // 1:
        return f"{axis} is {shown(value)}, which is not a whole number"
    least, most = (0, LAST_CLOCK) if axis == "t" else (-FARTHEST, FARTHEST) if raw else (0, 255)
    if not least <= value <= most:
        return f"{axis} is {shown(value)}, outside {least:.0f}..{most:.0f}"
    return None


def path_length(drawing: list[list[list[float]]]) -> float:
    """The length of a raw drawing's strokes in pixels, once its longer side is 255."""
    strokes = [np.array(stroke[:2], float) for stroke in drawing]
    size = max(np.ptp(np.concatenate(strokes, axis=1), axis=1).max(), 0)
    return sum(np.hypot(*np.diff(stroke)).sum() for stroke in strokes) / size * 255 if size else 0.0


def drawings_of(many: Sequence[Strokes]) -> Drawings:
    """Drawings for the encoders; the arrays have the types of a shard's, so nothing is compiled again."""
    x, y, stroke = (np.concatenate([getattr(each, name) for each in many]) for name in ("x", "y", "stroke"))
    times = [each.t for each in many if each.t is not None]
    shard = Shard(
        key_id=np.arange(len(many), dtype=np.int64),
        word=np.full(len(many), NO_LABEL, np.int16),
        x=x,
        y=y,
        t=np.concatenate(times) if len(times) == len(many) else np.empty(0, np.uint32),
        stroke=stroke,
        points=offsets([len(each.x) for each in many]),
        strokes=offsets([len(each.stroke) for each in many]),
    )
    return Shards([shard])[:]


def as_lists(strokes: Strokes) -> list[list[list[int]]]:
    """A simplified drawing as Kaggle writes it, [[[x...], [y...]], ...]."""
    ends = np.cumsum(strokes.stroke, dtype=np.int64)[:-1]
    return [[x.tolist(), y.tolist()] for x, y in zip(np.split(strokes.x, ends), np.split(strokes.y, ends), strict=True)]


def kind(value: Any) -> str:
    """What a decoded value is, in the words of JSON."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def refused(field: str, reason: str, remedy: str, near: Sequence[str] = ()) -> RefusedError:
    """A refusal of what a request holds, with the nearest known name if there is one."""
    return RefusedError(422, field, reason, f"do you mean {near[0]}? {remedy}" if near else remedy)
