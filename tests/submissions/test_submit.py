import contextlib
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.commands import submit as submit_command
from pipeline.drawings.words import Words
from pipeline.foundation.artefacts import file_hash
from pipeline.foundation.contents import CONTENTS, seal
from pipeline.foundation.environment import as_text, environment
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import fingerprint, load_params
from pipeline.predictions.bootstrap import interval, resampled_means
from pipeline.predictions.cache import model_folder, write_predictions
from pipeline.predictions.metrics import map_at_3, top3
from pipeline.stages import submit as submit_stage
from pipeline.submissions import kaggle, send
from pipeline.submissions.files import check_submission, faults
from pipeline.submissions.ledger import COLUMNS, Entry, read_ledger, record
from tests.conftest import ROOT, failing_main
from tests.kaggle_stand_in import KaggleStandIn

SYNTHETIC = Path(__file__).parents[2] / "profiles/synthetic.yaml"
WORDS = Words.from_names(["ant", "baseball", "baseball bat", "cat", "t-shirt", "The Eiffel Tower"])
LEARNER = yaml.safe_load(SYNTHETIC.read_text())["learners"]["gru"]  # any will do: nothing is trained here
FOLD_ROWS, TEST_ROWS = 40, 48
NAMES = {"alpha", "beta", "arithmetic_mean", "super_learner"}
BIG = 9_007_199_254_740_993  # 2**53 + 1, which a float rounds


def probabilities(labels, skill, seed):
    """Made predictions: right more often with more skill, with a liking for the later words."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(labels), len(WORDS))) + np.linspace(-1, 1, len(WORDS))
    logits[np.arange(len(labels)), labels] += skill
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


SUBMIT = {"competition": None, "prior": "uniform", "balance": "scaling"}


def make_project(folder):
    """What the stage reads: raw folder, params.yaml, words.json, cached predictions, the stack's arrays."""
    with contextlib.chdir(folder):
        params = yaml.safe_load(SYNTHETIC.read_text()) | {"ensemble": ["alpha", "beta"], "folds": [0, 1, 2]}
        params |= {"learners": {"alpha": LEARNER, "beta": LEARNER}, "submit": SUBMIT}
        params["data"]["folder"] = "raw"
        write_params(params)
        Path("folds/synthetic").mkdir(parents=True)
        WORDS.save(Path("folds/synthetic/words.json"))
        rng = np.random.default_rng(0)
        test_rows = BIG + rng.permutation(TEST_ROWS)
        Path("raw/train_simplified").mkdir(parents=True)
        for name in WORDS.names:
            Path(f"raw/train_simplified/{name.replace('_', ' ')}.csv").touch()
        lines = [f"{key_id},ant baseball cat" for key_id in sorted(test_rows.tolist())]
        Path("raw/sample_submission.csv").write_text("\n".join(["key_id,word", *lines, ""]))
        rows = np.arange(3 * FOLD_ROWS, dtype=np.int64) * 7 + BIG
        labels = np.concatenate([np.arange(6), rng.choice(6, 3 * FOLD_ROWS - 6)])
        test_labels = np.arange(TEST_ROWS) % 6
        for seed, (name, skill) in enumerate({"alpha": 1.0, "beta": 1.6}.items()):
            for fold in range(3):
                of_fold = slice(fold * FOLD_ROWS, (fold + 1) * FOLD_ROWS)
                place = model_folder(name, fold)
                place.mkdir(parents=True)
                write_predictions(
                    place,
                    oof=probabilities(labels[of_fold], skill, [seed, fold, 0]),
                    test=probabilities(test_labels, skill, [seed, fold, 1]),
                    rows=rows[of_fold],
                    test_rows=np.arange(TEST_ROWS),
                    labels=labels[of_fold],
                    words=WORDS,
                    learner_hash=load_params().learner_hash(name),
                    trained_on=np.delete(rows, np.arange(of_fold.start, of_fold.stop)),
                )
        for name, skill in {"arithmetic_mean": 2.2, "super_learner": 3.2}.items():
            place = Path("models/synthetic/meta", name)
            place.mkdir(parents=True)
            np.save(place / "oof.npy", probabilities(labels, skill, 7).astype(np.float16))
            np.save(place / "test.npy", probabilities(test_labels, skill, 8).astype(np.float16))
        np.save("models/synthetic/meta/rows.npy", rows)
        np.save("models/synthetic/meta/labels.npy", labels.astype(np.int16))
        np.save("models/synthetic/meta/test_rows.npy", test_rows)
        seal(Path("models/synthetic/meta"))
    return folder


