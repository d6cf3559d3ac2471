"""On a CPU a batch for which there is no memory is cut, instead of having the kernel kill the process."""

import os
import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT

TRAIN = """
import sys
from pathlib import Path
import pipeline
from pipeline.foundation import memory
from pipeline.foundation.params import load_params
from pipeline.learners._base import load_learner
from pipeline.training.checkpoints import Checkpoint
from tests.toy import toy_drawings

name, batch, room = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
params = load_params(Path("profiles/synthetic.yaml")).learner(name)
training = params.training.model_copy(update={"batch_size": batch, "epochs": 1})
params = params.model_copy(update={"training": training})
found = load_learner(name, params, num_words=30, seed=(1, 2), threads=2)
drawings = toy_drawings(batch, seed=1)
begun = memory._of_this_process("RssAnon:")
memory.available = lambda: max(1, room + begun - memory._of_this_process("RssAnon:"))
found.fit(drawings, Checkpoint(Path(sys.argv[4]), {}, seconds=None, steps=None), name)
"""


@pytest.mark.parametrize(("learner", "batch"), [("seresnet", 2048), ("lstm", 8192), ("gru", 8192)])
def test_a_batch_that_does_not_fit_is_cut(learner, batch, tmp_path):
    room = 3e8
    command = [sys.executable, "-c", TRAIN, learner, str(batch), str(room), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    cut = re.search(r"from step 0 on, (\d+) micro-batches of \d+ drawings make up each batch of (\d+)", done.stdout)
    assert cut, done.stdout
    assert 1 < int(cut[1]) < batch == int(cut[2])
