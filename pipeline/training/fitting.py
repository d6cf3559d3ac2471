"""Code that both training rounds share: fit a learner, predict its held-out fold and the test set, cache both.

A base learner of the first round has its learner's name. One of the second round has this name with the suffix
`params.PSEUDO`, and so its own folders below models/, checkpoints/ and logs/.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.drawings.encodings import set_threads
from pipeline.drawings.shards import SUMMARY, TEST, Shards, open_shards
from pipeline.drawings.words import Words, load_words
from pipeline.foundation.artefacts import alone, file_hash, whole_file, whole_folder
from pipeline.foundation.contents import intact
from pipeline.foundation.disk import check_space
from pipeline.foundation.environment import versions
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.fingerprints import project
from pipeline.foundation.logs import luxury, note
from pipeline.foundation.params import Params, learner_of
from pipeline.foundation.places import places
from pipeline.learners._base import EpochRow, Learner, learner_class, load_learner
from pipeline.predictions.cache import (
    cached_share,
    check_cached_words,
    model_folder,
    read_predictions,
    write_predictions,
)
from pipeline.training.checkpoints import Checkpoint

LIBRARIES = ("keras", "numba", "numpy", "tensorflow", "tensorflow-cpu", "torch")  # that a step depends on, if installed
TOO_LARGE = "make room there, or lower oof.max_rows in params.yaml"


def others(folds: list[int], held_out: int) -> list[int]:
    """The folds to train on.

    Raises:
        SketchstackError: there is no fold `held_out`.
    """
    if held_out not in folds:
        raise SketchstackError(f"no fold {held_out}; params.yaml has folds {', '.join(map(str, folds))}.")
    return [fold for fold in folds if fold != held_out]


def less_memory(name: str) -> str:
    """What to do when training a learner takes too much memory."""
    return (
        f"raise learners.{name}.training.micro_batches in params.yaml, which takes less memory and restarts the "
        f"training, or close other programs and run the same command again, which resumes from the last resume point"
    )


def open_folds(folds: list[int]) -> Shards:
    """The drawings of some folds."""
    return open_shards([places().folds / f"fold{fold}" for fold in folds])


def check_stackable(params: Params) -> None:
    """Refuse, before any training, an `oof.max_rows` of which the stack could not be fitted.

    Raises:
        SketchstackError: names a word whose cached rows are all in one fold.
    """
    rows_out = json.loads(intact(places().folds / SUMMARY).read_text(encoding="utf-8"))["rows_out"]
    sizes = [rows_out[f"fold{fold}"] for fold in params.folds]
    shares = [cached_share(size, params) for size in sizes]
    if sizes != shares:  # else all rows are cached, which the shuffle has checked
        labels = [open_folds([fold]).word[:share] for fold, share in zip(params.folds, shares, strict=True)]
        check_cached_words(np.concatenate(labels), np.repeat(params.folds, shares), load_words(places().folds))


def ready_learner(params: Params, learner: str, held_out: int) -> Learner:
    """A learner with checked params and the seed of its held-out fold."""
    words, seed = load_words(places().folds), (params.seed, held_out)
    return load_learner(learner, params.learner(learner), num_words=len(words), seed=seed, threads=params.threads)


def fitted_learner(name: str, held_out: int, params: Params, words: Words, **training: Any) -> Learner:
    """A base learner's fitted model of held-out fold `held_out`, checked against the params in force.

    Args:
        name: of the base learner.
        held_out: the fold that the model was not trained on.
        params: those in force.
        words: of the folds.
        training: params of training that differ when predicting, such as `precision`.

    Raises:
        SketchstackError: there is no such learner or fold; it is not trained yet, or with other params or words.
    """
    others(params.folds, held_out)  # refuses an unknown fold
    learner_class(learner_of(name))  # its error for an unknown name is clearer than that of the params
    block = params.learner(learner_of(name))
    folder = model_folder(name, held_out)
    if not folder.exists():
        raise SketchstackError(
            f"{folder} does not exist, so {name} has not been trained without fold {held_out}; run `dvc repro`."
        )
    read_predictions(folder, words=words, learner_hash=params.learner_hash(name))
    set_threads(params.threads)
    block = block.model_copy(update={"training": block.training.model_copy(update=training)})
    seed = (params.seed, held_out)
    learner = load_learner(learner_of(name), block, num_words=len(words), seed=seed, threads=params.threads)
    learner.load(folder)
    return learner


def fit_and_predict(
    learner: Learner,
    training: Shards,
    params: Params,
    name: str,
    held_out: int,
    made_from: Mapping[str, str] | None = None,
) -> None:
    """Fit a learner; cache its predictions of fold `held_out` and the test set in models/<profile>/base/<name>/fold<k>.

    Several devices fit it together, one process each; the first device predicts and writes.

    Args:
        learner: ready to fit.
        training: the rows to fit it on.
        params: those in force.
        name: of the base learner.
        held_out: the fold that it is not trained on.
        made_from: hashes by name of what `training` depends on besides params and folds; a resume point with other
            hashes is refused.
    """
    set_threads(params.threads)
    words, held_out_rows, test_rows = (
        load_words(places().folds),
        open_folds([held_out]),
        open_shards([places().folds / TEST]),
    )
    rows = cached_share(len(held_out_rows), params) + len(test_rows)
    check_space(model_folder(name, held_out), 2 * rows * len(words), f"caching the predictions of {name}", TOO_LARGE)
    learner.launch(params.devices)
    checkpoint = _checkpoint(params, name, held_out, made_from or {})
    if learner.rank > 0:
        learner.fit(training, checkpoint, f"{name} fold {held_out}", _no_log)
        return
    with alone(model_folder(name, held_out)):
        learner.fit(training, checkpoint, f"{name} fold {held_out}", _curve_log(name, held_out))
        fitted = time.monotonic()
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
                # Test rows have pseudo-labels, not true words.
                trained_on=training.key_id[~np.isin(training.key_id, test_rows.key_id)],
            )
        with whole_file(places().curves / name / f"fold{held_out}.csv") as file:
            _write_curve(file, learner.curve)
        checkpoint.remove()
    # Times go to logs/, not to an output: an output that holds times never has the same hash twice.
    spent = {"fit": round(learner.seconds, 1), "predict": round(time.monotonic() - fitted, 1)}
    note(places().logs / name / f"fold{held_out}" / "seconds.json", spent)
    print(f"{name} fold {held_out}: MAP@3 {metrics['map3']:.4f}, top-1 {metrics['top1']:.4f}", flush=True)


def code_hash(learner: str) -> str:
    """A hash of the code that a learner's training step depends on: see `foundation.fingerprints`."""
    return project().fingerprint("pipeline.training.fitting:fit_and_predict", f"pipeline.learners.{learner}")


