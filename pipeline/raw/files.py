"""Raw competition files: their list, compression and layout, and their text in blocks of complete lines.

Files of any format of `formats`, compressed or not, also in a .zip. A row is a line, so a broken quote spoils only its
own row. A fault of a whole file stops the stage.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from pipeline.drawings.words import spell
from pipeline.foundation.errors import SketchstackError
from pipeline.raw.flat import CONVERTED
from pipeline.raw.formats import Stream, count_drawings, text_of, without_strokes
from pipeline.raw.names import BITMAPS, TEXT, format_of, has_hashed_ids, word_of_name
from pipeline.raw.packing import BROKEN_ZIP, damaged
from pipeline.raw.records import BadRowError, csv_record, decoded_drawing, json_record

COLUMNS = ("key_id", "drawing")  # required in every file
TRAINING_COLUMNS = (*COLUMNS, "word")
FIRST = 3  # first rows that are checked to identify a file
SEARCHED = 100  # most rows searched for a drawing that shows whether the file is raw
BLOCK = 2**22  # bytes read at a time
LINE_FEED = ord("\n")
LEAST_WRITTEN = 0.25  # bytes on disk while folds are written, per byte of text that is read
LONGEST_SHOWN = 500  # characters of a header that a message quotes
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
        columns: of a CSV, or of the lines that a binary format becomes; empty for ndjson.
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


@contextmanager
def _opened(raw: RawFile) -> Iterator[Stream]:
    """The content of a file as text, in lines.

    Raises:
        SketchstackError: the file is truncated or damaged, or not of its format.
    """
    with _content(raw) as file, text_of(file, raw.name, raw, raw.word) as stream:
        yield stream


@contextmanager
def _content(raw: RawFile) -> Iterator[IO[bytes]]:
    """The bytes of a file, of which only a .zip is unpacked."""
    if not raw.member:
        with raw.path.open("rb") as file:
            yield file
        return
    with ExitStack() as files:
        try:
            packed = files.enter_context(zipfile.ZipFile(raw.path))
            member = files.enter_context(packed.open(raw.member))
        except (*BROKEN_ZIP, KeyError) as error:
            raise damaged(raw, error) from None
        yield member


def layout_of(raw: RawFile) -> Layout:
    """Determine the layout of a file from its header and its first rows.

    Raises:
        SketchstackError: the file has no rows, has no such column, or is the file of another word.
    """
    kind = format_of(raw.name)
    if kind == BITMAPS:
        raise without_strokes(raw)
    if kind == ".npz":
        return _layout_by_count(raw)
    with _opened(raw) as stream:
        lines = _filled_lines(stream)
        above, columns = _header(raw, lines) if kind == ".csv" else (0, () if kind in TEXT else CONVERTED)
        first, timed, rows = [], None, 0
        for number, line in lines:
            rows += 1
            try:
                record = csv_record(line, list(columns)) if columns else json_record(line)
                timed = _is_raw(record) if timed is None else timed
                first.append((number, record))
            except BadRowError:
                pass
            if rows >= SEARCHED or (rows >= FIRST and timed is not None):
                break
    if not rows:
        raise _without_rows(raw)
    _check_first(raw, first[:FIRST])
    return Layout(columns, above, timed)


def _layout_by_count(raw: RawFile) -> Layout:
    """The layout of a file whose headers say how many drawings it has, so that none need be read."""
    with _content(raw) as file:
        if not count_drawings(file, raw.name, raw):
            raise _without_rows(raw)
    return Layout(CONVERTED, 0, False)


def _without_rows(raw: RawFile) -> SketchstackError:
    remedy = (
        "remove the file, or name the other words in shuffle.words of params.yaml" if raw.word else "put rows there"
    )
    return SketchstackError(f"{raw} has no rows; {remedy}.")


def words_of_hashed_ids(files: Iterable[RawFile]) -> list[str]:
    """The words of the files whose drawings have no ids, so that they get hashes as ids."""
    return sorted({file.word for file in files if file.word is not None and has_hashed_ids(file.name)})


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
            f"{_saved_again(header)}."
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
            f"{word_of_name(raw.name)!r}; rename the file after the word of its rows, or bring back the right file."
        )


def _missing_field(raw: RawFile, line: int, field: str, fields: Iterable[str]) -> SketchstackError:
    return SketchstackError(
        f"{raw}, line {line}: the column {field!r} is missing; there are {_shown(fields)}. Add it, or bring "
        "back a file that has it."
    )


def _shown(fields: Iterable[str]) -> str:
    """The names of fields as a list, without characters that cannot be printed."""
    shown = ", ".join(field if field.isprintable() else ascii(field) for field in fields) or "none"
    return shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}..."


def _saved_again(header: bytes) -> str:
    """The remedy for a header that cannot be read."""
    if header.count(b"\r") > 1 and b"\n" not in header[:-1]:
        return "Its lines end in carriage returns alone, as on old Macs: save it with the line ends of Linux or Windows"
    return "Save it again as CSV in UTF-8"


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
