"""Stage `pseudo`, the second round: fit a learner again, with test drawings under pseudo-labels of a teacher.

The held-out fold does not leak into training: the pseudo-labels come from the teacher's model of the same held-out
fold, and test drawings that duplicate a drawing of that fold are left out. So out-of-fold scores are of unseen
drawings, as in the first round. The test drawings with pseudo-labels are seen in training.

After Lee, Pseudo-Label (2013); labels are assigned once, and only where the teacher's probability is high.
"""

from __future__ import annotations

import hashlib

import numpy as np

from pipeline.drawings.copies import point_hashes
from pipeline.drawings.shards import NO_LABEL, TEST, Shard, Shards, offsets, open_shards
from pipeline.drawings.words import Words, load_words
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import PSEUDO, Params
from pipeline.foundation.places import places
from pipeline.predictions.cache import cached_share, model_folder, read_predictions, rows_hash
from pipeline.training.fitting import fit_and_predict, open_folds, others, ready_learner

LOWER = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)  # thresholds that the error message suggests


def pseudo(params: Params, name: str, held_out: int) -> None:
    """Fit learner `name` on all folds except `held_out` and on pseudo-labelled test drawings; cache its predictions.

    Raises:
        SketchstackError: pseudo.learners does not name the learner, the teacher's predictions are missing or not of
            that fold, or no test drawing reaches the confidence.
    """
    if name not in params.pseudo.learners:
        raise SketchstackError(
            f"params.yaml: pseudo.learners does not name {name!r}; it names "
            f"{', '.join(params.pseudo.learners) or 'none'}."
        )
    learner = ready_learner(params, name, held_out)
    known = open_folds(others(params.folds, held_out))
    labels = taught_labels(params, held_out, load_words(places().folds))
    taken = relabelled(open_shards([places().folds / TEST]), labels)
    print(
        f"{name}{PSEUDO} fold {held_out}: {len(taken):,} of {len(labels):,} test drawings beside {len(known):,} of "
        f"the other folds, under {params.pseudo.teacher}'s words",
        flush=True,
    )
    made_from = {"pseudo-labels": hashlib.sha256(labels.tobytes()).hexdigest()}
    fit_and_predict(learner, Shards([*known.shards, *taken.shards]), params, name + PSEUDO, held_out, made_from)


def taught_labels(params: Params, held_out: int, words: Words) -> np.ndarray:
    """The teacher's labels of the test drawings (T,) int16; NO_LABEL for drawings that are not used in training.

    Raises:
        SketchstackError: as `pseudo`.
    """
    unseen, test = open_folds([held_out]), open_shards([places().folds / TEST])
    probabilities = teacher_probabilities(params, held_out, words, unseen, test)
    copied = np.isin(point_hashes(test), point_hashes(unseen))
    labels = sure_labels(probabilities, params.pseudo.confidence)
    labels[copied] = NO_LABEL
    if (labels == NO_LABEL).all():
        raise SketchstackError(_no_sure_drawing(params, held_out, probabilities.max(axis=1)[~copied]))
    return labels


def sure_labels(probabilities: np.ndarray, confidence: float) -> np.ndarray:
    """The likeliest labels (N,) int16 by probabilities (N, num_words); NO_LABEL where they are below `confidence`."""
    sure = probabilities.max(axis=1).astype(np.float32) >= confidence
    return np.where(sure, probabilities.argmax(axis=1), NO_LABEL).astype(np.int16)


def teacher_probabilities(params: Params, held_out: int, words: Words, unseen: Shards, test: Shards) -> np.ndarray:
    """Predictions of the teacher's model of a held-out fold for the test drawings, (T, num_words) float16.

    Args:
        params: those in force.
        held_out: the fold.
        words: of the columns.
        unseen: all drawings of the held-out fold.
        test: the test drawings.

    Raises:
        SketchstackError: the predictions are missing, stale or failed, or the model has another held-out fold.
    """
    teacher = params.pseudo.teacher
    folder = model_folder(teacher, held_out)
    found = read_predictions(folder, words=words, learner_hash=params.learner_hash(teacher))
    if not np.array_equal(found.rows, unseen.first(cached_share(len(unseen), params)).key_id):
        raise SketchstackError(
            f"{folder}: rows.npy is not of fold {held_out}, so this model may have been trained on that fold; remove "
            f"the folder and run `dvc repro`."
        )
    if found.metrics["hashes"]["test_rows"] != rows_hash(test.key_id) or len(found.test) != len(test):
        raise SketchstackError(f"{folder}: test.npy is not of the rows in {places().folds / TEST}; run `dvc repro`.")
    if not np.isfinite(found.test).all():
        raise SketchstackError(
            f"{folder}: a prediction failed, because test.npy has values that are not finite; remove the folder and "
            f"run `dvc repro`."
        )
    return found.test


def _no_sure_drawing(params: Params, held_out: int, best: np.ndarray) -> str:
    """The error text when no test drawing reaches the confidence: the reason, and the share at lower thresholds.

    Args:
        params: those in force.
        held_out: the fold.
        best: (T,) highest probability of each test drawing.
    """
    highest = f"its highest probability is {best.max():.3f}" if len(best) else "all duplicate drawings of that fold"
    shares = {level: np.mean(best >= level) for level in LOWER if len(best) and best.max() >= level}
    told = ", ".join(f"{level} would take {share:.2%}" for level, share in list(shares.items())[:3])
    return (
        f"params.yaml: {params.pseudo.teacher} gives no test drawing a probability of pseudo.confidence "
        f"({params.pseudo.confidence}) with fold {held_out} held out: {highest}{'; ' if told else ''}{told}. Lower "
        f"pseudo.confidence, or empty pseudo.learners to leave out the second round."
    )


def relabelled(shards: Shards, labels: np.ndarray) -> Shards:
    """New shards of the drawings that have a label, with this label. The points are copied.

    Args:
        shards: all drawings.
        labels: (rows,) int16; NO_LABEL for drawings to leave out.
    """
    ends = np.cumsum([len(shard) for shard in shards.shards])
    return Shards([_kept(shard, own) for shard, own in zip(shards.shards, np.split(labels, ends[:-1]), strict=True)])


def _kept(shard: Shard, labels: np.ndarray) -> Shard:
    rows = np.flatnonzero(labels != NO_LABEL)
    points, strokes = (_elements(starts, rows) for starts in (shard.points, shard.strokes))
    return Shard(
        key_id=shard.key_id[rows],
        word=labels[rows],
        x=shard.x[points],
        y=shard.y[points],
        t=shard.t[points] if shard.timed else shard.t,
        stroke=shard.stroke[strokes],
        points=offsets(np.diff(shard.points)[rows]),
        strokes=offsets(np.diff(shard.strokes)[rows]),
    )


def _elements(starts: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Positions in a flat list of the elements of some rows, row by row; row n has starts[n]..starts[n + 1] - 1."""
    lengths = np.diff(starts)[rows]
    moved = starts[rows] - offsets(lengths)[:-1]
    return np.repeat(moved, lengths) + np.arange(lengths.sum())
