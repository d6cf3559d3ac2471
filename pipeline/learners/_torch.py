"""What torch learners share: tensors, the optimiser's step, weights and state as NumPy arrays."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from pipeline.batches import Batch
from pipeline.learners._base import Learner, State

DROPOUT = 3  # keeps its stream of random numbers apart from those of the batches
PRECISION = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TorchLearner(Learner):
    """A learner whose `network` returns a torch module that maps inputs to logits (B, num_words).

    Images come as float32 (B, channels, side, side) in 0..1, sequences as float32 (B, T, C) and int64 lengths (B,).
    Runs on a GPU where torch sees one.
    """

    model: torch.nn.Module
    optimiser: torch.optim.Optimizer

    def build(self) -> None:
        torch.set_num_threads(self.threads)
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = False
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(_seed_of(self.seed))
        module = self.made_network()
        self.model = module.to(self.device).to(memory_format=torch.channels_last)
        self.optimiser = torch.optim.AdamW(self._groups(), fused=True)

    def _groups(self) -> list[dict[str, Any]]:
        """Matrices and kernels decay; biases and the scales of norms do not."""
        training, weights = self.params.training, list(self.model.parameters())
        decayed = {"params": [w for w in weights if w.ndim > 1], "weight_decay": training.weight_decay}
        return [decayed, {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0}]

    def train_step(self, batch: Batch, learning_rate: float) -> tuple[float, float]:
        torch.manual_seed(_seed_of((*self.seed, DROPOUT, batch.step)))  # so dropout depends on the step alone
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        self.model.train()
        labels = torch.from_numpy(batch.labels).to(self.device)
        with self._autocast():
            logits = self.model(*self._tensors(batch.inputs)).float()
        loss = cross_entropy(logits, labels, label_smoothing=self.params.training.label_smoothing)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.params.training.clip_norm)
        self.optimiser.step()
        return loss.item(), (logits.argmax(1) == labels).float().mean().item()

    @torch.inference_mode()
    def predict(self, inputs: Any) -> np.ndarray:
        self.model.eval()
        with self._autocast():
            logits = self.model(*self._tensors(inputs)).float()
        return logits.softmax(1).cpu().numpy()

    def _autocast(self) -> AbstractContextManager[None]:
        precision = PRECISION[self.params.training.precision]
        return torch.autocast(self.device.type, precision, enabled=precision is not torch.float32)

    def _tensors(self, inputs: Any) -> list[torch.Tensor]:
        """Inputs as the network takes them, on the device."""
        if isinstance(inputs, tuple):
            sequence, lengths = inputs
            return [torch.from_numpy(sequence).to(self.device), torch.from_numpy(lengths).long()]
        images = torch.from_numpy(inputs).to(self.device).permute(0, 3, 1, 2)  # (B, channels, side, side)
        return [images.float().div_(255)]

    def weights(self) -> State:
        return {name: tensor.cpu().numpy() for name, tensor in self.model.state_dict().items()}

    def set_weights(self, weights: State) -> None:
        self.model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})

    def state(self) -> State:
        state = {f"model/{name}": array for name, array in self.weights().items()}
        for number, slots in self.optimiser.state_dict()["state"].items():
            state |= {f"optimiser/{number}/{slot}": tensor.cpu().numpy() for slot, tensor in slots.items()}
        return state

    def set_state(self, state: State) -> None:
        self.set_weights({name[6:]: array for name, array in state.items() if name.startswith("model/")})
        slots: dict[int, dict[str, torch.Tensor]] = {}
        for name, array in state.items():
            kind, _, rest = name.partition("/")
            if kind == "optimiser":
                number, slot = rest.split("/")
                slots.setdefault(int(number), {})[slot] = self._like_weight(int(number), torch.from_numpy(array))
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": slots})

    def _like_weight(self, number: int, moment: torch.Tensor) -> torch.Tensor:
        """A moment in the memory layout of its weight: the fused step walks both as they lie in memory."""
        weight = [w for group in self.optimiser.param_groups for w in group["params"]][number]
        return torch.empty_like(weight, device="cpu").copy_(moment) if moment.shape == weight.shape else moment


def _seed_of(numbers: tuple[int, ...]) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
