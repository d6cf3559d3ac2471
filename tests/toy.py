"""A toy problem that any learner should solve in seconds, and a process that trains one on it, killed and not.

    python -m tests.toy LEARNER FOLDER

leaves two models in the folder: `undisturbed`, which is reloaded too, and `killed`, of a child that was killed and
another that went on; and `longer` if they have not learned the problem. It is a process of its own because none should
load both frameworks.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from pipeline.drawings.batches import Batch
from pipeline.drawings.shards import NO_LABEL, SCHEMA, SUMMARY, TEST, Shard, Shards, shard_hashes, write_shard
from pipeline.drawings.words import Words
from pipeline.foundation.params import load_params
from pipeline.learners._base import Learner, load_learner
from pipeline.training.checkpoints import Checkpoint
from tests.conftest import ROOT
from tests.lives import ended, fork, preload

WORDS = Words(("across", "down", "ring", "x"))
NUM_WORDS = len(WORDS)
SEED = (7, 0)
BATCH = 16
TRAINED, EPOCHS = 256, 5  # drawings, and passes over them: 80 steps
LONGER = 32  # passes, where that is too few: the batch norms of Keras settle in hundreds of steps
LEARNED = 0.8  # share of right guesses above which a learner has learned
KILLED_AT, GOES_ON_AT = 50, 40  # steps
RESUME_POINTS = 3  # of a project: steps between them
FOLD = 120  # rows of each fold of a project, and of its test set: 15 steps an epoch


def toy_drawings(count: int, seed: int) -> Shards:
    """`count` shaky drawings: a line across, a line down, a circle, or two crossed lines."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, NUM_WORDS, count)
    return Shards([Shard.from_lists([_toy_strokes(word, rng) for word in words], words.tolist())])


def _toy_strokes(word: int, rng: np.random.Generator) -> list[tuple[list[int], list[int]]]:
    along, middle = np.linspace(20, 235, 12), np.full(12, 127.0)
    turn = np.linspace(0, 2 * np.pi, 12)
    shapes = [
        [(along, middle)],
        [(middle, along)],
        [(127 + 100 * np.cos(turn), 127 + 100 * np.sin(turn))],
        [(along, along), (along, along[::-1])],
    ]
    shaky = [(x + rng.normal(0, 4, 12), y + rng.normal(0, 4, 12)) for x, y in shapes[word]]
    return [(x.clip(0, 255).astype(int).tolist(), y.clip(0, 255).astype(int).tolist()) for x, y in shaky]


def toy_learner(name: str, epochs: int = EPOCHS) -> Learner:
    """A learner with its block of params.yaml, but small batches, and few of them."""
    params = load_params()
    block = params.learner(name)
    changed = {"batch_size": BATCH, "epochs": epochs}
    training = block.training.model_copy(update=changed)
    return load_learner(
        name, block.model_copy(update={"training": training}), num_words=NUM_WORDS, seed=SEED, threads=params.threads
    )


def write_project(home: Path, learner: str, epochs: int) -> None:
    """Write what the training stage of a learner needs: folds of toy drawings, and params that make all kinds of state.

    Those are the learner's own, but for small batches in two parts each, a moving average, dropout, pictures mixed,
    predictions over the mirror image too, and a resume point every third step.
    """
    params = load_params(ROOT / "profiles" / "synthetic.yaml").model_dump()
    block = params["learners"][learner]
    block["training"] |= {"batch_size": BATCH, "micro_batches": 2, "epochs": epochs, "ema": 0.8}
    block["network"] |= {"dropout": 0.2} if "dropout" in block["network"] else {}
    block["augmentation"] |= {"mixup": 0.5 if "side" in block["encoding"] else 0.0, "mirror_test": True}
    params |= {"ensemble": [learner], "folds": [0, 1, 2], "devices": 1}
    params |= {"checkpoints": {"seconds": None, "steps": RESUME_POINTS}}
    home.mkdir(parents=True, exist_ok=True)
    (home / "params.yaml").write_text(yaml.safe_dump(params))
    _write_folds(home / "folds/synthetic")


def _write_folds(folder: Path) -> None:
    """Three folds and a test set, a shard each, as the shuffle leaves them."""
    for number, name in enumerate(("fold0", "fold1", "fold2", TEST)):
        (shard,) = toy_drawings(FOLD, seed=10 + number).shards
        columns: dict[str, Any] = {field.name: pa.nulls(FOLD, field.type) for field in SCHEMA}
        labels = np.full(FOLD, NO_LABEL, np.int16) if name == TEST else shard.word
        columns |= {"key_id": pa.array(range(number * FOLD, (number + 1) * FOLD)), "word": pa.array(labels)}
        columns |= {axis: pa.ListArray.from_arrays(shard.points, getattr(shard, axis)) for axis in ("x", "y")}
        columns |= {"stroke": pa.ListArray.from_arrays(shard.strokes, shard.stroke)}
        (folder / name).mkdir(parents=True)
        write_shard(folder / name / "0000.arrow", pa.table(columns))
    WORDS.save(folder / "words.json")
    rows_out = dict.fromkeys(("fold0", "fold1", "fold2", TEST), FOLD)
    (folder / SUMMARY).write_text(json.dumps({"rows_out": rows_out, "shards": shard_hashes(folder)}))


def main() -> None:
    """Train without a kill, and reload; beside it train with one."""
    parser = argparse.ArgumentParser(prog="python -m tests.toy", description=main.__doc__)
    parser.add_argument("learner")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    name, folder = arguments.learner, arguments.folder
    learner = toy_learner(name)
    preload(learner, toy_drawings(1, seed=1))

    def undisturbed() -> None:
        _train(learner, folder / "undisturbed")
        again = toy_learner(name)
        again.load(folder / "undisturbed")
        np.save(folder / "reloaded.npy", again.predict_proba(_unseen()))
        np.save(folder / "labels.npy", _unseen().word)

    beside = fork(undisturbed)
    killed = ended(fork(lambda: _train(_deadly(learner), folder / "killed")))
    resumed = ended(fork(lambda: _train(learner, folder / "killed")))
    if (ended(beside), killed, resumed) != (0, -signal.SIGKILL, 0):
        raise SystemExit(f"the child that was to be killed ended with {killed}, the one after it with {resumed}")
    right = np.load(folder / "undisturbed" / "probabilities.npy").argmax(axis=1) == _unseen().word
    if right.mean() <= LEARNED and ended(fork(lambda: _train(toy_learner(name, LONGER), folder / "longer"))):
        raise SystemExit("the child that trained longer failed")


def _train(learner: Learner, folder: Path) -> None:
    """Fit, with resume points; write the weights and what they predict."""
    checkpoint = Checkpoint(folder, {"test": "toy"}, seconds=None, steps=GOES_ON_AT // 2)
    learner.fit(toy_drawings(TRAINED, seed=1), checkpoint, folder.name)
    learner.save(folder)
    np.save(folder / "probabilities.npy", learner.predict_proba(_unseen()))


def _unseen() -> Shards:
    return toy_drawings(64, seed=2)


def _deadly(learner: Learner) -> Learner:
    """The same, but it dies as by kill -9 when it comes to a step."""
    train_step = learner.train_step

    def deadly(batch: Batch, learning_rate: float) -> tuple[Any, Any]:
        if batch.step == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)
        return train_step(batch, learning_rate)

    learner.train_step = deadly  # type: ignore[method-assign]
    return learner


if __name__ == "__main__":
    main()
