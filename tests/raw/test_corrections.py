from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.drawings.shards import open_shards
from pipeline.drawings.words import Words, load_words
from pipeline.foundation.errors import SketchstackError
from pipeline.raw.corrections import Correction, corrections_of, read_corrections, record
from tests.conftest import ROOT
from tests.rawfiles import csv_line, failing_shuffle, run_shuffle, sketch, write_competition

HEADER = "folder,key_id,word,becomes\n"
WORDS = Words.from_names(["ant", "bee", "wine glass"])
FOLDER = "data/synthetic"


def competition(home: Path, *corrections: str, **params: object) -> None:
    """Three words of twelve rows, and a file of corrections."""
    lines = {word: [csv_line(100 * at + n, word) for n in range(1, 13)] for at, word in enumerate(WORDS.names)}
    write_competition(home, {word.replace("_", " "): rows for word, rows in lines.items()}, **params)  # type: ignore[arg-type]
    (home / "corrections.csv").write_text(HEADER + "".join(f"{line}\n" for line in corrections))


def labels(folds: Path) -> dict[int, tuple[str, str]]:
    """The fold and the word of each training row."""
    words, found = load_words(folds), {}
    for folder in sorted(folds.glob("fold?")):
        shards = open_shards([folder])
        for key_id, label in zip(shards.key_id.tolist(), shards.word, strict=True):
            found[key_id] = folder.name, words.names[label]
    return found


def test_rows_get_another_word_or_are_dropped_and_nothing_else_changes(tmp_path, capsys):
    competition(tmp_path)
    before = labels(run_shuffle(tmp_path))
    changes = ["3,ant,wine glass", "204,wine_glass,drop", "5,ant,keep", "6,ant,ant"]
    competition(tmp_path, *(f"{FOLDER},{change}" for change in changes), "data/other,7,ant,drop")
    capsys.readouterr()
    after = run_shuffle(tmp_path)
    said = capsys.readouterr().out
    assert labels(after) == {
        key_id: (fold, "wine_glass" if key_id == 3 else word)
        for key_id, (fold, word) in before.items()
        if key_id != 204
    }
    assert "40 rows in = 39 rows out + 1 rejected" in said
    assert "2 rows changed or dropped by corrections.csv" in said
    rejects = pd.read_csv(after / "rejects.csv")
    assert rejects[["line", "key_id", "reason"]].values.tolist() == [[5, 204, "corrections.csv: it drops the row"]]


def test_no_corrections_and_corrections_of_other_folders_leave_the_same_bytes(tmp_path):
    competition(tmp_path)
    before = {path: path.read_bytes() for path in run_shuffle(tmp_path).rglob("*") if path.is_file()}
    competition(tmp_path, "data/other,3,ant,drop", f"{FOLDER},4,ant,keep")
    assert {path: path.read_bytes() for path in run_shuffle(tmp_path).rglob("*") if path.is_file()} == before
    (tmp_path / "corrections.csv").unlink()
    assert {path: path.read_bytes() for path in run_shuffle(tmp_path).rglob("*") if path.is_file()} == before


def test_rows_that_share_a_key_id_are_counted_once(tmp_path, capsys):
    competition(tmp_path, f"{FOLDER},3,ant,drop", max_rejected=1.0)
    place = tmp_path / FOLDER / "train_simplified" / "ant.csv"
    place.write_text(place.read_text() + csv_line(3, "ant", drawing=sketch(77)) + "\n")
    run_shuffle(tmp_path)
    assert "41 rows in = 39 rows out + 2 rejected" in capsys.readouterr().out


def test_what_corrections_drop_does_not_count_as_rejected(tmp_path):
    lines = [f"{FOLDER},{key_id},ant,drop" for key_id in range(1, 7)]
    competition(tmp_path, *lines, max_rejected=0.0)
    assert len(labels(run_shuffle(tmp_path))) == 30


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"{FOLDER},999,ant,bee", "corrects key_id 999 of the word 'ant', but data/synthetic has no such readable row"),
        (f"{FOLDER},3,bee,ant", "corrects key_id 3 of the word 'bee'"),
        (f"{FOLDER},3,ant,beee", "row 1 (line 2): data/synthetic has no word 'beee'; write one of its 3 words"),
        (f"{FOLDER},3,antt,bee", "has no word 'antt'"),
        (f"{FOLDER},3.0,ant,bee", "row 1 (line 2) is not a correction"),
        (f"{FOLDER},3,ant,", "is not a correction"),
        (f"{FOLDER},3,ant", "has 3 fields, but the header names 4"),
        (f"{FOLDER},3,ant,bee\n{FOLDER},3,ant,drop", "row 2 (line 3) corrects 3 of data/synthetic again"),
    ],
)
def test_a_bad_line_stops_the_stage_and_is_named(tmp_path, line, said):
    competition(tmp_path, line)
    assert said in failing_shuffle(tmp_path)
    assert not (tmp_path / "folds/synthetic").exists()