def write_params(params):
    Path("params.yaml").write_text(yaml.safe_dump(params))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project in which the stage has run; tests read it and change nothing."""
    folder = make_project(tmp_path_factory.mktemp("finished"))
    with contextlib.chdir(folder):
        submit_stage.main()
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch, finished):
    """A copy of it, to change."""
    shutil.copytree(finished, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture(autouse=True)
def no_credentials(tmp_path, monkeypatch):
    """Nobody's credentials: no variable, and a home of one's own."""
    for name in [name for name in os.environ if name.startswith("KAGGLE_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def manifests(folder):
    return {path.stem: json.loads(path.read_text()) for path in (folder / "submissions/synthetic").glob("*.json")}


def guesses_of(path):
    with path.open(newline="") as file:
        return {int(row["key_id"]): row["word"].split(" ") for row in csv.DictReader(file)}


# ---- the stage


def test_every_learner_and_combination_is_submitted_plain_and_balanced(finished):
    names = NAMES | {f"{name}_balanced" for name in NAMES}
    assert {path.stem for path in (finished / "submissions/synthetic").glob("*.csv")} == names | {"ranking"}
    assert set(manifests(finished)) == names


def test_plain_guesses_are_the_three_likeliest_words_of_each_row_in_the_sample_s_order(finished):
    test, key_ids = (
        np.load(finished / f"models/synthetic/meta/{name}.npy") for name in ("super_learner/test", "test_rows")
    )
    expected = {int(k): [WORDS.names[label] for label in row] for k, row in zip(key_ids, top3(test), strict=True)}
    written = guesses_of(finished / "submissions/synthetic/super_learner.csv")
    assert written == expected
    assert list(written) == list(guesses_of(finished / "raw/sample_submission.csv"))


def test_ranks_follow_the_oof_scores_and_the_best_three_are_marked(finished):
    ranked = sorted(manifests(finished).values(), key=lambda manifest: manifest["rank"])
    scores = [manifest["oof"]["map3"] for manifest in ranked]
    assert scores == sorted(scores, reverse=True)
    assert [manifest["rank"] for manifest in ranked] == list(range(1, 9))
    assert [manifest["best_three"] for manifest in ranked] == [True] * 3 + [False] * 5
    with (finished / "submissions/synthetic/ranking.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["name"] for row in table] == [manifest["name"] for manifest in ranked]
    assert [row["best_three"] for row in table] == ["true"] * 3 + ["false"] * 5


def test_a_manifest_holds_scores_hashes_and_params(finished):
    manifest = manifests(finished)["alpha_balanced"]
    labels = np.load(finished / "models/synthetic/meta/labels.npy")
    oof = np.concatenate([np.load(finished / f"models/synthetic/base/alpha/fold{k}/oof.npy") for k in range(3)])
    plain = map_at_3(top3(oof), labels)
    assert manifests(finished)["alpha"]["oof"]["map3"] == pytest.approx(plain, abs=1e-6)
    score = manifest["oof"]
    assert score["map3"] == pytest.approx(plain, abs=2e-6)  # chance explains the gain on so few rows
    assert score["gain_counts"] is False
    assert score["low"] < score["map3"] < score["high"]
    assert score["gain_std"] > 0
    assert score["draw_rows"] == 6 * min(np.bincount(labels).min(), TEST_ROWS // 6)
    assert manifest["sha256"] == file_hash(finished / "submissions/synthetic/alpha_balanced.csv")
    assert (manifest["rows"], manifest["rows_without_prediction"]) == (TEST_ROWS, 0)
    expected = {f"models/synthetic/base/alpha/fold{k}/{of}.npy" for k in range(3) for of in ("oof", "test", "rows")}
    assert set(manifest["inputs"]) == expected | {"folds/synthetic/words.json", "raw/sample_submission.csv"}
    assert all(digest == file_hash(finished / path) for path, digest in manifest["inputs"].items())
    assert list(manifest["params"]["learners"]) == ["alpha"]
    assert "stack" in manifests(finished)["super_learner"]["params"]


def test_the_interval_is_the_bootstrap_s(finished):
    score = manifests(finished)["super_learner"]["oof"]
    labels, oof = (np.load(finished / f"models/synthetic/meta/{name}.npy") for name in ("labels", "super_learner/oof"))
    precision = ((top3(oof) == labels[:, None]) / [1, 2, 3]).max(axis=1)
    rows = np.random.default_rng(5).integers(len(labels), size=(4000, len(labels)))
    assert interval(precision[rows].mean(axis=1)) == pytest.approx((score["low"], score["high"]), abs=0.012)


def test_two_runs_write_the_same_bytes(project, finished):
    submit_stage.main()
    written = sorted(path.name for path in Path("submissions/synthetic").iterdir())
    assert written == sorted(path.name for path in (finished / "submissions/synthetic").iterdir())
    for name in written:
        assert (
            Path("submissions/synthetic", name).read_bytes() == (finished / "submissions/synthetic" / name).read_bytes()
        )


def test_balancing_makes_the_first_guesses_more_even(finished):
    counts = {
        name: np.unique(
            [row[0] for row in guesses_of(finished / f"submissions/synthetic/{name}.csv").values()], return_counts=True
        )
        for name in ("alpha", "alpha_balanced")
    }
    assert np.std(counts["alpha_balanced"][1]) < np.std(counts["alpha"][1])


def test_a_rejected_drawing_gets_the_commonest_words_and_is_counted(project):
    rejected = 12
    with Path("raw/sample_submission.csv").open("a") as file:
        file.write(f"{rejected},ant baseball cat\n")
    submit_stage.main()
    assert manifests(project)["beta"]["rows_without_prediction"] == 1
    guesses = guesses_of(project / "submissions/synthetic/beta.csv")
    counts = {name: sum(name in row for key, row in guesses.items() if key != rejected) for name in WORDS.names}
    assert guesses[rejected] == sorted(WORDS.names, key=lambda name: (-counts[name], name))[:3]


def test_without_a_prior_nothing_is_balanced(project):
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["submit"]["prior"] = None
    write_params(params)
    submit_stage.main()
    assert set(manifests(project)) == NAMES


def test_a_learner_that_left_the_ensemble_is_submitted_no_more(project):
    params = yaml.safe_load(Path("params.yaml").read_text())
    write_params(params | {"ensemble": ["beta"]})
    submit_stage.main()
    assert {name.removesuffix("_balanced") for name in manifests(project)} == NAMES - {"alpha"}
    assert not Path("submissions/synthetic/alpha.csv").exists()


def test_submissions_and_notes_of_one_s_own_stay_and_damaged_ones_of_the_run_do_not(project):
    folder = Path("submissions/synthetic")
    submit_stage.main()
    (folder / "mine.csv").write_text("key_id,word\n")
    (folder / "mine.json").write_text('{"learner": "a notebook"}')
    (folder / "gone.json").write_text('{"name": "gone", "rank": 9, "sha256": ""}')
    damaged = sorted(folder.glob("*.json"))[-1]
    damaged.write_text("{")
    submit_stage.main()
    assert (folder / "mine.csv").read_text() == "key_id,word\n"
    assert (folder / "mine.json").read_text() == '{"learner": "a notebook"}'
    assert not (folder / "gone.json").exists()
    assert damaged.read_text() != "{"


def spoil(path, change):
    """Other numbers that were written so: their hashes are right."""
    array = np.load(path)
    np.save(path, change(array))
    seal(next(folder for folder in Path(path).parents if (folder / CONTENTS).exists()))


def with_nan(array):
    array[3, 2] = np.nan
    return array


@pytest.mark.parametrize(
    ("path", "change", "told"),
    [
        (
            "models/synthetic/meta/super_learner/oof.npy",
            with_nan,
            "super_learner has probabilities that are not numbers",
        ),
        ("models/synthetic/base/beta/fold1/test.npy", with_nan, "beta has probabilities that are not numbers"),
        (
            "models/synthetic/meta/rows.npy",
            lambda rows: rows + 1,
            "alpha does not have the rows of models",
        ),
        ("models/synthetic/meta/labels.npy", lambda labels: labels[1:], "rows.npy has 120 rows, labels.npy 119"),
        (
            "models/synthetic/meta/test_rows.npy",
            lambda rows: rows[1:],
            "does not have the rows of models",
        ),
        ("models/synthetic/meta/test_rows.npy", lambda rows: rows - 1, "the sample submission lacks key_id"),
        ("models/synthetic/meta/super_learner/test.npy", lambda array: array[:, 1:], "test.npy (48, 5)"),
        (
            "models/synthetic/meta/labels.npy",
            lambda labels: np.minimum(labels, 4),
            "no out-of-fold row shows 't-shirt'",
        ),
    ],
)
def test_inputs_that_do_not_fit_are_refused(project, path, change, told):
    spoil(path, change)
    with pytest.raises(SystemExit) as stopped:
        submit_stage.main()
    assert told in " ".join(str(stopped.value).split())


def test_a_missing_stack_is_named(project):
    Path("models/synthetic/meta/super_learner/test.npy").unlink()
    with pytest.raises(SystemExit, match=r"super_learner/test.npy cannot be read"):
        submit_stage.main()


def test_the_mean_must_be_stacked(project):
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["stack"]["metalearners"].remove("arithmetic_mean")
    write_params(params)
    with pytest.raises(SystemExit, match="metalearners must name arithmetic_mean"):
        submit_stage.main()


def test_bootstrap_means_have_the_spread_of_a_mean():
    values = np.repeat([0, 1 / 3, 1 / 2, 1], [400, 100, 200, 300])
    means = resampled_means(values, 20_000, np.random.default_rng(0))
    assert means.mean() == pytest.approx(values.mean(), abs=1e-3)
    assert means.std() == pytest.approx(values.std() / np.sqrt(len(values)), rel=0.02)


# ---- the validator

KEY_IDS = np.array([BIG + 3, BIG, 17, BIG + 1, 5, 2**63 - 1])
GUESSED = ["ant cat t-shirt", "cat ant baseball", "baseball_bat baseball ant", "The_Eiffel_Tower cat ant"]
VALID = [f"{key_id},{GUESSED[i % 4]}" for i, key_id in enumerate(KEY_IDS.tolist())]


def content(rows, header="key_id,word", end="\n"):
    return end.join([header, *rows, ""]).encode()


def found(data):
    return faults(data, KEY_IDS, set(WORDS.names))


def changed(row, old, new):
    rows = list(VALID)
    rows[row] = rows[row].replace(old, new, 1)
    assert rows != VALID
    return content(rows)


def replaced(row, text):
    return content([*VALID[:row], text, *VALID[row + 1 :]])


def key_of(row):
    return VALID[row].split(",")[0]


CORRUPTIONS = {
    "blank row": (lambda row: replaced(row, ""), "row is blank"),
    "row with spaces only": (lambda row: replaced(row, "   "), "row is blank"),
    "two guesses": (lambda row: replaced(row, f"{key_of(row)},ant cat"), "2 guesses instead of 3"),
    "four guesses": (lambda row: replaced(row, f"{key_of(row)},ant cat t-shirt baseball"), "4 guesses instead of 3"),
    "a guess twice": (lambda row: replaced(row, f"{key_of(row)},ant cat ant"), "guessed twice"),
    "no guess": (lambda row: replaced(row, f"{key_of(row)},"), "0 guesses"),
    "unknown word": (lambda row: replaced(row, f"{key_of(row)},ant cat unicorn"), "unknown word 'unicorn'"),
    "lower case": (lambda row: replaced(row, f"{key_of(row)},ant cat the_eiffel_tower"), "must be The_Eiffel_Tower"),
    "no hyphen": (lambda row: replaced(row, f"{key_of(row)},ant cat t_shirt"), "must be t-shirt"),
    "hyphen": (lambda row: replaced(row, f"{key_of(row)},ant cat baseball-bat"), "must be baseball_bat"),
    "two spaces": (lambda row: replaced(row, f"{key_of(row)},ant  cat baseball"), "blanks other than one space"),
    "space after the comma": (lambda row: changed(row, ",", ", "), "blanks other than one space"),
    "space at the end": (lambda row: replaced(row, VALID[row] + " "), "blanks other than one space"),
    "tab": (lambda row: changed(row, " ", "\t"), "blanks other than one space"),
    "another comma": (lambda row: replaced(row, f"{key_of(row)},ant,cat,baseball"), "4 fields"),
    "no comma": (lambda row: changed(row, ",", ";"), "1 fields"),
    "quotes": (lambda row: replaced(row, f'"{key_of(row)}",ant cat baseball'), "is not a 64-bit integer"),
    "float": (lambda row: replaced(row, f"{float(key_of(row))},ant cat baseball"), "is not a 64-bit integer"),
    "leading zero": (lambda row: replaced(row, f"0{VALID[row]}"), "is not a 64-bit integer"),
    "beyond 64 bits": (lambda row: replaced(row, f"{2**64},ant cat baseball"), "is not a 64-bit integer"),
    "other digits": (lambda row: replaced(row, "１７,ant cat baseball"), "is not a 64-bit integer"),
    "strange key_id": (lambda row: replaced(row, "99,ant cat baseball"), "key_id 99 is not in the sample"),
    "row lost": (lambda row: content(VALID[:row] + VALID[row + 1 :]), "5 rows instead of 6"),
    "row lost, by key": (
        lambda row: content(VALID[:row] + VALID[row + 1 :]),
        "the sample has in this row, is missing",
    ),
    "row twice": (lambda row: content([*VALID[: row + 1], *VALID[row:]]), "is repeated"),
    "order": (
        lambda row: content([*VALID[row + 1 :], *VALID[: row + 1]]) if row < 5 else content(VALID[::-1]),
        "order:",
    ),
    "header": (lambda row: content(VALID, header="key_id,words"), "the header is 'key_id,words'"),
    "no header": (lambda row: content(VALID[1:], header=VALID[0]), "the header is"),
    "carriage returns": (lambda row: content(VALID, end="\r\n"), "carriage return"),
    "one carriage return": (lambda row: changed(row, ",", ",\r"), "carriage return"),
    "no last line end": (lambda row: content(VALID)[:-1], "the last line has no line feed"),
    "byte order mark": (lambda row: b"\xef\xbb\xbf" + content(VALID), "byte order mark"),
    "latin-1": (lambda row: changed(row, "a", "\xe4").decode().encode("latin-1"), "is not UTF-8"),
    "utf-16": (lambda row: content(VALID).decode().encode("utf-16"), "is not UTF-8"),
    "empty": (lambda row: b"", "the header is ''"),
}


def test_a_valid_submission_has_no_faults():
    assert found(content(VALID)) == []


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(sorted(CORRUPTIONS)), row=st.integers(0, 5))
def test_every_corruption_is_named(kind, row):
    corrupt, told = CORRUPTIONS[kind]
    assert any(told in fault for fault in found(corrupt(row)))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_only_the_right_bytes_pass(data):
    """Whatever bytes are cut out and put in: a file that passes says the same as the sample asks for."""
    valid = content(VALID)
    start = data.draw(st.integers(0, len(valid)))
    end = data.draw(st.integers(start, min(len(valid), start + 5)))
    put = data.draw(st.one_of(st.binary(max_size=4), st.sampled_from([b" ", b",", b"\n", b"ant", b"0", b"\r\n"])))
    corrupt = valid[:start] + put + valid[end:]
    if found(corrupt):
        return
    header, *rows = corrupt.decode().removesuffix("\n").split("\n")
    assert header == "key_id,word"
    assert [int(row.split(",")[0]) for row in rows] == KEY_IDS.tolist()
    assert all(len(set(row.split(",")[1].split(" ")) & set(WORDS.names)) == 3 for row in rows)


def test_the_first_row_of_a_fault_is_named_and_the_others_counted():
    rows = [*VALID[:2], *(row.replace("ant", "unicorn") for row in VALID[2:5]), VALID[5]]
    assert found(content(rows)) == ["row 3 (line 4): unknown word 'unicorn' (and 2 more)"]


def test_a_key_id_that_a_float_rounded_is_told_from_its_neighbour():
    rounded = [f"{int(float(row.split(',')[0]))},{row.split(',')[1]}" for row in VALID[:5]] + VALID[5:]
    told = found(content(rounded))
    assert any(f"key_id {BIG - 1} is not in the sample" in fault for fault in told)


def test_a_swap_of_two_rows_is_named_where_it_starts():
    rows = [VALID[0], VALID[2], VALID[1], *VALID[3:]]
    assert found(content(rows)) == [f"row 2 (line 3): order: key_id 17 is where the sample has {BIG} (and 1 more)"]


def test_several_faults_come_in_one_paragraph(tmp_path):
    path = tmp_path / "bad.csv"
    path.write_bytes(content([VALID[0].replace(",", ", "), *VALID[1:]], header="id,word", end="\r\n"))
    with pytest.raises(SketchstackError) as refused:
        check_submission(path, KEY_IDS, set(WORDS.names))
    assert all(
        part in str(refused.value) for part in ("bad.csv", "header is", "carriage return", "row 1 (line 2): blanks")
    )
    assert "\n" not in str(refused.value)


def test_the_command_checks_any_file_against_any_sample(finished, tmp_path, capsys):
    sample = str(finished / "raw/sample_submission.csv")
    submit_command.main(["--check", str(finished / "submissions/synthetic/beta.csv"), "--sample", sample])
    assert f"valid submission: {TEST_ROWS} rows" in capsys.readouterr().out
    submit_command.main(["--check", sample, "--sample", sample])
    spoiled = tmp_path / "spoiled.csv"
    spoiled.write_text((finished / "submissions/synthetic/beta.csv").read_text().replace("ant", "aunt", 1))
    said = failing_main(submit_command, "--check", spoiled, "--sample", sample)
    assert re.search(r"spoiled.csv is not a valid submission: row \d+ .*unknown word 'aunt'", said)
    with pytest.raises(SystemExit, match=r"none.csv cannot be read"):
        submit_command.main(["--check", "none.csv", "--sample", sample])
    with pytest.raises(SystemExit, match=r"none.csv is missing"):
        submit_command.main(["--check", str(spoiled), "--sample", "none.csv"])


# ---- sending


@pytest.fixture
def sendable(project, tmp_path, monkeypatch):
    """A committed project at a competition, credentials, and a `kaggle` that answers as Kaggle's does."""
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["submit"]["competition"] = "doodles"
    write_params(params)
    Path("dvc.lock").write_text("schema: '2.0'\n")
    Path(".gitignore").write_text("/folds/\n/models/\n/submissions/\n/raw/\n/.partial/\n")
    git("init", "--quiet")
    commit()
    bin_folder = tmp_path / "bin"
    stand_in = KaggleStandIn(bin_folder, pending=1)
    (bin_folder / "dvc").write_text(f"#!/bin/sh\ncat {bin_folder}/stale\n")
    (bin_folder / "dvc").chmod(0o755)
    (bin_folder / "stale").write_text("{}")
    monkeypatch.setattr(sys, "executable", str(bin_folder / "python"))  # whose folder is looked in for dvc first
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("KAGGLE_USERNAME", "somebody")
    monkeypatch.setenv("KAGGLE_KEY", "s3cr3t")
    monkeypatch.setattr(kaggle, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(kaggle, "PATIENCE_SECONDS", 20)  # rather a failure than a wait for ever
    monkeypatch.setattr(kaggle, "BACKOFF_SECONDS", 0.01)
    monkeypatch.setattr(kaggle, "BACKOFF_LIMIT_SECONDS", 0.1)
    monkeypatch.setattr(send, "LISTING_SECONDS", 15)
    return stand_in


def git(*arguments):
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


def commit():
    git("add", "--all")
    git("commit", "--quiet", "--message", "state")


def test_the_best_is_sent_waited_for_and_recorded(sendable, capsys):
    submit_command.main([])
    best = next(manifest for manifest in manifests(Path()).values() if manifest["rank"] == 1)
    entry = read_ledger()[0]
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert entry == Entry(
        competition="doodles", name=best["name"], sha256=best["sha256"], commit=head,
        dvc_lock=file_hash(Path("dvc.lock")), params=fingerprint(best["params"]), environment=as_text(environment()),
        oof_map3=f"{best['oof']['map3']:.6f}", low=f"{best['oof']['low']:.6f}", high=f"{best['oof']['high']:.6f}",
        public="0.91234", private="0.90123",
    )  # fmt: skip
    sent = sendable.calls[1]
    assert sent[:6] == ["competitions", "submit", "-c", "doodles", "-f", f"submissions/synthetic/{best['name']}.csv"]
    assert sendable.verbs().count("submit") == 1
    assert sendable.verbs().count("submissions") == 3  # once before sending, once pending, once complete
    assert "s3cr3t" not in capsys.readouterr().out


def test_the_same_file_is_not_sent_twice_and_the_ledger_grows_by_other_ones(sendable, capsys):
    submit_command.main(["beta"])
    submit_command.main(["beta"])
    assert sendable.verbs().count("submit") == 1
    assert "not sent twice" in capsys.readouterr().out
    submit_command.main(["alpha"])  # the ledger's own new line is no reason to refuse
    assert [entry.name for entry in read_ledger()] == ["beta", "alpha"]
    assert Path("ledger.csv").read_text().splitlines()[0] == ",".join(COLUMNS)


def test_a_run_that_was_cut_off_after_sending_only_waits(sendable):
    sendable.has(f"beta sha256 {manifests(Path())['beta']['sha256'][:16]}")
    submit_command.main(["beta"])
    assert sendable.verbs().count("submit") == 0
    assert [entry.name for entry in read_ledger()] == ["beta"]


def test_a_dirty_work_tree_is_refused_and_nothing_is_sent(sendable):
    Path("notes.txt").write_text("not committed")
    with pytest.raises(SystemExit, match=r"work tree differs[\s\S]*notes.txt"):
        submit_command.main([])
    assert sendable.verbs() == []
    commit()
    Path("params.yaml").write_text(Path("params.yaml").read_text() + "\n")
    with pytest.raises(SystemExit, match=r"work tree differs[\s\S]*params.yaml"):
        submit_command.main([])
    assert not Path("ledger.csv").exists()


def test_submissions_of_another_commit_are_not_sent(sendable):
    (sendable.folder / "stale").write_text('{"submit": [{"changed outs": {"submissions": "modified"}}]}')
    with pytest.raises(SystemExit, match=r"not what\s+dvc.lock\s+says\s+\(changed\s+outs:\s+submissions\)"):
        submit_command.main([])
    assert sendable.verbs().count("submit") == 0


def test_a_changed_file_is_not_sent(sendable):
    with Path("submissions/synthetic/beta.csv").open("a") as file:
        file.write("1,ant cat baseball\n")
    with pytest.raises(SystemExit, match="not the file that its manifest"):
        submit_command.main(["beta"])
    with pytest.raises(SystemExit, match=r"no submission 'gamma'; submissions/synthetic/\s*has .*super_learner"):
        submit_command.main(["gamma"])
    assert sendable.verbs() == []


@pytest.mark.parametrize(("mode", "told"), [("error_text", "was not accepted"), ("403", "exit code 1")])
def test_a_refusal_is_told_without_the_key_and_not_recorded(sendable, mode, told):
    sendable.plan(submit=[mode])
    with pytest.raises(SystemExit) as stopped:
        submit_command.main([])
    assert told in " ".join(str(stopped.value).split())
    assert "s3cr3t" not in str(stopped.value)
    assert not Path("ledger.csv").exists()


def test_waiting_ends(sendable, monkeypatch):
    sendable.change(pending=10_000)
    monkeypatch.setattr(kaggle, "PATIENCE_SECONDS", 0.3)
    with pytest.raises(SystemExit, match="had no score"):
        submit_command.main([])


@pytest.mark.parametrize("lacking", ["credentials", "competition"])
def test_the_dry_run_says_exactly_what_would_be_sent(sendable, monkeypatch, capsys, lacking):
    if lacking == "credentials":
        monkeypatch.delenv("KAGGLE_KEY")
    else:
        params = yaml.safe_load(Path("params.yaml").read_text())
        params["submit"]["competition"] = None
        write_params(params)
    submit_command.main(["beta"])
    printed = capsys.readouterr().out
    manifest = manifests(Path())["beta"]
    competition = "doodles" if lacking == "credentials" else "COMPETITION"
    assert f"kaggle competitions submit -c {competition} -f submissions/synthetic/beta.csv -m 'beta | MAP@3" in printed
    assert f"rows     {TEST_ROWS}" in printed
    assert manifest["sha256"] in printed
    assert f"{competition},beta,{manifest['sha256']}," in printed
    assert ("KAGGLE_USERNAME" in printed) == (lacking == "credentials")
    assert ("set submit.competition" in printed) == (lacking == "competition")
    assert sendable.verbs() == []
    assert not Path("ledger.csv").exists()


def test_credentials_are_found_wherever_the_command_takes_them(tmp_path, monkeypatch):
    assert kaggle.credentials() is None
    home = tmp_path / "home"
    for place in (
        ".config/kaggle/kaggle.json",
        ".kaggle/kaggle.json",
        ".kaggle/access_token",
        ".kaggle/credentials.json",
    ):
        (home / place).parent.mkdir(parents=True, exist_ok=True)
        (home / place).touch()
        assert kaggle.credentials() == str(home / place)
        (home / place).unlink()
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/kaggle.json").touch()
    assert kaggle.credentials() == str(tmp_path / "elsewhere/kaggle.json")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "t0ken")
    assert kaggle.credentials() == "KAGGLE_API_TOKEN"


