"""What a killed DVC leaves damaged is restored, and the work of the run is not lost: real DVC, toy stages."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from dvc.rwlock import SCHEMA as RWLOCK_SCHEMA
from dvc.schema import COMPILED_LOCKFILE_SCHEMA

from pipeline.foundation import dvc
from pipeline.foundation.artefacts import alone
from pipeline.foundation.errors import SketchstackError
from tests.conftest import ROOT

STAGES = {
    "first": {"cmd": "echo first >> runs.txt; echo 1 > one", "params": ["seed"], "outs": ["one"]},
    "second": {
        "cmd": "echo second >> runs.txt; cat one one > two",
        "deps": ["one"],
        "params": ["seed", "threads"],
        "outs": ["two"],
    },
    "third": {"cmd": "cat one two > three", "deps": ["one", "two"], "outs": ["three"]},
}


def run(*command):
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A toy project whose stages have run."""
    home = tmp_path_factory.mktemp("toy")
    (home / "params.yaml").write_text("profile: toy\nseed: 1\nthreads: 2\n")
    (home / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        run("git", "init", "-q")
        run(sys.executable, "-m", "dvc", "init", "-q")
        assert dvc.run_dvc(["-q"]) == 0
    return home


@pytest.fixture
def toy(finished, tmp_path, monkeypatch):
    """A copy of the toy project, to be in and to break."""
    run("cp", "-r", str(finished), str(tmp_path / "toy"))
    monkeypatch.chdir(tmp_path / "toy")
    return tmp_path / "toy"


def commit():
    run("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "run", "--no-verify")


def test_a_whole_lock_stays(toy):
    text = dvc.LOCK.read_bytes()
    assert dvc.restore_lock() == ""
    assert dvc.LOCK.read_bytes() == text


def test_a_cut_lock_is_restored_from_its_copy_and_finished_stages_are_not_run_again(toy):
    text = dvc.LOCK.read_bytes()
    dvc.keep_lock()
    Path("params.yaml").write_text("profile: toy\nseed: 2\nthreads: 2\n")
    assert dvc.run_dvc(["-q"]) == 0
    after = dvc.LOCK.read_bytes()
    dvc.LOCK.write_bytes(b"")
    assert dvc.restore_lock() == (
        "dvc.lock was damaged (a run was killed while DVC wrote it) and is restored from its last good copy."
    )
    assert dvc.LOCK.read_bytes() == text
    assert dvc.run_dvc(["-q"]) == 0
    assert Path("runs.txt").read_text().split() == ["first", "second"] * 2
    assert dvc.LOCK.read_bytes() == after


def test_without_a_copy_the_last_commit_has_the_lock(toy):
    text = dvc.LOCK.read_bytes()
    run("git", "add", "-A")
    commit()
    dvc.LOCK.write_bytes(text[: len(text) // 2])
    assert "is restored from the last commit" in dvc.restore_lock()
    assert dvc.LOCK.read_bytes() == text


def test_without_any_copy_the_run_cache_makes_the_lock_again(toy):
    text = dvc.LOCK.read_bytes()
    dvc.LOCK.write_bytes(text[:-100])
    assert "there is no good copy" in dvc.restore_lock()
    assert dvc.run_dvc(["-q"]) == 0
    assert Path("runs.txt").read_text().split() == ["first", "second"]
    assert dvc.LOCK.read_bytes() == text


def test_wherever_a_lock_is_cut_dvc_can_read_it_afterwards(toy):
    text = dvc.LOCK.read_bytes()
    dvc.keep_lock()
    for size in range(0, len(text), 7):
        dvc.LOCK.write_bytes(text[:size])
        dvc.restore_lock()
        restored = dvc.LOCK.read_bytes()
        COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(restored))
        assert restored.endswith(b"\n")


@pytest.mark.parametrize("damage", [Path.mkdir, lambda path: path.symlink_to("nowhere")], ids=["folder", "dead link"])
def test_another_thing_in_the_lock_s_place_is_put_aside(toy, damage):
    text = dvc.LOCK.read_bytes()
    dvc.keep_lock()
    dvc.LOCK.unlink()
    damage(dvc.LOCK)
    dvc.restore_lock()
    assert dvc.LOCK.read_bytes() == text
    assert not dvc.LOCK.is_symlink()


def test_a_merge_s_conflict_is_the_user_s_to_decide(toy):
    text = dvc.LOCK.read_text()
    dvc.keep_lock()
    conflict = f"{text}<<<<<<< HEAD\n    size: 1\n=======\n    size: 2\n>>>>>>> other\n"
    dvc.LOCK.write_text(conflict)
    with pytest.raises(SketchstackError, match=r"dvc.lock has a merge's conflict markers; .*git checkout --ours"):
        dvc.restore_lock()
    assert dvc.LOCK.read_text() == conflict


def test_what_was_damaged_is_kept(toy):
    dvc.keep_lock()
    dvc.LOCK.write_text("half: [")
    dvc.restore_lock()
    assert dvc.DAMAGED.read_text() == "half: ["


def test_a_lock_that_another_dvc_is_writing_is_left_alone(toy):
    dvc.keep_lock()
    dvc.LOCK.write_bytes(b"")
    with dvc.REPO_LOCK.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(SketchstackError, match=r"dvc.lock .* another DVC is running; wait for it to end"):
            dvc.restore_lock()
    assert dvc.LOCK.read_bytes() == b""


@pytest.mark.parametrize(
    "text", ["", '{"write": {"/a', "null\n", "[]", '{"read": [], "write": {}}', '{"read": {"a": 1}}']
)
def test_a_damaged_table_of_locks_is_removed(toy, text):
    dvc.RWLOCK.write_text(text)
    assert "was damaged (a run was killed while DVC wrote it) and is removed" in dvc.restore_rwlock()
    assert not dvc.RWLOCK.exists()


def test_a_whole_table_of_locks_stays(toy):
    text = '{"write": {"/a": {"pid": 12, "cmd": "dvc repro"}}, "read": {}}'
    RWLOCK_SCHEMA({"write": {"/a": {"pid": 12, "cmd": "dvc repro"}}, "read": {}})
    dvc.RWLOCK.write_text(text)
    assert dvc.restore_rwlock() == ""
    assert dvc.RWLOCK.read_text() == text


def test_locks_of_a_killed_process_that_nobody_has_waited_for_are_dropped(toy):
    with subprocess.Popen(["sleep", "60"]) as process:
        held = json.dumps({"write": {str(toy / "one"): {"pid": process.pid, "cmd": "dvc repro"}}, "read": {}})
        dvc.RWLOCK.write_text(held)
        assert dvc.restore_rwlock() == "", "it lives"
        process.kill()
        while Path(f"/proc/{process.pid}/stat").read_text().split()[2] != "Z":
            time.sleep(0.01)
        assert "was held by a process that was killed" in dvc.restore_rwlock()
        assert dvc.run_dvc(["-q", "--force"]) == 0


def test_a_table_of_locks_is_left_alone_while_dvc_runs(toy):
    dvc.RWLOCK.write_text("")
    with dvc.REPO_LOCK.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(SketchstackError, match="another DVC is running"):
            dvc.restore_rwlock()


@pytest.mark.parametrize(("raised", "said"), [("KeyboardInterrupt", ""), ("ValueError('spoilt')", "spoilt")])
def test_dvc_interrupted_among_its_imports_ends_without_a_traceback(raised, said, tmp_path):
    (tmp_path / "dvc").mkdir()
    (tmp_path / "dvc" / "__init__.py").touch()
    (tmp_path / "dvc" / "__main__.py").write_text(f"raise {raised}")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", dvc.IN_WORDS, "repro"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode
    assert said in done.stderr
    assert bool(said) == ("Traceback" in done.stderr)


ORPHAN = """
from pipeline.foundation.artefacts import alone
from pipeline.foundation.dvc import LOCK, run_dvc
with alone(LOCK) as held:
    run_dvc(["-q"], held)
"""


def test_a_dvc_whose_starter_was_killed_still_holds_the_lock(toy):
    slow = {"slow": {"cmd": "touch begun; sleep 3; touch done", "outs": ["done"]}}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": slow}))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", ORPHAN], env=environment) as process:
        while process.poll() is None and not Path("begun").exists():
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    with (
        pytest.raises(SketchstackError, match=r"dvc.lock is being written by process \d+ \(dvc repro\)"),
        alone(dvc.LOCK),
    ):
        pass
    for _ in range(300):
        try:
            with alone(dvc.LOCK):
                break
        except SketchstackError:
            time.sleep(0.05)
    assert Path("done").exists()
