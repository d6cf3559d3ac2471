from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from bench.browser import checked, chromium
from pipeline.commands import relabel
from pipeline.drawings.shards import open_shards
from pipeline.drawings.words import Words, load_words, spell
from pipeline.raw.corrections import read_corrections
from pipeline.stages import shuffle as shuffle_stage
from tests.conftest import failing_main, run_main

FOLDER = "data/synthetic"


def sheet(copied_run: Path) -> pd.DataFrame:
    return pd.read_csv(copied_run / "look" / relabel.SHEET, dtype=str, keep_default_na=False)


def test_suspects_go_out_with_pictures_and_come_back_as_corrections_that_shuffle_applies(
    copied_run, finished_run, capsys
):
    run_main(relabel, "--export", "look", "--rows", "8")
    found = sheet(copied_run)
    assert tuple(found.columns) == relabel.COLUMNS
    assert len(found) == 8
    assert all((copied_run / "look" / f"{key_id}.png").read_bytes()[:4] == b"\x89PNG" for key_id in found["key_id"])
    assert (copied_run / "look" / relabel.PAGE).read_text().count("<img") == 8
    shown = [spell(finished_run.shown[int(key_id)]) for key_id in found["key_id"]]
    found["becomes"] = [*shown[:5], "drop", "keep", ""]
    found.to_csv(copied_run / "look" / relabel.SHEET, index=False)
    capsys.readouterr()
    run_main(relabel, "--take", f"look/{relabel.SHEET}")
    said = capsys.readouterr().out
    assert "7 lines of corrections.csv are new or changed; 1 rows" in said
    assert len(read_corrections()) == 7
    before = load_words(copied_run / "folds/synthetic")
    run_main(shuffle_stage)
    shards = open_shards([copied_run / f"folds/synthetic/fold{fold}" for fold in range(3)])
    words = dict(zip(shards.key_id.tolist(), (before.names[word] for word in shards.word), strict=True))
    key_ids = [int(key_id) for key_id in found["key_id"]]
    assert [words.get(key_id) for key_id in key_ids] == [*shown[:5], None, *found["word"][6:]]


def test_decided_rows_are_not_exported_again(copied_run):
    run_main(relabel, "--export", "look", "--rows", "6")
    first = sheet(copied_run)
    first["becomes"] = ["keep"] * 4 + ["", ""]
    first.to_csv(copied_run / "look" / relabel.SHEET, index=False)
    run_main(relabel, "--take", f"look/{relabel.SHEET}")
    shutil.rmtree(copied_run / "look")
    run_main(relabel, "--export", "look", "--rows", "6")
    assert sheet(copied_run)["key_id"].tolist()[:2] == first["key_id"].tolist()[4:]


@pytest.mark.skipif(chromium() is None, reason="there is no Chromium on the PATH")
def test_the_page_is_as_good_as_the_report(copied_run):
    run_main(relabel, "--export", "look", "--rows", "6")
    assert checked(copied_run / "look" / relabel.PAGE).all() == []


def test_a_sheet_that_is_being_filled_in_is_not_written_over(copied_run):
    (copied_run / "look").mkdir()
    assert "would be lost" in failing_main(relabel, "--export", "look")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "7,barn,barm",
            r"row 2 \(line 3\) has the word 'barm', which is not one of the 30 words.*: bear",
        ),
        ("7,barm,barn", "has the word 'barm'"),
        ("7x,barn,cat", "which is not a 64-bit integer"),
        ("5,barn,cat", "repeats the key_id 5"),
    ],
)
def test_a_bad_line_of_a_sheet_is_named_and_nothing_is_recorded(copied_run, line, said):
    before = (copied_run / "corrections.csv").read_text()
    (copied_run / "s.csv").write_text(f"folder,key_id,word,becomes\n{FOLDER},5,barn,drop\n{FOLDER},{line}\n")
    assert re.search(said, failing_main(relabel, "--take", "s.csv"))
    assert (copied_run / "corrections.csv").read_text() == before


def test_a_run_that_is_not_stacked_has_no_suspects_yet(copied_run):
    shutil.rmtree(copied_run / "models/synthetic/meta")
    assert "`dvc repro stack` makes it" in failing_main(relabel, "--export", "look")
    assert not (copied_run / "look").exists()


