"""A pack of small networks with random weights, written without a run: it loads in a moment and predicts at once."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipeline.serving.packed import MANIFEST, Manifest, Network

WORDS = ["barn", "cat", "ice_cream", "t-shirt", "zigzag"]
SIDE = 12
FOLDS = 2
NAME = "toy"


def write_toy_pack(path: Path, *, timed: bool = False) -> Path:
    """Write the pack: a learner of two folds, which sees small pictures."""
    rng = np.random.default_rng(5)
    channels = ["stroke_order", *(["velocity"] if timed else [])]
    files = {f"{NAME}/fold{fold}.onnx": _network(rng, len(channels)) for fold in range(FOLDS)}
    options = {"side": SIDE, "stroke_width": 1.0, "margin": 1.0, "channels": channels}
    manifest = Manifest(
        format=1,
        model=NAME,
        profile="synthetic",
        commit="0" * 40,
        words=WORDS,
        timed=timed,
        weights="float32",
        learners=[
            Network(name=NAME, temperature=1.0, encoding="raster", options=options, mirror=False, files=[*files])
        ],
        metalearners=[],
        combined="",
        scores={"oof": {"map3": 0.5}},
        files={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    )
    with zipfile.ZipFile(path, "w") as pack:
        pack.writestr(MANIFEST, manifest.model_dump_json())
        for name, content in files.items():
            pack.writestr(name, content)
    return path


def _network(rng: np.random.Generator, channels: int = 1) -> bytes:
    """A linear network, images to probabilities."""
    inputs = SIDE * SIDE * channels
    weights = rng.normal(0, 2 / inputs**0.5, (inputs, len(WORDS))).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["floats", "most"], ["scaled"]),
            helper.make_node("Flatten", ["scaled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        NAME,
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["drawings", SIDE, SIDE, channels])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["drawings", len(WORDS)])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.array(255, np.float32), "most")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()
