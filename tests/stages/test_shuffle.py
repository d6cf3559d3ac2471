"""Every row in is a row out or a reject, and where a drawing goes depends on the drawing alone."""

import csv
import gzip
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.drawings.shards import open_shards
from pipeline.drawings.words import load_words
from pipeline.foundation.errors import SketchstackError
from pipeline.raw import files as rawfiles
from pipeline.raw import folds as shuffle
from pipeline.raw import readers, spill
from pipeline.raw.folds import check_counts
from pipeline.raw.records import check_drawing, simplified
from pipeline.raw.records import hash_of as hash_of_strokes
from tests.conftest import ROOT
from tests.rawfiles import (
    HEADER,
    csv_line,
    failing_shuffle,
    line_of_test,
    ndjson_line,
    run_shuffle,
    sketch,
    write_competition,
    write_lines,
)

FOLDS, SHARDS = 3, 2


def lines_of(word, keys, line=csv_line):
    return [line(key, word) for key in keys]


def small(**changes):
    """Two words of a few rows each."""
    return {"ant": lines_of("ant", range(1, 13)), "wine glass": lines_of("wine glass", range(101, 113)), **changes}


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def homes(folds):
    """The fold and shard of each key_id."""
    paths = sorted(folds.glob("fold*/*.arrow"))
    return {key: f"{path.parent.name}/{path.stem}" for path in paths for key in pd.read_feather(path)["key_id"]}


def kept_rows(folds):
    """Each training row as key_id, word, drawing."""
    words, shards = load_words(folds), open_shards([folds / f"fold{fold}" for fold in range(FOLDS)])
    drawings = shards[:]
    found = []
    for row in range(len(drawings)):
        drawing = [[x.tolist(), y.tolist()] for x, y in drawings.strokes_of(row)]
        found.append((int(drawings.key_id[row]), words.names[drawings.word[row]], drawing))
    return found


def rejected(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def hash_of(drawing):
    return hash_of_strokes(check_drawing(drawing))


def where(drawing):
    number = hash_of(drawing)
    return f"fold{number % FOLDS}/{number // FOLDS % SHARDS:04d}"


def test_the_stage_leaves_folds_words_rejects_and_a_summary_and_nothing_else(tmp_path):
    write_competition(tmp_path, small())
    folds = run_shuffle(tmp_path)
    assert sorted(path.name for path in folds.iterdir()) == [
        *("contents.json", "fold0", "fold1", "fold2", "rejects.csv", "summary.json", "test", "words.json"),
    ]
    assert load_words(folds).names == ("ant", "wine_glass")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".partial", "data", "folds", "logs", "params.yaml"]
    assert [path.name for path in (tmp_path / ".partial").iterdir()] == ["locks"]


def test_words_that_came_or_went_since_the_last_shuffle_are_told(tmp_path, capsys):
    write_competition(tmp_path, small())
    run_shuffle(tmp_path)
    assert "since the last shuffle" not in capsys.readouterr().out
    shutil.rmtree(tmp_path / "data")
    write_competition(tmp_path, {"ant": lines_of("ant", range(1, 13)), "bee": lines_of("bee", range(101, 113))})
    run_shuffle(tmp_path)
    told = capsys.readouterr().out
    assert "words that are gone since the last shuffle: wine_glass" in told
    assert "words that are new since the last shuffle: bee" in told


def test_every_column_of_a_row_arrives(tmp_path):
    timeless = csv_line(2, "ant", countrycode="", recognized="", timestamp="")
    write_competition(tmp_path, small(ant=[csv_line(1, "ant", recognized=False), timeless]))
    paths = run_shuffle(tmp_path).glob("fold*/*.arrow")
    rows = {row["key_id"]: row for path in paths for row in pa.ipc.open_file(path).read_all().to_pylist()}
    assert rows[2] == {**rows[2], "countrycode": None, "recognized": None, "timestamp": None}
    stamp = rows[1].pop("timestamp")
    assert stamp.isoformat() == "2017-03-09T00:28:55.637750+00:00"
    assert rows[1] == {
        **{"key_id": 1, "word": 0, "countrycode": "NA", "recognized": False},
        **{"x": [1, 255, 10, 5, 6], "y": [0, 0, 20, 7, 8], "stroke": [3, 2]},
    }


