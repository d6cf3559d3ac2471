"""A toy problem that any learner should solve in seconds, and a process that trains one on it.

    python -m tests.toy LEARNER FOLDER [--kill-at STEP]

trains in a process of its own, as the stage does: a process must not load both frameworks, and a test of killing
needs a process to kill.
"""

from __future__ import annotations

import argparse
import os
import signal
from pathlib import Path

import numpy as np

from pipeline.batches import Batch
from pipeline.checkpoints import Checkpoint
from pipeline.drawings import Shard, Shards
from pipeline.learners._base import Learner, load_learner
from pipeline.params import load_params

NUM_WORDS = 4
SEED = (7, 0)


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


def toy_learner(name: str) -> Learner:
    """A learner with its block of params.yaml, but small batches, and few of them."""
    params = load_params()
    block = params.learner(name)
    changed = {"batch_size": 16, "epochs": 8}
    training = block.training.model_copy(update=changed)
    return load_learner(
        name, block.model_copy(update={"training": training}), num_words=NUM_WORDS, seed=SEED, threads=params.threads
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.toy")
    parser.add_argument("learner")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kill-at", type=int)
    arguments = parser.parse_args()
    learner = toy_learner(arguments.learner)
    if arguments.kill_at is not None:
        _kill_at(learner, arguments.kill_at)
    steps = None if arguments.kill_at is None else 1  # every step, to have one when the end comes
    checkpoint = Checkpoint(arguments.folder, {"test": "toy"}, seconds=None, steps=steps)
    learner.fit(toy_drawings(1024, seed=1), checkpoint, "toy")
    learner.save(arguments.folder)
    unseen = toy_drawings(64, seed=2)
    np.save(arguments.folder / "probabilities.npy", learner.predict_proba(unseen))
    again = toy_learner(arguments.learner)
    again.load(arguments.folder)
    np.save(arguments.folder / "reloaded.npy", again.predict_proba(unseen))
    np.save(arguments.folder / "labels.npy", unseen.word)


def _kill_at(learner: Learner, step: int) -> None:
    """Let the process die as by kill -9 when the learner comes to a step."""
    train_step = learner.train_step

    def deadly(batch: Batch, learning_rate: float) -> tuple[float, float]:
        if batch.step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return train_step(batch, learning_rate)

    learner.train_step = deadly  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
