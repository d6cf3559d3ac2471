"""A model's file gives the learner's own probabilities without Sketchstack, says what it holds, or is not written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.commands import export_model as module
from pipeline.drawings.encodings import identity
from pipeline.drawings.shards import TEST
from pipeline.foundation.artefacts import file_hash
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import load_params
from pipeline.learners._base import Learner, load_learner
from pipeline.serving import convert
from pipeline.serving.convert import TOLERANCE, check
from pipeline.stages import train
from tests.commands.test_export import WORDS, all_rows, write_folds
from tests.conftest import ROOT, failing_main, run_main

HELD_OUT = 1
TORCH = ("seresnet", "lstm", "strokenet", "transformer", "scattering")
SEQUENCES = ("lstm", "gru", "strokenet", "transformer")
NAMES = {name: ["points", "lengths"] if name in SEQUENCES else ["images"] for name in (*TORCH, "gru", "mobilenet")}
ENCODED = {"lstm": "pen_movements", "gru": "pen_movements", "strokenet": "points", "transformer": "points"}


def write_training_params(home: Path) -> None:
    """Short training of small networks; seresnet in bfloat16 with mirror images, neither of which goes into a file."""
    path = home / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["threads"] = 1
    for name in NAMES:
        params["learners"][name]["training"] |= {"epochs": 2, "batch_size": 16}
    for name in SEQUENCES:
        params["learners"][name]["encoding"]["length"] = 20  # toy drawings have 12 points or 24
    # Its many norms remember their start for hundreds of steps, and till then call all drawings the same.
    params["learners"]["mobilenet"]["training"]["epochs"] = 16
    params["learners"]["mobilenet"]["encoding"] |= {"side": 32, "channels": ["thirds"]}  # no less for that backbone
    params["learners"]["seresnet"]["network"]["widths"] = [8, 16]
    params["learners"]["lstm"]["network"] |= {"filters": [8, 16], "units": 16, "layers": 2}
    params["learners"]["seresnet"]["training"]["precision"] = "bfloat16"
    params["learners"]["seresnet"]["augmentation"]["mirror_test"] = True
    path.write_text(yaml.safe_dump(params))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with params.yaml, folds/ and the models of the torch learners that did not see fold 1."""
    home = write_folds(tmp_path_factory.mktemp("trained"))
    write_training_params(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        for name in TORCH:
            run_main(train, name, HELD_OUT)
    return home


@pytest.fixture
def home(trained, monkeypatch):
    """The folder of `trained`, which is the one at hand; the environment is put back after a command."""
    monkeypatch.chdir(trained)
    for name, value in convert.ON_CPU.items():
        monkeypatch.setenv(name, value)
    return trained


def plain_learner(name: str) -> Learner:
    """The model, set to compute as its file does."""
    params = load_params()
    block = params.learner(name)
    block = block.model_copy(update={"training": block.training.model_copy(update={"precision": "float32"})})
    learner = load_learner(name, block, num_words=len(WORDS), seed=(1,), threads=1)
    learner.load(Path("models/synthetic/base", name, f"fold{HELD_OUT}"))
    return learner


def inputs_of(learner: Learner, rows: slice) -> tuple[np.ndarray, ...]:
    drawings = all_rows(TEST)[rows]  # none of them was looked at when the file was checked
    inputs = learner.inputs(drawings, identity(len(drawings)))
    return inputs if isinstance(inputs, tuple) else (inputs,)


def check_description(about: dict[str, str], name: str) -> None:
    assert json.loads(about["words"]) == list(WORDS.names)
    encoding = json.loads(about["encoding"])
    assert encoding.pop("function") == ENCODED.get(name, "raster")
    assert encoding == load_params().learner(name).encoding
    assert about["learner"] == name
    assert about["held_out_fold"] == str(HELD_OUT)
    assert about["weights_sha256"] == file_hash(
        Path("models/synthetic/base", name, f"fold{HELD_OUT}", "weights.safetensors")
    )
    assert "Returns:" in about["encoding_doc"]


@pytest.mark.parametrize("name", TORCH)
def test_onnx_gives_the_probabilities_of_any_number_of_drawings(name, home, tmp_path, capsys):
    import onnxruntime

    run_main(module, name, HELD_OUT, tmp_path / "new" / "model.onnx")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["model.onnx"]
    told = capsys.readouterr().out
    assert "Over 300 drawings of fold 1 they differ from the learner's probabilities by at most" in told
    assert float(told.split("at most ")[1].split(",")[0]) < TOLERANCE
    session = onnxruntime.InferenceSession(tmp_path / "new" / "model.onnx", providers=["CPUExecutionProvider"])
    check_description(session.get_modelmeta().custom_metadata_map, name)
    assert [each.name for each in session.get_inputs()] == NAMES[name]
    assert all(each.shape[0] == "drawings" for each in (*session.get_inputs(), *session.get_outputs()))
    learner = plain_learner(name)
    assert name not in SEQUENCES or {*inputs_of(learner, slice(0, 150))[1]} == {12, 20}
    for rows in (slice(0, 150), slice(7, 8), slice(20, 53)):
        arrays = inputs_of(learner, rows)
        (found,) = session.run(["probabilities"], dict(zip(NAMES[name], arrays, strict=True)))
        expected = learner.predict(arrays if len(arrays) > 1 else arrays[0])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
        assert len(found) == 1 or np.ptp(expected, axis=0).max() > 1000 * TOLERANCE  # drawings are told apart


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated")
@pytest.mark.parametrize("name", ["seresnet", "lstm"])
def test_torchscript_gives_the_probabilities_of_any_number_of_drawings(name, home, tmp_path):
    import torch

    run_main(module, name, HELD_OUT, tmp_path / "model.pt", "--format", "torchscript")
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
    described = {"words": "", "encoding": "", "learner": "", "held_out_fold": "", "weights_sha256": ""}
    described["encoding_doc"] = ""
    opened = torch.jit.load(tmp_path / "model.pt", _extra_files=described)
    check_description({name: text.decode() for name, text in described.items()}, name)  # type: ignore[attr-defined]
    assert [each.name for each in opened.forward.schema.arguments[1:]] == NAMES[name]
    learner = plain_learner(name)
    for rows in (slice(0, 150), slice(7, 8), slice(20, 53)):
        arrays = inputs_of(learner, rows)
        with torch.inference_mode():
            found = opened(*map(torch.from_numpy, arrays)).numpy()
        expected = learner.predict(arrays if len(arrays) > 1 else arrays[0])
        np.testing.assert_allclose(found, expected, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["sereznet", 1, "out"], "no learner 'sereznet'; .* Did you mean 'seresnet'"),
        (["seresnet", 3, "out"], "no fold 3; params.yaml has folds 0, 1, 2"),
        (["seresnet", 0, "out"], "models/synthetic/base/seresnet/fold0 does not exist.* run `dvc repro`"),
        (["seresnet", 1, "folds"], "folds exists already"),
        (["seresnet", 1, "params.yaml"], "params.yaml exists already"),
        (["seresnet", 1, "params.yaml/out"], "params.yaml/out cannot be written: .*; choose another place"),
        (
            ["gru", 1, "out", "--format", "torchscript"],
            "but gru is a Keras learner; use --format onnx",
        ),
    ],
)
def test_what_cannot_be_done_is_told_in_a_paragraph(arguments, told, home):
    def files():
        return sorted(path for path in home.rglob("*") if ".partial" not in path.parts)

    before = files()
    assert re.search(told, failing_main(module, *arguments))
    assert files() == before


