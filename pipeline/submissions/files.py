"""The CSV of a submission: writing, reading, and the checks that it must pass before it gets its name.

    key_id,word
    9000003627287624,The_Eiffel_Tower airplane donut

The checks work on the bytes of the file, because a CSV reader accepts faults that Kaggle does not.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.drawings.words import Words, load_words
from pipeline.foundation.artefacts import file_hash
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import load_params
from pipeline.foundation.places import places
from pipeline.foundation.spreadsheets import why_unknown
from pipeline.predictions.metrics import guesses_a_row
from pipeline.raw.columns import parsed_key_id, read_columns, read_key_ids, row_place, written_ids
from pipeline.raw.names import word_of_name
from pipeline.raw.packing import packed_beside

HEADER = "key_id,word"
TRAIN = "train_simplified"


def write_submission(path: Path, key_ids: np.ndarray, guesses: np.ndarray, words: Words) -> None:
    """Write a submission: UTF-8, one line feed per row.

    Args:
        path: the file; it is replaced if it exists.
        key_ids: (N,) int64.
        guesses: (N, 3) labels, best first; (N, 2) where there are two words.
        words: the words of the labels.
    """
    names = np.asarray(words.names, object)[guesses]  # (N, guesses)
    rows = [f"{key_id},{' '.join(row)}" for key_id, row in zip(written_ids(key_ids).tolist(), names, strict=True)]
    path.write_bytes("\n".join([HEADER, *rows, ""]).encode())


def sample_key_ids(sample: Path) -> np.ndarray:
    """The rows that a submission must have, in order: the key_ids of the sample submission, (N,) int64.

    The sample may be packed, as `<name>.zip`, `.gz`, `.bz2`, `.xz` or `.zst`.

    Raises:
        SketchstackError: the file is missing, has no key_id column or no rows, or has an invalid or repeated key_id.
    """
    sample = packed_beside(sample)
    key_ids = read_key_ids(sample, read_columns(sample, ["key_id"])["key_id"])
    if not len(key_ids):
        raise SketchstackError(f"{sample} has no rows; fetch the competition's file again.")
    return key_ids


def known_words(sample: Path) -> frozenset[str]:
    """The allowed words of a guess: the files in train_simplified/ beside the sample, else the words of the folds.

    Both for the profile's own sample, as an archive may hold several words.

    Raises:
        SketchstackError: there are neither such files nor folds.
    """
    listed = words_beside(sample)
    if listed and not (_is_own(sample) and (places().folds / "words.json").is_file()):
        return frozenset(listed.names)
    return frozenset([*(listed.names if listed else ()), *load_words(places().folds).names])


def words_beside(file: Path) -> Words | None:
    """The words that the files in train_simplified/ beside a competition's file are named after; None if none are."""
    files = (file.parent / TRAIN).glob("*.*")
    names = [word for path in files if (word := word_of_name(path.name.removesuffix(".zip")))]
    return Words.from_names(names) if names else None


def _is_own(sample: Path) -> bool:
    """Whether a sample submission is of the profile in force."""
    try:
        return load_params().sample_path.resolve() == sample.resolve()
    except SketchstackError:
        return False


def read_manifests(folder: Path | None = None) -> list[dict[str, Any]]:
    """The manifests of all submissions, best rank first.

    Raises:
        SketchstackError: there are none, or one cannot be read.
    """
    folder, manifests = folder or places().submissions, []
    for path in sorted(folder.glob("*.json")):
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            manifests.append((manifest["rank"], manifest))
        except (ValueError, KeyError, TypeError) as error:
            raise SketchstackError(
                f"{path} is not a manifest ({error!r}); run `dvc repro -f submit`, or move it away if it is yours."
            ) from None
    if not manifests:
        raise SketchstackError(f"{folder}/ holds no submissions; run `dvc repro submit` to write them.")
    return [manifest for _, manifest in sorted(manifests, key=lambda ranked: ranked[0])]


def check_submission(path: Path, key_ids: np.ndarray, words: Collection[str]) -> None:
    """Refuse a submission that is not exactly in the competition's format.

    Args:
        path: the CSV.
        key_ids: (N,) int64 of the sample, in order.
        words: all allowed words.

    Raises:
        SketchstackError: the file is missing, or has faults; each fault is named with the first row that has it.
    """
    try:
        found = faults(path.read_bytes(), key_ids, words)
    except OSError as error:
        raise SketchstackError(f"{path} cannot be read ({error.strerror}); name a submission that exists.") from None
    if found:
        raise SketchstackError(
            f"{path} is not a valid submission: {'; '.join(found)}. A submission is UTF-8 with line feeds, has the "
            f"header {HEADER}, the sample's key_ids in the sample's order, and {guesses_a_row(len(words))} different "
            f"known words per row, separated by one space."
        )


def check_file(file: Path, sample: Path) -> int:
    """Check any submission against any sample, and return its number of rows.

    If a manifest is beside it, its bytes must have the hash in the manifest.

    Raises:
        SketchstackError: the sample cannot be read, or the submission is not valid or was changed.
    """
    key_ids = sample_key_ids(sample)
    check_submission(file, key_ids, known_words(sample))
    manifest = file.with_suffix(".json")
    if (written := _hash_in(manifest)) and written != file_hash(file):
        raise SketchstackError(
            f"{file} is valid, but it is not the file of {manifest}: its SHA-256 is {file_hash(file)}. Run "
            f"`dvc repro -f submit` to write both again, or move the file to another folder."
        )
    return len(key_ids)


