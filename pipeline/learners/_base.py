"""Code that all learners share: lookup by name, checks, the fit loop, resume points, prediction in chunks.

A learner is a file of this folder without a leading underscore that defines `class Learner`. It gives `encode` and
`network`; `_torch.TorchLearner` and `_keras.KerasLearner` give the rest.
"""

from __future__ import annotations

import difflib
import importlib
import math
import os
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from pipeline.drawings.batches import Batch, Batches, made_ahead, some_rows
from pipeline.drawings.encodings import Distortion, identity, mirror, pen_movements, points
from pipeline.drawings.shards import Drawings, Shards
from pipeline.foundation.artefacts import file_hash
from pipeline.foundation.contents import intact
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.memory import Allowance
from pipeline.foundation.params import InitialWeights, LearnerParams, Training
from pipeline.foundation.places import MODELS
from pipeline.foundation.progress import progress_bar
from pipeline.foundation.signatures import check_keywords
from pipeline.training.checkpoints import Checkpoint, State

LEARNERS = Path(__file__).parent
PREDICT = 512  # drawings predicted at a time
DROPOUT = 3  # separates the random streams of dropout, one per device, from those of the batches
# In a RuntimeError of torch; the last is oneDNN's.
SHORT_OF_MEMORY = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "ALLOC_FAILED",
    "bad_alloc",
    "create a primitive",
)
Found = TypeVar("Found")

# A network thread that waits for another spins for microseconds, not milliseconds, then frees its core for the encoders
# and other processes: a longer spin delays the very thread that it waits for. No spinning at all
# (OMP_WAIT_POLICY=PASSIVE) halves the speed of small batches. OpenMP reads the setting when torch is imported, so no
# module that a learner imports before this one may import torch.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")


class EpochRow(NamedTuple):
    """A row of a learning curve: the learning rate of the epoch's last step; loss and top-1, means over its batches."""

    epoch: int
    learning_rate: float
    loss: float
    top1: float


EpochLog = Callable[[EpochRow], None]  # called with each epoch's row


def average_decay(ema: float, step: int) -> float:
    """The decay of the moving average of the weights after a step: `ema`, but less in the first steps.

    The average starts with the weights after the first step. With a constant decay they would dominate it in runs of
    fewer than 1 / (1 - ema) steps. TensorFlow's ExponentialMovingAverage has this rule (its `num_updates`).
    """
    return min(ema, rising_decay(step))


def rising_decay(step: Any) -> Any:
    """The upper bound on `average_decay`, which rises to 1 with the steps; `step` is a number or a tensor."""
    return (1 + step) / (10 + step)


def available() -> list[str]:
    """Names of all learners: the files of this folder without a leading underscore."""
    return sorted(path.stem for path in LEARNERS.glob("*.py") if not path.stem.startswith("_"))


def learner_class(name: str) -> type[Learner]:
    """Find a learner by its name.

    Raises:
        SketchstackError: there is no such file, or it defines no `class Learner` with `encode` and `network`.
    """
    if name not in available():
        near = difflib.get_close_matches(name, available(), 1)
        raise SketchstackError(
            f"no learner {name!r}; pipeline/learners/ has {', '.join(available())}."
            + (f" Did you mean {near[0]!r}?" if near else "")
        )
    found = getattr(importlib.import_module(f"pipeline.learners.{name}"), "Learner", None)
    if found is None:
        raise SketchstackError(
            f"pipeline/learners/{name}.py defines no `class Learner`; see the README for an example."
        )
    for part in ("encode", "network"):
        if not hasattr(found, part):
            raise SketchstackError(
                f"pipeline/learners/{name}.py: `class Learner` defines no `{part}`; see the README for an example."
            )
    return found


def load_learner(name: str, params: LearnerParams, *, num_words: int, seed: tuple[int, ...], threads: int) -> Learner:
    """A learner ready to fit, with checked params.

    Raises:
        SketchstackError: the learner is unknown, or the params do not fit its signatures.
    """
    found = learner_class(name)
    check_keywords(f"learners.{name}.network", params.network, found.network)
    check_keywords(f"learners.{name}.encoding", params.encoding, found.encode)
    return found(params, num_words=num_words, seed=seed, threads=threads)


def rate_at(step: int, steps: int, training: Training) -> float:
    """The learning rate of a step: linear warm-up, then linear or half-cosine decay to zero.

    `one_cycle` is the policy of Smith and Topin, https://arxiv.org/abs/1708.07120, without its momentum cycle;
    `cosine` is the policy of Loshchilov and Hutter without restarts, https://arxiv.org/abs/1608.03983.
    """
    rise = training.warmup * steps
    if step < rise:
        return training.learning_rate * (step + 1) / (rise + 1)
    fallen = (step - rise) / max(1.0, steps - rise)
    return training.learning_rate * (
        1 - fallen if training.schedule == "one_cycle" else (1 + math.cos(math.pi * fallen)) / 2
    )


