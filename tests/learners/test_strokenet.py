"""What strokenet does before anything is learned, held to cases worked by hand and to plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.learners.strokenet import CANVAS, DOT, StrokeNet, described_samples, walk

# A stroke across and down, a point, and what stands behind the end.
POINTS = torch.tensor([[[-1, 0, 0, 0], [1, 0, 0, 0.3], [1, 1, 0, 0.6], [0, -1, 1 / 16, 1], [9, 9, 9, 9]]])
LENGTHS = torch.tensor([4])
WAY = 3 + 2 * DOT * CANVAS


def walked(samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    return walk(POINTS, LENGTHS, (torch.arange(samples) + 0.5) / samples)


def network(side: int) -> StrokeNet:
    torch.manual_seed(0)
    return StrokeNet(num_words=3, samples=32, features=[4, 4], side=side, widths=[4], blocks=1, dropout=0.0).eval()


def test_samples_have_equal_arc_length_and_skip_the_gaps_between_strokes():
    samples, pace = walked(2600)
    x, y, stroke, place = samples[0].numpy()
    np.testing.assert_allclose(pace, WAY / 2600, rtol=1e-6)
    across, down, dot = (y == 0) & (x < 1), (x == 1) & (y > 0), stroke > 0
    assert [across.sum(), down.sum()] == pytest.approx([2 / WAY * 2600, 1 / WAY * 2600], abs=DOT / WAY * 2600 + 1)
    assert dot.sum() == pytest.approx(DOT * CANVAS / WAY * 2600, abs=1)  # half of it on either side of the jump
    np.testing.assert_allclose(np.stack([x, y, stroke, place])[:, dot].T, [[0, -1, 1 / 16, 1]] * dot.sum(), atol=1e-5)
    np.testing.assert_allclose(place[across], (x[across] + 1) / 2 * 0.3, atol=1e-5)


def test_a_sample_has_the_direction_of_its_stroke_but_not_of_a_gap():
    step_x, step_y, first = described_samples(*walked(64))[0, 4:].numpy()
    assert first.sum() == 1
    assert step_x[first == 1] == step_y[first == 1] == 0
    assert step_x[20] == pytest.approx(1, abs=1e-3)
    assert step_y[20] == 0
    assert np.hypot(step_x, step_y).max() < 1.001


def test_each_sample_is_shared_by_the_four_cells_around_it():
    side, features = 8, 3
    samples, pace = walked(32)
    values = torch.randn(32, features)
    expected = np.zeros((side, side, features))
    ink = pace.item() * (side - 1) / 2
    for (x, y), value in zip(samples[0, :2].T.numpy(), values.numpy(), strict=True):
        column, row = (x + 1) * (side - 1) / 2, (y + 1) * (side - 1) / 2
        left, top = min(int(column), side - 2), min(int(row), side - 2)
        for j, near_x in ((left, 1 - (column - left)), (left + 1, column - left)):
            for i, near_y in ((top, 1 - (row - top)), (top + 1, row - top)):
                expected[i, j] += ink * near_x * near_y * value
    written = network(side).written(samples[:, :2], pace)[0] @ values
    np.testing.assert_allclose(written.reshape(side, side, features), expected, atol=1e-5)


def test_points_after_the_end_and_small_shifts_of_the_stroke_number_change_nothing():
    net, other = network(8), POINTS.clone()
    other[0, 4] = -3
    other[0, :, 2] += 0.02
    with torch.inference_mode():
        torch.testing.assert_close(net(other, LENGTHS), net(POINTS, LENGTHS), rtol=0, atol=0)


def test_the_gradient_on_the_points_is_finite_though_points_repeat():
    moved = POINTS[:, [0, 0, 1, 2, 3, 4]].requires_grad_()
    network(8)(moved, LENGTHS + 1).sum().backward()
    assert moved.grad is not None
    assert moved.grad.isfinite().all()
    assert moved.grad[0, :5].abs().sum() > 0
    assert moved.grad[0, 5].abs().sum() == 0
