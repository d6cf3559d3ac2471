"""Train one learner without one fold, then predict that fold and the test set."""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline import batches, drawings, encodings
from pipeline.artefacts import file_hash, whole_file, whole_folder
from pipeline.checkpoints import Checkpoint
from pipeline.drawings import TEST, Shards, open_shards
from pipeline.encodings import set_threads
from pipeline.errors import SketchstackError, one_paragraph_errors
from pipeline.learners import _base
from pipeline.learners._base import EpochRow, load_learner
from pipeline.params import Params, load_params
from pipeline.predictions import cached_share, model_folder, write_predictions
from pipeline.words import load_words

FOLDS = Path("folds")
CHECKPOINTS = Path("checkpoints")
LOGS = Path("logs")
CURVES = Path("models/curves")


def train(params: Params, name: str, held_out: int) -> None:
    """Fit learner `name` on all folds but `held_out`; cache its predictions in models/base/<name>/fold<held_out>."""
    set_threads(params.threads)
    words = load_words(FOLDS)
    learner = load_learner(
        name, params.learner(name), num_words=len(words), seed=(params.seed, held_out), threads=params.threads
    )
    checkpoint = _checkpoint(params, name, held_out)
    begun = time.monotonic()
    learner.fit(
        _folds(others(params.folds, held_out)), checkpoint, f"{name} fold {held_out}", _curve_log(name, held_out)
    )
    fitted = time.monotonic()
    held_out_rows, test_rows = _folds([held_out]), open_shards([FOLDS / TEST])
    cached = held_out_rows.first(cached_share(len(held_out_rows), params))
    with whole_folder(model_folder(name, held_out)) as folder:
        learner.save(folder)
        metrics = write_predictions(
            folder,
            oof=learner.predict_proba(cached),
            test=learner.predict_proba(test_rows),
            rows=cached.key_id,
            test_rows=test_rows.key_id,
            labels=cached.word,
            words=words,
            learner_hash=params.learner_hash(name),
        )
    with whole_file(CURVES / name / f"fold{held_out}.csv") as file:
        _write_curve(file, learner.curve)
    checkpoint.remove()
    _log_times(name, held_out, fit=fitted - begun, predict=time.monotonic() - fitted)
    print(f"{name} fold {held_out}: MAP@3 {metrics['map3']:.4f}, top-1 {metrics['top1']:.4f}", flush=True)


def others(folds: list[int], held_out: int) -> list[int]:
    """The folds to train on.

    Raises:
        SketchstackError: there is no fold `held_out`.
    """
    if held_out not in folds:
        raise SketchstackError(f"no fold {held_out}; params.yaml has folds {', '.join(map(str, folds))}.")
    return [fold for fold in folds if fold != held_out]


def _folds(folds: list[int]) -> Shards:
    return open_shards([FOLDS / f"fold{fold}" for fold in folds])


def _checkpoint(params: Params, name: str, held_out: int) -> Checkpoint:
    sources = [Path(str(module.__file__)) for module in (batches, drawings, encodings)]
    sources += [*_base.LEARNERS.glob("_*.py"), _base.LEARNERS / f"{name}.py"]
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources))).hexdigest()
    made_from = {"params": params.learner_hash(name), "data": file_hash(FOLDS / "summary.json"), "code": code}
    return Checkpoint(CHECKPOINTS / name / f"fold{held_out}", made_from, **params.checkpoints.model_dump())


def _curve_log(name: str, held_out: int) -> Callable[[EpochRow], None]:
    """Log each epoch to logs/<learner>/fold<k> through dvclive, as training goes."""
    from dvclive import Live

    live = Live(
        str(LOGS / name / f"fold{held_out}"), dvcyaml=None, save_dvc_exp=False, report=None, monitor_system=False
    )

    def log(row: EpochRow) -> None:
        live.step = row.epoch
        for metric in ("learning_rate", "loss", "top1"):
            live.log_metric(metric, getattr(row, metric))
        live.make_summary()

    return log


def _write_curve(path: Path, curve: list[EpochRow]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(EpochRow._fields)
        writer.writerows([row.epoch, *(float(np.float32(value)) for value in row[1:])] for row in curve)


def _log_times(name: str, held_out: int, **seconds: float) -> None:
    """Times go to logs/: an output that holds a clock never hashes the same twice."""
    path = LOGS / name / f"fold{held_out}" / "seconds.json"
    path.write_text(json.dumps({part: round(value, 1) for part, value in seconds.items()}) + "\n")


@one_paragraph_errors
def main() -> None:
    """Train one learner without one fold, then predict that fold and the test set."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.train", description=main.__doc__)
    parser.add_argument("learner", help="a file of pipeline/learners")
    parser.add_argument("held_out", type=int, help="the fold to leave out and predict")
    arguments = parser.parse_args()
    train(load_params(), arguments.learner, arguments.held_out)


if __name__ == "__main__":
    main()