class Learner(ABC):
    """A base learner: a network over an encoding, fitted to batches, that predicts probabilities.

    Attributes:
        encode: drawings, their distortion and keyword params → the network's inputs.
        network: the number of words and keyword params → a network from these inputs to (B, num_words) logits.
        search: search ranges that `pipeline.training.study` cannot infer from types, by path in the params block.
        several_devices: whether several devices can train it together.
        survives_refusals: whether a step raises an error if the system refuses memory to it, and does not crash.
        devices: the number of devices that train it together, one process each.
        rank: the number of this process among them; rank 0 does all work that is done once.
        seconds: time that `fit` has taken, including runs before a resume.
    """

    encode: ClassVar[Callable[..., Any]]
    network: Callable[..., Any]
    search: ClassVar[Mapping[str, Any]] = {}
    several_devices: ClassVar[bool] = False
    survives_refusals: bool = True

    def __init__(self, params: LearnerParams, *, num_words: int, seed: tuple[int, ...], threads: int) -> None:
        self.params, self.num_words, self.seed, self.threads = params, num_words, seed, threads
        self.micro_batches = params.training.micro_batches
        self.rank, self.devices = 0, 1
        self.curve: list[EpochRow] = []
        self.seconds = 0.0

    @property
    def name(self) -> str:
        """The name of the learner's file, without suffix."""
        return type(self).__module__.rpartition(".")[2]

    def check(self, devices: int) -> None:
        """Check for params that this learner does not support, before any training.

        Raises:
            SketchstackError: the learner does not support a param.
        """
        if devices > 1 and not self.several_devices:
            raise SketchstackError(
                f"params.yaml: devices is {devices}, but only torch learners train on several devices, and "
                f"{self.name} is a Keras learner: set devices to 1, or remove {self.name} from `ensemble`."
            )
        if self.params.augmentation.mixup > 0 and type(self).encode in (pen_movements, points):
            raise SketchstackError(
                f"params.yaml: augmentation.mixup needs pictures, but {self.name} takes sequences; set mixup to 0.0."
            )

    def launch(self, devices: int) -> None:
        """Start copies of this process so that `devices` processes in all fit the network together.

        Raises:
            SketchstackError: as `check`, or the machine has too few devices.
        """
        self.check(devices)

    def from_first(self, found: Found) -> Found:
        """Copy a value from the first device to all devices."""
        return found

    @abstractmethod
    def build(self) -> None:
        """Create the network and the optimiser from the seed."""

    @abstractmethod
    def train_step(self, batch: Batch, learning_rate: float) -> tuple[Any, Any]:
        """One step of the optimiser; returns the loss and the top-1 accuracy before the step.

        Both are numbers, or values that `float` accepts later: to read a number from a GPU is to wait for it.
        """

    @abstractmethod
    def out_of_memory(self, error: Exception) -> bool:
        """Whether a step failed because memory ran out."""

    def expected_bytes(self, rows: int) -> int:
        """The memory that a step on some drawings is expected to take; 0 if a step itself finds out."""
        return 0

    @abstractmethod
    def set_micro_batches(self, count: int) -> None:
        """Split the batches of all later steps into `count` parts; discard the partial results of a failed step."""

    @abstractmethod
    def averaged(self) -> AbstractContextManager[None]:
        """Context in which the network has the moving average of the weights, if there is one."""

    @abstractmethod
    def predict(self, inputs: Any) -> np.ndarray:
        """Probabilities (B, num_words) float32 of encoded drawings."""

    @abstractmethod
    def weights(self) -> State:
        """All arrays of the current network that prediction needs, by name."""

    @abstractmethod
    def set_weights(self, weights: State) -> None:
        """Put `weights()` back into a built network."""

    @abstractmethod
    def state(self) -> State:
        """All arrays that the next train_step depends on, by name."""

    @abstractmethod
    def set_state(self, state: State) -> None:
        """Put `state()` back into a built network and optimiser."""

    def made_network(self) -> Any:
        """The network that the params describe.

        Raises:
            SketchstackError: it cannot be built from these params, or does not fit the encoding.
        """
        try:
            return self.network(self.num_words, **self.params.network)
        except (TypeError, ValueError, IndexError, RuntimeError, ZeroDivisionError) as error:
            last, where = traceback.extract_tb(error.__traceback__)[-1], f"learners.{self.name}"
            raise SketchstackError(
                f"params.yaml: no network can be built from {where}.network and {where}.encoding ("
                f"{type(error).__name__} in {Path(last.filename).name}, line {last.lineno}: "
                f"{' '.join(str(error).split())}); change one block to fit the other, or fix that line."
            ) from error

    def inputs(self, drawings: Drawings, distortion: Distortion) -> Any:
        """Encode drawings with this learner's encoding params."""
        return type(self).encode(drawings, distortion, **self.params.encoding)

    def batches(self, drawings: Shards) -> Batches:
        """The training batches of this learner from drawings, or this device's share of each batch.

        Raises:
            SketchstackError: a batch has fewer drawings than there are devices.
        """
        size = min(self.params.training.batch_size, len(drawings))
        if (size + 1) // 2 < self.devices:
            raise SketchstackError(
                f"a batch of {size} drawings is too small for {self.devices} devices; "
                "set a lower `devices` in params.yaml, or a higher `batch_size`."
            )
        return Batches(drawings, self.inputs, self.params.augmentation, size, self.seed, (self.rank, self.devices))

    def fit(self, drawings: Shards, checkpoint: Checkpoint, name: str, log: EpochLog = lambda row: None) -> None:
        """Fit the network; resume from the checkpoint if there is one.

        A step depends only on its number and the state before it, so a run that was killed and resumed ends with the
        same weights as an uninterrupted run. With several devices each process calls this; all end with the same
        weights, and the first device writes the checkpoints.
        """
        begun = time.monotonic()
        self.build()
        batches, training = self.batches(drawings), self.params.training
        steps = training.epochs * batches.steps_an_epoch
        if self.micro_batches > batches.batch_size:
            self.set_micro_batches(batches.batch_size)
        start, loss_sum, top1_sum = self._resume(checkpoint)
        begun -= self.seconds
        for row in self.curve:
            log(row)
        size, shown = batches.batch_size, self.rank == 0
        with (
            Allowance(enforced=self.survives_refusals) as self.allowance,
            progress_bar(name, total=steps * size, initial=start * size, unit="drawings", shown=shown) as bar,
        ):
            while self.expected_bytes(math.ceil(size / self.micro_batches)) > (self.allowance.bytes or math.inf):
                self._cut(start, size)
            for batch in self._fed(batches, start, steps):
                rate = rate_at(batch.step, steps, training)
                loss, top1 = self._step(batch, rate)
                loss_sum, top1_sum = loss_sum + loss, top1_sum + top1
                epoch, place = divmod(batch.step + 1, batches.steps_an_epoch)
                if place == 0:
                    count = batches.steps_an_epoch
                    self.curve.append(EpochRow(epoch, rate, float(loss_sum) / count, float(top1_sum) / count))
                    loss_sum = top1_sum = 0.0
                    log(self.curve[-1])
                    bar.set_postfix_str(
                        f"epoch {epoch}/{training.epochs} loss {self.curve[-1].loss:.3f}", refresh=False
                    )
                bar.update(batches.batch_size)
                if self.rank == 0 and checkpoint.due(batch.step + 1):
                    progress = {"step": batch.step + 1, "sums": [float(loss_sum), float(top1_sum)]}
                    progress |= {"curve": self.curve, "micro_batches": self.micro_batches, "devices": self.devices}
                    checkpoint.write(self.state(), progress | {"seconds": time.monotonic() - begun})
        self.seconds = time.monotonic() - begun

    def _fed(self, batches: Batches, start: int, end: int) -> Iterator[Batch]:
        """The batches of steps start..end-1; if memory runs out as they are made, later steps take less of it."""
        while start < end:
            try:
                for batch in batches.steps(start, end):
                    yield batch
                    start = batch.step + 1
            except MemoryError:
                self._cut(start, batches.batch_size)

    def _step(self, batch: Batch, learning_rate: float) -> tuple[Any, Any]:
        """One step; if memory runs out, the same drawings in smaller parts.

        Memory that another program has freed in the meantime is used first.

        Raises:
            SketchstackError: not even a single drawing fits into memory.
        """
        renewed = False
        while True:
            try:
                return self.train_step(batch, learning_rate)
            except Exception as error:
                if not self.out_of_memory(error):
                    raise
            # Outside the handler: its error keeps a reference to the arrays of the step.
            more, renewed = not renewed and self.allowance.renew(), True
            if more:
                self.set_micro_batches(self.micro_batches)
            else:
                self._cut(batch.step, len(batch.labels))

    def _cut(self, step: int, rows: int) -> None:
        """Train on batches of `rows` drawings in twice as many parts from a step on.

        Raises:
            SketchstackError: a part has a single drawing already.
        """
        if self.micro_batches >= rows:
            raise SketchstackError(
                "there is not enough memory to train on a single drawing; make the network or the encoding smaller."
            )
        self.set_micro_batches(min(2 * self.micro_batches, rows))
        print(
            f"memory is short: from step {step} on, {self.micro_batches} micro-batches of "
            f"{math.ceil(rows / self.micro_batches)} drawings make up each batch of {rows}",
            flush=True,
        )

    def _resume(self, checkpoint: Checkpoint) -> tuple[int, float, float]:
        found = self.from_first(checkpoint.read() if self.rank == 0 else None)
        if found is None:
            if self.params.training.initial_weights:
                self._start_from(self.params.training.initial_weights)
            return 0, 0.0, 0.0
        state, progress = found
        if progress["micro_batches"] != self.micro_batches:
            self.set_micro_batches(progress["micro_batches"])
        self.set_state(state)
        self.curve, self.seconds = [EpochRow(*row) for row in progress["curve"]], progress["seconds"]
        elsewhere = f", which {progress['devices']} device(s) reached" if progress["devices"] != self.devices else ""
        self._tell(f"resuming from step {progress['step']}{elsewhere}")
        return progress["step"], *progress["sums"]

    def _start_from(self, file: InitialWeights) -> None:
        """Replace random weights by those of a file, where names and shapes agree.

        Raises:
            SketchstackError: the file is missing, has another hash than in params.yaml, has no weights of this
                network, or was fitted to held-out drawings.
        """
        where = f"params.yaml: training.initial_weights: {file.path}"
        if MODELS.resolve() in Path(file.path).resolve().parents:
            raise SketchstackError(
                f"{where} was fitted to drawings that are held out in some fold, so the scores would not be "
                f"out of fold. Name weights that were not fitted to any training drawing of this run."
            )
        try:
            given, found = file_hash(Path(file.path)), load_file(file.path)
        except (OSError, SafetensorError, TypeError, KeyError) as error:  # the last two: bfloat16 arrays
            raise SketchstackError(f"{where} cannot be read ({error}); name a weights.safetensors.") from None
        if given != file.sha256:
            raise SketchstackError(f"{where} has SHA-256 {given}, not {file.sha256}; correct `sha256` or the path.")
        weights = self.weights()
        fitting = {name: found[name] for name in weights if name in found and found[name].shape == weights[name].shape}
        if not fitting:
            raise SketchstackError(f"{where} holds no weights of this network; name weights of the same learner.")
        self.set_weights(weights | fitting)
        random = [name for name in weights if name not in fitting]
        self._tell(f"starting from {file.path}" + (f"; random: {', '.join(random)}" if random else ""))

    def _tell(self, text: str) -> None:
        if self.rank == 0:
            print(text, flush=True)

    def predict_proba(self, drawings: Shards) -> np.ndarray:
        """Probabilities (rows, num_words) float32 of drawings in the given order; each row sums to 1.

        With `augmentation.mirror_test`, the mean over each drawing and its mirror image.
        """
        views = [identity, mirror] if self.params.augmentation.mirror_test else [identity]

        def encoded(start: int) -> list[Any]:
            chunk = drawings[start : start + PREDICT]
            return [self.inputs(chunk, view(len(chunk))) for view in views]

        found = np.empty((len(drawings), self.num_words), np.float32)
        starts = range(0, len(drawings), PREDICT)
        with self.averaged():
            for start, chunk in zip(starts, made_ahead(encoded, starts), strict=True):
                found[start : start + PREDICT] = np.mean([self._predict(inputs) for inputs in chunk], axis=0)
        return found

    def _predict(self, inputs: Any) -> np.ndarray:
        """`predict`; if memory runs out, in halves."""
        try:
            return self.predict(inputs)
        except Exception as error:
            rows = len(inputs[0] if isinstance(inputs, tuple) else inputs)
            if rows == 1 or not self.out_of_memory(error):
                raise
        halves = [some_rows(inputs, slice(rows // 2)), some_rows(inputs, slice(rows // 2, None))]
        return np.concatenate([self._predict(half) for half in halves])

    def save(self, folder: Path) -> None:
        """Write weights.safetensors into a folder: arrays only, no code that runs when loaded."""
        with self.averaged():
            weights = {name: np.asarray(array, order="C") for name, array in self.weights().items()}
            (folder / "weights.safetensors").write_bytes(save(weights))  # save_file: owner-only

    def load(self, folder: Path) -> None:
        """Build the network and read weights.safetensors of a folder.

        Raises:
            SketchstackError: the file is missing, damaged, or holds the weights of another network.
        """
        self.build()
        path = folder / "weights.safetensors"
        try:
            self.set_weights(load_file(intact(path)))
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise SketchstackError(
                f"{path} does not hold this network's weights ({error}); train it with `dvc repro`."
            ) from None
