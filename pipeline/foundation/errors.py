"""How Sketchstack fails: one paragraph that names the file, the row, the cause and the remedy."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import resource
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path

FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file has reached the size that this shell allows (`ulimit -f`)",
}
REMEDIES = {
    errno.EACCES: "give yourself the right to it",
    errno.EPERM: "give yourself the right to it",
    errno.EROFS: "work on a disk that can be written",
    errno.EMFILE: "allow more open files (`ulimit -n 4096`)",
    errno.ENFILE: "close other programs: the system has no more open files",
    errno.ENOENT: "run `make repro`, which makes what the pipeline makes; bring back what is yours",
    errno.EISDIR: "a folder stands where a file belongs: move it away",
    errno.ENOTDIR: "a file stands where a folder belongs: move it away",
    errno.ELOOP: "a link leads back to itself: remove it",
    errno.ENOMEM: "close other programs: there is not enough memory",
}


NO_TEMPORARY = "No usable temporary directory"  # tempfile's words
LITTLE = 64_000_000  # bytes
TMPDIR = "Make room there, or name a folder on a larger disk (`export TMPDIR=FOLDER`), and run the same command again."


class SketchstackError(Exception):
    """An error that a user can fix. Its text says what is wrong, where, and how to fix it."""


def one_paragraph_errors(main: Callable[..., None]) -> Callable[..., None]:
    """Let a command end without a traceback: with one paragraph on stderr, on Ctrl-C with one line.

    It tells a SketchstackError by its text, a library that is not installed, a file or disk that the system refuses
    and a lack of memory with a remedy. A character that stdout or stderr cannot show is replaced. Exit code 1; 130
    after Ctrl-C; 141 where a reader of stdout has gone (`| head`).
    """

    @functools.wraps(main)
    def command(*args: object, **kwargs: object) -> None:
        replace_what_cannot_be_shown()
        try:
            main(*args, **kwargs)
            if sys.stdout is not None:
                sys.stdout.flush()
        except SketchstackError as error:
            sys.exit(_paragraph(str(error)))
        except ModuleNotFoundError as error:
            if str(error.name).startswith("pipeline"):
                raise
            sys.exit(_paragraph(f"the library {error.name!r} is not installed here; run `make setup`."))
        except KeyboardInterrupt:
            print("\nStopped; run the same command again to resume.", file=sys.stderr)
            sys.exit(130)
        except BrokenPipeError:
            _give_up_stdout()
            sys.exit(141)
        except OSError as error:
            sys.exit(_paragraph(refused_by_the_system(error)))
        except MemoryError as error:
            sys.exit(_paragraph(f"there is not enough memory ({str(error) or 'an allocation failed'}). {_peak()}"))

    return command


def is_full(error: OSError) -> bool:
    """Whether a file could not be written for lack of disk space."""
    return error.errno in FULL or (error.errno is None and "requested and" in str(error))  # of numpy.save


def no_room(place: Path, error: OSError, written: int) -> SketchstackError:
    """What to say of an artefact for which there is no room.

    Args:
        place: where it was to go.
        error: the system's.
        written: bytes of it that were written.
    """
    reason = FULL.get(error.errno or errno.ENOSPC, "the disk is full")
    home = next(folder for folder in (place, *place.absolute().parents) if folder.is_dir())
    free = f"{shutil.disk_usage(home).free / 1e6:,.1f} MB of disk space are free at {home}"
    remedy = "Raise that limit" if error.errno == errno.EFBIG else "Make room"
    return SketchstackError(
        _temporary_folder_is_full(place, error)
        or f"{place} cannot be written: {reason}. {written / 1e6:,.1f} MB of it were written, and {free}. {remedy} and "
        f"run the same command again; what was there before is untouched."
    )


def refused_by_the_system(error: OSError) -> str:
    """A paragraph about a file, with a remedy, for what the system says."""
    if NO_TEMPORARY in str(error):
        return (
            "no folder for temporary files can be written: TMPDIR, /tmp, /var/tmp and the working folder are missing, "
            f"read-only or full. {TMPDIR}"
        )
    if is_full(error):
        places = [os.fsdecode(error.filename)] if error.filename else [".", tempfile.gettempdir()]
        return str(no_room(Path(min(places, key=_free)), error, 0))
    what = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    reason = error.strerror or str(error) or type(error).__name__
    remedy = REMEDIES.get(error.errno or 0, "see that it can be read and written")
    return f"{what or 'a file'}: {reason}; {remedy}, and run the same command again."


def _temporary_folder_is_full(place: Path, error: OSError) -> str:
    """What to say if the folder for temporary files is full, and the disk of `place` is not; else empty."""
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError:
        return ""
    if error.errno == errno.EFBIG or not _free(folder) < LITTLE < _free(str(place)):
        return ""
    return (
        f"{place} cannot be written: the folder for temporary files, {folder}, is full; "
        f"{_free(folder) / 1e6:,.1f} MB are free there. {TMPDIR} What was there before is untouched."
    )


def _free(place: str) -> int:
    """Bytes that are free on the disk of a file that may not be there."""
    return shutil.disk_usage(next(folder for folder in Path(place, ".").absolute().parents if folder.is_dir())).free


def _peak() -> str:
    """The most memory that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return f"This process has held {peak / 1e9:.1f} GB; close other programs, or lower batch sizes in params.yaml."


def replace_what_cannot_be_shown() -> None:
    """A table has characters that not every terminal has: one is lost, not a finished stage."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _give_up_stdout() -> None:
    """Leave nothing to be written when Python ends: the reader has gone."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _paragraph(text: str) -> str:
    return "\n" + textwrap.fill(f"Error: {text}", 110, break_long_words=False, break_on_hyphens=False)