def test_a_model_of_other_params_is_refused(home):
    before = Path("params.yaml").read_text()
    try:
        Path("params.yaml").write_text(before.replace("seed: 2018", "seed: 2019"))
        told = failing_main(module, "lstm", HELD_OUT, "out")
    finally:
        Path("params.yaml").write_text(before)
    assert (
        "models/synthetic/base/lstm/fold1 was made from other learner: its hash is not the one in force; run `dvc"
        in told
    )


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_a_file_with_other_numbers_is_not_kept(kind, home, tmp_path, monkeypatch):
    import torch

    traceable = convert._traceable

    def altered(learner: Any, inputs: int) -> torch.nn.Module:
        learner.model.append(torch.nn.Softshrink(0.001))
        return traceable(learner, inputs)

    monkeypatch.setattr(convert, "_traceable", altered)
    told = failing_main(module, "seresnet", HELD_OUT, tmp_path / "model", "--format", kind)
    assert re.search(r"they differ by up to \d\.\de-0\d, and 1e-05 is allowed\. Nothing was written", told), told
    assert not list(tmp_path.iterdir())


def test_a_network_for_one_number_of_drawings_is_not_kept(home, tmp_path, monkeypatch):
    import torch

    class Fixed(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.reshape(convert.TRACED, -1)[:, :4].float().softmax(1)

    monkeypatch.setattr(convert, "_traceable", lambda learner, inputs: Fixed().eval())
    assert "does not work for every number of" in failing_main(module, "seresnet", HELD_OUT, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_network_that_onnx_cannot_hold_is_refused_with_the_other_format(home, tmp_path, monkeypatch):
    import torch

    class Odd(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.fft.fft(images.float()).real.flatten(1)[:, :4].softmax(1)

    monkeypatch.setattr(convert, "_traceable", lambda learner, inputs: Odd().eval())
    told = failing_main(module, "seresnet", HELD_OUT, tmp_path / "model")
    assert re.search(r"cannot be written as onnx \(.*fft.*\); --format torchscript may work", told), told
    assert not list(tmp_path.iterdir())


EXPECTED = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.30001, 0.39999]], np.float32)
ROWS = (np.arange(2),)


