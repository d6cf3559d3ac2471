from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.optimize import brentq

from bench import coverage
from bench.coverage import expected, made_up
from pipeline.commands import compare as compare_command
from pipeline.comparison import candidates
from pipeline.comparison.candidates import Candidate, candidate
from pipeline.comparison.statistics import compare
from pipeline.drawings.words import Words
from pipeline.foundation.errors import SketchstackError
from pipeline.submissions import ledger
from tests.conftest import failing_main, run_main

FOLD_ROWS = 20_000
ROPE, SKILL = 0.005, 3.6


def pair(
    skills: tuple[float, float], seed: int, rows: int = 5 * FOLD_ROWS, folds: int = 5
) -> tuple[Candidate, Candidate]:
    random = np.random.default_rng(seed)
    labels, difficulty = random.integers(0, len(coverage.WORDS), rows), random.normal(0, coverage.SPREAD, rows)
    a, b = (made_up(name, labels, difficulty, skill, random, folds) for name, skill in zip("ab", skills, strict=True))
    return a, b


def test_candidates_that_differ_only_by_seed_are_practically_equal():
    for seed in range(5):
        found = compare(*pair((SKILL, SKILL), seed), ROPE)
        assert found.odds is not None
        assert found.odds.equal > 0.5
        assert found.odds.a + found.odds.equal + found.odds.b == pytest.approx(1)


def test_a_candidate_worse_by_a_hundredth_is_detected():
    def gap(skill: float) -> float:
        return expected(SKILL, np.random.default_rng(1)) - expected(skill, np.random.default_rng(1)) - 0.01

    worse = brentq(gap, 1.0, SKILL, xtol=1e-3)
    for seed in range(5):
        found = compare(*pair((worse, SKILL), seed), ROPE)
        assert found.odds is not None
        assert found.low > 0
        assert found.odds.b > 0.9
        assert found.p_value < 1e-6
        other = compare(*pair((SKILL, worse), seed), ROPE)
        assert other.odds is not None
        assert other.high < 0
        assert other.odds.a > 0.9


@pytest.mark.slow
def test_the_interval_covers_the_true_difference_at_its_nominal_rate():
    share = coverage.measure(200).rows[0].ours[0]
    assert 0.9 <= share <= 0.99


def by_hand() -> tuple[Candidate, Candidate]:
    """Six rows of three words in two folds."""
    words = Words.from_names(["ant", "bee", "cat", "dog"])
    labels = np.array([0, 0, 1, 1, 2, 2])
    a = np.array([[0, 1, 2], [1, 0, 2], [1, 0, 2], [0, 2, 1], [0, 1, 3], [2, 1, 0]])
    b = np.array([[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 3]])
    rows, folds = np.array([60, 50, 40, 30, 20, 10]), np.array([0, 0, 0, 1, 1, 1])
    return Candidate("a", a, rows, labels, folds, words), Candidate("b", b, rows, labels, folds, words)


def test_scores_words_and_agreement_by_hand():
    found = compare(*by_hand())
    assert found.folds[0] == {"rows": 3, "a": pytest.approx(2.5 / 3), "b": pytest.approx(2.5 / 3)}
    assert found.folds[1] == {"rows": 3, "a": pytest.approx(4 / 9), "b": pytest.approx((1 / 2 + 1 / 3) / 3)}
    assert found.difference == pytest.approx((2.5 + 5 / 6 - 2.5 - 4 / 3) / 6)
    assert found.first_guess == {"both": 1, "only_a": 2, "only_b": 1, "neither": 2}
    assert found.among_three == {"both": 4, "only_a": 1, "only_b": 1, "neither": 0}
    assert found.p_value == 1
    assert [(word.word, word.rows) for word in found.words] == [("ant", 2), ("bee", 2), ("cat", 2)]
    assert [word.b - word.a for word in found.words] == pytest.approx([0.25, -1 / 6, -1 / 3])


