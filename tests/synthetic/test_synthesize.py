"""The synthetic competition: Kaggle's format to the letter, the same bytes everywhere, drawings by different hands."""

import contextlib
import csv
import hashlib
import json
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.drawings.words import Words, spell
from pipeline.foundation.params import Params, load_params
from pipeline.foundation.places import PARAMS
from pipeline.stages import synthesize as synthesize_stage
from pipeline.synthetic import competition as synthesize
from pipeline.synthetic import drawing as style
from pipeline.synthetic.competition import TEST, TRAIN, row
from pipeline.synthetic.drawing import draw
from pipeline.synthetic.figures import FIGURES

TRAIN_ROWS, TEST_ROWS = 4, 3


def small(profile: str = "synthetic", **changes: Any) -> Params:
    """The synthetic profile with few rows, and with other changes to its top level."""
    params = load_params(Path("profiles/synthetic.yaml"))
    few = {"train_rows": TRAIN_ROWS, "test_rows": TEST_ROWS, "unrecognized": 0.08, "mislabelled": 0.03}
    raw = {**params.model_dump(), "profile": profile, "seed": 2018, **changes}
    return Params.model_validate({**raw, "synthesize": {**raw["synthesize"], **few}})


def write(home: Path, params: Params) -> Path:
    """Run the stage in a folder of its own."""
    (home / PARAMS).write_text(yaml.safe_dump(params.model_dump()))
    with contextlib.chdir(home):
        synthesize_stage.main(["synthetic"])
    return home / "data" / "synthetic"


@pytest.fixture(scope="module")
def competition(tmp_path_factory):
    return write(tmp_path_factory.mktemp("home"), small())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.csv"))}


def digest(folder: Path) -> str:
    return hashlib.sha256(repr(contents(folder)).encode()).hexdigest()


def train_table(folder: Path) -> pd.DataFrame:
    return pd.concat([pd.read_csv(path) for path in sorted((folder / "train_simplified").glob("*.csv"))])


def drawings(folder: Path) -> list[list[list[list[int]]]]:
    tables = [train_table(folder), pd.read_csv(folder / "test_simplified.csv")]
    return [json.loads(text) for table in tables for text in table["drawing"]]


def watch(monkeypatch: pytest.MonkeyPatch, word: str, shown: list[str]) -> None:
    """Note in `shown` each time that a word is drawn."""
    figure = FIGURES[word]

    def noted(rng: np.random.Generator) -> list[np.ndarray]:
        shown.append(word)
        return figure(rng)

    monkeypatch.setitem(FIGURES, word, noted)


def test_words_are_many_and_some_have_spaces_or_hyphens():
    assert len(FIGURES) >= 24
    assert len(Words.from_names(FIGURES)) == len(FIGURES)
    assert any(" " in word for word in FIGURES)
    assert any("-" in word for word in FIGURES)


def test_each_word_has_its_file_in_kaggle_s_format(competition):
    paths = sorted((competition / "train_simplified").iterdir())
    assert [path.stem for path in paths] == sorted(FIGURES)
    for path in paths:
        table = pd.read_csv(path, parse_dates=["timestamp"])
        assert list(table.columns) == ["countrycode", "drawing", "key_id", "recognized", "timestamp", "word"]
        assert len(table) == TRAIN_ROWS
        assert (table["word"] == path.stem).all()
        assert table["key_id"].dtype == np.int64
        assert table["recognized"].dtype == bool
        assert pd.api.types.is_datetime64_dtype(table["timestamp"])
        assert table["countrycode"].str.fullmatch("[A-Z]{2}").all()


def test_the_text_is_written_as_kaggle_writes_it(competition):
    header, first, *_ = (competition / "train_simplified" / "wine glass.csv").read_text().split("\n")
    assert header == "countrycode,drawing,key_id,recognized,timestamp,word"
    point = r"\[\d+(, \d+)+\]"
    stroke = rf"\[{point}, {point}\]"
    time = r"2017-0[1-3]-\d\d \d\d:\d\d:\d\d\.\d{6}"
    pattern = rf'[A-Z][A-Z],"\[{stroke}(, {stroke})*\]",\d{{16}},(True|False),{time},wine glass'
    assert pd.Series([first]).str.fullmatch(pattern).all()
    assert all(b"\r" not in data and data.endswith(b"\n") for data in contents(competition).values())


def test_coordinates_are_whole_start_at_0_and_span_255(competition):
    for drawing in drawings(competition):
        assert all(len(xs) == len(ys) >= 2 for xs, ys in drawing)
        assert all(type(c) is int for stroke in drawing for axis in stroke for c in axis)
        xs, ys = (list(chain.from_iterable(stroke[axis] for stroke in drawing)) for axis in (0, 1))
        assert min(xs) == min(ys) == 0
        assert max(*xs, *ys) == 255


