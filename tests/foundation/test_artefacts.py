"""Artefacts are whole or absent, whatever happens while they are written."""

import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from pipeline.foundation.artefacts import alone, file_hash, reserve, tidy, whole_file, whole_folder
from pipeline.foundation.errors import SketchstackError
from tests.conftest import ROOT


def fail_half_way(writing, *inside):
    """Write half of an artefact and fail."""

    def half():
        with writing as path:
            path.joinpath(*inside).write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()


def test_a_folder_takes_its_place_when_it_is_filled(tmp_path):
    place = tmp_path / "models" / "fold0"
    with whole_folder(place) as folder:
        (folder / "oof.npy").write_text("new")
        assert not place.exists()
    assert (place / "oof.npy").read_text() == "new"
    assert [path.name for path in place.parent.iterdir()] == ["fold0"]


def test_a_folder_replaces_the_old_one_and_keeps_none_of_its_files(tmp_path):
    (tmp_path / "folds").mkdir()
    (tmp_path / "folds" / "stale").write_text("old")
    with whole_folder(tmp_path / "folds") as folder:
        (folder / "fresh").write_text("new")
    assert [path.name for path in (tmp_path / "folds").iterdir()] == ["fresh"]


def test_a_failure_leaves_the_old_folder_untouched(tmp_path):
    (tmp_path / "folds").mkdir()
    (tmp_path / "folds" / "words.json").write_text("old")
    fail_half_way(whole_folder(tmp_path / "folds"), "words.json")
    assert (tmp_path / "folds" / "words.json").read_text() == "old"


