"""Networks whose numbers take less room: float16, or int8 with a scale per channel.

Only the stored weights are rounded. They become float32 again when a network is loaded, so it computes as before, in
the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

FEWEST = 64  # numbers of an array that is worth it; smaller ones (biases, norms) stay exact

Stored = Callable[[np.ndarray, str], "tuple[list[onnx.TensorProto], onnx.NodeProto]"]  # an array and its name → both


def to_float16(place: Path) -> None:
    """Store the weights of an ONNX file as float16, half its size."""
    import onnx
    from onnx import helper, numpy_helper

    def stored(array: np.ndarray, name: str) -> tuple[list[onnx.TensorProto], onnx.NodeProto]:
        half = np.clip(array, -65504, 65504).astype(np.float16)
        node = helper.make_node("Cast", [f"{name}.float16"], [name], to=onnx.TensorProto.FLOAT)
        return [numpy_helper.from_array(half, f"{name}.float16")], node

    _replace(place, stored)


def to_int8(place: Path) -> None:
    """Store the weights of an ONNX file as int8, a quarter of its size: symmetric, one scale per channel.

    The channels are those of the axis that loses least.
    """
    from onnx import helper, numpy_helper

    def stored(array: np.ndarray, name: str) -> tuple[list[onnx.TensorProto], onnx.NodeProto]:
        axis, whole, scale = min(
            (_rounded(array, axis) for axis in range(array.ndim)), key=lambda found: _loss(array, *found)
        )
        arrays = [numpy_helper.from_array(whole, f"{name}.int8"), numpy_helper.from_array(scale, f"{name}.scale")]
        return arrays, helper.make_node("DequantizeLinear", [f"{name}.int8", f"{name}.scale"], [name], axis=axis)

    _replace(place, stored)


def _rounded(array: np.ndarray, axis: int) -> tuple[int, np.ndarray, np.ndarray]:
    """The axis of the channels, the numbers as int8, and the scale of each channel."""
    others = tuple(each for each in range(array.ndim) if each != axis)
    scale = np.maximum(np.abs(array).max(axis=others), 1e-12).astype(np.float32) / np.float32(127)
    whole = np.rint(array / _along(scale, axis, array.ndim)).astype(np.int8)
    return axis, whole, scale


def _along(scale: np.ndarray, axis: int, ndim: int) -> np.ndarray:
    return scale.reshape([-1 if each == axis else 1 for each in range(ndim)])


def _loss(array: np.ndarray, axis: int, whole: np.ndarray, scale: np.ndarray) -> float:
    """The squared error of a channel as a share of its squares, the mean over channels, of the axis that loses most."""
    error = np.square(array - whole * _along(scale, axis, array.ndim))
    losses = []
    for each in range(array.ndim):
        others = tuple(other for other in range(array.ndim) if other != each)
        losses.append((error.sum(axis=others) / (np.square(array).sum(axis=others) + 1e-30)).mean())
    return float(max(losses))


def _replace(place: Path, stored: Stored) -> None:
    """Replace the large float32 arrays of a file by smaller ones, each with a node that makes the old one of it."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(place)
    kept, nodes = [], []
    for array in model.graph.initializer:
        if array.data_type != onnx.TensorProto.FLOAT or np.prod(array.dims) < FEWEST:
            kept.append(array)
            continue
        arrays, node = stored(numpy_helper.to_array(array), array.name)
        kept += arrays
        nodes.append(node)
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    computed = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *computed])
    onnx.checker.check_model(model)
    onnx.save(model, place)
