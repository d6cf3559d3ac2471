"""A training process on the folds in the working directory: its first step, then blocks of steps that are timed.

It trains the first learner of `ensemble`; the last line says what was measured, as JSON.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterable, Iterator

from bench.first_batch_once import HELD_OUT
from pipeline.drawings.batches import AHEAD, Batch
from pipeline.drawings.encodings import num_threads, set_threads
from pipeline.drawings.shards import Shards
from pipeline.drawings.words import load_words
from pipeline.foundation.params import Params, load_params
from pipeline.foundation.places import places
from pipeline.learners._base import Learner, load_learner
from pipeline.training.fitting import open_folds, others

PAIRS = 6  # of blocks
BLOCK = 1.0  # seconds that a block should last
GPU_STEPS = 100


def first_learner(params: Params) -> Learner:
    """The first learner of `ensemble`, as `pipeline.stages.train` makes it."""
    set_threads(params.threads)
    name, words = params.ensemble[0], load_words(places().folds)
    return load_learner(
        name, params.learner(name), num_words=len(words), seed=(params.seed, HELD_OUT), threads=params.threads
    )


def training_rows(params: Params) -> Shards:
    """The drawings of all folds but the held-out one."""
    return open_folds(others(params.folds, HELD_OUT))


def train_on(learner: Learner, batches: Iterable[Batch]) -> float:
    """Train on batches at the schedule's highest rate until the last step is done; drawings a second."""
    begun, count, loss = time.perf_counter(), 0, 0.0
    for batch in batches:
        loss, _ = learner.train_step(batch, learner.params.training.learning_rate)
        count += len(batch.labels)
    float(loss)  # waits for a GPU
    return count / (time.perf_counter() - begun)


def in_blocks(learner: Learner, feed: Iterator[Batch], pairs: int, block: float) -> dict[str, list[float]]:
    """Drawings a second of blocks of steps in turn: on `fed` batches, and on one from memory `again`.

    Args:
        learner: built, its first step done.
        feed: its batches.
        pairs: how many blocks of each.
        block: seconds that one should last.
    """
    kept = next(feed)
    again = itertools.repeat(kept)
    steps = max(2, round(block * train_on(learner, itertools.islice(again, 3)) / len(kept.labels)))
    found: dict[str, list[float]] = {"fed": [], "again": []}
    for _ in range(pairs):
        for name, batches in {"fed": feed, "again": again}.items():
            train_on(learner, itertools.islice(batches, 1))
            if batches is feed:
                empty(feed)
            found[name].append(train_on(learner, itertools.islice(batches, steps)))
    return found


def empty(feed: Iterator[Batch]) -> None:
    """Take the batches that were made while none was asked for, so that none lies ready."""
    for _ in itertools.islice(feed, 1 + AHEAD * num_threads()):
        pass


def gpu_waits(learner: Learner, feed: Iterator[Batch], steps: int) -> float:
    """The share of its time that the GPU had done a step and had nothing of the next one yet, by its own clock."""
    import torch

    def mark() -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    train_on(learner, itertools.islice(feed, 1))
    empty(feed)
    marks = []  # where the GPU begins and ends each step
    for batch in itertools.islice(feed, steps):
        begun = mark()
        learner.train_step(batch, learner.params.training.learning_rate)
        marks.append((begun, mark()))
    torch.cuda.synchronize()
    waited = sum(ended.elapsed_time(begun) for (_, ended), (begun, _) in itertools.pairwise(marks))
    return waited / marks[0][0].elapsed_time(marks[-1][1])


def gpu() -> str | None:
    """The name of the GPU that this process trains on; None on a CPU."""
    torch = sys.modules.get("torch")  # a process that runs TensorFlow must not load torch to ask
    return torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else None


def main() -> None:
    """Train, and print what was measured."""
    params = load_params()
    learner = first_learner(params)
    learner.build()
    feed = learner.batches(training_rows(params)).steps(0, sys.maxsize)
    train_on(learner, itertools.islice(feed, 1))
    found = {"first_step": time.monotonic(), **in_blocks(learner, feed, PAIRS, BLOCK), "gpu": gpu()}
    if found["gpu"]:
        found["waits"] = gpu_waits(learner, feed, GPU_STEPS)
    from bench.shuffle_once import peak  # not before the first step, of which its imports are no part

    print(json.dumps({**found, "peak": peak()}))


if __name__ == "__main__":
    main()
