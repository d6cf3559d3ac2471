"""Temperature scaling: raise probabilities to a power, so that confidence agrees with accuracy.

Guo, Pleiss, Sun and Weinberger, 2017, https://arxiv.org/abs/1706.04599. A temperature never changes the likeliest word
of a row, but it changes the row's influence when learners are combined.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from pipeline.predictions.metrics import FLOOR, log_loss
from pipeline.stacking.metalearners._base import evenly_spread
from pipeline.stacking.rows import Rows

MOST_ROWS = 5_000  # rows per fold for fitting: enough for a single number
BINS = 15  # of the calibration error, equally wide
FEWEST_ROWS = 20  # of a fold with a temperature of its own: of fewer, it would tell their labels
BOUNDS = (-2.0, 2.0)  # of the logarithm of the temperature


@dataclass(frozen=True)
class Calibrated:
    """A learner's temperatures.

    Attributes:
        by_row: (OOF rows + test rows,) float32; 1 everywhere if scaling does not lower the log loss. A row of a fold
            that was fitted on has the temperature of this fold, which has its own model, if the fold has FEWEST_ROWS;
            any other row has `temperature`.
        temperature: fitted on all rows together, whether it is used or not.
        used: whether scaling lowers the log loss.
        log_loss: before and after, on the rows for fitting; each fold is scaled by the temperature of the other folds.
        ece: expected calibration error of these rows before and after.
    """

    by_row: np.ndarray
    temperature: float
    used: bool
    log_loss: tuple[float, float]
    ece: tuple[float, float]


def temperatures(look_up: Callable[[np.ndarray], np.ndarray], positions: np.ndarray, rows: Rows) -> Calibrated:
    """Fit a learner's temperatures on OOF rows at some positions, on evenly spread rows of each fold.

    Args:
        look_up: positions (n,) → probabilities (n, num_words).
        positions: of the rows available for fitting, from two folds or more.
        rows: all rows.
    """
    folds = rows.folds[positions]
    numbers = np.unique(folds)
    of_fold = [positions[folds == fold] for fold in numbers]
    looked = np.concatenate([found[evenly_spread(len(found), MOST_ROWS)] for found in of_fold])
    probabilities, labels, at = look_up(looked), rows.labels[looked].astype(np.int64), rows.folds[looked]
    whole = fit_temperature(probabilities, labels)
    by_row, after = np.full(len(rows.facts), whole, np.float32), np.empty_like(probabilities)
    for fold in numbers:
        own = at == fold
        after[own] = scaled(probabilities[own], fit_temperature(probabilities[~own], labels[~own]))
        if own.sum() >= FEWEST_ROWS:
            by_row[positions[folds == fold]] = fit_temperature(probabilities[own], labels[own])
    losses = log_loss(probabilities, labels), log_loss(after, labels)
    used = losses[1] < losses[0]
    errors = calibration_error(probabilities, labels), calibration_error(after, labels)
    return Calibrated(by_row if used else np.ones_like(by_row), whole, used, losses, errors)


def scaled(probabilities: np.ndarray, temperature: float | np.ndarray) -> np.ndarray:
    """Probabilities (N, num_words) at a temperature, or at one per row (N, 1): float32, rows sum to 1."""
    powers = np.log(np.maximum(probabilities, np.float32(FLOOR)))
    powers /= np.float32(temperature)
    np.exp(powers, out=powers)
    return powers / powers.sum(axis=1, keepdims=True)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature that minimises the log loss of probabilities (N, num_words) with labels (N,)."""
    logs = np.log(np.maximum(probabilities, np.float32(FLOOR)))
    true = logs[np.arange(len(labels)), labels].astype(np.float64)

    def loss(log_temperature: float) -> float:
        powers = logs / np.float32(np.exp(log_temperature))
        return float((np.log(np.exp(powers).sum(axis=1)) - true / np.exp(log_temperature)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=BOUNDS, method="bounded", options={"xatol": 1e-4}).x))


def bins_of(sure: np.ndarray) -> np.ndarray:
    """The bin of each probability, (N,) int64; a bin includes its upper edge."""
    return np.clip(np.ceil(sure * BINS) - 1, 0, BINS - 1).astype(np.int64)


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error: the gap between the probability of first guesses and the share that is right.

    The mean over rows of |probability - share| of their bin (Guo et al., 2017).

    Args:
        probabilities: (N, num_words).
        labels: (N,).
    """
    sure = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    bins = bins_of(sure)
    gaps = np.bincount(bins, right, BINS) - np.bincount(bins, sure, BINS)
    return float(np.abs(gaps).sum() / len(labels))
