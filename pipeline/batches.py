"""Batches: what a learner is fed, as a pure function of (seed, epoch, step).

Any step can be asked for first, so a run that was killed goes on with the very batches it would have seen.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from pipeline.drawings import Drawings, Shards
from pipeline.encodings import random_affine
from pipeline.params import Augmentation

Encode = Callable[[Drawings, np.ndarray], Any]
AHEAD = 4  # batches made before they are asked for
_SHUFFLE, _AUGMENT = 1, 2  # keep the random streams apart; not 0, which a seed sequence takes for padding


class Batch(NamedTuple):
    """One step's food.

    Attributes:
        step: its number, from the start of training.
        inputs: what the encoding returns for B drawings.
        labels: (B,) int64.
    """

    step: int
    inputs: Any
    labels: np.ndarray


@dataclass(frozen=True)
class Batches:
    """The training batches of one learner and one held-out fold.

    Attributes:
        drawings: the training rows.
        encode: drawings and their affine maps → inputs.
        augmentation: limits of the random affine maps.
        batch_size: drawings a step; an epoch's last, smaller batch is left out (other rows each epoch).
        seed: all that the order and the augmentation derive from, as integers (the seed, the held-out fold).
    """

    drawings: Shards
    encode: Encode
    augmentation: Augmentation
    batch_size: int
    seed: tuple[int, ...]

    @property
    def steps_an_epoch(self) -> int:
        """Whole batches in one pass."""
        return max(1, len(self.drawings) // self.batch_size)

    def batch(self, step: int) -> Batch:
        """The batch of one step."""
        epoch, place = divmod(step, self.steps_an_epoch)
        rows = _order(len(self.drawings), (*self.seed, _SHUFFLE, epoch))[place * self.batch_size :][: self.batch_size]
        drawings = self.drawings.take(rows)
        rng = np.random.default_rng([*self.seed, _AUGMENT, epoch, place])
        affine = random_affine(rng, len(drawings), self.augmentation)
        return Batch(step, self.encode(drawings, affine), drawings.word.astype(np.int64))

    def steps(self, start: int, end: int) -> Iterator[Batch]:
        """The batches of steps start..end-1, made ahead on a thread of their own."""
        return made_ahead((self.batch(step) for step in range(start, end)), AHEAD)


@lru_cache(maxsize=2)
def _order(rows: int, seed: tuple[int, ...]) -> np.ndarray:
    """The order of the rows in one epoch: (rows,) int64."""
    return np.random.default_rng(seed).permutation(rows)


def made_ahead(items: Iterator[Batch], ahead: int) -> Iterator[Batch]:
    """Draw items from an iterator on a thread, up to `ahead` of them early; errors come through."""
    made: queue.Queue[Batch | BaseException | None] = queue.Queue(ahead)
    stop = threading.Event()

    def put(item: Batch | BaseException | None) -> None:
        while not stop.is_set():
            try:
                return made.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put(item)
                if stop.is_set():
                    return
            put(None)
        except BaseException as error:  # handed to the consumer, which raises it
            put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        while (item := made.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
