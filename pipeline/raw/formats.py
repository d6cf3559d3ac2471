"""The formats of files of drawings, by their names, and their uncompressed content as lines of text.

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

import bz2
import gzip
import io
import lzma
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any, Protocol, cast

import pyarrow as pa

from pipeline.foundation.errors import SketchstackError
from pipeline.raw.binary import binary_lines
from pipeline.raw.parquet import parquet_lines
from pipeline.raw.sketchrnn import sketchrnn_drawings, sketchrnn_lines

BITMAPS = ".npy"
# Each format, with the folders of Google's bucket that its downloads have as a prefix: full_simplified_cat.ndjson.
FORMATS = {
    ".csv": (),
    ".ndjson": ("full_simplified_", "full_raw_"),
    ".jsonl": ("full_simplified_", "full_raw_"),
    ".parquet": (),
    ".bin": ("full_binary_",),
    ".npz": ("sketchrnn_",),
    BITMAPS: ("full_numpy_bitmap_",),
}
TEXT = {".csv", ".ndjson", ".jsonl"}
COMPLETE = ".full"  # cat.full.npz holds all drawings of cat, cat.npz at most 75,000
IN_MEMORY = 2**26  # bytes of a packed file that is read out of order; a larger one is unpacked to a temporary file
FAULTS = (EOFError, OSError, zlib.error, zipfile.BadZipFile, lzma.LZMAError, RuntimeError)  # of a packed file


class Stream(Protocol):
    """The content of a file as text."""

    def readinto(self, into: memoryview, /) -> int | None:
        """Fill a buffer; returns the number of bytes, 0 at the end."""

    def readline(self, limit: int, /) -> bytes:
        """The next line with its end, or its first `limit` bytes."""


def _zstd(file: IO[bytes]) -> IO[bytes]:
    return io.BufferedReader(pa.CompressedInputStream(file, "zstd"))


COMPRESSIONS: dict[str, Callable[[Any], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": _zstd}
_STARTS = {  # the first bytes of a packed file
    b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ\0": ".xz", b"\x28\xb5\x2f\xfd": ".zst", b"PK\x03\x04": ".zip",
    b"PAR1": ".parquet",
}  # fmt: skip


def word_of_name(name: str) -> str | None:
    """The word that a file's name says, as it is spelled there; None if it is not the name of a file of drawings.

    Only suffixes of known formats are removed, in upper or lower case, so a word may contain dots.
    """
    name, kind = _split(uncompressed_name(name))
    if kind is None or not name or name.startswith("."):
        return None
    for prefix in FORMATS[kind]:
        name = name.removeprefix(prefix) or name
    if kind == ".npz" and name.lower().endswith(COMPLETE):
        name = name[: -len(COMPLETE)] or name
    return name


def format_of(name: str) -> str:
    """The format of a file of drawings: a key of FORMATS, or an empty text for any other file."""
    return _split(uncompressed_name(name))[1] or ""


def uncompressed_name(name: str) -> str:
    """A file's name without the suffix of its compression."""
    suffix = _compression(name)
    return name[: -len(suffix)] if suffix else name


def packing_of(content: bytes) -> str | None:
    """The suffix of the packed format that a file's first bytes show; None if they show none."""
    return next((suffix for start, suffix in _STARTS.items() if content.startswith(start)), None)


def _split(name: str) -> tuple[str, str | None]:
    kind = next((kind for kind in FORMATS if name.lower().endswith(kind)), None)
    return (name[: -len(kind)], kind) if kind else (name, None)


def _compression(name: str) -> str:
    return next((suffix for suffix in COMPRESSIONS if name.lower().endswith(suffix)), "")


@contextmanager
def uncompressed(file: IO[bytes], name: str, place: object) -> Iterator[IO[bytes]]:
    """The content of an open file without the compression that its name says.

    Args:
        file: the open file; read from its position on.
        name: of the file.
        place: of the file, for messages.

    Raises:
        SketchstackError: the file is truncated or damaged, or its packing is not supported.
    """
    suffix = _compression(name)
    stream = COMPRESSIONS[suffix](file) if suffix else file
    try:
        with stream:
            yield stream
    except FAULTS as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk, not of the file's content
            raise
        raise damaged(place, error) from None


def damaged(place: object, error: Exception) -> SketchstackError:
    """The error of a packed file that cannot be unpacked."""
    reason = str(error) or type(error).__name__
    if isinstance(error, RuntimeError):  # a .zip with a password, or with a method that zipfile lacks
        return SketchstackError(f"{place} cannot be unpacked ({reason}); unpack it yourself, or pack it again as .gz.")
    return SketchstackError(
        f"{place} is damaged and cannot be unpacked ({reason}); copy or download this file again, or remove it."
    )


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


def has_hashed_ids(name: str) -> bool:
    """Whether the drawings of a file have no ids of their own, so that they get hashes as ids."""
    return format_of(name) == ".npz"


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