def _hash_in(manifest: Path) -> str | None:
    """The SHA-256 in a manifest; None if the file does not exist or is not a manifest."""
    try:
        known = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return known.get("sha256") if isinstance(known, dict) else None


def faults(content: bytes, key_ids: np.ndarray, words: Collection[str]) -> list[str]:
    """The faults of a submission: a phrase per kind of fault, with its first row; empty if valid.

    Args:
        content: the bytes of the CSV.
        key_ids: (N,) int64 of the sample, in order.
        words: all allowed words.
    """
    found = _Faults()
    header, *rows = _lines(content, found) or [""]
    if header != HEADER:
        found.add("header", 0, f"the header is {header!r} instead of {HEADER}")
    spellings = {_loosely(word): word for word in words}
    actual = []  # the key_id of each row; None if it has none
    for number, row in enumerate(rows, 1):
        key_id, guesses = _fields(number, row, found)
        actual.append(key_id)
        _check_guesses(number, guesses, words, spellings, found)
    _check_key_ids(actual, written_ids(key_ids).tolist(), found)
    return found.phrases()


class _Faults:
    """The faults of a file by kind: the first row of each, and the number of rows with it."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._rows: dict[str, int] = {}

    def add(self, kind: str, row: int, phrase: str) -> None:
        self._first.setdefault(kind, f"{row_place(row)}: {phrase}")
        self._rows[kind] = self._rows.get(kind, 0) + 1

    def phrases(self) -> list[str]:
        more = {kind: f" (and {rows - 1} more)" if rows > 1 else "" for kind, rows in self._rows.items()}
        return [f"{first}{more[kind]}" for kind, first in self._first.items()]


def _lines(content: bytes, found: _Faults) -> list[str]:
    """Decode a file and split it into lines; errors in encoding or line ends become faults."""
    if content.startswith(codecs.BOM_UTF8):
        content = content.removeprefix(codecs.BOM_UTF8)
        found.add("encoding", 0, "encoding: the file starts with a byte order mark")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        row = content[: error.start].count(b"\n")
        found.add("encoding", row, f"encoding: byte 0x{content[error.start]:02x} is not UTF-8")
        text = content.decode(errors="replace")
    if "\r" in text:
        row = text[: text.index("\r")].count("\n")
        found.add("line ends", row, "line ends: a carriage return; lines must end with only a line feed")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    if lines[-1]:
        found.add("last line", len(lines) - 1, "line ends: the last line has no line feed")
        return lines
    return lines[:-1]


def _fields(number: int, row: str, found: _Faults) -> tuple[int | None, str | None]:
    """The key_id and the guesses of a line; a missing one is None and becomes a fault."""
    if not row.strip():
        found.add("blank row", number, "the row is blank")
        return None, None
    fields = row.split(",")
    if len(fields) != 2:
        found.add("fields", number, f"{len(fields)} fields instead of key_id and word")
    key_id = parsed_key_id(fields[0])
    if key_id is None:
        found.add("key_id", number, f"key_id {fields[0]!r} is not a 64-bit integer")
    return key_id, fields[1] if len(fields) == 2 else None


def _check_guesses(
    number: int, text: str | None, words: Collection[str], spellings: dict[str, str], found: _Faults
) -> None:
    """Check the guesses of a row: three, or two where there are two words."""
    if text is None:
        return
    guesses, wanted = text.split(), guesses_a_row(len(words))
    if " ".join(guesses) != text:
        found.add("blanks", number, f"blanks other than one space between guesses, in {text!r}")
    if len(guesses) != wanted:
        found.add("guesses", number, f"{len(guesses)} guesses instead of {wanted}, in {text!r}")
    if len(set(guesses)) != len(guesses):
        found.add("twice", number, f"a word is guessed twice, in {text!r}")
    for guess in guesses:
        if guess in words:
            continue
        if known := spellings.get(_loosely(guess)):
            found.add("spelling", number, f"spelling: {guess!r} must be {known}")
        else:
            found.add("unknown word", number, f"unknown word {guess!r}")


def _loosely(word: str) -> str:
    """A word in lower case without spaces, hyphens and underscores, in which lists of words differ."""
    return re.sub(r"[\W_]", "", word.lower())


def _check_key_ids(actual: Sequence[int | None], expected: Sequence[int], found: _Faults) -> None:
    """Check that a file has the expected key_ids once each, in order."""
    hint = why_unknown(key_id for key_id in actual if key_id is not None).strip(" .")
    if len(actual) != len(expected):
        found.add("rows", min(len(actual), len(expected)), f"{len(actual)} rows instead of {len(expected)}")
    asked, seen = set(expected), set[int]()
    common = []  # (row, key_id) of expected rows
    for row, key_id in enumerate(actual, 1):
        if key_id in seen:
            found.add("duplicate", row, f"key_id {key_id} is repeated")
        elif key_id is not None and key_id not in asked:
            found.add("unexpected", row, f"key_id {key_id} is not in the sample{hint and f' ({hint})'}")
        elif key_id is not None:
            seen.add(key_id)
            common.append((row, key_id))
    for row, key_id in enumerate(expected, 1):
        if key_id not in seen:
            found.add("missing", row, f"key_id {key_id}, which the sample has in this row, is missing")
    for (row, key_id), wanted in zip(common, (key_id for key_id in expected if key_id in seen), strict=True):
        if key_id != wanted:
            found.add("order", row, f"order: key_id {key_id} is where the sample has {wanted}")
