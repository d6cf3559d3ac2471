"""Drawings of any file that the shuffle takes, in the order of files and lines, in blocks of a bounded size."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pipeline.drawings.shards import NO_LABEL, Shard, Shards
from pipeline.drawings.strokes import Rows
from pipeline.foundation.errors import SketchstackError
from pipeline.raw.files import Layout, RawFile, blocks, layout_of
from pipeline.raw.listing import check_refused, list_files
from pipeline.raw.readers import Reject, RowReader
from pipeline.raw.spill import Gathered, empty_rows, picked

BLOCK = 2**17  # rows; a multiple of the rows that a network predicts at a time
STDIN = Path("-")


@dataclass(frozen=True)
class Block:
    """Some consecutive rows of the input.

    Attributes:
        drawings: of the N usable rows, in order, without labels.
        order: (N, 2) int64 the number of the file and the line of each.
        rejects: the rows that cannot be used, in order, each with the number of its file.
    """

    drawings: Shards
    order: np.ndarray
    rejects: list[tuple[int, Reject]]


@contextmanager
def input_files(paths: Sequence[Path]) -> Iterator[list[RawFile]]:
    """The files of drawings at some paths: files, archives, folders, and `-` for ndjson on stdin.

    Raises:
        SketchstackError: a path is missing, or a file cannot be read.
    """
    with TemporaryDirectory(prefix="sketchstack-") as folder:
        found: list[RawFile] = []
        for path in paths:
            found += _files_at(_copy_of_stdin(Path(folder)) if path == STDIN else path)
        yield [file._replace(number=number, word=None) for number, file in enumerate(found)]


def _copy_of_stdin(folder: Path) -> Path:
    """Stdin as a file: its layout is read before its rows."""
    copy = folder / "stdin.ndjson"
    with copy.open("xb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file, 2**20)
    if not copy.stat().st_size:
        raise SketchstackError("stdin is empty; it must hold drawings as ndjson, an object per line.")
    return copy


def _files_at(path: Path) -> list[RawFile]:
    if not path.exists():
        raise SketchstackError(f"{path} is missing; name a file of drawings, a folder or a .zip of such files, or -.")
    found = list_files(path)
    check_refused(path, found.refused)
    if not found.files:
        raise SketchstackError(f"{path} holds no file of drawings; name one.")
    return found.files


def layouts_of(files: Sequence[RawFile], timing: bool) -> list[Layout]:
    """The layouts of files.

    Args:
        files: of drawings.
        timing: whether the model needs the time of each point.

    Raises:
        SketchstackError: a file has no rows or lacks a column, or has no times where the model needs them.
    """
    layouts = [layout_of(file) for file in files]
    for file, layout in zip(files, layouts, strict=True):
        if timing and not layout.timed:
            raise SketchstackError(
                f"{file} has no time of each point, and this model was trained with times; give it raw drawings, with "
                f"strokes of [[x...], [y...], [t...]]."
            )
    return layouts


class _InOrder:
    """Takes the rows of a file in the order of its lines, in place of the parts of a shuffle."""

    def __init__(self, timed: bool) -> None:
        self.timed = timed
        self._rows = empty_rows(0, 0, 0, timed)

    def add(self, rows: Rows, parts: np.ndarray) -> None:
        self._rows = picked(rows, np.argsort(rows.line, kind="stable"))

    def taken(self) -> Rows:
        """The rows that were added since the last call."""
        rows, self._rows = self._rows, empty_rows(0, 0, 0, self.timed)
        return rows


def read_blocks(
    files: Sequence[RawFile], layouts: Sequence[Layout], *, timed: bool, rows: int = BLOCK
) -> Iterator[Block]:
    """Read files into blocks of at most `rows` usable rows, and about as many rejected ones.

    Args:
        files: of drawings, numbered from 0.
        layouts: of each.
        timed: whether drawings keep the time of each point.
        rows: of a block; all but the last have as many, unless there are many rejects.

    Raises:
        SketchstackError: a file breaks off or is damaged.
    """
    pieces: list[Rows] = []
    rejects: list[tuple[int, Reject]] = []
    for piece, refused in _pieces(files, layouts):
        rejects += refused
        at = 0
        while at < len(piece.line):
            taken = np.arange(at, min(len(piece.line), at + rows - _count(pieces)))
            pieces.append(picked(piece, taken))
            at += len(taken)
            if _count(pieces) == rows:
                yield _block(pieces, rejects, timed)
                pieces, rejects = [], []
        if len(rejects) >= rows:
            yield _block(pieces, rejects, timed)
            pieces, rejects = [], []
    if pieces or rejects:
        yield _block(pieces, rejects, timed)


def _count(pieces: Sequence[Rows]) -> int:
    return sum(len(piece.line) for piece in pieces)


def _pieces(files: Sequence[RawFile], layouts: Sequence[Layout]) -> Iterator[tuple[Rows, list[tuple[int, Reject]]]]:
    """The usable and the rejected rows of one block of text after the other."""
    for file, layout in zip(files, layouts, strict=True):
        into = _InOrder(bool(layout.timed))
        gathered = Gathered(into, lambda rows: rows.line)
        reader = RowReader(file, layout, NO_LABEL, gathered)
        for block in blocks(file, layout.above):
            rejects = [(file.number, reject) for reject in reader.read(block)]
            gathered.spill()
            yield into.taken(), rejects


def _block(pieces: Sequence[Rows], rejects: list[tuple[int, Reject]], timed: bool) -> Block:
    order = [np.column_stack([piece.file, piece.line]).astype(np.int64) for piece in pieces]
    return Block(
        Shards([_shard(piece, timed) for piece in pieces]),
        np.concatenate([np.empty((0, 2), np.int64), *order]),
        sorted(rejects, key=lambda each: (each[0], each[1].line)),
    )


def _shard(rows: Rows, timed: bool) -> Shard:
    return Shard(
        key_id=rows.key_id,
        word=rows.word,
        x=rows.x,
        y=rows.y,
        t=rows.t if timed else np.empty(0, np.uint32),
        stroke=rows.stroke,
        points=rows.points.astype(np.int32),
        strokes=rows.strokes.astype(np.int32),
    )
