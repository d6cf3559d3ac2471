"""Stages on a full disk, or with logs/ that cannot be written: a paragraph or a warning, and the old artefact stays."""

from __future__ import annotations

import resource
import shutil
from collections import namedtuple
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.foundation.artefacts import file_hash
from pipeline.raw.files import RawFile, least_written
from pipeline.stages import score, shuffle, stack, submit
from tests.conftest import failing_main, run_main

Usage = namedtuple("Usage", "total used free")
WRITTEN = {shuffle: "folds", stack: "models/synthetic/meta", submit: "submissions", score: "reports"}


@contextmanager
def no_file_above(limit):
    """The system lets no file of this process grow above the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def files(folder):
    return {str(path): file_hash(path) for path in Path(folder).rglob("*") if path.is_file()}


@pytest.mark.parametrize("stage", WRITTEN, ids=lambda stage: stage.__name__.rpartition(".")[2])
def test_a_stage_on_a_full_disk_ends_in_a_paragraph_and_leaves_the_old_artefact(stage, copied_run):
    before = files(WRITTEN[stage])
    with no_file_above(50):
        told = failing_main(stage)
    assert "cannot be written: a file has reached the size that this shell allows" in told
    assert "MB of disk space are free at" in told
    assert files(WRITTEN[stage]) == before


@pytest.mark.parametrize("stage", [shuffle, stack, submit], ids=lambda stage: stage.__name__.rpartition(".")[2])
def test_logs_that_cannot_be_written_stop_no_stage(stage, copied_run, capsys):
    shutil.rmtree("logs")
    Path("logs").write_text("in the way")
    run_main(stage)
    assert "a log is not written" in capsys.readouterr().out


@pytest.mark.parametrize("stage", [shuffle, stack], ids=lambda stage: stage.__name__.rpartition(".")[2])
def test_what_is_sure_not_to_fit_is_refused_before_anything_is_written(stage, copied_run, monkeypatch):
    before = files(WRITTEN[stage])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(9, 8, 1000))
    told = failing_main(stage)
    assert "takes at least" in told
    assert "1 kB of disk space are free at" in told
    assert files(WRITTEN[stage]) == before


def test_the_shuffle_never_asks_for_more_than_it_writes(copied_run):
    raw = [RawFile(path, 0, "") for path in Path("data/synthetic").rglob("*simplified*/*.csv")]
    written = sum(path.stat().st_size for path in Path("folds").rglob("*.arrow"))
    assert 0 < sum(map(least_written, raw)) < 2 * written  # part files and shards
