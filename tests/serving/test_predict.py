"""New drawings get the guesses that the stages would give them, row by row, and bad rows their reasons."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.commands import predict
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import load_params
from pipeline.serving import rows as module
from pipeline.serving.rows import input_files, layouts_of, read_blocks
from pipeline.serving.trained import TrainedEnsemble
from tests.conftest import ROOT, failing_main, run_main

TEST = Path("data/own/test_simplified.csv")
LARGE = 2**64 - 5  # an id that int64 cannot hold


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def a_row(key_id: object, drawing: object) -> str:
    return json.dumps({"key_id": str(key_id), "drawing": drawing})


def drawings(count: int) -> list[list[list[list[int]]]]:
    with TEST.open(newline="") as file:
        return [json.loads(row["drawing"]) for row in list(csv.DictReader(file))[:count]]


@pytest.mark.parametrize("model", ["super_learner", "lstm", "seresnet", "arithmetic_mean"])
def test_the_test_set_gets_the_submission_to_the_byte(model, home, tmp_path):
    run_main(predict, TEST, "-o", tmp_path / "out.csv", "--format", "submission", "--model", model)
    assert (tmp_path / "out.csv").read_bytes() == Path(f"submissions/own/{model}.csv").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]  # no rejects


def test_all_formats_say_the_same(home, packs, tmp_path):
    for ending in ("csv", "ndjson", "parquet"):
        run_main(predict, TEST, "-o", tmp_path / f"out.{ending}", "--pack", packs / "float32.zip")
    rows, table = lines_of(tmp_path / "out.csv"), pq.read_table(tmp_path / "out.parquet").to_pylist()
    objects = [json.loads(line) for line in (tmp_path / "out.ndjson").read_text().splitlines()]
    submitted = lines_of(Path("submissions/own/super_learner.csv"))
    assert len(rows) == len(table) == len(objects) == len(submitted) == 30
    for row, stored, given, asked in zip(rows, table, objects, submitted, strict=True):
        assert row["key_id"] == str(stored["key_id"]) == given["key_id"] == asked["key_id"]
        words = [row[f"word_{place}"] for place in (1, 2, 3)]
        assert words == [stored[f"word_{place}"] for place in (1, 2, 3)] == [word for word, _ in given["guesses"]]
        assert words == asked["word"].split()
        values = [float(row[f"probability_{place}"]) for place in (1, 2, 3)]
        np.testing.assert_allclose(values, [stored[f"probability_{place}"] for place in (1, 2, 3)], atol=1e-6)
        np.testing.assert_allclose(values, [value for _, value in given["guesses"]], atol=1e-6)
        assert 1.001 > sum(values) > values[0] >= values[1] >= values[2] >= 0


def test_rows_keep_their_order_and_bad_rows_get_reasons(home, packs, tmp_path):
    first, second, third = drawings(3)
    given = tmp_path / "mixed.ndjson"
    lines = [a_row(7, first), "no json", a_row(8, []), a_row(LARGE, second), a_row(7, third), a_row("x", first)]
    given.write_text("\n".join([*lines, ""]))
    run_main(predict, given, "-o", tmp_path / "out.csv", "--pack", packs / "float32.zip")
    assert [row["key_id"] for row in lines_of(tmp_path / "out.csv")] == ["7", str(LARGE), "7"]
    rejects = lines_of(tmp_path / "out.rejects.csv")
    assert [(row["line"], row["key_id"]) for row in rejects] == [("2", ""), ("3", "8"), ("6", "x")]
    assert all(row["reason"] for row in rejects)
    run_main(predict, given, "-o", tmp_path / "s.csv", "--format", "submission", "--pack", packs / "float32.zip")
    submitted = lines_of(tmp_path / "s.csv")
    assert [row["key_id"] for row in submitted] == ["7", "8", str(LARGE), "7"]
    counts: dict[str, int] = {}
    for row in (submitted[0], submitted[2], submitted[3]):
        for word in row["word"].split():
            counts[word] = counts.get(word, 0) + 1
    assert submitted[1]["word"].split() == sorted(counts, key=lambda word: (-counts[word], word))[:3]


@pytest.mark.parametrize("size", [1, 7, 30, 1000])
def test_blocks_of_any_size_hold_the_same_rows(size, home):
    def all_of(rows: int) -> tuple[list[int], list[list[int]], int]:
        with input_files([TEST, TEST]) as files:
            blocks = list(read_blocks(files, layouts_of(files, timing=False), timed=False, rows=rows))
        assert all(len(block.drawings) <= rows for block in blocks)
        ids = [int(key_id) for block in blocks for key_id in block.drawings.key_id]
        return ids, [place for block in blocks for place in block.order.tolist()], len(blocks)

    ids, order, blocks = all_of(size)
    assert blocks == -(-60 // size)
    assert order == sorted(order)
    assert [ids, order] == [*all_of(10**6)[:2]]
    assert ids[:30] == ids[30:]


def test_many_rejects_do_not_pile_up(tmp_path, monkeypatch):
    given = tmp_path / "bad.ndjson"
    given.write_text("no json\n" * 50_000 + a_row(1, [[[0, 1], [0, 1]]]) + "\n")
    monkeypatch.setattr("pipeline.raw.files.BLOCK", 2**14)
    with input_files([given]) as files:
        blocks = list(read_blocks(files, layouts_of(files, timing=False), timed=False, rows=5000))
    assert sum(len(block.rejects) for block in blocks) == 50_000
    assert max(len(block.rejects) for block in blocks) < 10_000
    assert [len(block.drawings) for block in blocks if len(block.drawings)] == [1]


def test_stdin_is_ndjson(home, packs, tmp_path):
    lines = "\n".join(a_row(number, drawing) for number, drawing in enumerate(drawings(4)))
    command = [sys.executable, "-m", "pipeline", "predict", "-", "-o", tmp_path / "out.ndjson"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "--pack", packs / "float32.zip"], input=lines, env=environment, capture_output=True, text=True,
        check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "out.ndjson").read_text().splitlines()) == 4
    done = subprocess.run(
        [*command[:-1], tmp_path / "none.csv"], input="", env=environment, capture_output=True, text=True, check=False,
        cwd=home,
    )  # fmt: skip
    assert "stdin is empty" in " ".join(done.stderr.split())


def test_a_raw_drawing_is_seen_without_its_times(home, packs, tmp_path):
    """A model that was trained on simplified drawings must not count the seconds of raw ones."""
    plain = [[[0, 100, 255, 255], [0, 10, 0, 255]], [[0, 255], [255, 255]]]
    timed = [[*stroke, [1000 * place for place in range(len(stroke[0]))]] for stroke in plain]
    for name, drawing in {"plain": plain, "timed": timed}.items():
        (tmp_path / f"{name}.ndjson").write_text(a_row(5, drawing) + "\n")
        run_main(predict, tmp_path / f"{name}.ndjson", "-o", tmp_path / f"{name}.csv", "--pack", packs / "float32.zip")
    assert lines_of(tmp_path / "plain.csv") == lines_of(tmp_path / "timed.csv")


def test_a_model_that_needs_times_refuses_drawings_without(home):
    with input_files([TEST]) as files, pytest.raises(SketchstackError, match="has no time of each point"):
        layouts_of(files, timing=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.csv", "-o", "out.csv"], "nowhere.csv is missing"),
        ([TEST, "-o", "out.txt"], "does not end in .csv, .ndjson, .jsonl, .parquet"),
        ([TEST, "-o", "params.yaml", "--format", "csv"], "params.yaml exists already"),
        (
            [TEST, "-o", "out.csv", "--model", "nobody"],
            "there is no model 'nobody' in params.yaml; the models are lstm",
        ),
        (["params.yaml", "-o", "out.csv"], "its name does not end like that of a file of drawings"),
        ([TEST, "-o", "out.csv", "--pack", "nowhere.zip"], "nowhere.zip is missing"),
        ([TEST, "-o", "out.csv", "--pack", "params.yaml"], "params.yaml cannot be read"),
        (["data/own/sample_submission.csv", "-o", "out.csv"], "the column 'drawing' is missing"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_written(arguments, said, home):
    before = sorted(path.name for path in home.iterdir())
    assert said in failing_main(predict, *arguments)
    assert sorted(path.name for path in home.iterdir()) == before


def test_a_learner_that_is_not_trained_is_named(home, monkeypatch):
    params = load_params()
    with pytest.raises(SketchstackError, match=r"models/own/base/lstm/fold7 is missing: lstm is not trained"):
        TrainedEnsemble(params.model_copy(update={"folds": [0, 7]}), "lstm")


def _killed(*of_a_network: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_network_that_the_system_kills_is_named(home, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.serving.trained._predict", _killed)
    with input_files([TEST]) as files:
        (block,) = read_blocks(files, layouts_of(files, timing=False), timed=False)
    with pytest.raises(SketchstackError, match="the process that predicts with lstm was ended by the system"):
        TrainedEnsemble(load_params(), "lstm").probabilities(block.drawings)


def test_block_holds_whole_batches():
    assert module.BLOCK % 8192 == 0  # rows that the stack and the networks compute together
