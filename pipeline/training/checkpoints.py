"""Resume points of a training run: two on disk, each written atomically and valid only for the run that wrote it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from pipeline.foundation.artefacts import partial, whole_file
from pipeline.foundation.errors import SketchstackError

State = dict[str, np.ndarray]


class ResumePoint(NamedTuple):
    """The point from which a run resumes.

    Attributes:
        state: all arrays that the next step depends on, by name.
        progress: further values that the run restores, JSON-compatible.
    """

    state: State
    progress: dict[str, Any]


class Checkpoint:
    """The resume points of one run: last.safetensors, and before.safetensors as a fallback if the last is damaged.

    Args:
        folder: the folder of both files.
        made_from: hashes of all inputs of the run, by name (params, data, code).
        seconds: least time between two writes; None to count only steps.
        steps: steps between two writes; None to count only time.
    """

    def __init__(self, folder: Path, made_from: dict[str, str], *, seconds: float | None, steps: int | None) -> None:
        self.last, self.before = folder / "last.safetensors", folder / "before.safetensors"
        self.made_from, self.seconds, self.steps = made_from, seconds, steps
        self._written = time.monotonic()
        self._warned = False

    def due(self, step: int) -> bool:
        """Whether to write a resume point after step number `step`."""
        if self.steps is not None and step % self.steps == 0:
            return True
        return self.seconds is not None and time.monotonic() - self._written >= self.seconds

    def write(self, state: State, progress: dict[str, Any]) -> None:
        """Write the state of a run after a step; the previous last.safetensors becomes before.safetensors.

        If it cannot be written, the run continues and prints one warning.
        """
        state = {name: np.asarray(array, order="C") for name, array in state.items()}
        note = {"made_from": json.dumps(self.made_from), "progress": json.dumps(progress)}
        try:
            with whole_file(self.last) as file:
                # Not save_file: if it is killed, it leaves a temporary file behind.
                file.write_bytes(save(state, {**note, "hash": _hash(state, note)}))
                if self.last.exists():
                    self.last.replace(self.before)
        except (OSError, SketchstackError) as error:
            if not self._warned:
                print(f"warning: no resume point can be written ({error}); training continues without.", flush=True)
            self._warned = True
        self._written = time.monotonic()

    def read(self) -> ResumePoint | None:
        """The last intact resume point of this run; if there is none, prints the reason and returns None."""
        paths = [path for path in (self.last, self.before) if path.exists()]
        for path in paths:
            try:
                made_from, found = _read(path)
            except SketchstackError as error:
                print(f"warning: {path} is damaged ({error}) and was removed.", flush=True)
                path.unlink()
                continue
            other = [name for name, value in self.made_from.items() if made_from.get(name) != value]
            if not other:
                return found
            print(f"{path} is refused: it was made from other {' and '.join(other)}.", flush=True)
        if paths:
            print("starting from the first step", flush=True)
        return None

    def remove(self) -> None:
        """Remove both files, and any partial file that a kill left: the run has ended."""
        for path in (self.last, self.before, partial(self.last)):
            path.unlink(missing_ok=True)


def _read(path: Path) -> tuple[dict[str, str], ResumePoint]:
    """The `made_from` hashes of a resume point, and its content.

    Raises:
        SketchstackError: the file is damaged; says how.
    """
    try:
        with safe_open(path, "np") as file:
            note = file.metadata() or {}
        state = load_file(path)
        if _hash(state, {name: note[name] for name in ("made_from", "progress")}) != note["hash"]:
            raise SketchstackError("its bytes do not have the hash that was written with them")
        return json.loads(note["made_from"]), ResumePoint(state, json.loads(note["progress"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise SketchstackError(str(error) or type(error).__name__) from None


def _hash(state: State, note: dict[str, str]) -> str:
    """xxh3-128 of names, types, shapes and bytes."""
    found = xxhash.xxh3_128(json.dumps(note, sort_keys=True).encode())
    for name, array in sorted(state.items()):
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(array.reshape(-1).view(np.uint8).data)
    return found.hexdigest()