def test_in_a_smaller_competition_a_row_that_shows_a_word_outside_it_is_dropped(tmp_path):
    path = tmp_path / "corrections.csv"
    path.write_text(f"{HEADER}d,1,ant,bee\nd,2,bee,ant\nd,3,wine_glass,ant\n")
    smaller = Words.from_names(["ant", "wine glass"])
    found = corrections_of("d", smaller, every=False, path=path)
    assert found.key_ids.tolist() == [1, 3]
    assert found.becomes.tolist() == [-2, 0]
    places, numbers = found.find(np.array([9, 3, 1]), 0)
    assert (places.tolist(), numbers.tolist()) == ([2], [0])


def test_the_file_in_git_can_be_read():
    assert isinstance(read_corrections(ROOT / "corrections.csv"), list)


def test_recording_is_sorted_and_replaces_an_earlier_line(tmp_path):
    path = tmp_path / "corrections.csv"
    assert record([Correction("d", 9, "ant", "bee"), Correction("d", 10, "ant", "drop")], path) == 2
    assert record([Correction("d", 9, "ant", "keep"), Correction("c", 11, "ant", "keep")], path) == 2
    assert record([Correction("d", 9, "ant", "keep")], path) == 0
    assert path.read_text() == f"{HEADER}c,11,ant,keep\nd,9,ant,keep\nd,10,ant,drop\n"
    assert read_corrections(path)[2] == Correction("d", 10, "ant", "drop")


def test_a_broken_file_is_not_written_over(tmp_path):
    path = tmp_path / "corrections.csv"
    path.write_text("key_id,word\n1,ant\n")
    with pytest.raises(SketchstackError, match="has no column folder"):
        record([Correction("d", 9, "ant", "bee")], path)
    assert path.read_text() == "key_id,word\n1,ant\n"


def _record(path: Path, number: int) -> None:
    record([Correction("d", number * 100 + n, "ant", "drop") for n in range(5)], path)


def test_two_processes_at_once_lose_nothing(tmp_path):
    path = tmp_path / "corrections.csv"
    context = multiprocessing.get_context("spawn")
    running = [context.Process(target=_record, args=(path, number)) for number in range(3)]
    for each in running:
        each.start()
    for each in running:
        each.join()
    assert len(read_corrections(path)) == 15


def test_words_that_would_be_taken_for_decisions_are_refused(tmp_path):
    path = tmp_path / "corrections.csv"
    path.write_text(f"{HEADER}d,1,ant,drop\n")
    with pytest.raises(SketchstackError, match="'drop' is one of its words"):
        corrections_of("d", Words.from_names(["ant", "drop"]), every=True, path=path)


def test_a_file_that_is_pasted_twice_costs_no_more_than_its_rows(tmp_path):
    competition(tmp_path, f"{FOLDER},3,ant,drop", f"{FOLDER},5,ant,bee", max_rejected=1.0)
    place = tmp_path / FOLDER / "train_simplified" / "ant.csv"
    header, *lines = place.read_text().splitlines(keepends=True)
    place.write_text("".join([header, *lines, *lines]))
    folds = run_shuffle(tmp_path)
    assert len(labels(folds)) == 35
    rejects = pd.read_csv(folds / "rejects.csv")
    assert len(rejects) == 13
    assert rejects.duplicated(["file", "line"]).sum() == 0


def test_formulas_in_a_user_s_files_are_none_in_our_tables_and_corrections_of_them_apply(tmp_path):
    """A word is named like a formula, a rejected row has one for a key_id."""
    lines = {
        word: [csv_line(100 * at + n, word) for n in range(1, 13)] for at, word in enumerate(["ant", "bee", "=c+1"])
    }
    lines["ant"].append(csv_line(99, "ant", key_id="=cmd|'/C calc'!A0"))
    write_competition(tmp_path, lines, max_rejected=0.5)
    path = tmp_path / "corrections.csv"
    corrections = [Correction("=f", 7, "-x", "@y"), Correction(FOLDER, 3, "ant", "=c+1")]
    assert record(corrections, path) == 2
    assert path.read_text() == f"{HEADER}'=f,7,'-x,'@y\n{FOLDER},3,ant,'=c+1\n"
    assert read_corrections(path) == corrections
    folds = run_shuffle(tmp_path)
    assert labels(folds)[3][1] == "=c+1"
    rejected = pd.read_csv(folds / "rejects.csv")["key_id"].tolist()
    assert rejected == ["'=cmd|'/C calc'!A0"]
