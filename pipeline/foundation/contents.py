"""Hashes of an artefact's files, written with it and checked on reading, so that no damaged number is used.

A sealed folder has a contents.json: the xxh3-128 of each of its files, by the path inside the folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import xxhash

from pipeline.foundation.artefacts import whole_folder
from pipeline.foundation.errors import SketchstackError

CONTENTS = "contents.json"
BLOCK = 1 << 22  # bytes read at a time


def seal(folder: Path, files: Iterable[Path] | None = None) -> None:
    """Write contents.json.

    Args:
        folder: an artefact with all its files.
        files: the files to list, if other files have separate hashes; by default every file below the folder.
    """
    listed = (path for path in folder.rglob("*") if path.is_file()) if files is None else files
    hashes = {path.relative_to(folder).as_posix(): content_hash(path) for path in listed}
    (folder / CONTENTS).write_text(json.dumps(dict(sorted(hashes.items())), indent=0) + "\n", encoding="utf-8")


def check_sealed(folder: Path) -> None:
    """Refuse an artefact without contents.json, whose files cannot be checked.

    Raises:
        SketchstackError: contents.json is missing.
    """
    if not (folder / CONTENTS).is_file():
        raise _damaged(folder / CONTENTS, "is missing", folder)


def intact(path: Path) -> Path:
    """Check the hash of an artefact's file.

    A file is hashed once per process. It is not checked if neither its folder nor the parent folder is sealed.

    Returns:
        The path.

    Raises:
        SketchstackError: the file is not listed or has other bytes, or contents.json is damaged.
        OSError: the file cannot be read.
    """
    for folder in (path.parent, path.parent.parent):
        if (folder / CONTENTS).is_file():
            expected = _listed(folder / CONTENTS, *_stamp(folder / CONTENTS)).get(path.relative_to(folder).as_posix())
            if expected is None:
                raise _damaged(path, f"is not listed in {folder / CONTENTS}", folder)
            if _hash_once(path, *_stamp(path)) != expected:
                raise _damaged(path, "was cut or altered since it was written", folder)
            break
    return path


def content_hash(path: Path) -> str:
    """xxh3-128 of a file's bytes, in hexadecimal."""
    found = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            found.update(block)
    return found.hexdigest()


def _stamp(path: Path) -> tuple[int, int, int]:
    """Values that change when a file changes: inode number, size in bytes, time of change in nanoseconds."""
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


@cache
def _hash_once(path: Path, *stamp: int) -> str:
    return content_hash(path)


@cache
def _listed(path: Path, *stamp: int) -> dict[str, str]:
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(listed, dict):
            return listed
    except ValueError:
        pass
    raise _damaged(path, "does not list the files of its folder", path.parent)


def _damaged(path: Path, fault: str, folder: Path) -> SketchstackError:
    return SketchstackError(
        f"{path} {fault}. Remove {folder} and run `dvc repro`, which restores it from DVC's cache or makes it again."
    )


@contextmanager
def own_folder(place: Path) -> Iterator[Path]:
    """Give a new folder to fill for people; it is sealed and moved to `place` if the block succeeds.

    An existing folder is replaced only if this program wrote every file in it and none has changed since.

    Raises:
        SketchstackError: `place` is a file, or holds other files; or as `whole_folder`.
    """
    check_replaceable(place)
    with whole_folder(place) as folder:
        yield folder
        seal(folder)


def check_replaceable(place: Path) -> None:
    """Refuse a place whose content must not be replaced, before any work.

    Raises:
        SketchstackError: it is a file, or holds a file that this program did not write.
    """
    if found := _not_ours(place):
        raise SketchstackError(
            f"{found} is in the way: this program did not write it, or it was changed since. Name a folder that is "
            f"not there yet, or move it away."
        )


def _not_ours(place: Path) -> Path | None:
    """The first file of a place that must not be replaced, or None."""
    if not place.is_dir():
        return place if place.exists() or place.is_symlink() else None
    try:
        listed = _listed(place / CONTENTS, *_stamp(place / CONTENTS))
    except (OSError, SketchstackError):
        listed = {}
    for path in sorted(place.rglob("*")):
        name = path.relative_to(place).as_posix()
        if name != CONTENTS and not path.is_dir() and (path.is_symlink() or listed.get(name) != content_hash(path)):
            return path
    return None
