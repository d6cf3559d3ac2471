"""What Keras learners share: the choice of backend, the optimiser's step, weights and state as NumPy arrays."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.batches import Batch
from pipeline.learners._base import Learner, State

if TYPE_CHECKING:
    import keras


def gpu_present() -> bool:
    """Whether the CUDA driver sees a GPU; asked of the driver, because a process must not load both frameworks."""
    try:
        driver, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
        return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except OSError:
        return False


def choose_backend() -> None:
    """Set KERAS_BACKEND unless it is set: TensorFlow, the faster on a CPU; torch where there is a GPU.

    The TensorFlow that is installed (tensorflow-cpu) never sees a GPU, torch's default build does.
    """
    os.environ.setdefault("KERAS_BACKEND", "torch" if gpu_present() else "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextmanager
def without_stderr() -> Iterator[None]:
    """Drop what native code prints: TensorFlow notes its build as it loads and compiles, whatever its log level."""
    sys.stderr.flush()
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


choose_backend()


class KerasLearner(Learner):
    """A learner whose `network` returns a Keras model that maps inputs to logits (B, num_words).

    Images come as uint8 (B, side, side, channels), sequences as [float32 (B, T, C), int32 lengths (B,)].
    """

    model: keras.Model

    def build(self) -> None:
        with without_stderr():
            import keras

            self._fix_threads()
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(int(np.random.SeedSequence(self.seed).generate_state(1)[0]))
        precision = {"float32": "float32", "bfloat16": "mixed_bfloat16"}[self.params.training.precision]
        keras.config.set_dtype_policy(precision)
        self.model = self.made_network()
        training = self.params.training
        optimiser = keras.optimizers.AdamW(1e-3, weight_decay=training.weight_decay, global_clipnorm=training.clip_norm)
        weights = self.model.trainable_variables
        optimiser.exclude_from_weight_decay(
            var_list=[w for w in weights if len(w.shape) <= 1 or w.path.endswith("bias")]
        )
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=training.label_smoothing)
        self.model.compile(optimiser, loss, metrics=["categorical_accuracy"])
        optimiser.build(self.model.trainable_variables)

    def _fix_threads(self) -> None:
        if os.environ["KERAS_BACKEND"] == "torch":
            import torch

            torch.set_num_threads(self.threads)
            torch.use_deterministic_algorithms(True)
            torch.backends.cudnn.benchmark = False
            return
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
        if tf.config.threading.get_intra_op_parallelism_threads() != self.threads:  # fixed by the first operation
            tf.config.threading.set_intra_op_parallelism_threads(self.threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)

    def train_step(self, batch: Batch, learning_rate: float) -> tuple[float, float]:
        self.model.optimizer.learning_rate.assign(learning_rate)
        self.model.reset_metrics()
        loss, top1 = self.model.train_on_batch(
            self._arrays(batch.inputs), np.eye(self.num_words, dtype=np.float32)[batch.labels]
        )
        return float(loss), float(top1)

    def predict(self, inputs: Any) -> np.ndarray:
        logits = np.asarray(self.model.predict_on_batch(self._arrays(inputs)), np.float32)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def _arrays(self, inputs: Any) -> Any:
        return list(inputs) if isinstance(inputs, tuple) else inputs

    def weights(self) -> State:
        return {f"{n:04d}": np.asarray(variable) for n, variable in enumerate(self.model.get_weights())}

    def set_weights(self, weights: State) -> None:
        self.model.set_weights([weights[name] for name in sorted(weights)])

    def state(self) -> State:
        variables = [*self.model.variables, *self.model.optimizer.variables]
        return {f"{n:04d}": np.asarray(variable.numpy()) for n, variable in enumerate(variables)}

    def set_state(self, state: State) -> None:
        for variable, name in zip([*self.model.variables, *self.model.optimizer.variables], sorted(state), strict=True):
            variable.assign(state[name])
