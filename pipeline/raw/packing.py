"""Compressed files: what their names say, and their content."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, TextIO

from pipeline.foundation.errors import SketchstackError

FAULTS = (EOFError, OSError, zlib.error, zipfile.BadZipFile, lzma.LZMAError, RuntimeError)  # of a packed file
BROKEN_ZIP = (  # what zipfile raises for a damaged .zip
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, RuntimeError, ValueError, OverflowError,
    IndexError,
)  # fmt: skip


def _zstd(file: IO[bytes]) -> IO[bytes]:
    import pyarrow as pa  # here, as most files need it not

    return io.BufferedReader(pa.CompressedInputStream(file, "zstd"))


COMPRESSIONS: dict[str, Callable[[Any], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": _zstd}
PACKED = (*COMPRESSIONS, ".zip")  # what may stand behind the name of a file


def compression_of(name: str) -> str:
    """The suffix of the compression that a file's name says: a key of COMPRESSIONS, or an empty text."""
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
    suffix = compression_of(name)
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


def packed_beside(path: Path) -> Path:
    """The path; if it does not exist, its first packed form that does (`<name>.gz`, `<name>.zip`)."""
    places = (path, *(path.with_name(path.name + suffix) for suffix in PACKED))
    return next((place for place in places if place.exists()), path)


@contextmanager
def opened_text(path: Path) -> Iterator[TextIO]:
    """The text of a file in UTF-8, packed or not; a byte order mark and the kind of line ends are left to csv.

    Raises:
        SketchstackError: the file is damaged, or a .zip that does not hold one file.
    """
    with ExitStack() as files:
        file: IO[bytes] = files.enter_context(path.open("rb"))
        name = path.name
        if path.suffix.lower() == ".zip":
            file, name = _only_member(path, files)
        content = files.enter_context(uncompressed(file, name, path))
        yield files.enter_context(io.TextIOWrapper(content, encoding="utf-8-sig", newline=""))


def _only_member(path: Path, files: ExitStack) -> tuple[IO[bytes], str]:
    """The file in a .zip, and its name."""
    try:
        packed = files.enter_context(zipfile.ZipFile(path))
        members = [name for name in packed.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
        if len(members) != 1:
            raise SketchstackError(f"{path} holds {len(members)} files instead of one; unpack the right one beside it.")
        return files.enter_context(packed.open(members[0])), members[0]
    except BROKEN_ZIP as error:
        raise damaged(path, error) from None
