"""Raw competition files, row by row: Kaggle's simplified CSV and Google's simplified ndjson.

A row is a line, so a broken quote spoils its own row and no other. What is wrong with a row becomes a Reject; what is
wrong with a file stops the stage.
"""

from __future__ import annotations

import csv
import datetime
import difflib
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import SketchstackError
from pipeline.params import Params
from pipeline.strokes import BadDrawingError, Strokes, check_drawing, parse_drawing
from pipeline.words import Words, spell

COLUMNS = ("key_id", "drawing")  # what no file can do without
TRAINING_COLUMNS = (*COLUMNS, "word")
FIRST = 3  # rows that speak for their file
LONGEST = 80  # characters of a field that a reject repeats
INT64 = range(-(2**63), 2**63)
COUNTRY = re.compile(r"[A-Z]{2}")
STAMP = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
INTEGER = re.compile(r"-?[0-9]{1,19}")  # int() would also read 1_0 and other scripts' digits
csv.field_size_limit(2**26)  # raw drawings reach megabytes


class RawFile(NamedTuple):
    """A file of drawings: its path, its number among all files, and its word as Kaggle spells it (None: test)."""

    path: Path
    number: int
    word: str | None


class Reject(NamedTuple):
    """A row that was left out, as in rejects.csv. `line` counts from 1, the header included."""

    file: str
    line: int
    key_id: str
    reason: str


class Row(NamedTuple):
    """A row of a raw file, parsed and checked."""

    line: int
    key_id: int
    countrycode: str | None
    recognized: bool | None
    timestamp: datetime.datetime | None
    strokes: Strokes


def training_files(params: Params) -> tuple[Words, list[RawFile]]:
    """The words and their files.

    Raises:
        SketchstackError: the folder is missing or empty, or `shuffle.words` names a word that has no file.
    """
    folder = Path(params.data.folder, params.data.train)
    if not folder.is_dir():
        raise SketchstackError(
            f"the folder {folder} is missing; fetch it with `make data NAME={params.profile}`, or name another in "
            "params.yaml under data."
        )
    paths = _paths_by_word(folder)
    if not paths:
        raise SketchstackError(f"{folder} holds no <word>.csv or <word>.ndjson; fetch the files with `make data`.")
    wanted = set(paths) if params.shuffle.words == "all" else {spell(word) for word in params.shuffle.words}
    for word in sorted(wanted - set(paths)):
        near = ", ".join(difflib.get_close_matches(word, paths, 3)) or "no word like it"
        raise SketchstackError(f"params.yaml, shuffle.words: unknown word {word!r}; {folder} has {near}.")
    words = Words.from_names(wanted)
    if len(words) < 2:
        raise SketchstackError(
            f"{folder} with shuffle.words gives {len(words)} of the two words that a competition needs at least; "
            "name more in params.yaml, or fetch the files again with `make data`."
        )
    return words, [RawFile(paths[word], number, word) for number, word in enumerate(words.names)]


def _paths_by_word(folder: Path) -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        if path.suffix in (".gz", ".zip"):
            raise SketchstackError(f"{path} is packed; unpack it first, for instance with gunzip or unzip.")
        if path.suffix not in (".csv", ".ndjson"):
            continue
        twin = paths.setdefault(spell(path.stem), path)
        if twin != path:
            raise SketchstackError(
                f"{folder} has {twin.name} and {path.name}, two files of one word; remove one of them."
            )
    return paths


def test_file(params: Params, number: int) -> RawFile:
    """The file of test drawings.

    Raises:
        SketchstackError: it is missing.
    """
    path = Path(params.data.folder, params.data.test)
    if not path.is_file():
        raise SketchstackError(f"the test file {path} is missing; fetch it with `make data NAME={params.profile}`.")
    return RawFile(path, number, None)


def read_rows(raw: RawFile) -> Iterator[Row | Reject]:
    """Every row of a file in order: parsed, or as a reject with its reason. Blank lines are no rows.

    Raises:
        SketchstackError: the file cannot be read as a whole: no rows, a column is missing, another word's file.
    """
    records = (_ndjson_records if raw.path.suffix == ".ndjson" else _csv_records)(raw)
    first = list(itertools.islice(records, FIRST))
    if not first:
        raise SketchstackError(f"{raw.path} has no rows; fetch it again with `make data`, or leave its word out.")
    _check_file(raw, [(line, record) for line, record in first if isinstance(record, dict)])
    for line, record in itertools.chain(first, records):
        try:
            yield _checked(line, record, raw.word)
        except BadDrawingError as error:
            key_id = record.get("key_id", "") if isinstance(record, dict) else ""
            yield Reject(str(raw.path), line, str(key_id)[:LONGEST], str(error))


