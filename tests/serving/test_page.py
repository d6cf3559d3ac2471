"""The sketchpad as people use it, in headless Chromium against a server in this process."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.browser import chromium
from pipeline.drawings.encodings import identity, pen_movements, points, raster
from pipeline.drawings.shards import Drawings
from pipeline.raw.records import check_drawing
from pipeline.serving.drawn import drawings_of
from pipeline.serving.model import Model
from pipeline.serving.rows import input_files, layouts_of, read_blocks
from tests.conftest import ROOT
from tests.serving.sketchpad import (
    DESK,
    PHONE,
    WORDS,
    Counting,
    Pad,
    Points,
    a_row_of_each_word,
    browser,
    by_hand,
    line,
    opened,
    served,
)

pytestmark = pytest.mark.skipif(chromium() is None, reason="there is no Chromium on the PATH")

SQUARE = [line((60, 60), (200, 60), (200, 200), (60, 200), (60, 60))]
TWO = [line((60, 60), (200, 60)), line((60, 100), (200, 140), start=900)]
RULES = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def chrome():
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def address():
    with served(Counting) as found:
        yield found


@pytest.fixture
def pad(chrome, address):
    """The sketchpad at a desk; after the test, no error and no request to another host."""
    with opened(chrome, address) as found:
        found.expect("#words-title", f"{len(WORDS)} words")
        yield found
        assert found.errors == []
        assert {url.removeprefix(address)[:1] for url in found.requests} == {"/"}


def expected_trouble(pad: Pad) -> None:
    """Chromium writes each answer that is no 200 to the console."""
    assert all("Failed to load resource" in error for error in pad.errors)
    pad.errors.clear()


def test_each_stroke_is_guessed_and_undo_redo_and_clear_are_guesses_too(pad):
    assert (pad.text("#lead"), pad.text("#best")) == ("Nothing is drawn yet", "–")
    for count, word in enumerate(("cat", "dog", "ice cream"), 1):
        pad.answered([line((40, 40 * count), (300, 40 * count + 9))])
        assert (pad.text("#lead"), pad.text("#best")) == ("This is", word)
    assert [pad.text(f"#guesses li:nth-child({n})") for n in (1, 2)] == ["ice cream88 %", "cat2 %"]
    assert pad.text("#learners tr:first-child") == "gruice cream 88 %cat 2 %"
    assert pad.tab.locator("#learners tr").count() == 3
    pad.tab.click("#undo")
    pad.wait_for(2)
    pad.tab.keyboard.press("Control+z")
    pad.wait_for(1)
    pad.tab.keyboard.press("Control+Shift+z")
    pad.wait_for(2)
    pad.tab.click("#redo")
    pad.wait_for(3)
    pad.tab.click("#clear")
    assert pad.text("#best") == "–"
    assert pad.ink() == 0
    pad.tab.click("#undo")
    pad.wait_for(3)
    assert pad.ink() > 500
    assert pad.tab.locator("#redo").is_enabled()


def test_the_latest_drawing_wins_over_a_slow_answer_to_an_older_one(pad):
    held: list[Any] = []
    pad.tab.route("**/predict", lambda route: held.append(route) if not held else route.continue_())
    pad.draw(SQUARE)
    while not held:
        pad.tab.wait_for_timeout(20)
    pad.draw(TWO)
    pad.wait_for(3)
    assert pad.text("#best") == "ice cream"
    assert held[0].request.failure == "net::ERR_ABORTED"
    assert len(pad.answers) == 1


def test_strokes_that_follow_each_other_at_once_are_one_request(pad):
    pad.answered([[[40.0 * n], [50.0], [300 * n]] for n in range(1, 8)])
    assert len(pad.sent) < 7


def raw_drawings() -> list[Points]:
    """Raw drawings of several kinds, in pixels of a canvas of 520 and ms."""
    random = np.random.default_rng(17)

    def walk(count: int, start: float) -> list[list[float]]:
        x, y = np.clip(250 + np.cumsum(random.integers(-60, 61, (2, count)) / 4, axis=1), 0, 500)
        t = start + np.cumsum(random.integers(4, 40, count))
        return [x.tolist(), y.tolist(), t.tolist()]

    angles = np.linspace(0, 6.2, 80)
    x, y = (
        np.rint(4 * (150 * np.array([np.cos(angles), np.sin(angles)]) + 260)) / 4
    )  # the screen has quarters of a pixel
    return [
        [walk(40, 0)],
        [walk(30, 0), walk(25, 2000), walk(3, 4000)],
        [[x.tolist(), y.tolist(), list(range(0, 800, 10))]],
        [line((10, 300), (500, 300))],
        [line((250.5, 10.25), (250.5, 400.75))],
        [[[40.0], [50.0], [0]], line((200, 200), (210, 330), start=700)],
        [line((20 * n, 500), (20 * n + 7, 500 - 15 * n), start=600 * n) for n in range(1, 16)],
    ]


@pytest.mark.parametrize("device", ["mouse", "pen", "touch"])
def test_what_the_canvas_sends_is_simplified_and_encoded_as_the_shuffle_reads_it_from_a_file(
    chrome, address, tmp_path, device
):
    drawings = raw_drawings()
    file = tmp_path / "raw.ndjson"
    rows = [{"key_id": str(n + 1), "word": "cat", "drawing": _without_rests(each)} for n, each in enumerate(drawings)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen, sent = [], []
    with opened(chrome, address, has_touch=device == "touch") as pad:
        for drawing in drawings:
            seen.append(pad.answered(drawing, device)["simplified"])
            sent.append(pad.sent[-1]["drawing"])
            pad.tab.click("#clear")
    assert sent == [row["drawing"] for row in rows]
    with input_files([file]) as files:
        (block,) = read_blocks(files, layouts_of(files, timing=False), timed=False)
    assert block.rejects == []
    read = block.drawings[:]
    for place, strokes in enumerate(seen):
        assert strokes == [[axis.tolist() for axis in stroke[:2]] for stroke in read.strokes_of(place)]
    _assert_same_bytes(drawings_of([check_drawing(each) for each in seen]), read)


def _without_rests(drawing: Points) -> Points:
    """A drawing without the points at which a pointer rests: it sends no event then."""
    found = []
    for x, y, t in drawing:
        kept = [n for n in range(len(x)) if n == 0 or (x[n], y[n]) != (x[n - 1], y[n - 1])]
        found.append([[axis[n] for n in kept] for axis in (x, y, t)])
    start = found[0][2][0]
    return [[x, y, [ms - start for ms in t]] for x, y, t in found]


def _assert_same_bytes(canvas: Drawings, file: Drawings) -> None:
    """Encode both in the ways of the learners."""
    plain = identity(len(file))
    ways: list[tuple[Any, dict[str, Any]]] = [
        (raster, {"side": 32, "stroke_width": 1.5, "margin": 2, "channels": ["stroke_order", "thirds"]}),
        (points, {"length": 64, "fit": "resample"}),
        (pen_movements, {"length": 64, "fit": "truncate", "timing": False}),
    ]
    for encode, options in ways:
        pair = [encode(each, plain, **options) for each in (canvas, file)]
        for a, b in zip(*[each if isinstance(each, tuple) else (each,) for each in pair], strict=True):
            assert a.tobytes() == b.tobytes()


def test_a_window_that_is_resized_keeps_the_proportions_of_a_drawing(pad):
    pad.answered([line((20, 20), (400, 20), (400, 400))])
    side = pad.tab.locator("#canvas").bounding_box()["width"]
    pad.tab.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    pad.tab.wait_for_timeout(100)
    ratio = pad.tab.locator("#canvas").bounding_box()["width"] / side
    assert ratio < 0.8
    pad.answered([line((400 * ratio, 400 * ratio), (20 * ratio, 400 * ratio), (20 * ratio, 20 * ratio))])
    (x, y, _) = pad.sent[-1]["drawing"][1]
    assert [x[0], y[0], x[-1], y[-1]] == pytest.approx([400, 400, 20, 20], abs=0.25)


def test_touch_draws_without_scrolling_and_other_fingers_and_palms_do_not_draw(chrome, address):
    with opened(chrome, address, PHONE, has_touch=True) as pad:
        pad.answered([line((40, 300), (200, 40))], "touch")
        assert pad.tab.evaluate("scrollY") == 0
        box = pad.tab.locator("#canvas").bounding_box()

        def touch(kind, *places):
            points = [{"x": box["x"] + x, "y": box["y"] + y, "id": n} for n, x, y in places]
            pad.devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        touch("touchStart", (1, 50, 50))
        touch("touchStart", (1, 50, 50), (2, 200, 200))
        touch("touchMove", (1, 90, 50), (2, 220, 240))
        touch("touchEnd")
        pad.wait_for(2)
        assert pad.sent[-1]["drawing"][1][:2] == [[50, 90], [50, 50]]
        touch("touchStart", (1, 300, 300))  # the palm, then the pen
        pad.draw([line((100, 100), (150, 100))], "pen")
        touch("touchMove", (1, 310, 310))
        touch("touchEnd")
        touch("touchStart", (1, 310, 310))
        touch("touchEnd")
        pad.wait_for(3)
        pad.tab.wait_for_timeout(300)
        assert len(pad.sent[-1]["drawing"]) == 3
        assert pad.sent[-1]["drawing"][2][0][0] == 100
        assert pad.errors == []


def test_the_keyboard_draws_and_says_where_the_pen_is(pad):
    side = pad.tab.locator("#canvas").bounding_box()["width"]
    pad.tab.focus("#canvas")
    keys = pad.tab.keyboard
    keys.press("ArrowLeft")
    assert pad.text("#pen") == "Pen up, 48 across, 50 down"
    keys.press("Space")
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowDown"):
        keys.press(key)
    keys.down("ArrowUp")
    keys.down("ArrowLeft")
    keys.up("ArrowUp")
    keys.up("ArrowLeft")
    assert pad.text("#pen").startswith("Pen down")
    assert pad.sent == []
    keys.press("Space")
    pad.wait_for(1)
    x, y, t = pad.sent[-1]["drawing"][0]
    at = [19 / 40, 20 / 40, 21 / 40, 21 / 40, 21 / 40, 20 / 40]
    down = [0.5, 0.5, 0.5, 0.5 + 1 / 160, 0.5 + 1 / 160 - 1 / 40, 0.5 + 1 / 160 - 2 / 40]
    assert np.array(x) / side == pytest.approx(at)
    assert np.array(y) / side == pytest.approx(down)
    assert t == sorted(t)
    keys.press("Space")  # a dot
    keys.press("Escape")
    pad.wait_for(2)
    keys.press("Control+z")
    pad.wait_for(1)


def test_a_claimed_word_gets_its_probability(pad):
    pad.answered(SQUARE)
    pad.tab.select_option("#word", "cat")
    pad.expect("#claimed", "cat: 88 %")
    pad.tab.select_option("#word", "ice_cream")
    pad.expect("#claimed", "ice cream: 2 %. More likely: cat, 88 %")
    assert pad.sent[-1]["word"] == "ice_cream"
    pad.answered(TWO)
    pad.expect("#claimed", "ice cream: 88 %")
    pad.tab.select_option("#word", "")
    while pad.text("#claimed"):
        pad.tab.wait_for_timeout(50)
    assert "word" not in pad.sent[-1]


def test_a_drawing_is_copied_as_the_networks_see_it_and_loaded_again(pad):
    pad.tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    simplified = pad.answered([*SQUARE, line((300, 20), (310, 200), start=2000)])["simplified"]
    pad.tab.click("#copy")
    pad.expect("#status", "Copied")
    copied = pad.tab.evaluate("navigator.clipboard.readText()")
    assert json.loads(copied) == simplified
    pad.tab.click("#clear")
    pad.tab.click("#load")
    pad.tab.fill("#text", copied)
    pad.tab.click("#take")
    pad.wait_for(2)
    assert pad.sent[-1]["drawing"] == simplified == pad.result()["simplified"]
    assert pad.ink() > 500
    pad.answered([line((10, 10), (50, 10))])
    assert [len(stroke) for stroke in pad.sent[-1]["drawing"]] == [3, 3, 3]
    times = [ms for stroke in pad.sent[-1]["drawing"] for ms in stroke[2]]
    assert times == sorted(times)
    assert pad.sent[-1]["drawing"][2][0][0] == 10
    pad.tab.click("#undo")
    pad.wait_for(2)
    assert pad.sent[-1]["drawing"] == simplified
    pad.tab.focus("#canvas")
    pad.tab.click("#clear")
    pad.tab.keyboard.press("Control+v")
    pad.wait_for(2)
    assert pad.sent[-1]["drawing"] == simplified


def test_without_a_clipboard_the_text_is_shown_to_be_copied(pad):
    simplified = pad.answered(SQUARE)["simplified"]
    pad.tab.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')) }")
    pad.tab.click("#copy")
    pad.expect("#fault", "no access to the clipboard")
    assert json.loads(pad.tab.input_value("#text")) == simplified


SMALL = [[[0, 255, 255], [0, 0, 255]], [[7], [9]]]
RAW = [[[0.5, 255, 300], [0, 0, 255], [0, 20, 40]]]
GOOD: dict[str, tuple[str, list[Any]]] = {
    "Kaggle's JSON": (json.dumps(SMALL), SMALL),
    "spread over lines": (json.dumps(SMALL, indent=2), SMALL),
    "raw": (json.dumps(RAW), RAW),
    "a row of ndjson": (json.dumps({"word": "cat", "key_id": "1", "drawing": RAW}) + "\n", RAW),
    "rows of ndjson": ("".join(json.dumps({"drawing": each}) + "\n" for each in (SMALL, RAW)), SMALL),
    "a drawing as text in ndjson": (json.dumps({"drawing": json.dumps(SMALL)}), SMALL),
    "Kaggle's CSV": (
        f'key_id,countrycode,drawing\n9000,US,"{json.dumps(SMALL)}"\n9001,DE,"{json.dumps(RAW)}"\n',
        SMALL,
    ),
    "with blanks": (f"  \n {json.dumps(SMALL).replace('[', '[ ')}  \n", SMALL),
}
BAD = {
    "": "There is no text",
    "cat": "no drawing",
    "{}": "no drawing",
    "[1, 2]": "Stroke 1 is not a list",
    "[]": "no strokes",
    "[[[1, 2], [3]]]": "unequal length",
    "[[[1, 2]]]": "Stroke 1 has 1 lists",
    "[[[1], [2]], [[1], [2], [3]]]": "Stroke 2 has 3 lists",
    "[[[], []]]": "no points",
    '[[["a"], [2]]]': "not a number",
    "[[[1], [null]]]": "not a number",
    "[[[1, 2], [3, 4]": "no drawing",
    "null": "no drawing",
    "[[[1e999], [2]]]": "not a number",
}


@pytest.mark.parametrize("kind", GOOD)
def test_drawings_in_these_forms_are_loaded(pad, kind):
    text, drawing = GOOD[kind]
    pad.tab.click("#load")
    pad.tab.set_input_files("#file", {"name": "a.json", "mimeType": "text/plain", "buffer": text.encode()})
    pad.tab.click("#take")
    pad.wait_for(len(drawing))
    assert pad.sent[-1]["drawing"] == drawing
    assert "Loaded" in pad.text("#status")


def test_what_is_no_drawing_is_refused_in_words_and_keeps_the_canvas(pad):
    pad.answered(SQUARE)
    before = pad.ink()
    pad.tab.click("#load")
    for text, reason in BAD.items():
        pad.tab.fill("#text", text)
        pad.tab.click("#take")
        pad.expect("#fault", reason)
    pad.tab.click("#json .quiet")
    assert pad.ink() == before
    assert len(pad.sent) == 1


def test_a_drawing_that_the_server_refuses_is_told_with_its_reason(pad):
    pad.tab.click("#load")
    pad.tab.fill("#text", "[[[0, 300], [0, 5]]]")
    pad.tab.click("#take")
    pad.expect("#status", "The server refuses this drawing. X is 300, outside 0..255.")
    expected_trouble(pad)
    pad.tab.click("#clear")
    assert pad.text("#status") == ""
    pad.answered(SQUARE)
    assert len(pad.sent) == 2


def test_a_replay_takes_the_time_of_the_drawing_and_ends_as_it_was(pad):
    pad.answered([line((40, 40), (480, 40)), line((40, 90), (480, 480), start=1500)])
    whole = pad.ink()
    pad.tab.click("#replay")
    start = time.monotonic()
    seen = [pad.ink()]
    assert pad.text("#replay") == "Stop"
    while pad.text("#replay") == "Stop":
        seen.append(pad.ink())
    assert time.monotonic() - start > 1.1 + 0.4 + 1.47  # two strokes and the rest between them
    assert seen[0] < whole
    assert len(set(seen)) > 3
    assert pad.ink() == whole
    pad.tab.click("#replay")
    pad.tab.click("#replay")
    assert (pad.text("#replay"), pad.ink()) == ("Replay", whole)
    pad.tab.click("#replay")
    pad.answered([line((300, 300), (350, 300))])  # drawing ends it
    assert pad.text("#replay") == "Replay"


def test_with_reduced_motion_a_replay_shows_whole_strokes(chrome, address):
    with opened(chrome, address, reduced_motion="reduce") as pad:
        pad.answered([line((40, 40), (480, 40)), line((40, 90), (480, 480), start=1500)])
        pad.tab.click("#replay")
        seen = []
        while pad.text("#replay") == "Stop":
            seen.append(pad.ink())
        assert len(set(seen)) == 2


def test_a_game_of_six_words(pad):
    pad.answered(TWO)
    pad.tab.clock.install()
    pad.tab.click("#play")
    results = []
    for number in range(1, 7):
        pad.expect("#prompt", f"Draw, {number} of 6")
        word = pad.text("#prompt strong").replace(" ", "_")
        results.append(word)
        assert pad.ink() == 0
        if number == 2:  # skipped
            pad.tab.click("#skip")
            pad.expect("#status", f"Not guessed: {word.replace('_', ' ')}")
        elif number == 3:  # too late, with another word on the canvas
            _draw_word(pad, WORDS[(WORDS.index(word) + 1) % 7])
            pad.tab.clock.fast_forward(12_000)
            pad.expect("#status", "10 seconds left")
            assert int(pad.text("#clock").split()[0]) <= 8
            pad.tab.clock.fast_forward(9000)
            pad.expect("#status", "Not guessed")
            before = len(pad.sent)
            pad.draw(SQUARE)  # the canvas is locked
            assert len(pad.sent) == before
        else:
            _draw_word(pad, word)
            pad.expect("#status", f"Yes: {word.replace('_', ' ')}, after")
        assert pad.text("#skip") == ("Next" if number < 6 else "Results")
        if number == 3:
            pad.tab.click("#skip")
        else:
            pad.tab.keyboard.press("Enter")  # the button has the focus
    assert len(set(results)) == 6
    pad.expect("#score", "4 of 6 words guessed")
    assert [pad.text(f"#rounds li:nth-child({n}) .name") for n in range(1, 7)] == [
        word.replace("_", " ") for word in results
    ]
    assert pad.text("#rounds li:nth-child(2) span:last-child") == "not drawn"
    assert "looked like" in pad.text("#rounds li:nth-child(3)")
    pad.tab.click("#results .quiet")
    pad.wait_for(2)  # the drawing before the game
    assert pad.ink() > 300
    pad.tab.click("#play")
    pad.tab.click("#stop")
    assert not pad.tab.locator("#results").is_visible()


def _draw_word(pad: Pad, word: str) -> None:
    """Draw as many strokes as the stand-in takes for a word, and wait for the guess."""
    count = WORDS.index(word) + 1
    pad.draw([[[40.0 * n], [50.0], [300 * n]] for n in range(1, count + 1)])
    pad.wait_for(count)


def test_a_word_that_is_guessed_while_the_clock_ends_counts(pad):
    held: list[Any] = []

    def hold(route: Any) -> None:
        held.append(route)

    pad.tab.clock.install()
    pad.tab.click("#play")
    word = pad.text("#prompt strong").replace(" ", "_")
    pad.tab.route("**/predict", hold)
    pad.tab.clock.fast_forward(10_000)
    count = WORDS.index(word) + 1
    pad.draw([[[40.0 * n], [50.0], [300 * n]] for n in range(1, count + 1)])
    while not held or len(held[-1].request.post_data_json["drawing"]) < count:
        pad.tab.wait_for_timeout(20)
    pad.tab.clock.fast_forward(9000)
    pad.expect("#status", "Time is up.")
    held[-1].continue_()
    pad.expect("#status", "Yes:")


def test_a_server_that_is_not_ready_is_told_and_then_guesses(chrome):
    ready = threading.Event()

    def load() -> Model:
        ready.wait()
        return Counting()

    with served(load, wait=False) as address, opened(chrome, address) as pad:
        pad.expect("#status", "The server is not ready yet.")
        pad.draw(SQUARE)
        pad.expect("#status", "Your drawing is kept; next try in 2 seconds")
        ready.set()
        pad.wait_for(1)
        pad.expect("#words-title", "7 words")
        assert pad.text("#status") == ""
        expected_trouble(pad)


def test_a_server_that_is_away_is_told_and_asked_again(pad):
    pad.answered(SQUARE)
    pad.tab.route("**/predict", lambda route: route.abort())
    pad.draw(TWO)
    pad.expect("#status", "The server does not answer. Your drawing is kept; next try in 2 seconds.")
    assert (pad.text("#lead"), pad.text("#best")) == ("The last answer", "cat")
    pad.tab.unroute("**/predict")
    pad.wait_for(3)
    assert (pad.text("#lead"), pad.text("#status")) == ("This is", "")
    expected_trouble(pad)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (429, {"error": {"field": "server", "reason": "slow down", "remedy": "wait"}}, "Too many drawings"),
        (
            503,
            {"error": {"field": "server", "reason": "it answers too many requests"}},
            "It answers too many requests.",
        ),
        (503, None, "The server is not ready yet."),
        (500, None, "The server failed (500)."),
        (502, {"error": None}, "The server failed (502)."),
    ],
)
def test_a_server_that_cannot_answer_now_is_asked_again(pad, status, body, said):
    answer = {"status": status, "headers": {"Retry-After": "1"}, "body": json.dumps(body) if body else "<html>"}
    pad.tab.route("**/predict", lambda route: route.fulfill(**answer))
    pad.draw(SQUARE)
    pad.expect("#status", said)
    pad.expect("#status", "next try in")
    pad.tab.unroute("**/predict")
    pad.wait_for(1)
    assert pad.text("#status") == ""
    expected_trouble(pad)


def _altered(pad: Pad, **changes: Any) -> None:
    """Let answers have other values."""

    def alter(route: Any) -> None:
        answer = route.fetch()
        content = answer.json()
        content["results"][0] |= changes
        route.fulfill(response=answer, json=content)

    pad.tab.route("**/predict", alter)


def test_an_unsure_answer_says_so(pad):
    _altered(pad, unsure=True)
    pad.draw([[[200.0], [200.0], [0]]])
    pad.expect("#lead", "Not sure, perhaps")
    pad.expect("#announcer", "Not sure, perhaps cat, 88 %")


@pytest.mark.parametrize(
    ("familiar", "said"),
    [
        ({"like": True}, "It is like drawings"),
        ({"like": False}, "unlike anything"),
        (False, "unlike anything"),
        ({"like": False, "text": "Unlike 99 % of drawings."}, "Unlike 99 %"),
    ],
)
def test_the_nearest_drawings_and_likeness_are_shown_once_an_answer_has_them(pad, familiar, said):
    pad.answered(SQUARE)
    assert not pad.tab.locator("#seen").is_visible()
    assert not pad.tab.locator("#nearest-part").is_visible()
    _altered(pad, familiar=familiar, nearest=[{"word": "ice_cream", "drawing": SMALL}, {"word": "sun", "drawing": RAW}])
    pad.draw(TWO)
    pad.expect("#seen", said)
    assert [pad.text(f"#nearest li:nth-child({n})") for n in (1, 2)] == ["ice cream", "sun"]
    assert pad.tab.get_attribute("#nearest canvas >> nth=0", "aria-label") == "A drawing of: ice cream"


def test_a_screen_reader_hears_the_guess_only_when_the_pen_rests(pad):
    pad.tab.evaluate(
        """() => { window.heard = []; new MutationObserver(() => heard.push(announcer.textContent))
             .observe(announcer, {childList: true, characterData: true, subtree: true}) }"""
    )
    for count in range(1, 5):
        pad.answered([line((40, 40 * count), (300, 40 * count))])
    pad.expect("#announcer", "sun, 88 %")
    pad.tab.select_option("#word", "cat")  # another answer, the same guess
    pad.tab.wait_for_timeout(1600)
    heard = pad.tab.evaluate("heard")
    assert heard[-1] == "sun, 88 %"
    assert len(heard) <= 2


@pytest.mark.parametrize("size", [DESK, PHONE])
def test_nothing_jumps_and_nothing_scrolls_sideways(chrome, address, size):
    places = """() => ["canvas", "undo", "load", "guesses", "learners", "word", "simplified", "words-title"].map(id => {
        const {x, y, width, height} = document.getElementById(id).getBoundingClientRect();
        return [id, Math.round(x), Math.round(y + scrollY), Math.round(width), Math.round(height)]; })"""
    with opened(chrome, address, size) as pad:
        pad.expect("#words-title", "7 words")
        first = pad.tab.evaluate(places)
        pad.answered(SQUARE)
        pad.tab.select_option("#word", "dog")
        pad.expect("#claimed", "dog")
        assert pad.tab.evaluate(places) == first
        pad.tab.click("#play")
        assert pad.tab.evaluate(places) == first
        pad.tab.click("#skip")
        pad.tab.click("#stop")
        pad.tab.click("#results .quiet")
        pad.tab.route("**/predict", lambda route: route.abort())
        pad.tab.click("#undo")
        pad.tab.click("#redo")
        pad.expect("#status", "does not answer")
        assert pad.tab.evaluate(places) == first
        for width in (size[0], 320):
            pad.tab.set_viewport_size({"width": width, "height": size[1]})
            pad.tab.click("#words-title")
            assert pad.tab.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE])
def test_axe_finds_nothing(chrome, address, size, scheme):
    from axe_playwright_python.sync_playwright import Axe

    found = []

    def check(pad: Pad, state: str) -> None:
        pad.tab.wait_for_timeout(250)  # a bar's way
        options = {"resultTypes": ["violations"], "runOnly": RULES}
        for each in Axe().run(pad.tab, options=options).response["violations"]:
            found.append(f"{state}: {each['id']} {each['nodes'][0]['html'][:120]} {each['nodes'][0]['failureSummary']}")

    with opened(chrome, address, size, color_scheme=scheme) as pad:
        pad.expect("#words-title", "7 words")
        check(pad, "empty")
        _altered(pad, familiar={"like": True}, nearest=[{"word": "sun", "drawing": SMALL}])
        pad.answered(SQUARE)
        pad.tab.select_option("#word", "dog")
        pad.tab.click("#words-title")
        check(pad, "drawn")
        pad.tab.click("#play")
        check(pad, "game")
        pad.tab.click("#skip")
        check(pad, "after a word")
        pad.tab.click("#stop")
        check(pad, "results")
        pad.tab.click("#results .quiet")
        pad.tab.click("#load")
        pad.tab.click("#take")
        check(pad, "load")
        pad.tab.click("#json .quiet")
        pad.tab.unroute("**/predict")
        pad.tab.route("**/predict", lambda route: route.abort())
        pad.answers.clear()
        pad.draw(TWO)
        pad.expect("#status", "does not answer")
        check(pad, "away")
        pad.tab.click("#theme")
        check(pad, "the other theme")
    assert found == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_follows_the_system_and_a_button_and_keeps_nothing(chrome, address, scheme):
    other = {"light": "dark", "dark": "light"}[scheme]
    paper = {"light": "rgb(253, 252, 249)", "dark": "rgb(25, 24, 21)"}
    ground = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(canvas).color"
    with opened(chrome, address, color_scheme=scheme) as pad:
        pad.answered(SQUARE)
        assert pad.tab.evaluate(ground) == paper[scheme]
        before = pad.tab.evaluate(ink)
        pad.tab.click("#theme")
        assert pad.tab.evaluate(ground) == paper[other]
        assert pad.tab.evaluate(ink) != before
        assert pad.text("#theme").lower() == scheme
        assert pad.tab.context.cookies() == []
        assert pad.tab.evaluate("[localStorage.length, sessionStorage.length]") == [0, 0]
        pad.tab.reload()
        assert pad.tab.evaluate(ground) == paper[scheme]


def test_the_page_needs_only_its_own_files_and_no_inline_code():
    folder = ROOT / "pipeline" / "serving" / "page"
    names = {path.name for path in folder.iterdir()}
    assert {"index.html", "sketchpad.css", "sketchpad.js", "icon.svg"} <= names
    for path in folder.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        for word in ("http:", "https:", "localStorage", "document.cookie", "innerHTML", "style=", "<style", "eval("):
            assert word not in text, (path.name, word)


@pytest.fixture(scope="module")
def champion() -> Path:
    """The packed ensemble of the synthetic competition, whose test drawings lie in data/."""
    found = ROOT / "champion.zip"
    if not found.is_file() or not (ROOT / "data/synthetic/test_labels.csv").is_file():
        pytest.skip("champion.zip or data/synthetic is absent: run `make repro` and `sketchstack pack champion.zip`")
    return found


@pytest.mark.slow
def test_a_test_drawing_of_each_word_drawn_by_hand_is_guessed_as_predict_guesses_it(chrome, champion, tmp_path):
    """Events have the times of a human pen, and are sent as fast as Chromium takes them."""
    rows = a_row_of_each_word(ROOT / "data" / "synthetic")
    drawn = {word: by_hand(drawing, scale=2) for word, (_, drawing) in rows.items()}
    raw, plain = tmp_path / "raw.ndjson", tmp_path / "simplified.ndjson"
    raw.write_text(_ndjson({word: (rows[word][0], _without_rests(each)) for word, each in drawn.items()}))
    plain.write_text(_ndjson(rows))
    of_raw, of_plain = (_predicted(file, champion, tmp_path) for file in (raw, plain))
    agree = 0
    with served(lambda: Model(champion)) as address, opened(chrome, address) as pad:
        for word, strokes in drawn.items():
            result = pad.answered(strokes)
            guesses = [[each["word"], each["probability"]] for each in result["guesses"][:3]]
            assert [name for name, _ in guesses] == [name for name, _ in of_raw[word]], word
            assert np.abs(np.subtract([p for _, p in guesses], [p for _, p in of_raw[word]])).max() < 2e-3, word
            agree += guesses[0][0] == of_plain[word][0][0]
            pad.tab.click("#clear")
        assert pad.errors == []
    assert len(drawn) == 30
    assert agree >= 28  # simplifying the simplified drawing again takes some of its corners


@pytest.mark.slow
def test_a_drawing_in_real_time_is_guessed_while_it_is_drawn(chrome, champion):
    (_, drawing) = a_row_of_each_word(ROOT / "data" / "synthetic")["pizza"]
    strokes = by_hand(drawing, scale=2)
    with served(lambda: Model(champion)) as address, opened(chrome, address) as pad:
        start = time.monotonic()
        for x, y, t in strokes:
            pad.tab.wait_for_timeout(max(t[0] - 1000 * (time.monotonic() - start), 0))
            pad.draw([[x, y, t]])
            pad.tab.wait_for_timeout(max(t[-1] - 1000 * (time.monotonic() - start), 0))
        pad.wait_for(len(strokes))
        assert pad.text("#best") == "pizza"
        assert len(pad.answers) >= 3


def _ndjson(rows: dict[str, tuple[str, Any]]) -> str:
    made = [{"key_id": key, "word": word, "drawing": drawing} for word, (key, drawing) in rows.items()]
    return "".join(json.dumps(row) + "\n" for row in made)


def _predicted(file: Path, pack: Path, folder: Path) -> dict[str, list[tuple[str, float]]]:
    """What `sketchstack predict` says of a file, by the true word of its rows."""
    from pipeline.commands.predict import predict

    out = folder / f"{file.stem}-guesses.ndjson"
    predict([file], out, model=None, kind="ndjson", pack=pack)
    words = [json.loads(row)["word"] for row in file.read_text().splitlines()]
    guesses = [json.loads(row)["guesses"] for row in out.read_text().splitlines()]
    return dict(zip(words, guesses, strict=True))