def test_rows_in_another_order_are_the_same_rows():
    a, b = by_hand()
    order = np.array([3, 1, 5, 0, 2, 4])
    moved = Candidate("b", b.guesses[order], b.key_ids[order], b.labels[order], b.folds[order], b.words)
    assert compare(a, moved) == compare(a, b)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"words": Words(("bee", "ant", "cat", "dog"))}, "the same words in another order: ant against bee"),
        ({"words": Words(("ant", "bee", "cat"))}, "4 words against 3"),
        ({"key_ids": np.array([60, 50, 40, 30, 20, 11])}, r"1 of 6 are only in the first.*\(first key_id 10\)"),
        ({"labels": np.array([0, 0, 1, 1, 2, 0])}, "different labels for 1 of 6 rows, first key_id 10: 2 and 0"),
        ({"folds": np.array([0, 0, 1, 1, 1, 1])}, "different folds for 1 of 6 rows, first key_id 40: 0 and 1"),
    ],
)
def test_candidates_of_different_rows_or_words_are_refused(change, said):
    a, b = by_hand()
    with pytest.raises(SketchstackError, match=said):
        compare(a, replace(b, **change))


def test_a_candidate_is_not_compared_with_itself():
    a, _ = by_hand()
    with pytest.raises(SketchstackError, match="the same guesses for all"):
        compare(a, replace(a, name="b"))


def test_with_one_fold_there_are_no_odds_but_an_interval(tmp_path):
    found = compare(*pair((1.0, 1.5), 0, rows=2000, folds=1))
    assert found.odds is None
    assert found.low > 0
    assert "No odds with a single fold" in compare_command.verdict(found)
    assert compare_command.write(found, tmp_path)[1].stat().st_size > 10_000


def test_folds_with_the_same_difference_have_odds_and_a_picture(tmp_path):
    a, b = by_hand()
    same = replace(b, guesses=np.where(np.arange(3) == 0, b.guesses[:, [1]], b.guesses[:, [0, 0, 2]]))
    found = compare(replace(a, guesses=np.tile(a.labels[:, None], 3)), replace(same, guesses=np.full((6, 3), 3)))
    assert found.odds is not None
    assert (found.odds.scale, found.odds.a) == (0, 1)
    assert compare_command.write(found, tmp_path)[1].exists()


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A run of one learner, one meta-learner and the SuperLearner, each better than the one before."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("profile: synthetic\n")
    write_run(seed=0)
    return tmp_path


def write_run(seed: int) -> None:
    random, words = np.random.default_rng(seed), Words.from_names(["ant", "bee", "cat", "dog"])
    folds = np.repeat(np.arange(3), 40).astype(np.int8)
    labels, rows = np.random.default_rng(9).integers(0, 4, 120).astype(np.int16), np.arange(120) * 7 + 2**60
    Path("folds/synthetic").mkdir(parents=True, exist_ok=True)
    words.save(Path("folds/synthetic/words.json"))
    for name, skill in {"lstm": 1.0, "ranker": 2.0, "super_learner": 3.0}.items():
        logits = random.normal(size=(120, 4)) + skill * np.eye(4)[labels]
        oof = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float16)
        if name == "lstm":
            for fold in range(3):
                place = Path(f"models/synthetic/base/lstm/fold{fold}")
                place.mkdir(parents=True, exist_ok=True)
                np.save(place / "oof.npy", oof[folds == fold])
                np.save(place / "rows.npy", rows[folds == fold])
        else:
            Path("models/synthetic/meta", name).mkdir(parents=True, exist_ok=True)
            np.save(Path("models/synthetic/meta", name, "oof.npy"), oof)
    stacked: dict[str, np.ndarray] = {"rows": rows, "labels": labels, "folds": folds}
    for name, values in stacked.items():
        np.save(Path("models/synthetic/meta", f"{name}.npy"), values)