SPOILED: dict[str, dict[str, Any]] = {
    "good": {},
    "broken": {"drawing": "[[[1], [2"},
    "empty": {"drawing": []},
    "keyless": {"key_id": "x"},
    "astray": {"word": "bee"},
}
some_rows = st.lists(  # few key_ids and few drawings, so that they meet
    st.tuples(
        st.sampled_from(["ant", "wine glass"]),
        st.integers(1, 6),
        st.integers(0, 4),
        st.sampled_from([*SPOILED, "torn"]),
    ),
    max_size=14,
)


@given(rows=some_rows)
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_row_in_is_a_row_out_or_a_reject(tmp_path, capsys, rows):
    always = {"ant": range(100, 110), "wine glass": range(200, 210)}  # so that no word lacks rows in a fold
    lines = {word: lines_of(word, keys) for word, keys in always.items()}
    every = {(f"{word}.csv", line) for word, keys in always.items() for line, _ in enumerate(keys, 2)}
    twins = {  # key_id: (hash, word, line, drawing)
        key: [(0, word, line, sketch(key))] for word, keys in always.items() for line, key in enumerate(keys, 2)
    }
    for word, key_id, number, kind in rows:
        line, changes = len(lines[word]) + 2, {"drawing": sketch(number), **SPOILED.get(kind, {})}
        lines[word].append('NA,"[[[1' if kind == "torn" else csv_line(key_id, word, **changes))
        every.add((f"{word}.csv", line))
        if kind == "good":
            twins.setdefault(key_id, []).append((hash_of(sketch(number)), word, line, sketch(number)))
    kept = {key_id: min(candidates) for key_id, candidates in twins.items()}

    write_competition(tmp_path, lines, max_rejected=1.0)
    folds = run_shuffle(tmp_path)
    expected = [(key_id, word.replace(" ", "_"), drawing) for key_id, (_, word, _, drawing) in kept.items()]
    assert sorted(kept_rows(folds)) == sorted(expected)
    rejects = [(Path(row["file"]).name, int(row["line"])) for row in rejected(folds / "rejects.csv")]
    assert sorted(rejects) == sorted(every - {(f"{word}.csv", line) for _, word, line, _ in kept.values()})
    read = len(every) + 4  # with the test rows
    assert f"{read} rows in = {len(kept) + 4} rows out + {len(rejects)} rejected" in capsys.readouterr().out


def test_a_drawing_s_fold_and_shard_are_read_off_its_hash(tmp_path):
    write_competition(tmp_path, small())
    found = homes(run_shuffle(tmp_path))
    assert found == {key: where(sketch(key)) for key in [*range(1, 13), *range(101, 113)]}
    assert len(set(found.values())) > 3


def test_other_rows_and_other_files_do_not_move_a_drawing(tmp_path):
    write_competition(tmp_path, small())
    before = homes(run_shuffle(tmp_path))
    more = {"ant": lines_of("ant", range(40, 0, -1)), "bee": lines_of("bee", range(300, 320))}
    write_competition(tmp_path, small(**more))
    after = homes(run_shuffle(tmp_path))
    assert len(after) > len(before)
    assert {key: after[key] for key in before} == before


def test_the_order_of_the_rows_changes_no_byte_of_the_shards(tmp_path):
    write_competition(tmp_path, small())
    before = contents(run_shuffle(tmp_path))
    write_competition(tmp_path, {word: lines[::-1] for word, lines in small().items()})
    assert contents(run_shuffle(tmp_path)) == before


def test_a_drawing_under_two_key_ids_and_two_words_never_straddles_folds_or_shards(tmp_path):
    twins = [csv_line(500 + row, "wine glass", drawing=sketch(row)) for row in range(1, 13)]
    write_competition(tmp_path, small(**{"wine glass": twins}))
    found = homes(run_shuffle(tmp_path))
    assert [found[row] for row in range(1, 13)] == [found[500 + row] for row in range(1, 13)]


