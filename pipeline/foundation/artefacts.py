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
from itertools import chain, count
from pathlib import Path
from typing import IO

from pipeline.foundation.errors import SketchstackError, is_full, no_room
from pipeline.foundation.places import PARAMS

PARTIAL = Path(".partial")
LOCKS = PARTIAL / "locks"
FORMER = ".former"  # ends the name of an artefact that is just being replaced
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux's renameat2
_held: set[str] = set()


def partial(place: Path) -> Path:
    """Where an artefact is written before it takes its place.

    Below .partial/, or beside its place if that is outside the project or on another file system. A link is followed.
    """
    real, name = _real(place), _name(place)
    return PARTIAL.absolute() / name if name and _can_be_renamed_to(real) else real.with_name(f".{real.name}.partial")


@contextmanager
def whole_folder(place: Path) -> Iterator[Path]:
    """Give a new folder to fill; it takes `place` (and replaces what was there) only if the block ends well.

    Raises:
        SketchstackError: another process is writing it, there is no room, or what a killed run left is in the way.
    """
    beside = partial(place)
    with alone(place):
        _clear(place)
        with _nothing_half_made(place, beside):
            beside.mkdir(parents=True)
            yield beside
            _put(beside, _real(place))


@contextmanager
def whole_file(place: Path) -> Iterator[Path]:
    """Give a path to write; the file takes `place` in one step, synced to disk, only if the block ends well.

    Of two processes, the second waits for the first.

    Raises:
        SketchstackError: there is no room, or what a killed run left is in the way.
    """
    beside, real = partial(place), _real(place)
    with alone(place, wait=True), _nothing_half_made(place, beside):
        remove(beside)
        for folder in (beside.parent, real.parent):
            folder.mkdir(parents=True, exist_ok=True)
        yield beside
        with beside.open("rb+") as written:
            os.fsync(written.fileno())
        beside.replace(real)


@contextmanager
def alone(place: Path, *, wait: bool = False) -> Iterator[IO[str] | None]:
    """Hold the right to write an artefact of the project; the system takes it back when the process ends.

    Args:
        place: of the artefact.
        wait: until another process has written it.

    Yields:
        The lock's file, which names the holder; None outside a project, and where this process holds it already.

    Raises:
        SketchstackError: another process holds it.
    """
    name = _name(place)
    if name is None or name in _held:
        yield None
        return
    with _lock(name, wait=wait) as (file, free):
        if not free:
            holder = file.readline().strip() or "another process"
            raise SketchstackError(f"{place} is being written by {holder}; wait for it to end, or end it.")
        sign(file, os.getpid(), " ".join(Path(word).name for word in sys.argv), place)
        _held.add(name)
        try:
            yield file
        finally:
            _held.discard(name)
            file.truncate(0)


def sign(file: IO[str], process: int, command: str, place: Path) -> None:
    """Write into a lock's file who holds it, and the place of its artefact: what a killed process leaves is found."""
    file.truncate(0)
    file.write(f"process {process} ({' '.join(command.split())})\n{_in_project(place) or place}\n")
    file.flush()


def tidy() -> list[str]:
    """Remove what killed runs have left unfinished; what a running process is writing stays.

    Returns:
        What was removed, and what could not be, with the reason: a line each.
    """
    unfinished = {path.name.removesuffix(FORMER) for path in _inside(PARTIAL)} - {LOCKS.name}
    return [line for name in sorted(unfinished | {path.name for path in _inside(LOCKS)}) for line in _tidied(name)]


def _tidied(name: str) -> list[str]:
    with _lock(name) as (file, free):
        if not free:
            return []
        recorded = file.read().splitlines()[1:2]
        try:
            cleared = _clear(Path(*recorded)) if recorded else []
            cleared += _removed(PARTIAL / name, PARTIAL / f"{name}{FORMER}")
        except SketchstackError as error:
            return [str(error)]
        file.truncate(0)
        shown = [path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path for path in cleared]
        return [f"removed {path}, which a stopped run had left unfinished" for path in shown]


def _clear(place: Path) -> list[Path]:
    """Remove what a killed run has left of an artefact; what was removed.

    A killed run may have taken the former artefact away and not yet put the new one there: then it goes back.
    """
    beside = partial(place)
    former = beside.with_name(beside.name + FORMER)
    if os.path.lexists(former) and not os.path.lexists(_real(place)):
        former.rename(_real(place))
    return _removed(beside, former)


def _removed(*paths: Path) -> list[Path]:
    """Those of the paths that were there."""
    found = [path for path in paths if os.path.lexists(path)]
    for path in found:
        remove(path)
    return found


def _inside(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


@contextmanager
def _lock(name: str, *, wait: bool = False) -> Iterator[tuple[IO[str], bool]]:
    """A lock's file, to read from its beginning, and whether this process holds it: no other does."""
    path = LOCKS.absolute() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        free = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            free = False
        file.seek(0)
        yield file, free


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


def move_aside(path: Path, wanted: Path) -> Path:
    """Move a file or folder to a place, with a number in its name where that is taken, and return where it went.

    The place may be on another disk than a link led to.
    """
    numbered = (wanted.with_name(f"{wanted.stem}.{number}{wanted.suffix}") for number in count(1))
    free = next(place for place in chain([wanted], numbered) if not place.exists())
    free.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(path, free)
    return free


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


def _name(place: Path) -> str | None:
    """The name of an artefact of the project, below .partial/ and its locks; None outside the project."""
    inside = _in_project(place)
    return "--".join(inside.parts) if inside else None


def _in_project(place: Path) -> Path | None:
    """A place relative to the project; None outside. What a link of the project leads to is of the project."""
    root = Path.cwd()
    if not (root / PARAMS).exists():
        return None
    paths = (_real(place), Path(os.path.normpath(place.absolute())))
    return next((path.relative_to(root) for path in paths if path.is_relative_to(root)), None)


def _can_be_renamed_to(real: Path) -> bool:
    """Whether a place is in the working folder and on its file system."""
    if not real.is_relative_to(Path.cwd()):
        return False
    home = next(folder for folder in real.parents if folder.exists())
    return home.stat().st_dev == Path.cwd().stat().st_dev


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
