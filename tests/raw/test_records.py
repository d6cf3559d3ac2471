"""Drawings are someone else's text: what is accepted is exactly what the format allows."""

import json
from typing import Any

import numpy as np
import pytest
import xxhash
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.drawings.strokes import LONGEST, MOST_POINTS
from pipeline.raw.columns import written_id
from pipeline.raw.records import (
    BadRowError,
    Strokes,
    check_drawing,
    checked_row,
    decoded_drawing,
    hash_of,
    simplified,
)

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
        return isinstance(axis, list) and all(map(is_coordinate, axis))

    def is_coordinate(value: Any) -> bool:
        return type(value) in (int, float) and value in range(256)

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
    axes = (np.split(axis, ends) for axis in (strokes.x, strokes.y))
    return [[x.tolist(), y.tolist()] for x, y in zip(*axes, strict=True)]


def parse_drawing(text: str) -> Strokes:
    return check_drawing(decoded_drawing({"drawing": text}))


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
    except BadRowError:
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
        ("[[1, 2]]", r"a stroke is not a list of lists \[x, y\]"),
        ("[[[1.5], [2]]]", "a coordinate is not a whole number"),
        ("[[[true], [2]]]", "a coordinate is not a whole number"),
        ("[[[256], [2]]]", r"a coordinate lies outside 0\.\.255"),
        ("[[[0], [-1]]]", r"a coordinate lies outside 0\.\.255"),
    ],
)
def test_a_refusal_tells_the_reason(text, reason):
    with pytest.raises(BadRowError, match=reason):
        parse_drawing(text)


def test_the_longest_stroke_is_accepted_and_one_point_more_refused():
    axis = [7] * MOST_POINTS
    assert parsed([[axis, axis]]).stroke.tolist() == [MOST_POINTS]
    with pytest.raises(BadRowError, match="more than 65535 points"):
        parsed([[[*axis, 7], [*axis, 7]]])


def test_the_hash_ignores_how_a_drawing_is_spelled():
    assert hash_of(parse_drawing("[[[1,2],[3,4]]]")) == hash_of(parse_drawing(" [ [[1, 2], [3, 4]] ] "))


def test_the_hash_of_a_drawing_is_the_same_on_every_machine():
    xxh64_of_00ff07_0a1408_0200_0100 = 17121979948742994630  # x, y, little-endian points of each stroke
    assert hash_of(parse_drawing("[[[0, 255], [10, 20]], [[7], [8]]]")) == xxh64_of_00ff07_0a1408_0200_0100


def test_the_hash_tells_where_a_stroke_ends():
    whole, cut = [[[1, 2, 3], [4, 5, 6]]], [[[1, 2], [4, 5]], [[3], [6]]]
    assert hash_of(parsed(whole)) != hash_of(parsed(cut))


@given(a_drawing, a_drawing)
@settings(deadline=None)
def test_different_drawings_have_different_hashes(one, other):
    assert (hash_of(parsed(one)) == hash_of(parsed(other))) == (one == other)


@given(st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=60), st.integers(1, 7))
@settings(deadline=None)
def test_the_hash_is_xxhash_of_all_x_all_y_and_the_points_of_each_stroke(points, most):
    strokes = [points[start : start + most] for start in range(0, len(points), most)]
    drawing = [[list(axis) for axis in zip(*stroke, strict=True)] for stroke in strokes]
    (xs, ys), lengths = zip(*points, strict=True), np.array([len(stroke) for stroke in strokes], "<u2")
    assert hash_of(check_drawing(drawing)) == xxhash.xxh64_intdigest(bytes(xs) + bytes(ys) + lengths.tobytes())


def as_google_does(drawing):
    """A raw drawing simplified, step by step in NumPy: its strokes as [x, y, t]."""
    strokes = [np.array(stroke, float) for stroke in drawing]
    joined = np.concatenate(strokes, axis=1)[:2]
    low, size = joined.min(axis=1, keepdims=True), np.ptp(joined, axis=1).max()
    found = []
    for stroke in strokes:
        stroke[:2] = (stroke[:2] - low) / size * 255 if size else 0
        walked = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(stroke[:2])))])
        moved = np.concatenate([[True], np.diff(walked) > 0])
        steps = np.arange(np.ceil(walked[-1])) if walked[-1] else np.zeros(1)
        path = np.stack([np.interp(steps, walked[moved], axis[moved]) for axis in stroke])
        path = np.concatenate([path, stroke[:, -1:]], axis=1)
        kept = sorted({0, path.shape[1] - 1, *corners(path, 0, path.shape[1] - 1)})
        found.append(np.rint(path[:, kept]).astype(int).tolist())
    return found


