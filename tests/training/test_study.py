"""A study searches the architecture, scores by rows of the training folds alone, and survives being killed."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import optuna
import pytest
import yaml
from optuna.trial import TrialState
from safetensors import safe_open

from pipeline.commands import tune as tune_command
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import Count, LearnerParams, Share, Widths, load_params
from pipeline.foundation.signatures import check_keywords
from pipeline.learners._base import Learner, available, learner_class
from pipeline.training import study as tune_module
from pipeline.training.searchspace import block_with, resampled, scaled, space_of
from pipeline.training.study import Job, as_yaml, changes, training_and_validation
from tests.commands.test_export import write_folds
from tests.conftest import ROOT, failing_main

# A learner whose author says nothing about a search. It has faults, if it is told to.
PLAIN = '''
import os, signal, time
from contextlib import nullcontext
from typing import Literal

import numpy as np

from pipeline.drawings.encodings import raster
from pipeline.learners import _base
from pipeline.foundation.params import Count, Widths


class Learner(_base.Learner):
    """A linear head over random features of a picture, in NumPy."""

    encode = raster

    def network(self, num_words, *, kind: Literal["tanh", "relu"], widths: Widths, heads: Count, fault: str):
        if widths[-1] % heads:
            raise ValueError(f"{heads} heads do not divide {widths[-1]}")
        rng, width = np.random.default_rng(self.seed), 16 * 16
        layers = []
        for wider in widths:
            layers.append(rng.normal(0, width**-0.5, (width, wider)))
            width = wider
        return layers, np.zeros((width, num_words))

    def build(self):
        self.layers, self.head = self.made_network()

    def features(self, inputs):
        x = inputs.reshape(len(inputs), -1) / 64
        for layer in self.layers:
            x = np.tanh(x @ layer) if self.params.network["kind"] == "tanh" else np.maximum(x @ layer, 0)
        return x

    def train_step(self, batch, learning_rate):
        time.sleep(60 if os.path.exists("slow") else 0.02)  # so that there is something to interrupt
        fault = self.params.network["fault"]
        if fault == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "fills":
            raise MemoryError("cannot hold 10 EiB")
        right = np.eye(self.num_words)[batch.labels]
        x = self.features(batch.inputs)
        found = self.predict(batch.inputs)
        if fault != "is blind":
            self.head += 100 * learning_rate * x.T @ (right - found) / len(x)
        if fault == "diverges":
            self.head *= np.nan
        return -np.log((found * right).sum(1)).mean(), (found.argmax(1) == batch.labels).mean()

    def predict(self, inputs):
        odds = np.exp(self.features(inputs) @ self.head)
        return odds / odds.sum(1, keepdims=True)

    def weights(self):
        return {"head": self.head}

    def set_weights(self, weights):
        self.head = weights["head"]

    state, set_state = weights, set_weights

    def averaged(self):
        return nullcontext()

    def out_of_memory(self, error):
        return False

    def set_micro_batches(self, count):
        self.micro_batches = count
'''
BLOCK = {"kind": "tanh", "widths": [24, 12], "heads": 3, "fault": "none"}


def plain_home(home: Path) -> Path:
    """A copy of the code with the learner `plain`, and folds of which the held-out one and the test set are gone."""
    write_folds(home)
    shutil.copytree(ROOT / "pipeline", home / "pipeline")
    (home / "pipeline" / "learners" / "plain.py").write_text(PLAIN)
    params = yaml.safe_load((home / "params.yaml").read_text())
    params["learners"]["plain"] = {**params["learners"]["seresnet"], "network": BLOCK}
    params["checkpoints"] = {"seconds": None, "steps": 1}
    (home / "params.yaml").write_text(yaml.safe_dump(params))
    shutil.rmtree(home / "folds/synthetic" / "fold1")
    shutil.rmtree(home / "folds/synthetic" / "test")
    return home


def tune(home: Path, *options: str) -> subprocess.Popen[str]:
    """Start a study of three epochs a trial without fold 1."""
    command = [sys.executable, "-m", "pipeline.commands.tune", "plain", "--fold", "1", "--epochs", "3", *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=home, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    printed, errors = process.communicate(timeout=240)
    assert process.returncode == code, f"{printed}\n{errors}"
    assert "arning" not in errors
    return printed


def await_checkpoint(process: subprocess.Popen[str], home: Path, first: int) -> None:
    """Wait until a trial of this number or a later one has a resume point behind its first epoch."""
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        for path in (home / "checkpoints/synthetic" / "tune" / "plain" / "fold1").glob("trial*/last.safetensors"):
            with contextlib.suppress(OSError), safe_open(path, "np") as file:  # it may be gone already
                epochs = len(json.loads(file.metadata()["progress"])["curve"])
                if epochs > 0 and int(path.parent.name.removeprefix("trial")) >= first:
                    return
        time.sleep(0.01)
    process.kill()
    raise AssertionError(f"no checkpoint of trial {first} or later: {process.communicate()}")


def the_study(home: Path) -> optuna.Study:
    return optuna.load_study(study_name="tune", storage=f"sqlite:///{home}/logs/synthetic/tune/plain/fold1.db")


def outcomes(home: Path) -> list[Any]:
    """What the trials that ended found, in order; not how they are numbered."""
    ends = (TrialState.COMPLETE, TrialState.PRUNED)
    return [
        (trial.params, trial.intermediate_values, trial.value, trial.user_attrs.get("reason"))
        for trial in the_study(home).get_trials(states=ends)
    ]


def test_a_study_that_was_killed_resumes_the_same_trial_and_never_reads_the_held_out_fold(tmp_path):
    home = plain_home(tmp_path)
    killed = tune(home, "--trials", "2")
    await_checkpoint(killed, home, 1)
    (trial,) = map(int, Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()[-1:])
    (home / "slow").touch()  # so that nothing but its study's end ends the trial
    killed.kill()
    killed.wait()
    for _ in range(1000):
        if not Path(f"/proc/{trial}").exists() or "(zombie)" in Path(f"/proc/{trial}/status").read_text():
            break
        time.sleep(0.01)
    else:
        os.kill(trial, signal.SIGKILL)
        raise AssertionError("the trial outlives its study")
    killed.communicate()
    (home / "slow").unlink()
    printed = ended(tune(home, "--trials", "2"))
    assert "resuming from step" in printed
    first, cut, again = the_study(home).trials
    assert [first.state, cut.state, again.state] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    assert again.params == cut.params
    assert list(again.intermediate_values) == [1, 2, 3]
    assert not list((home / "checkpoints/synthetic" / "tune").rglob("*.safetensors"))

    assert f"the block in force has {first.value:.4f}" in printed
    pasted = printed[printed.index("\n  plain:\n") + 1 :]
    params = yaml.safe_load((home / "params.yaml").read_text())
    params["learners"] = "THE BLOCK"
    text = yaml.safe_dump(params).replace("learners: THE BLOCK\n", f"learners:\n{pasted}").replace("- lstm", "- plain")
    (home / "pasted.yaml").write_text(yaml.safe_dump({**yaml.safe_load(text), "ensemble": ["plain"]}))
    best = the_study(home).best_trial
    assert load_params(home / "pasted.yaml").learner("plain").model_dump() == best.user_attrs["block"]


@pytest.mark.slow
def test_a_study_ends_with_the_same_trials_however_often_it_is_stopped(tmp_path):
    undisturbed, disturbed = plain_home(tmp_path / "undisturbed"), plain_home(tmp_path / "disturbed")
    for home in (undisturbed, disturbed):
        code = home / "pipeline" / "training" / "study.py"
        code.write_text(code.read_text().replace("RANDOM = 8", "RANDOM = 3"))
    ended(tune(undisturbed, "--trials", "11"))  # 3 at random, then those that depend on what was found
    for trial, stop in ((0, signal.SIGKILL), (2, signal.SIGINT), (4, signal.SIGKILL), (8, signal.SIGINT)):
        stopped = tune(disturbed, "--trials", "11")
        await_checkpoint(stopped, disturbed, trial)
        os.killpg(stopped.pid, stop)  # as Ctrl-C in a terminal does
        if stop is signal.SIGINT:
            printed = ended(stopped, 128 + signal.SIGINT)
            assert "Stopped (interrupted)" in printed
            assert "below `learners:`" in printed
        else:
            stopped.communicate()
    out_of_time = ended(tune(disturbed, "--trials", "11", "--seconds", "3"))
    assert "Stopped (out of time)" in out_of_time
    ended(tune(disturbed, "--trials", "11"))
    assert outcomes(disturbed) == outcomes(undisturbed)
    assert len(outcomes(disturbed)) == 11


@pytest.mark.slow
def test_a_trial_that_fails_to_build_crashes_or_diverges_is_recorded_with_its_reason(tmp_path):
    home = plain_home(tmp_path)
    searched = 'encode = raster\n    search = {"network.fault": ["dies", "fills", "diverges", "is blind"]}'
    (home / "pipeline" / "learners" / "plain.py").write_text(PLAIN.replace("encode = raster", searched))
    (home / "logs/synthetic" / "tune" / "plain").mkdir(parents=True)
    study = optuna.create_study(
        study_name="tune", storage=f"sqlite:///{home}/logs/synthetic/tune/plain/fold1.db", direction="maximize"
    )
    block = load_params(home / "params.yaml").learner("plain").model_dump()
    drawn = {each.name: each.in_force for each in space_of("plain", plain_class(home), block)}
    for change in (
        {},
        {"training.learning_rate": 0.005},
        {"training.learning_rate": 0.006},
        {"training.learning_rate": 0.007},
        {"network.heads": 5},
        {"network.fault": '"dies"'},
        {"network.fault": '"fills"'},
        {"network.fault": '"diverges"'},
        {"network.fault": '"is blind"'},
        {"network.widths.factor": 1.001},
    ):
        study.enqueue_trial({**drawn, **change})
    ended(tune(home, "--trials", "10"))
    *complete, heads, dies, fills, diverges, blind, alike = the_study(home).trials
    assert {trial.state for trial in complete} == {TrialState.COMPLETE}
    assert "5 heads do not divide 12" in heads.user_attrs["reason"]
    assert "its process ended with exit code -9" in dies.user_attrs["reason"]
    assert "MemoryError: cannot hold 10 EiB" in fills.user_attrs["reason"]
    assert "training diverged in epoch 1" in diverges.user_attrs["reason"]
    assert blind.user_attrs["reason"] == "pruned: below the median of the trials before it"
    assert list(blind.intermediate_values) == [1]
    assert alike.value == complete[0].value


def plain_class(home: Path) -> type[Learner]:
    """`plain` of another tree, as a class."""
    scope: dict[str, Any] = {}
    exec((home / "pipeline" / "learners" / "plain.py").read_text(), scope)
    return scope["Learner"]


@pytest.mark.slow
def test_a_block_in_force_that_does_not_train_is_refused_at_once(tmp_path):
    home = plain_home(tmp_path)
    params = yaml.safe_load((home / "params.yaml").read_text())
    params["learners"]["plain"]["network"]["heads"] = 5
    (home / "params.yaml").write_text(yaml.safe_dump(params))
    process = tune(home, "--trials", "2")
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "learners.plain in force does not train" in " ".join(errors.split())
    assert "5 heads do not divide 12" in " ".join(errors.split())


@pytest.fixture(autouse=True, scope="module")
def interrupts() -> Iterator[None]:
    """Let processes that are started here take SIGINT, which a shell has those ignore that it starts with `&`."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def folds(tmp_path_factory) -> Path:
    return write_folds(tmp_path_factory.mktemp("folds"))