def test_key_ids_are_unique_and_tell_train_from_test(competition):
    train, test = train_table(competition)["key_id"], pd.read_csv(competition / "test_simplified.csv")["key_id"]
    both = [*train, *test]
    assert len(set(both)) == len(both) == len(FIGURES) * (TRAIN_ROWS + TEST_ROWS)
    assert all(len(str(key_id)) == 16 for key_id in both)
    assert max(train) < min(test)


def test_labels_fit_the_test_rows_and_each_word_has_equally_many(competition):
    test, labels = (pd.read_csv(competition / name) for name in ("test_simplified.csv", "test_labels.csv"))
    assert list(test.columns) == ["key_id", "countrycode", "drawing"]
    assert list(labels.columns) == ["key_id", "word"]
    assert list(labels["key_id"]) == list(test["key_id"])
    assert labels["word"].value_counts().to_dict() == {spell(word): TEST_ROWS for word in FIGURES}
    by_key_id = {(r := row(w, k, TEST, seed=2018, unrecognized=0.08, mislabelled=0.0)).key_id: r
                 for w in FIGURES for k in range(TEST_ROWS)}  # fmt: skip
    assert [by_key_id[k].drawing for k in test["key_id"]] == list(test["drawing"])
    assert [spell(by_key_id[k].word) for k in test["key_id"]] == list(labels["word"])


def test_the_order_of_the_test_rows_tells_nothing(competition):
    labels = pd.read_csv(competition / "test_labels.csv")
    assert labels["key_id"].is_monotonic_increasing
    assert (labels["word"] == labels["word"].shift()).mean() < 0.15


def test_the_sample_submission_guesses_three_words_for_each_test_row(competition):
    sample, test = (pd.read_csv(competition / name) for name in ("sample_submission.csv", "test_simplified.csv"))
    assert list(sample.columns) == ["key_id", "word"]
    assert list(sample["key_id"]) == list(test["key_id"])
    assert set(sample["word"]) == {"barn bear bush"}


def test_the_same_seed_gives_the_same_bytes_and_another_others(competition, tmp_path):
    (again := tmp_path / "again").mkdir()
    assert contents(write(again, small())) == contents(competition)
    (other := tmp_path / "other").mkdir()
    different = contents(write(other, small(seed=1)))
    assert all(different[name] != data for name, data in contents(competition).items())


def test_every_machine_writes_the_bytes_that_ours_did(competition):
    # A figure or a hand that is changed on purpose changes this too.
    assert digest(competition) == "2d30b637bfb6693d692b3d944aa493298a6abd4b754b963712759b5c49886f29"


def test_a_drawing_stays_when_a_word_or_rows_are_added(competition, tmp_path, monkeypatch):
    monkeypatch.setitem(FIGURES, "loop", FIGURES["circle"])
    monkeypatch.setattr(synthesize, "write_test", lambda folder, params: None)
    more = small().model_copy(update={"synthesize": small().synthesize.model_copy(update={"train_rows": 40})})
    grown = write(tmp_path, more)
    for name, data in contents(competition / "train_simplified").items():
        assert (grown / "train_simplified" / name).read_bytes().startswith(data)


@pytest.mark.parametrize("word", FIGURES)
def test_a_word_is_drawn_in_more_ways_than_one(word):
    plans = [FIGURES[word](np.random.default_rng(seed)) for seed in range(30)]
    for stroke in (stroke for plan in plans for stroke in plan):
        assert stroke.ndim == 2
        assert stroke.shape[1] == 2
        assert len(stroke) >= 2
        assert np.abs(stroke - 0.5).max() < 0.8
    assert len({tuple(len(stroke) for stroke in plan) for plan in plans}) >= 2


def test_unfinished_drawings_are_marked_and_as_many_as_asked_for():
    recognized = [row("star", k, TRAIN, seed=0, unrecognized=0.3, mislabelled=0.0).recognized for k in range(400)]
    assert np.mean(recognized) == pytest.approx(0.7, abs=3.5 * np.sqrt(0.3 * 0.7 / 400))


def test_an_unfinished_drawing_ends_early():
    strokes = [np.zeros((10, 2)), np.zeros((10, 2)), np.zeros((10, 2))]
    assert [len(stroke) for stroke in style.cut_short(strokes, 0.5)] == [10, 5]
    assert [len(stroke) for stroke in style.cut_short(strokes, 0.0)] == [6]
    assert [len(stroke) for stroke in style.cut_short(strokes, 11 / 30)] == [10]  # a lone point is no stroke


def test_mislabelled_drawings_show_another_word_and_are_as_many_as_asked_for(monkeypatch):
    drawn: list[str] = []
    watch(monkeypatch, "star", drawn)
    rows = [row("star", k, TRAIN, seed=0, unrecognized=0.0, mislabelled=0.3) for k in range(400)]
    assert {r.word for r in rows} == {"star"}
    assert len(drawn) / 400 == pytest.approx(0.7, abs=3.5 * np.sqrt(0.3 * 0.7 / 400))
    drawn.clear()
    assert all(row("star", k, TRAIN, seed=0, unrecognized=0.0, mislabelled=1.0).recognized for k in range(150))
    assert not drawn


