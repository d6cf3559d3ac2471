"""What every learner shares: how it is found and checked, the one fit loop, resume points, prediction in chunks.

A learner is a file of this folder without a leading underscore that defines `class Learner`. It gives `encode` and
`network`; `_torch.TorchLearner` and `_keras.KerasLearner` give the rest.
"""

from __future__ import annotations

import difflib
import importlib
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from pipeline.artefacts import whole_file
from pipeline.batches import Batch, Batches, made_ahead
from pipeline.drawings import Drawings, Shards
from pipeline.encodings import Distortion, identity, mirror
from pipeline.errors import SketchstackError
from pipeline.params import LearnerParams, Training, check_keywords
from pipeline.progress import progress_bar

LEARNERS = Path(__file__).parent
PREDICT = 512  # drawings predicted at a time
State = dict[str, np.ndarray]


class EpochRow(NamedTuple):
    """A row of a learning curve: the last step's learning rate; loss and top-1 as means over an epoch's batches."""

    epoch: int
    learning_rate: float
    loss: float
    top1: float


EpochLog = Callable[[EpochRow], None]  # takes each epoch's row as it comes, to show it


def available() -> list[str]:
    """Names of all learners: the files of this folder without a leading underscore."""
    return sorted(path.stem for path in LEARNERS.glob("*.py") if not path.stem.startswith("_"))


