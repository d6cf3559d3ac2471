"""Batches of a learner for your own training loop: live datasets for TensorFlow and torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.drawings.batches import Batches, made_ahead
from pipeline.drawings.encodings import set_threads
from pipeline.drawings.shards import TEST, Shards, open_shards
from pipeline.drawings.words import load_words
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import Params, load_params
from pipeline.foundation.places import places
from pipeline.learners._base import Learner, learner_class, load_learner
from pipeline.training.fitting import open_folds, others

if TYPE_CHECKING:
    import tensorflow as tf
    import torch


def training_batches(learner: str, held_out: int) -> Batches:
    """The batches on which `python -m pipeline.stages.train LEARNER HELD_OUT` trains, from params.yaml and folds/.

    Without mixup, because a pair of inputs and labels cannot hold its second label.

    Raises:
        SketchstackError: there is no such learner or fold, or folds/ has not been made yet.
    """
    params = load_params()
    folds = others(params.folds, held_out)
    set_threads(params.threads)
    batches = loaded_learner(learner, params, (params.seed, held_out)).batches(open_rows(folds))
    return replace(batches, augmentation=batches.augmentation.model_copy(update={"mixup": 0.0}))


def tf_dataset(batches: Batches, *, epochs: int, start: int = 0) -> tf.data.Dataset:
    """The batches of steps `start` to the end of the last epoch, as (inputs, labels) of TensorFlow.

    Inputs are uint8 (B, side, side, channels), or float32 (B, T, features) and int32 lengths (B,); labels int64 (B,).
    Each step has the same bytes as `batches.batch(step)`, so a run that stopped resumes at the next step:

        >>> import keras
        >>> from keras import layers
        >>> from pipeline.training.feeds import tf_dataset, training_batches
        >>> batches = training_batches("mobilenet", held_out=0)
        >>> model = keras.Sequential([layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(340)])
        >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> steps, quiet = batches.steps_an_epoch, {"shuffle": False, "verbose": 0}
        >>> first = model.fit(tf_dataset(batches, epochs=2), epochs=2, steps_per_epoch=steps, **quiet)
        >>> resumed = model.fit(tf_dataset(batches, epochs=3, start=2 * steps), **quiet)
        >>> resumed.history["loss"][0] < first.history["loss"][0]
        True

    Args:
        batches: of a Keras learner; a torch learner would import torch into the same process.
        epochs: total number of epochs, including those before `start`.
        start: the first step.
    """
    import tensorflow as tf

    def pairs() -> Iterator[tuple[Any, np.ndarray]]:
        for batch in batches.steps(start, end):
            yield batch.inputs, batch.labels

    end = epochs * batches.steps_an_epoch
    first = batches.batch(start)
    like = tf.nest.map_structure(lambda array: tf.TensorSpec(array.shape, array.dtype), (first.inputs, first.labels))
    dataset = tf.data.Dataset.from_generator(pairs, output_signature=like)
    return dataset.apply(tf.data.experimental.assert_cardinality(end - start)).prefetch(tf.data.AUTOTUNE)


def torch_dataset(batches: Batches, *, epochs: int, start: int = 0) -> torch.utils.data.IterableDataset:
    """The batches of steps `start` to the end of the last epoch, as (inputs, labels) of torch.

    Inputs are uint8 (B, side, side, channels), or float32 (B, T, features) and int32 lengths (B,); labels int64 (B,).
    Each step has the same bytes as `batches.batch(step)`, in the order of the steps with any number of workers, so a
    run that stopped resumes at the next step. Start workers before the process draws other batches; workers that are
    spawned instead of forked get a copy of the shards each:

        >>> import torch
        >>> from torch.utils.data import DataLoader
        >>> from pipeline.training.feeds import torch_dataset, training_batches
        >>> batches = training_batches("seresnet", held_out=0)
        >>> pixels = batches.batch(0).inputs[0].size
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(pixels, 340))
        >>> optimiser, losses = torch.optim.Adam(model.parameters()), []
        >>> for images, labels in DataLoader(torch_dataset(batches, epochs=3), batch_size=None, num_workers=2):
        ...     loss = torch.nn.functional.cross_entropy(model(images / 255), labels)
        ...     optimiser.zero_grad()
        ...     loss.backward()
        ...     optimiser.step()
        ...     losses.append(loss.item())
        >>> losses[-1] < losses[0]
        True

    Args:
        batches: of a torch learner; a Keras learner would import TensorFlow into the same process.
        epochs: total number of epochs, including those before `start`.
        start: the first step.
    """
    from torch import from_numpy
    from torch.utils.data import IterableDataset, get_worker_info

    class Steps(IterableDataset):
        """Worker k of n takes steps k, k + n, k + 2n, ...; the DataLoader restores their order."""

        def __iter__(self) -> Iterator[tuple[Any, torch.Tensor]]:
            worker = get_worker_info()
            if worker:
                set_threads(1)  # the workers are the threads
            first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
            steps = range(start + first, epochs * batches.steps_an_epoch, stride)
            for batch in made_ahead(batches.batch, steps):
                arrays = map(from_numpy, parts_of(batch.inputs))
                yield tuple(arrays) if isinstance(batch.inputs, tuple) else next(arrays), from_numpy(batch.labels)

        def __len__(self) -> int:
            return epochs * batches.steps_an_epoch - start

        def __reduce__(self) -> Any:
            return partial(torch_dataset, batches, epochs=epochs, start=start), ()

    return Steps()


def loaded_learner(name: str, params: Params, seed: tuple[int, ...]) -> Learner:
    """A learner of params.yaml with checked params, ready to encode."""
    learner_class(name)  # its error for an unknown name is clearer than that of the params
    return load_learner(
        name, params.learner(name), num_words=len(load_words(places().folds)), seed=seed, threads=params.threads
    )


def open_rows(folds: Sequence[int] | None) -> Shards:
    """The rows of some folds, or of the test set if `folds` is None.

    Raises:
        SketchstackError: there are no rows.
    """
    shards = open_shards([places().folds / TEST]) if folds is None else open_folds(list(folds))
    if not len(shards):
        raise SketchstackError(f"there are no rows to export in {places().folds}; name other folds.")
    return shards


def parts_of(inputs: Any) -> tuple[np.ndarray, ...]:
    """The arrays of a learner's inputs: pictures, or sequences and lengths."""
    return inputs if isinstance(inputs, tuple) else (inputs,)
