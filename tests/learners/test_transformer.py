"""What the transformer makes of padding, and of params that do not fit."""

from __future__ import annotations

import pytest
import torch

from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import load_params
from pipeline.learners._base import load_learner
from pipeline.learners.transformer import Transformer


def network() -> Transformer:
    torch.manual_seed(0)
    return Transformer(num_words=3, filters=[8, 8], points_a_token=2, width=8, heads=2, layers=2, dropout=0.0).eval()


def test_points_after_the_end_do_not_count():
    torch.manual_seed(1)
    points, lengths = torch.rand(3, 8, 4), torch.tensor([8, 5, 1])
    other = points.clone()
    other[1, 5:], other[2, 1:] = 7, -7
    with torch.inference_mode():
        torch.testing.assert_close(network()(other, lengths), network()(points, lengths), rtol=0, atol=1e-6)
        torch.testing.assert_close(network()(points[1:, :6], lengths[1:]), network()(points, lengths)[1:])


def test_points_inside_count_with_their_stroke_and_their_position():
    points, lengths = torch.rand(1, 8, 4), torch.tensor([8])
    points[:, :, 2] = 1 / 16
    for feature in range(4):
        other = points.clone()
        other[0, 4, feature] += 0.5
        with torch.inference_mode():
            assert (network()(other, lengths) - network()(points, lengths)).abs().max() > 1e-5


@pytest.mark.parametrize(
    ("change", "message"), [({"points_a_token": 7}, "not a multiple of points_a_token 7"), ({"heads": 7}, "7 heads")]
)
def test_a_network_that_does_not_divide_is_refused(change, message):
    block = load_params().learner("transformer")
    block = block.model_copy(update={"network": {**block.network, **change}})
    with pytest.raises(SketchstackError, match=message):
        load_learner("transformer", block, num_words=3, seed=(1,), threads=1).build()
