import json
import unicodedata
from pathlib import Path

import pytest
import yaml

from pipeline.commands import score as score_command
from pipeline.foundation.errors import SketchstackError
from pipeline.stages import score as score_stage
from pipeline.submissions.scoring import score

SYNTHETIC = Path(__file__).parents[2] / "profiles/synthetic.yaml"


def csv_file(path, rows, header="key_id,word"):
    path.write_text("\n".join([header, *rows, ""]))
    return path


@pytest.fixture
def labels(tmp_path):
    return csv_file(tmp_path / "labels.csv", ["1,ant", "2,wine glass", "3,cat", "4,dog"])


@pytest.fixture
def submission(tmp_path):
    return csv_file(tmp_path / "s.csv", ["4,ant dog cat", "1,ant bee cat", "2,ant bee wine_glass", "3,ant bee dog"])


def test_rows_meet_by_key_id_and_guesses_count_by_their_place(submission, labels):
    map3, top1 = score(submission, labels)
    assert map3 == pytest.approx((1 / 2 + 1 + 1 / 3 + 0) / 4)
    assert top1 == pytest.approx(1 / 4)


def test_fewer_guesses_than_three_are_scored(tmp_path, labels):
    short = csv_file(tmp_path / "short.csv", ["1,ant", "2,cat wine_glass", "3,dog", "4,dog"])
    assert score(short, labels) == (pytest.approx((1 + 1 / 2 + 0 + 1) / 4), pytest.approx(1 / 2))


def test_the_command_prints_both_scores(submission, labels, capsys):
    score_command.main([str(submission), str(labels)])
    assert "MAP@3 0.4583, top-1 0.2500" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "header", "told"),
    [
        (["1,ant", "2,bee", "3,cat"], "key_id,word", r"s.csv row 1 \(line 2\) has key_id 4, which .*labels.csv lacks"),
        (
            ["1,a", "2,b", "3,c", "4,d", "5,e"],
            "key_id,word",
            r"labels.csv row 5 \(line 6\) has key_id 5, which .*s.csv",
        ),
        (["1,ant", "2,", "3,cat", "4,dog"], "key_id,word", r"labels.csv row 2 \(line 3\) has no word"),
        (["1,ant", "x,bee"], "key_id,word", r"row 2 \(line 3\) has the key_id 'x'.*64-bit integer"),
        (["1,ant", "1.0,bee"], "key_id,word", "1.0"),
        (["1,ant", "18446744073709551616,bee"], "key_id,word", "18446744073709551616"),
        (["1,ant", "1,bee"], "key_id,word", r"row 2 \(line 3\) repeats the key_id 1 of row 1"),
        (["1,ant,x"], "key_id,word", "row 1 .* has 3 fields, but the header names 2"),
        (["1,ant"], "key,word", "no column key_id"),
    ],
)
def test_bad_labels_are_named(tmp_path, submission, rows, header, told):
    with pytest.raises(SketchstackError, match=told):
        score(submission, csv_file(tmp_path / "labels.csv", rows, header))


@pytest.mark.parametrize("row", ["1,", "1,ant bee cat dog"])
def test_no_guess_and_too_many_are_refused(tmp_path, labels, row):
    with pytest.raises(SketchstackError, match=r"row 1 .*guesses; write one to three"):
        score(csv_file(tmp_path / "s.csv", [row]), labels)


def test_missing_and_unreadable_files_are_named(tmp_path, submission, labels):
    with pytest.raises(SketchstackError, match=r"none.csv is missing"):
        score(submission, tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("key_id,word\n1,caf\xe9\n".encode("latin-1"))
    with pytest.raises(SketchstackError, match=r"latin.csv cannot be read as a CSV in UTF-8"):
        score(submission, tmp_path / "latin.csv")


@pytest.fixture
def project(tmp_path, monkeypatch, submission, labels):
    """A project with two submissions, of which only the first is among the best three."""
    monkeypatch.chdir(tmp_path)
    params = yaml.safe_load(SYNTHETIC.read_text())
    params["data"] |= {"folder": ".", "labels": "labels.csv"}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    Path("submissions/synthetic").mkdir(parents=True)
    for rank, (name, map3) in enumerate({"zebra": 0.8, "aardvark": 0.7}.items(), 1):
        Path(f"submissions/synthetic/{name}.csv").write_bytes(submission.read_bytes())
        manifest = {"name": name, "rank": rank, "best_three": rank == 1, "oof": {"map3": map3, "low": 0.6, "high": 0.9}}
        Path(f"submissions/synthetic/{name}.json").write_text(json.dumps(manifest))
    return params


def test_all_submissions_are_scored_beside_their_oof_score_best_first(project, capsys):
    score_stage.main()
    printed = capsys.readouterr().out
    assert json.loads(Path("reports/synthetic/out_of_fold.json").read_text()) == {"zebra": 0.8, "aardvark": 0.7}
    assert json.loads(Path("reports/synthetic/test.json").read_text()) == {"zebra": 0.458333, "aardvark": 0.458333}
    lines = [line.split() for line in printed.splitlines() if "aardvark" in line or "zebra" in line]
    assert lines == [
        ["★", "zebra", "0.8000", "0.6000–0.9000", "0.4583", "0.2500"],
        ["aardvark", "0.7000", "0.6000–0.9000", "0.4583", "0.2500"],
    ]
    assert Path("reports/synthetic/scores.txt").read_text() == printed


def test_without_labels_only_the_oof_scores_are_written(project, capsys):
    project["data"]["labels"] = None
    Path("params.yaml").write_text(yaml.safe_dump(project))
    score_stage.main()
    assert json.loads(Path("reports/synthetic/out_of_fold.json").read_text()) == {"zebra": 0.8, "aardvark": 0.7}
    assert json.loads(Path("reports/synthetic/test.json").read_text()) == {}
    assert "not known: scores are out of fold only" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["a.csv"], ["a.csv", "b.csv", "c.csv"]])