@pytest.mark.parametrize("order", [1, -1])
def test_of_rows_that_share_a_key_id_the_smallest_hash_is_kept_in_any_order(tmp_path, order):
    drawings = [sketch(number) for number in range(5)]
    same = [csv_line(50, "ant", drawing=drawing) for drawing in drawings][::order]
    write_competition(tmp_path, small(ant=[*lines_of("ant", range(1, 13)), *same]), max_rejected=1.0)
    folds = run_shuffle(tmp_path)
    smallest = min(drawings, key=hash_of)
    assert [drawing for key, _, drawing in kept_rows(folds) if key == 50] == [smallest]
    line = 14 + drawings[::order].index(smallest)
    assert {row["reason"] for row in rejected(folds / "rejects.csv")} == {
        f"duplicate key_id: ant.csv line {line} is kept"
    }
    assert [row["key_id"] for row in rejected(folds / "rejects.csv")] == ["50"] * 4


def test_a_key_id_is_looked_for_in_all_files(tmp_path):
    glass = [
        csv_line(500, "wine glass"),
        csv_line(3, "wine glass", drawing=sketch(3)),
        *lines_of("wine glass", range(101, 113)),
    ]
    write_competition(tmp_path, small(**{"wine glass": glass}), max_rejected=1.0)
    (reject,) = rejected(run_shuffle(tmp_path) / "rejects.csv")
    told = {"file": "data/synthetic/train_simplified/wine glass.csv", "line": "3", "key_id": "3"}
    assert reject == {**told, "reason": "duplicate key_id: ant.csv line 4 is kept"}


def some_words(count=7, rows=40):
    """Several words of some rows, a few of them under key_ids that are taken."""
    words = {f"word {word}": range(1000 * word, 1000 * word + rows) for word in range(count)}
    lines = {word: lines_of(word, keys) for word, keys in words.items()}
    lines["word 1"].append(csv_line(5, "word 1", drawing=sketch(77)))
    lines["word 2"].append(csv_line(5, "word 2", drawing=sketch(78)))
    return lines


@pytest.mark.parametrize(
    ("threads", "block", "gathered"), [(1, 2**22, 2**16), (4, 2**22, 2**16), (3, 100, 7), (2, 333, 1), (2, 50, 2**16)]
)
def test_the_same_rows_give_the_same_bytes_on_any_threads_and_in_any_pieces(
    tmp_path, monkeypatch, threads, block, gathered
):
    write_competition(tmp_path, some_words(), max_rejected=1.0)
    before = contents(run_shuffle(tmp_path))
    monkeypatch.setattr(rawfiles, "BLOCK", block)
    monkeypatch.setattr(spill, "ROWS", gathered)
    write_competition(tmp_path, some_words(), threads=threads, max_rejected=1.0)
    assert contents(run_shuffle(tmp_path)) == before


def test_packed_files_give_the_same_bytes(tmp_path):
    write_competition(tmp_path, some_words(), max_rejected=1.0)
    before = contents(run_shuffle(tmp_path))
    data = tmp_path / "data" / "synthetic"
    for path in [*(data / "train_simplified").iterdir(), data / "test_simplified.csv"]:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    after = contents(run_shuffle(tmp_path))
    names_files = {"rejects.csv", "contents.json"}  # packed ones have other names
    assert {name: after[name] for name in after if name not in names_files} == {
        name: before[name] for name in before if name not in names_files
    }


def test_a_drawing_of_ten_megabytes_is_kept_whole(tmp_path):
    axis = [row % 256 for row in range(60_000)]
    write_competition(tmp_path, small(bee=[csv_line(500, "bee", drawing=[[axis, axis]] * 25), csv_line(501, "bee")]))
    assert (tmp_path / "data/synthetic/train_simplified/bee.csv").stat().st_size > 10_000_000
    kept = {key: drawing for key, _, drawing in kept_rows(run_shuffle(tmp_path))}
    assert kept[500] == [[axis, axis]] * 25
    assert set(kept) == {*range(1, 13), *range(101, 113), 500, 501}


def timed(number):
    """A raw drawing of two strokes, another one for each number."""
    return [[[0.0, 50.5, 100.0 + number], [0, 90.25, 0], [0, 40, 90]], [[5.0], [7.0], [200 + number]]]