def test_a_sheet_of_another_folder_is_refused(copied_run):
    (copied_run / "s.csv").write_text("folder,key_id,word,becomes\ndata/mini,5,barn,drop\n")
    said = failing_main(relabel, "--take", "s.csv")
    assert "row 1 (line 2) is of 'data/mini', but params.yaml names 'data/synthetic'" in said
    assert read_corrections() == []


def test_words_like_formulas_come_back_from_a_sheet_as_they_were(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("s.csv").write_text("folder,key_id,word,becomes\n'=f,5,'=c+1,ant\n'=f,6,ant,'=c+1\n")
    assert relabel.take(Path("s.csv"), "=f", Words.from_names(["ant", "=c+1"])) == (2, 0)
    assert [each[1:] for each in read_corrections()] == [(5, "=c+1", "ant"), (6, "ant", "=c+1")]


def spoilt(copied_run: Path, change) -> str:
    """What is said of a sheet that a spreadsheet has changed before it was taken; nothing may be recorded."""
    run_main(relabel, "--export", "look", "--rows", "6")
    found = sheet(copied_run)
    found["becomes"] = "drop"
    change(found).to_csv(copied_run / "look" / relabel.SHEET, index=False)
    said = failing_main(relabel, "--take", f"look/{relabel.SHEET}")
    assert read_corrections() == []
    return said


@pytest.mark.parametrize("digits", [15, 10, 6])
def test_key_ids_that_a_spreadsheet_has_rounded_are_not_believed(copied_run, digits):
    def rounded(found):
        zeros = 16 - digits
        return found.assign(
            key_id=[f"{str(key_id)[:digits]}{'0' * zeros}" for key_id in found["key_id"]]
        ).drop_duplicates("key_id")

    said = spoilt(copied_run, rounded)
    assert "keeps 15 digits" in said
    assert "column of text" in said


def test_key_ids_with_an_exponent_are_not_believed(copied_run):
    assert "not a 64-bit integer" in spoilt(copied_run, lambda found: found.assign(key_id="9.00E+15"))


def test_a_column_that_was_sorted_alone_is_found(copied_run):
    said = spoilt(copied_run, lambda found: found.assign(word=sorted(found["word"], reverse=True)))
    assert "no longer belong together" in said


def test_a_row_of_no_drawing_is_named(copied_run):
    said = spoilt(copied_run, lambda found: found.assign(key_id=[*found["key_id"][:-1], "12345"]))
    assert "row 6 (line 7) has the key_id 12345, which no training drawing of data/synthetic has" in said


def test_other_spellings_of_words_and_decisions_are_taken(copied_run):
    run_main(relabel, "--export", "look", "--rows", "5")
    found = sheet(copied_run)
    found["becomes"] = ["Wine Glass", " DROP ", "Keep", "ice-cream", "T SHIRT"]
    names = load_words(copied_run / "folds/synthetic").names
    wanted = ["wine_glass", "drop", "keep", *(name for name in ("ice_cream", "t-shirt") if name in names)]
    found = found[: len(wanted)].assign(word=[word.upper() for word in found["word"][: len(wanted)]])
    found.to_csv(copied_run / "look" / relabel.SHEET, index=False)
    run_main(relabel, "--take", f"look/{relabel.SHEET}")
    taken = {str(each.key_id): each.becomes for each in read_corrections()}
    assert [taken[key_id] for key_id in found["key_id"]][:3] == wanted[:3]


def test_a_sheet_is_taken_again_after_its_rows_have_left_the_run(copied_run):
    run_main(relabel, "--export", "look", "--rows", "4")
    found = sheet(copied_run)
    found["becomes"] = "drop"
    found.to_csv(copied_run / "look" / relabel.SHEET, index=False)
    run_main(relabel, "--take", f"look/{relabel.SHEET}")
    run_main(shuffle_stage)
    found["becomes"] = "keep"
    found.to_csv(copied_run / "look" / relabel.SHEET, index=False)
    run_main(relabel, "--take", f"look/{relabel.SHEET}")
    assert [each.becomes for each in read_corrections()] == ["keep"] * 4
