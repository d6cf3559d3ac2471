"""Scattering features are kymatio's; filters are neither trained nor saved; slopes are finite on empty canvas."""

from __future__ import annotations

import pytest
import torch
from kymatio.scattering2d.frontend.torch_frontend import ScatteringTorch2D
from torch.nn.functional import pad

from pipeline.learners.scattering import Scattering


@pytest.mark.parametrize(("scales", "angles", "order"), [(2, 4, 2), (3, 3, 2), (2, 8, 1)])
def test_features_are_those_of_kymatio(scales, angles, order):
    ours = Scattering(32, scales, angles, order)
    theirs = ScatteringTorch2D(scales, (32, 32), angles, order, pre_pad=True)
    pictures = torch.zeros(2, 1, 32, 32)
    pictures[:, :, 10:22, 10:22] = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    found = ours(pictures)
    assert found.shape == (2, ours.paths, ours.side, ours.side)
    expected = theirs(pad(pictures, [ours.frame] * 4))[:, 0]
    # Paths stand in another order: each of kymatio's is the nearest of ours, each of ours once.
    apart = torch.cdist(expected.flatten(2)[0], found.flatten(2)[0])  # (paths, paths)
    nearest = apart.argmin(1)
    assert sorted(nearest.tolist()) == list(range(ours.paths))
    torch.testing.assert_close(found[:, nearest], expected, rtol=0.02, atol=2e-3)


def test_channels_are_scattered_one_by_one():
    scattering = Scattering(16, 2, 3, 2)
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    found = scattering(pictures).unflatten(1, (3, scattering.paths))
    for channel in range(3):
        alone = scattering(pictures[:, channel : channel + 1])
        torch.testing.assert_close(found[:, channel], alone, rtol=1e-4, atol=1e-6)


def test_filters_are_neither_trained_nor_saved():
    scattering = Scattering(16, 2, 3, 2)
    assert not list(scattering.parameters())
    assert not scattering.state_dict()


def test_the_slope_on_empty_canvas_is_finite():
    pictures = torch.zeros(1, 1, 16, 16, requires_grad=True)
    Scattering(16, 2, 3, 2)(pictures).sum().backward()
    assert pictures.grad is not None
    assert pictures.grad.isfinite().all()


def test_a_side_that_the_scales_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="3 scales need a side that is a multiple of 8, not 28"):
        Scattering(28, 3, 4, 1)
