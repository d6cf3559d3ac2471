"""Artefacts appear whole or not at all: they are written elsewhere and put in their place in one step.

What is unfinished is below .partial/ of the project, on the same file system, where neither git nor DVC looks; a killed
run leaves it there, and the next run that writes the artefact, or `make repro`, removes it.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pipeline.foundation.errors import SketchstackError, is_full, no_room
from pipeline.foundation.places import PARAMS

PARTIAL = Path(".partial")
LOCKS = PARTIAL / "locks"
FORMER = ".former"  # ends the name of an artefact that is just being replaced
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux's renameat2
_held: set[Path] = set()


def partial(place: Path) -> Path:
    """Where an artefact is written before it takes its place.

    Below .partial/, or beside its place if that is outside the project or on another file system. A link is followed.
    """
    real, name = _real(place), _name_in_project(place)
    return PARTIAL.absolute() / name if name else real.with_name(f".{real.name}.partial")


@contextmanager
def whole_folder(place: Path) -> Iterator[Path]:
    """Give a new folder to fill; it takes `place` (and replaces what was there) only if the block ends well.

    Raises:
        SketchstackError: another process is writing it, there is no room, or what a killed run left is in the way.
    """
    beside = partial(place)
    with alone(place):
        remove(beside)
        with _nothing_half_made(place, beside):
            beside.mkdir(parents=True)
            yield beside
            _put(beside, _real(place))


@contextmanager
def whole_file(place: Path) -> Iterator[Path]:
    """Give a path to write; the file takes `place` in one step, synced to disk, only if the block ends well.

    Raises:
        SketchstackError: there is no room, or what a killed run left is in the way.
    """
    beside, real = partial(place), _real(place)
    remove(beside)
    with _nothing_half_made(place, beside):
        for folder in (beside.parent, real.parent):
            folder.mkdir(parents=True, exist_ok=True)
        yield beside
        with beside.open("rb+") as written:
            os.fsync(written.fileno())
        beside.replace(real)


@contextmanager
def alone(place: Path) -> Iterator[None]:
    """Hold the right to write an artefact of the project; the system takes it back when the process ends.

    Raises:
        SketchstackError: another process holds it.
    """
    name = _name_in_project(place)
    path = LOCKS.absolute() / (name or "")
    if name is None or path in _held:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise SketchstackError(f"{place} is being written by {holder}; wait for it to end, or end it.") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} ({' '.join(Path(word).name for word in sys.argv)})\n")
        file.flush()
        _held.add(path)
        try:
            yield
        finally:
            _held.discard(path)
            file.truncate(0)


def tidy() -> list[str]:
    """Remove what killed runs have left below .partial/; what a running process is writing stays.

    Returns:
        What was removed, and what could not be, with the reason: a line each.
    """
    lines = []
    for path in sorted(PARTIAL.iterdir()) if PARTIAL.is_dir() else []:
        if path.name == LOCKS.name or _is_held(LOCKS / path.name.removesuffix(FORMER)):
            continue
        try:
            remove(path)
            lines.append(f"removed {path}, which a stopped run had left unfinished")
        except SketchstackError as error:
            lines.append(str(error))
    return lines


def remove(path: Path) -> None:
    """Remove a file, a link or a folder that this program made, if it is there.

    Raises:
        SketchstackError: the system does not allow it.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise SketchstackError(
            f"{path} is left of a run that was stopped, and cannot be removed ({error.strerror or error}); remove it "
            f"by hand."
        ) from None


def reserve(file: IO[bytes], size: int) -> None:
    """Reserve the space of a file that is to be mapped: a full disk is an error here, and would be a crash later.

    Args:
        file: opened for writing.
        size: in bytes.
    """
    if size:
        os.posix_fallocate(file.fileno(), 0, size)


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _real(place: Path) -> Path:
    """The place that links lead to: an artefact may lie on another disk."""
    return Path(os.path.realpath(place))


def _name_in_project(place: Path) -> str | None:
    """The name of an artefact below .partial/; None outside the project and on another file system."""
    real, root = _real(place), Path.cwd()
    if not (root / PARAMS).exists() or not real.is_relative_to(root.resolve()):
        return None
    home = next(folder for folder in real.parents if folder.exists())
    return "--".join(real.relative_to(root.resolve()).parts) if home.stat().st_dev == root.stat().st_dev else None


@contextmanager
def _nothing_half_made(place: Path, beside: Path) -> Iterator[None]:
    """Remove what is unfinished where the block fails; tell of a full disk with the figures."""
    try:
        yield
    except BaseException as error:
        written = _size(beside)
        with suppress(SketchstackError):  # the first error counts; the next run says what is in the way
            remove(beside)
        if isinstance(error, OSError) and is_full(error):
            raise no_room(place, error, written) from error
        raise


def _size(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.lstat().st_size for file in files)


def _put(beside: Path, real: Path) -> None:
    """Put a finished folder in its place, in one step where the system can exchange two names."""
    real.parent.mkdir(parents=True, exist_ok=True)
    former = beside.with_name(beside.name + FORMER)
    remove(former)
    if not os.path.lexists(real):
        beside.rename(real)
    elif _exchanged(beside, real):
        beside.rename(former)
    else:
        real.rename(former)
        beside.rename(real)
    remove(former)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two names; False where the file system cannot."""
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return exchange is not None and not exchange(
        AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE
    )


def _is_held(lock: Path) -> bool:
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except OSError:
        return True
