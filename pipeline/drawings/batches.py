"""Training batches of a learner, as a pure function of (seed, epoch, step).

Batches can start at any step, so a run that was killed resumes with the same batches.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np

from pipeline.drawings.encodings import Distortion, num_threads, random_distortion, workers
from pipeline.drawings.shards import Drawings, Shards
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import Augmentation

Encode = Callable[[Drawings, Distortion], Any]
Made = TypeVar("Made")
AHEAD = 2  # batches that each thread makes in advance
REUSED = 2**25 - 2**16  # bytes; the largest block that glibc counts
_SHUFFLE, _AUGMENT = 1, 2  # separate the random streams; not 0, which a seed sequence treats as padding
_ordering = threading.Lock()


class Batch(NamedTuple):
    """The inputs and labels of one training step.

    Attributes:
        step: number of the step, from the start of training.
        inputs: the result of the encoding for B drawings.
        labels: (B,) int64.
        mixed: (B,) int64, labels of the drawings mixed in by mixup.
        share: weight of `labels` in the loss; `mixed` have the weight 1 - share.
    """

    step: int
    inputs: Any
    labels: np.ndarray
    mixed: np.ndarray
    share: float

    def parts(self, count: int) -> list[Batch]:
        """The batch split into `count` parts, in order, with sizes that differ by at most one; no part is empty."""
        ends = [len(self.labels) * n // count for n in range(count + 1)]
        return [
            Batch(self.step, some_rows(self.inputs, part), self.labels[part], self.mixed[part], self.share)
            for part in (slice(start, end) for start, end in itertools.pairwise(ends) if end > start)
        ]


@dataclass(frozen=True)
class Batches:
    """The training batches of one learner and one held-out fold.

    Attributes:
        drawings: the training rows.
        encode: drawings and their distortion → inputs.
        augmentation: limits of the random distortions.
        batch_size: drawings per step; an epoch's last, smaller batch is left out (different rows in each epoch).
        seed: integers (seed, held-out fold) that determine the order and the augmentation.
        part: (number, count) of the share of each batch to make. All shares together are the batch of one device.
    """

    drawings: Shards
    encode: Encode
    augmentation: Augmentation
    batch_size: int
    seed: tuple[int, ...]
    part: tuple[int, int] = (0, 1)

    @property
    def steps_an_epoch(self) -> int:
        """Number of complete batches per epoch."""
        return max(1, len(self.drawings) // self.batch_size)

    def batch(self, step: int) -> Batch:
        """The batch of one step, or the share of it given by `part`."""
        epoch, place = divmod(step, self.steps_an_epoch)
        rows = _order(len(self.drawings), (*self.seed, _SHUFFLE, epoch))[place * self.batch_size :][: self.batch_size]
        rng = np.random.default_rng([*self.seed, _AUGMENT, epoch, place])
        distortion = random_distortion(rng, len(rows), self.augmentation)
        mine = _share(len(rows), *self.part)
        drawings = self.drawings.take(rows[mine])
        distortion = distortion._replace(affine=distortion.affine[mine], seeds=distortion.seeds[mine])
        inputs, labels = self.encode(drawings, distortion), drawings.word.astype(np.int64)
        if self.augmentation.mixup == 0:
            return Batch(step, inputs, labels, labels, 1.0)
        inputs, share = _mixed(inputs, rng.beta(self.augmentation.mixup, self.augmentation.mixup))
        return Batch(step, inputs, labels, labels[::-1].copy(), share)

    def steps(self, start: int, end: int) -> Iterator[Batch]:
        """The batches of steps start..end-1, made in advance on separate threads."""
        return made_ahead(self.batch, range(start, end))


def _share(rows: int, number: int, count: int) -> slice | np.ndarray:
    """The rows of share `number` of `count` of a batch: complete pairs of a row and its mirror position in the batch.

    Mixup mixes the rows of a pair, so reversing a share still matches each row with its partner.
    """
    if count == 1:
        return slice(None)
    pairs = (rows + 1) // 2
    first = np.arange(pairs * number // count, pairs * (number + 1) // count)
    return np.union1d(first, rows - 1 - first)


def some_rows(inputs: Any, rows: slice) -> Any:
    """Some rows of encoded drawings."""
    return tuple(array[rows] for array in inputs) if isinstance(inputs, tuple) else inputs[rows]


def _mixed(inputs: Any, share: float) -> tuple[np.ndarray, float]:
    """Mix each picture with the picture at its mirror position in the batch.

    After mixup, https://arxiv.org/abs/1710.09412: one share per batch, rounded to 256ths; pictures are rounded to
    integer grey levels.

    Raises:
        SketchstackError: the inputs are not pictures.
    """
    if isinstance(inputs, tuple):
        raise SketchstackError(
            "params.yaml: augmentation.mixup needs pictures, but this learner takes sequences; set its mixup to 0.0."
        )
    weight = round(share * 256)
    images = inputs.astype(np.uint16)
    images *= weight
    images += inputs[::-1] * np.uint16(256 - weight)
    images += 128
    return (images >> 8).astype(np.uint8), weight / 256


def _order(rows: int, seed: tuple[int, ...]) -> np.ndarray:
    """The order of the rows in one epoch: (rows,) unsigned integers, 4 bytes per row if that is enough."""
    with _ordering:  # when several threads reach a new epoch, only one shuffles
        return _shuffled(rows, seed)


@lru_cache(maxsize=2)
def _shuffled(rows: int, seed: tuple[int, ...]) -> np.ndarray:
    order = np.arange(rows, dtype=np.uint32 if rows <= 2**32 else np.uint64)
    np.random.default_rng(seed).shuffle(order)
    return order


def made_ahead(make: Callable[[int], Made], numbers: range) -> Iterator[Made]:
    """make(number) for each number in order, made in advance on threads, AHEAD per thread; errors are raised here.

    Each thread makes whole items, not parts of one: that costs less, and the Python code of one item runs in parallel
    with the kernels of another.
    """
    # Freeing one large block makes glibc keep blocks up to that size, instead of returning each batch to the system,
    # which would then map and clear every page of the next batch.
    np.empty(REUSED, np.uint8)
    waiting: deque[Future[Made]] = deque()
    with workers() as makers:
        try:
            for number in numbers:
                waiting.append(makers.submit(make, number))
                if len(waiting) > AHEAD * num_threads():
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()
