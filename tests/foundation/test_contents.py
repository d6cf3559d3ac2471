"""Bytes of artefacts: sealed as they are written, compared as they are read; no damaged number is used."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.commands import compare
from pipeline.drawings.words import load_words
from pipeline.foundation.contents import CONTENTS, check_sealed, intact, seal
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import load_params
from pipeline.predictions.cache import read_learner
from pipeline.stages import report, stack, submit
from tests.conftest import failing_main

DAMAGE = {
    "cut": lambda data: data[: len(data) // 2],
    "emptied": lambda data: b"",
    "one bit": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "zeros": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    "longer": lambda data: data + b"\0",
    "null": lambda data: b"null",
}


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    folder = tmp_path / "artefact"
    (folder / "inner").mkdir(parents=True)
    (folder / "numbers.npy").write_bytes(np.arange(1000).tobytes())
    (folder / "inner" / "scores.json").write_text("{}\n")
    seal(folder)
    return folder


def test_what_was_written_passes(sealed):
    check_sealed(sealed)
    assert intact(sealed / "numbers.npy") == sealed / "numbers.npy"
    assert intact(sealed / "inner" / "scores.json").read_text() == "{}\n"


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("name", ["numbers.npy", "inner/scores.json"])
def test_other_bytes_are_refused_by_name(sealed, name, damage):
    path = sealed / name
    intact(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SketchstackError, match=f"{path} was cut or altered.*Remove {sealed} and run `dvc repro`"):
        intact(path)


def test_bytes_that_change_back_in_time_are_found_by_a_new_process(sealed):
    path = sealed / "numbers.npy"
    before = path.stat()
    path.write_bytes(DAMAGE["one bit"](path.read_bytes()))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(SketchstackError, match="altered"):
        intact(path)


def test_a_file_that_was_not_sealed_with_the_others_is_refused(sealed):
    (sealed / "more.npy").write_bytes(b"1")
    with pytest.raises(SketchstackError, match=r"more\.npy is not listed in"):
        intact(sealed / "more.npy")


@pytest.mark.parametrize("text", ["", "null", "[1]", "{", '{"numbers.npy": '])
def test_a_damaged_list_is_refused_by_name(sealed, text):
    (sealed / CONTENTS).write_text(text)
    with pytest.raises(SketchstackError, match=r"contents\.json does not list"):
        intact(sealed / "numbers.npy")


def test_without_a_list_files_pass_but_the_folder_is_not_sealed(sealed):
    (sealed / CONTENTS).unlink()
    intact(sealed / "numbers.npy")
    with pytest.raises(SketchstackError, match=r"contents\.json is missing"):
        check_sealed(sealed)


# ---- a run: what every direct command says of numbers that changed on disk


def swap_columns(path: Path) -> None:
    array = np.load(path)
    np.save(path, np.ascontiguousarray(array[:, ::-1]))


def zero_rows(path: Path) -> None:
    array = np.load(path)
    array[: len(array) // 2] = 0
    np.save(path, array)


def other_label(path: Path) -> None:
    array = np.load(path)
    np.save(path, np.roll(array, 1))


def higher_score(path: Path) -> None:
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {"map3": 0.99}))


BASE, META = "models/synthetic/base/gru/fold1", "models/synthetic/meta"
READERS = [  # file, what happens to it, the command that must not use it
    (f"{BASE}/test.npy", swap_columns, (stack,)),
    (f"{BASE}/test.npy", swap_columns, (submit,)),
    (f"{BASE}/oof.npy", zero_rows, (stack,)),
    (f"{BASE}/oof.npy", zero_rows, (compare, "gru", "seresnet")),
    (f"{BASE}/rows.npy", other_label, (compare, "gru", "seresnet")),
    (f"{BASE}/metrics.json", higher_score, (stack,)),
    (f"{META}/labels.npy", other_label, (compare, "gru", "seresnet")),
    (f"{META}/labels.npy", other_label, (submit,)),
    (f"{META}/super_learner/test.npy", swap_columns, (submit,)),
    (f"{META}/super_learner/oof.npy", zero_rows, (compare, "gru", "super_learner")),
    ("folds/synthetic/words.json", lambda path: path.write_text(path.read_text().replace("c", "k")), (stack,)),
]


@pytest.mark.parametrize(("name", "damage", "command"), READERS)
def test_no_command_uses_numbers_that_changed_on_disk(name, damage, command, copied_run):
    damage(copied_run / name)
    assert f"{name} was cut or altered" in failing_main(*command)


def test_a_report_leaves_out_what_is_damaged_and_says_so(copied_run):
    path = copied_run / META / "weights.json"
    path.write_text(path.read_text().replace("0.", "0.9"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["report"])
        report.main()
    assert "weights.json was cut or altered" in " ".join(Path("reports/synthetic/report.html").read_text().split())


def test_weights_are_checked_before_they_are_used(copied_run):
    from pipeline.learners._base import load_learner

    folder, params = copied_run / BASE, load_params()
    words = load_words(Path("folds/synthetic"))
    learner = load_learner("gru", params.learner("gru"), num_words=len(words), seed=(0, 1), threads=1)
    learner.build()
    learner.save(folder)
    seal(folder)
    learner.load(folder)
    path = folder / "weights.safetensors"
    path.write_bytes(DAMAGE["zeros"](path.read_bytes()))
    with pytest.raises(SketchstackError, match=r"weights\.safetensors was cut or altered"):
        learner.load(folder)


def test_predictions_without_hashes_are_refused(copied_run):
    (copied_run / BASE / CONTENTS).unlink()
    with pytest.raises(SketchstackError, match=r"fold1/contents\.json is missing"):
        read_learner("gru", load_params(), load_words(Path("folds/synthetic")))