def _checkpoint(params: Params, name: str, held_out: int, made_from: Mapping[str, str]) -> Checkpoint:
    anywhere = params.model_copy(update={"devices": 1})  # a run may resume with another number of devices
    libraries = " ".join(f"{name}={version}" for name, version in versions(LIBRARIES).items())
    code, data = code_hash(learner_of(name)), file_hash(places().folds / SUMMARY)
    made = {"params": anywhere.learner_hash(name), "data": data, "code": code, "libraries": libraries, **made_from}
    return Checkpoint(places().checkpoints / name / f"fold{held_out}", made, **params.checkpoints.model_dump())


def _no_log(row: EpochRow) -> None:
    """Log nothing: the first device logs for all."""


def _curve_log(name: str, held_out: int) -> Callable[[EpochRow], None]:
    """Log each epoch to logs/<base learner>/fold<k> through dvclive, as training goes."""
    live: list[Any] = []  # opened with the first epoch

    @luxury
    def log(row: EpochRow) -> None:
        from dvclive import Live

        if not live:
            where = str(places().logs / name / f"fold{held_out}")
            live.append(Live(where, dvcyaml=None, save_dvc_exp=False, report=None, monitor_system=False))
        live[0].step = row.epoch
        for metric in ("learning_rate", "loss", "top1"):
            live[0].log_metric(metric, getattr(row, metric))
        live[0].make_summary()

    return log


def _write_curve(path: Path, curve: list[EpochRow]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(EpochRow._fields)
        writer.writerows([row.epoch, *(float(np.float32(value)) for value in row[1:])] for row in curve)
