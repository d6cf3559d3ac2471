"""A contact sheet holds every drawing asked for, with the very pixels or points that a learner is fed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.commands import preview as preview_module
from pipeline.commands.preview import PALE, RED, SIDE, WIDTH, _chosen, _notes, drawn, inked, paths, preview
from pipeline.drawings.encodings import identity, pen_movements, points, random_distortion
from pipeline.drawings.shards import Drawings
from pipeline.foundation.params import load_params
from pipeline.learners._base import learner_class
from tests.commands.test_export import FIRST_KEY, WORDS, a_learner, all_rows, write_folds, write_params
from tests.conftest import failing_main, run_main

TIMES = round(SIDE / 16)  # by which the small learners' pictures are enlarged


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    return write_folds(tmp_path_factory.mktemp("previewed"))


@pytest.fixture
def home(folds, monkeypatch):
    """The folder at hand, with params.yaml and folds/; params are as before when the test ends."""
    monkeypatch.chdir(folds)
    yield folds
    write_params(folds)


def look(*names: str, learner: str | None = None, **options: object) -> np.ndarray:
    given = {"key_ids": [], "augmented": False, "rows": 1, "test": False} | options
    return preview(names, learner=learner, **given)  # type: ignore[arg-type]


def place_of(picture: np.ndarray, sheet: np.ndarray) -> tuple[int, int]:
    """Where on the sheet the picture is, pixel by pixel: (x, y) of its corner. It must be there just once."""
    height, width = picture.shape[:2]
    inkiest = int(picture.sum(axis=(1, 2)).argmin())
    wanted, found = picture[inkiest].tobytes(), []
    for y in range(len(sheet) - height + 1):
        row, at = sheet[y + inkiest].tobytes(), -1
        while (at := row.find(wanted, at + 1)) >= 0:
            if at % 3 == 0 and np.array_equal(sheet[y : y + height, at // 3 : at // 3 + width], picture):
                found.append((at // 3, y))
    assert len(found) == 1, f"{len(found)} times on the sheet"
    return found[0]


def enlarged(image: np.ndarray) -> np.ndarray:
    return image.repeat(TIMES, axis=0).repeat(TIMES, axis=1)


def of_word(word: str, count: int) -> Drawings:
    rows = all_rows()
    return rows.take(np.flatnonzero(rows.word == WORDS.index[word])[:count])


def test_each_word_has_a_row_of_its_first_drawings_with_the_pixels_that_the_learner_gets(home):
    sheet = look("zigzag", "wine glass", learner="seresnet")
    places = []
    for word in ("zigzag", "wine_glass"):
        drawings = of_word(word, 10)
        images = a_learner("seresnet").inputs(drawings, identity(10))  # (10, 16, 16, 1)
        assert images.max(axis=(1, 2, 3)).min() > 100
        places.append([place_of(255 - enlarged(image).repeat(3, axis=2), sheet) for image in images])
    for row in places:
        assert len({y for _, y in row}) == 1
        assert [x for x, _ in row] == sorted(x for x, _ in row)
    assert [x for x, _ in places[0]] == [x for x, _ in places[1]]
    assert places[0][0][1] + SIDE < places[1][0][1]
    assert sheet.shape[1] <= WIDTH


def test_more_rows_show_more_drawings_of_a_word_and_no_more_than_there_are(home):
    one, three = look("ant"), look("ant", rows=3)
    assert three.shape[0] > one.shape[0] + 2 * SIDE
    pictures = drawn(of_word("ant", 30))
    for number, picture in enumerate(pictures):
        assert place_of(picture, three)
        if number < 10:
            assert place_of(picture, one) == place_of(picture, three)
    all_of_them = look("ant", rows=1000)
    assert place_of(drawn(of_word("ant", 1000))[-1], all_of_them)


def test_each_name_among_the_channels_has_its_panel(home):
    drawings = of_word("bee", 1)
    image = a_learner("mobilenet").inputs(drawings, identity(1))[0]  # (16, 16, 4): stroke_order, thirds
    sheet = look("bee", learner="mobilenet")
    x, y = place_of(enlarged(inked(image[:, :, :1])), sheet)
    thirds_x, thirds_y = place_of(enlarged(inked(image[:, :, 1:])), sheet)
    assert (thirds_x - x, thirds_y - y) == (16 * TIMES + 1, 0)


def test_ink_tells_every_value_of_every_plane_apart():
    values = np.arange(256, dtype=np.uint8)
    assert inked(values.reshape(16, 16, 1)).tolist() == (255 - values.reshape(16, 16, 1).repeat(3, 2)).tolist()
    colours = set()
    for plane in range(3):
        image = np.zeros((16, 16, 3), np.uint8)
        image[:, :, plane] = values.reshape(16, 16)
        found = inked(image).reshape(-1, 3)
        assert len({*map(tuple, found.tolist())}) == 256
        assert found[0].tolist() == [255, 255, 255]
        assert found[255].argmax() == [2, 1, 0][plane]  # red, green, blue in OpenCV's order
        colours |= {*map(tuple, found[1:].tolist())}
    assert len(colours) > 3 * 250
    assert inked(np.full((1, 1, 3), 255, np.uint8)).max() < 60, "where the thirds cross, ink is dark"


def test_below_each_drawing_is_one_of_its_distortions(home):
    plain, both = look("bee", learner="seresnet"), look("bee", learner="seresnet", augmented=True)
    drawings, learner = of_word("bee", 10), a_learner("seresnet")
    rng = np.random.default_rng([load_params().seed])
    random_distortion(rng, 1, learner.params.augmentation)  # of the drawing that the width was taken from
    moved = learner.inputs(drawings, random_distortion(rng, 10, learner.params.augmentation))
    for still, distorted in zip(learner.inputs(drawings, identity(10)), moved, strict=True):
        x, y = place_of(inked(enlarged(still)), both)
        assert (x, y) == place_of(inked(enlarged(still)), plain)
        assert place_of(inked(enlarged(distorted)), both) == (x, y + 16 * TIMES + 1)
    np.testing.assert_array_equal(look("bee", learner="seresnet", augmented=True), both)


def has(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Which pixels (SIDE, SIDE) bool are of about this colour."""
    return (np.abs(picture.astype(int) - colour).max(axis=2) < 25).astype(bool)


