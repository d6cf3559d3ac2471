"""Code that Keras learners share: the choice of backend, the optimiser step, weights and state as NumPy arrays."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.drawings.batches import Batch
from pipeline.foundation.environment import allow_bfloat16
from pipeline.foundation.errors import SketchstackError
from pipeline.learners._base import DROPOUT, SHORT_OF_MEMORY, Learner, rising_decay
from pipeline.training.checkpoints import State

if TYPE_CHECKING:
    import keras

PLAIN = 4  # bytes that a training step keeps of each output of a layer
RECURRENT = 60  # the same of a recurrent layer, whose gates are kept at each position


def gpu_present() -> bool:
    """Whether the CUDA driver sees a GPU. It asks the driver, because a process must not load both frameworks."""
    try:
        driver, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int()
        return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except OSError:
        return False


def choose_backend() -> None:
    """Set KERAS_BACKEND unless it is set: torch with a GPU, else TensorFlow, which is faster on a CPU.

    The installed TensorFlow (tensorflow-cpu) never sees a GPU; the default build of torch does.
    """
    os.environ.setdefault("KERAS_BACKEND", "torch" if gpu_present() else "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextmanager
def without_stderr() -> Iterator[None]:
    """Discard what native code prints: TensorFlow describes its build on loading, whatever its log level."""
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

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.survives_refusals = os.environ["KERAS_BACKEND"] == "torch"

    def check(self, devices: int) -> None:
        super().check(devices)
        if self.params.training.adversarial > 0:
            raise SketchstackError(
                f"params.yaml: training.adversarial needs a torch learner, but {self.name} is a Keras learner; "
                f"set it to 0.0."
            )

    def build(self) -> None:
        with without_stderr():
            import keras

            self._set_up_backend()
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(int(np.random.SeedSequence(self.seed).generate_state(1)[0]))
        if self.params.training.precision == "bfloat16":
            allow_bfloat16()
        precision = {"float32": "float32", "bfloat16": "mixed_bfloat16"}[self.params.training.precision]
        keras.config.set_dtype_policy(precision)
        self.one_hot = np.eye(self.num_words, dtype=np.float32)
        self.model = self.made_network()
        self._compile()

    def _compile(self) -> None:
        import keras

        training, weights = self.params.training, self.model.trainable_variables
        parts = self.micro_batches
        optimiser = keras.optimizers.AdamW(
            1e-3,
            name="adamw",
            weight_decay=training.weight_decay,
            global_clipnorm=training.clip_norm,
            use_ema=training.ema > 0,
            ema_momentum=training.ema,
            gradient_accumulation_steps=parts if parts > 1 else None,
        )
        optimiser.exclude_from_weight_decay(
            var_list=[w for w in weights if len(w.shape) <= 1 or w.path.endswith("bias")]
        )
        if training.ema > 0:
            _average_after(optimiser, parts, training.ema)
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=training.label_smoothing)
        self.model.compile(optimiser, loss, metrics=["categorical_accuracy"], jit_compile=training.compile)
        optimiser.build(weights)

    def _set_up_backend(self) -> None:
        if os.environ["KERAS_BACKEND"] == "torch":
            from pipeline.learners._torch import set_up_torch

            set_up_torch(self.threads)
            return
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
        if tf.config.threading.get_intra_op_parallelism_threads() != self.threads:  # fixed by the first operation
            tf.config.threading.set_intra_op_parallelism_threads(self.threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)

    def train_step(self, batch: Batch, learning_rate: float) -> tuple[float, float]:
        if os.environ["KERAS_BACKEND"] == "torch":
            self._seed_torch(batch.step)
        self.model.optimizer.learning_rate.assign(learning_rate)
        parts, loss_sum, top1_sum = batch.parts(self.micro_batches), 0.0, 0.0
        alike = len({len(part.labels) for part in parts}) == 1
        for part in parts:
            targets, share = self.one_hot[part.labels], len(part.labels) / len(batch.labels)
            if part.share < 1:
                targets = np.float32(part.share) * targets + np.float32(1 - part.share) * self.one_hot[part.mixed]
            # Keras takes the unweighted mean of the parts' gradients, so a larger part needs a larger weight.
            weights = None if alike else np.full(len(part.labels), share * len(parts), np.float32)
            loss, top1 = self.model.train_on_batch(self._arrays(part.inputs), targets, weights)
            loss_sum, top1_sum = loss_sum + float(loss) / len(parts), top1_sum + float(top1) * share
        return loss_sum, top1_sum

    def _seed_torch(self, step: int) -> None:
        """Make dropout depend on the step alone: on torch it uses torch's generator, which `state()` does not hold."""
        import torch

        torch.manual_seed(int(np.random.SeedSequence((*self.seed, DROPOUT, step)).generate_state(1)[0]))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        optimiser = self.model.optimizer
        averages = optimiser._model_variables_moving_average if optimiser.use_ema and int(optimiser.iterations) else []
        pairs = list(zip(self.model.trainable_variables if averages else [], averages, strict=True))
        kept = [np.array(variable.numpy()) for variable, _ in pairs]
        # Keras's SwapEMAWeights swaps by addition and subtraction, which does not restore the same numbers.
        for variable, average in pairs:
            variable.assign(average)
        try:
            yield
        finally:
            for (variable, _), value in zip(pairs, kept, strict=True):
                variable.assign(value)

    def out_of_memory(self, error: Exception) -> bool:
        # By name, so that no framework is loaded for this test: ResourceExhaustedError is TensorFlow's.
        named = type(error).__name__ in ("ResourceExhaustedError", "OutOfMemoryError", "MemoryError")
        return named or any(said in str(error) for said in SHORT_OF_MEMORY)

    def expected_bytes(self, rows: int) -> int:
        """See `Learner`: TensorFlow crashes where the system refuses memory, so the outputs of all layers are counted.

        Measured with mobilenet (3.2 to 3.7 bytes a number) and gru (27 to 30), on TensorFlow 2.20 and two cores.
        """
        return 0 if self.survives_refusals else rows * _bytes_a_drawing(self.model)

    def set_micro_batches(self, count: int) -> None:
        """See `Learner`; what a failed step added to the batch-norm statistics remains."""
        former, steps = self.model.optimizer, int(self.model.optimizer.iterations)
        self.micro_batches = count
        self._compile()
        for variable, value in zip(_lasting(self.model.optimizer), _lasting(former), strict=True):
            variable.assign(value)
        self.model.optimizer._iterations.assign(steps * count)  # Keras counts the parts

    def predict(self, inputs: Any) -> np.ndarray:
        logits = np.asarray(self.model.predict_on_batch(self._arrays(inputs)), np.float32)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def _arrays(self, inputs: Any) -> Any:
        return list(inputs) if isinstance(inputs, tuple) else inputs

    def weights(self) -> State:
        return _numbered(self.model.weights)

    def set_weights(self, weights: State) -> None:
        _assign(self.model.weights, weights)

    def state(self) -> State:
        return _numbered([*self.model.variables, *self.model.optimizer.variables])

    def set_state(self, state: State) -> None:
        _assign([*self.model.variables, *self.model.optimizer.variables], state)


