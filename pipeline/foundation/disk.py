"""The space of a disk: what is sure not to fit is refused before hours of work."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.foundation.errors import SketchstackError


def check_space(place: Path, needed: int, what: str, remedy: str) -> None:
    """Refuse to start what is sure not to fit.

    Args:
        place: the file or folder to be written; it need not exist yet.
        needed: the least that it takes, in bytes.
        what: takes that space.
        remedy: what to do about it.

    Raises:
        SketchstackError: fewer than `needed` bytes are free there.
    """
    home = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(home).free
    if needed > free:
        raise SketchstackError(
            f"{what} takes at least {size(needed)}, and {size(free)} of disk space are free at {home}; {remedy}."
        )


def size(count: float) -> str:
    """Bytes as people read them: `850 kB`, `11.2 GB`."""
    unit, name = next(((unit, name) for unit, name in ((1e9, "GB"), (1e6, "MB")) if count >= unit), (1e3, "kB"))
    return f"{count / unit:,.0f} {name}" if name == "kB" else f"{count / unit:,.1f} {name}"