def test_what_a_killed_run_left_beside_is_not_taken_over(tmp_path):
    fail_half_way(whole_folder(tmp_path / "folds"), "half")
    with whole_folder(tmp_path / "folds") as folder:
        assert list(folder.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["folds"]


def test_a_file_takes_its_place_when_it_is_written(tmp_path):
    place = tmp_path / "curves" / "fold0.csv"
    with whole_file(place) as file:
        file.write_text("new")
        assert not place.exists()
    assert place.read_text() == "new"
    assert [path.name for path in place.parent.iterdir()] == ["fold0.csv"]


def test_a_failure_leaves_the_old_file_untouched(tmp_path):
    place = tmp_path / "ledger.csv"
    place.write_text("old")
    fail_half_way(whole_file(place))
    assert place.read_text() == "old"


def test_a_file_hash_is_the_sha256_of_its_bytes(tmp_path):
    (tmp_path / "file").write_bytes(b"sketch")
    assert file_hash(tmp_path / "file") == hashlib.sha256(b"sketch").hexdigest()


# ---- inside a project: what is unfinished is below .partial/, and one process writes at a time


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("profile: synthetic\n")
    return tmp_path


def test_what_is_unfinished_is_never_where_outputs_are_hashed(project):
    with whole_folder(Path("models/synthetic/base/lstm/fold0")) as folder:
        assert folder == project / ".partial/models--synthetic--base--lstm--fold0"
        (folder / "oof.npy").write_text("half")
        assert [path.name for path in project.iterdir() if path.name != "params.yaml"] == [".partial"]
    assert Path("models/synthetic/base/lstm/fold0/oof.npy").exists()
    assert [path.name for path in Path(".partial").iterdir()] == ["locks"]


def test_an_artefact_on_another_disk_is_written_beside_its_place(project, tmp_path_factory):
    disk = tmp_path_factory.mktemp("disk")
    Path("folds").symlink_to(disk)
    with whole_folder(Path("folds/synthetic")) as folder:
        assert folder == disk / ".synthetic.partial"
        (folder / "words.json").write_text("new")
    assert (disk / "synthetic/words.json").read_text() == "new"
    assert Path("folds").is_symlink()


def test_a_link_in_an_artefact_s_place_is_followed(project):
    Path("elsewhere").mkdir()
    Path("elsewhere/old").write_text("old")
    Path("folds").symlink_to("elsewhere")
    with whole_folder(Path("folds")) as folder:
        (folder / "words.json").write_text("new")
    assert Path("folds").is_symlink()
    assert [path.name for path in Path("elsewhere").iterdir()] == ["words.json"]
    Path("target.csv").write_text("old")
    Path("ledger.csv").symlink_to("target.csv")
    with whole_file(Path("ledger.csv")) as file:
        file.write_text("new")
    assert Path("target.csv").read_text() == "new"


def test_a_file_in_a_folder_s_place_is_replaced(project):
    Path("reports").write_text("a file")
    with whole_folder(Path("reports")) as folder:
        (folder / "scores.txt").write_text("new")
    assert Path("reports/scores.txt").read_text() == "new"


HOLD = """
import sys, time
from pathlib import Path
from pipeline.foundation.artefacts import whole_folder
with whole_folder(Path("folds/synthetic")) as folder:
    (folder / "half").write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


@contextmanager
def started(code):
    """Another process, once it says that it is writing."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "writing\n"
        yield process
        process.kill()


@pytest.fixture
def writer(project):
    """Another process that is writing folds/synthetic."""
    with started(HOLD) as process:
        yield process


def test_a_second_writer_is_refused_by_the_name_of_the_first(writer):
    with (
        pytest.raises(SketchstackError, match=rf"folds/synthetic is being written by process {writer.pid} \(-c\)"),
        whole_folder(Path("folds/synthetic")),
    ):
        pass
    assert tidy() == []
    assert Path(".partial/folds--synthetic/half").exists()


def test_what_a_killed_writer_has_left_is_removed_and_said(writer):
    writer.kill()
    writer.wait()
    assert tidy() == ["removed .partial/folds--synthetic, which a stopped run had left unfinished"]
    with whole_folder(Path("folds/synthetic")) as folder:
        assert list(folder.iterdir()) == []


def test_the_right_to_write_can_be_taken_twice_by_one_process(project):
    with alone(Path("models/fold0")), whole_folder(Path("models/fold0")) as folder:
        (folder / "oof.npy").write_text("new")
    with alone(Path("models/fold0")):
        pass


HOLD_FILE = """
import sys, time
from pathlib import Path
from pipeline.foundation.artefacts import whole_file
with whole_file(Path("checkpoints/last.safetensors")) as file:
    file.write_text("half")
    print("writing", flush=True)
    sys.stdin.read(1)
    file.write_text("whole")
"""


def test_a_file_that_a_running_process_writes_is_not_tidied_away(project):
    with started(HOLD_FILE) as process:
        assert tidy() == []
        process.communicate("x")
        assert process.returncode == 0
    assert Path("checkpoints/last.safetensors").read_text() == "whole"


def test_the_second_of_two_that_write_a_file_waits_for_the_first(project):
    with started(HOLD_FILE) as process:
        assert process.stdin
        threading.Timer(0.3, process.stdin.close).start()  # then it goes on
        with whole_file(Path("checkpoints/last.safetensors")) as file:
            assert Path("checkpoints/last.safetensors").read_text() == "whole"
            file.write_text("second")
        assert process.wait(10) == 0
    assert Path("checkpoints/last.safetensors").read_text() == "second"


@pytest.fixture
def other_disk(project, tmp_path_factory):
    """A folder outside the project to which folds/ leads."""
    disk = tmp_path_factory.mktemp("disk")
    Path("folds").symlink_to(disk)
    return disk


def test_a_second_writer_on_another_disk_is_refused_too(other_disk):
    told = "folds/synthetic is being written by process"
    with started(HOLD), pytest.raises(SketchstackError, match=told), whole_folder(Path("folds/synthetic")):
        pass


def test_what_a_killed_writer_has_left_on_another_disk_is_removed_and_said(other_disk):
    with started(HOLD) as process:
        assert tidy() == []
        process.kill()
    assert tidy() == [f"removed {other_disk}/.synthetic.partial, which a stopped run had left unfinished"]
    assert list(other_disk.iterdir()) == []
    assert tidy() == []


KILLED_BETWEEN_RENAMES = """
import os, signal
from pathlib import Path
from pipeline.foundation import artefacts
artefacts._exchanged = lambda one, other: False  # as on a file system that cannot exchange two names
rename = Path.rename
def die(path, target):
    rename(path, target)
    os.kill(os.getpid(), signal.SIGKILL)
Path.rename = die
with artefacts.whole_folder(Path("folds/synthetic")) as folder:
    (folder / "words.json").write_text("new")
"""


@pytest.mark.parametrize("linked", [False, True], ids=["this disk", "another disk"])
def test_a_kill_between_two_renames_loses_no_artefact(project, tmp_path_factory, linked):
    if linked:
        Path("folds").symlink_to(tmp_path_factory.mktemp("disk"))
    Path("folds/synthetic").mkdir(parents=True)
    Path("folds/synthetic/words.json").write_text("old")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", KILLED_BETWEEN_RENAMES], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not Path("folds/synthetic").exists()
    assert len(tidy()) == 1
    assert Path("folds/synthetic/words.json").read_text() == "old"


# ---- a disk that is full


@pytest.fixture
def no_file_beyond(monkeypatch):
    """A function that lets no file of this process grow beyond some bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def reserved(path):
    with path.open("wb") as file:
        reserve(file, 200_000)


def filled(folder, write):
    with whole_folder(folder) as beside:
        (beside / "first").write_bytes(bytes(70_000))
        write(beside / "oof.npy")


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(bytes(200_000)),
        lambda path: np.save(path, np.zeros(50_000)),
        reserved,
    ],
    ids=["bytes", "numpy", "reserved"],
)
def test_a_full_disk_is_told_with_figures_and_leaves_what_was_there(write, project, no_file_beyond):
    Path("models").mkdir()
    Path("models/oof.npy").write_text("old")
    no_file_beyond(100_000)
    told = r"models cannot be written: .*MB of it were written, and .* MB of disk space are free at"
    with pytest.raises(SketchstackError, match=told):
        filled(Path("models"), write)
    assert Path("models/oof.npy").read_text() == "old"
    assert [path.name for path in Path(".partial").iterdir()] == ["locks"]


def test_what_is_in_the_way_and_cannot_be_removed_is_named(project, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    (project / ".partial/folds").mkdir(parents=True)
    monkeypatch.setattr(shutil, "rmtree", refused)
    told = r"\.partial/folds is left of a run that was stopped, and cannot be removed \(Permission denied\)"
    with pytest.raises(SketchstackError, match=told), whole_folder(Path("folds")):
        pass
