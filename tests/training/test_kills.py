"""Training survives kill -9 at any moment: started again until it ends, it leaves the bytes of an undisturbed run."""

from __future__ import annotations

import random
import signal
import time
import zlib
from pathlib import Path

import pytest

from bench.kills import models, prove, start
from pipeline.learners._base import available
from tests.toy import RESUME_POINTS, write_project

pytestmark = pytest.mark.slow
FILES = {"weights.safetensors", "oof.npy", "test.npy", "rows.npy", "metrics.json", "contents.json"}


@pytest.mark.parametrize("learner", available())
def test_a_learner_that_is_killed_again_and_again_ends_with_the_same_bytes(learner, tmp_path):
    proof = prove(learner, tmp_path, seed=zlib.crc32(learner.encode()))
    assert not proof.differing
    assert not proof.unfinished, "a folder was not whole when it got its name"
    assert set(models(tmp_path / "killed")) == {
        *(f"base/{learner}/fold0/{name}" for name in FILES),
        f"curves/{learner}/fold0.csv",
    }
    assert proof.kills >= 10
    assert len({life.step for life in proof.lives if life.step is not None}) >= 4, "it died at too few steps"
    reached = 0
    for life in proof.lives:
        if life.began is not None:
            assert life.began >= reached, "what was done before the last resume point was lost"
        if life.step is not None:
            reached = life.step // RESUME_POINTS * RESUME_POINTS


def test_the_stage_itself_is_killed_from_outside_at_any_time(tmp_path):
    """Processes of their own, and nothing in them that knows of the kills to come."""
    undisturbed, killed, command = tmp_path / "undisturbed", tmp_path / "killed", ["pipeline.stages.train", "lstm", "0"]
    for home in (undisturbed, killed):
        write_project(home, "lstm", epochs=20)
    alone = start(command, undisturbed)
    point, chance = killed / "checkpoints/synthetic" / "lstm" / "fold0" / "last.safetensors", random.Random(5)
    for _ in range(2):
        process, before = start(command, killed), _written(point)
        while process.poll() is None and _written(point) == before:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.2))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    last = start(command, killed)
    told, error = last.communicate()
    assert last.returncode == 0, error
    assert "resuming from step" in told
    alone.communicate()
    assert alone.returncode == 0
    assert models(killed) == models(undisturbed)


def _written(point: Path) -> int | None:
    """When a file was written, in nanoseconds; None while there is none."""
    try:
        return point.stat().st_mtime_ns
    except FileNotFoundError:
        return None
