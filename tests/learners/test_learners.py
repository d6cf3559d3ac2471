"""Every learner, found by listing the folder, learns, is saved and loaded, and survives being killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import load_params
from pipeline.foundation.signatures import check_keywords
from pipeline.learners import _base
from pipeline.learners._base import available, average_decay, learner_class, rate_at
from tests.conftest import ROOT
from tests.toy import GOES_ON_AT, LEARNED, NUM_WORDS

ZOO = {"mobilenet"}  # minutes of compiling: only in the slow set


@pytest.mark.parametrize(
    "learner", [pytest.param(name, marks=pytest.mark.slow if name in ZOO else ()) for name in available()]
)
def test_a_learner_learns_reloads_and_ends_with_the_same_bytes_when_it_was_killed(learner, tmp_path):
    check_on_toy(learner, tmp_path)


def check_on_toy(learner: str, folder: Path, **environment: str) -> None:
    """Train on the toy problem in a process of its own, which hangs if importing the learner starts threads."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.toy", learner, str(folder)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    probabilities, labels = np.load(folder / "undisturbed" / "probabilities.npy"), np.load(folder / "labels.npy")
    assert probabilities.shape == (64, NUM_WORDS)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    longer = folder / "longer" / "probabilities.npy"
    learned = np.load(longer) if longer.exists() else probabilities
    assert (learned.argmax(axis=1) == labels).mean() > LEARNED
    np.testing.assert_array_equal(probabilities, np.load(folder / "reloaded.npy"))

    assert f"resuming from step {GOES_ON_AT}" in done.stdout
    for name in ("weights.safetensors", "probabilities.npy"):
        undisturbed_bytes = (folder / "undisturbed" / name).read_bytes()
        assert (folder / "killed" / name).read_bytes() == undisturbed_bytes, f"{name} differs after the kill"


@pytest.mark.parametrize("learner", available())
def test_params_yaml_has_a_block_that_fits_each_learner(learner):
    found, block = learner_class(learner), load_params().learner(learner)
    check_keywords("network", block.network, found.network)
    check_keywords("encoding", block.encoding, found.encode)
    assert found.__doc__


def test_an_unknown_learner_is_refused_with_the_list_of_what_exists():
    with pytest.raises(SketchstackError, match=r"no learner 'sereznet'.*gru, lstm.*Did you mean 'seresnet'"):
        learner_class("sereznet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unitz": 3}, "network.unitz is unknown.*dropout"),
        ({"dropout": "much"}, "network.dropout.*'much'"),
    ],
)
def test_a_wrong_network_param_is_refused_by_name(change, message):
    block = {**load_params().learner("gru").network, **change}
    with pytest.raises(SketchstackError, match=message):
        check_keywords("network", block, learner_class("gru").network)


def test_a_signature_without_its_star_is_refused_with_the_remedy():
    def network(self, num_words, units: int) -> None: ...

    with pytest.raises(SketchstackError, match=r"network\.units does not stand behind a `\*` in the signature"):
        check_keywords("network", {"units": 8}, network)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("", "defines no `class Learner`; see the README"),
        ("class Learner:\n    encode = print", "`class Learner` defines no `network`; see the README"),
        ("class Learner:\n    def network(self): ...", "`class Learner` defines no `encode`; see the README"),
    ],
)
def test_a_file_without_a_complete_learner_is_refused(code, message, monkeypatch):
    module = ModuleType("pipeline.learners.half")
    exec(code, module.__dict__)
    monkeypatch.setitem(sys.modules, "pipeline.learners.half", module)
    monkeypatch.setattr(_base, "available", lambda: ["half"])
    with pytest.raises(SketchstackError, match=message):
        learner_class("half")


def test_a_missing_network_param_is_refused_by_name():
    with pytest.raises(SketchstackError, match=r"network\.units is missing"):
        check_keywords("network", {"points_a_step": 4, "dropout": 0.1}, learner_class("gru").network)


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_the_learning_rate_rises_to_the_peak_and_falls_to_zero(schedule):
    training = load_params().learner("gru").training.model_copy(update={"schedule": schedule})
    rates = [rate_at(step, 100, training) for step in range(100)]
    peak = int(np.argmax(rates))
    assert peak == 25
    assert rates[peak] == pytest.approx(training.learning_rate, rel=1e-2)
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0 < rates[0] < training.learning_rate / 5
    assert rates[-1] < training.learning_rate / 50


def test_one_cycle_decays_linearly_and_cosine_as_half_a_wave():
    training = load_params().learner("gru").training.model_copy(update={"warmup": 0.0, "learning_rate": 1.0})
    for schedule, quarter in {"one_cycle": 0.75, "cosine": (1 + 0.5**0.5) / 2}.items():
        falling = training.model_copy(update={"schedule": schedule})
        assert [rate_at(step, 4, falling) for step in (0, 1, 2)] == pytest.approx([1.0, quarter, 0.5])


def test_the_average_of_a_short_run_forgets_its_first_weights():
    assert [average_decay(0.999, step) for step in (0, 8, 90)] == [0.1, 0.5, 0.91]
    assert average_decay(0.9, 90) == 0.9
    assert np.prod([average_decay(0.999, step) for step in range(1, 800)]) < 1e-6  # what is left of the first weights
