"""What this machine allows: memory, and an allocation beyond it that fails before the system kills the process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pipeline.foundation import environment
from tests.conftest import ROOT


def test_the_limit_of_a_container_counts_where_it_is_lower(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "CGROUP_LIMIT", tmp_path / "memory.max")
    whole = environment.memory_limit()
    assert whole > 2**28
    for text, limit in (("max\n", whole), ("1000000\n", 1_000_000), (f"{2**60}\n", whole)):
        (tmp_path / "memory.max").write_text(text)
        assert environment.memory_limit() == limit


LEARN = """
import sys
import numpy as np
import torch
from pipeline.foundation.environment import allocate_within
from pipeline.learners._torch import TorchLearner

allocate_within(2_000_000_000)
np.ones(10_000_000)
try:
    torch.empty(3_000_000_000, dtype=torch.uint8)
except RuntimeError as error:
    print(TorchLearner.out_of_memory(None, error))
"""


@pytest.mark.skipif(environment.GPUS.exists(), reason="a driver of GPUs reserves more than it uses: nothing is limited")
def test_what_cannot_fit_fails_as_a_lack_of_memory_and_the_process_lives():
    done = subprocess.run(
        [sys.executable, "-c", LEARN], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout == "True\n"