@pytest.fixture
def home(folds, monkeypatch) -> Path:
    monkeypatch.chdir(folds)
    return folds


def a_job(**changes: Any) -> Job:
    return Job(**{"params": load_params(), "name": "lstm", "held_out": 0, "rows": None, "epochs": 2, **changes})


def test_validation_rows_are_the_last_shard_of_the_training_folds(home):
    training, validation = training_and_validation(a_job())
    key_ids = [4_500_000_000_000_000 + 150 * shard for shard in range(2, 7)]  # of shards of folds 1 and 2, and the end
    assert (training.key_id[0], training.key_id[-1] + 1) == (key_ids[0], key_ids[3])
    assert (validation.key_id[0], validation.key_id[-1] + 1) == (key_ids[3], key_ids[4])
    fewer, same = training_and_validation(a_job(rows=200, held_out=2))
    assert len(fewer) == 200
    assert len(same) == 150


@pytest.mark.parametrize("learner", available())
def test_the_block_in_force_is_in_the_space_of_each_learner_and_any_other_fits_its_signature(learner):
    block = load_params().learner(learner).model_dump()
    space = space_of(learner, learner_class(learner), block)
    for dimension in space:
        internal = dimension.distribution.to_internal_repr(dimension.in_force)
        assert dimension.distribution._contains(internal), dimension
    assert block_with(block, space, {each.name: each.in_force for each in space}) == block
    assert any(each.name.startswith("network.") for each in space)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(1))
    for _ in range(30):
        drawn = study.ask({each.name: each.distribution for each in space}).params
        changed = LearnerParams.model_validate(block_with(block, space, drawn))
        check_keywords("network", changed.network, learner_class(learner).network)
        assert changed.encoding == block["encoding"]
        assert changed.training.epochs == block["training"]["epochs"]