def test_the_largest_difference_is_told():
    assert check(lambda arrays: EXPECTED[arrays[0]] + np.float32(4e-6), ROWS, EXPECTED) == pytest.approx(4e-6, rel=0.02)


@pytest.mark.parametrize("wrong", [2e-5, -2e-5, np.nan])
@pytest.mark.parametrize("alone", [True, False])
def test_a_difference_above_the_tolerance_is_refused(wrong, alone):
    def run(arrays):
        found = EXPECTED[arrays[0]].copy()
        if (len(found) == 1) == alone:
            found[-1, 2] += wrong
        return found

    with pytest.raises(SketchstackError, match="does not give the learner's probabilities"):
        check(run, ROWS, EXPECTED)


@pytest.mark.parametrize(("gap", "refused"), [(0.8 * TOLERANCE, False), (1.4 * TOLERANCE, True)])
def test_another_word_among_the_top_3_is_refused_unless_it_is_as_probable(gap, refused):
    expected = np.array([[0.4, 0.3, 0.15, 0.15 + gap]])
    found = expected + 0.8 * TOLERANCE * np.array([0, 0, 1, -1])
    if refused:
        with pytest.raises(SketchstackError, match="has another top 3 than the learner for 2 of 2 drawings"):
            check(lambda arrays: found, ROWS[:1], expected)
    else:
        assert check(lambda arrays: found, ROWS[:1], expected) <= TOLERANCE


def run_python(home: Path, *arguments: object) -> str:
    """What a process of its own prints: frameworks must not meet in this one."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=home, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-4000:]
    return done.stdout


def test_the_command_starts_without_a_framework(home):
    heavy = ("torch", "keras", "tensorflow", "onnx", "onnxruntime", "tf2onnx")
    code = f"import sys, pipeline.commands.export_model; print([name for name in {heavy} if name in sys.modules])"
    assert run_python(home, "-c", code).strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gru", "mobilenet"])
def test_a_keras_learner_runs_in_onnx_without_sketchstack(name, trained, monkeypatch, tmp_path):
    monkeypatch.chdir(trained)
    run_python(trained, "-m", "pipeline.stages.train", name, HELD_OUT)
    told = run_python(trained, "-m", "pipeline.commands.export_model", name, HELD_OUT, tmp_path / "model.onnx")
    assert "with the same top 3" in told
    code = """
    import sys
    from tests.commands.test_export_model import inputs_of, plain_learner
    import numpy as np

    learner = plain_learner(sys.argv[1])
    arrays = inputs_of(learner, slice(0, 150))
    np.savez(sys.argv[2], *arrays, expected=learner.predict(arrays if len(arrays) > 1 else arrays[0]))
    """
    run_python(trained, "-c", textwrap.dedent(code), name, tmp_path / "rows.npz")
    code = """
    import json, sys
    import numpy as np, onnxruntime

    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    assert names == sys.argv[1:], names
    rows = np.load("rows.npz")
    for taken in (slice(0, 150), slice(7, 8), slice(20, 53)):
        (found,) = session.run(None, {name: rows[f"arr_{n}"][taken] for n, name in enumerate(names)})
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, rows["expected"][taken], atol=1e-5)
    assert np.ptp(rows["expected"], axis=0).max() > 1e-2, np.ptp(rows["expected"], axis=0)
    assert len(names) == 1 or len(set(rows["arr_1"].tolist())) == 2
    assert not {"pipeline", "keras", "tensorflow"} & {*sys.modules}
    print(json.dumps(session.get_modelmeta().custom_metadata_map))
    """
    check_description(json.loads(run_python(tmp_path, "-c", textwrap.dedent(code), *NAMES[name])), name)
