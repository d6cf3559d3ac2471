"""A training process up to its first batch, on the folds in the working directory; its last line is times as JSON."""

from __future__ import annotations

import json
import time
from pathlib import Path

from pipeline.drawings.encodings import set_threads
from pipeline.drawings.shards import open_shards
from pipeline.drawings.words import load_words
from pipeline.foundation.params import load_params
from pipeline.foundation.places import places
from pipeline.learners._base import learner_class, load_learner
from pipeline.training.fitting import others

LEARNER, HELD_OUT = "seresnet", 0


def first_batch() -> int:
    """Do the same as `pipeline.stages.train`, from reading params.yaml to the first batch; returns the batch size."""
    params = load_params()
    set_threads(params.threads)
    words = load_words(places().folds)
    learner = load_learner(
        LEARNER, params.learner(LEARNER), num_words=len(words), seed=(params.seed, HELD_OUT), threads=params.threads
    )
    batches = learner.batches(
        open_shards([Path(places().folds, f"fold{fold}") for fold in others(params.folds, HELD_OUT)])
    )
    return len(next(batches.steps(0, batches.steps_an_epoch)).labels)


if __name__ == "__main__":
    learner_class(LEARNER)  # imports torch
    begun = time.perf_counter()
    size = first_batch()
    print(json.dumps({"seconds": time.perf_counter() - begun, "size": size}))
