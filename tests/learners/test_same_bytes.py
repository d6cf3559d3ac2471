"""A torch learner's weights are the same on every x86-64 processor with AVX2; QEMU emulates other processors."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from pipeline.foundation.params import load_params
from pipeline.learners._base import LEARNERS, available, load_learner
from tests.conftest import ROOT
from tests.toy import toy_drawings

NOT_TORCH = ("gru", "mobilenet")
PROCESSORS = ("Haswell", "EPYC-Rome")  # of Intel and of AMD, with other caches, without AVX-512
HELD = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR", "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES")
PROBE = """
import pipeline, numpy, torch
from numpy._core._multiarray_umath import __cpu_features__ as has
print(torch.backends.cpu.get_cpu_capability(), has["X86_V4"], *(__import__("os").environ.get(n) for n in {names}))
"""


def probed(**variables):
    environment = {name: value for name, value in os.environ.items() if name not in HELD} | variables
    command = [sys.executable, "-c", PROBE.format(names=HELD)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout.split()


def test_the_libraries_are_held_to_avx2():
    assert probed()[:5] == ["AVX2", "False", "avx2", "AVX2", "COMPATIBLE"]


def test_a_variable_of_the_user_stays():
    assert probed(MKL_CBWR="AVX2")[4] == "AVX2"


def test_what_a_parent_needs_for_bfloat16_is_not_inherited():
    assert probed(ONEDNN_MAX_CPU_ISA="AVX512_CORE_BF16")[3] == "AVX2"


def test_all_instructions_can_be_allowed():
    assert probed(SKETCHSTACK_NATIVE="1")[2:] == ["None"] * 5


def test_no_learner_takes_the_square_root_of_mkl():
    for file in LEARNERS.glob("*.py"):
        assert not re.search(r"torch\.sqrt\(|\)\.sqrt\(\)|\*\* ?0\.5", file.read_text()), file


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="needs qemu-x86_64 (Debian's package qemu-user)")
def test_other_processors_make_the_same_weights(tmp_path):
    names = [name for name in available() if name not in NOT_TORCH]
    arrays: dict[str, np.ndarray] = {}
    params = load_params(ROOT / "profiles/synthetic.yaml")
    for name in names:
        learner = load_learner(name, params.learner(name), num_words=30, seed=(1, 2), threads=2)
        batch = learner.batches(toy_drawings(64, seed=1)).batch(0)
        arrays["labels"] = batch.labels[:16]
        for number, array in enumerate(batch.inputs if isinstance(batch.inputs, tuple) else (batch.inputs,)):
            arrays[f"{name}/{number}"] = array[:16]
    np.savez(tmp_path / "batches.npz", **arrays)  # type: ignore[arg-type]
    command = [sys.executable, "-m", "tests.learners.steps_once", str(tmp_path / "batches.npz")]
    emulated = [["qemu-x86_64", "-cpu", processor, *command] for processor in PROCESSORS]
    running = [
        subprocess.Popen(each, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for each in (command, *emulated)
    ]
    here, *there = (process.communicate()[0].splitlines() for process in running)
    assert [line.split()[0] for line in here] == sorted(names)
    for lines, processor in zip(there, PROCESSORS, strict=True):
        assert lines == here, processor
