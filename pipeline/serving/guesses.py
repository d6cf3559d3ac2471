"""Guesses of drawings as a file: CSV, ndjson, Parquet, or a submission in the competition's format.

| ends in | a row |
|---|---|
| .csv | key_id,word_1,probability_1,word_2,probability_2,word_3,probability_3 |
| .ndjson, .jsonl | {"key_id":"9000003627287624","guesses":[["cat",0.81],["dog",0.1],["cow",0.02]]} |
| .parquet | the columns of the CSV: uint64, strings, float32 |
| submission | key_id,word with three words separated by spaces, as in submissions/ |

Probabilities have six decimals in text. A submission also has the rejected rows whose key_id is known, with the three
words that are guessed most often.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.drawings.words import Words
from pipeline.foundation.errors import SketchstackError
from pipeline.predictions.metrics import guesses_a_row, top3
from pipeline.raw.columns import parsed_key_id, written_ids
from pipeline.serving.rows import Block
from pipeline.submissions.files import HEADER

DIGITS = 6  # of a probability in text
ENDINGS = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".parquet": "parquet"}
FORMATS = ("csv", "ndjson", "parquet", "submission")


def format_of(path: Path, asked: str | None) -> str:
    """The format of a file to write: the one asked for, or that of its ending.

    Raises:
        SketchstackError: none was asked for, and the ending is unknown.
    """
    if asked is None and path.suffix.lower() not in ENDINGS:
        raise SketchstackError(f"{path} does not end in {', '.join(ENDINGS)}; name it so, or add --format.")
    return asked or ENDINGS[path.suffix.lower()]


class Guesses(ABC):
    """A file of guesses that is being written.

    Args:
        path: a new file.
        words: of the columns of probabilities.
    """

    def __init__(self, path: Path, words: Words) -> None:
        self.path, self.words = path, words
        self.names = np.asarray(words.names, object)

    def add(self, block: Block, probabilities: np.ndarray) -> None:
        """Write the guesses of a block, from its probabilities (N, num_words)."""
        labels = top3(probabilities)
        values = np.take_along_axis(np.asarray(probabilities, np.float32), labels, axis=1)
        self.write(block, labels, values)

    @abstractmethod
    def write(self, block: Block, labels: np.ndarray, values: np.ndarray) -> None:
        """Write rows with their labels and probabilities, both (N, guesses), best first."""

    @abstractmethod
    def close(self) -> None:
        """Write what is left, and close the file."""


class _Text(Guesses):
    header: str

    def __init__(self, path: Path, words: Words) -> None:
        super().__init__(path, words)
        self.file = path.open("w", encoding="utf-8", newline="\n")
        self.file.write(self.header)

    def close(self) -> None:
        self.file.close()


class Csv(_Text):
    """See the module."""

    def __init__(self, path: Path, words: Words) -> None:
        self.header = f"key_id,{','.join(_columns(words))}\n"
        super().__init__(path, words)

    def write(self, block: Block, labels: np.ndarray, values: np.ndarray) -> None:
        """See `Guesses`."""
        ids = written_ids(block.drawings.key_id).tolist()
        for key_id, words, numbers in zip(ids, self.names[labels].tolist(), values.tolist(), strict=True):
            pairs = (f"{word},{number:.{DIGITS}f}" for word, number in zip(words, numbers, strict=True))
            self.file.write(f"{key_id},{','.join(pairs)}\n")


class Ndjson(_Text):
    """See the module. A key_id is text: many readers of JSON round large integers."""

    header = ""

    def write(self, block: Block, labels: np.ndarray, values: np.ndarray) -> None:
        """See `Guesses`."""
        ids = written_ids(block.drawings.key_id).tolist()
        for key_id, words, numbers in zip(ids, self.names[labels].tolist(), values.tolist(), strict=True):
            pairs = [[word, round(number, DIGITS)] for word, number in zip(words, numbers, strict=True)]
            row = {"key_id": str(key_id), "guesses": pairs}
            self.file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


class Parquet(Guesses):
    """See the module."""

    def __init__(self, path: Path, words: Words) -> None:
        super().__init__(path, words)
        kinds = {"word": pa.string(), "probability": pa.float32()}
        columns = [(name, kinds[name.rpartition("_")[0]]) for name in _columns(words)]
        self.schema = pa.schema([("key_id", pa.uint64()), *columns])
        self.writer = pq.ParquetWriter(path, self.schema)

    def write(self, block: Block, labels: np.ndarray, values: np.ndarray) -> None:
        """See `Guesses`."""
        columns: list[np.ndarray] = [written_ids(block.drawings.key_id)]
        for place in range(labels.shape[1]):
            columns += [self.names[labels[:, place]], values[:, place]]
        self.writer.write_table(pa.table(list(map(pa.array, columns)), schema=self.schema))

    def close(self) -> None:
        """See `Guesses`."""
        self.writer.close()


class Submission(_Text):
    """See the module. The rejected rows are entered at the end, when the words guessed most often are known."""

    header = f"{HEADER}\n"

    def __init__(self, path: Path, words: Words) -> None:
        super().__init__(path, words)
        self.counts = np.zeros(len(words), np.int64)
        self.rows = 0
        self.missing: list[tuple[int, int]] = []  # rows before each rejected one, and its key_id

    def write(self, block: Block, labels: np.ndarray, values: np.ndarray) -> None:
        """See `Guesses`."""
        self.counts += np.bincount(labels.ravel(), minlength=len(self.words))
        ids = written_ids(block.drawings.key_id).tolist()
        for key_id, words in zip(ids, self.names[labels].tolist(), strict=True):
            self.file.write(f"{key_id},{' '.join(words)}\n")
        for number, reject in block.rejects:
            if (key_id := parsed_key_id(reject.key_id)) is not None:
                before = (block.order[:, 0] < number) | (
                    (block.order[:, 0] == number) & (block.order[:, 1] < reject.line)
                )
                self.missing.append((self.rows + int(before.sum()), key_id))
        self.rows += len(ids)

    def close(self) -> None:
        """See `Guesses`."""
        super().close()
        if not self.missing:
            return
        commonest = np.argsort(-self.counts, kind="stable")[: guesses_a_row(len(self.words))]
        words, waiting, copy = " ".join(self.names[commonest]), iter(self.missing), self.path.with_suffix(".whole")
        place, key_id = next(waiting, (-1, 0))
        with self.path.open(encoding="utf-8", newline="") as given, copy.open("w", encoding="utf-8", newline="") as out:
            out.write(next(given))
            for row in range(self.rows + 1):
                while place == row:
                    out.write(f"{key_id},{words}\n")
                    place, key_id = next(waiting, (-1, 0))
                if row < self.rows:
                    out.write(next(given))
        copy.replace(self.path)


def _columns(words: Words) -> list[str]:
    """The columns after key_id."""
    places = range(1, guesses_a_row(len(words)) + 1)
    return [f"{what}_{place}" for place in places for what in ("word", "probability")]


KINDS: dict[str, type[Guesses]] = {"csv": Csv, "ndjson": Ndjson, "parquet": Parquet, "submission": Submission}


def opened(kind: str, path: Path, words: Words) -> Guesses:
    """A new file of guesses in a format of FORMATS."""
    return KINDS[kind](path, words)