def raw_competition(home, **changes):
    """Two words and a test file of raw drawings."""
    train = {
        word: [csv_line(key, word, drawing=timed(key)) for key in range(first, first + 12)]
        for word, first in (("ant", 1), ("wine glass", 101))
    }
    test = [line_of_test(key, drawing=timed(key)) for key in (901, 903, 902)]
    write_competition(home, {**train, **changes.pop("train", {})}, changes.pop("test", test), **changes)


def test_raw_drawings_keep_the_time_of_each_point(tmp_path):
    raw_competition(tmp_path)
    folds = run_shuffle(tmp_path)
    shards = open_shards([folds / f"fold{fold}" for fold in range(FOLDS)])
    drawings = shards[:]
    assert drawings.timed
    for place, key_id in enumerate(drawings.key_id.tolist()):
        strokes = simplified(timed(key_id))
        assert strokes.t is not None
        assert np.concatenate([stroke[2] for stroke in drawings.strokes_of(place)]).tolist() == strokes.t.tolist()
        assert np.concatenate([stroke[0] for stroke in drawings.strokes_of(place)]).tolist() == strokes.x.tolist()
    test = open_shards([folds / "test"])
    assert test.timed
    assert test.key_id.tolist() == [901, 903, 902]


def test_a_drawing_lies_in_the_same_fold_in_both_forms(tmp_path):
    raw_competition(tmp_path)
    before = homes(run_shuffle(tmp_path))
    as_small = {}
    for word, first in (("ant", 1), ("wine glass", 101)):
        strokes = {key: simplified(timed(key)) for key in range(first, first + 12)}
        cut = {key: np.cumsum(each.stroke)[:-1] for key, each in strokes.items()}
        as_small[word] = [
            csv_line(
                key,
                word,
                drawing=[
                    [x.tolist(), y.tolist()]
                    for x, y in zip(np.split(each.x, cut[key]), np.split(each.y, cut[key]), strict=True)
                ],
            )
            for key, each in strokes.items()
        ]
    write_competition(tmp_path, as_small)
    assert homes(run_shuffle(tmp_path)) == before


def test_a_raw_file_that_begins_with_a_hundred_bad_rows_is_read_as_the_others_are(tmp_path):
    bad = [csv_line(5000 + row, "bee", drawing="?") for row in range(120)]
    good = [csv_line(300 + row, "bee", drawing=timed(row)) for row in range(12)]
    raw_competition(tmp_path, train={"bee": [*bad, *good]}, max_rejected=1.0)
    assert {300 + row for row in range(12)} <= set(homes(run_shuffle(tmp_path)))
    assert len(rejected(tmp_path / "folds/synthetic" / "rejects.csv")) == 120


def test_a_fault_in_one_file_is_told_though_other_threads_are_reading(tmp_path):
    write_competition(tmp_path, some_words(), threads=4, max_rejected=1.0)
    path = tmp_path / "data" / "synthetic" / "train_simplified" / "word 3.csv"
    (path.parent / "word 3.csv.gz").write_bytes(gzip.compress(path.read_bytes())[:-20])
    path.unlink()
    assert "word 3.csv.gz is damaged and cannot be unpacked" in failing_shuffle(tmp_path)
    assert not (tmp_path / "folds/synthetic").exists()
    assert not list(tmp_path.glob(".folds*"))


@pytest.mark.parametrize("odd", ["test", "bee"])
def test_raw_and_simplified_files_side_by_side_stop_the_stage(tmp_path, odd):
    bee = {"bee": lines_of("bee", range(300, 312))}
    plain: dict[str, dict[str, Any]] = {"test": {"test": [line_of_test(901)]}, "bee": {"train": bee}}
    raw_competition(tmp_path, **plain[odd])
    text = failing_shuffle(tmp_path)
    assert f"{'test_simplified' if odd == 'test' else 'bee'}.csv simplified ones, so only some rows would have" in text
    assert "Leave files of one kind there" in text


