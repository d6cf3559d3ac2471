"""Binary kernels take a bit a weight on disk and predict the same from it; checkpoints hold their latent weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.learners.binarynet import BinaryConvolution, Layer, Learner, Signs, signs
from tests.toy import toy_drawings, toy_learner

KERNEL = "2.convolution"  # the first binary layer stands behind a convolution and its norm


@pytest.fixture
def learner() -> Learner:
    """With latent weights as training may leave them: beyond -1..1, and exactly on the threshold."""
    made = toy_learner("binarynet")
    assert isinstance(made, Learner)
    made.build()
    with torch.no_grad():
        latent = made.model.get_parameter(f"{KERNEL}.weight")
        latent.mul_(100)
        latent[0, 0] = torch.tensor([0.0, -0.0, 1e-30])
    return made


def test_a_binary_weight_takes_one_bit_on_disk(learner, tmp_path):
    learner.save(tmp_path)
    saved, kernels = learner.weights(), 0
    for name, part in learner.model.named_modules():
        if isinstance(part, BinaryConvolution):
            assert saved[f"{name}.bits"].nbytes == part.weight.numel() / 8
            assert f"{name}.weight" not in saved
            kernels += part.weight.numel()
    assert kernels > 0
    real = sum(array.nbytes for name, array in saved.items() if not name.endswith(".bits"))
    names = 200 * len(saved)  # bytes that safetensors spends on them, at most
    assert (tmp_path / "weights.safetensors").stat().st_size <= kernels / 8 + real + names


def test_a_loaded_network_has_the_signs_and_predicts_the_same_bytes(learner, tmp_path):
    learner.save(tmp_path)
    again = toy_learner("binarynet")
    assert isinstance(again, Learner)
    again.load(tmp_path)
    kept, found = (each.model.get_parameter(f"{KERNEL}.weight") for each in (learner, again))
    assert torch.equal(signs(kept), signs(found))
    assert 0 < found.abs().max() < 1  # small enough that a fit which starts from them can turn them over
    drawings = toy_drawings(8, seed=3)
    np.testing.assert_array_equal(learner.predict_proba(drawings), again.predict_proba(drawings))


@pytest.mark.parametrize("change", [-1, 1])
def test_bits_of_another_network_are_refused(learner, change):
    weights = learner.weights()
    weights[f"{KERNEL}.bits"] = np.resize(weights[f"{KERNEL}.bits"], weights[f"{KERNEL}.bits"].size + change)
    with pytest.raises(ValueError, match=f"{KERNEL}"):
        learner.set_weights(weights)


def test_a_checkpoint_holds_the_latent_weights(learner):
    again = toy_learner("binarynet")
    assert isinstance(again, Learner)
    again.build()
    again.set_state(learner.state())
    name = f"{KERNEL}.weight"
    assert torch.equal(learner.model.get_parameter(name), again.model.get_parameter(name))


def test_signs_are_exact_and_their_slope_is_the_one_given():
    x = torch.tensor([-2.0, -0.5, 0.0, 0.25], requires_grad=True)
    found = Signs.apply(x, torch.tensor([0.0, 1.0, 2.0, 1.5]))
    assert found.tolist() == [-1, -1, 1, 1]
    found.backward(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert x.grad is not None
    assert x.grad.tolist() == [0, 2, 6, 6]


@pytest.mark.parametrize("training", [True, False])
def test_a_convolution_counts_agreeing_signs(training):
    convolution = BinaryConvolution(2, 3, stride=1).train(training)
    x = signs(torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(1)))
    middle = convolution(x)[0, :, 1:4, 1:4]
    assert set(middle.unique().tolist()) <= set(range(-18, 19, 2))
    agreeing = (signs(convolution.weight) == x[0, :, :3, :3]).sum((1, 2, 3))
    assert torch.equal(middle[:, 0, 0], 2.0 * agreeing - 18)


def test_a_layer_halves_the_side_and_widens_by_any_factor():
    for width, wider in ((4, 8), (4, 6), (4, 4), (4, 3)):
        assert Layer(width, wider, stride=2)(torch.randn(2, width, 8, 8)).shape == (2, wider, 4, 4)


def test_gradients_reach_thresholds_latent_weights_and_inputs():
    layer, x = Layer(4, 4, stride=1), torch.randn(2, 4, 8, 8, requires_grad=True)
    layer(x).square().sum().backward()
    for tensor in (layer.threshold, layer.convolution.weight, x):
        assert tensor.grad is not None
        assert tensor.grad.abs().sum() > 0
