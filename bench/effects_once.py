"""One training run on the folds in the working directory; the last line says how it scored, as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from bench.first_batch_once import HELD_OUT
from bench.train_once import first_learner, training_rows
from pipeline.checkpoints import Checkpoint
from pipeline.drawings import open_shards
from pipeline.fitting import FOLDS
from pipeline.metrics import map_at_3, top3
from pipeline.params import load_params


def main() -> None:
    """Train the first learner of `ensemble`; score its fold as drawn, and with each drawing's mirror image.

    weights.safetensors in the working directory takes its weights.
    """
    params = load_params()
    learner = first_learner(params)
    learner.fit(training_rows(params), Checkpoint(Path(), {}, seconds=None, steps=None), params.ensemble[0])
    learner.save(Path())
    held_out, found = open_shards([FOLDS / f"fold{HELD_OUT}"]), {}
    for name, mirrored in (("map3", False), ("map3_mirrored", True)):
        augmentation = learner.params.augmentation.model_copy(update={"mirror_test": mirrored})
        learner.params = learner.params.model_copy(update={"augmentation": augmentation})
        found[name] = map_at_3(top3(learner.predict_proba(held_out)), held_out.word)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