def faulty(kind, key, word, rng):
    """A line with a fault of a kind, here or there."""
    line = csv_line(key, word)
    if kind == "5 fields in place of 6":
        return line.rpartition(",")[0]
    if kind == "line is not CSV":
        return line[: line.index('"') + rng.integers(1, 20)]
    if kind == "drawing is not JSON":
        place, piece = line.index("[") + rng.integers(3, 12), ["\0", "[", "x", "..", "- "][rng.integers(5)]
        return line[:place] + piece + line[place:]
    at, beyond = int(rng.integers(2)), int(rng.choice([-1, 256, 10**9, -(10**30)]))
    axes = [[1, 2, 3], [4, 5, 6]]
    axes[at] = {"a coordinate lies outside 0..255": [1, beyond, 3], "a stroke has no points": []}.get(kind, [1, 2])
    changes: dict[str, dict[str, Any]] = {
        "a coordinate lies outside 0..255": {"drawing": [axes]},
        "x and y of a stroke are of unequal length": {"drawing": [[[1], [2]], axes]},
        "a stroke has no points": {"drawing": [[[], []]] * (at + 1)},
        "key_id is not a 64-bit integer": {"key_id": f"{key}{'xe.'[rng.integers(3)]}7"},
        "word is not the file's": {"word": f"{word}s"},
        "timestamp is not a date and time": {"timestamp": f"2017-02-{29 + at} 10:00:00 UTC"},
        "recognized is neither True nor False": {"recognized": "yes"},
    }
    return csv_line(key, word, **changes[kind])


FAULTS = """5 fields in place of 6; line is not CSV; drawing is not JSON; a coordinate lies outside 0..255;
    x and y of a stroke are of unequal length; a stroke has no points; key_id is not a 64-bit integer;
    word is not the file's; timestamp is not a date and time; recognized is neither True nor False"""


@pytest.mark.slow
def test_a_hundred_thousand_bad_rows_cost_no_good_one(tmp_path):
    rng, faults = np.random.default_rng(0), [fault.strip() for fault in FAULTS.split(";")]
    lines: dict[str, list[str]] = {}
    good, bad = [], []
    for number, word in enumerate(["ant", "bee", "cat", "dog"]):
        lines[word] = []
        for row, spoilt in enumerate(rng.permutation([True] * 25_000 + [False] * 6_000)):
            key, fault = 1_000_000 * number + row, faults[rng.integers(len(faults))]
            lines[word].append(faulty(fault, key, word, rng) if spoilt else csv_line(key, word))
            if spoilt:
                bad.append((word, row + 2, fault))
            else:
                good.append(key)
    write_competition(tmp_path, lines, threads=2, max_rejected=1.0)
    assert shuffle_peak(tmp_path) < 500, "megabytes: rejects are written as they come"
    assert sorted(key for key, _, _ in kept_rows(tmp_path / "folds/synthetic")) == good
    found = [
        (Path(each["file"]).stem, int(each["line"]), each["reason"].split(": ")[0])
        for each in rejected(tmp_path / "folds/synthetic" / "rejects.csv")
    ]
    assert len(found) == 100_000
    assert found == bad


