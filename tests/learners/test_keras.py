"""Keras learners: what they refuse, and keras_checks.py in a process of its own for each backend."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import LearnerParams, load_params
from pipeline.learners._base import load_learner
from tests.conftest import ROOT
from tests.learners.test_learners import check_on_toy

BACKENDS = ("tensorflow", "torch")


def run(backend: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *map(str, arguments)]
    environment = os.environ | {"KERAS_BACKEND": backend}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_steps_averages_memory_and_resume_points(backend):
    old_array = "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"  # torch's, in Keras
    checks = run(backend, "pytest", "-W", old_array, "tests/keras_checks.py")
    assert checks.returncode == 0, checks.stdout
    assert "passed" in checks.stdout


@pytest.mark.slow
def test_gru_runs_on_torch_too(tmp_path):
    check_on_toy("gru", tmp_path, KERAS_BACKEND="torch")


def test_adversarial_is_refused():
    given = load_params().learner("gru").model_dump()
    given["training"] |= {"adversarial": 0.1}
    learner = load_learner("gru", LearnerParams.model_validate(given), num_words=4, seed=(1, 2), threads=1)
    with pytest.raises(SketchstackError, match="adversarial needs a torch learner, but gru is a Keras learner"):
        learner.check(1)


def test_only_out_of_memory_errors_count_as_such():
    learner = load_learner("gru", load_params().learner("gru"), num_words=4, seed=(1, 2), threads=1)
    for name in ("ResourceExhaustedError", "OutOfMemoryError"):
        assert learner.out_of_memory(type(name, (Exception,), {})("full"))
    assert learner.out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 TB"))
    assert learner.out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert not learner.out_of_memory(RuntimeError("incompatible shapes"))
