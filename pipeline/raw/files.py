"""Raw competition files: their list, compression and layout, and their text in blocks of complete lines.

Kaggle's CSVs and Google's ndjson, simplified or raw, uncompressed, .gz, or in a .zip. A row is a line, so a broken
quote spoils only its own row. A fault of a whole file stops the stage.
"""

from __future__ import annotations

import csv
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from pipeline.drawings.words import spell
from pipeline.foundation.errors import SketchstackError
from pipeline.raw.records import BadRowError, csv_record, decoded_drawing, json_record

COLUMNS = ("key_id", "drawing")  # required in every file
TRAINING_COLUMNS = (*COLUMNS, "word")
FIRST = 3  # first rows that are checked to identify a file
SEARCHED = 100  # most rows searched for a drawing that shows whether the file is raw
BLOCK = 2**22  # bytes read at a time
LINE_FEED = ord("\n")
LEAST_WRITTEN = 0.25  # bytes on disk while folds are written, per byte of text that is read
PACKED_TEST = (".gz", ".zip")  # what may stand behind the name of the test file
LONGEST_LINE = 2**24  # bytes; a longer line is not a row


class RawFile(NamedTuple):
    """A file of drawings.

    Attributes:
        path: of the file, or of the .zip that contains it.
        number: its number among all files.
        word: its word in Kaggle's spelling; None for the test set.
        member: its name in the .zip.
    """

    path: Path
    number: int
    word: str | None
    member: str | None = None

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    @property
    def name(self) -> str:
        """The last part of its name, which says its format."""
        return Path(self.member or self.path).name.strip()


def least_written(raw: RawFile) -> int:
    """The least number of bytes that the shuffle writes for a file, in part files and shards together."""
    if raw.member:
        with zipfile.ZipFile(raw.path) as packed:
            text = packed.getinfo(raw.member).file_size
    else:
        text = raw.path.stat().st_size  # of a .gz, less than its text
    return int(LEAST_WRITTEN * text)


class Layout(NamedTuple):
    """The layout of a raw file.

    Attributes:
        columns: of a CSV; empty for ndjson.
        above: number of lines above the first row, including the header.
        timed: whether it holds raw drawings, `[[x...], [y...], [t...]]` per stroke; None if its first rows do not show
            it.
    """

    columns: tuple[str, ...]
    above: int
    timed: bool | None


class Block(NamedTuple):
    """Some complete lines of a file.

    Attributes:
        first: number of the first line, from 1.
        lines: number of lines.
        text: (bytes,) uint8, each line ends in a line feed; None for one line that is longer than LONGEST_LINE. It is
            overwritten when the next block is read.
    """

    first: int
    lines: int
    text: np.ndarray | None


class Stream(Protocol):
    """The uncompressed text of a file."""

    def readinto(self, into: memoryview, /) -> int | None:
        """Fill a buffer; returns the number of bytes, 0 at the end."""

    def readline(self, limit: int, /) -> bytes:
        """The next line with its end, or its first `limit` bytes."""


def word_of_name(name: str) -> str | None:
    """The word that a file's name says, as it is spelled there; None if it is not the name of a file of drawings."""
    name = name.strip()
    lower = name.lower().removesuffix(".gz")
    kind = next((kind for kind in (".csv", ".ndjson") if lower.endswith(kind)), None)
    word = name[: len(lower) - len(kind)].strip() if kind else ""
    return None if not word or word.startswith(".") else word


@contextmanager
def _opened(raw: RawFile) -> Iterator[Stream]:
    """The uncompressed text of a file.

    Raises:
        SketchstackError: a compressed file is truncated or damaged.
    """
    with ExitStack() as files:
        try:
            if raw.member:
                member = files.enter_context(zipfile.ZipFile(raw.path)).open(raw.member)
                stream: Any = files.enter_context(member)
                if raw.name.lower().endswith(".gz"):
                    stream = files.enter_context(gzip.open(stream))
            else:
                stream = files.enter_context((gzip.open if raw.name.lower().endswith(".gz") else open)(raw.path, "rb"))
            yield stream
        except (EOFError, gzip.BadGzipFile, zlib.error, zipfile.BadZipFile, lzma.LZMAError, RuntimeError) as error:
            raise _damaged(raw, error) from None


def _damaged(raw: RawFile | Path, error: Exception) -> SketchstackError:
    return SketchstackError(f"{raw} is damaged and cannot be unpacked ({error}); fetch it again with `make data`.")