LINES = [
    ((10, 10, 10, 10, 10, 10), (0, 50, 100, 150, 200, 250)),
    ((240, 240, 240), (0, 100, 250)),
]


def use_encoding(home, monkeypatch, encoding, **params):
    """Let the learner gru encode its drawings in this way."""
    monkeypatch.setattr(learner_class("gru"), "encode", {"points": points, "pen_movements": pen_movements}[encoding])
    write_params(home, gru=params | ({"timing": False} if encoding == "pen_movements" else {}))


@pytest.mark.parametrize("encoding", ["pen_movements", "points"])
def test_the_points_fed_are_dots_and_what_is_cut_off_is_pale(encoding, home, monkeypatch):
    use_encoding(home, monkeypatch, encoding, length=5, fit="truncate")
    drawings = Drawings.from_lists([LINES])
    (picture,) = paths(a_learner("gru"), drawings, identity(1))
    fed, cut_off = has(picture, RED), has(picture, PALE)
    rows = fed[:, : SIDE // 2].any(axis=1).astype(int)
    assert (np.diff(rows) == 1).sum() == 5, "five points of the first stroke, one below the other"
    assert not fed[:, SIDE // 2 :].any(), "none of the second"
    assert cut_off[:, SIDE // 2 :].sum() > 100
    assert cut_off[4 * SIDE // 5 :, : SIDE // 2].any(), "the end of the first stroke"
    inky = picture.max(axis=2) < 120
    assert inky[: SIDE // 2, : SIDE // 2].any(), "a line between the points that are fed"
    assert not inky[4 * SIDE // 5 :].any(), "and none behind them"


@pytest.mark.parametrize("length", [8, 20])  # of the nine points all but one, or all and padding behind them
@pytest.mark.parametrize("fit", ["truncate", "resample"])
@pytest.mark.parametrize("encoding", ["pen_movements", "points"])
def test_between_two_strokes_and_behind_the_last_the_pen_is_up(encoding, fit, length, home, monkeypatch):
    use_encoding(home, monkeypatch, encoding, length=length, fit=fit)
    (picture,) = paths(a_learner("gru"), Drawings.from_lists([LINES]), identity(1))
    middle = picture[:, SIDE // 4 : 3 * SIDE // 4]
    assert (middle == 255).all()
    assert (picture[:, : SIDE // 4] < 100).any()
    assert (picture[:, 3 * SIDE // 4 :] < 100).any()


def test_a_sheet_shows_the_sequences_of_a_learner(home):
    drawings = of_word("ant", 10)
    sheet = look("ant", learner="lstm")
    for picture in paths(a_learner("lstm"), drawings, identity(10)):
        place_of(picture, sheet)


def test_strokes_as_drawn_go_from_blue_to_red():
    (picture,) = drawn(Drawings.from_lists([LINES]))
    left, right = picture[:, : SIDE // 2].reshape(-1, 3), picture[:, SIDE // 2 :].reshape(-1, 3)
    assert left[left.sum(axis=1).argmin()].argmax() == 0
    assert right[right.sum(axis=1).argmin()].argmax() == 2


def test_key_ids_are_shown_in_the_order_asked_for_with_their_words(home):
    rows = all_rows()
    wanted = [FIRST_KEY + 700, FIRST_KEY + 3, FIRST_KEY + 444]
    places = [int(np.flatnonzero(rows.key_id == key_id)[0]) for key_id in wanted]
    sheet = look(key_ids=wanted, learner="seresnet")
    images = a_learner("seresnet").inputs(rows.take(np.array(places)), identity(3))
    found = [place_of(inked(enlarged(image)), sheet) for image in images]
    assert [x for x, _ in found] == sorted(x for x, _ in found)
    ((_, chosen),) = _chosen(rows, WORDS, [], wanted, 10)
    assert chosen.tolist() == places


def test_the_test_set_has_a_sheet_too(home):
    rows = all_rows("test")
    pictures = drawn(rows[:10])
    sheet = look(test=True)
    for picture in pictures:
        place_of(picture, sheet)
    assert place_of(pictures[4], look(test=True, key_ids=[int(rows.key_id[4])]))


def test_notes_tell_country_and_what_was_not_recognized(home):
    rows = all_rows()
    folders = [Path("folds/synthetic") / f"fold{fold}" for fold in range(3)]
    notes = _notes(rows, rows.take(np.array([602, 0, 301, 600])), folders)
    texts = [[(line.text, line.colour == RED) for line in lines] for lines in notes]
    assert texts == [[("NA", False)], [("AA not recognized", True)], [], [("AE not recognized", True)]]


def test_captions_can_be_told_apart(home):
    """Of two drawings that look the same, the sheets differ below the picture, and only there."""
    rows = all_rows()
    sheets = [look(key_ids=[int(key_id)]) for key_id in rows.key_id[[1, 4]]]
    corners = [place_of(drawn(rows.take(np.array([row])))[0], sheet) for row, sheet in zip((1, 4), sheets, strict=True)]
    assert corners[0] == corners[1]
    x, y = corners[0]
    below = [sheet[y + SIDE + 20 : y + SIDE + 60, x : x + SIDE] for sheet in sheets]
    for caption in below:
        assert (caption < 160).sum() > 300
    assert not np.array_equal(below[0], below[1])


def test_a_word_without_drawings_has_a_heading_alone(home):
    rows = all_rows()
    ((heading, found),) = _chosen(rows.first(0), WORDS, [1], [], 10)
    assert heading == "bee   0 of 0"
    for artist in (drawn, lambda none: paths(a_learner("gru"), none, identity(0))):
        assert artist(rows.take(found)) == []


def test_the_command_writes_the_sheet_as_png(home, tmp_path, capsys):
    run_main(
        preview_module,
        "ant",
        "--learner",
        "seresnet",
        "--augmented",
        "--rows",
        2,
        "--out",
        tmp_path / "made" / "sheet.png",
    )
    sheet = look("ant", learner="seresnet", augmented=True, rows=2)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "made" / "sheet.png")), sheet)
    assert f"sheet.png: {sheet.shape[1]} × {sheet.shape[0]} pixels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["wine glas"], "no word 'wine glas' among the 4 words of folds/synthetic/words.json; similar: wine_glass."),
        (["xyz"], "similar: none."),
        (["ant", "--learner", "gruu"], "no learner 'gruu'; "),
        (["--key-ids", 7, FIRST_KEY], "no drawing has key_id 7 among these 900. For the test set give --test"),
        (["--key-ids", FIRST_KEY, "--test"], f"no drawing has key_id {FIRST_KEY} among these 300"),
        (["ant", "--out", "params.yaml/x.png"], "params.yaml/x.png cannot be written: "),
    ],
)
def test_what_cannot_be_done_is_told_in_a_paragraph(arguments, told, home):
    assert told in failing_main(preview_module, *arguments)
    assert not list(home.glob("*.png"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "name some words, or --key-ids, or --test"),
        (["ant", "--test"], "name words, or --key-ids, or --test"),
        (["ant", "--key-ids", 1], "name words, or --key-ids, or --test"),
        (["ant", "--augmented"], "--augmented needs --learner"),
        (["ant", "--rows", 0], "--rows must be at least 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(arguments, told, home, capsys):
    with pytest.raises(SystemExit):
        run_main(preview_module, *arguments)
    assert told in capsys.readouterr().err


def test_times_that_are_not_there_are_not_shown(home):
    write_params(home, seresnet={"side": 16, "stroke_width": 1.0, "margin": 1.0, "channels": ["velocity"]})
    assert "velocity needs the time of each point" in failing_main(preview_module, "ant", "--learner", "seresnet")


def test_an_encoding_that_is_unknown_here_is_named(home, monkeypatch):
    def doodle(drawings, distortion, *, length: int, fit: str, timing: bool):
        return np.zeros(len(drawings))

    monkeypatch.setattr(learner_class("gru"), "encode", doodle)
    assert "pipeline/learners/gru.py encodes with doodle; only raster" in failing_main(
        preview_module, "ant", "--learner", "gru"
    )
