"""corrections.csv: decisions about reviewed rows of the raw files. It is in git.

    folder,key_id,word,becomes
    data/mini,4793334654566400,vase,house_plant     the drawing shows another word
    data/mini,5316366879948800,skull,drop           the drawing shows nothing
    data/mini,6050793658515456,streetlight,keep     the word is right

shuffle applies the lines of the folder that it reads, so corrections are an input of the run. The raw files are not
changed.
"""

from __future__ import annotations

import csv
import fcntl
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.drawings.spellings import Spellings
from pipeline.drawings.words import Words, spell
from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.spreadsheets import cell_text, safe_row, why_unknown
from pipeline.raw.columns import parsed_key_id, read_columns, row_place, stored_id, written_id

CORRECTIONS = Path("corrections.csv")
DROP, KEEP = "drop", "keep"
DROPPED = -2  # instead of a label; -1 is an unknown label


class Correction(NamedTuple):
    """A line of corrections.csv.

    Attributes:
        folder: of the raw files, as in params.yaml.
        key_id: of the row, as files spell it.
        word: of the row, in Kaggle's spelling.
        becomes: the word that the drawing shows, or `drop` or `keep`.
    """

    folder: str
    key_id: int
    word: str
    becomes: str


@dataclass(frozen=True)
class Corrected:
    """The corrections of one folder that change a row, by key_id.

    Attributes:
        key_ids: (C,) int64 as the shards store them, ascending.
        labels: (C,) int64 labels of the rows in the raw files.
        becomes: (C,) int64 corrected labels, or DROPPED.
    """

    key_ids: np.ndarray
    labels: np.ndarray
    becomes: np.ndarray

    def __len__(self) -> int:
        return len(self.key_ids)

    def find(self, key_ids: np.ndarray, label: int) -> tuple[np.ndarray, np.ndarray]:
        """Which of the rows of a label are corrected, and the number of the correction of each, both (n,) int64."""
        if not len(self):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        numbers = np.minimum(np.searchsorted(self.key_ids, key_ids), len(self) - 1)
        found = np.flatnonzero((self.key_ids[numbers] == key_ids) & (self.labels[numbers] == label))
        return found, numbers[found]


def read_corrections(path: Path = CORRECTIONS) -> list[Correction]:
    """All corrections; empty if there is no file.

    Raises:
        SketchstackError: the file is not a CSV with these columns, a key_id is not an integer or is repeated, or a
            field is blank.
    """
    if not path.exists():
        return []
    columns = read_columns(path, Correction._fields)
    found: dict[tuple[str, int], Correction] = {}
    for row, texts in enumerate(zip(*(columns[name] for name in Correction._fields), strict=True), 1):
        folder, text, word, becomes = (cell_text(each.strip()) for each in texts)
        key_id = parsed_key_id(text)
        if key_id is None or not folder or not word or not becomes:
            raise SketchstackError(
                f"{path} {row_place(row)} is not a correction: {','.join(texts)!r}; write a folder, a key_id from "
                f"0 to 2^64 - 1, the word of the row, and the word that the drawing shows, `{DROP}` or `{KEEP}`."
            )
        if (folder, key_id) in found:
            raise SketchstackError(
                f"{path} {row_place(row)} corrects {key_id} of {folder} again; remove one of the two."
            )
        found[folder, key_id] = Correction(folder, key_id, spell(word), spell(becomes))
    return list(found.values())


def corrections_of(folder: str, words: Words, every: bool, path: Path = CORRECTIONS) -> Corrected:
    """The corrections of a folder as labels.

    Args:
        folder: of the raw files.
        words: of the competition. Rows of other words are ignored; a row that shows another word is dropped.
        every: whether the competition has every word of the folder; then an unknown word is an error.
        path: the file.

    Raises:
        SketchstackError: the file is broken, or `every` is set and a word is unknown.
    """
    changes = []
    named = sorted({DROP, KEEP} & set(words.names))
    spellings = Spellings([*words.names, DROP, KEEP])
    for number, written in enumerate(read_corrections(path), 1):
        if written.folder != folder:
            continue
        if named:
            raise SketchstackError(f"{path} cannot be read for {folder}: {named[0]!r} is one of its words; rename it.")
        each = written._replace(
            word=spellings.find(written.word) or written.word,
            becomes=spellings.find(written.becomes) or written.becomes,
        )
        for word in (each.word, each.becomes):
            if every and word not in words.index and word not in (DROP, KEEP):
                raise SketchstackError(
                    f"{path} {row_place(number)}: {folder} has no word {word!r}; write one of its {len(words)} words "
                    f"(similar: {spellings.similar(word)}), `{DROP}` or `{KEEP}`."
                )
        if each.word in words.index and each.becomes not in (KEEP, each.word):
            changes.append((stored_id(each.key_id), words.index[each.word], words.index.get(each.becomes, DROPPED)))
    columns = np.array(sorted(changes), np.int64).reshape(-1, 3)
    return Corrected(columns[:, 0], columns[:, 1], columns[:, 2])


def check_found(corrected: Corrected, found: Sequence[int], folder: str, words: Words) -> None:
    """Refuse corrections of rows that do not exist.

    Args:
        corrected: of the folder.
        found: numbers of the corrections whose row was found.
        folder: of the raw files.
        words: the words of the labels.

    Raises:
        SketchstackError: names the first such correction, and their number.
    """
    missing = np.setdiff1d(np.arange(len(corrected)), found)
    if len(missing):
        key_id, word = written_id(int(corrected.key_ids[missing[0]])), words.names[corrected.labels[missing[0]]]
        raise SketchstackError(
            f"{CORRECTIONS} corrects key_id {key_id} of the word {word!r}, but {folder} has no such readable row "
            f"({len(missing)} such lines); remove these lines, or restore the raw files with these rows."
            f"{why_unknown(corrected.key_ids[missing].tolist())}"
        )


def record(corrections: Iterable[Correction], path: Path = CORRECTIONS) -> int:
    """Add corrections to the file, replacing earlier ones of the same rows; returns the number of changed lines.

    The file is written atomically, sorted by folder and key_id; concurrent processes do not lose lines.
    """
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        before = {each[:2]: each for each in read_corrections(path)}
        after = before | {each[:2]: each for each in corrections}
        with whole_file(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(Correction._fields)
            writer.writerows(map(safe_row, sorted(after.values())))
        return sum(before.get(row) != each for row, each in after.items())
    finally:
        os.close(folder)
