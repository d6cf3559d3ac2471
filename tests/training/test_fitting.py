"""What a resume point is made from: whatever a step depends on, each under a name that a refusal can tell."""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path

import pytest

from pipeline.foundation.fingerprints import Code
from pipeline.foundation.params import Params, load_params
from pipeline.training import fitting
from tests.conftest import ROOT

PARAMS = load_params(ROOT / "profiles" / "synthetic.yaml")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params, a summary of folds, and a copy of the code that decides what a step does."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folds/synthetic").mkdir(parents=True)
    (tmp_path / "folds/synthetic" / "summary.json").write_text("{}")
    shutil.copy(ROOT / "profiles" / "synthetic.yaml", tmp_path / "params.yaml")
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fitting, "project", lambda: Code(tmp_path))
    return tmp_path


def made_from(params: Params = PARAMS) -> dict[str, str]:
    return fitting._checkpoint(params, "lstm", 0, {"pseudo-labels": "p"}).made_from


def differing(before: dict[str, str], after: dict[str, str]) -> set[str]:
    assert {*before} == {*after}
    return {name for name in before if before[name] != after[name]}


def test_the_hashes_of_a_checkpoint_have_names(home):
    assert {*made_from()} == {"params", "data", "code", "libraries", "pseudo-labels"}


@pytest.mark.parametrize(
    ("source", "before", "after"),
    [
        ("learners/lstm.py", "dropout", "dropped"),
        ("learners/_torch.py", "torch.manual_seed", "torch.seed"),
        ("learners/_base.py", "PREDICT = 512", "PREDICT = 511"),
        ("drawings/batches.py", "AHEAD = ", "AHEAD = 1 + "),
        ("drawings/encodings.py", "STROKES = 16", "STROKES = 15"),
    ],
)
def test_a_checkpoint_of_other_code_differs_in_its_code_alone(source, before, after, home):
    made, path = made_from(), home / "pipeline" / source
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))
    assert differing(made, made_from()) == {"code"}


def test_a_checkpoint_of_other_folds_differs_in_its_data_alone(home):
    before = made_from()
    (home / "folds/synthetic" / "summary.json").write_text('{"other": 1}')
    assert differing(before, made_from()) == {"data"}


def test_a_checkpoint_of_other_params_differs_in_its_params_alone(home):
    for change in ({"seed": 7}, {"threads": 1}):
        assert differing(made_from(), made_from(PARAMS.model_copy(update=change))) == {"params"}
    lstm = PARAMS.learner("lstm")
    training = lstm.training.model_copy(update={"epochs": lstm.training.epochs + 1})
    learners = PARAMS.learners | {"lstm": lstm.model_copy(update={"training": training})}
    assert differing(made_from(), made_from(PARAMS.model_copy(update={"learners": learners}))) == {"params"}


def test_another_learner_and_the_times_of_writes_make_no_difference(home):
    before = made_from()
    (home / "pipeline/learners/gru.py").write_text("OTHER = 1\n")
    checkpoints = PARAMS.checkpoints.model_copy(update={"seconds": 1.0})
    assert made_from(PARAMS.model_copy(update={"checkpoints": checkpoints})) == before


def test_a_checkpoint_of_another_library_version_differs_in_its_libraries_alone(home, monkeypatch):
    before, usual = made_from(), importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9" if name == "torch" else usual(name))
    assert differing(before, made_from()) == {"libraries"}


def test_a_machine_that_lacks_a_library_trains_without_it(home, monkeypatch):
    usual = importlib.metadata.version

    def version(name: str) -> str:
        if name == "keras":
            raise importlib.metadata.PackageNotFoundError(name)
        return usual(name)

    before = made_from()
    monkeypatch.setattr(importlib.metadata, "version", version)
    assert differing(before, made_from()) == {"libraries"}