def corners(path, first, last):
    """The points between two others that Ramer, Douglas and Peucker keep."""
    (dx, dy), (px, py) = path[:2, last] - path[:2, first], path[:2, first + 1 : last] - path[:2, first : first + 1]
    length = np.hypot(dx, dy)
    gaps = np.abs(px * dy - py * dx) / length if length else np.hypot(px, py)
    if not len(gaps) or gaps.max() <= 2:
        return []
    at = first + 1 + int(gaps.argmax())
    return [*corners(path, first, at), at, *corners(path, at, last)]


def timed_lists(strokes: Strokes) -> list[list[list[int]]]:
    assert strokes.t is not None
    ends = np.cumsum(strokes.stroke)[:-1]
    axes = (np.split(axis, ends) for axis in (strokes.x, strokes.y, strokes.t))
    return [[axis.tolist() for axis in stroke] for stroke in zip(*axes, strict=True)]


@pytest.mark.parametrize("seed", range(40))
def test_a_raw_drawing_is_simplified_as_numpy_does_it_step_by_step(seed):
    rng = np.random.default_rng(seed)
    drawing = []
    for points in rng.integers(1, 40, rng.integers(1, 6)):
        path = rng.uniform(0, 500, (2, 1)) + rng.normal(0, 15, (2, points)).cumsum(axis=1)
        drawing.append([*path.tolist(), np.sort(rng.integers(0, 10_000, points)).tolist()])
    assert timed_lists(simplified(drawing)) == as_google_does(drawing)


def test_a_straight_line_keeps_its_ends_and_its_times():
    drawing = [[[10.0, 20.0, 30.0], [5.0, 5.0, 5.0], [0, 40, 70]]]
    assert timed_lists(simplified(drawing)) == [[[0, 255], [0, 0], [0, 70]]]


def test_a_corner_is_kept_with_the_time_of_the_way_to_it():
    drawing = [[[0, 0, 100.0], [0, 100.0, 100.0], [0, 500, 600]]]
    assert timed_lists(simplified(drawing)) == [[[0, 0, 255], [0, 255, 255], [0, 500, 600]]]


def test_a_dot_gets_two_points_as_in_google_s_files():
    assert timed_lists(simplified([[[3.0], [4.0], [9]], [[3.0, 13.0], [4.0, 4.0], [20, 30]]])) == [
        [[0, 0], [0, 0], [9, 9]],
        [[0, 255], [0, 0], [20, 30]],
    ]
    assert timed_lists(simplified([[[7.5], [7.5], [1]]])) == [[[0, 0], [0, 0], [1, 1]]]


@pytest.mark.parametrize(
    ("drawing", "reason"),
    [
        ([[[1], [2]]], r"a stroke has 2 lists in place of \[x, y, t\]"),
        ([[[1, 2], [2, 3], [3]]], "x, y and t of a stroke are of unequal length"),
        ([[[1], ["2"], [3]]], "a coordinate is not a finite number"),
        ([[[float("nan")], [2], [3]]], "a coordinate is not a finite number"),
        ([[[1], [True], [3]]], "a coordinate is not a finite number"),
        ([[[10**400], [2], [3]]], r"a coordinate lies outside -1000000\.\.1000000"),
        ([[[1], [-1.5e6], [3]]], r"a coordinate lies outside -1000000\.\.1000000"),
        ([[[1], [2], [-1]]], r"a time lies outside 0\.\.4294967295"),
        ([[[1], [2], [float("inf")]]], "a time is not a finite number"),
        ([[[0, 9] * 1500, [0, 9] * 1500, [0] * 3000]], f"a stroke is longer than {LONGEST} pixels"),
        ([[[], [], []]], "a stroke has no points"),
    ],
)
def test_a_refusal_of_a_raw_drawing_tells_the_reason(drawing, reason):
    with pytest.raises(BadRowError, match=reason):
        simplified(drawing)


@pytest.mark.parametrize("points", [586, 1200, 2400])
def test_a_long_scribble_is_no_endless_stroke(points):
    """From corner to corner, up to 120 points a second for the 20 seconds of a game."""
    zigzag = np.arange(points) % 2 * 400.0
    across = np.arange(points) * 400 / points
    strokes = simplified([[across.tolist(), zigzag.tolist(), np.arange(points).tolist()]])
    assert len(strokes.x) >= 0.95 * points
    assert strokes.y.max() == 255


