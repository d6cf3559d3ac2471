"""The compiled reader takes what `records` takes, with the same values, and never looks past a line."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.drawings.strokes import DRAWING, KEY_ID, MOST_POINTS, read_lines, scratch
from pipeline.raw.files import RawFile
from pipeline.raw.readers import Reject
from pipeline.raw.spill import empty_rows
from tests.raw.test_records import a_drawing, any_json, nearly_drawing, spoiled
from tests.rawfiles import HEADER, csv_line, ndjson_line, rows_and_slow_ones, rows_of, slowly, write_lines

numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.floats(0, 1000)
raw_axis = st.lists(st.integers(0, 500) | st.floats(0, 500), min_size=1, max_size=4)
raw_drawing = st.lists(raw_axis.flatmap(lambda x: st.tuples(st.just(x), *[st.permutations(x)] * 2)), min_size=1)
drawing_texts = spoiled() | (a_drawing | nearly_drawing | any_json).map(json.dumps)
raw_texts = raw_drawing.map(json.dumps) | st.lists(st.lists(st.lists(numbers, max_size=3), max_size=4)).map(json.dumps)
odd_texts = st.sampled_from(["", "NA", "de", "DEU", "True", "true", "False", "0", "Köln", "\0", "a\rb", '"', "\\"])
odd_stamps = """2017-03-09 00:28:55.63775 UTC, 2017-02-29 00:00:00 UTC, 2016-02-29 23:59:59, 1900-02-29 00:00:00,
    2017-03-09T00:28:55, 2017-03-09 00:28:55., 2017-03-09 00:28:55.1234567 UTC, 0000-01-01 00:00:00, 2017-3-9, x,
    2017-03-09 24:00:00 UTC, 2017-03-09 00:28:60, 2017-13-09 00:28:00, 2017-03-09 00:28:55+01:00,
    0001-01-01 00:00:00+05:00"""
ODD_STAMPS = [stamp.strip() for stamp in odd_stamps.split(",")]
stamps = st.datetimes().map(str) | st.sampled_from(ODD_STAMPS)
key_ids = st.integers(-(2**64), 2**64).map(str) | st.sampled_from(["", "1.0", "007", "-0", "+1", "1_0", "٣", " 1", "-"])
spaces = st.sampled_from(["", "", "", " ", "\t", "\r"])


@st.composite
def a_row(draw, drawings):
    """The changes that make up a row: mostly good, here and there not."""
    odd = {
        "drawing": drawings,
        "key_id": key_ids,
        "countrycode": odd_texts,
        "recognized": odd_texts | st.booleans(),
        "timestamp": stamps,
        "word": st.sampled_from(["wine glass", "wine_glass", "wine-glass", "", "cat"]),
    }
    return {name: draw(odd[name]) for name in draw(st.sets(st.sampled_from(sorted(odd)), max_size=2)) | {"drawing"}}


@st.composite
def torn(draw, lines):
    """A line with a few characters changed."""
    text = draw(lines)
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(text)))
        piece = draw(
            st.sampled_from(["", "[", "]", ",", "0", "9", ".", " ", '"', "e", "{", "}", ":", "\\", "\r", "\0", "é"])
        )
        text = text[:place] + piece + text[place + draw(st.integers(0, 2)) :]
    return text


def in_json(changes):
    drawing = changes.pop("drawing")
    try:
        decoded = json.loads(drawing)
    except (ValueError, RecursionError):
        return ndjson_line(7, "wine glass", **changes, drawing="@").replace('"@"', drawing)
    return ndjson_line(7, "wine glass", **changes, drawing=decoded)


def in_csv(changes):
    return csv_line(7, "wine glass", **changes)


def assert_read_alike(folder, ending, timed, lines):
    """Read the lines both ways, behind rows that show whether the file is raw."""
    write = csv_line if ending == "csv" else ndjson_line
    good = [[[1.5, 90.0], [2.5, 3.5], [0, 70]]] if timed else [[[1, 90], [2, 3]]]
    first = [write(key, "wine glass", drawing=good) for key in range(3)]
    path = write_lines(folder / f"wine glass.{ending}", [*([HEADER] if ending == "csv" else []), *first, *lines])
    raw = RawFile(path, 0, "wine_glass")
    assert rows_of(raw) == slowly(raw)


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("ending", ["csv", "ndjson"])
@given(data=st.data())
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_line_is_read_as_records_reads_it(tmp_path, ending, timed, data):
    rows = a_row(raw_texts | drawing_texts if timed else drawing_texts)
    lines = torn(rows.map(in_csv if ending == "csv" else in_json))
    assert_read_alike(tmp_path, ending, timed, data.draw(st.lists(lines, min_size=1, max_size=5)))


@pytest.mark.parametrize("number", ["0", "-0.0", "1e2", "1E-3", "0.1", "303.1239926241338", "1" * 17, "0." + "3" * 40])
def test_raw_numbers_are_the_doubles_that_python_reads(tmp_path, number):
    drawing = f"[[[0, {number}, 1000], [500, 0, 250], [0, 3, 9]]]"
    assert_read_alike(tmp_path, "csv", True, [csv_line(9, "wine glass", drawing=drawing)])


@pytest.mark.parametrize("text", ["[[[01], [2]]]", "[[[00], [2]]]", "[[[1, 2], [3, 04]]]", "[[[1], [0]]]"])
def test_numbers_are_spelled_as_json_has_them(tmp_path, text):
    assert_read_alike(tmp_path, "csv", False, [csv_line(9, "wine glass", drawing=text)])


@pytest.mark.parametrize("ending", ["csv", "ndjson"])
def test_stamps_are_the_dates_that_python_reads(tmp_path, ending):
    write = csv_line if ending == "csv" else ndjson_line
    days = itertools.product((1900, 2000, 2023, 2024), range(14), (28, 29, 30, 31, 32))
    more = [f"{year}-{month:02}-{day} 12:00:00" for year, month, day in days]
    lines = [write(key, "wine glass", timestamp=stamp) for key, stamp in enumerate([*ODD_STAMPS, *more])]
    assert_read_alike(tmp_path, ending, False, lines)


@pytest.mark.parametrize(
    "change",
    [
        ('"key_id": "7"', '"key_id": "7", "key_id": "8"'),
        ('"key_id": "7"', '"key_id": 7'),
        ('"key_id": "7"', '"key_id": 7.0'),
        ('"key_id": "7", ', ""),
        ('"drawing"', '"drawings"'),
        ('"word": "wine glass"', '"word": "wine\\u0020glass"'),
        ('"word": "wine glass"', '"word": "wine glass", "note": [1, {"drawing": 3}]'),
        ('"recognized": true', '"recognized": null'),
        ('"recognized": true', '"recognized": truefalse'),
        ('"countrycode": "NA"', '"countrycode": null'),
        ("}", "} }"),
        ("}", "}\t\r"),
        ("{", " {"),
    ],
)
def test_an_object_of_ndjson_is_read_as_json_means_it(tmp_path, change):
    line = ndjson_line(7, "wine glass")
    assert change[0] in line
    assert_read_alike(tmp_path, "ndjson", False, [line.replace(*change)])


@pytest.mark.parametrize("points", [MOST_POINTS, MOST_POINTS + 1])
def test_a_stroke_has_no_more_points_than_a_shard_counts(tmp_path, points):
    assert_read_alike(tmp_path, "csv", False, [csv_line(9, "wine glass", drawing=[[[7] * points, [8] * points]])])


@given(st.floats(0, 1e6))
@settings(deadline=None, max_examples=300)
@example(5e-324)
def test_every_double_is_read_back_from_its_text(number):
    text = f"[[[{number!r}, 0],[0, 0],[{number!r}, 1]]]\n".encode()
    room = scratch(len(text), timed=True)
    rows = empty_rows(2, 64, 64, timed=True)
    line = np.frombuffer(bytearray(b'1,"' + text[:-1] + b'"\n'), np.uint8)
    read_lines(
        line, 1, np.array([KEY_ID, DRAWING], np.uint8), line[:0], 0, 0, rows, 0, room, np.empty((1, 3), np.int64)
    )
    low = min(number, 0.0)
    assert room.raw[0, 0] == ((number - low) / number * 255 if number > 0 else 0)


@pytest.mark.parametrize("line", [csv_line(7, "wine glass"), ndjson_line(7, "wine glass")])
def test_a_line_that_is_cut_anywhere_is_never_read_on_in_the_next(tmp_path, line):
    ending, header = ("csv", [HEADER]) if line[0] != "{" else ("ndjson", [])
    good = line.replace("7", "8", 1) if ending == "csv" else line
    for cut in range(1, len(line)):
        path = write_lines(tmp_path / f"wine glass.{ending}", [*header, good, line[:cut], line[cut:], good])
        raw = RawFile(path, 0, "wine_glass")
        found = rows_of(raw)
        assert found == slowly(raw)
        assert not isinstance(found[0], Reject)
        assert not isinstance(found[-1], Reject)


@pytest.mark.parametrize("timed", [False, True])
def test_scratch_has_room_for_every_text_that_its_size_admits(timed):
    """One list may be as long as the whole text: two bytes a number."""
    for size in range(300):
        room = scratch(size, timed)
        assert len(room.bytes) >= size
        assert len(room.lengths) > len(room.bytes) // 6
        assert not timed or room.raw.shape[1] > len(room.bytes) // 2


def test_what_lies_behind_the_last_line_is_never_read():
    line = b'1,"[[[1, 2], [3, 4]]]"\n'
    fields, rows, room = np.array([KEY_ID, DRAWING], np.uint8), empty_rows(4, 64, 64, timed=False), scratch(64, False)
    for cut in range(1, len(line) + 1):
        buffer = np.frombuffer(bytearray(line[: cut - 1] + b"\n" + line * 2), np.uint8)
        refused = np.full((4, 3), -7)
        filled, left = read_lines(buffer[:cut], 1, fields, buffer[:0], 0, 0, rows, 0, room, refused)
        assert (filled, left) == ((1, 0) if cut == len(line) else (0, int(cut > 1)))
        assert refused[left:].tolist() == [[-7] * 3] * (4 - left)


@pytest.mark.slow
def test_every_real_row_is_read_by_the_compiled_reader_as_json_reads_it(mini):
    files = [RawFile(path, 0, path.stem.replace(" ", "_")) for path in mini.glob("*_*/*.*")]
    assert len(files) > 700
    for raw in [RawFile(mini / "test_simplified.csv", 0, None), *files]:
        found, slow = rows_and_slow_ones(raw)
        assert slow == 0
        assert found == slowly(raw)
