"""A drawing of a request is the row that the shuffle makes of it, byte for byte, or is refused with its place."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.drawings.words import Words
from pipeline.serving.drawn import as_lists, asked, drawings_of
from pipeline.serving.limits import MOST_POINTS, MOST_POINTS_IN_ALL, MOST_STROKES, RateLimit, RefusedError, parsed_json
from pipeline.serving.rows import input_files, layouts_of, read_blocks

WORDS = Words(("barn", "cat", "ice_cream", "t-shirt"))
LINE = [[0, 255], [0, 255]]
COLUMNS = ("x", "y", "t", "stroke", "points", "strokes")


def shuffled(drawings, folder, timed):
    """The rows that the readers of the shuffle make of drawings in an ndjson file."""
    path = folder / "drawings.ndjson"
    rows = [json.dumps({"key_id": str(place + 1), "drawing": each}) for place, each in enumerate(drawings)]
    path.write_text("\n".join(rows) + "\n")
    with input_files([path]) as files:
        (block,) = read_blocks(files, layouts_of(files, timed), timed=timed)
    assert not block.rejects
    (shard,) = block.drawings.shards
    return shard


def served(drawings, timed=False):
    many = asked(json.dumps({"drawings": drawings}).encode(), WORDS, timed).drawings
    (piece,) = drawings_of(many).pieces
    return piece.shard


def assert_same_rows(drawings, folder, timed):
    ours, theirs = served(drawings, timed), shuffled(drawings, folder, timed)
    for name in COLUMNS if timed else [name for name in COLUMNS if name != "t"]:
        found, expected = getattr(ours, name), getattr(theirs, name)
        assert found.dtype == expected.dtype, name
        assert found.tobytes() == expected.tobytes(), name


def scribble(rng, strokes, scale):
    def stroke():
        points = int(rng.integers(1, 40))
        steps = rng.normal(0, scale, (2, points)).cumsum(axis=1)
        return [*steps.round(2).tolist(), np.sort(rng.integers(0, 20_000, points)).tolist()]

    return [stroke() for _ in range(strokes)]


@pytest.mark.parametrize("timed", [False, True])
def test_raw_points_are_simplified_as_the_shuffle_does(tmp_path, timed):
    rng = np.random.default_rng(3)
    drawings = [scribble(rng, strokes, scale) for strokes, scale in [(1, 3), (5, 20), (12, 0.5), (3, 400), (30, 8)]]
    clock = [[[5, 9.5, 30], [7, 7, 90], [1.7e12, 1.7e12 + 40, 1.7e12 + 900]]]
    dot, flat = [[[3.25], [8], [0]]], [[[1, 1, 1], [-4, 2, 9], [0, 10, 20]]]
    assert_same_rows([*drawings, clock, dot, flat], tmp_path, timed)


def test_simplified_drawings_are_the_rows_of_the_shuffle(tmp_path):
    rng = np.random.default_rng(4)
    drawings = [
        [rng.integers(0, 256, (2, int(rng.integers(1, 30)))).tolist() for _ in range(int(rng.integers(1, 20)))]
        for _ in range(20)
    ]
    assert_same_rows([*drawings, [[[0], [0]]], [[[255, 255.0], [0, 1e2]]]], tmp_path, timed=False)


def test_a_drawing_is_written_as_it_came():
    drawing = [[[1, 2, 3], [4, 5, 6]], [[9], [8]]]
    (strokes,) = asked(json.dumps({"drawing": drawing}).encode(), WORDS, timed=False).drawings
    assert as_lists(strokes) == drawing


def test_what_is_asked_for():
    request = asked(b'{"drawing": [[[0, 255], [0, 255]]], "word": "ice cream", "top": 7}', WORDS, timed=False)
    assert (request.claim, request.top) == (2, 7)
    assert asked(b'{"drawing": [[[0], [0]]], "word": null}', WORDS, timed=False).claim is None


def refusal(body, timed=False):
    with pytest.raises(RefusedError) as refused:
        asked(body if isinstance(body, bytes) else json.dumps(body).encode(), WORDS, timed)
    error = refused.value
    assert error.reason
    assert error.remedy
    assert len(error.reason) < 300
    return error.status, error.field, error.reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b'{"drawing": [[[0, 1], [0, 1]]', "not JSON .*line 1, column"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"drawing": [[[NaN], [0]]]}', "NaN"),
        (b'{"drawing": [[[-Infinity], [0]]]}', "-Infinity"),
        (b'{"drawing": [], "drawing": [[[0], [0]]]}', 'key "drawing" twice'),
        (b'{"x": {"a": 1, "a": 2}}', 'key "a" twice'),
        (b"[" * 100_000, "100000 levels"),
        (b'{"drawing":' * 5_000, "5000 levels"),
        (b'{"drawing": [[[' + b"9" * 5_000 + b"], [0]]]}", "thousands of digits"),
        (b'{"drawing": [[[0], [0]]]} {}', "not JSON"),
        (b"{'drawing': 1}", "not JSON"),
        (b"\x00", "not JSON"),
    ],
)
def test_what_is_not_json_is_a_400(body, reason):
    import re

    status, field, told = refusal(body)
    assert (status, field) == (400, "body")
    assert re.search(reason, told)


def test_brackets_in_strings_are_no_nesting():
    assert parsed_json(json.dumps({"word": "[[[[[[[[[[[[" + '\\"[' * 20}).encode())


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        ([], "body", "a list in place of an object"),
        ("cat", "body", "a text in place"),
        ({}, "drawing, drawings", "neither"),
        ({"drawing": [LINE], "drawings": [[LINE]]}, "drawing, drawings", "both"),
        ({"drawng": [LINE]}, '"drawng"', "no such key"),
        ({"drawing": None}, "drawing", "null in place of a list of strokes"),
        ({"drawing": "[[[0],[0]]]"}, "drawing", "a text in place"),
        ({"drawing": []}, "drawing", "the drawing is empty"),
        ({"drawing": [[]]}, "drawing[0]", "0 lists in place of 2 or 3"),
        ({"drawing": [LINE, 5]}, "drawing[1]", "the stroke is a number"),
        ({"drawing": [LINE, [[], []]]}, "drawing[1]", "no points"),
        ({"drawing": [LINE, [[1], [1], [1], [1]]]}, "drawing[1]", "4 lists"),
        ({"drawing": [LINE, [[1], [1], [1]]]}, "drawing[1]", "3 lists, and the first stroke has 2"),
        ({"drawing": [LINE, [[1], "1"]]}, "drawing[1][1]", "y is a text"),
        ({"drawing": [LINE, [[1, 2], [1]]]}, "drawing[1][1]", "y has 1 numbers, and x has 2"),
        ({"drawing": [[[0, 1], [0, 256]]]}, "drawing[0][1][1]", "y is 256, outside 0..255"),
        ({"drawing": [[[0, -1], [0, 2]]]}, "drawing[0][0][1]", "x is -1"),
        ({"drawing": [[[0, 1.5], [0, 2]]]}, "drawing[0][0][1]", "not a whole number"),
        ({"drawing": [[[True], [0]]]}, "drawing[0][0][0]", "x is true or false"),
        ({"drawing": [[["1"], [0]]]}, "drawing[0][0][0]", "x is a text"),
        ({"drawing": [[[None], [0]]]}, "drawing[0][0][0]", "x is null"),
        ({"drawing": [[[[1]], [0]]]}, "drawing[0][0][0]", "x is a list"),
        ({"drawing": [[[10**300], [0]]]}, "drawing[0][0][0]", "huge number"),
        (b'{"drawing": [[[1e999], [0]]]}', "drawing[0][0][0]", "not a finite number"),
        (b'{"drawing": [[[0], [-1e999], [0]]]}', "drawing[0][1][0]", "not a finite number"),
        ({"drawing": [[[1e7], [0], [0]]]}, "drawing[0][0][0]", "x is 10000000.0, outside"),
        ({"drawing": [[[0], [0], [-1]]]}, "drawing[0][2][0]", "t is -1"),
        ({"drawing": [[[0], [0], [10**400]]]}, "drawing[0][2][0]", "huge number"),
        ({"drawing": [[[0, 1], [0, 1], [0, 10**12]]]}, "drawing", "time lies outside"),
        ({"drawing": [[[0], [0]]] * (MOST_STROKES + 1)}, "drawing", "1,001 strokes"),
        ({"drawing": [[[0] * (MOST_POINTS + 1)] * 2]}, "drawing", "10,001 points"),
        ({"drawing": [[[0, 500] * 500, [0, 1] * 500, [0] * 1000]]}, "drawing", "pixels long"),
        ({"drawings": []}, "drawings", "empty"),
        ({"drawings": {"0": [LINE]}}, "drawings", "an object"),
        ({"drawings": [[LINE]] * 65}, "drawings", "65 drawings"),
        ({"drawings": [[LINE], []]}, "drawings[1]", "empty"),
        ({"drawings": [[LINE], [[[0], [999]]]]}, "drawings[1][0][1][0]", "999"),
        ({"drawings": [[[[0] * 9000] * 2]] * 8}, "drawings", f"at most|points|{MOST_POINTS_IN_ALL}"),
        ({"drawing": [LINE], "word": "elephant"}, "word", "does not know"),
        ({"drawing": [LINE], "word": ""}, "word", "not a word"),
        ({"drawing": [LINE], "word": "../../etc/passwd"}, "word", "does not know"),
        ({"drawing": [LINE], "word": 7}, "word", "7 is not a word"),
        ({"drawing": [LINE], "word": "a" * 101}, "word", "not a word"),
        ({"drawing": [LINE], "top": 0}, "top", "0 is not"),
        ({"drawing": [LINE], "top": 11}, "top", "11"),
        ({"drawing": [LINE], "top": True}, "top", "true"),
        ({"drawing": [LINE], "top": 3.0}, "top", "3.0"),
        ({"drawing": [LINE], "top": 10**100}, "top", "huge"),
    ],
)
def test_what_is_no_request_is_a_422_with_its_place(body, field, reason):
    import re

    status, found, told = refusal(body)
    assert (status, found) == (422, field)
    assert re.search(reason, told), told


def test_a_model_with_times_needs_times():
    assert refusal({"drawing": [LINE]}, timed=True)[1:] == (
        "drawing",
        "it has no times, and this model was trained with the time of each point",
    )


def test_the_nearest_key_and_word_are_named():
    for body, near in [({"drawng": []}, "drawing"), ({"drawing": [LINE], "word": "tshirt"}, "t-shirt")]:
        with pytest.raises(RefusedError) as refused:
            asked(json.dumps(body).encode(), WORDS, timed=False)
        assert f"do you mean {near}?" in refused.value.remedy


def test_the_largest_drawing_takes_less_than_seconds():
    """Simplifying takes the square of a drawing's length at worst, so this is limited too."""
    asked(b'{"drawing": [[[0, 1], [0, 1], [0, 1]]]}', WORDS, timed=False)  # compiles
    to_and_fro = [*range(255), *range(255, 0, -1)] * 20
    zigzag = [to_and_fro[:MOST_POINTS], [0, 6] * (MOST_POINTS // 2), [*range(MOST_POINTS)]]
    start = time.perf_counter()
    request = asked(json.dumps({"drawing": [zigzag]}).encode(), WORDS, timed=False)
    assert time.perf_counter() - start < 5
    assert len(request.drawings[0].x) > MOST_POINTS / 2


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.fixed_dictionaries({"drawing": anything}), anything), st.booleans())
def test_any_json_is_a_request_or_refused(value, timed):
    try:
        asked(json.dumps(value).encode(), WORDS, timed)
    except RefusedError as error:
        found = error.status
    else:
        found = 200
    assert found in (200, 400, 422)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(body):
    with pytest.raises(RefusedError):
        asked(body, WORDS, timed=False)


