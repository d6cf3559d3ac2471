"""The CSVs of a competition as Kaggle writes them: line feeds, quotes only around fields with commas."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.drawings.words import Words, spell

TRAIN_COLUMNS = ("countrycode", "drawing", "key_id", "recognized", "timestamp", "word")
TEST_COLUMNS = ("key_id", "countrycode", "drawing")
ANSWER_COLUMNS = ("key_id", "word")


class KaggleRow(NamedTuple):
    """A drawing of a competition; its first fields are TEST_COLUMNS, and `word` may have blanks."""

    key_id: int
    countrycode: str
    drawing: str
    recognized: bool
    timestamp: str
    word: str


def write_training_file(path: Path, rows: Iterable[KaggleRow]) -> None:
    """Write the training file of a word."""
    _write(path, TRAIN_COLUMNS, ([getattr(row, name) for name in TRAIN_COLUMNS] for row in rows))


def write_test_files(
    rows: Iterable[KaggleRow], words: Iterable[str], *, test: Path, sample: Path, labels: Path | None
) -> None:
    """Write the test drawings, the sample submission and the true words, all in order of key_id as on Kaggle.

    Args:
        rows: the test set.
        words: of the competition; the sample submission guesses the first three.
        test, sample: the files.
        labels: the file of the true words; None for none.
    """
    ordered = sorted(rows)
    guesses = " ".join(Words.from_names(words).names[:3])
    _write(test, TEST_COLUMNS, (row[:3] for row in ordered))
    _write(sample, ANSWER_COLUMNS, ((row.key_id, guesses) for row in ordered))
    if labels:
        _write(labels, ANSWER_COLUMNS, ((row.key_id, spell(row.word)) for row in ordered))


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
