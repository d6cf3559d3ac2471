"""What each part of stacking is worth on a finished run: the SuperLearner as the profile has it and with a part less.

All runs stack the same cached predictions. Differences are of MAP@3 out of fold, paired over rows.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import typing
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from bench.tables import RESULTS, Bar, Measured, Row, hardware, markdown_table, record, show
from pipeline.drawings.words import load_words
from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.errors import SketchstackError, one_paragraph_errors
from pipeline.foundation.params import Params, load_params
from pipeline.foundation.places import places
from pipeline.predictions.bootstrap import interval, resampled_means
from pipeline.predictions.cache import read_learner
from pipeline.predictions.metrics import precision_at_3, top3
from pipeline.stacking.calibration import Calibrated
from pipeline.stacking.mlens_parts import cached
from pipeline.stacking.rows import Rows, read_rows
from pipeline.stacking.scoreboard import SUPER
from pipeline.stacking.super_learner import Stack, limit_threads, load_metalearners
from pipeline.submissions.balance import Method, draw_evenly, gains

SAMPLES = 2000  # bootstrap samples of an interval
DRAWS = 5  # of rows as the test set has them, to measure balancing on
GEOMETRIC = "geometric_mean"
NAMED = {True: "yes", False: "no"}


class Found(NamedTuple):
    """What a stack came to.

    Attributes:
        precisions: each OOF row's average precision at 3, by name.
        weights: of the meta-learners in the SuperLearner.
        calibration: of the learners, empty where it was off.
        super: the SuperLearner's OOF probabilities.
        seconds: of stacking.
    """

    precisions: dict[str, np.ndarray]
    weights: dict[str, float]
    calibration: dict[str, Calibrated]
    super: np.ndarray
    seconds: float


def stacked(params: Params, rows: Rows, fits: Path, *, without: Sequence[str] = (), calibrate: bool = True) -> Found:
    """Stack the cached predictions of the working directory, without some meta-learners; keep what is fitted."""
    words, labels = load_words(places().folds), rows.labels.astype(np.int64)
    metalearners = {name: made for name, made in load_metalearners(params, len(words)).items() if name not in without}
    learners = [cached(name, params) for name in sorted(params.base_learners)]
    dense, begun = len(rows) <= params.stack.dense_rows, time.monotonic()
    with TemporaryDirectory(dir="models") as folder:
        stack = Stack(
            learners, metalearners, rows, len(words), Path(folder), calibrate=calibrate, dense=dense, fits=fits
        )
        found = stack.stacked()
        weights = dict(zip(stack.names, found.models[SUPER].learner_weights.tolist(), strict=True))  # type: ignore[union-attr]
        precisions = {name: precision_at_3(top3(oof), labels) for name, oof in found.oof.items()}
        kept = np.array(found.oof[SUPER])
    return Found(precisions, weights, found.calibration, kept, time.monotonic() - begun)


def difference(ours: np.ndarray, theirs: np.ndarray, seed: int) -> tuple[float, float, float]:
    """The mean of paired differences of precision, and its 95% interval over rows."""
    rows = ours - theirs
    low, high = interval(resampled_means(rows, SAMPLES, np.random.default_rng(seed)))
    return float(rows.mean()), low, high


def balancing(probabilities: np.ndarray, rows: Rows, num_words: int, seed: int) -> dict[str, list[float]]:
    """What each way of balancing adds, by draw of OOF rows in which each word is equally frequent."""
    labels, found = rows.labels.astype(np.int64), dict[str, list[float]]()
    most = max(1, len(rows.test_key_ids) // num_words)
    for method in typing.get_args(Method):
        found[method] = []
        for number in range(DRAWS):
            draw = draw_evenly(labels, num_words, most, np.random.default_rng([seed, number]))
            found[method].append(float(gains(probabilities[draw].astype(np.float32), labels[draw], method).mean()))
    return found


def measure(params: Params) -> tuple[Measured, str]:
    """Stack the run of the working directory whole and with a part less; the rows for JSON, and the page."""
    if GEOMETRIC not in params.stack.metalearners or len(params.stack.metalearners) < 2:
        raise SketchstackError(
            f"params.yaml, stack.metalearners must name {GEOMETRIC} and another one to compare with."
        )
    limit_threads(params.threads)
    rows, words = read_rows(params), load_words(places().folds)
    for name in params.base_learners:
        read_learner(name, params, words)  # refuses what is stale
    with TemporaryDirectory(dir="models") as folder:
        fits = Path(folder)
        whole = stacked(params, rows, fits)
        fewer = {"calibration": stacked(params, rows, fits, calibrate=False)}
        for name in params.stack.metalearners:
            if name == "ranker" or whole.weights[name] > 0:
                fewer[name] = stacked(params, rows, fits, without=[name])
    means = {name: each.mean() for name, each in whole.precisions.items()}
    best = max((name for name in means if name != SUPER), key=means.__getitem__)
    over = {
        f"over {name}": difference(whole.precisions[SUPER], whole.precisions[name], params.seed)
        for name in (GEOMETRIC, best)
    }
    less = {
        f"with {part}, over without": difference(whole.precisions[SUPER], found.precisions[SUPER], params.seed)
        for part, found in fewer.items()
    }
    balanced = balancing(whole.super, rows, len(words), params.seed)
    title = f"Stacking {len(rows):,} rows of the {params.profile} profile"
    table = [
        Row(name, "MAP@3", [means[SUPER]], [means[SUPER] - mean]) for name, (mean, _, _) in {**over, **less}.items()
    ]
    table += [Row(f"balanced by {method}, gain", "MAP@3", each) for method, each in balanced.items()]
    low_end, over_best = [over[f"over {GEOMETRIC}"][1]], [over[f"over {best}"][0]]
    table += [
        Row("over the geometric mean, low end of the interval", "MAP@3", low_end, bars=(Bar("ours", "≥", 1e-9),)),
        Row("over the best meta-learner", "MAP@3", over_best, bars=(Bar("ours", "≥", -0.001),)),
    ]
    return Measured("stacking", title, table, [f"Stacking took {whole.seconds:.0f} s."]), page(
        title, means, whole, {**over, **less}, balanced
    )


def page(
    title: str,
    means: dict[str, float],
    whole: Found,
    differences: dict[str, tuple[float, float, float]],
    balanced: dict[str, list[float]],
) -> str:
    """All tables as Markdown."""
    scores = [
        [name, f"{mean:.4f}", f"{whole.weights[name]:.3f}" if name in whole.weights else ""]
        for name, mean in sorted(means.items(), key=lambda item: -item[1])
    ]
    parts = [[name, f"{mean:+.4f}", f"{low:+.4f} to {high:+.4f}"] for name, (mean, low, high) in differences.items()]
    calibration = [
        [name, f"{found.temperature:.3f}", *(f"{of:.4f}" for of in (*found.log_loss, *found.ece)), NAMED[found.used]]
        for name, found in whole.calibration.items()
    ]
    gained = [[method, f"{np.mean(each):+.4f} ± {np.std(each, ddof=1):.4f}"] for method, each in balanced.items()]
    return "\n\n".join(
        [
            f"# {title}",
            f"{hardware()}. Stacking, scored out of fold, took {whole.seconds:.0f} s.",
            markdown_table(["", "MAP@3 out of fold", "weight in the SuperLearner"], scores),
            "The SuperLearner's MAP@3, over what is named; 95% interval of the paired differences over rows.",
            markdown_table(["", "difference", "95% interval"], parts),
            "Temperature scaling, each fold by the temperature of the others.",
            markdown_table(
                ["", "temperature", "log loss before", "after", "calibration error before", "after", "used"],
                calibration,
            ),
            f"Balancing of the SuperLearner, on {DRAWS} draws of out-of-fold rows as the test set has them.",
            markdown_table(["", "gain in MAP@3"], gained),
            "",
        ]
    )


@one_paragraph_errors
def main() -> None:
    """Measure what each part of stacking is worth."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--home", type=Path, default=Path(), help="where the run is (the working directory)")
    asked: Any = parser.parse_args()
    os.chdir(asked.home)
    measured, written = measure(load_params())
    show(measured)
    with whole_file(RESULTS / "stacking.md") as file:
        file.write_text(written, encoding="utf-8")
    print(json.dumps({"recorded": str(record(measured, sys.argv[1:], RESULTS))}))


if __name__ == "__main__":
    main()
