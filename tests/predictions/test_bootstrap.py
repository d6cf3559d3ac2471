from __future__ import annotations

import numpy as np
import pytest

from pipeline.predictions.bootstrap import interval, resampled_means


@pytest.mark.parametrize("values", [[1.0] * 8, [0.0], [1.0, 0.5], [0.0, 1 / 3, 1.0, 1.0], [0.5] * 3])
def test_the_interval_of_few_precisions_is_in_the_range_of_a_score(values):
    low, high = interval(resampled_means(np.array(values), 2000, np.random.default_rng(0)))
    assert 0 <= low <= np.mean(values) <= high <= 1


def test_sums_of_samples_are_cut_to_the_range():
    means = np.linspace(-0.4, 1.3, 100)
    assert interval(means) == (0, 1)
    assert interval(means - 1, least=-1.0) == (-1, pytest.approx(0.2575, abs=1e-3))
