"""What test_keras.py runs in a process of its own, once a backend: a Keras learner of one matrix, held to numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pipeline.drawings.batches import Batch
from pipeline.drawings.encodings import raster
from pipeline.foundation.artefacts import file_hash
from pipeline.foundation.params import LearnerParams, load_params
from pipeline.learners._base import EpochRow, average_decay
from pipeline.learners._keras import KerasLearner
from pipeline.training.checkpoints import Checkpoint
from tests.toy import NUM_WORDS, toy_drawings

if TYPE_CHECKING:
    import keras

SIDE = 8
BATCH = 33  # odd, so that its parts differ in size
FEW = 4 * BATCH


class Plain(KerasLearner):
    """One matrix over the pixels: what a step does to it can be worked out by hand."""

    encode = raster

    def network(self, num_words: int) -> keras.Model:
        import keras
        from keras import layers

        pixels = keras.Input((SIDE, SIDE, 1), dtype="uint8")
        return keras.Model(pixels, layers.Dense(num_words)(layers.Flatten()(layers.Rescaling(1 / 255)(pixels))))


def out_of_memory(rows: int) -> Exception:
    """What the backend raises."""
    import keras

    if keras.backend.backend() == "torch":
        import torch

        return torch.OutOfMemoryError(f"{rows} drawings do not fit")
    import tensorflow as tf

    return tf.errors.ResourceExhaustedError(None, None, f"{rows} drawings do not fit")


def plain(*, mixup: float = 0.0, num_words: int = NUM_WORDS, **training: object) -> Plain:
    given = load_params().learner("mobilenet").model_dump()
    given["network"] = {}
    given["encoding"] |= {"side": SIDE}
    given["augmentation"] |= {"mixup": mixup}
    given["training"] |= {"batch_size": BATCH, "epochs": 2, "clip_norm": 1e9} | training
    return Plain(LearnerParams.model_validate(given), num_words=num_words, seed=(1, 2), threads=1)


def a_checkpoint(folder: Path) -> Checkpoint:
    return Checkpoint(folder, {}, seconds=None, steps=1)


def fitted(folder: Path, **options: Any) -> Plain:
    learner = plain(**options)
    learner.fit(toy_drawings(FEW, seed=1), a_checkpoint(folder), "plain")
    return learner


def assert_close(one, other):
    assert sorted(one) == sorted(other)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=1e-5, err_msg=name)


def assert_same(one, other):
    assert sorted(one) == sorted(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.mark.parametrize("parts", [3, 5, 50])
def test_gradients_of_micro_batches_add_up_to_those_of_the_batch(parts, tmp_path):
    whole, cut = fitted(tmp_path / "whole"), fitted(tmp_path / "cut", micro_batches=parts)
    assert_close(whole.weights(), cut.weights())
    np.testing.assert_allclose(np.array(whole.curve), np.array(cut.curve), rtol=1e-4)
    assert_close(moments(whole), moments(cut))


def moments(learner: Plain) -> dict[str, np.ndarray]:
    """AdamW's means of the gradients; the weights would hide a wrong factor."""
    variables = [each for each in learner.model.optimizer.variables if each.name.endswith("momentum")]
    assert len(variables) == 2
    return {each.name: np.asarray(each.numpy()) for each in variables}


def test_gradients_are_cut_to_the_length_that_params_allow():
    learner = plain(clip_norm=0.01)
    learner.build()
    learner.train_step(learner.batches(toy_drawings(FEW, seed=1)).batch(0), 0.0)
    length = sum(np.square(each / 0.1).sum() for each in moments(learner).values()) ** 0.5  # a tenth of the gradient
    assert length == pytest.approx(0.01, rel=1e-3)


def test_weights_decay_and_biases_do_not():
    steps = {}
    for decay in (0.0, 0.5):
        learner = plain(weight_decay=decay)
        learner.build()
        before, _ = (array.copy() for array in learner.weights().values())
        learner.train_step(learner.batches(toy_drawings(FEW, seed=1)).batch(0), 0.01)
        steps[decay] = [*learner.weights().values()]
    np.testing.assert_array_equal(steps[0.5][1], steps[0.0][1])
    np.testing.assert_allclose(steps[0.0][0] - steps[0.5][0], 0.01 * 0.5 * before, atol=1e-7)


@pytest.mark.parametrize("parts", [1, 3])
def test_the_average_is_that_of_the_weights_after_each_step_and_is_what_predicts(parts, tmp_path):
    learner, seen = plain(ema=0.3, micro_batches=parts, learning_rate=0.05), []
    step = learner.train_step

    def noted(batch: Batch, rate: float) -> tuple[float, float]:
        result = step(batch, rate)
        seen.append({name: array.copy() for name, array in learner.weights().items()})
        return result

    learner.train_step = noted  # type: ignore[method-assign, assignment]
    learner.fit(toy_drawings(FEW, seed=1), a_checkpoint(tmp_path), "plain")
    expected = seen[0]
    for number, weights in enumerate(seen[1:], 1):
        decay = average_decay(0.3, number)
        expected = {name: decay * expected[name] + (1 - decay) * array for name, array in weights.items()}
    with learner.averaged():
        assert_close(learner.weights(), expected)
    assert_same(learner.weights(), seen[-1])
    assert max(np.abs(expected[name] - seen[-1][name]).max() for name in expected) > 1e-3

    learner.save(tmp_path)
    again = plain(ema=0.3, micro_batches=parts)
    again.load(tmp_path)
    unseen = toy_drawings(8, seed=3)
    np.testing.assert_array_equal(again.predict_proba(unseen), learner.predict_proba(unseen))
    assert_close(again.weights(), expected)


