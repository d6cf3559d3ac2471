"""The sections about words and drawings: confused words, hard drawings, disputed drawings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import cv2
import numpy as np

from pipeline.drawings.pictures import drawn
from pipeline.predictions.metrics import CHUNK, precision_at_3
from pipeline.raw.columns import written_id
from pipeline.report.blocks import Block, Missing, Paragraph, Picture, Pictures, Table
from pipeline.report.run import Run
from pipeline.stacking.scoreboard import SUPER, mistakes

PAIRS = 6  # most confused pairs of words
EACH = 3  # drawings per direction of a pair
SHOWN = 18  # drawings per section
NAMED = 6  # learners whose guesses stand below a drawing; of more learners, that many guesses with their counts


def words(run: Run) -> list[Block]:
    """Each word's score, the worst first, and its most frequent wrong guess."""
    side = run.guesses(SUPER)
    precision, first = precision_at_3(side.guesses, side.labels), side.guesses[:, 0]
    counts = np.bincount(run.labels, minlength=len(run.words))
    means = np.bincount(run.labels, precision, len(run.words)) / np.maximum(counts, 1)
    right = np.bincount(run.labels, first == run.labels, len(run.words)) / np.maximum(counts, 1)
    taken = mistakes(first, run.labels, len(run.words))
    rows = []
    for label in np.argsort(means, kind="stable"):
        other = int(taken[label].argmax())
        confused = f"{run.words.names[other]} ({taken[label, other] / max(counts[label], 1):.0%})"
        rows.append(
            [
                run.words.names[label],
                f"{means[label]:.4f}" if counts[label] else "no rows",
                confused if taken[label, other] else "",
                f"{right[label]:.4f}" if counts[label] else "",
                f"{counts[label]:,}",
            ]
        )
    caption = "Average precision of each word by the SuperLearner, out of fold, the worst first."
    columns = ["word", "MAP@3", "most taken for", "top-1", "rows"]
    return [Table(caption, columns, rows, wide=True, left=frozenset({2}))]


def confused_pairs(run: Run) -> list[Block]:
    """The most confused pairs of words, with drawings of each confusion."""
    taken = mistakes(run.guesses(SUPER).guesses[:, 0], run.labels, len(run.words))
    both = np.triu(taken + taken.T)
    order = np.argsort(-both, axis=None, kind="stable")[:PAIRS]
    blocks: list[Block] = []
    sure = run.of_true_word(SUPER)
    for number, (one, other) in enumerate(zip(*np.unravel_index(order, both.shape), strict=True), 1):
        if not both[one, other]:
            break
        rows = [row for true, guessed in ((one, other), (other, one)) for row in _surest(run, true, guessed, sure)]
        names = run.words.names[one], run.words.names[other]
        caption = (
            f"{names[0]} and {names[1]}: {taken[one, other]:,} drawings of {names[0]} are taken for {names[1]}, "
            f"{taken[other, one]:,} of {names[1]} for {names[0]}."
        )
        blocks.append(Pictures(f"pair{number}", caption, pictures(run, rows)))
    return blocks or [Missing("No first guess is wrong, so there is no confused pair.")]


def _surest(run: Run, true: int, guessed: int, sure: np.ndarray) -> list[int]:
    """Rows of a word with a given wrong first guess; the least probability of the true word first."""
    found = np.flatnonzero((run.labels == true) & (run.guesses(SUPER).guesses[:, 0] == guessed))
    return [int(row) for row in found[np.argsort(sure[found], kind="stable")][:EACH]]


def hardest(run: Run) -> list[Block]:
    """Rows whose true word has the least probability by the SuperLearner."""
    sure = run.of_true_word(SUPER)
    rows = np.argsort(sure, kind="stable")[:SHOWN]
    caption = "Drawings whose word the SuperLearner finds least likely. Some are hard, some are mislabelled."
    return [Pictures("hard", caption, pictures(run, rows.tolist()))]


def disputed(run: Run) -> list[Block]:
    """Rows on which the learners disagree most, each with high confidence: by the Jensen-Shannon divergence."""
    names = run.readable(run.learners)
    if len(names) < 2:
        return [Missing("Disputed drawings need the predictions of two learners.")]
    rows = np.argsort(-divergence(run, names), kind="stable")[:SHOWN]
    return [
        Paragraph("Each learner is sure of another word: the largest Jensen-Shannon divergence."),
        Pictures(
            "disputed", "Each with its word and the learners' first guesses.", pictures(run, rows.tolist(), names)
        ),
    ]


def divergence(run: Run, names: Sequence[str]) -> np.ndarray:
    """The Jensen-Shannon divergence of the learners' probabilities of each OOF row, (N,) float64, in nats."""
    found, at = np.empty(len(run.labels)), 0
    for parts in zip(*(run.oof(name) for name in names), strict=True):
        for start in range(0, len(parts[0]), CHUNK):
            P = np.stack([np.asarray(part[start : start + CHUNK], np.float32) for part in parts])
            each = entropy(P).mean(axis=0)
            found[at : at + P.shape[1]] = entropy(P.mean(axis=0)) - each
            at += P.shape[1]
    return found


def entropy(P: np.ndarray) -> np.ndarray:
    """Entropy in nats over the last axis."""
    return -(P * np.log(np.maximum(P, np.float32(1e-12)))).sum(axis=-1)


def pictures(run: Run, rows: Sequence[int], names: Sequence[str] = ()) -> list[Picture]:
    """Drawings with their word and the SuperLearner's three guesses, or the first guesses of the named learners.

    Of more than NAMED learners, how many make each of the most frequent guesses.
    """
    drawings = drawn(run.shards.take(np.asarray(rows, np.int64)))
    return [Picture(_png(drawing), *_said(run, row, names)) for row, drawing in zip(rows, drawings, strict=True)]


def _said(run: Run, row: int, names: Sequence[str]) -> tuple[str, list[str]]:
    word, key_id = run.words.names[run.labels[row]], written_id(run.guesses(SUPER).key_ids[row])
    if len(names) > NAMED:
        taken = Counter(run.words.names[run.guesses(name).guesses[row, 0]] for name in names)
        lines = [f"{guess}: {count} of {len(names)}" for guess, count in taken.most_common(NAMED)]
    elif names:
        lines = [f"{name}: {run.words.names[run.guesses(name).guesses[row, 0]]}" for name in names]
    else:
        lines = [f"{place}. {run.words.names[label]}" for place, label in enumerate(run.guesses(SUPER).guesses[row], 1)]
    return f"A drawing of {word}; guessed {', '.join(lines)}", [word, *lines, f"key_id {key_id}"]


def _png(picture: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", picture)[1])
