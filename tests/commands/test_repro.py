"""`repro` is alone, and repairs before DVC looks: real processes, a toy pipeline."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
REPRO = (sys.executable, "-m", "pipeline", "repro")
SLOW = {"slow": {"cmd": "touch begun; sleep 3; touch done", "outs": ["done"]}}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A project of a stage that takes three seconds."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_bytes((ROOT / "profiles/synthetic.yaml").read_bytes())
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": SLOW}))
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], check=True)


def test_a_second_run_is_refused_by_the_process_of_the_first_and_moves_nothing(toy):
    with subprocess.Popen(REPRO, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        while first.poll() is None and not Path("begun").exists():
            time.sleep(0.02)
        Path("models/synthetic/base/other/fold0").mkdir(parents=True)
        second = subprocess.run(REPRO, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert "dvc.lock is being written by process" in second.stderr
        assert Path("models/synthetic/base/other/fold0").exists()
        assert not Path("done").exists()
    assert Path("done").exists()


def test_a_lock_that_was_emptied_is_restored_with_a_sentence(toy):
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"quick": {"cmd": "touch done", "outs": ["done"]}}}))
    subprocess.run(REPRO, env=ENVIRONMENT, capture_output=True, check=False)
    text = Path("dvc.lock").read_bytes()
    Path("dvc.lock").write_bytes(b"")
    said = subprocess.run(REPRO, env=ENVIRONMENT, capture_output=True, text=True, check=False).stdout
    assert "dvc.lock was damaged (a run was killed while DVC wrote it) and is restored from its last good copy." in said
    assert Path("dvc.lock").read_bytes() == text


def test_dvc_leaves_raw_files_of_people_s_own_to_the_stage(toy):
    """As dvc.yaml declares its output, DVC deletes nothing before the stage runs."""
    (declared,) = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["synthesize"]["outs"]
    (options,) = declared.values() if isinstance(declared, dict) else [{}]
    quick = {"cmd": "ls out > seen; touch out/new", "params": ["seed"], "outs": [{"out": options}]}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"synthesize": quick}}))
    Path("out").mkdir()
    Path("out/mine.csv").write_text("mine")
    subprocess.run(REPRO, env=ENVIRONMENT, capture_output=True, check=False)
    assert Path("seen").read_text() == "mine.csv\n"
    assert Path("out/mine.csv").read_text() == "mine"


def test_a_submission_of_one_s_own_is_moved_where_dvc_empties_nothing(toy):
    submissions = Path("submissions/synthetic")
    submissions.mkdir(parents=True)
    manifest = '{"name": "lstm", "rank": 1, "sha256": "0"}'
    for name, text in {"lstm.csv": "ours", "lstm.json": manifest, "ranking.csv": "ours", "mine.csv": "mine"}.items():
        (submissions / name).write_text(text)
    Path("submissions/mine.csv").write_text("an earlier one")
    said = subprocess.run(REPRO, env=ENVIRONMENT, capture_output=True, text=True, check=False).stdout
    assert "moved submissions/synthetic/mine.csv to submissions/mine.1.csv: DVC empties the folder where it was" in said
    assert Path("submissions/mine.1.csv").read_text() == "mine"
    assert sorted(path.name for path in submissions.iterdir()) == ["lstm.csv", "lstm.json", "ranking.csv"]
