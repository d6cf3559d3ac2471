"""logs/<profile>/: timings and live curves. No result depends on them, so nothing stops for one that is damaged."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from pipeline.foundation.artefacts import whole_file

P = ParamSpec("P")


def luxury(write: Callable[P, None]) -> Callable[P, None]:
    """Let a function that only writes logs fail with a warning."""

    @wraps(write)
    def writing(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            write(*args, **kwargs)
        except Exception as error:  # of the system, of the library that writes, of what a log held before
            print(f"warning: a log is not written ({error}); no result depends on it.", flush=True)

    return writing


@luxury
def note(path: Path, values: Mapping[str, Any]) -> None:
    """Write values as JSON, whole or not at all; a failure is a warning."""
    with whole_file(path) as file:
        file.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def noted(path: Path) -> dict[str, Any]:
    """What `note` wrote; empty where it is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def seconds_of(path: Path) -> dict[str, float]:
    """The numbers of a note; empty where it is missing or holds another thing."""
    found = noted(path)
    return found if all(isinstance(value, int | float) for value in found.values()) else {}