@pytest.mark.parametrize("time", [10**400, -(10**400), 1e308, float("nan"), float("inf"), True, None, "7", [7]])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_number_of_any_size_or_kind_is_refused_in_words(time, axis):
    strokes = [[[0, 5, 9], [0, 5, 7], [0, 1, 2]]]
    strokes[0][axis][1] = time
    with pytest.raises(BadRowError, match=r"is not a finite number|lies outside"):
        checked_row({"key_id": "5", "drawing": strokes}, None, True)


def test_times_of_a_clock_count_from_the_first_point():
    x, y, times = [0, 100, 200], [0, 50, 0], [0, 30, 95]
    clock = [1_489_019_335_637 + each for each in times]
    assert timed_lists(simplified([[x, y, clock]])) == timed_lists(simplified([[x, y, times]]))


@pytest.mark.parametrize("drawing", ["[[[1.0, 2.0], [3.0, 4.0]]]", "[[[1, 2.0], [3e0, 4]]]", "[[[1.0, 2], [3, 4.00]]]"])
def test_whole_numbers_may_be_written_as_floats(drawing):
    assert lists_of(parse_drawing(drawing)) == [[[1, 2], [3, 4]]]


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        ("2017-03-09 00:28:55.63775 UTC", "2017-03-09T00:28:55.637750+00:00"),
        ("2017-03-09T00:28:55Z", "2017-03-09T00:28:55+00:00"),
        ("2017-03-09t00:28:55z", "2017-03-09T00:28:55+00:00"),
        ("2017-03-09T00:28:55.637750+00:00", "2017-03-09T00:28:55.637750+00:00"),
        ("2017-03-09 01:28:55+0100", "2017-03-09T00:28:55+00:00"),
        ("2017-03-08T16:28:55-08", "2017-03-09T00:28:55+00:00"),
        ("2017-03-09 00:28:55,5", "2017-03-09T00:28:55.500000+00:00"),
        ("2017-03-09 00:28:55.637750123 GMT", "2017-03-09T00:28:55.637750+00:00"),
        ("2017-03-09T00:28", "2017-03-09T00:28:00+00:00"),
        ("2017-03-09", "2017-03-09T00:00:00+00:00"),
        (" 2017-03-09 00:28:55 ", "2017-03-09T00:28:55+00:00"),
    ],
)
def test_a_timestamp_may_be_written_as_iso_8601_allows(text, stamp):
    row = checked_row({"key_id": "1", "drawing": "[[[1], [2]]]", "timestamp": text}, None, False)
    assert row.timestamp is not None
    assert row.timestamp.isoformat() == stamp


@pytest.mark.parametrize(
    "text", ["20170309", "2017-W10-4", "2017-03-09T25:00:00", "2017-02-30", "1489019335", "9.3.2017"]
)
def test_other_timestamps_are_refused(text):
    with pytest.raises(BadRowError, match="timestamp is not a date and time"):
        checked_row({"key_id": "1", "drawing": "[[[1], [2]]]", "timestamp": text}, None, False)


@pytest.mark.parametrize("key_id", [0, 7, 2**53 + 1, 2**63 - 1, 2**63, 2**63 + 7, 2**64 - 1])
def test_a_key_id_of_64_bits_comes_back_as_it_was(key_id):
    for written in (key_id, str(key_id)):
        row = checked_row({"key_id": written, "drawing": "[[[1], [2]]]"}, None, False)
        assert row.key_id in range(-(2**63), 2**63)
        assert written_id(row.key_id) == key_id


@pytest.mark.parametrize(("text", "value"), [("TRUE", True), ("true", True), ("False", False), ("0", False), (1, True)])
def test_spreadsheets_write_true_in_capitals(text, value):
    assert checked_row({"key_id": 1, "drawing": [[[1], [2]]], "recognized": text}, None, False).recognized is value


def test_drawings_in_both_forms_come_out_the_same(mini):
    small = {}
    for path in (mini / "ndjson_simplified").glob("*.ndjson"):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            small[record["key_id"]] = record["drawing"]
    same = []
    for path in (mini / "ndjson_raw").glob("*.ndjson"):
        for record in map(json.loads, path.read_text().splitlines()):
            if record["key_id"] in small:
                ours = [stroke[:2] for stroke in timed_lists(simplified(record["drawing"]))]
                same.append(ours == small[record["key_id"]])
    assert len(same) > 900
    assert np.mean(same) >= 0.93
