"""A pack predicts as its run does, without torch; what is not a whole pack is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.commands import pack, predict
from pipeline.drawings.shards import open_shards
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import load_params
from pipeline.serving.pack import check_packable
from pipeline.serving.packed import MANIFEST, PackedEnsemble
from pipeline.serving.smaller import to_float16, to_int8
from pipeline.serving.trained import TrainedEnsemble
from tests.conftest import ROOT, failing_main, run_main

TEST = Path("data/own/test_simplified.csv")
HEAVY = ("torch", "tensorflow", "keras", "mlens", "dvc", "pandas", "onnx")


def changed(given: Path, place: Path, **members: bytes | None) -> Path:
    """A copy of a pack with other members; None leaves one out."""
    with zipfile.ZipFile(given) as old, zipfile.ZipFile(place, "w") as new:
        for name in old.namelist():
            content = members.get(name.replace("/", "_").replace(".", "_"), old.read(name))
            if content is not None:
                new.writestr(name, content)
    return place


def manifest(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as given:
        return json.loads(given.read(MANIFEST))


@pytest.mark.parametrize("model", [None, "lstm", "seresnet"])
def test_a_pack_predicts_as_its_run(model, home, packs):
    drawings = open_shards([Path("folds/own/test")])
    expected = TrainedEnsemble(load_params(), model or "super_learner").probabilities(drawings)
    found = PackedEnsemble(packs / "float32.zip", model).probabilities(drawings)
    np.testing.assert_allclose(found.astype(np.float32), expected.astype(np.float32), atol=1e-4)
    assert (np.argsort(-found, axis=1, kind="stable") == np.argsort(-expected, axis=1, kind="stable"))[:, 0].all()


def test_the_same_run_makes_the_same_pack(home, packs, tmp_path):
    run_main(pack, tmp_path / "again.zip", "--model", "seresnet", "--weights", "int8")
    assert (tmp_path / "again.zip").read_bytes() == (packs / "int8.zip").read_bytes()


def test_a_meta_learner_can_be_packed_alone(home, tmp_path):
    run_main(pack, tmp_path / "mean.zip", "--model", "arithmetic_mean")
    assert [each["name"] for each in manifest(tmp_path / "mean.zip")["metalearners"]] == ["arithmetic_mean"]
    run_main(predict, TEST, "-o", tmp_path / "out.csv", "--format", "submission", "--pack", tmp_path / "mean.zip")
    assert (tmp_path / "out.csv").read_bytes() == Path("submissions/own/arithmetic_mean.csv").read_bytes()


def test_smaller_weights_predict_nearly_the_same(home, packs):
    drawings = open_shards([Path("folds/own/test")])
    small, whole = (PackedEnsemble(packs / f"{weights}.zip", "seresnet") for weights in ("int8", "float32"))
    difference = np.abs(small.probabilities(drawings) - whole.probabilities(drawings)).max()
    assert difference < 0.1  # none: these networks have hardly been trained
    onnx = pytest.importorskip("onnx")
    with zipfile.ZipFile(packs / "int8.zip") as given:
        graph = onnx.load_from_string(given.read("seresnet/fold0.onnx")).graph
    assert "DequantizeLinear" in {node.op_type for node in graph.node}
    scores = manifest(packs / "int8.zip")["scores"]
    assert scores["held_out"]["rows"] == 80
    assert abs(scores["held_out"]["pack"] - scores["held_out"]["run"]) < 0.05


@pytest.mark.parametrize(("store", "most"), [(to_float16, 0.6), (to_int8, 0.4)])
def test_smaller_weights_take_less_room_and_the_same_inputs(store, most, packs, tmp_path):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    place = tmp_path / "network.onnx"
    weights = np.random.default_rng(0).normal(size=(64, 48)).astype(np.float32) * 10.0 ** np.arange(-3, 3).repeat(8)
    graph = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        agraph (float[n, 64] x) => (float[n, 48] y) <float[64, 48] w = {0}> { y = MatMul(x, w) }""".replace(
            "{0}", "{" + ",".join(map(str, weights.ravel().tolist())) + "}"
        )
    )
    onnx.save(graph, place)
    before, given = place.stat().st_size, np.random.default_rng(1).normal(size=(200, 64)).astype(np.float32)
    store(place)
    assert place.stat().st_size < most * before
    (found,) = onnxruntime.InferenceSession(place).run(None, {"x": given})
    expected = given @ weights
    errors = np.linalg.norm(found - expected, axis=0) / np.linalg.norm(expected, axis=0)
    assert (errors < 0.02).all()  # of each column by itself, whatever its size