def test_no_test_label_is_wrong(tmp_path, monkeypatch):
    params = small()
    wrong = params.model_copy(update={"synthesize": params.synthesize.model_copy(update={"mislabelled": 1.0})})
    shown: list[str] = []
    for word in FIGURES:
        watch(monkeypatch, word, shown)
    synthesize.write_test(tmp_path, wrong)
    assert sorted(shown) == sorted(TEST_ROWS * list(FIGURES))


def test_hands_draw_the_same_plan_differently(monkeypatch):
    plan = FIGURES["cat"](np.random.default_rng(0))
    monkeypatch.setitem(FIGURES, "cat", lambda rng: plan)
    drawn = [draw("cat", np.random.default_rng(seed)) for seed in range(60)]
    assert len({json.dumps([stroke.tolist() for stroke in strokes]) for strokes in drawn}) == 60
    assert len({len(strokes) for strokes in drawn}) >= 4
    assert np.std([len(np.concatenate(strokes)) for strokes in drawn]) > 5
    shapes = [np.ptp(np.concatenate(strokes), axis=0) for strokes in drawn]
    assert np.std([np.log(width / height) for width, height in shapes]) > 0.15


def test_a_straight_stroke_keeps_its_ends_and_a_corner_stays():
    stroke = np.array([[0, 0], [50, 1], [100, 0], [100, 50], [100, 100]], float)
    assert style.corners(stroke, 2.0).tolist() == [True, False, True, False, True]


@settings(deadline=None)  # compiles at its first call
@given(arrays(np.float64, st.tuples(st.integers(2, 40), st.just(2)), elements=st.floats(0, 255)))
def test_simplification_keeps_the_ends_and_moves_no_point_far(points):
    keep = style.corners(points, 2.0)
    assert keep[0]
    assert keep[-1]
    kept = np.flatnonzero(keep)
    for first, last in pairwise(kept):
        chord = points[last] - points[first]
        length = np.sqrt((chord**2).sum())
        away = points[first:last] - points[first]
        across = np.abs(chord[0] * away[:, 1] - chord[1] * away[:, 0])
        assert (across <= (2.0 + 1e-9) * length + 1e-9).all()


def failure(home: Path, params: Params) -> str:
    """What the stage says when it refuses, as one line."""
    (home / PARAMS).write_text(yaml.safe_dump(params.model_dump()))
    with contextlib.chdir(home), pytest.raises(SystemExit) as stopped:
        synthesize_stage.main(["synthetic"])
    assert not (home / "data").exists()
    return " ".join(str(stopped.value.code).split())


def test_a_profile_with_raw_files_of_its_own_is_left_alone(tmp_path):
    own = small("mini", synthesize={**small().synthesize.model_dump(), "competitions": []})
    said = failure(tmp_path, own)
    assert "'synthetic' must not be written for profile 'mini'" in said
    assert "make profile NAME=synthetic" in said


def test_another_data_folder_is_refused(tmp_path):
    elsewhere = small(data={**small().data.model_dump(), "folder": "data/mini"})
    said = failure(tmp_path, elsewhere)
    assert "data.folder is data/mini" in said
    assert "set data.folder to data/synthetic" in said


def test_without_params_the_remedy_is_named(tmp_path):
    with contextlib.chdir(tmp_path), pytest.raises(SystemExit, match="repository's root"):
        synthesize_stage.main(["synthetic"])


def test_a_run_that_breaks_off_leaves_the_old_files(tmp_path, monkeypatch):
    def interrupted(rng: np.random.Generator) -> list[np.ndarray]:
        raise KeyboardInterrupt

    (old := tmp_path / "data" / "synthetic").mkdir(parents=True)
    (old / "test_labels.csv").write_text("key_id,word\n")
    monkeypatch.setitem(FIGURES, "ice cream", interrupted)
    with pytest.raises(SystemExit, match="130"):
        write(tmp_path, small())
    assert contents(old) == {"test_labels.csv": b"key_id,word\n"}


def test_labels_that_params_do_not_name_are_not_written(tmp_path):
    blind = write(tmp_path, small(data={**small().data.model_dump(), "labels": None}))
    assert not (blind / "test_labels.csv").exists()
    with (blind / "test_simplified.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == 1 + TEST_ROWS * len(FIGURES)


def test_raw_files_of_one_s_own_are_not_replaced(tmp_path):
    folder = write(tmp_path, small())
    before = contents(folder)
    (folder / "train_simplified" / "zebra.csv").write_text("mine")
    with pytest.raises(SystemExit) as stopped:
        write(tmp_path, small())
    assert "train_simplified/zebra.csv is no file of the synthetic competition" in " ".join(str(stopped.value).split())
    assert contents(folder) == {**before, "train_simplified/zebra.csv": b"mine"}


def test_a_file_in_the_folder_s_place_is_not_replaced(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "synthetic").write_text("mine")
    with pytest.raises(SystemExit, match="data/synthetic is no file of"):
        write(tmp_path, small())
    assert (tmp_path / "data" / "synthetic").read_text() == "mine"