class Signature:
    """A learner as far as a space needs it."""

    search: ClassVar[dict[str, Any]] = {}

    def network(
        self, num_words: int, *, filters: Widths, strides: Widths, units: Widths, layers: Count, width: Count,
        kind: Literal["plain", "residual"], gated: bool, dropout: Share, options: dict[str, Any], name: str,
    ) -> Any: ...  # fmt: skip


def signature_block() -> dict[str, Any]:
    network = {
        "filters": [32, 64], "strides": [2, 2], "units": [128], "layers": 1, "width": 96, "kind": "plain",
        "gated": False, "dropout": 0.1, "options": {"alpha": 0.25}, "name": "any",
    }  # fmt: skip
    return {**load_params().learner("lstm").model_dump(), "network": network}


def distributions(search: dict[str, Any]) -> dict[str, Any]:
    learner: Any = type("Learner", (Signature,), {"search": search})
    return {each.name: each.distribution for each in space_of("mine", learner, signature_block())}


def test_a_space_follows_the_types_of_the_signature():
    found = {name: each for name, each in distributions({}).items() if name.startswith("network.")}
    whole, number, options = (
        optuna.distributions.IntDistribution,
        optuna.distributions.FloatDistribution,
        optuna.distributions.CategoricalDistribution,
    )
    factor = number(0.5, 2.0, log=True)
    assert found == {
        "network.units.depth": whole(1, 3),
        "network.units.factor": factor,
        "network.filters.depth": whole(1, 4),  # and of strides, which are as many
        "network.filters.factor": factor,
        "network.strides.factor": factor,
        "network.layers": whole(1, 3, log=True),
        "network.width": whole(48, 192, step=8),
        "network.kind": options(['"plain"', '"residual"']),
        "network.gated": options(["false", "true"]),
        "network.dropout": number(0.0, 0.5),
    }


