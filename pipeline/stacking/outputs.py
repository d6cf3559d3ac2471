"""Files that stacking writes besides its predictions: rows, scores, weights, temperatures, confusions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.drawings.words import Words
from pipeline.foundation.spreadsheets import safe_cell
from pipeline.stacking.rows import Rows
from pipeline.stacking.scoreboard import (
    SUPER,
    confusions,
    pooled_scores,
    weights_by_name,
)
from pipeline.stacking.super_learner import Stacked

ERRORS = ("log_loss", "ece")


def write_scores(
    folder: Path, stacked: Stacked, rows: Rows, words: Words, table: pd.DataFrame, learners: Sequence[str]
) -> None:
    """Write the rows, the scores, the weights and the temperatures into the folder of the stack."""
    named = {"rows": rows.key_ids, "labels": rows.labels, "folds": rows.folds, "test_rows": rows.test_key_ids}
    for name, values in named.items():
        np.save(folder / f"{name}.npy", values)
    calibration = {
        name: {"temperature": float(f"{np.float32(found.temperature):.9g}"), "used": found.used}  # 9 digits: exact
        | {of: dict(zip(("before", "after"), np.round(getattr(found, of), 6).tolist(), strict=True)) for of in ERRORS}
        for name, found in stacked.calibration.items()
    }
    blocks = {
        "scores": pooled_scores(table, rows),
        "weights": weights_by_name(stacked.models, learners),
        "calibration": calibration,
    }
    for name, block in blocks.items():
        (folder / f"{name}.json").write_text(json.dumps(block, indent=2) + "\n")
    table.to_csv(folder / "fold_scores.csv", index=False, float_format="%.6f", lineterminator="\n")
    confused = confusions(stacked.oof[SUPER], rows.labels, words)
    confused = confused.map(safe_cell)  # of words that a user's files name
    confused.to_csv(folder / "confusions.csv", index=False, lineterminator="\n")
