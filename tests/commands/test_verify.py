"""`sketchstack verify`: what it prints and writes, and how it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from pipeline.commands import verify
from pipeline.drawings.words import Words, load_words
from pipeline.foundation.contents import seal
from pipeline.foundation.params import load_params
from pipeline.foundation.spreadsheets import cell_text
from pipeline.predictions.verification import count_scores
from tests.conftest import failing_main, run_main

META, GRU = Path("models/synthetic/meta"), Path("models/synthetic/base/gru/fold0")


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def change(path: Path, at, value) -> None:
    """Change numbers of a saved array, and the hash that its folder keeps."""
    array = np.load(path)
    array[at] = value
    np.save(path, array)
    seal(next(folder for folder in (path.parent, path.parent.parent) if (folder / "contents.json").exists()))


def test_it_prints_all_words_and_the_hardest_and_easiest(copied_run, capsys):
    run_main(verify)
    told = capsys.readouterr().out
    words = load_words(Path("folds/synthetic"))
    scores = count_scores([np.load(META / "super_learner/oof.npy")], np.load(META / "labels.npy"), words)
    assert "Verification by super_learner, out of fold: 720 rows of 30 words, 20,880 false claims" in told
    assert f"EER {float(scores.pooled.eer):.1%}" in told
    order = [words.names[label] for label in scores.hardest_first()]
    shown = [line.split()[1] for line in told.splitlines() if line.startswith("│") and " 24 │" in line]
    assert shown == [*order[:5], *order[-5:]]
    assert "1 in 10,000" in told
    assert "~ rough" in told
    assert "* at the threshold of all words" in told


@pytest.mark.parametrize("model", ["gru", "seresnet", "geometric_mean", "super_learner"])
def test_the_files_hold_every_word_and_are_of_the_model(copied_run, model, capsys):
    run_main(verify, "--model", model, "--out", "verified")
    assert "Written to verified: verification.json, verification.csv, det.png." in capsys.readouterr().out
    assert {path.name for path in Path("verified").iterdir()} == {
        "verification.json", "verification.csv", "det.png", "contents.json"
    }  # fmt: skip
    if model in ("gru", "seresnet"):
        parts = [np.load(f"models/synthetic/base/{model}/fold{fold}/oof.npy") for fold in load_params().folds]
    else:
        parts = [np.load(META / model / "oof.npy")]
    words = load_words(Path("folds/synthetic"))
    scores = count_scores(parts, np.load(META / "labels.npy"), words)
    content, rows = (
        json.loads(Path("verified/verification.json").read_text()),
        read_csv(Path("verified/verification.csv")),
    )
    assert (content["model"], content["rows"]) == (model, 720)
    assert content["all"]["eer"] == pytest.approx(float(scores.pooled.eer))
    assert content["all"]["eer_interval"][0] <= content["all"]["eer"] <= content["all"]["eer_interval"][1]
    assert [row["word"] for row in rows] == [each["word"] for each in content["words"]] == list(words.names)
    np.testing.assert_allclose([float(row["eer"]) for row in rows], scores.eers)
    found = [float(row["threshold_100"]) for row in rows]
    np.testing.assert_array_equal(found, scores.thresholds(0.01))
    assert {row["threshold_of_100"] for row in rows} == {"all words"}
    assert all(float(row["eer_low"]) <= float(row["eer"]) <= float(row["eer_high"]) for row in rows)
    assert Path("verified/det.png").read_bytes()[:4] == b"\x89PNG"


def test_the_same_run_gives_the_same_files_and_takes_the_place_of_its_own(copied_run):
    run_main(verify, "--out", "verified")
    first = {path.name: path.read_bytes() for path in Path("verified").iterdir()}
    run_main(verify, "--out", "verified")
    assert {path.name: path.read_bytes() for path in Path("verified").iterdir()} == first


def test_files_of_others_are_left_alone(copied_run):
    Path("mine").mkdir()
    Path("mine/verification.csv").write_text("my notes\n")
    assert "mine/verification.csv is in the way" in failing_main(verify, "--out", "mine")
    assert Path("mine/verification.csv").read_text() == "my notes\n"
    Path("note").write_text("")
    assert "note is in the way" in failing_main(verify, "--out", "note")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("serenset", "do you mean seresnet?"),
        ("strokenet", "--model strokenet is not in params.yaml, which names gru, seresnet"),
        ("superlearner", "do you mean super_learner?"),
        ("", "which names gru, seresnet"),
        ("../../etc/passwd", "is not in params.yaml"),
    ],
)
def test_an_unknown_model_is_refused_with_the_names(copied_run, model, said):
    assert said in failing_main(verify, "--model", model)


def test_a_learner_that_is_gone_takes_only_its_own_figures(copied_run, capsys):
    shutil.rmtree(GRU)
    assert "models/synthetic/base/gru/fold0" in failing_main(verify, "--model", "gru")
    run_main(verify, "--model", "seresnet")
    run_main(verify)
    assert "Verification by super_learner" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("models/synthetic/meta", "models/synthetic/meta"),
        ("folds", "dvc repro shuffle"),
        ("models/synthetic/meta/super_learner/oof.npy", "models/synthetic/meta/super_learner/oof.npy"),
        ("models/synthetic/meta/labels.npy", "models/synthetic/meta/labels.npy"),
        ("params.yaml", "params.yaml"),
    ],
)
def test_what_is_not_there_is_named_with_what_makes_it(copied_run, gone, said):
    place = Path(gone)
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    told = failing_main(verify)
    assert said in told
    assert "run" in told


def test_damaged_numbers_are_refused(copied_run):
    place = META / "super_learner/oof.npy"
    whole = place.read_bytes()
    place.write_bytes(whole[:-40])
    assert "super_learner/oof.npy" in failing_main(verify)
    place.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "super_learner/oof.npy" in failing_main(verify)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("model", "place"), [("gru", GRU / "oof.npy"), ("super_learner", META / "super_learner/oof.npy")]
)
def test_a_failed_prediction_is_refused(copied_run, model, place, value):
    change(place, (3, 2), value)
    assert "so a prediction failed" in failing_main(verify, "--model", model)


@pytest.mark.parametrize("value", [-0.5, 1.5, 60000])
def test_what_is_no_probability_is_refused(copied_run, value):
    change(META / "super_learner/oof.npy", (3, 2), value)
    assert "row 3 has the probability" in failing_main(verify)


def test_labels_of_other_rows_are_refused(copied_run):
    labels = np.load(META / "labels.npy")
    np.save(META / "labels.npy", labels[:-5])
    seal(META)
    assert "rows.npy has 720 rows, labels.npy 715" in failing_main(verify)


def test_a_word_without_rows_is_left_blank(copied_run, capsys):
    labels = np.load(META / "labels.npy")
    change(META / "labels.npy", labels == 4, 5)
    run_main(verify, "--out", "verified")
    assert "of 29 words" in capsys.readouterr().out
    row, content = (
        read_csv(Path("verified/verification.csv"))[4],
        json.loads(Path("verified/verification.json").read_text()),
    )
    assert (row["rows"], row["eer"], row["frr_100"], row["threshold_of_100"]) == ("0", "", "", "all words")
    assert content["words"][4]["eer"] is None
    assert float(row["threshold_100"]) == content["all"]["points"][0]["threshold"]


def test_all_rows_of_one_word_are_refused(copied_run):
    change(META / "labels.npy", slice(None), 0)
    assert "needs rows of two words or more" in failing_main(verify)


def test_words_are_text_in_a_spreadsheet_and_in_the_terminal(copied_run, capsys):
    words = Words(("=SUM(A1)", "@x", "[red]rose[/]", "a,b"))
    random = np.random.default_rng(0)
    scores = count_scores([random.random((40, 4))], np.arange(40) % 4, words)
    verify.write("gru", scores, words, load_params(), Path("verified"))
    cells = [row["word"] for row in read_csv(Path("verified/verification.csv"))]
    assert cells == ["'=SUM(A1)", "'@x", "[red]rose[/]", "a,b"]
    assert [cell_text(cell) for cell in cells] == list(words.names)
    verify.show("gru", scores, words, 0, Console(width=120))
    told = capsys.readouterr().out
    assert all(name in told for name in words.names)


def test_a_threshold_that_no_probability_reaches_is_said_in_words(copied_run, capsys):
    words = Words(("bee", "cat"))
    labels = np.arange(40) % 2
    probabilities = np.eye(2)[labels]
    probabilities[:2] = probabilities[1::-1]  # sure of the wrong word
    scores = count_scores([probabilities], labels, words)
    verify.write("gru", scores, words, load_params(), Path("verified"))
    assert read_csv(Path("verified/verification.csv"))[0]["threshold_100"] == "above 1"
    assert json.loads(Path("verified/verification.json").read_text())["all"]["points"][0]["threshold"] is None
    verify.show("gru", scores, words, 0, Console(width=120))
    assert "above 1" in capsys.readouterr().out