def test_lists_of_one_length_become_deeper_together():
    learner: Any = Signature
    space = space_of("mine", learner, signature_block())
    drawn = {each.name: each.in_force for each in space} | {"network.filters.depth": 3, "network.strides.factor": 1.5}
    network = block_with(signature_block(), space, drawn)["network"]
    assert {**signature_block()["network"], "filters": [32, 48, 64], "strides": [3, 3, 3]} == network


def test_a_learner_adds_dimensions_and_removes_them():
    plain, found = (
        distributions({}),
        distributions(
            {
                "network.options.alpha": (0.5, 1.0),
                "network.layers": (2, 4),
                "network.name": ["this", "that"],
                "encoding.length": [32, 64],
                "network.strides": None,
                "training.schedule": None,
            }
        ),
    )
    assert found["network.options.alpha"] == optuna.distributions.FloatDistribution(0.25, 1.0, log=True)
    assert found["network.layers"] == optuna.distributions.IntDistribution(1, 4, log=True)
    assert found["network.name"].choices == ('"any"', '"this"', '"that"')
    assert found["encoding.length"].choices == ("32", "64")
    assert plain.keys() - found.keys() == {"network.strides.factor", "training.schedule"}


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"network.alpha": [1, 2]}, r"pipeline/learners/mine.py: search\['network.alpha'\].*has no 'network.alpha'"),
        ({"network.layers": "many"}, r"is 'many'; write a list of options, two numbers"),
        ({"network.name": (1, 2)}, r"is \(1, 2\); write a list"),
    ],
)
def test_an_invalid_search_is_refused(search, message):
    with pytest.raises(SketchstackError, match=message):
        distributions(search)


