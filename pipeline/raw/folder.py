"""A folder of competition files that someone gives: what of it is copied, and what is not; links are followed."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from pipeline.foundation.errors import SketchstackError
from pipeline.raw.names import listed

NEEDED = ("train_simplified", "test_simplified.csv", "sample_submission.csv")
WELCOME = ("test_labels.csv", "source.json", "ndjson_simplified", "ndjson_raw", "train_raw", "test_raw.csv")
FOLDERS = ("train_simplified", "train_raw", "ndjson_simplified", "ndjson_raw")
SHOWN = 10  # names of a list that are told


def competition_files(folder: Path) -> list[Path]:
    """The competition's files in a folder, as paths inside it; see `left_out` for the other files there.

    Raises:
        SketchstackError: a needed file is missing, train_simplified/ is empty, or something is no file that can be
            copied.
    """
    found = {name: _there(folder, name) for name in (*NEEDED, *WELCOME)}
    missing = [name for name in NEEDED if not found[name]]
    if missing:
        names = sorted(path.name for path in folder.iterdir())
        raise SketchstackError(
            f"{folder} does not hold the competition files: {' and '.join(missing)} is missing or empty. It must hold "
            f"{', '.join(NEEDED)}, as the competition's download does, and holds {listed(names, SHOWN) or 'nothing'}. "
            f"The files of the words, one a word, belong into the folder train_simplified; files may be compressed."
        )
    return [path.relative_to(folder) for files in found.values() for path in files]


def left_out(folder: Path, files: Sequence[Path]) -> list[str]:
    """The names of what is in a folder and is not among these files: at its top, and hidden in their folders."""
    tops = {file.parts[0] for file in files}
    hidden = [path for top in sorted(tops) for path in all_files(folder / top, hidden=True)]
    others = [path for path in sorted(folder.iterdir()) if path.name not in tops]
    taken = set(files)
    names = [path.relative_to(folder) for path in (*others, *hidden) if path.relative_to(folder) not in taken]
    return [f"{name}/" if (folder / name).is_dir() else str(name) for name in names]


def _there(folder: Path, name: str) -> list[Path]:
    """The files of a name in a folder: as it is called, or else in another format: `test_simplified.*`."""
    path = folder / name
    if os.path.lexists(path):
        files = all_files(path)
        if name not in FOLDERS and path.is_dir():
            raise SketchstackError(
                f"{path} is a folder where a file belongs; put the file itself there, or remove the folder."
            )
        if name in FOLDERS and not path.is_dir():
            raise SketchstackError(
                f"{path} is a file where a folder belongs, with one file a word; give an archive its ending (.zip), or "
                f"unpack it."
            )
        if files:
            return files
    stem = name.removesuffix(".csv").removesuffix(".json")
    alike = sorted(each for each in folder.iterdir() if each.name.startswith(f"{stem}.") and not each.is_dir())
    return all_files(alike[0]) if alike else []


def all_files(path: Path, *, hidden: bool = False) -> list[Path]:
    """A file, or all files of a folder and of the folders in it; links are followed.

    Args:
        path: of the file or folder.
        hidden: also give files whose names start with a dot, such as .DS_Store of an operating system.

    Raises:
        SketchstackError: a link leads nowhere or back to a folder above it, or something is neither file nor folder.
    """
    return _files(path, frozenset(), hidden)


def _files(path: Path, above: frozenset[str], hidden: bool) -> list[Path]:
    kind = _kind(path)
    if stat.S_ISREG(kind):
        return [path]
    if not stat.S_ISDIR(kind):
        raise SketchstackError(f"{path} is neither a file nor a folder but a pipe, socket or device; remove it.")
    real = os.path.realpath(path)
    if real in above:
        raise SketchstackError(f"{path} is a link back to {real}, a folder above it; remove the link.")
    inside = [each for each in sorted(path.iterdir()) if hidden or not each.name.startswith(".")]
    return [file for each in inside for file in _files(each, above | {real}, hidden)]


def _kind(path: Path) -> int:
    """The mode of what a path leads to."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        leads = f"a link to {path.readlink()}, where nothing is" if path.is_symlink() else "not there"
        raise SketchstackError(f"{path} is {leads}; remove it, or bring back the file that it leads to.") from None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise SketchstackError(
            f"{path} is a link that leads back to itself; remove it, or put the file itself there."
        ) from None
