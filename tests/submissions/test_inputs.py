"""All that a run uses is refused before anything is trained, or is taken for what it clearly means."""

from __future__ import annotations

import gzip
import shutil
import unicodedata
from pathlib import Path

import pytest
import yaml

from pipeline.commands import check as check_command
from pipeline.foundation.params import Params, load_params
from pipeline.stages import fingerprint as fingerprint_stage
from pipeline.submissions import inputs
from tests.conftest import failing_main, run_main
from tests.rawfiles import csv_line, line_of_test, ndjson_line, write_competition, write_lines

FOLDER = Path("data/own")
FIRST = 9_000_000_000_000_001  # a key_id with more digits than a spreadsheet keeps
TEST = [FIRST + 1013 * row for row in range(8)]
WORDS = ("ant", "café", "wine glass", "t-shirt", "The Eiffel Tower")


def competition(words=WORDS, suffix=".csv", **changes):
    """A competition of one's own in the working folder: five words, eight test drawings, labels."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    line = csv_line if suffix == ".csv" else ndjson_line
    train = {word: [line(100 * at + row, word) for row in range(4)] for at, word in enumerate(words)}
    test = [line_of_test(key_id) for key_id in TEST]
    write_competition(Path(), train, test, suffix, folder=str(FOLDER), **changes)
    write_lines(FOLDER / "sample_submission.csv", ["key_id,word", *(f"{key_id},ant ant ant" for key_id in TEST)])
    labels()
    edit(lambda params: params["synthesize"].update(competitions=[]))


def labels(*words, key_ids=TEST, header="key_id,word"):
    given = words or [WORDS[row % 5] for row in range(len(key_ids))]
    write_lines(FOLDER / "test_labels.csv", [header, *(f"{a},{b}" for a, b in zip(key_ids, given, strict=True))])


def edit(change):
    params = yaml.safe_load(Path("params.yaml").read_text())
    change(params)
    Path("params.yaml").write_text(yaml.safe_dump(params))


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    competition()
    return tmp_path


@pytest.fixture
def no_models(monkeypatch):
    monkeypatch.setattr(check_command, "check_models", lambda params: None)


@pytest.mark.parametrize("suffix", [".csv", ".ndjson"])
def test_a_right_competition_passes(home, no_models, suffix):
    competition(suffix=suffix)
    run_main(check_command)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("salt, pepper", "the character ,"),
        ('6" nail', 'the character "'),
        ("ice\u00a0cream", "the blank or control character '\\xa0'"),
        ("wide\u3000blank", "the blank or control character '\\u3000'"),
    ],
)
def test_a_word_that_no_submission_can_hold_is_refused(home, no_models, word, said):
    competition((*WORDS, word), ".ndjson")
    told = failing_main(check_command)
    assert f"no submission can hold: it has {said}" in told
    assert "Rename the file" in told


@pytest.mark.parametrize("word", ["tab\there", "bell\x07", "two\nlines"])
def test_a_name_with_a_control_character_is_refused(home, no_models, word):
    competition((*WORDS, word), ".ndjson")
    assert "its name has control characters, or bytes that are not UTF-8; rename it" in failing_main(check_command)


@pytest.mark.parametrize("word", ["наука", "猫", "naïve", "o'clock", "a+b", "E=mc2", "under_score", "emoji 🐱", "#1"])
def test_words_of_all_languages_and_signs_are_taken(home, no_models, word):
    competition((*WORDS, word), ".ndjson")
    run_main(check_command)


def test_a_word_whose_file_name_is_no_utf_8_is_refused(home, no_models):
    name = b"caf\xe9"
    (FOLDER / "train_simplified" / (name + b".ndjson").decode(errors="surrogateescape")).write_text(
        ndjson_line(7000, name.decode("latin-1")) + "\n"
    )
    assert failing_main(check_command)


def test_two_words_have_two_guesses_a_row(home, no_models):
    for path in sorted((FOLDER / "train_simplified").iterdir())[2:]:
        path.unlink()
    Path(FOLDER / "test_labels.csv").unlink()
    edit(lambda params: params["data"].update(labels=None))
    run_main(check_command)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "no column key_id"),
        (["key_id,word"], "no rows"),
        (["key_id;word", *(f"{key_id};ant" for key_id in TEST)], "no column key_id"),
        (["id,word", *(f"{key_id},ant" for key_id in TEST)], "no column key_id"),
        (["key_id,word", *(f"{key_id / 1:.2E},ant" for key_id in TEST)], "'9.00E+15'"),
        (["key_id,word", *(f"{key_id},ant" for key_id in TEST[1:])], f"lacks the key_id {TEST[0]}"),
        (["key_id,word", *(f"{key_id},ant" for key_id in [*TEST, TEST[0]])], "repeats the key_id"),
        (["key_id,word", *(f"{5 * key_id},ant" for key_id in TEST[:1])], "not of one competition"),
    ],
)
def test_a_wrong_sample_submission_is_refused_before_training(home, no_models, lines, said):
    write_lines(FOLDER / "sample_submission.csv", lines)
    assert said in failing_main(check_command)


def test_a_missing_sample_submission_is_refused_before_training(home, no_models):
    (FOLDER / "sample_submission.csv").unlink()
    assert "sample_submission.csv is missing" in failing_main(check_command)


def as_saved(key_id):
    """A key_id as a spreadsheet saves it."""
    return int(f"{key_id:.14e}".replace(".", "").split("e")[0]) * 10


def test_a_sample_submission_that_a_spreadsheet_rounded_is_refused_by_that_reason(home, no_models):
    write_lines(FOLDER / "sample_submission.csv", ["key_id,word", *(f"{each},ant" for each in map(as_saved, TEST))])
    assert "15 digits" in failing_main(check_command)


def test_labels_that_a_spreadsheet_rounded_are_refused_by_that_reason(home, no_models):
    labels(key_ids=list(map(as_saved, TEST)))
    assert "15 digits" in failing_main(check_command)


def test_rounded_corrections_are_refused_by_that_reason(home, no_models):
    lines = [f"{FOLDER},{as_saved(key_id)},ant,drop" for key_id in TEST[:3]]
    write_lines(Path("corrections.csv"), ["folder,key_id,word,becomes", *lines])
    assert "15 digits" in failing_main(check_command)


@pytest.mark.parametrize("key_ids", [TEST[:-1], [*TEST, 5], [*TEST[:-1], 5]])
def test_labels_of_other_rows_are_refused_before_training(home, no_models, key_ids):
    labels(key_ids=key_ids)
    assert "must have the same rows" in failing_main(check_command)


@pytest.mark.parametrize("word", ["3-Mar", "ants", "1", "cafe\u0301s", "wineglass"])
def test_a_label_of_no_word_is_refused_with_its_row(home, no_models, word):
    labels(*WORDS, word, *WORDS[:2])
    told = failing_main(check_command)
    assert "row 6 (line 7) has the word" in told
    assert "1 of its 8 rows have such a word" in told


@pytest.mark.parametrize(
    "spelled",
    ["the eiffel tower", "The_Eiffel_Tower", "THE EIFFEL TOWER", "The-Eiffel-Tower", " The Eiffel Tower ", "T Shirt"],
)
def test_labels_in_another_spelling_are_taken(home, no_models, spelled):
    labels(spelled, unicodedata.normalize("NFD", "café"), "CAFÉ", *WORDS)
    run_main(check_command)


def test_corrections_in_another_spelling_are_taken_and_of_no_word_are_refused(home, no_models):
    line = f"{FOLDER},100,{unicodedata.normalize('NFD', 'Café')},"
    write_lines(Path("corrections.csv"), ["folder,key_id,word,becomes", f"{line}Wine Glass"])
    run_main(check_command)
    write_lines(Path("corrections.csv"), ["folder,key_id,word,becomes", f"{line}wine glas"])
    assert "similar: wine_glass" in failing_main(check_command)


def test_a_packed_test_file_is_read_too(home, no_models):
    plain = FOLDER / "test_simplified.csv"
    (FOLDER / "test_simplified.csv.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    run_main(check_command)
    write_lines(FOLDER / "sample_submission.csv", ["key_id,word", "5,ant"])
    assert "not of one competition" in failing_main(check_command)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda params: params["stack"]["metalearners"].remove("arithmetic_mean"), "must name arithmetic_mean"),
        (lambda params: params["stack"]["metalearners"].append("super_learner"), "super_learner"),
        (lambda params: params["stack"]["metalearners"].append("ranker"), "is taken"),
        (lambda params: params["stack"]["params"]["ranker"].update(tres=3), "tres"),
        (lambda params: params["stack"]["params"].pop("ranker"), "no block stack.params.ranker"),
        (lambda params: params["stack"]["metalearners"].append("rankers"), "rankers"),
        (lambda params: params["submit"].update(balance="scale"), "submit.balance"),
        (lambda params: params["submit"].update(prior="flat"), "submit.prior"),
        (lambda params: params["submit"].update(competition="quick draw"), "submit.competition"),
        (lambda params: params["pseudo"].update(learners=["gru"], teacher="nobody"), "pseudo.teacher"),
        (lambda params: params["data"].update(labels="labels.csv"), "labels.csv is missing"),
        (lambda params: params["learners"]["gru"]["network"].update(unit=3), "unit"),
        (
            lambda params: params["learners"]["lstm"]["training"].update(
                initial_weights={"path": "w.safetensors", "sha256": "0" * 64}
            ),
            "w.safetensors is missing",
        ),
    ],
)
def test_params_that_only_a_late_stage_reads_are_refused(home, change, said):
    edit(change)
    assert said in failing_main(check_command)


def test_a_broken_ledger_is_refused_before_the_report(home, no_models):
    Path("ledger.csv").write_text("competition;name\nx;y\n")
    assert "ledger.csv line 1" in failing_main(check_command)


def test_plain_dvc_checks_too_and_models_only_after_a_change(home, monkeypatch):
    monkeypatch.setattr(fingerprint_stage, "fingerprints", lambda params, code: {"stages": {}})
    calls: list[Params] = []
    monkeypatch.setattr(fingerprint_stage, "check_models", calls.append)
    run_main(fingerprint_stage)
    run_main(fingerprint_stage)
    assert len(calls) == 1
    edit(lambda params: params.update(seed=5))
    run_main(fingerprint_stage)
    assert len(calls) == 2
    labels("nothing", *WORDS, *WORDS[:2])
    assert "row 1 (line 2) has the word 'nothing'" in failing_main(fingerprint_stage)


def test_without_raw_files_a_finished_run_can_still_be_looked_at(home):
    edit(lambda params: params["data"].update(folder="data/elsewhere"))
    inputs.check_inputs(load_params())
