from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from pipeline.predictions.metrics import log_loss
from pipeline.stacking.calibration import MOST_ROWS, calibration_error, fit_temperature, scaled, temperatures
from pipeline.stacking.rows import Rows

WORDS = 6


def honest(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels drawn by them: as sure as they are right."""
    random = np.random.default_rng(seed)
    P = random.dirichlet(np.full(WORDS, 0.5), count)
    return P.astype(np.float32), (P.cumsum(axis=1) > random.random((count, 1))).argmax(axis=1)


def rows_of(labels: np.ndarray, tests: int = 50) -> Rows:
    count = len(labels)
    return Rows(
        key_ids=np.arange(count),
        labels=labels.astype(np.int16),
        folds=np.repeat(np.arange(3), [count // 3, count // 3, count - 2 * (count // 3)]).astype(np.int8),
        test_key_ids=np.arange(tests),
        facts=np.zeros((count + tests, 3), np.float32),
    )


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_that_spoiled_probabilities_is_found(temperature):
    P, labels = honest(30_000)
    spoiled = scaled(P, 1 / temperature)
    assert fit_temperature(spoiled, labels) == pytest.approx(temperature, rel=0.05)
    found = scaled(spoiled, fit_temperature(spoiled, labels))
    assert log_loss(found, labels) == pytest.approx(log_loss(P, labels), abs=2e-3)
    assert (found.argmax(axis=1) == P.argmax(axis=1)).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_the_temperature_is_that_of_scikit_learn():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 3000)
    X = random.normal(size=(3000, 4)) + 0.8 * np.eye(3, 4)[labels]
    model = LogisticRegression(C=1e-3).fit(X, labels)
    calibrated = CalibratedClassifierCV(FrozenEstimator(model), method="temperature").fit(X, labels)
    ours = scaled(model.predict_proba(X), fit_temperature(model.predict_proba(X), labels))
    np.testing.assert_allclose(ours, calibrated.predict_proba(X), atol=2e-3)


def test_the_error_by_hand():
    P = np.array([[0.9, 0.1], [0.9, 0.1], [0.35, 0.65], [0.4, 0.6]])
    labels = np.array([0, 1, 1, 0])  # bins of a fifteenth: two of 0.9, half right; 0.65, right; 0.6, wrong
    assert calibration_error(P, labels) == pytest.approx((2 * 0.4 + 0.35 + 0.6) / 4)


def test_honest_probabilities_have_next_to_no_error_and_spoiled_ones_have():
    P, labels = honest(50_000)
    assert calibration_error(P, labels) < 0.01
    assert calibration_error(scaled(P, 0.3), labels) > 0.1


def test_a_row_has_the_temperature_of_its_fold_or_of_all_that_are_known():
    P, labels = honest(9000)
    rows = rows_of(labels)
    spoiled = scaled(P, np.array([0.5, 0.7, 0.9])[rows.folds][:, None])  # each fold's model is sure in its own way
    asked = []

    def look_up(positions: np.ndarray) -> np.ndarray:
        asked.append(positions)
        return spoiled[positions]

    found = temperatures(look_up, np.flatnonzero(rows.folds != 2), rows)
    assert rows.folds[np.concatenate(asked)].max() == 1, "the third fold is not looked at"
    first, second, third = (np.unique(found.by_row[:9000][rows.folds == fold]) for fold in range(3))
    assert first == pytest.approx(fit_temperature(spoiled[rows.folds == 0], labels[rows.folds == 0]), rel=1e-3)
    assert second == pytest.approx(fit_temperature(spoiled[rows.folds == 1], labels[rows.folds == 1]), rel=1e-3)
    assert third == pytest.approx(found.temperature)
    assert np.unique(found.by_row[9000:]) == pytest.approx(found.temperature)
    assert found.used
    assert found.log_loss[1] < found.log_loss[0]
    assert found.ece[1] < found.ece[0]


def test_a_temperature_that_does_not_help_is_not_used():
    P, labels = honest(3000)
    rows = rows_of(labels)
    at = [rows.folds == fold for fold in range(3)]
    P[at[0]] = scaled(P[at[0]], 0.5)
    P[at[1]] = scaled(P[at[1]], 2.0)  # what one fold needs makes the other worse
    found = temperatures(lambda positions: P[positions], np.flatnonzero(rows.folds != 2), rows)
    assert not found.used
    assert found.log_loss[1] > found.log_loss[0]
    assert (found.by_row == 1).all()


def test_no_more_rows_are_looked_at_than_it_takes():
    labels = np.zeros(6 * MOST_ROWS, np.int64)
    counted = []

    def look_up(positions: np.ndarray) -> np.ndarray:
        counted.append(len(positions))
        return np.full((len(positions), 2), 0.5, np.float32)

    temperatures(look_up, np.arange(len(labels)), rows_of(labels))
    assert sum(counted) <= 3 * MOST_ROWS


@pytest.mark.parametrize("sizes", [(1, 40, 40), (1, 1, 1), (19, 2, 60), (3, 3, 3), (40, 1, 1)])
def test_a_fold_of_few_rows_has_the_temperature_of_all(sizes):
    P, labels = honest(sum(sizes))
    rows = replace(rows_of(labels), folds=np.repeat(np.arange(3), sizes).astype(np.int8))
    spoiled = scaled(P, 0.3)
    found = temperatures(lambda positions: spoiled[positions], np.arange(sum(sizes)), rows)
    assert np.isfinite(found.by_row).all()
    if found.used:
        for fold, size in enumerate(sizes):
            own = found.by_row[: sum(sizes)][rows.folds == fold]
            assert (own == np.float32(found.temperature)).all() == (size < 20)
