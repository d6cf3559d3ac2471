"""Code that torch learners share: tensors, the optimiser step, weights and state as NumPy arrays."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from pipeline.drawings.batches import Batch
from pipeline.drawings.shards import Shards
from pipeline.foundation.environment import allow_bfloat16
from pipeline.foundation.errors import SketchstackError
from pipeline.learners._base import DROPOUT, SHORT_OF_MEMORY, EpochLog, Found, Learner, average_decay
from pipeline.training.checkpoints import Checkpoint, State

DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux
PRECISION = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def set_up_torch(threads: int) -> bool:
    """Make torch deterministic and set its number of CPU threads; returns whether it sees a GPU."""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it matrix products are not deterministic
        torch.set_float32_matmul_precision("high")
    torch.set_num_threads(threads)
    # A few operations have no deterministic GPU kernel: torch then warns once. Attention keeps its faster GPU kernel,
    # which adds in no fixed order.
    torch.use_deterministic_algorithms(True, warn_only=on_gpu)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    return on_gpu


def square_root(x: torch.Tensor) -> torch.Tensor:
    """The square roots of positive numbers, with the same bits on every processor.

    `torch.sqrt` on a CPU is MKL's, which rounds otherwise on AMD than on Intel, and whose first call on several threads
    may lose half of the bits: https://github.com/pytorch/pytorch/issues/188792. `rsqrt` is torch's own.
    """
    return x * x.rsqrt()


class TorchLearner(Learner):
    """A learner whose `network` returns a torch module that maps inputs to logits (B, num_words).

    Images are float32 (B, channels, side, side) in 0..1; sequences are float32 (B, T, C) and int64 lengths (B,), which
    stay on the CPU even with a GPU. A GPU multiplies float32 matrices in TF32, with a 10-bit mantissa.
    It runs on a GPU if torch sees one; after `launch` on several GPUs, or in several CPU processes without a GPU. Each
    device takes its share of a batch; batch norms use the statistics of that share; the first device's are saved.
    """

    model: torch.nn.Module
    run: Callable[..., torch.Tensor]  # the model, compiled if params say so
    optimiser: torch.optim.Optimizer
    average: dict[str, torch.Tensor]  # moving averages of floating-point tensors; empty before the first step
    statistics: list[torch.Tensor]  # running statistics of batch norms

    several_devices = True

    def launch(self, devices: int) -> None:
        super().launch(devices)
        if devices == 1:
            return
        if 0 < torch.cuda.device_count() < devices:
            raise SketchstackError(f"params.yaml: devices is {devices}; torch sees {torch.cuda.device_count()} GPU(s).")
        if sys.platform == "linux" and "LOCAL_RANK" in os.environ:  # a copy that the first process started
            ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
        # Not needed with one device, and the import takes a second.
        from lightning_fabric import Fabric

        Fabric(accelerator="cuda" if torch.cuda.is_available() else "cpu", devices=devices, strategy="ddp").launch()
        self.rank, self.devices = torch.distributed.get_rank(), torch.distributed.get_world_size()

    def from_first(self, found: Found) -> Found:
        if self.devices == 1:
            return found
        carried = [found]
        torch.distributed.broadcast_object_list(carried)
        return carried[0]

    def fit(self, drawings: Shards, checkpoint: Checkpoint, name: str, log: EpochLog = lambda row: None) -> None:
        super().fit(drawings, checkpoint, name, log)
        if self.devices > 1:
            torch.distributed.destroy_process_group()

    def build(self) -> None:
        on_gpu = set_up_torch(self.threads)
        self.device = torch.device("cuda" if on_gpu else "cpu")
        if self.params.training.precision == "bfloat16":
            allow_bfloat16()
        torch.manual_seed(_seed_of(self.seed))
        module = self.made_network()
        self.model = module.to(self.device).to(memory_format=torch.channels_last)
        # Not `model.compile()`: of a Sequential it compiles only our own modules in it.
        self.run = torch.compile(self.model) if self.params.training.compile else self.model
        if on_gpu and self.params.training.precision == "bfloat16" and not torch.cuda.is_bf16_supported(False):
            self._tell("this GPU computes bfloat16 by way of float32, which is slow; set precision to float32")
        self.average = {}
        norms = [each for each in self.model.modules() if isinstance(each, torch.nn.modules.batchnorm._NormBase)]
        self.statistics = [each for norm in norms for each in norm.buffers()]
        self.optimiser = torch.optim.AdamW(self._groups(), fused=True)

    def _groups(self) -> list[dict[str, Any]]:
        """Optimiser groups: weight decay for matrices and kernels, none for biases and norm scales."""
        training, weights = self.params.training, list(self.model.parameters())
        decayed = {"params": [w for w in weights if w.ndim > 1], "weight_decay": training.weight_decay}
        return [decayed, {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0}]

    def train_step(self, batch: Batch, learning_rate: float) -> tuple[torch.Tensor, torch.Tensor]:
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        before = [tensor.clone() for tensor in self.statistics]
        try:
            loss, top1 = self._gradients(batch)
        except Exception:
            for tensor, value in zip(self.statistics, before, strict=True):
                tensor.copy_(value)
            raise
        try:
            if self.devices > 1:
                loss, top1 = self._mean_of_devices(len(batch.labels), loss, top1)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.params.training.clip_norm)
            self.optimiser.step()
            self._update_average(batch.step)
        except Exception as error:
            if not self.out_of_memory(error):
                raise
            raise SketchstackError(
                "there is not enough memory for the network's weights, gradients and moving averages; make the network "
                "smaller."
            ) from None
        return loss, top1

    def _gradients(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the gradients of a batch, part by part; return its mean loss and its top-1 accuracy."""
        torch.manual_seed(_seed_of((*self.seed, DROPOUT + self.rank, batch.step)))  # dropout depends on the step alone
        self.model.train()
        self.optimiser.zero_grad()
        loss_sum, right = torch.zeros((2, 1), dtype=torch.float64, device=self.device)
        for part in batch.parts(self.micro_batches):
            loss, logits, labels = self._backward(part, len(part.labels) / len(batch.labels))
            loss_sum += loss * len(labels)
            right += (logits.argmax(1) == labels).sum()
        return loss_sum[0] / len(batch.labels), right[0] / len(batch.labels)

    def _mean_of_devices(self, rows: int, *means: torch.Tensor) -> list[torch.Tensor]:
        """Average gradients and other means over the devices, weighted by the rows of their shares of the batch.

        Once per step, after the last part: a device that ran out of memory can retry alone while the others wait.
        """
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
        one = torch.ones(1, device=self.device)
        mine = [one, *(mean.float().reshape(1) for mean in means), *(gradient.flatten() for gradient in gradients)]
        mean = torch.cat(mine).mul_(rows)
        torch.distributed.all_reduce(mean)
        mean /= mean[0].clone()  # the rows of all
        found, flat = mean[1 : len(means) + 1], mean[len(means) + 1 :]
        for weight, part in zip(weights, flat.split([weight.numel() for weight in weights]), strict=True):
            weight.grad = torch.empty_like(weight).copy_(part.view_as(weight))
        return list(found)

    def _backward(self, part: Batch, weight: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Add the gradients of some drawings, times `weight`; return their mean loss, logits and main labels (B,).

        With `adversarial`, half of the loss is on inputs moved by this distance along the sign of the gradient: the
        fast gradient sign method, https://arxiv.org/abs/1412.6572. The main label is the one with more weight in mixup.
        """
        labels, mixed = self._moved(part.labels), self._moved(part.mixed)
        inputs, step = self._tensors(part.inputs), self.params.training.adversarial

        def loss_of(inputs: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
            with self._autocast():
                logits = self.run(*inputs).float()
            if logits.shape != (len(labels), self.num_words):
                raise SketchstackError(
                    f"pipeline/learners/{self.name}.py: the network of {self.num_words} words gave "
                    f"{tuple(logits.shape)} for {len(labels)} drawings, not {(len(labels), self.num_words)} logits."
                )
            smoothing = self.params.training.label_smoothing
            loss = cross_entropy(logits, labels, label_smoothing=smoothing)
            if part.share < 1:
                loss = part.share * loss + (1 - part.share) * cross_entropy(logits, mixed, label_smoothing=smoothing)
            return loss, logits

        likelier = labels if part.share >= 0.5 else mixed
        loss, logits = loss_of([inputs[0].requires_grad_(step > 0), *inputs[1:]])
        if step == 0:
            (loss * weight).backward()
            return loss.detach(), logits.detach(), likelier
        (loss * (weight / 2)).backward()
        slope = inputs[0].grad
        assert slope is not None
        against, _ = loss_of([inputs[0].detach() + step * slope.sign(), *inputs[1:]])
        (against * (weight / 2)).backward()
        return (loss.detach() + against.detach()) / 2, logits.detach(), likelier

    def _tracked(self) -> dict[str, torch.Tensor]:
        return {name: tensor for name, tensor in self.model.state_dict().items() if tensor.is_floating_point()}

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        ema = self.params.training.ema
        if ema > 0 and self.average:
            weight = 1 - average_decay(ema, step)
            torch._foreach_lerp_(list(self.average.values()), list(self._tracked().values()), weight)
        elif ema > 0:
            self.average = {name: tensor.clone() for name, tensor in self._tracked().items()}

    @contextmanager
    def averaged(self) -> Iterator[None]:
        kept = {name: tensor.clone() for name, tensor in self._tracked().items()} if self.average else {}
        self._put(self.average)
        try:
            yield
        finally:
            self._put(kept)

    @torch.no_grad()
    def _put(self, tensors: dict[str, torch.Tensor]) -> None:
        tracked = self._tracked()
        for name, tensor in tensors.items():
            tracked[name].copy_(tensor)

    def out_of_memory(self, error: Exception) -> bool:
        named = isinstance(error, torch.OutOfMemoryError | MemoryError)
        return named or any(said in str(error) for said in SHORT_OF_MEMORY)

    def set_micro_batches(self, count: int) -> None:
        self.micro_batches = count
        self.optimiser.zero_grad()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def predict(self, inputs: Any) -> np.ndarray:
        self.model.eval()
        with self._autocast():
            logits = self.run(*self._tensors(inputs)).float()
        return logits.softmax(1).cpu().numpy()

    def _autocast(self) -> AbstractContextManager[None]:
        precision = PRECISION[self.params.training.precision]
        return torch.autocast(self.device.type, precision, enabled=precision is not torch.float32)

    def _tensors(self, inputs: Any) -> list[torch.Tensor]:
        """Inputs as tensors on the device, in the layout that the network takes."""
        if isinstance(inputs, tuple):
            sequence, lengths = inputs
            return [self._moved(sequence), torch.from_numpy(lengths).long()]  # torch packs by lengths on the CPU
        images = self._moved(inputs).permute(0, 3, 1, 2)  # (B, channels, side, side)
        return [images.float().div_(255)]

    def _moved(self, array: np.ndarray) -> torch.Tensor:
        """An array as a tensor on the device; the copy to a GPU is asynchronous."""
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

    def weights(self) -> State:
        return _arrays(self.model.state_dict())

    def set_weights(self, weights: State) -> None:
        self.model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})

    def state(self) -> State:
        state = {f"model/{name}": array for name, array in _arrays(self.model.state_dict()).items()}
        state |= {f"average/{name}": array for name, array in _arrays(self.average).items()}
        for number, slots in self.optimiser.state_dict()["state"].items():
            state |= {f"optimiser/{number}/{slot}": tensor.cpu().numpy() for slot, tensor in slots.items()}
        return state

    def set_state(self, state: State) -> None:
        parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "average": {}, "optimiser": {}}
        for name, array in state.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = torch.from_numpy(array)
        self.model.load_state_dict(parts["model"])
        # Each in the memory layout of its tensor, as `clone` would give it.
        averages = parts["average"]
        self.average = {
            name: torch.empty_like(tensor).copy_(averages[name])
            for name, tensor in self._tracked().items()
            if name in averages
        }
        slots: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in parts["optimiser"].items():
            number, slot = name.split("/")
            slots.setdefault(int(number), {})[slot] = self._like_weight(int(number), tensor)
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": slots})

    def _like_weight(self, number: int, moment: torch.Tensor) -> torch.Tensor:
        """A moment in the memory layout of its weight: the fused optimiser step reads both in memory order."""
        weight = [w for group in self.optimiser.param_groups for w in group["params"]][number]
        return torch.empty_like(weight, device="cpu").copy_(moment) if moment.shape == weight.shape else moment


def _arrays(tensors: dict[str, torch.Tensor]) -> State:
    return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}


def _seed_of(numbers: tuple[int, ...]) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
