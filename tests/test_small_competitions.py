"""Small competitions of invented words go from raw files to submissions, or are refused at once with the reason."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.commands import check
from tests.conftest import ROOT
from tests.smallsets import Small, run_stages, stages, write

pytestmark = pytest.mark.slow

AT_ONCE = 10  # seconds


def words(count: int, drawings: int) -> dict[str, int]:
    return {f"word{number}": drawings for number in range(count)}


RUN = {
    "two words, copies, nothing recognised": Small(words(2, 15), copies=2, recognized=False),
    "two drawings a word, one test row": Small({"up": 2, "down": 2}, test=1, labels=False),
    "handfuls of drawings in one fold": Small(
        {"round": 13, "square": 12, "rare": 4, "pair": 2}, homes={"rare": (1,), "pair": (0,)}
    ),
    "one row in a fold, one test row": Small(
        {"round": 13, "square": 12, "star": 16},
        homes={"round": (2, *(0, 1) * 6), "square": (0, 1), "star": (1, 0)},
        test=1,
    ),
    "letters, dots, no countries, ndjson": Small(
        {"crème brûlée": 12, "日本": 5, "st. bernard": 9, "no.2": 30, "t-shirt": 7}, ndjson=True, countries=False
    ),
    "times, pseudo-labels, a large batch": Small(
        words(5, 14), timed=True, test=20,
        params={
            "pseudo.learners": ["lstm"], "pseudo.confidence": 0.1, "learners.lstm.encoding.timing": True,
            "learners.seresnet.training.batch_size": 512,
        },
    ),
    "one drawing as test set, an empty fold": Small(
        words(8, 8), copies=3, same_test=True, homes={f"word{number}": (0, 1) for number in range(8)}
    ),
    "thirty words, eight test rows": Small(words(30, 5)),
    "thirty words, five folds, one meta-learner": Small(
        words(29, 20) | {"rare": 3}, folds=5, test=60, homes={"rare": (4,)},
        params={"stack.metalearners": ["arithmetic_mean"], "stack.calibrate": False, "stack.dense_rows": 1},
    ),
}  # fmt: skip
REFUSED = {
    "one drawing of a word": (Small({"up": 20, "down": 20, "once": 1}), "'once' with 1 rows .* two different drawings"),
    "copies of one drawing": (Small({"up": 20, "once": 1}, copies=4), "'once' with 4 rows .* two different drawings"),
    "fewer drawings than folds": (Small({"up": 2, "down": 2}, folds=5), "4 different .* for 5 folds.* add 1 drawings"),
    "one word": (Small({"up": 20}), "1 words, but a competition needs at least two"),
    "too few cached rows": (Small(words(30, 20), params={"oof.max_rows": 100}), "Raise oof.max_rows"),
}


def results(home: Path) -> dict[str, list[list[str]]]:
    """The guesses in each row of each submission, after checks of what else the run has written."""
    page = (home / "reports/own/report.html").read_text()
    assert "could not be made" not in page
    assert ">nan<" not in page
    for path in (home / "submissions/own").glob("*.json"):
        score = json.loads(path.read_text())["oof"]
        assert 0 <= score["low"] <= score["map3"] <= score["high"] <= 1, path.name
    found = {}
    for path in (home / "submissions/own").glob("*.csv"):
        if path.stem != "ranking":
            with path.open(newline="", encoding="utf-8") as file:
                found[path.stem] = [row["word"].split(" ") for row in csv.DictReader(file)]
    return found


def check_submissions(small: Small, home: Path, learners: int) -> None:
    submissions = results(home)
    balanced = 2 if small.test >= len(small.words) else 1
    assert len(submissions) == balanced * (learners + 2), sorted(submissions)
    for rows in submissions.values():
        assert len(rows) == small.test
        assert {len(set(row)) for row in rows} == {min(3, len(small.words))}


@pytest.mark.parametrize("small", RUN.values(), ids=RUN.keys())
def test_a_small_competition_runs_from_raw_files_to_submissions(small, tmp_path):
    write(small, tmp_path)
    with contextlib.chdir(tmp_path):
        check.main([])
    run_stages(tmp_path)
    check_submissions(small, tmp_path, learners=2 + len(small.params.get("pseudo.learners", [])))


def test_a_single_keras_learner_runs_too(tmp_path):
    small = Small(words(8, 6), test=9, params={"ensemble": ["gru"], "stack.metalearners": ["arithmetic_mean"]})
    write(small, tmp_path)
    for stage, arguments in stages(tmp_path):
        command = [sys.executable, "-m", stage.__name__, *map(str, arguments)]
        variables = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        assert "Traceback" not in done.stderr
    check_submissions(small, tmp_path, learners=1)


@pytest.mark.parametrize(("small", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_run_is_refused_at_once_with_what_is_needed(small, said, tmp_path):
    write(small, tmp_path)
    begun = time.monotonic()
    with pytest.raises(SystemExit) as failed:
        run_stages(tmp_path)
    assert time.monotonic() - begun < AT_ONCE
    assert not list((tmp_path / "models").glob("*/base/*/fold*/oof.npy"))
    assert re.search(said, " ".join(str(failed.value.code).split()))