@pytest.mark.parametrize(
    "command",
    [
        kaggle.submit_command("doodles", Path("x.csv"), "a | message"),
        kaggle.download_command("doodles", Path("data")),
        kaggle.list_command("doodles"),
    ],
)
def test_the_installed_kaggle_takes_these_arguments(command):
    """Without credentials it stops at them (exit code 1), after it has understood its arguments (else 2)."""
    run = subprocess.run(
        [Path(sys.executable).parent / "kaggle", *command[1:]], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1, run.stdout + run.stderr
    assert "unrecognized arguments" not in run.stderr


# ---- the ledger

MADE = ("c" * 40, "d" * 64, "e" * 64, "python=3.11.9; numpy=2.4.6", "0.812345", "0.8", "0.82")
ENTRY = Entry("doodles", "beta", "ab" * 32, *MADE, "0.9", "")


def test_the_ledger_keeps_what_it_has_and_takes_a_file_once(tmp_path):
    path = tmp_path / "ledger.csv"
    assert record(ENTRY, path) == ENTRY
    other = Entry("doodles", 'a "name", with a comma', "ef" * 32, *MADE, "0.8", "0.7")
    assert record(other, path) == other
    assert record(ENTRY, path) is None
    assert read_ledger(path) == [ENTRY, other]
    assert [file.name for file in tmp_path.glob("*ledger*")] == ["ledger.csv"]


def test_a_name_like_a_formula_is_none_in_the_ledger_and_comes_back(tmp_path):
    entry = replace(ENTRY, name="=1+1", environment="@home")
    record(entry, tmp_path / "ledger.csv")
    assert ",'=1+1," in (tmp_path / "ledger.csv").read_text()
    assert read_ledger(tmp_path / "ledger.csv") == [entry]


def test_a_ledger_from_before_a_new_column_is_read_and_gets_it_with_the_next_line(tmp_path, monkeypatch):
    path, older = tmp_path / "ledger.csv", COLUMNS[:-1]
    path.write_text("\n".join([",".join(older), *[",".join(ENTRY.line.split(",")[:-1])], ""]))
    monkeypatch.setattr("pipeline.submissions.ledger.FIRST_COLUMNS", older)
    assert read_ledger(path) == [replace(ENTRY, private="")]
    record(replace(ENTRY, sha256="another"), path)
    assert path.read_text().splitlines()[0] == ",".join(COLUMNS)
    assert len(read_ledger(path)) == 2


def test_a_broken_ledger_is_not_written_over(tmp_path):
    path = tmp_path / "ledger.csv"
    record(ENTRY, path)
    path.write_text(path.read_text() + "half a li")
    with pytest.raises(SketchstackError, match="line 3 does not have the columns"):
        record(ENTRY, path)
    assert path.read_text().endswith("half a li")


def test_scores_that_become_known_are_filled_in_and_none_is_changed(tmp_path):
    path = tmp_path / "ledger.csv"
    record(ENTRY, path)
    other = replace(ENTRY, sha256="ef" * 32)
    record(other, path)
    told = replace(ENTRY, public="0.1", private="0.91")
    assert record(told, path) == replace(ENTRY, private="0.91")
    assert record(told, path) is None
    assert read_ledger(path) == [replace(ENTRY, private="0.91"), other]


def test_lines_of_processes_that_write_at_once_are_all_there(tmp_path):
    write = (
        "import sys; from dataclasses import replace; from pathlib import Path;"
        "from pipeline.submissions.ledger import record;"
        "from tests.submissions.test_submit import ENTRY\n"
        "for n in range(20): record(replace(ENTRY, sha256=f'{sys.argv[1]}-{n}'), Path(sys.argv[2]))"
    )
    path = tmp_path / "ledger.csv"
    command = [sys.executable, "-c", write]
    processes = [subprocess.Popen([*command, str(name), str(path)], cwd=ROOT) for name in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert sorted(entry.sha256 for entry in read_ledger(path)) == sorted(
        f"{a}-{b}" for a in range(3) for b in range(20)
    )


def test_a_submission_is_recorded_with_its_score_on_the_test_labels_and_without_kaggle(sendable, capsys):
    params = yaml.safe_load(Path("params.yaml").read_text())
    header, *rows = Path("submissions/synthetic/beta.csv").read_text().splitlines()
    seconds = [f"{key_id},{words.split()[1]}" for key_id, words in (row.split(",") for row in rows)]
    Path("raw/labels.csv").write_text("\n".join([header, *seconds, ""]))  # every second guess is right
    params["data"]["labels"] = "labels.csv"
    Path("params.yaml").write_text(yaml.safe_dump(params))
    git("commit", "-qam", "labels")
    submit_command.main(["beta", "--labels"])
    (entry,) = read_ledger()
    assert (entry.competition, entry.name, entry.public) == ("test labels of synthetic", "beta", "0.500000")
    submit_command.main(["beta", "--labels"])
    assert "nothing is changed" in capsys.readouterr().out
    assert len(read_ledger()) == 1
    assert sendable.verbs() == []


def test_what_was_sent_by_hand_is_recorded_and_its_later_score_filled_in(sendable, capsys):
    submit_command.main(["--record", "beta", "--public", "0.94"])
    (entry,) = read_ledger()
    assert (entry.name, entry.public, entry.private) == ("beta", "0.94", "")
    submit_command.main(["--record", "beta", "--public", "0.94", "--private", "0.93"])
    submit_command.main(["--record", "beta", "--public", "0.94", "--private", "0.93"])
    assert [(entry.public, entry.private) for entry in read_ledger()] == [("0.94", "0.93")]
    assert "nothing is changed" in capsys.readouterr().out
    assert sendable.verbs() == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--record", "beta", "--public", "94"], "--public 94.0: MAP@3 is a number from 0 to 1"),
        (["--record", "gamma", "--public", "0.9"], "no submission 'gamma'"),
    ],
)
def test_what_cannot_be_recorded_is_refused(sendable, arguments, told):
    with pytest.raises(SystemExit, match=told):
        submit_command.main(arguments)
    Path("notes.txt").write_text("not committed")
    with pytest.raises(SystemExit, match="work tree differs"):
        submit_command.main(["--record", "beta", "--public", "0.9"])
    assert not Path("ledger.csv").exists()