def test_layers_keep_their_shape_over_another_depth_and_another_width():
    assert resampled([16, 32, 64], 3) == [16, 32, 64]
    assert resampled([16, 32, 64], 5) == [16, 24, 32, 48, 64]  # 22.6 and 45.3 between them
    assert resampled([16, 64], 1) == [64]
    assert resampled([128], 3) == [128, 128, 128]
    assert resampled([2, 2, 1], 4) == [2, 2, 2, 1]
    assert scaled([30, 50], 1) == [30, 50]
    assert scaled([16, 32, 100], 1.5) == [24, 48, 152]
    assert scaled([2, 1], 0.5) == [1, 1]


@pytest.mark.parametrize("learner", available())
def test_a_block_is_printed_as_params_yaml_has_it(learner):
    params = ROOT / "profiles" / "synthetic.yaml"
    block = load_params(params).learner(learner).model_dump()
    assert as_yaml(learner, block) in params.read_text()


def test_changes_are_printed_in_the_style_of_params_yaml():
    block = signature_block()
    changed = {**block, "network": {**block["network"], "filters": [16, 32, 64], "layers": 2}}
    assert changes(block, changed) == "network: {filters: [16, 32, 64], layers: 2}"
    assert changes(block, block) == "the block in force"


def test_a_wrong_learner_fold_or_count_is_refused(home):
    assert "no learner 'lsmt'" in failing_main(tune_command, "lsmt")
    assert "no fold 7; params.yaml has folds 0, 1, 2" in failing_main(tune_command, "lstm", "--fold", 7)
    assert failing_main(tune_command, "lstm", "--trials", 0) == "2"


def test_a_study_of_other_data_epochs_or_code_is_refused_without_fresh(home, monkeypatch):
    monkeypatch.setattr(tune_module, "_run_trial", lambda study, *_: study.add_trial(a_trial()))
    tune_module.tune(a_job(), trials=1, seconds=None, fresh=False)
    with pytest.raises(SketchstackError, match=r"fold0.db was made from other epochs.*--fresh, which removes its 1 "):
        tune_module.tune(a_job(epochs=3), trials=1, seconds=None, fresh=False)
    summary = home / "folds/synthetic" / "summary.json"
    before = summary.read_text()
    summary.write_text(before + " ")
    with pytest.raises(SketchstackError, match=r"fold0.db was made from other data \(folds/synthetic/\), so"):
        tune_module.tune(a_job(), trials=1, seconds=None, fresh=False)
    summary.write_text(before)
    tune_module.tune(a_job(), trials=1, seconds=None, fresh=False)
    tune_module.tune(a_job(epochs=3), trials=1, seconds=None, fresh=True)
    (home / "logs/synthetic" / "tune" / "lstm" / "fold0.db").write_text("not a database")
    with pytest.raises(SketchstackError, match=r"fold0.db is damaged.*--fresh"):
        tune_module.tune(a_job(), trials=1, seconds=None, fresh=False)


def a_trial() -> optuna.trial.FrozenTrial:
    block = load_params().learner("lstm").model_dump()
    return optuna.trial.create_trial(value=0.5, user_attrs={"block": block})


HOLD = """
import time
from pathlib import Path
from pipeline.foundation.artefacts import alone
with alone(Path("logs/synthetic/tune/gru/fold0")):
    print("tuning", flush=True)
    time.sleep(60)
"""


def test_a_second_run_of_a_study_is_refused(home):
    command, environment = [sys.executable, "-c", HOLD], {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "tuning\n"
        with pytest.raises(SketchstackError, match=rf"is being written by process {other.pid} .*; wait for it to end"):
            tune_module.tune(a_job(name="gru"), trials=1, seconds=None, fresh=False)
        other.kill()