def test_unclear_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        score_command.main(arguments)
    assert stopped.value.code == 2
    assert "usage: sketchstack score" in capsys.readouterr().err


def test_a_project_without_submissions_says_how_to_write_them(project):
    for path in Path("submissions/synthetic").iterdir():
        path.unlink()
    with pytest.raises(SystemExit, match=r"holds no submissions; run `dvc repro submit`"):
        score_stage.main()


@pytest.mark.parametrize(
    "spelled", ["Wine Glass", "wine_glass ", "WINE-GLASS", "wine glass", "  wine  glass", "Wine_glass"]
)
def test_a_label_in_another_spelling_counts(tmp_path, submission, labels, spelled):
    expected = score(submission, labels)
    assert score(submission, csv_file(tmp_path / "l.csv", ["1,ANT", f"2,{spelled}", "3,cat", "4,dog"])) == expected


def test_normal_forms_are_one_spelling(tmp_path):
    composed, split = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")
    for one, other in ((composed, split), (split, composed)):
        guesses, truth = csv_file(tmp_path / "s.csv", [f"1,{one} a b"]), csv_file(tmp_path / "l.csv", [f"1,{other}"])
        assert score(guesses, truth) == (1, 1)


def test_words_that_differ_in_their_spelling_alone_stay_apart(tmp_path):
    guesses = csv_file(tmp_path / "s.csv", ["1,Polish polish x", "2,polish Polish x"])
    assert score(guesses, csv_file(tmp_path / "l.csv", ["1,polish", "2,polish"])) == (0.75, 0.5)


def test_guesses_in_another_spelling_count_with_a_warning(tmp_path, labels, capsys):
    train = tmp_path / "train_simplified"
    train.mkdir()
    for word in ("ant", "bee", "wine glass", "cat", "dog"):
        (train / f"{word}.csv").touch()
    rows = ["1,Ant bee cat", "2,Wine-Glass ant bee", "3,cat bee dog", "4,dog cat ant"]
    assert score(csv_file(tmp_path / "s.csv", rows), labels) == (1, 1)
    assert "2 rows of" in capsys.readouterr().out


@pytest.mark.parametrize("word", ["wine glas", "3-Mar", "17", "#NAME?", "TRUE"])
def test_a_label_that_is_no_word_of_the_competition_is_refused(tmp_path, submission, word):
    (tmp_path / "train_simplified").mkdir()
    for name in ("ant", "bee", "wine glass", "cat", "dog"):
        (tmp_path / "train_simplified" / f"{name}.csv").touch()
    with pytest.raises(SketchstackError, match=r"row 2 \(line 3\) has the word .*none of the 5 words"):
        score(submission, csv_file(tmp_path / "l.csv", ["1,ant", f"2,{word}", "3,cat", "4,dog"]))


def test_labels_of_which_no_word_is_guessed_are_told(tmp_path, submission, capsys):
    assert score(submission, csv_file(tmp_path / "l.csv", ["1,Ameise", "2,Weinglas", "3,Katze", "4,Hund"])) == (0, 0)
    assert "no word of" in capsys.readouterr().out


def test_rounded_labels_and_guesses_are_told_apart_from_other_rows(tmp_path):
    exact = [9_000_003_627_287_624, 9_000_010_688_666_847, 9_000_023_642_890_129]
    one = csv_file(tmp_path / "s.csv", [f"{key_id},ant bee cat" for key_id in exact])
    other = csv_file(tmp_path / "l.csv", [f"{key_id // 10 * 10},ant" for key_id in exact])
    for guesses, truth in ((one, other), (other, one)):
        with pytest.raises(SketchstackError, match="15 digits"):
            score(guesses, truth)