def layout_of(raw: RawFile) -> Layout:
    """Determine the layout of a file from its header and its first rows.

    Raises:
        SketchstackError: the file has no rows, has no such column, or is the file of another word.
    """
    in_csv = raw.name.lower().removesuffix(".gz").endswith(".csv")
    with _opened(raw) as stream:
        lines = _filled_lines(stream)
        above, columns = _header(raw, lines) if in_csv else (0, ())
        first, timed, rows = [], None, 0
        for number, line in lines:
            rows += 1
            try:
                record = csv_record(line, list(columns)) if in_csv else json_record(line)
                timed = _is_raw(record) if timed is None else timed
                first.append((number, record))
            except BadRowError:
                pass
            if rows >= SEARCHED or (rows >= FIRST and timed is not None):
                break
    if not rows:
        raise SketchstackError(f"{raw} has no rows; fetch it again with `make data`, or omit its word.")
    _check_first(raw, first[:FIRST])
    return Layout(columns, above, timed)


def _filled_lines(stream: Stream) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, numbered from 1."""
    number = 0
    while line := stream.readline(LONGEST_LINE):
        number += 1
        if line.strip():
            yield number, line


def _header(raw: RawFile, lines: Iterator[tuple[int, bytes]]) -> tuple[int, tuple[str, ...]]:
    """The number of the header's line, and its columns."""
    number, header = next(lines, (1, b""))
    try:
        columns = next(csv.reader([header.decode("utf-8-sig")]), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise SketchstackError(
            f"{raw}, line 1: the header is not CSV in UTF-8 with lines that end in a line feed ({error}). "
            "Give the file the ending .gz or .zip if it is packed, or fetch it again with `make data`."
        ) from None
    for column in TRAINING_COLUMNS if raw.word else COLUMNS:
        if column not in columns:
            raise _missing_field(raw, 1, column, columns)
    for column in columns:
        if columns.count(column) > 1:
            raise SketchstackError(f"{raw}, line {number}: the column {column!r} stands there twice; remove one.")
    return number, tuple(columns)


def _is_raw(record: dict[str, Any]) -> bool | None:
    """Whether a record's drawing has times; None if it does not tell."""
    drawing = decoded_drawing(record)
    stroke = drawing[0] if isinstance(drawing, list) and drawing else None
    return len(stroke) == 3 if isinstance(stroke, list) and len(stroke) in (2, 3) else None


def _check_first(raw: RawFile, first: list[tuple[int, dict[str, Any]]]) -> None:
    """Stop if the first records all lack a field or are all of another word: then it is the file that is wrong."""
    for field in TRAINING_COLUMNS if raw.word else COLUMNS:
        if first and all(field not in record for _, record in first):
            raise _missing_field(raw, first[0][0], field, first[0][1])
    if raw.word and first and all(spell(str(record["word"])) != raw.word for _, record in first if "word" in record):
        line, record = first[0]
        raise SketchstackError(
            f"{raw}, line {line}: the word is {record.get('word')!r}, but the file's name says "
            f"{word_of_name(raw.name)!r}; rename the file after its word, or fetch it again with "
            "`make data`."
        )


def _missing_field(raw: RawFile, line: int, field: str, fields: Iterable[str]) -> SketchstackError:
    return SketchstackError(
        f"{raw}, line {line}: the column {field!r} is missing; there are {', '.join(fields) or 'none'}. "
        "Fetch the file again with `make data`."
    )


def blocks(raw: RawFile, above: int) -> Iterator[Block]:
    """The lines of a file behind the first `above`, about BLOCK bytes at a time.

    Raises:
        SketchstackError: a packed file breaks off or is damaged.
    """
    buffer, kept, line = bytearray(BLOCK + 1), 0, 1 + above
    with _opened(raw) as stream:
        for _ in range(above):
            stream.readline(LONGEST_LINE)
        while True:
            if kept + 1 == len(buffer):
                buffer = buffer + bytes(kept)
            with memoryview(buffer)[kept:-1] as free:  # the last byte is for a line feed that the file may lack
                got = stream.readinto(free) or 0
            if not got and not kept:
                return
            filled = kept + got
            if not got:  # the last line may lack its end
                buffer[filled] = LINE_FEED
                filled += 1
            behind = buffer.rfind(b"\n", kept, filled) + 1
            if behind:
                lines = buffer.count(b"\n", 0, behind)
                yield Block(line, lines, np.frombuffer(buffer, np.uint8, behind))
                line += lines
                buffer[: filled - behind] = buffer[behind:filled]
                kept = filled - behind
            elif filled < LONGEST_LINE:
                kept = filled
            else:
                while (rest := stream.readline(BLOCK)) and not rest.endswith(b"\n"):
                    pass
                yield Block(line, 1, None)
                line, kept = line + 1, 0
