"""Fitted learners as files that run without Sketchstack: ONNX, or TorchScript for torch learners.

A file takes drawings in the learner's encoding, any number at a time, and returns their probabilities:

    images         uint8 (N, side, side, channels) of a picture encoding; or
    points         float32 (N, T, features) of any other, with
    lengths        int32 (N,), the points of each drawing
    probabilities  float32 (N, num_words), each row sums to 1, in the order of the words in the file's metadata
"""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.drawings.words import Words
from pipeline.foundation.artefacts import file_hash
from pipeline.foundation.errors import SketchstackError
from pipeline.learners._base import Learner
from pipeline.predictions.cache import model_folder
from pipeline.serving.packed import INPUTS

if TYPE_CHECKING:
    import onnx
    import torch

ALONE = 16  # drawings of a check that are also predicted one at a time
TRACED = 7  # drawings for tracing the network
TOLERANCE = 1e-5  # of a probability; rounding errors are a tenth of it
OPSET = 17  # ONNX operator set, which every runtime since 2022 supports
OUTPUT, BATCH = "probabilities", "drawings"
# A GPU rounds differently, and only Keras models on TensorFlow can be converted.
ON_CPU = {"CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "tensorflow"}

Run = Callable[[Sequence[np.ndarray]], np.ndarray]  # inputs in the order of INPUTS → probabilities


def description(learner: Learner, name: str, held_out: int, words: Words) -> dict[str, str]:
    """The metadata of a file: everything that its user needs, as text by name."""
    encode = type(learner).encode
    return {
        "made_by": "sketchstack",
        "learner": name,
        "held_out_fold": str(held_out),
        "weights_sha256": file_hash(model_folder(name, held_out) / "weights.safetensors"),
        "words": json.dumps(words.names, ensure_ascii=False),
        "encoding": json.dumps({"function": encode.__name__, **learner.params.encoding}),
        "encoding_doc": inspect.getdoc(encode) or "",
    }


def write(kind: str, learner: Learner, sample: Sequence[np.ndarray], path: Path, about: dict[str, str]) -> Run:
    """Write a fitted learner to a file, and open this file.

    Args:
        kind: onnx or torchscript.
        learner: on the CPU.
        sample: inputs of a few drawings.
        path: the file to write.
        about: metadata of the file.

    Raises:
        SketchstackError: the learner cannot be converted.
    """
    of_torch = is_torch(type(learner))
    try:
        if kind == "torchscript":
            return _torchscript(learner, sample, path, about)
        graph = _onnx_of_torch(learner, sample) if of_torch else _onnx_of_keras(learner, sample)
        return _onnx(graph, path, about)
    except OSError:
        raise
    except Exception as error:  # of torch, TensorFlow, onnx or its runtime
        remedy = "; --format torchscript may work" if kind == "onnx" and of_torch else ""
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise SketchstackError(f"this network cannot be written as {kind} ({said}){remedy}.") from error


def is_torch(learner: type[Learner]) -> bool:
    """Whether a learner's network is a torch module."""
    return any(base.__name__ == "TorchLearner" for base in learner.__mro__)  # by name, so that torch is not imported


def _traceable(learner: Any, inputs: int) -> torch.nn.Module:
    """A torch module from encoded drawings to probabilities, the same computation as `TorchLearner.predict`."""
    import torch

    class OfImages(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = learner.model

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.network(images.permute(0, 3, 1, 2).float() / 255).softmax(1)

    class OfPoints(OfImages):
        def forward(self, points: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return self.network(points, lengths.long()).softmax(1)

    module = OfImages() if inputs == 1 else OfPoints()
    return module.eval().requires_grad_(False)


def _torchscript(learner: Learner, sample: Sequence[np.ndarray], path: Path, about: dict[str, str]) -> Run:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, and warns of each number that Python reads from a tensor
        traced = torch.jit.trace(_traceable(learner, len(sample)), tuple(map(torch.from_numpy, sample)))
        torch.jit.save(traced, path, _extra_files={name: text.encode() for name, text in about.items()})
        opened = torch.jit.load(path)

    @torch.inference_mode()
    def run(arrays: Sequence[np.ndarray]) -> np.ndarray:
        return opened(*map(torch.from_numpy, arrays)).numpy()

    return run


def _onnx_of_torch(learner: Learner, sample: Sequence[np.ndarray]) -> onnx.ModelProto:
    """Convert by tracing: torch's newer exporter (dynamo=True) does not support packed sequences."""
    import io

    import onnx
    import torch

    from pipeline.learners._keras import without_stderr

    names, written = INPUTS[len(sample)], io.BytesIO()
    with warnings.catch_warnings(), without_stderr():  # deprecated; also warns of other batch sizes: see `check`
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _traceable(learner, len(sample)),
            tuple(map(torch.from_numpy, sample)),
            written,  # type: ignore[arg-type]
            input_names=[*names],
            output_names=[OUTPUT],
            dynamic_axes={name: {0: BATCH} for name in (*names, OUTPUT)},
            opset_version=OPSET,
            dynamo=False,
        )
    return onnx.load_from_string(written.getvalue())


def _onnx_of_keras(learner: Any, sample: Sequence[np.ndarray]) -> onnx.ModelProto:
    import tensorflow as tf
    import tf2onnx
    from onnx import numpy_helper

    signature = [
        tf.TensorSpec([None, *array.shape[1:]], array.dtype, name)
        for array, name in zip(sample, INPUTS[len(sample)], strict=True)
    ]

    @tf.function(input_signature=signature)
    def probabilities(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = learner.model(inputs[0] if len(inputs) == 1 else [*inputs], training=False)
        return {OUTPUT: tf.nn.softmax(logits)}

    graph, _ = tf2onnx.convert.from_function(probabilities, signature, opset=OPSET)
    # The converter turns constants of the network into inputs; turn them back into constants.
    constants = {inside.name: value for value, inside in probabilities.get_concrete_function().graph.captures}
    for made in [each for each in graph.graph.input if each.name in constants]:
        graph.graph.input.remove(made)
        graph.graph.initializer.append(numpy_helper.from_array(constants[made.name].numpy(), made.name))
    return graph


def _onnx(graph: onnx.ModelProto, path: Path, about: dict[str, str]) -> Run:
    import onnx
    import onnxruntime

    for each in (*graph.graph.input, *graph.graph.output):
        each.type.tensor_type.shape.dim[0].dim_param = BATCH
    graph.graph.name = about["learner"]
    onnx.helper.set_model_props(graph, about)
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run(arrays: Sequence[np.ndarray]) -> np.ndarray:
        return session.run([OUTPUT], dict(zip(names, arrays, strict=True)))[0]

    return run


def check(run: Run, arrays: Sequence[np.ndarray], expected: np.ndarray) -> float:
    """Compare a file's probabilities with the learner's: of all rows at once, and of the first rows one at a time.

    Args:
        run: the file.
        arrays: inputs of N drawings.
        expected: (N, num_words) the learner's probabilities.

    Returns:
        The largest difference between two probabilities.

    Raises:
        SketchstackError: a difference is above TOLERANCE, or the top 3 differ in words whose probabilities are not
            equal within TOLERANCE.
    """
    alone = range(min(ALONE, len(expected)))
    try:
        found = np.concatenate([run(arrays), *(run([array[row : row + 1] for array in arrays]) for row in alone)])
    except Exception as error:  # of torch or onnx's runtime
        said = str(error).strip().partition("\n")[0]
        raise SketchstackError(f"the file does not work for every number of drawings ({said}).") from error
    expected = np.concatenate([expected, expected[: len(alone)]])
    if found.shape != expected.shape:
        raise SketchstackError(f"the file gives probabilities {found.shape} where the learner gives {expected.shape}.")
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE:  # `not <=`, because NaN must fail too
        raise SketchstackError(
            f"the file does not give the learner's probabilities: they differ by up to {difference:.1e}, and "
            f"{TOLERANCE:.0e} is allowed. Nothing was written."
        )
    top3, same = (np.argsort(-each, axis=1, kind="stable")[:, :3] for each in (found, expected))
    gaps = np.abs(np.take_along_axis(expected, top3, 1) - np.take_along_axis(expected, same, 1)).max(1)
    if (gaps > TOLERANCE).any():
        raise SketchstackError(
            f"the file has another top 3 than the learner for {int((gaps > TOLERANCE).sum())} of {len(gaps)} drawings. "
            "Nothing was written."
        )
    return difference
