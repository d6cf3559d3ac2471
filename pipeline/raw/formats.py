"""The content of files of drawings as lines of text, whatever their format.

| name ends in | format | read by |
|---|---|---|
| .csv | Kaggle's CSV | the line reader |
| .ndjson, .jsonl | Google's ndjson | the line reader |
| .parquet | the columns of the CSV | `parquet` |
| .bin | Google's binary file | `binary` |
| .npz | sketch-rnn's arrays | `sketchrnn` |

All may be compressed (.gz, .bz2, .xz, .zst). The last three become lines of CSV with the columns flat.CONVERTED and
without a header, one line per drawing, so the number of a line is the number of the drawing in its file.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any, Protocol, cast

from pipeline.foundation.errors import SketchstackError
from pipeline.raw.binary import binary_lines
from pipeline.raw.names import BITMAPS, TEXT, format_of
from pipeline.raw.packing import uncompressed
from pipeline.raw.parquet import parquet_lines
from pipeline.raw.sketchrnn import sketchrnn_drawings, sketchrnn_lines

IN_MEMORY = 2**26  # bytes of a packed file that is read out of order; a larger one is unpacked to a temporary file


class Stream(Protocol):
    """The content of a file as text."""

    def readinto(self, into: memoryview, /) -> int | None:
        """Fill a buffer; returns the number of bytes, 0 at the end."""

    def readline(self, limit: int, /) -> bytes:
        """The next line with its end, or its first `limit` bytes."""


@contextmanager
def text_of(file: IO[bytes], name: str, place: object, word: str | None) -> Iterator[Stream]:
    """The content of an open file of drawings as text, in lines.

    Args:
        file: the open file.
        name: of the file, which says its format and compression.
        place: of the file, for messages.
        word: of its drawings; None in the test set.

    Raises:
        SketchstackError: the file is damaged, breaks off, or is not of its format.
    """
    kind = format_of(name)
    with ExitStack() as files:
        content = files.enter_context(uncompressed(file, name, place))
        if kind in ("", *TEXT):
            yield cast(Stream, content)
        elif kind == BITMAPS:
            raise without_strokes(place)
        elif kind == ".bin":
            yield _stream(binary_lines(content, place, word))
        else:
            if content is not file or not content.seekable():
                content = files.enter_context(_unpacked(content))
            lines = parquet_lines if kind == ".parquet" else sketchrnn_lines
            yield _stream(lines(content, place, word))


@contextmanager
def _unpacked(content: IO[bytes]) -> Iterator[IO[bytes]]:
    """A copy of a stream that can be read out of order."""
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as copy:
        shutil.copyfileobj(content, copy, 2**20)
        copy.seek(0)
        yield copy


def count_drawings(file: IO[bytes], name: str, place: object) -> int:
    """The number of drawings that the headers of a .npz say.

    Raises:
        SketchstackError: the file is damaged, or holds other arrays.
    """
    with ExitStack() as files:
        content = files.enter_context(uncompressed(file, name, place))
        if content is not file or not content.seekable():
            content = files.enter_context(_unpacked(content))
        return sketchrnn_drawings(content, place)


def without_strokes(place: object) -> SketchstackError:
    """The error of a file of bitmaps."""
    return SketchstackError(
        f"{place} holds bitmaps (.npy, as in Google's numpy_bitmap), which have no strokes; take the word's file from "
        "Google's full/simplified (.ndjson), full/raw (.ndjson), full/binary (.bin) or sketchrnn (.npz), and remove "
        "this one."
    )


class _Chunks(io.RawIOBase):
    """Bytes that a generator makes, as a file."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks, self._left = iter(chunks), memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = memoryview(chunk)
        count = min(len(into), len(self._left))
        into[:count], self._left = self._left[:count], self._left[count:]
        return count


def _stream(chunks: Iterable[bytes]) -> Stream:
    return io.BufferedReader(_Chunks(chunks))