def _average_after(optimiser: Any, parts: int, ema: float) -> None:
    """Update the moving average of the weights once per step, with `average_decay`.

    Keras would update it after every part, although only the last part changes the weights, and with constant decay.
    """
    from keras import ops

    def update(weights: list[keras.Variable]) -> None:
        step = ops.cast(optimiser._iterations // parts, "float32")
        decay = ops.where(step > 0, ops.minimum(ema, rising_decay(step)), 0.0)
        for variable, average in zip(weights, optimiser._model_variables_moving_average, strict=True):
            average.assign(decay * average + (1 - decay) * variable)

    def update_after_the_last(weights: list[keras.Variable]) -> None:
        last = (optimiser._iterations + 1) % parts == 0
        ops.cond(last, lambda: update(weights), lambda: None)

    optimiser._update_model_variables_moving_average = update_after_the_last if parts > 1 else update


def _bytes_a_drawing(model: keras.Model) -> int:
    """Bytes that the layers of a model keep of one drawing, for the gradients."""
    import keras

    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            total += _bytes_a_drawing(layer)
            continue
        recurrent = isinstance(layer, keras.layers.RNN | keras.layers.Bidirectional)
        outputs = layer.output if isinstance(layer.output, list | tuple) else [layer.output]
        numbers = sum(math.prod(side or 1 for side in each.shape[1:]) for each in outputs)
        total += numbers * (RECURRENT if recurrent else PLAIN)
    return total


def _lasting(optimiser: Any) -> list[keras.Variable]:
    """The variables of an optimiser without the gradients accumulated within one step."""
    return [variable for variable in optimiser.variables if not variable.name.endswith("gradient_accumulator")]


def _numbered(variables: list[keras.Variable]) -> State:
    """Values of variables by number and path: paths alone are not unique."""
    return {f"{n:04d}/{variable.path}": np.asarray(variable.numpy()) for n, variable in enumerate(variables)}


def _assign(variables: list[keras.Variable], values: State) -> None:
    """Put `_numbered` values back.

    Raises:
        ValueError: the values belong to other variables.
    """
    names = list(_numbered(variables))
    if sorted(values) != names:
        raise ValueError(f"{', '.join({*names} ^ {*values})} stand on one side only")
    for name, variable in zip(names, variables, strict=True):
        variable.assign(values[name])
