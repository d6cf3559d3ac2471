"""A stage that another process is running is refused by the process's name: real stages, real locks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.foundation.artefacts import alone
from pipeline.foundation.places import places
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("stage", "artefact"),
    [
        (["train", "gru", "0"], "base/gru/fold0"),
        (["stack"], "meta"),
        (["submit"], "submissions"),
    ],
    ids=["train", "stack", "submit"],
)
def test_a_stage_that_runs_already_is_refused_and_changes_nothing(copied_run, stage, artefact):
    place = places().submissions if artefact == "submissions" else places().base.parent / artefact
    before = {path: path.stat().st_mtime_ns for path in Path("models").rglob("*")}
    command = [sys.executable, "-m", f"pipeline.stages.{stage[0]}", *stage[1:]]
    with alone(place):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        second = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert f"{place} is being written by process {os.getpid()} (" in " ".join(second.stderr.split())
    assert {path: path.stat().st_mtime_ns for path in Path("models").rglob("*")} == before