def shuffle_peak(home):
    """Run the stage in a process of its own; the most that it held at a time, in MB."""
    # VmHWM, not ru_maxrss: that starts at what the process that started this one held.
    measured = "from pipeline.stages import shuffle; shuffle.main(); print(open('/proc/self/status').read())"
    output = subprocess.run(
        [sys.executable, "-c", measured],
        cwd=home,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    found = re.search(r"VmHWM:\s+(\d+) kB", output)
    assert found
    return int(found[1]) / 1024


def test_another_seed_moves_rows_within_their_shards_alone(tmp_path):
    write_competition(tmp_path, small())
    folds = run_shuffle(tmp_path)
    before, placed = contents(folds), homes(folds)
    write_competition(tmp_path, small(), seed=2019)
    folds = run_shuffle(tmp_path)
    assert homes(folds) == placed
    assert list(homes(folds)) != list(placed)
    after = contents(folds)
    assert {name for name in after if after[name] != before[name]} >= {"summary.json", "fold0/0000.arrow"}
    assert after["test/0000.arrow"] == before["test/0000.arrow"]


def test_rows_are_shuffled_across_words(tmp_path):
    many = {word: lines_of(word, range(start, start + 60)) for start, word in ((0, "ant"), (100, "bee"))}
    write_competition(tmp_path, many, shards=1)
    for path in run_shuffle(tmp_path).glob("fold*/*.arrow"):
        frame = pd.read_feather(path)
        assert (frame["word"].diff().abs() > 0).sum() > 5
        assert not frame["key_id"].is_monotonic_increasing


def test_ndjson_gives_the_same_bytes_as_csv(tmp_path):
    write_competition(tmp_path, small())
    before = contents(run_shuffle(tmp_path))
    (train := tmp_path / "data" / "synthetic" / "train_simplified").rename(tmp_path / "away")
    as_json = {"ant": lines_of("ant", range(1, 13), ndjson_line)}
    write_competition(
        tmp_path, {**as_json, "wine glass": lines_of("wine glass", range(101, 113), ndjson_line)}, suffix=".ndjson"
    )
    assert all(path.suffix == ".ndjson" for path in train.iterdir())
    assert contents(run_shuffle(tmp_path)) == before


@pytest.mark.parametrize("block", [64, 2**22])
def test_test_rows_keep_the_order_of_their_file(tmp_path, monkeypatch, block):
    monkeypatch.setattr(readers, "TEST_SHARD", 4)
    monkeypatch.setattr(shuffle, "TEST_SHARD", 4)
    monkeypatch.setattr(rawfiles, "BLOCK", block)
    monkeypatch.setattr(spill, "ROWS", 2)
    long = 9_000_000_000_000_000_001  # 19 digits, which the compiled reader leaves to records
    keys = [909, long, 903, 907, 901, 908, 902, 906]
    test = [line_of_test(key) for key in keys]
    broken = [*test[:2], "5,NA", *test[2:], line_of_test(907)]
    write_competition(tmp_path, small(), test=broken, max_rejected=1.0)
    folds = run_shuffle(tmp_path)
    shards = open_shards([folds / "test"])
    assert shards.key_id.tolist() == keys
    assert set(shards.word.tolist()) == {-1}
    drawings = shards[:]
    assert [[x.tolist(), y.tolist()] for x, y in drawings.strokes_of(5)] == sketch(908)
    assert [len(shard) for shard in shards.shards] == [4, 4, 0], "the last held the duplicate"
    assert [(row["line"], row["reason"]) for row in rejected(folds / "rejects.csv")] == [
        ("4", "2 fields in place of 3"),
        ("11", "duplicate key_id: test_simplified.csv line 6 is kept"),
    ]


def test_each_shard_is_one_record_batch_that_pandas_reads_too(tmp_path, monkeypatch):
    monkeypatch.setattr(rawfiles, "BLOCK", 64)
    monkeypatch.setattr(spill, "ROWS", 2)
    write_competition(tmp_path, small())
    paths = sorted(run_shuffle(tmp_path).glob("*/*.arrow"))
    assert len(paths) == FOLDS * SHARDS + 1
    for path in paths:
        reader = pa.ipc.open_file(path)
        assert reader.num_record_batches == 1
        assert pd.read_feather(path)["key_id"].tolist() == reader.read_all()["key_id"].to_pylist()


def test_the_summary_adds_up(tmp_path):
    broken = [csv_line(900, "ant", drawing="[]"), csv_line(901, "ant", word="bee"), csv_line(902, "ant", word="cat")]
    write_competition(tmp_path, small(ant=[*lines_of("ant", range(1, 13)), *broken]), max_rejected=1.0)
    folds = run_shuffle(tmp_path)
    summary = json.loads((folds / "summary.json").read_text())
    assert summary["rows_in"] == 12 + 3 + 12 + 4
    assert summary["rows_in"] == sum(summary["rows_out"].values()) + sum(summary["rejected"].values())
    assert summary["rejected"] == {"drawing has no strokes": 1, "word is not the file's": 2}
    counted = Counter(home.split("/")[0] for home in homes(folds).values())
    assert summary["rows_out"] == {**counted, "test": 4}
    assert summary["rows_a_word"] == {"ant": 12, "wine_glass": 12}
    assert summary["words_hash"] == load_words(folds).hash
    assert set(summary["shards"]) == {str(path.relative_to(folds)) for path in folds.glob("*/*.arrow")}
    assert len(set(summary["shards"].values())) == FOLDS * SHARDS + 1


def test_too_many_rejects_stop_the_stage_and_leave_the_old_folds(tmp_path, capsys):
    write_competition(tmp_path, small())
    before = contents(run_shuffle(tmp_path))
    quotes = ['NA,"[[[1]"x', csv_line(950, "ant")[:-10]] * 2
    broken = [
        *(csv_line(900 + row, "ant", drawing="[]") for row in range(3)),
        *quotes,
        csv_line(990, "ant", word="bee"),
    ]
    write_competition(tmp_path, small(ant=[*lines_of("ant", range(1, 13)), *broken]), max_rejected=0.05)
    text = failing_shuffle(tmp_path)
    assert text == (
        "Error: 8 of 36 rows were rejected, more than shuffle.max_rejected (5.00%): drawing has no strokes (3 rows); "
        "line is not CSV (2 rows); 5 fields in place of 6 (2 rows). The first is line 14 of "
        "data/synthetic/train_simplified/ant.csv. logs/synthetic/rejects.csv lists each with its file and line; fix "
        "the files or raise shuffle.max_rejected."
    )
    assert contents(tmp_path / "folds/synthetic") == before
    rejects = rejected(tmp_path / "logs/synthetic" / "rejects.csv")
    assert [int(row["line"]) for row in rejects] == list(range(14, 14 + len(broken)))
    assert "36 rows in = 28 rows out + 8 rejected" in capsys.readouterr().out


def test_a_share_of_rejects_within_the_limit_is_passed(tmp_path):
    write_competition(tmp_path, small(ant=[*lines_of("ant", range(1, 13)), "?"]), max_rejected=1 / 29)
    assert len(rejected(run_shuffle(tmp_path) / "rejects.csv")) == 1


def test_lost_rows_stop_the_stage():
    with pytest.raises(SketchstackError, match="10 rows in, but 8 rows out and 1 rejected: rows were lost"):
        check_counts(10, 8, Counter({"drawing is not JSON": 1}), 1.0, Path("rejects.csv"))


def test_a_word_that_loses_all_its_rows_stops_the_stage(tmp_path):
    write_competition(tmp_path, small(ant=[csv_line(1, "ant", drawing="[]")]), max_rejected=1.0)
    text = failing_shuffle(tmp_path)
    assert "train_simplified/ant.csv leaves the word 'ant' with 0 rows (1 read, see logs/synthetic/rejects.csv" in text
    assert not (tmp_path / "folds/synthetic").exists()


def test_a_test_file_without_usable_rows_stops_the_stage(tmp_path):
    write_competition(tmp_path, small(), test=[line_of_test(1, drawing=[])])
    text = failing_shuffle(tmp_path)
    assert "test_simplified.csv has no usable rows: 1 read, all rejected, the first, line 2, because" in text
    assert "drawing has no strokes" in text


def test_text_that_utf8_cannot_hold_is_written_to_the_rejects_escaped(tmp_path):
    half_a_pair = ndjson_line(1, "ant", key_id="\ud800")
    lines = {"ant": lines_of("ant", range(1, 13), ndjson_line), "bee": lines_of("bee", range(101, 113), ndjson_line)}
    lines["ant"].append(half_a_pair)
    write_competition(tmp_path, lines, suffix=".ndjson", max_rejected=1.0)
    (reject,) = rejected(run_shuffle(tmp_path) / "rejects.csv")
    assert reject["key_id"] == r"\ud800"


def test_the_command_ends_on_bad_input_with_a_paragraph_and_exit_code_1(tmp_path):
    write_competition(tmp_path, small(), threads=2)
    write_lines(tmp_path / "data/synthetic/train_simplified/ant.csv", [HEADER, csv_line(1, "bee")])
    command = [sys.executable, "-m", "pipeline.stages.shuffle"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    paragraph = " ".join(ended.stderr.rpartition("\n\n")[2].split())
    assert paragraph == (
        "Error: data/synthetic/train_simplified/ant.csv, line 2: the word is 'bee', but the file's name says 'ant'; "
        "rename the file after the word of its rows, or bring back the right file."
    )


def test_a_drawing_in_both_the_training_and_the_test_files_stops_the_stage(tmp_path):
    write_competition(tmp_path, small(), test=[line_of_test(500), line_of_test(105)])
    text = failing_shuffle(tmp_path)
    assert "wine glass.csv, line 6: key_id 105 is in data/synthetic/test_simplified.csv too (1 such rows" in text
    assert not (tmp_path / "folds/synthetic").exists()
