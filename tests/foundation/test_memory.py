"""The next run reports a stage that was killed for memory, and no stage that ended otherwise."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from pipeline.foundation import memory
from pipeline.foundation.memory import watched
from tests.conftest import ROOT

KILLED = """
import os, signal, sys, time
from pathlib import Path
from pipeline.foundation.memory import watched
with watched("train lstm 0", "lower it"):
    while not list(Path("logs").rglob("*.json")):
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def note(tmp_path, monkeypatch):
    """The note that a killed run has left."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("profile: toy\n")
    subprocess.run([sys.executable, "-c", KILLED], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    return tmp_path / "logs/toy/running/train_lstm_0.json"


def told(capsys):
    with watched("train lstm 0", "lower it"):
        pass
    return capsys.readouterr().out


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_run_that_died_near_the_limit_is_told_of_once(note, capsys):
    change(note, peak=11_200_000_000, limit=12_000_000_000)
    said = "the last run of train lstm 0 was killed for want of memory, at a peak of 11.2 GB of 12.0 GB: lower it."
    assert said in told(capsys)
    assert not note.exists()
    assert told(capsys) == ""


def test_a_run_that_died_as_the_kernel_killed_is_told_of(note, capsys):
    change(note, kills=-1)
    assert "was killed for want of memory" in told(capsys)


@pytest.mark.parametrize(
    "values", [{}, {"peak": 99, "limit": 100, "boot": "another"}, {"peak": 99, "limit": "damaged"}]
)
def test_any_other_end_is_not(note, values, capsys):
    change(note, **values)
    assert told(capsys) == ""


def test_a_run_that_lives_is_not(note, capsys):
    own = os.getpid()
    change(note, peak=99, limit=100, pid=own, started=memory._started(own))
    assert told(capsys) == ""


def test_an_error_leaves_no_note(note):
    with pytest.raises(KeyError), watched("train lstm 0", ""):
        raise KeyError
    assert not note.exists()


def test_a_note_that_cannot_be_written_stops_nothing(note, capsys):
    note.unlink()
    note.parent.rmdir()
    note.parent.write_text("in the way")
    assert told(capsys) == ""


def test_peak_and_limit_are_numbers_of_this_machine():
    assert 0 < memory.peak() < memory.limit() < 2**60
