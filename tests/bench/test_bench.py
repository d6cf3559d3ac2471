from __future__ import annotations

import argparse
import importlib
import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench import competition, reference, tables
from bench.tables import Bar, Measured, Row
from pipeline.drawings.encodings import identity, raster
from pipeline.drawings.shards import Drawings, open_shards
from pipeline.drawings.words import load_words, spell
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import Params, load_params
from tests import rawfiles as raw
from tests.conftest import ROOT

WORDS = ("Ant", "bee", "ice cream")
ROWS = 40  # of a word


@pytest.fixture
def params(tmp_path: Path) -> Params:
    """The mini profile over a competition of three words, each drawing another one."""
    lines: dict[str, list[str]] = {word: [] for word in WORDS}
    for number in range(len(WORDS) * ROWS):
        word = WORDS[number // ROWS]
        lines[word].append(raw.csv_line(number * 10**7, word, drawing=raw.sketch(number)))
    raw.write_competition(tmp_path, lines)
    data = raw.some_params(str(tmp_path / "data" / "synthetic")).data
    return load_params(competition.PROFILE).model_copy(update={"data": data})


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def test_a_row_compares_medians():
    row = Row("", "rows/s", ours=[300, 100, 200], reference=[5, 4, 9], limit=[250])
    assert (row.figure("ours"), row.figure("ratio"), row.figure("share")) == (200, 40, 0.8)
    met = {Bar("ratio", "≥", 40), Bar("ours", "<", 201), Bar("share", "≤", 0.8)}
    unmet = {Bar("ratio", "≥", 40.1), Bar("ours", "<", 200), Bar("share", "≥", 0.9)}
    assert {bar for bar in met | unmet if row.met(bar)} == met
    assert Row("", "s", [1.0]).figure("ratio") is None


def test_the_table_says_what_is_met_and_what_is_not(capsys):
    bars = (Bar("ratio", "≥", 40), Bar("share", "≥", 0.9))
    tables.show(Measured("x", "Pictures", [Row("grey", "drawings/s", [900.0], [30.0], [950.0], bars)], ["A note."]))
    shown = capsys.readouterr().out
    first, second = (line for line in shown.splitlines() if "met" in line)
    assert re.search(r"grey .* 900 .* 30 .* 30× .* 950 .* 95% .* ≥ 40× .* NOT met", first)
    assert re.search(r"≥ 90% of the limit +│ met ", second)
    assert "A note." in shown
    assert re.search(r"Medians of 1\. .*, \d+ cores, \d+ GB", shown)


def test_the_record_holds_every_run_and_where_it_ran(tmp_path):
    row = Row("grey", "drawings/s", [900.0, 1000.0, 1234.5678], [30.0], bars=(Bar("ratio", "≥", 40),))
    path = tables.record(Measured("batches", "Pictures", [row], ["A note."]), ["--runs", "5"], tmp_path)
    found = json.loads(path.read_text())
    assert path.name == "batches.json"
    assert found["command"] == "python -m bench.batches --runs 5"
    assert {"date", "commit", "notes"} <= set(found)
    assert {"cpu", "cores", "memory_gb", "system"} <= set(found["machine"])
    assert {"python", "numba", "pyarrow", "pandas", "opencv-python-headless"} <= set(found["versions"])
    assert found["rows"] == [
        {
            "what": "grey",
            "unit": "drawings/s",
            "ours": {"median": 1000.0, "runs": [900.0, 1000.0, 1234.57]},
            "reference": {"median": 30.0, "runs": [30.0]},
            "limit": None,
            "ratio": 33.3333,
            "bars": [{"bar": "≥ 40×", "met": False}],
        }
    ]


@pytest.mark.parametrize(("runs", "rows", "recorded"), [(5, None, True), (4, None, False), (5, 100, False)])
def test_a_quick_look_is_not_recorded(tmp_path, capsys, runs, rows, recorded):
    measured = Measured("batches", "Pictures", [Row("grey", "s", [1.0])], [])
    tables.publish(measured, argparse.Namespace(runs=runs, rows=rows), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == (["batches.json"] if recorded else [])
    assert ("Not recorded" in capsys.readouterr().out) != recorded


def test_copies_have_key_ids_of_their_own_and_the_same_drawings(params, scratch):
    assert competition.write_copies(params, scratch / "home", 3) == 3 * len(WORDS) * ROWS
    for word in WORDS:
        before, after = (
            pd.read_csv(folder / f"{word}.csv") for folder in (train_of(params), train_in(scratch / "home"))
        )
        assert len(after) == 3 * len(before)
        pd.testing.assert_frame_equal(
            after.drop(columns="key_id"), pd.concat([before] * 3, ignore_index=True).drop(columns="key_id")
        )
        assert after.key_id[:ROWS].equals(before.key_id)
    everything = pd.concat([pd.read_csv(path) for path in train_in(scratch / "home").iterdir()])
    assert everything.key_id.is_unique
    assert load_params(scratch / "home" / "params.yaml").learners == params.learners


def test_fewer_rows_are_the_first_words(params, scratch):
    assert competition.write_copies(params, scratch / "home", 2, rows=2 * ROWS + 1) == 4 * ROWS
    assert sorted(path.stem for path in train_in(scratch / "home").iterdir()) == ["Ant", "bee"]


def test_without_the_drawings_it_says_how_to_bring_them(tmp_path, monkeypatch):
    monkeypatch.setattr(competition, "ROOT", tmp_path)
    with pytest.raises(SketchstackError, match="make data NAME=mini FROM=FOLDER"):
        competition.mini_params()


def train_of(params: Params) -> Path:
    return Path(params.data.folder, params.data.train)


def train_in(home: Path) -> Path:
    return home / "data" / "train_simplified"


def read_by_reference(place: Path, train: Path) -> list[tuple[str, str]]:
    """(drawing, word) of each row of the shuffled CSVs, sorted."""
    rows, words = pd.concat(map(pd.read_csv, place.glob("train_k*.csv.gz"))), reference.categories(train)
    return sorted((json.dumps(json.loads(text)), spell(words[y])) for text, y in zip(rows.drawing, rows.y, strict=True))


def read_by_us(folds: Path) -> list[tuple[str, str]]:
    """(drawing, word) of each row of the folds, sorted."""
    words, drawings = load_words(folds).names, open_shards(sorted(folds.glob("fold*")))[:]
    strokes = [[[axis.tolist() for axis in stroke] for stroke in drawings.strokes_of(n)] for n in range(len(drawings))]
    return sorted((json.dumps(drawing), words[label]) for drawing, label in zip(strokes, drawings.word, strict=True))


def test_both_ways_read_the_same_rows_with_the_same_labels(params, scratch):
    home, one, two = scratch / "home", scratch / "one", scratch / "two"
    count = competition.write_copies(params, home, 2)
    for place in (one, two):
        place.mkdir()
    reference.shuffle_csvs(train_in(home), one)
    reference.shuffle_csvs_in_processes(train_in(home), two, 2)
    read = read_by_us(raw.run_shuffle(home))
    assert len(read) == count
    assert read_by_reference(one, train_in(home)) == read
    assert read_by_reference(two, train_in(home)) == read
    assert {path.suffix for path in [*one.iterdir(), *two.iterdir()]} == {".gz"}


def test_the_published_generator_gives_every_drawing_with_its_label(params, scratch):
    reference.shuffle_csvs(train_of(params), scratch)
    count = len(WORDS) * ROWS
    single = list(itertools.islice(reference.image_generator(scratch, 64, len(WORDS)), len(list(scratch.iterdir()))))
    several = list(reference.images_in_processes(scratch, 64, len(WORDS), 2))
    pairs = []
    for batches in (single, several):
        x, y = (np.concatenate(part) for part in zip(*batches, strict=True))
        assert (x.shape, x.dtype, x.min(), x.max()) == ((count, 64, 64, 1), np.float32, -1, 1)
        assert y.sum(axis=0).tolist() == [ROWS] * len(WORDS)
        pairs.append(sorted((image.tobytes(), int(label.argmax())) for image, label in zip(x, y, strict=True)))
    assert pairs[0] == pairs[1]


def test_the_published_picture_and_ours_look_alike():
    turn = [k * math.tau / 24 for k in range(25)]
    circle = [[round(127.5 + 127.5 * f(angle)) for angle in turn] for f in (math.cos, math.sin)]
    drawings = [
        [circle, [[60, 190], [128, 128]]],
        [[[0, 255, 0, 255], [0, 0, 255, 255]]],
        [[[0, 255], [0, 255]], [[255, 0], [0, 255]], [[128, 128], [10, 240]]],
    ]
    ours = raster(
        Drawings.from_lists(drawings), identity(3), side=64, stroke_width=1.5, margin=0.0, channels=["stroke_order"]
    )
    theirs = np.stack([reference.draw_cv2(drawing, 64) for drawing in drawings])
    alike = np.corrcoef(ours.reshape(3, -1), theirs.reshape(3, -1))[:3, 3:]  # (ours, theirs)
    # The published picture is cut off at the border and sampled at every fourth pixel.
    assert alike.diagonal().min() > 0.88
    assert alike[~np.eye(3, dtype=bool)].max() < 0.6


def measure(name: str, params: Params, scratch: Path, **more: int) -> Measured:
    return importlib.import_module(f"bench.{name}").measure(params, scratch, runs=1, rows=None, **more)


@pytest.mark.slow
def test_the_memory_benchmark_runs(params, scratch):
    once, tenfold, against = measure("memory", params, scratch).rows
    assert 20 < once.ours[0] < 1000
    assert against.figure("ratio") == tenfold.ours[0] / once.ours[0]


def test_the_benchmark_of_shard_sizes_runs(params, scratch):
    found = {row.what: row.ours for row in measure("shard_size", params, scratch).rows}
    assert found["size"][0] > 20
    assert found["open and read all, zstd"][0] > 0


def test_the_benchmark_of_batches_runs(params, scratch, monkeypatch):
    monkeypatch.setattr(importlib.import_module("bench.batches"), "REFERENCE", 100)
    pictures, several, _, movements = measure("batches", params, scratch).rows
    assert {bar.figure for bar in pictures.bars} == {"ratio", "share"}
    assert several.ours == pictures.ours
    assert not movements.reference
    assert len(movements.limit) == 1


@pytest.mark.slow
def test_the_benchmark_of_the_first_batch_runs(params, scratch):
    warm, cold = measure("first_batch", params, scratch).rows
    assert cold.ours[0] > warm.ours[0] > 0


@pytest.mark.slow
def test_the_shuffle_benchmark_runs(params, scratch):
    ours, _, whole, cold = measure("shuffle", params, scratch, reference_rows=100).rows
    assert ours.ours[0] > whole.ours[0] > cold.ours[0] > 0
    assert [len(runs) for runs in (ours.ours, ours.reference, ours.limit)] == [1, 1, 1]


MAKERS = {"pictures", "plots_page", "sketchpad"}  # of files that the project shows, not of measurements


def test_make_runs_every_benchmark():
    makefile = (ROOT / "Makefile").read_text()
    loops = re.findall(r"for name in ([a-z_ ]+); do \$\(PYTHON\) -m bench\.\$\$name", makefile)
    alone = set(re.findall(r"\$\(PYTHON\) -m bench\.([a-z_]+)", makefile))
    assert sorted([*" ".join(loops).split(), *alone]) == sorted(
        path.parent.name if path.stem == "__main__" else path.stem
        for path in [*(ROOT / "bench").glob("*.py"), *(ROOT / "bench").glob("*/__main__.py")]
        if "\ndef main(" in path.read_text() and not path.stem.endswith("_once") and path.stem not in MAKERS
    )
