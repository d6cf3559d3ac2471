"""One training run on the folds in the working directory; its last line is the scores as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from bench.first_batch_once import HELD_OUT
from bench.train_once import first_learner, training_rows
from pipeline.drawings.shards import NO_LABEL, Shards
from pipeline.foundation.params import Params, load_params
from pipeline.learners._base import Learner
from pipeline.predictions.metrics import map_at_3, top3
from pipeline.training.checkpoints import Checkpoint
from pipeline.training.fitting import open_folds, others
from pipeline.training.pseudo import relabelled, sure_labels


def main() -> None:
    """Train the first learner of `ensemble`; score its fold as drawn, and with each drawing's mirror image.

    With a second round: train on one fold first; then, from the start, on this fold and the sure drawings of another
    fold, whose words are withheld. The last weights are written to weights.safetensors in the working directory.
    """
    params = load_params()
    rows, found = open_folds([HELD_OUT]), dict[str, float]()
    if params.pseudo.learners:
        first, *rest = others(params.folds, HELD_OUT)
        labelled, pool = open_folds([first]), open_folds(rest)
        epochs = 2 * params.learner(params.ensemble[0]).training.epochs
        teacher = fitted(params, labelled, epochs)
        found["teacher"] = max(score(each, rows, mirrored=False) for each in (teacher, fitted(params, labelled)))
        labels = sure_labels(teacher.predict_proba(pool), params.pseudo.confidence)
        sure, taken = labels != NO_LABEL, relabelled(pool, labels)
        found |= {"taken": sure.mean(), "right": (labels == pool.word)[sure].mean() if sure.any() else 0.0}
        training = Shards([*labelled.shards, *taken.shards])
        learner = fitted(params, training, round(epochs * len(labelled) / len(training)))
    else:
        learner = fitted(params, training_rows(params))
    learner.save(Path())
    found |= {"map3": score(learner, rows, mirrored=False), "map3_mirrored": score(learner, rows, mirrored=True)}
    print(json.dumps(found))


def fitted(params: Params, rows: Shards, epochs: int | None = None) -> Learner:
    """The first learner of `ensemble`, fitted on some rows."""
    learner = first_learner(params)
    if epochs is not None:
        training = learner.params.training.model_copy(update={"epochs": epochs})
        learner.params = learner.params.model_copy(update={"training": training})
    learner.fit(rows, Checkpoint(Path(), {}, seconds=None, steps=None), params.ensemble[0])
    return learner


def score(learner: Learner, rows: Shards, *, mirrored: bool) -> float:
    """MAP@3 on rows as drawn, or with each drawing's mirror image."""
    augmentation = learner.params.augmentation.model_copy(update={"mirror_test": mirrored})
    learner.params = learner.params.model_copy(update={"augmentation": augmentation})
    return map_at_3(top3(learner.predict_proba(rows)), rows.word)


if __name__ == "__main__":
    main()