@pytest.mark.parametrize("options", [{"ema": 0.9, "micro_batches": 3}, {"ema": 0.9}, {"micro_batches": 3}])
def test_a_run_that_was_stopped_ends_with_the_same_bytes(options, tmp_path):
    def stop(row: EpochRow) -> None:
        raise KeyboardInterrupt

    stopped = plain(**options)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(toy_drawings(FEW, seed=1), a_checkpoint(tmp_path), "plain", stop)
    undisturbed, resumed = fitted(tmp_path / "whole", **options), fitted(tmp_path, **options)
    assert_same(undisturbed.state(), resumed.state())
    assert undisturbed.curve == resumed.curve


def make_short(learner: Plain, *, largest: int, first_step: int) -> None:
    """Let a learner run out of memory from some step on where a batch is larger than `largest`."""
    step = learner.train_step

    def short_step(batch: Batch, rate: float) -> tuple[float, float]:
        model = learner.model

        def train_on_batch(x: Any, *others: Any) -> Any:
            if len(x) > largest:
                raise out_of_memory(len(x))
            return type(model).train_on_batch(model, x, *others)

        if batch.step == first_step:
            model.train_on_batch = train_on_batch
        return step(batch, rate)

    learner.train_step = short_step  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize("parts", [1, 2])
def test_where_memory_is_short_the_parts_get_smaller_and_the_batch_stays(parts, tmp_path, capsys):
    short = plain(ema=0.5, micro_batches=parts)
    make_short(short, largest=16, first_step=3)  # the second half of 33 drawings fails once the first has been through
    short.fit(toy_drawings(FEW, seed=1), a_checkpoint(tmp_path / "short"), "plain")
    assert short.micro_batches == 4
    assert "memory is short: from step 3 on" in capsys.readouterr().out
    assert int(short.model.optimizer.iterations) == 8
    undisturbed = fitted(tmp_path / "whole", ema=0.5)
    assert_close(short.weights(), undisturbed.weights())
    with short.averaged(), undisturbed.averaged():
        assert_close(short.weights(), undisturbed.weights())

    resumed = plain(ema=0.5, micro_batches=parts)
    resumed.fit(toy_drawings(FEW, seed=1), a_checkpoint(tmp_path / "short"), "plain")
    assert resumed.micro_batches == 4
    assert_same(resumed.state(), short.state())


def test_a_run_that_is_short_from_the_first_step_is_one_of_smaller_parts(tmp_path):
    short = plain()
    make_short(short, largest=9, first_step=0)
    short.fit(toy_drawings(FEW, seed=1), a_checkpoint(tmp_path / "short"), "plain")
    assert_same(short.state(), fitted(tmp_path / "cut", micro_batches=4).state())


def test_mixup_counts_both_words_by_their_shares():
    learner = plain(mixup=1.0)
    learner.build()
    batch = learner.batches(toy_drawings(FEW, seed=1)).batch(0)
    assert 0 < batch.share < 1
    kernel, bias = (np.float64(array) for array in learner.weights().values())
    logits = batch.inputs.reshape(BATCH, -1) / 255 @ kernel + bias
    likely = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    words, smoothing = np.eye(NUM_WORDS), learner.params.training.label_smoothing
    targets = batch.share * words[batch.labels] + (1 - batch.share) * words[batch.mixed]
    targets = (1 - smoothing) * targets + smoothing / NUM_WORDS
    loss, _ = learner.train_step(batch, 0.01)
    assert loss == pytest.approx(-(targets * likely).sum(1).mean(), rel=1e-5)


def test_a_run_starts_from_a_local_file_where_shapes_agree(tmp_path, capsys):
    former = fitted(tmp_path)
    former.save(tmp_path)
    path = tmp_path / "weights.safetensors"
    file = {"path": str(path), "sha256": file_hash(path)}
    learner = plain(initial_weights=file)
    learner.build()
    learner._resume(a_checkpoint(tmp_path / "new"))
    assert_same(learner.weights(), former.weights())

    class Pretrained(Plain):
        def network(self, num_words: int) -> keras.Model:
            import keras

            body = super().network(NUM_WORDS)
            return keras.Model(body.inputs, keras.layers.Dense(num_words)(body.outputs[0]))

    other = Pretrained(learner.params, num_words=7, seed=(1, 2), threads=1)
    other.build()
    random = dict(list(other.weights().items())[2:])
    capsys.readouterr()
    other._resume(a_checkpoint(tmp_path / "new"))
    assert_same(other.weights(), former.weights() | random)
    assert f"random: {', '.join(random)}" in capsys.readouterr().out
