"""Stage `pseudo`, the second round: fit a learner once more, on test drawings too, under a teacher's words.

Nothing of the held-out fold flows into what is fitted. The words come from the teacher's model that did not see that
fold either, and a test drawing that is a copy of one of the fold's drawings is left out. So the out-of-fold score is
that of drawings which the model has never seen, as in the first round; test drawings that were taken it has seen.

After Lee, Pseudo-Label (2013), with the labels given once, and only to drawings of which the teacher is sure.
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

LOWER = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)  # to tell of, where the teacher is not sure enough


def pseudo(params: Params, name: str, held_out: int) -> None:
    """Fit learner `name` on all folds but `held_out` and on sure test drawings; cache what it predicts.

    Raises:
        SketchstackError: no second round of that learner is asked for, the teacher's predictions are missing or not
            of that fold, or it is sure of no test drawing.
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
    """The teacher's labels of the test drawings (T,) int16; NO_LABEL of those that are not to be trained on.

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
    """What the teacher's model that did not see the held-out fold says of the test drawings, (T, num_words) float16.

    Args:
        params: those in force.
        held_out: the fold.
        words: what the columns stand for.
        unseen: all its drawings.
        test: the test drawings.

    Raises:
        SketchstackError: the predictions are missing, stale or failed, or the model left another fold out.
    """
    teacher = params.pseudo.teacher
    folder = model_folder(teacher, held_out)
    found = read_predictions(folder, words=words, learner_hash=params.learner_hash(teacher))
    if not np.array_equal(found.rows, unseen.first(cached_share(len(unseen), params)).key_id):
        raise SketchstackError(
            f"{folder}: rows.npy is not of fold {held_out}, so that model may have been trained on the fold that it "
            f"must not have seen; remove the folder and run `dvc repro`."
        )
    if found.metrics["hashes"]["test_rows"] != rows_hash(test.key_id) or len(found.test) != len(test):
        raise SketchstackError(f"{folder}: test.npy is of other rows than {places().folds / TEST}; run `dvc repro`.")
    if not np.isfinite(found.test).all():
        raise SketchstackError(
            f"{folder}: test.npy has numbers that are none, so a prediction failed; remove the folder and run "
            f"`dvc repro`."
        )
    return found.test


def _no_sure_drawing(params: Params, held_out: int, best: np.ndarray) -> str:
    """Why nothing is taken, and what lower thresholds would take, of test drawings with these best probabilities."""
    highest = f"its highest probability is {best.max():.3f}" if len(best) else "they are all copies of drawings in it"
    shares = {level: np.mean(best >= level) for level in LOWER if len(best) and best.max() >= level}
    told = ", ".join(f"{level} would take {share:.2%}" for level, share in list(shares.items())[:3])
    return (
        f"params.yaml: of no test drawing is {params.pseudo.teacher} as sure as pseudo.confidence "
        f"({params.pseudo.confidence}) with fold {held_out} held out: {highest}{'; ' if told else ''}{told}. Lower it, "
        f"or empty pseudo.learners to leave the second round out."
    )


def relabelled(shards: Shards, labels: np.ndarray) -> Shards:
    """The drawings that have a label, under it, in shards of their own. Their points are copied.

    Args:
        shards: all drawings.
        labels: (rows,) int16; NO_LABEL of those to leave out.
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
    """Where the elements of some rows stand in a flat list, row after row; row n has starts[n]..starts[n + 1] - 1."""
    lengths = np.diff(starts)[rows]
    moved = starts[rows] - offsets(lengths)[:-1]
    return np.repeat(moved, lengths) + np.arange(lengths.sum())