def _check_file(raw: RawFile, first: list[tuple[int, dict[str, Any]]]) -> None:
    """Stop if the first records all lack a field or are all of another word: then it is the file that is wrong."""
    for field in TRAINING_COLUMNS if raw.word else COLUMNS:
        if first and all(field not in record for _, record in first):
            raise _missing_field(raw, first[0][0], field, first[0][1])
    if raw.word and first and all(spell(str(record["word"])) != raw.word for _, record in first if "word" in record):
        line, record = first[0]
        raise SketchstackError(
            f"{raw.path}, line {line}: the word is {record.get('word')!r}, but the file's name says {raw.path.stem!r}; "
            "rename the file after its word, or fetch it again with `make data`."
        )


def _missing_field(raw: RawFile, line: int, field: str, fields: Iterable[str]) -> SketchstackError:
    return SketchstackError(
        f"{raw.path}, line {line}: the column {field!r} is missing; there are {', '.join(fields) or 'none'}. "
        "Fetch the file again with `make data`."
    )


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, numbered from 1."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line


def _csv_records(raw: RawFile) -> Iterator[tuple[int, dict[str, str] | str]]:
    """Each line after the header as a dict by column, or the reason why it is none."""
    lines = _lines(raw.path)
    _, header = next(lines, (1, b""))
    try:
        columns = next(csv.reader([header.decode("utf-8-sig")]), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise SketchstackError(
            f"{raw.path}, line 1: the header is not CSV in UTF-8 with lines that end in a line feed ({error}). "
            "Unpack the file if it is compressed, or fetch it again with `make data`."
        ) from None
    missing = [column for column in (TRAINING_COLUMNS if raw.word else COLUMNS) if column not in columns]
    if missing:
        raise _missing_field(raw, 1, missing[0], columns)
    for number, line in lines:
        try:
            values = next(csv.reader([line.decode("utf-8")], strict=True))
        except UnicodeDecodeError:
            yield number, "line is not UTF-8"
        except csv.Error as error:
            yield number, f"line is not CSV: {error}"
        else:
            record = dict(zip(columns, values, strict=False))
            yield number, record if len(values) == len(columns) else f"{len(values)} fields in place of {len(columns)}"


def _ndjson_records(raw: RawFile) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Each line as a dict, or the reason why it is none."""
    for number, line in _lines(raw.path):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            yield number, "line is not JSON"
        else:
            yield number, record if isinstance(record, dict) else "line is not a JSON object"


def _checked(line: int, record: dict[str, Any] | str, word: str | None) -> Row:
    """A row from a record.

    Raises:
        BadDrawingError: the record cannot be used; its text is the reason.
    """
    if isinstance(record, str):
        raise BadDrawingError(record)
    if word is not None and spell(str(record.get("word", ""))) != word:
        raise BadDrawingError(f"word is not the file's: {str(record.get('word'))[:LONGEST]!r}")
    drawing = record.get("drawing")
    strokes = parse_drawing(drawing) if isinstance(drawing, str) else check_drawing(drawing)
    return Row(
        line,
        _key_id(record.get("key_id")),
        _countrycode(record.get("countrycode")),
        _recognized(record.get("recognized")),
        _timestamp(record.get("timestamp")),
        strokes,
    )


def _key_id(value: Any) -> int:
    written = isinstance(value, str) and INTEGER.fullmatch(value)
    if not (written or type(value) is int) or int(value) not in INT64:
        raise BadDrawingError("key_id is not a 64-bit integer")
    return int(value)


def _countrycode(value: Any) -> str | None:
    if not value:
        return None
    if not isinstance(value, str) or not COUNTRY.fullmatch(value):
        raise BadDrawingError("countrycode is not two capital letters")
    return value


def _recognized(value: Any) -> bool | None:
    if value is None or value == "":
        return None
    if str(value) not in ("True", "False"):
        raise BadDrawingError("recognized is neither True nor False")
    return str(value) == "True"


def _timestamp(value: Any) -> datetime.datetime | None:
    if not value:
        return None
    try:
        if not STAMP.match(str(value)):
            raise ValueError
        stamp = datetime.datetime.fromisoformat(str(value).removesuffix(" UTC"))
    except ValueError:
        raise BadDrawingError("timestamp is not a date and time") from None
    return stamp.replace(tzinfo=stamp.tzinfo or datetime.UTC)
