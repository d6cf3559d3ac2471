"""What makes torch learners strong, each held to numbers worked out another way, on a network of one matrix."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.drawings.batches import Batch
from pipeline.drawings.encodings import identity, mirror, raster
from pipeline.foundation.artefacts import file_hash
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import InitialWeights, LearnerParams, load_params
from pipeline.learners import _base
from pipeline.learners._base import EpochRow, average_decay
from pipeline.learners._torch import TorchLearner
from pipeline.training.checkpoints import Checkpoint
from tests.toy import NUM_WORDS, toy_drawings

SIDE = 8
FEW = 96  # drawings: three steps an epoch
BATCH = 32


class Plain(TorchLearner):
    """One matrix over the pixels: what a step does to it can be worked out by hand."""

    model: Matrix
    encode = raster

    def network(self, num_words: int, *, largest: int) -> nn.Module:
        return Matrix(num_words, largest)


class Matrix(nn.Module):
    """A linear map that runs out of memory, as a GPU does, where a batch is larger than `largest`."""

    def __init__(self, num_words: int, largest: int) -> None:
        super().__init__()
        self.linear, self.largest = nn.Linear(SIDE * SIDE, num_words), largest

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.largest:
            raise torch.OutOfMemoryError(f"{len(images)} drawings do not fit")
        return self.linear(images.flatten(1))


def plain(*, largest: int = 1000, mixup: float = 0.0, num_words: int = NUM_WORDS, **training: object) -> Plain:
    given = load_params().learner("seresnet").model_dump()
    given["network"] = {"largest": largest}
    given["encoding"] |= {"side": SIDE}
    given["augmentation"] |= {"mixup": mixup}
    given["training"] |= {"batch_size": BATCH, "epochs": 2, "clip_norm": 1e9} | training
    return Plain(LearnerParams.model_validate(given), num_words=num_words, seed=(1, 2), threads=1)


def no_checkpoint(folder):
    return Checkpoint(folder, {}, seconds=None, steps=None)


def fitted(folder, **options: object) -> Plain:
    learner = plain(**options)  # type: ignore[arg-type]
    learner.fit(toy_drawings(FEW, seed=1), no_checkpoint(folder), "plain")
    return learner


def close(one, other, tolerance=1e-6):
    assert sorted(one) == sorted(other)
    return all(np.allclose(one[name], other[name], atol=tolerance) for name in one)


def a_batch(learner: Plain) -> Batch:
    return learner.batches(toy_drawings(FEW, seed=1)).batch(0)


def loss_of(learner: Plain, images: np.ndarray, labels: np.ndarray) -> float:
    """Smoothed cross-entropy in NumPy, float64."""
    smoothing = learner.params.training.label_smoothing
    logits = images.reshape(len(images), -1) @ np.float64(learner.model.linear.weight.detach().numpy()).T
    logits = logits + learner.model.linear.bias.detach().numpy()
    likely = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    targets = (1 - smoothing) * np.eye(NUM_WORDS)[labels] + smoothing / NUM_WORDS
    return float(-(targets * likely).sum(1).mean())


def gradients(learner: Plain) -> dict[str, np.ndarray]:
    """Those of one batch; AdamW would hide a wrong factor."""
    learner.build()
    learner._gradients(a_batch(learner))
    return {
        name: weight.grad.numpy().copy() for name, weight in learner.model.named_parameters() if weight.grad is not None
    }


@pytest.mark.parametrize("parts", [2, 5, 32])
def test_gradients_of_micro_batches_add_up_to_those_of_the_batch(parts, tmp_path):
    whole, cut = gradients(plain()), gradients(plain(micro_batches=parts))
    assert min(np.abs(each).max() for each in whole.values()) > 1e-3
    assert close(whole, cut)
    assert close(fitted(tmp_path).weights(), fitted(tmp_path, micro_batches=parts).weights())


def test_gradients_are_cut_to_the_length_that_params_allow():
    learner = plain(clip_norm=0.01)
    assert sum(np.square(each).sum() for each in gradients(learner).values()) > 0.02**2
    learner.train_step(a_batch(learner), 0.0)
    length = sum(float(weight.grad.square().sum()) for weight in learner.model.parameters() if weight.grad is not None)
    assert length**0.5 == pytest.approx(0.01, rel=1e-3)


def test_weights_decay_and_biases_do_not():
    steps = {}
    for decay in (0.0, 0.5):
        learner = plain(weight_decay=decay)
        learner.build()
        before = learner.weights()["linear.weight"].copy()
        learner.train_step(a_batch(learner), 0.01)
        steps[decay] = learner.weights()
    np.testing.assert_array_equal(steps[0.5]["linear.bias"], steps[0.0]["linear.bias"])
    difference = steps[0.0]["linear.weight"] - steps[0.5]["linear.weight"]
    np.testing.assert_allclose(difference, 0.01 * 0.5 * before, atol=1e-7)


def test_rows_are_predicted_in_order_over_both_views(monkeypatch):
    monkeypatch.setattr(_base, "PREDICT", 7)
    drawings = toy_drawings(20, seed=3)
    learner = plain()
    learner.build()

    def seen(view) -> np.ndarray:
        return learner.predict(learner.inputs(drawings[:], view(20)))

    as_drawn, mirrored = seen(identity), seen(mirror)
    assert np.abs(as_drawn - mirrored).max() > 1e-3
    for mirror_test, expected in ((False, as_drawn), (True, (as_drawn + mirrored) / 2)):
        augmentation = learner.params.augmentation.model_copy(update={"mirror_test": mirror_test})
        learner.params = learner.params.model_copy(update={"augmentation": augmentation})
        np.testing.assert_allclose(learner.predict_proba(drawings), expected, atol=1e-6)


class Chain(Plain):
    """The same network as `torch.nn` chains it."""

    def network(self, num_words: int, *, largest: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, num_words))


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated")  # importing the compiler
def test_a_network_is_compiled_as_a_whole_keeps_the_names_of_its_weights_and_resumes(tmp_path, monkeypatch):
    graphs, usual = [], torch.compile

    def compile_nothing(graph, inputs):  # the usual backend wants a C++ compiler
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(usual, backend=compile_nothing))

    def chain(*, compiled: bool = False) -> Chain:
        return Chain(plain(compile=compiled).params, num_words=NUM_WORDS, seed=(1, 2), threads=1)

    undisturbed, eager = chain(compiled=True), chain()
    for learner in (undisturbed, eager):
        learner.fit(toy_drawings(FEW, seed=1), no_checkpoint(tmp_path), "chain")
        assert len(graphs) == 1
    assert close(undisturbed.weights(), eager.weights())

    def stop(row: EpochRow) -> None:
        raise KeyboardInterrupt

    checkpoint = Checkpoint(tmp_path / "stopped", {}, seconds=None, steps=1)
    with pytest.raises(KeyboardInterrupt):
        chain(compiled=True).fit(toy_drawings(FEW, seed=1), checkpoint, "chain", stop)
    resumed = chain(compiled=True)
    resumed.fit(toy_drawings(FEW, seed=1), checkpoint, "chain")
    assert resumed.curve == undisturbed.curve
    for name, array in undisturbed.state().items():
        np.testing.assert_array_equal(resumed.state()[name], array)


def test_the_parts_of_a_batch_hold_each_row_once():
    batch = a_batch(plain())
    for count in (1, 3, 32, 50):
        parts = batch.parts(count)
        assert len(parts) == min(count, BATCH)
        assert {len(part.labels) for part in parts} <= {BATCH // len(parts), -(-BATCH // len(parts))}
        np.testing.assert_array_equal(np.concatenate([part.inputs for part in parts]), batch.inputs)
        np.testing.assert_array_equal(np.concatenate([part.labels for part in parts]), batch.labels)
        np.testing.assert_array_equal(np.concatenate([part.mixed for part in parts]), batch.mixed)


def test_the_average_is_that_of_the_weights_after_each_step_and_is_what_predicts(tmp_path):
    learner, seen = plain(ema=0.3), []
    step = learner.train_step

    def noted(batch, rate):
        result = step(batch, rate)
        seen.append(learner.model.linear.weight.detach().clone().numpy())
        return result

    learner.train_step = noted  # type: ignore[method-assign]
    learner.fit(toy_drawings(FEW, seed=1), no_checkpoint(tmp_path), "plain")
    expected = seen[0]
    for number, weight in enumerate(seen[1:], 1):
        decay = average_decay(0.3, number)
        expected = decay * expected + (1 - decay) * weight
    last = learner.weights()["linear.weight"].copy()
    with learner.averaged():
        np.testing.assert_allclose(learner.weights()["linear.weight"], expected, atol=1e-6)
    np.testing.assert_array_equal(learner.weights()["linear.weight"], last)
    assert np.abs(last - expected).max() > 1e-4

    learner.save(tmp_path)
    again = plain(ema=0.3)
    again.load(tmp_path)
    unseen = toy_drawings(8, seed=3)
    np.testing.assert_array_equal(again.predict_proba(unseen), learner.predict_proba(unseen))
    np.testing.assert_allclose(again.weights()["linear.weight"], expected, atol=1e-6)


def test_the_average_survives_a_kill(tmp_path):
    options: dict[str, Any] = {"ema": 0.9, "epochs": 2}
    undisturbed = fitted(tmp_path / "whole", **options)
    stopped = plain(**options)

    def killed(row):
        if row.epoch == 1:
            raise KeyboardInterrupt

    checkpoint = Checkpoint(tmp_path / "cut", {}, seconds=None, steps=1)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(toy_drawings(FEW, seed=1), checkpoint, "plain", killed)
    resumed = plain(**options)
    resumed.fit(toy_drawings(FEW, seed=1), checkpoint, "plain")
    for one, other in ((undisturbed.weights(), resumed.weights()), (undisturbed.average, resumed.average)):
        assert one
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_mixup_counts_both_words_by_their_shares():
    learner = plain(mixup=1.0)
    learner.build()
    batch, alone = a_batch(learner), a_batch(plain())
    assert 0 < batch.share < 1
    np.testing.assert_array_equal(batch.labels, alone.labels)
    np.testing.assert_array_equal(batch.mixed, alone.labels[::-1])
    expected = batch.share * alone.inputs + (1 - batch.share) * alone.inputs[::-1]
    np.testing.assert_allclose(batch.inputs, expected, atol=0.5)
    images = batch.inputs / 255
    by_hand = batch.share * loss_of(learner, images, batch.labels)
    by_hand += (1 - batch.share) * loss_of(learner, images, batch.mixed)
    loss, _ = learner.train_step(batch, 0.01)
    assert float(loss) == pytest.approx(by_hand, rel=1e-5)


def test_mixup_of_sequences_is_refused():
    from pipeline.learners.lstm import Learner as Lstm

    given = load_params().learner("lstm").model_dump()
    given["augmentation"] |= {"mixup": 0.2}
    learner = Lstm(LearnerParams.model_validate(given), num_words=NUM_WORDS, seed=(1, 2), threads=1)
    with pytest.raises(SketchstackError, match="mixup needs pictures, but lstm takes sequences"):
        learner.check(1)
    with pytest.raises(SketchstackError, match="mixup needs pictures, but this learner takes sequences"):
        learner.batches(toy_drawings(FEW, seed=1)).batch(0)


def test_adversarial_adds_the_loss_of_inputs_moved_against_the_network():
    learner = plain(adversarial=0.05)
    learner.build()
    batch = a_batch(learner)
    images = batch.inputs / 255
    logits = images.reshape(BATCH, -1) @ learner.model.linear.weight.detach().numpy().T
    logits = logits + learner.model.linear.bias.detach().numpy()
    odds = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    smoothing = learner.params.training.label_smoothing
    targets = (1 - smoothing) * np.eye(NUM_WORDS)[batch.labels] + smoothing / NUM_WORDS
    slope = (odds - targets) @ learner.model.linear.weight.detach().numpy()
    moved = images.reshape(BATCH, -1) + 0.05 * np.sign(slope)
    by_hand = (loss_of(learner, images, batch.labels) + loss_of(learner, moved, batch.labels)) / 2
    against = moved @ learner.model.linear.weight.detach().numpy().T + learner.model.linear.bias.detach().numpy()
    moved_odds = np.exp(against) / np.exp(against).sum(1, keepdims=True)
    slope_of_weights = (odds - targets).T @ images.reshape(BATCH, -1) + (moved_odds - targets).T @ moved
    for parts in (1, 5):
        gradient = gradients(plain(adversarial=0.05, micro_batches=parts))["linear.weight"]
        np.testing.assert_allclose(gradient, slope_of_weights / 2 / BATCH, atol=1e-5)
    assert by_hand > loss_of(learner, images, batch.labels) + 1e-3
    loss, _ = learner.train_step(batch, 0.01)
    assert float(loss) == pytest.approx(by_hand, rel=1e-4)


def test_where_memory_is_short_the_parts_get_smaller_and_the_batch_stays(tmp_path, capsys):
    short = plain(largest=9)
    checkpoint = Checkpoint(tmp_path, {}, seconds=None, steps=1)
    short.fit(toy_drawings(FEW, seed=1), checkpoint, "plain")
    assert short.micro_batches == 4
    told = capsys.readouterr().out
    assert "from step 0 on, 2 micro-batches of 16 drawings make up each batch of 32" in told
    assert "from step 0 on, 4 micro-batches of 8 drawings" in told
    weights = short.weights()
    for name, array in fitted(tmp_path / "other", micro_batches=4).weights().items():
        np.testing.assert_array_equal(weights[name], array)
    resumed = plain(largest=9)
    resumed.fit(toy_drawings(FEW, seed=1), checkpoint, "plain")
    assert resumed.micro_batches == 4
    assert "memory" not in capsys.readouterr().out


def test_a_network_with_another_output_shape_is_refused():
    learner = plain()
    learner.build()
    learner.num_words += 1
    with pytest.raises(SketchstackError, match=r"the network of 5 words gave \(32, 4\) for 32 drawings, not \(32, 5\)"):
        learner.train_step(a_batch(learner), 0.01)


def test_where_memory_is_short_for_predictions_fewer_are_made_at_a_time():
    drawings, enough, short = toy_drawings(50, seed=3), plain(), plain(largest=9)
    for learner in (enough, short):
        learner.build()
    np.testing.assert_allclose(short.predict_proba(drawings), enough.predict_proba(drawings), atol=1e-6)
    short.params.network["largest"] = 0
    short.build()
    with pytest.raises(torch.OutOfMemoryError):
        short.predict_proba(drawings)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), RuntimeError("CUDA error: out of memory")])
def test_a_step_that_memory_fails_after_the_weights_have_moved_is_not_taken_twice(error, tmp_path, monkeypatch):
    def fail(self, step: int) -> None:
        raise error

    monkeypatch.setattr(Plain, "_update_average", fail)
    with pytest.raises(SketchstackError, match="not enough memory for the network's weights"):
        fitted(tmp_path)


def test_the_seconds_of_a_fit_are_those_of_all_its_lives(tmp_path):
    def stop(row: EpochRow) -> None:
        raise KeyboardInterrupt

    checkpoint = Checkpoint(tmp_path, {}, seconds=None, steps=1)
    with pytest.raises(KeyboardInterrupt):
        plain().fit(toy_drawings(FEW, seed=1), checkpoint, "plain", stop)
    found = checkpoint.read()
    assert found
    state, progress = found
    checkpoint.write(state, {**progress, "seconds": progress["seconds"] + 100})
    resumed = plain()
    resumed.fit(toy_drawings(FEW, seed=1), checkpoint, "plain")
    assert 100 < resumed.seconds < 200


def test_weights_that_saw_held_out_drawings_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_base, "MODELS", tmp_path / "models")
    folder = tmp_path / "models" / "base" / "seresnet" / "fold0"
    folder.mkdir(parents=True)
    former = plain()
    former.build()
    former.save(folder)
    path = folder / "weights.safetensors"
    file = {"path": str(path), "sha256": file_hash(path)}
    with pytest.raises(SketchstackError, match=r"fold0/weights\.safetensors was fitted to drawings that are held out"):
        fitted(tmp_path, initial_weights=file)
    fitted(tmp_path, initial_weights=file | {"path": str(path.rename(tmp_path / path.name))})


def test_an_error_names_the_memory_if_not_one_drawing_fits(tmp_path):
    with pytest.raises(SketchstackError, match="not enough memory to train on a single drawing"):
        fitted(tmp_path, largest=0)


def test_another_error_is_not_taken_for_out_of_memory():
    learner = plain()
    assert not learner.out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60, dtype=torch.uint8)
    assert learner.out_of_memory(error.value)


def initial(path, **changes):
    return {"path": str(path), "sha256": file_hash(path)} | changes


def test_a_run_starts_from_a_local_file_where_shapes_agree(tmp_path, capsys):
    former = fitted(tmp_path)
    former.save(tmp_path)
    file = initial(tmp_path / "weights.safetensors")
    learner = plain(initial_weights=file)
    learner.build()
    learner._resume(no_checkpoint(tmp_path))
    for name, array in former.weights().items():
        np.testing.assert_array_equal(learner.weights()[name], array)

    class Pretrained(Plain):
        def network(self, num_words: int, *, largest: int) -> nn.Module:
            return nn.ModuleDict({"linear": nn.Linear(SIDE * SIDE, NUM_WORDS), "head": nn.Linear(NUM_WORDS, num_words)})

    other = Pretrained(learner.params, num_words=7, seed=(1, 2), threads=1)
    other.build()
    head = other.weights()["head.weight"].copy()
    capsys.readouterr()
    other._resume(no_checkpoint(tmp_path))
    np.testing.assert_array_equal(other.weights()["linear.weight"], former.weights()["linear.weight"])
    np.testing.assert_array_equal(other.weights()["head.weight"], head)
    assert "random: head.weight, head.bias" in capsys.readouterr().out


def test_unsuitable_initial_weights_are_refused(tmp_path):
    fitted(tmp_path).save(tmp_path)
    path = tmp_path / "weights.safetensors"
    with pytest.raises(SketchstackError, match=f"has SHA-256 {file_hash(path)}, not {'0' * 64}"):
        fitted(tmp_path, initial_weights=initial(path, sha256="0" * 64))
    with pytest.raises(SketchstackError, match="holds no weights of this network"):
        fitted(tmp_path, initial_weights=initial(path), num_words=9)
    (tmp_path / "text").write_text("not weights")
    for missing in (tmp_path / "none", tmp_path / "text"):
        with pytest.raises(SketchstackError, match="cannot be read"):
            fitted(tmp_path, initial_weights={"path": str(missing), "sha256": "0" * 64})


def test_a_short_sha256_is_refused():
    with pytest.raises(ValueError, match="sha256"):
        InitialWeights(path="x", sha256="abc")
