"""Artefacts appear whole or not at all: they are written beside their place and renamed into it."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def partial(place: Path) -> Path:
    """Where an artefact is written before it takes its place."""
    return place.with_name(f".{place.name}.partial")


@contextmanager
def whole_folder(place: Path) -> Iterator[Path]:
    """Give a new folder to fill; it takes `place` (and replaces what was there) only if the block ends well."""
    beside = partial(place)
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
    except BaseException:
        shutil.rmtree(beside)
        raise
    former = place.with_name(f".{place.name}.former.partial")
    shutil.rmtree(former, ignore_errors=True)
    if place.exists():
        place.rename(former)
    beside.rename(place)
    shutil.rmtree(former, ignore_errors=True)


@contextmanager
def whole_file(place: Path) -> Iterator[Path]:
    """Give a path to write; the file takes `place` in one step, synced to disk, only if the block ends well."""
    beside = partial(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    yield beside
    with beside.open("rb+") as written:
        os.fsync(written.fileno())
    beside.replace(place)


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
