"""Several devices train one learner: each makes its share of every batch, and together they do what one would.

    python -m tests.learners.test_devices LEARNER FOLDER [--devices N] [...]

is what the tests start, because the processes of a run are copies of the one that was started.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.drawings.batches import Batch, Batches
from pipeline.drawings.encodings import raster
from pipeline.foundation.artefacts import file_hash
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import Augmentation, load_params
from pipeline.learners._base import EpochRow, Learner
from pipeline.stages.train import train
from pipeline.training.checkpoints import Checkpoint
from pipeline.training.fitting import _checkpoint
from tests.commands.test_export import write_folds
from tests.conftest import ROOT
from tests.toy import toy_drawings, toy_learner

BATCH = 33  # odd, so that shares differ in size
FEW = 4 * BATCH
STEPS = 8
ALL = {"batch_size": BATCH, "micro_batches": 3, "adversarial": 0.05, "ema": 0.8, "mixup": 0.4}
MOVED = {"flip": 0.5, "rotate": 30.0, "scale": 0.2, "shear": 0.3, "shift": 0.1, "jitter": 0.02, "stroke_dropout": 0.1}
MIXED = Augmentation(mixup=0.4, mirror_test=False, **MOVED)


def a_learner(name: str, **options: object) -> Learner:
    from tests.learners.test_torch import plain

    return plain(**options) if name == "plain" else toy_learner(name)  # type: ignore[arg-type]


def a_checkpoint(folder: Path) -> Checkpoint:
    return Checkpoint(folder, {}, seconds=None, steps=1)


def run(name: str, folder: Path, *options: str, **changes: object) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.learners.test_devices", name, str(folder), "--changes", json.dumps(changes)]
    return subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.learners.test_devices")
    parser.add_argument("learner")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--changes", type=json.loads, default={})
    parser.add_argument("--kill-at", type=int)
    parser.add_argument("--fail-on", type=int, help="the device that raises an error at the second step")
    parser.add_argument("--short-on", type=int, help="the device that has memory for nine drawings")
    arguments = parser.parse_args()
    learner = a_learner(arguments.learner, **arguments.changes)
    learner.launch(arguments.devices)
    (arguments.folder / f"{learner.rank}.pid").write_text(str(os.getpid()))
    if arguments.short_on == learner.rank:
        learner.params.network["largest"] = 9
    train_step = learner.train_step

    def disturbed(batch: Batch, learning_rate: float) -> tuple[object, object]:
        if arguments.kill_at == batch.step and learner.rank == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if arguments.fail_on == learner.rank and batch.step == 1:
            raise SketchstackError(f"device {learner.rank} broke")
        return train_step(batch, learning_rate)

    learner.train_step = disturbed  # type: ignore[method-assign]
    learner.fit(toy_drawings(FEW, seed=1), a_checkpoint(arguments.folder), arguments.learner)
    np.savez(arguments.folder / f"{learner.rank}.npz", **learner.state(), curve=np.array(learner.curve))  # type: ignore[arg-type]
    if learner.rank == 0:
        learner.save(arguments.folder)


def ended(folder: Path, rank: int) -> bool:
    """Whether the process of a device is gone soon."""
    pid = int((folder / f"{rank}.pid").read_text())
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.05)
    return False


def pictures(part: tuple[int, int], size: int = BATCH) -> Batches:
    def encode(drawings, distortion):
        return raster(drawings, distortion, side=16, stroke_width=1.5, margin=1.0, channels=["stroke_order"])

    return Batches(toy_drawings(FEW, seed=1), encode, MIXED, size, (7, 0), part)


@pytest.mark.parametrize(("size", "devices"), [(33, 1), (33, 2), (33, 5), (32, 3), (6, 3), (1, 1)])
def test_the_shares_of_a_batch_make_up_the_batch(size, devices):
    whole = pictures((0, 1), size).batch(5)
    shares = [pictures((rank, devices), size).batch(5) for rank in range(devices)]
    assert {share.share for share in shares} == {whole.share}
    assert 0 < whole.share < 1
    rows = [(image.tobytes(), label, other) for image, label, other in zip(*whole[1:4], strict=True)]
    found = [(image.tobytes(), label, other) for each in shares for image, label, other in zip(*each[1:4], strict=True)]
    assert sorted(found) == sorted(rows), "the same drawings, moved alike, mixed with the same partners"
    assert max(len(each.labels) for each in shares) - min(len(each.labels) for each in shares) <= 2


def test_a_device_encodes_its_share_alone():
    encoded = []

    def encode(drawings, distortion):
        encoded.append((len(drawings), len(distortion.affine), len(distortion.seeds)))
        return np.zeros((len(drawings), 1), np.uint8)

    for rank in range(3):
        Batches(toy_drawings(FEW, seed=1), encode, MIXED, 12, (7, 0), (rank, 3)).batch(0)
    assert encoded == [(4, 4, 4)] * 3


def test_a_batch_too_small_for_the_devices_is_refused():
    learner = a_learner("plain", batch_size=7)
    learner.devices = 4
    assert learner.batches(toy_drawings(FEW, seed=1)).batch_size == 7
    learner.devices = 5
    with pytest.raises(SketchstackError, match="a batch of 7 drawings is too small for 5 devices"):
        learner.batches(toy_drawings(FEW, seed=1))


def test_one_device_starts_without_fabric():
    learner = a_learner("plain")
    learner.launch(1)
    assert (learner.rank, learner.devices) == (0, 1)
    assert "lightning_fabric" not in sys.modules


def test_a_keras_learner_refuses_several_devices():
    with pytest.raises(SketchstackError, match=r"devices is 2, but only torch learners.*gru is a Keras learner"):
        toy_learner("gru").launch(2)
    toy_learner("gru").launch(1)


def test_waiting_threads_of_the_network_free_their_cores_for_the_encoders():
    environment = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    }
    code = "from pipeline.learners._base import learner_class; learner_class('lstm')"
    seen = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment | {"OMP_DISPLAY_ENV": "verbose"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "GOMP_SPINCOUNT = '2000'" in seen.stderr


def fitted(folder: Path, **options: object) -> Learner:
    learner = a_learner("plain", **options)
    learner.fit(toy_drawings(FEW, seed=1), a_checkpoint(folder), "plain")
    return learner


def assert_alike(one, other):
    assert {*one} >= {*other}
    for name, array in other.items():
        np.testing.assert_allclose(one[name], array, rtol=1e-4, atol=1e-5)


def test_two_devices_do_what_one_does(tmp_path):
    alone = fitted(tmp_path / "one", **ALL)
    together = run("plain", tmp_path / "two", **ALL)
    assert together.returncode == 0, together.stderr
    first, second = np.load(tmp_path / "two" / "0.npz"), np.load(tmp_path / "two" / "1.npz")
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    assert_alike(first, {**alone.state(), "curve": np.array(alone.curve)})
    averaged = a_learner("plain", **ALL)
    averaged.load(tmp_path / "two")
    with alone.averaged():
        assert_alike(averaged.weights(), alone.weights())
    assert together.stderr.count("plain: 100%") == 1, "one progress bar"


def test_an_attempt_that_ran_out_of_memory_leaves_no_trace_in_the_statistics_of_batch_norms(tmp_path):
    from torch import nn

    from tests.learners.test_torch import Matrix, Plain

    class Normed(Plain):
        def network(self, num_words: int, *, largest: int) -> nn.Module:
            return nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.3), Matrix(num_words, largest))

    weights: list[dict[str, np.ndarray]] = []
    for options in ({"largest": 9}, {"micro_batches": 4}):
        learner = Normed(a_learner("plain", **options).params, num_words=4, seed=(1, 2), threads=1)
        learner.fit(toy_drawings(FEW, seed=1), a_checkpoint(tmp_path / f"{len(weights)}"), "normed")
        weights.append({name: array.copy() for name, array in learner.weights().items()})
    assert weights[0]["0.num_batches_tracked"] == 32
    for name, array in weights[0].items():
        np.testing.assert_array_equal(array, weights[1][name], err_msg=name)


def test_resume_points_are_good_for_any_number_of_devices_and_predictions_for_theirs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("profile: synthetic\n")
    (tmp_path / "folds/synthetic").mkdir(parents=True)
    (tmp_path / "folds/synthetic" / "summary.json").write_text("{}")
    one = load_params(ROOT / "profiles" / "synthetic.yaml")
    two = one.model_copy(update={"devices": 2})
    assert one.learner_hash("lstm") != two.learner_hash("lstm")
    made_from = [_checkpoint(params, "lstm", 0, {}).made_from for params in (one, two)]
    assert made_from[0] == made_from[1]


def write_two_epochs(home: Path) -> None:
    params = write_folds(home) / "params.yaml"
    params.write_text(
        params.read_text()
        .replace("devices: 1", "devices: 2")
        .replace("epochs: 10", "epochs: 2")
        .replace("steps: null", "steps: 1")
    )


def test_a_device_that_is_not_the_first_writes_nothing(tmp_path, monkeypatch, capsys):
    from pipeline.learners._torch import TorchLearner

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOCAL_RANK", "1")  # as torch sets it for each copy
    Path("params.yaml").write_text("profile: synthetic\n")
    write_two_epochs(tmp_path)
    before = set(tmp_path.rglob("*"))
    monkeypatch.setattr(TorchLearner, "launch", lambda self, devices: setattr(self, "rank", devices - 1))
    capsys.readouterr()
    train(load_params(), "lstm", 0)
    assert set(tmp_path.rglob("*")) == before
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_the_stage_trains_on_two_devices_and_writes_once(tmp_path):
    write_two_epochs(tmp_path)
    command = [sys.executable, "-m", "pipeline.stages.train", "lstm", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("lstm fold 0: MAP@3") == 1
    written = {path.name for path in (tmp_path / "models/synthetic/base" / "lstm" / "fold0").iterdir()}
    assert written == {"weights.safetensors", "oof.npy", "test.npy", "rows.npy", "metrics.json", "contents.json"}
    curve = (tmp_path / "models/synthetic/curves" / "lstm" / "fold0.csv").read_text().splitlines()
    assert len(curve) == 3
    assert not list((tmp_path / "checkpoints/synthetic").rglob("*.safetensors"))


@pytest.mark.slow
def test_a_run_resumes_with_another_number_of_devices(tmp_path, capsys):
    alone = fitted(tmp_path / "one", **ALL)
    killed = run("plain", tmp_path / "two", "--kill-at", "5", **ALL)
    assert killed.returncode == -signal.SIGKILL
    assert ended(tmp_path / "two", 1), "the other device outlives the first"
    capsys.readouterr()
    assert_alike(fitted(tmp_path / "two", **ALL).weights(), alone.weights())
    assert "resuming from step 5, which 2 device(s) reached" in capsys.readouterr().out

    stopped = a_learner("plain", **ALL)

    def killed_after(row: EpochRow) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped.fit(toy_drawings(FEW, seed=1), a_checkpoint(tmp_path / "began alone"), "plain", killed_after)
    resumed = run("plain", tmp_path / "began alone", **ALL)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.count("resuming from step 3, which 1 device(s) reached") == 1
    assert_alike(np.load(tmp_path / "began alone" / "0.npz"), alone.state())


@pytest.mark.slow
def test_two_devices_that_were_killed_end_with_the_same_bytes(tmp_path):
    assert run("lstm", tmp_path / "undisturbed").returncode == 0
    assert run("lstm", tmp_path / "killed", "--kill-at", "21").returncode == -signal.SIGKILL
    resumed = run("lstm", tmp_path / "killed")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.count("resuming from step 21") == 1
    hashes = {file_hash(tmp_path / name / "weights.safetensors") for name in ("undisturbed", "killed")}
    assert len(hashes) == 1


@pytest.mark.slow
@pytest.mark.parametrize("device", [0, 1])
def test_one_device_may_be_short_of_memory(device, tmp_path):
    alone = fitted(tmp_path / "one", batch_size=BATCH)
    together = run("plain", tmp_path / "two", "--short-on", str(device), batch_size=BATCH)
    assert together.returncode == 0, together.stderr
    assert together.stdout.count("memory is short: from step 0 on, 2 micro-batches") == 1
    assert_alike(np.load(tmp_path / "two" / "0.npz"), alone.state())


@pytest.mark.slow
@pytest.mark.parametrize("device", [0, 1])
def test_a_device_that_fails_ends_the_others_and_says_why(device, tmp_path):
    failed = run("plain", tmp_path / "two", "--fail-on", str(device))
    assert failed.returncode != 0
    assert f"device {device} broke" in failed.stderr
    assert ended(tmp_path / "two", 1 - device)


if __name__ == "__main__":
    main()
