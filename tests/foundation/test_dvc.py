"""A run that was killed while DVC wrote its own files goes on, and loses nothing."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.foundation.dvc import COPY, LOCK, REPO_LOCK, RWLOCK, keep_lock, restore_lock, restore_rwlock, run_dvc
from pipeline.foundation.errors import SketchstackError

STAGES = """
stages:
  first:
    cmd: echo one >> ran && cat input > first
    deps: [input]
    outs: [first]
  second:
    cmd: echo two >> ran && cat first > second
    deps: [first]
    outs: [second]
"""
DAMAGE = {
    "emptied": lambda text: b"",
    "cut": lambda text: text[: len(text) // 2],
    "cut at a line": lambda text: b"".join(text.splitlines(keepends=True)[:4]),
    "zeros": lambda text: bytes(len(text)),
    "null": lambda text: b"null\n",
    "a list": lambda text: b"- schema\n",
    "not UTF-8": lambda text: b"\xff\xfe" + text,
}


def git(*arguments):
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository whose two stages have run."""
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True, capture_output=True)
    Path("dvc.yaml").write_text(STAGES)
    Path("input").write_text("1")
    assert run_dvc([]) == 0
    git("add", "--all")
    git("commit", "--quiet", "--message", "a run")
    return tmp_path


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_lock_comes_back_from_its_copy_and_nothing_runs_again(damage, project):
    before = LOCK.read_bytes()
    keep_lock()
    LOCK.write_bytes(damage(before))
    assert "dvc.lock was damaged" in restore_lock()
    assert LOCK.read_bytes() == before
    assert run_dvc([]) == 0
    assert Path("ran").read_text() == "one\ntwo\n"


def test_without_a_copy_it_comes_back_from_the_last_commit(project):
    before = yaml.safe_load(LOCK.read_text())
    LOCK.write_bytes(b"")
    assert "restored from the last commit" in restore_lock()
    assert yaml.safe_load(LOCK.read_text()) == before


def test_a_copy_of_an_earlier_run_costs_no_stage_that_ran_since(project):
    keep_lock()
    Path("dvc.yaml").write_text(STAGES.replace("cat first", "cat first first"))
    assert run_dvc([]) == 0
    after = LOCK.read_bytes()
    LOCK.write_bytes(after[:100])
    restore_lock()
    assert run_dvc([]) == 0
    assert Path("ran").read_text() == "one\ntwo\ntwo\n", "the stage came back from the run cache"
    assert LOCK.read_bytes() == after


def test_with_neither_copy_nor_commit_the_run_cache_brings_everything_back(project):
    git("rm", "--quiet", "--cached", "dvc.lock")
    git("commit", "--quiet", "--message", "no lock")
    before = LOCK.read_bytes()
    LOCK.write_bytes(b"")
    assert "no good copy" in restore_lock()
    assert run_dvc([]) == 0
    assert LOCK.read_bytes() == before
    assert Path("ran").read_text() == "one\ntwo\n"


def test_a_good_lock_or_none_is_left_alone(project):
    before = LOCK.read_bytes()
    assert restore_lock() == ""
    assert LOCK.read_bytes() == before
    LOCK.unlink()
    assert restore_lock() == ""
    keep_lock()
    assert not COPY.exists()


@pytest.mark.parametrize("text", [b"", b'{"a": ', b"\xff"])
def test_a_damaged_table_of_locks_goes_when_no_dvc_runs(text, project):
    RWLOCK.write_bytes(text)
    with REPO_LOCK.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(SketchstackError, match="cannot be read"):
            restore_rwlock()
    assert "rwlock was damaged" in restore_rwlock()
    assert not RWLOCK.exists()
    assert run_dvc([]) == 0


def test_a_whole_table_of_locks_stays(project):
    RWLOCK.write_text("{}")
    assert restore_rwlock() == ""
    assert RWLOCK.exists()


def test_the_exit_code_of_a_stage_that_fails_is_told(project):
    Path("dvc.yaml").write_text(STAGES.replace("cat first >", "exit 3; cat first >"))
    assert run_dvc([]) != 0
