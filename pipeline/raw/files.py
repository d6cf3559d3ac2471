"""Raw competition files: their list, compression and layout, and their text in blocks of complete lines.

Files of any format of `formats`, compressed or not, also in a .zip. A row is a line, so a broken quote spoils only its
own row. A fault of a whole file stops the stage.
"""

from __future__ import annotations

import csv
import difflib
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from pipeline.drawings.words import Words, spell
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import Params
from pipeline.raw.flat import CONVERTED
from pipeline.raw.formats import Stream, count_drawings, text_of, without_strokes
from pipeline.raw.names import BITMAPS, TEXT, format_of, has_hashed_ids, word_of_name
from pipeline.raw.packing import BROKEN_ZIP, PACKED, damaged
from pipeline.raw.records import BadRowError, csv_record, decoded_drawing, json_record

COLUMNS = ("key_id", "drawing")  # required in every file
TRAINING_COLUMNS = (*COLUMNS, "word")
FIRST = 3  # first rows that are checked to identify a file
SEARCHED = 100  # most rows searched for a drawing that shows whether the file is raw
BLOCK = 2**22  # bytes read at a time
LINE_FEED = ord("\n")
LEAST_WRITTEN = 0.25  # bytes on disk while folds are written, per byte of text that is read
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


def training_files(params: Params) -> tuple[Words, list[RawFile]]:
    """The words and their files.

    Raises:
        SketchstackError: the folder is missing or empty, or `shuffle.words` names a word that has no file.
    """
    folder = Path(params.data.folder, params.data.train)
    packed = folder.with_name(f"{folder.name}.zip")
    if not folder.is_dir() and not packed.is_file():
        raise SketchstackError(
            f"the folder {folder} is missing, and there is no {packed.name}; fetch it with `make data "
            f"NAME={params.profile}`, or name another folder in params.yaml under data."
        )
    place, paths = (folder, sorted(folder.iterdir())) if folder.is_dir() else (packed, [packed])
    files = _by_word(place, [file for path in paths for file in _files_of(path)])
    if not files:
        raise SketchstackError(
            f"{place} holds no file of drawings (<word>.csv, .ndjson, .jsonl, .parquet, .bin or .npz, also .gz, .bz2, "
            ".xz, .zst or .zip); fetch the files with `make data`."
        )
    wanted = set(files) if params.shuffle.words == "all" else {spell(word) for word in params.shuffle.words}
    for word in sorted(wanted - set(files)):
        near = ", ".join(difflib.get_close_matches(word, files, 3)) or "none"
        raise SketchstackError(f"params.yaml, shuffle.words: {place} has no word {word!r}; similar: {near}.")
    words = Words.from_names(wanted)
    if len(words) < 2:
        raise SketchstackError(
            f"{place} with shuffle.words has {len(words)} words, but a competition needs at least two; "
            "name more in params.yaml, or fetch the files again with `make data`."
        )
    return words, [files[word]._replace(number=number) for number, word in enumerate(words.names)]


def _files_of(path: Path) -> list[RawFile]:
    """The files of drawings of a path: the file itself, the files in a .zip, or none."""
    if path.name.startswith("."):
        return []
    if path.suffix != ".zip":
        word = word_of_name(path.name)
        return [RawFile(path, 0, spell(word))] if word else []
    try:
        with zipfile.ZipFile(path) as packed:
            members = sorted(packed.namelist())
    except zipfile.BadZipFile as error:
        raise damaged(path, error) from None
    names = [(member, Path(member).name) for member in members if not member.startswith("__MACOSX")]
    return [RawFile(path, 0, spell(word), member) for member, name in names if (word := word_of_name(name))]


def _by_word(place: Path, files: Iterable[RawFile]) -> dict[str, RawFile]:
    found: dict[str, RawFile] = {}
    for file in files:
        twin = found.setdefault(str(file.word), file)
        if twin != file:
            names = [Path(each.member or each.path).name for each in (twin, file)]
            raise SketchstackError(f"{place} has {' and '.join(names)}, two files of one word; remove one of them.")
    return found


def test_file(params: Params, number: int) -> RawFile:
    """The file of test drawings.

    Raises:
        SketchstackError: it is missing.
    """
    path = Path(params.data.folder, params.data.test)
    for place in (path, *(path.with_name(path.name + suffix) for suffix in PACKED)):
        if place.is_file():
            files = _files_of(place)
            if len(files) != 1:
                raise SketchstackError(
                    f"{place} holds {len(files)} files of drawings instead of one; unpack {path.name} beside it."
                )
            return files[0]._replace(number=number, word=None)
    raise SketchstackError(f"the test file {path} is missing; fetch it with `make data NAME={params.profile}`.")


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
    return SketchstackError(f"{raw} has no rows; fetch it again with `make data`, or omit its word.")


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
            "Save the file again as CSV in UTF-8, or fetch it again with `make data`."
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
