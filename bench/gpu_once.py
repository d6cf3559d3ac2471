"""One training run on the folds in the working directory; the last line tells score, time and memory, as JSON.

It trains the first learner of `ensemble` without fold 0; <learner>.npy takes the probabilities of that fold's rows.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np

from bench.first_batch_once import HELD_OUT
from bench.train_once import first_learner, gpu, training_rows
from pipeline.foundation.params import load_params
from pipeline.predictions.metrics import map_at_3, top3
from pipeline.training.checkpoints import Checkpoint
from pipeline.training.fitting import open_folds


def main() -> None:
    """Train, predict, and print what was measured."""
    params = load_params()
    learner, rows = first_learner(params), open_folds([HELD_OUT])
    learner.fit(training_rows(params), Checkpoint(Path(), {}, seconds=None, steps=None), params.ensemble[0])
    begun = time.perf_counter()
    probabilities = learner.predict_proba(rows)
    found = {"fit": learner.seconds, "predict": time.perf_counter() - begun, "gpu": gpu(), "memory": gpu_memory()}
    np.save(f"{params.ensemble[0]}.npy", probabilities)
    guesses = top3(probabilities)
    found |= {"map3": map_at_3(guesses, rows.word), "top1": float((guesses[:, 0] == rows.word).mean())}
    print(json.dumps(found))


def gpu_memory() -> float:
    """The most GPU memory that torch held at a time, in MB; 0 on a CPU."""
    if gpu() is None:
        return 0.0
    import torch

    return torch.cuda.max_memory_allocated() / 1e6


if __name__ == "__main__":
    main()
