"""Drawings are someone else's text: what is accepted is exactly what the format allows."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.strokes import MOST_POINTS, BadDrawingError, Strokes, parse_drawing, point_hash

coordinates = st.integers(0, 255)
a_stroke = st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=5).map(
    lambda points: [list(axis) for axis in zip(*points, strict=True)]
)
a_drawing = st.lists(a_stroke, min_size=1, max_size=4)

odd_numbers = st.sampled_from([-1, 256, 10**30, True, 1.0, 0.5, None, "1", float("nan"), -0.0])
nearly_axis = st.lists(coordinates | odd_numbers, max_size=3)
nearly_drawing = st.lists(st.lists(nearly_axis, max_size=3), max_size=3)
any_json = st.recursive(
    coordinates | odd_numbers,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=8,
)


@st.composite
def spoiled(draw):
    """A good drawing's text with a few characters changed."""
    text = draw(a_drawing.map(json.dumps))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(text)))
        text = (
            text[:place]
            + draw(st.sampled_from(["", "[", "]", ",", "0", "9", "-", ".", " ", '"', "e"]))
            + (text[place + draw(st.integers(0, 1)) :])
        )
    return text


def fits_the_format(text: str) -> bool:
    """The rules of a simplified drawing, one by one."""

    def is_axis(axis: Any) -> bool:
        return isinstance(axis, list) and all(type(value) is int and 0 <= value <= 255 for value in axis)

    def is_stroke(stroke: Any) -> bool:
        pair = isinstance(stroke, list) and len(stroke) == 2 and all(is_axis(axis) for axis in stroke)
        return pair and len(stroke[0]) == len(stroke[1]) and 1 <= len(stroke[0]) <= MOST_POINTS

    try:
        drawing = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(drawing, list) and bool(drawing) and all(is_stroke(stroke) for stroke in drawing)


def lists_of(strokes: Strokes) -> list[list[list[int]]]:
    ends = np.cumsum(strokes.stroke)[:-1]
    axes = (np.split(np.frombuffer(axis, np.uint8), ends) for axis in (strokes.x, strokes.y))
    return [[x.tolist(), y.tolist()] for x, y in zip(*axes, strict=True)]


def parsed(drawing: Any) -> Strokes:
    return parse_drawing(json.dumps(drawing))


@given(a_drawing)
@settings(deadline=None)
def test_points_and_strokes_come_back_as_they_were_written(drawing):
    strokes = parsed(drawing)
    assert lists_of(strokes) == drawing
    assert strokes.stroke.dtype == np.uint16


@given(spoiled() | st.text(max_size=20) | (nearly_drawing | any_json).map(json.dumps))
@settings(max_examples=300, deadline=None)
@example("[" * 100_000)
@example("[[[" + "1" * 5000 + "],[1]]]")
@example("[[[NaN],[1]]]")
@example("[[[1],[1]]] x")
@example("\ufeff[[[1],[1]]]")
@example("")
def test_exactly_what_fits_the_format_is_accepted(text):
    try:
        strokes = parse_drawing(text)
    except BadDrawingError:
        assert not fits_the_format(text)
    else:
        assert fits_the_format(text)
        assert lists_of(strokes) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[[[1, 2], [3", "drawing is not JSON"),
        ("7", "drawing is not a list of strokes"),
        ("[]", "drawing has no strokes"),
        ("[[[], []]]", "a stroke has no points"),
        ("[[[1, 2], [3]]]", "x and y of a stroke are of unequal length"),
        ("[[[1], [2], [30]]]", r"a stroke has 3 lists in place of \[x, y\]"),
        ("[[1, 2]]", "a stroke is not a pair of lists"),
        ("[[[1.0], [2]]]", "a coordinate is not a whole number"),
        ("[[[true], [2]]]", "a coordinate is not a whole number"),
        ("[[[256], [2]]]", r"a coordinate lies outside 0\.\.255"),
        ("[[[0], [-1]]]", r"a coordinate lies outside 0\.\.255"),
    ],
)
def test_a_refusal_tells_the_reason(text, reason):
    with pytest.raises(BadDrawingError, match=reason):
        parse_drawing(text)


def test_the_longest_stroke_is_accepted_and_one_point_more_refused():
    axis = [7] * MOST_POINTS
    assert parsed([[axis, axis]]).stroke.tolist() == [MOST_POINTS]
    with pytest.raises(BadDrawingError, match="more than 65535 points"):
        parsed([[[*axis, 7], [*axis, 7]]])


def test_the_hash_ignores_how_a_drawing_is_spelled():
    assert point_hash(parse_drawing("[[[1,2],[3,4]]]")) == point_hash(parse_drawing(" [ [[1, 2], [3, 4]] ] "))


def test_the_hash_of_a_drawing_is_the_same_on_every_machine():
    xxh64_of_00ff07_0a1408_0200_0100 = 17121979948742994630  # x, y, little-endian points of each stroke
    assert point_hash(parse_drawing("[[[0, 255], [10, 20]], [[7], [8]]]")) == xxh64_of_00ff07_0a1408_0200_0100


def test_the_hash_tells_where_a_stroke_ends():
    whole, cut = [[[1, 2, 3], [4, 5, 6]]], [[[1, 2], [4, 5]], [[3], [6]]]
    assert point_hash(parsed(whole)) != point_hash(parsed(cut))


@given(a_drawing, a_drawing)
@settings(deadline=None)
def test_different_drawings_have_different_hashes(one, other):
    assert (point_hash(parsed(one)) == point_hash(parsed(other))) == (one == other)