def test_a_client_gets_its_tokens_back_with_time():
    now = [0.0]
    limit = RateLimit(10, burst=20, clock=lambda: now[0])
    limit.take("1.2.3.4", 20)
    with pytest.raises(RefusedError) as refused:
        limit.take("1.2.3.4", 5)
    assert refused.value.status == 429
    assert refused.value.headers == {"Retry-After": "1"}
    limit.take("1.2.3.5", 20)  # another client
    now[0] = 0.5
    limit.take("1.2.3.4", 5)
    now[0] = 1000
    limit.take("1.2.3.4", 20)
    with pytest.raises(RefusedError):
        limit.take("1.2.3.4", 1)


def test_addresses_of_one_network_are_one_client_and_few_are_remembered(monkeypatch):
    monkeypatch.setattr("pipeline.serving.limits.CLIENTS", 5)
    limit = RateLimit(1, burst=1, clock=lambda: 0.0)
    limit.take("2001:db8::1", 1)
    with pytest.raises(RefusedError):
        limit.take("2001:db8::2", 1)
    for number in range(50):
        limit.take(f"10.0.0.{number}", 1)
    assert len(limit._buckets) == 5
    limit.take("not an address" * 100, 1)


def test_no_rate_is_no_limit():
    limit = RateLimit(0, burst=1)
    for _ in range(1000):
        limit.take("1.2.3.4", 64)
