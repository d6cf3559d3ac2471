"""A packed ensemble: one .zip with ONNX networks, the weights of the stack, words and encodings.

It runs without torch, TensorFlow, mlens or the artefacts of the run that it is of. Nothing in it is code: a manifest,
ONNX graphs of known operations, arrays without pickles, trees as text. The manifest has the SHA-256 of each member.

    manifest.json           see `Manifest`
    <learner>/fold<k>.onnx  encoded drawings → probabilities; see `convert`
    <meta-learner>.npz      weights of the stack
    LICENSE
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.drawings import encodings
from pipeline.drawings.encodings import identity, mirror, set_threads
from pipeline.drawings.shards import Drawings, Shards
from pipeline.drawings.words import Words
from pipeline.foundation.errors import SketchstackError
from pipeline.stacking.combination import Combination
from pipeline.stacking.metalearners import load_metalearner
from pipeline.stacking.metalearners._base import CHUNK, ConvexCombination
from pipeline.stacking.rows import facts_of

FORMAT = 1
MANIFEST, LICENCE = "manifest.json", "LICENSE"
Encoding = Literal["raster", "points", "pen_movements"]
Weights = Literal["float32", "float16", "int8"]
ENCODINGS = get_args(Encoding)
AT_A_TIME = 512  # drawings that a network predicts at a time
LARGEST = 2**31  # bytes of a member; a larger one is no weights of this project
INPUTS = {1: ("images",), 2: ("points", "lengths")}  # names of the inputs, by the number of arrays of the encoding


class Network(BaseModel):
    """A base learner.

    Attributes:
        name: of the learner.
        temperature: its probabilities are scaled to; 1 for none.
        encoding: function of drawings.encodings that makes its inputs.
        options: of that function.
        mirror: whether it predicts the mean over each drawing and its mirror image.
        files: its networks, fold by fold.
    """

    model_config = ConfigDict(extra="forbid")
    name: str
    temperature: float = Field(gt=0)
    encoding: Encoding
    options: dict[str, Any]
    mirror: bool
    files: list[str] = Field(min_length=1)


class MetaModel(BaseModel):
    """A fitted meta-learner: its name, the arguments of its constructor, the file of its weights."""

    model_config = ConfigDict(extra="forbid")
    name: str
    options: dict[str, Any]
    file: str


class Manifest(BaseModel):
    """What a pack holds.

    Attributes:
        format: of the pack.
        model: what it predicts as: super_learner, a meta-learner or a base learner.
        profile: of the run.
        commit: of the code that trained it.
        words: of the columns.
        timed: whether drawings need the time of each point.
        weights: how the numbers of the networks are stored.
        learners: base learners, sorted by name.
        metalearners: fitted, sorted by name; none for a single learner.
        combined: file of the SuperLearner's weights; empty unless `model` needs them.
        scores: what was measured, by name.
        files: SHA-256 of every other member.
    """

    model_config = ConfigDict(extra="forbid")
    format: Literal[1]
    model: str
    profile: str
    commit: str
    words: list[str] = Field(min_length=2)
    timed: bool
    weights: Weights
    learners: list[Network] = Field(min_length=1)
    metalearners: list[MetaModel]
    combined: str
    scores: dict[str, Any]
    files: dict[str, str]


class Predicted(NamedTuple):
    """Predictions of N drawings.

    Attributes:
        probabilities: (N, num_words) float16 of the model.
        by_learner: (N, num_words) float32 of each base learner, at its temperature.
    """

    probabilities: np.ndarray
    by_learner: dict[str, np.ndarray]


class PackedEnsemble:
    """The ensemble of a pack.

    Args:
        path: of the pack.
        name: a base learner of it, to predict with this one alone; None for the pack's model.
        threads: that predict.

    Attributes:
        manifest: of the pack.
        words: of the columns.
        hash: SHA-256 of the manifest, which has those of all members: the identity of the model.

    Raises:
        SketchstackError: the file is missing, damaged, or not a pack; or has no such learner.
    """

    def __init__(self, path: Path, name: str | None = None, threads: int = 2) -> None:
        files = _members(path)
        self.hash = hashlib.sha256(files[MANIFEST]).hexdigest()
        self.manifest = _manifest(path, files)
        self.words, self.timed = Words(tuple(self.manifest.words)), self.manifest.timed
        self.name = name or self.manifest.model
        known = [network.name for network in self.manifest.learners]
        if self.name not in (*known, self.manifest.model):
            raise SketchstackError(
                f"{path} has no model {self.name!r}; it has {', '.join(dict.fromkeys([self.manifest.model, *known]))}."
            )
        alone = self.name in known
        self.networks = [each for each in self.manifest.learners if not alone or each.name == self.name]
        self.combination = None if alone else _combination(path, self.manifest, files)
        set_threads(threads)
        self._pool = ThreadPoolExecutor(threads, "network")
        self._sessions = {file: _session(path, file, files[file]) for each in self.networks for file in each.files}

    @property
    def models(self) -> int:
        """The number of networks."""
        return len(self._sessions)

    def probabilities(self, drawings: Shards, done: Callable[[], object] = lambda: None) -> np.ndarray:
        """The probabilities of drawings, (N, num_words) float16, or float32 of a single learner.

        Args:
            drawings: with times if the ensemble is `timed`.
            done: called about `models` times in all.
        """
        kind = np.float32 if self.combination is None else np.float16
        found, called = np.empty((len(drawings), len(self.words)), kind), 0
        for start in range(0, len(drawings), CHUNK):
            found[start : start + CHUNK] = self.predict(drawings[start : start + CHUNK]).probabilities
            while called < self.models * min(start + CHUNK, len(drawings)) // len(drawings):
                called += 1
                done()
        return found

    def predict(self, drawings: Drawings, fold: int | None = None) -> Predicted:
        """What the model and each base learner say of some drawings, a few thousand at most.

        Args:
            drawings: with times if the ensemble is `timed`.
            fold: place of the fold among those of the run whose networks alone predict; all by default.
        """
        plain = {network.name: self._of_learner(network, drawings, fold) for network in self.networks}
        facts = facts_of(Shards([piece.shard for piece in drawings.pieces]))[_rows_of(drawings)]
        scaled = (
            {name: self.combination.calibrated(name, each) for name, each in plain.items()}
            if self.combination
            else plain
        )
        return Predicted(self.combined(plain, facts), scaled)

    def combined(self, by_learner: dict[str, np.ndarray], facts: np.ndarray) -> np.ndarray:
        """The model's probabilities (N, num_words) from those of its base learners and the drawings' facts."""
        if self.combination is None:
            return by_learner[self.name]
        return self.combination.predict(by_learner, facts, self.name)

    def _of_learner(self, network: Network, drawings: Drawings, fold: int | None) -> np.ndarray:
        """The mean over the networks of a learner, (N, num_words) float32."""
        files = network.files if fold is None else [network.files[fold]]
        encode = getattr(encodings, network.encoding)
        views = [identity, mirror] if network.mirror else [identity]
        total = np.zeros((len(drawings), len(self.words)), np.float32)
        inputs = [encode(drawings, view(len(drawings)), **network.options) for view in views]
        arrays = [each if isinstance(each, tuple) else (each,) for each in inputs]

        def run(file: str, start: int) -> np.ndarray:
            rows = slice(start, start + AT_A_TIME)
            names = INPUTS[len(arrays[0])]
            fed = [dict(zip(names, (array[rows] for array in view), strict=True)) for view in arrays]
            return np.mean([self._sessions[file].run(None, each)[0] for each in fed], axis=0).astype(np.float16)

        starts = range(0, len(drawings), AT_A_TIME)
        waiting = {(file, start): self._pool.submit(run, file, start) for file in files for start in starts}
        for (_, start), each in waiting.items():
            total[start : start + AT_A_TIME] += each.result()
        return total / len(files)


def _rows_of(drawings: Drawings) -> np.ndarray:
    """The rows of drawings among all rows of their shards, one shard after the other."""
    rows, before = np.empty(len(drawings), np.int64), 0
    for piece in drawings.pieces:
        rows[piece.places] = before + piece.rows
        before += len(piece.shard)
    return rows


def _members(path: Path) -> dict[str, bytes]:
    """The files of a pack."""
    try:
        with zipfile.ZipFile(path) as pack:
            large = [info.filename for info in pack.infolist() if info.file_size > LARGEST]
            if large:
                raise SketchstackError(f"{path}: {large[0]} is larger than {LARGEST / 1e9:.0f} GB; this is not a pack.")
            found = {name: pack.read(name) for name in pack.namelist()}
    except FileNotFoundError:
        raise SketchstackError(f"{path} is missing; make it with `sketchstack pack {path}`.") from None
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError) as error:
        raise SketchstackError(f"{path} cannot be read ({error}); make it again with `sketchstack pack`.") from None
    if MANIFEST not in found:
        raise SketchstackError(f"{path} has no {MANIFEST}, so it is not a pack; make one with `sketchstack pack`.")
    return found


def _manifest(path: Path, files: Mapping[str, bytes]) -> Manifest:
    """The manifest of a pack, whose members have its hashes."""
    try:
        given = json.loads(files[MANIFEST])
        if isinstance(given, dict) and isinstance(given.get("format"), int) and given["format"] > FORMAT:
            raise SketchstackError(
                f"{path} has format {given['format']}, and this version of Sketchstack reads {FORMAT}; update it."
            )
        found = Manifest.model_validate(given)
    except (ValueError, ValidationError) as error:
        raise SketchstackError(f"{path}: {MANIFEST} is damaged ({str(error).splitlines()[0]}).") from None
    needed = [file for network in found.learners for file in network.files]
    needed += [model.file for model in found.metalearners] + [found.combined] * bool(found.combined)
    for name in needed:
        if name not in files or hashlib.sha256(files[name]).hexdigest() != found.files.get(name):
            raise SketchstackError(f"{path}: {name} is missing or was altered; make it again with `sketchstack pack`.")
    return found


def _combination(path: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Combination:
    words = len(manifest.words)
    try:
        metalearners = {
            each.name: load_metalearner(each.name, words, each.options).load(io.BytesIO(files[each.file]))
            for each in manifest.metalearners
        }
        combined = ConvexCombination(words)
        if manifest.combined:
            combined.load(io.BytesIO(files[manifest.combined]))
    except (ValueError, OSError, KeyError) as error:
        raise SketchstackError(f"{path}: the weights of the stack cannot be read ({error}).") from None
    temperatures = {each.name: each.temperature for each in manifest.learners}
    return Combination(tuple(sorted(temperatures)), temperatures, metalearners, combined)


def _session(path: Path, name: str, content: bytes) -> Any:
    """A network, ready to run on one thread: networks run side by side."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # weights of int8 become float32 once, here
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of the runtime, which has kinds of its own
        said = str(error).strip().partition("\n")[0]
        raise SketchstackError(f"{path}: {name} is no network that runs here ({said}).") from None
