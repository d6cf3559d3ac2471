"""Time and memory of stacking as the rows grow, beside scikit-learn's StackingClassifier on the sizes that it holds."""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bench.competition import run_child, scratch_folder
from bench.tables import RESULTS, Bar, Measured, Row, record, show
from pipeline.foundation.errors import one_paragraph_errors

SIZES = (10_000, 100_000, 1_000_000)
LARGEST_PLAIN = 10_000  # rows that StackingClassifier gets: it holds all in float64, several times
LEARNERS, WORDS, FOLDS, TESTS = 10, 340, 5, 1020
NOISE = 20_000  # rows of noise, drawn from again and again
CHUNK = 20_000


def write_cache(home: Path, rows: int, learners: int = LEARNERS, words: int = WORDS) -> None:
    """Predictions of made-up learners, as they lie in models/<profile>/base, and the rows they are of.

    A learner's probabilities are the softmax of noise, with more for the true word the better it is; learners share
    some of their noise, as real ones do.
    """
    random = np.random.default_rng(rows)
    labels = random.permutation(np.arange(rows) % words).astype(np.int16)
    folds = np.sort(random.integers(0, FOLDS, rows)).astype(np.int8)
    np.savez(home / "rows.npz", labels=labels, folds=folds, test_labels=np.arange(TESTS) % words)
    noise = random.normal(size=(NOISE, words)).astype(np.float32)
    for number in range(learners):
        own = random.normal(size=(NOISE, words)).astype(np.float32)
        for fold in range(FOLDS):
            folder = home / f"learner{number}" / f"fold{fold}"
            folder.mkdir(parents=True)
            of_fold = labels[folds == fold]
            skill, first = 2.5 + 0.05 * number, int((folds < fold).sum())
            write_part(folder / "oof.npy", of_fold, noise, own, skill, first)
            write_part(folder / "test.npy", np.arange(TESTS) % words, noise, own, skill, rows)
            np.save(folder / "rows.npy", np.flatnonzero(folds == fold))
            (folder / "metrics.json").write_text("{}")


def write_part(path: Path, labels: np.ndarray, shared: np.ndarray, own: np.ndarray, skill: float, first: int) -> None:
    """Write probabilities of rows with these labels, a chunk at a time; the number of the first decides their noise."""
    out = np.lib.format.open_memmap(path, "w+", np.float16, (len(labels), shared.shape[1]))
    for start in range(0, len(labels), CHUNK):
        true = labels[start : start + CHUNK].astype(np.int64)
        places = (first + start + np.arange(len(true))) % NOISE
        logits = shared[places] + own[places]
        logits[np.arange(len(true)), true] += np.float32(skill)
        np.exp(logits, out=logits)
        out[start : start + CHUNK] = logits / logits.sum(axis=1, keepdims=True)
    out.flush()


def measured_once(home: Path, how: str) -> dict[str, Any]:
    """Stack what lies in a folder, in a process of its own."""
    (home / "how.json").write_text(json.dumps({"how": how}))
    return run_child("bench.stack_size_once", home)


def measure(
    scratch: Path, sizes: tuple[int, ...], runs: int, most_scored: int, learners: int = LEARNERS, words: int = WORDS
) -> Measured:
    """Stack made-up predictions of so many rows; up to `most_scored`, score by folds too."""
    rows, notes = [], []
    for size in sizes:
        home = scratch / str(size)
        home.mkdir()
        write_cache(home, size, learners, words)
        ways = [
            "scored" if size <= most_scored else "fitted",
            *(["uncalibrated", "plain"] if size <= LARGEST_PLAIN else []),
        ]
        found = {how: [measured_once(home, how) for _ in range(runs)] for how in ways}
        pick = functools.partial(picked, found)
        hour, memory = ((Bar("ours", "≤", 3600),), (Bar("ours", "≤", 8),)) if size >= max(SIZES) else ((), ())
        fit, held = pick(ways[0], "fit"), pick(ways[0], "anonymous")
        rows += [
            Row(f"{size:,} rows: fit, test set predicted", "s", fit, pick("plain", "fit"), bars=hour),
            Row(f"{size:,} rows: anonymous memory", "GB", held, pick("plain", "anonymous"), bars=memory),
        ]
        if size <= most_scored:
            rows.append(Row(f"{size:,} rows: then scored by folds", "s", pick(ways[0], "score")))
        for how, all_runs in found.items():
            scores = ", ".join(f"{name} {score:.6f}" for name, score in all_runs[0]["test_log_loss"].items())
            notes.append(f"{size:,} rows, {how}: log loss on the test rows: {scores}.")
        shutil.rmtree(home)
    notes.append(
        f"{learners} learners, {words} words, {FOLDS} folds: {learners * words * 2 / 1e3:.1f} KB of float16 a row. "
        "Ours: the stack block of profiles/kaggle.yaml, read in chunks; logistic, ranker, greedy and word_groups are "
        "fitted on at most 100,000 rows a fit, and all rows are predicted. Scoring by folds fits all of it once more "
        f"for each fold; that was done up to {most_scored:,} rows, and counts in the memory there. The reference: "
        "StackingClassifier with the same learners and folds, uncalibrated (beside it ours without temperatures), and "
        "our logistic regression as its final estimator. Memory: the most of RssAnon, looked at ten times a second."
    )
    return Measured(Path(__file__).stem, "Stacking as the rows grow", rows, notes)


def picked(found: dict[str, list[dict[str, Any]]], how: str, what: str) -> list[float]:
    """One figure of all runs of a way."""
    return [run[what] for run in found.get(how, [])]


@one_paragraph_errors
def main() -> None:
    """Measure time and memory of stacking."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--runs", type=int, default=1, help="of each (%(default)s)")
    parser.add_argument("--scratch", type=Path, help="a folder with 25 GB to spare (the system's)")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="rows (%(default)s)")
    parser.add_argument("--most-scored", type=int, default=max(SIZES), help="rows scored by folds too (%(default)s)")
    asked = parser.parse_args()
    with scratch_folder(asked.scratch) as scratch:
        measured = measure(scratch, tuple(asked.sizes), asked.runs, asked.most_scored)
    show(measured)
    if max(asked.sizes) >= max(SIZES):
        print(f"Recorded in {record(measured, sys.argv[1:], RESULTS)}.")
    else:
        print(f"Not recorded: that takes {max(SIZES):,} rows.")


if __name__ == "__main__":
    main()