def test_a_pack_says_what_it_is(packs):
    about = manifest(packs / "float32.zip")
    assert about["model"] == "super_learner"
    assert about["words"] == ["round", "square", "star", "t-shirt"]
    assert set(about["scores"]) == {"oof", "drawings", "same_top3", "largest_difference", "held_out"}
    with zipfile.ZipFile(packs / "float32.zip") as given:
        assert sorted({*about["files"], MANIFEST}) == sorted(given.namelist())
        assert b"MIT License" in given.read("LICENSE")
        assert not [name for name in given.namelist() if name.endswith((".pkl", ".py", ".pt"))]


def test_a_pack_needs_neither_torch_nor_the_run(packs, home, tmp_path):
    code = f"""
import sys
from pipeline.commands import predict
predict.main([{str(TEST.absolute())!r}, "-o", "out.csv", "--pack", {str(packs / "float32.zip")!r}])
print([name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    heavy = done.stdout.splitlines()[-1]
    assert heavy in ("[]", "['pandas']")  # scikit-learn imports pandas where there is one


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"lstm_fold0_onnx": b"altered"}, "lstm/fold0.onnx is missing or was altered"),
        ({"lstm_fold0_onnx": None}, "lstm/fold0.onnx is missing or was altered"),
        ({"logistic_npz": b""}, "logistic.npz is missing or was altered"),
        ({"manifest_json": None}, "has no manifest.json"),
        ({"manifest_json": b"{"}, "manifest.json is damaged"),
        ({"manifest_json": b"null"}, "manifest.json is damaged"),
        ({"manifest_json": b'{"format": 2}'}, "has format 2, and this version of Sketchstack reads 1"),
    ],
)
def test_a_changed_pack_is_refused(members, said, packs, tmp_path):
    with pytest.raises(SketchstackError, match=said):
        PackedEnsemble(changed(packs / "float32.zip", tmp_path / "changed.zip", **members))


def test_a_pack_without_its_end_is_refused(packs, tmp_path):
    (tmp_path / "cut.zip").write_bytes((packs / "float32.zip").read_bytes()[:-1000])
    with pytest.raises(SketchstackError, match=r"cut\.zip cannot be read"):
        PackedEnsemble(tmp_path / "cut.zip")


def test_a_learner_that_is_not_in_the_pack_is_named(packs):
    with pytest.raises(SketchstackError, match="has no model 'gru'; it has super_learner, lstm, seresnet"):
        PackedEnsemble(packs / "float32.zip", "gru")


def test_an_encoding_of_ones_own_cannot_be_packed(home, monkeypatch):
    def encode() -> None:
        """Not one of the project's."""

    monkeypatch.setattr("pipeline.learners.lstm.Learner.encode", encode)
    with pytest.raises(SketchstackError, match="lstm has an encoding of its own"):
        check_packable(load_params(), ["lstm"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["out.tar"], "out.tar does not end in .zip"), (["out.zip", "--model", "nobody"], "there is no model 'nobody'")],
)
def test_what_cannot_be_packed_is_said(arguments, said, home):
    assert said in failing_main(pack, *arguments)
    assert not Path("out.zip").exists()