def learner_class(name: str) -> type[Learner]:
    """Find a learner by its name.

    Raises:
        SketchstackError: there is no such file, or it defines no `class Learner`.
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
    return found


def load_learner(name: str, params: LearnerParams, *, num_words: int, seed: tuple[int, ...], threads: int) -> Learner:
    """A learner ready to fit, its params checked.

    Raises:
        SketchstackError: an unknown learner, or params that do not fit its signatures.
    """
    found = learner_class(name)
    check_keywords(f"learners.{name}.network", params.network, found.network)
    check_keywords(f"learners.{name}.encoding", params.encoding, found.encode)
    return found(params, num_words=num_words, seed=seed, threads=threads)


def one_cycle(step: int, steps: int, training: Training) -> float:
    """The learning rate of a step: up in a line over the warm-up, down as a half cosine to zero.

    After the one-cycle policy of Smith and Topin, https://arxiv.org/abs/1708.07120, without its cycle of momentum.
    """
    rise = training.warmup * steps
    if step < rise:
        return training.learning_rate * (step + 1) / (rise + 1)
    return training.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1.0, steps - rise)))


class Checkpoint:
    """A resume point on disk, written whole, and only good for the run that wrote it.

    Args:
        path: the file.
        made_from: hashes of all that the run depends on, by name (params, data, code).
        seconds: least time between two writes.
    """

    def __init__(self, path: Path, made_from: dict[str, str], seconds: float) -> None:
        self.path, self.made_from, self.seconds = path, made_from, seconds
        self._written = time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self._written >= self.seconds

    def write(self, state: State, progress: dict[str, Any]) -> None:
        """Write the state of a run after some step."""
        note = {"made_from": json.dumps(self.made_from), "progress": json.dumps(progress)}
        with whole_file(self.path) as file:
            save_file({name: np.asarray(array, order="C") for name, array in state.items()}, file, note)
        self._written = time.monotonic()

    def read(self) -> tuple[State, dict[str, Any]] | None:
        """The last state and progress; None where there is none, or none that belongs to this run (and why)."""
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, "np") as file:
                note = file.metadata()
            made_from, state = json.loads(note["made_from"]), load_file(self.path)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            print(f"{self.path} is damaged ({error}): starting from the first step.", flush=True)
            return None
        other = [name for name, value in self.made_from.items() if made_from.get(name) != value]
        if other:
            print(f"{self.path} was made from other {' and '.join(other)}: starting from the first step.", flush=True)
            return None
        return state, json.loads(note["progress"])

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


class Learner(ABC):
    """A base learner: a network over an encoding, fitted to batches, that gives probabilities.

    Attributes:
        encode: drawings, their distortion and keyword params → the network's inputs.
        network: the number of words and keyword params → a network of those inputs that gives (B, num_words) logits.
    """

    encode: ClassVar[Callable[..., Any]]
    network: Callable[..., Any]

    def __init__(self, params: LearnerParams, *, num_words: int, seed: tuple[int, ...], threads: int) -> None:
        self.params, self.num_words, self.seed, self.threads = params, num_words, seed, threads
        self.curve: list[EpochRow] = []

    @abstractmethod
    def build(self) -> None:
        """Make the network and the optimiser from the seed."""

    @abstractmethod
    def train_step(self, batch: Batch, learning_rate: float) -> tuple[float, float]:
        """One step of the optimiser; returns the loss and the share of right first guesses before it."""

    @abstractmethod
    def predict(self, inputs: Any) -> np.ndarray:
        """Probabilities (B, num_words) float32 of encoded drawings."""

    @abstractmethod
    def weights(self) -> State:
        """All that prediction needs, as arrays by name."""

    @abstractmethod
    def set_weights(self, weights: State) -> None:
        """Put `weights()` back into a built network."""

    @abstractmethod
    def state(self) -> State:
        """All that the next train_step depends on, as arrays by name."""

    @abstractmethod
    def set_state(self, state: State) -> None:
        """Put `state()` back into a built network and optimiser."""

    def made_network(self) -> Any:
        """The network that the params ask for.

        Raises:
            SketchstackError: it cannot be built from them, or does not fit the encoding.
        """
        try:
            return self.network(self.num_words, **self.params.network)
        except (TypeError, ValueError, IndexError, RuntimeError, ZeroDivisionError) as error:
            where = f"learners.{type(self).__module__.rpartition('.')[2]}"
            raise SketchstackError(
                f"params.yaml: {where}.network and {where}.encoding do not make a network "
                f"({' '.join(str(error).split())}); change the one to fit the other."
            ) from error

    def inputs(self, drawings: Drawings, distortion: Distortion) -> Any:
        """Encode drawings with this learner's encoding params."""
        return type(self).encode(drawings, distortion, **self.params.encoding)

    def batches(self, drawings: Shards) -> Batches:
        """The training batches that this learner makes of drawings."""
        size = min(self.params.training.batch_size, len(drawings))
        return Batches(drawings, self.inputs, self.params.augmentation, size, self.seed)

    def fit(self, drawings: Shards, checkpoint: Checkpoint, name: str, log: EpochLog = lambda row: None) -> None:
        """Fit the network; go on from the checkpoint if there is one.

        A step depends on nothing but its number and the state before it, so a run that was killed and goes on ends
        with the same weights as one that was not.
        """
        self.build()
        batches, training = self.batches(drawings), self.params.training
        steps = training.epochs * batches.steps_an_epoch
        start, loss_sum, top1_sum = self._resume(checkpoint)
        for row in self.curve:
            log(row)
        with progress_bar(
            name, total=steps * batches.batch_size, initial=start * batches.batch_size, unit="drawings"
        ) as bar:
            for batch in batches.steps(start, steps):
                rate = one_cycle(batch.step, steps, training)
                loss, top1 = self.train_step(batch, rate)
                loss_sum, top1_sum = loss_sum + loss, top1_sum + top1
                epoch, place = divmod(batch.step + 1, batches.steps_an_epoch)
                if place == 0:
                    count = batches.steps_an_epoch
                    self.curve.append(EpochRow(epoch, rate, loss_sum / count, top1_sum / count))
                    loss_sum = top1_sum = 0.0
                    log(self.curve[-1])
                    bar.set_postfix_str(
                        f"epoch {epoch}/{training.epochs} loss {self.curve[-1].loss:.3f}", refresh=False
                    )
                bar.update(batches.batch_size)
                if checkpoint.due():
                    progress = {"step": batch.step + 1, "sums": [loss_sum, top1_sum], "curve": self.curve}
                    checkpoint.write(self.state(), progress)

    def _resume(self, checkpoint: Checkpoint) -> tuple[int, float, float]:
        found = checkpoint.read()
        if found is None:
            return 0, 0.0, 0.0
        state, progress = found
        self.set_state(state)
        self.curve = [EpochRow(*row) for row in progress["curve"]]
        print(f"going on from step {progress['step']}", flush=True)
        return progress["step"], *progress["sums"]

    def predict_proba(self, drawings: Shards) -> np.ndarray:
        """Probabilities (rows, num_words) float32 of drawings in their order, each row summing to 1.

        With `augmentation.mirror_test`, the mean over each drawing and its mirror image.
        """
        views = [identity, mirror] if self.params.augmentation.mirror_test else [identity]

        def encoded(start: int) -> list[Any]:
            chunk = drawings[start : start + PREDICT]
            return [self.inputs(chunk, view(len(chunk))) for view in views]

        found = np.empty((len(drawings), self.num_words), np.float32)
        starts = range(0, len(drawings), PREDICT)
        for start, chunk in zip(starts, made_ahead(encoded, starts), strict=True):
            found[start : start + PREDICT] = np.mean([self.predict(inputs) for inputs in chunk], axis=0)
        return found

    def save(self, folder: Path) -> None:
        """Write weights.safetensors into a folder: arrays only, nothing that runs when loaded."""
        weights = {name: np.asarray(array, order="C") for name, array in self.weights().items()}
        save_file(weights, folder / "weights.safetensors")

    def load(self, folder: Path) -> None:
        """Build the network and read weights.safetensors of a folder.

        Raises:
            SketchstackError: the file is missing or holds another network's weights.
        """
        self.build()
        path = folder / "weights.safetensors"
        try:
            self.set_weights(load_file(path))
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise SketchstackError(
                f"{path} does not hold this network's weights ({error}); train it with `dvc repro`."
            ) from None
