"""How Sketchstack fails: one paragraph that names the file, the row, the cause and the remedy."""

from __future__ import annotations

import functools
import sys
import textwrap
from collections.abc import Callable


class SketchstackError(Exception):
    """Something a user can mend. Its text says what is wrong, where, and what to do about it."""


def one_paragraph_errors(main: Callable[..., None]) -> Callable[..., None]:
    """Let a command end on a SketchstackError with its text on stderr and exit code 1, without a traceback."""

    @functools.wraps(main)
    def command(*args: object, **kwargs: object) -> None:
        try:
            main(*args, **kwargs)
        except SketchstackError as error:
            sys.exit("\n" + textwrap.fill(f"Error: {error}", 110, break_long_words=False, break_on_hyphens=False))

    return command