def test_the_command_prints_and_writes_the_comparison(run, capsys):
    run_main(compare_command, "lstm", "super_learner", "--rope", "0.01")
    shown = capsys.readouterr().out
    for part in ("MAP@3 out of fold, 120 rows", "95% interval", "practically equal (within 0.01)", "McNemar"):
        assert part in shown
    stored = json.loads(Path("reports/synthetic/compare/lstm_super_learner.json").read_text())
    assert (stored["a"], stored["b"], stored["rope"]) == ("lstm", "super_learner", 0.01)
    assert stored["difference"] == pytest.approx(stored["map3"]["b"] - stored["map3"]["a"])
    assert stored["odds"]["b"] > 0.9
    picture = cv2.imread("reports/synthetic/compare/lstm_super_learner.png")
    assert picture is not None
    assert picture.shape[:2] == (630, 1500)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_an_unknown_name_is_refused_and_the_known_ones_are_listed(run):
    said = failing_main(compare_command, "nosuch", "lstm")
    assert "'nosuch' cannot be compared" in said
    assert "lstm, ranker, super_learner" in said
    assert "--rope is 0.0" in failing_main(compare_command, "lstm", "ranker", "--rope", "0")


def test_a_failed_prediction_and_rows_of_another_stack_are_refused(run):
    oof = np.load("models/synthetic/meta/ranker/oof.npy")
    oof[7, 2] = np.nan
    np.save("models/synthetic/meta/ranker/oof.npy", oof)
    assert f"ranker: the prediction of key_id {7 * 7 + 2**60} failed: it is not a number" in failing_main(
        compare_command, "lstm", "ranker"
    )
    np.save("models/synthetic/base/lstm/fold1/rows.npy", np.arange(40))
    assert "lstm: its predictions are not of the rows" in failing_main(compare_command, "lstm", "super_learner")
    Path("models/synthetic/base/lstm/fold2/oof.npy").unlink()
    assert "oof.npy cannot be read" in failing_main(compare_command, "lstm", "super_learner")


def git(*words: str) -> None:
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *words], check=True)


def dvc(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *words], check=True, stdout=subprocess.DEVNULL)


def test_revisions_and_recorded_submissions_come_from_dvc(run, capsys):
    git("init", "-q")
    dvc("init", "-q")
    dvc("add", "-q", "folds", "models/synthetic/base", "models/synthetic/meta")
    git("add", "-A")
    git("commit", "-qm", "one")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    before = {name: candidate(name).guesses for name in ("lstm", "ranker", "super_learner")}
    write_run(seed=1)
    entry = ledger.Entry("doodles", "lstm_balanced", "ab", commit, "", "", "", "0.5", "0.4", "0.6", "0.5", "")
    ledger.record(entry)
    asked = {"HEAD": "super_learner", "ranker@HEAD": "ranker", "lstm@HEAD": "lstm", "lstm_balanced": "lstm"}
    for name, of in asked.items():
        found = candidate(name)
        np.testing.assert_array_equal(found.guesses, before[of], err_msg=name)
        assert found.name == name
    assert not np.array_equal(candidate("lstm").guesses, before["lstm"])
    run_main(compare_command, "lstm@HEAD", "lstm")
    assert Path("reports/synthetic/compare/lstm-HEAD_lstm.json").exists()
    shutil.rmtree(".dvc/cache")
    assert "folds/synthetic/words.json of commit" in failing_main(compare_command, "HEAD", "lstm")


def test_names_are_those_of_the_run_in_the_working_directory(run):
    assert candidates.names_here() == ["lstm", "ranker", "super_learner"]


@pytest.mark.parametrize("rows", [2, 3, 4, 9])
def test_two_words_and_few_rows_are_compared_within_the_range_of_a_difference(rows):
    labels = np.arange(rows) % 2
    wrong, right = (np.stack([first, 1 - first], axis=1) for first in (1 - labels, labels))
    words, key_ids, folds = Words(("ant", "bee")), np.arange(rows), np.arange(rows) % 3
    a, b = (Candidate(name, each, key_ids, labels, folds, words) for name, each in (("a", wrong), ("b", right)))
    found = compare(a, b)
    assert found.map3 == {"a": 0.5, "b": 1.0}
    assert (found.low, found.high) == (0.5, 0.5)
    assert compare(b, a).low >= -1
