"""Progress bars for terminals and log files."""

from __future__ import annotations

import sys

from tqdm import tqdm


def progress_bar(name: str, *, total: int, unit: str, initial: int = 0, shown: bool = True) -> tqdm:
    """A bar with the rate and the time left; in a log file it adds a line every half minute, not one per update."""
    quiet = not sys.stderr.isatty()
    return tqdm(
        total=total, initial=initial, desc=name, unit=f" {unit}", unit_scale=total > 10_000, smoothing=0.1,
        mininterval=30 if quiet else 0.2, maxinterval=30 if quiet else 1, dynamic_ncols=not quiet, disable=not shown,
    )  # fmt: skip
