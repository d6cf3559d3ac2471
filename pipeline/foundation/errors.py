"""How Sketchstack fails: one paragraph that names the file, the row, the cause and the remedy."""

from __future__ import annotations

import functools
import sys
import textwrap
from collections.abc import Callable


class SketchstackError(Exception):
    """Something a user can mend. Its text says what is wrong, where, and what to do about it."""


def one_paragraph_errors(main: Callable[..., None]) -> Callable[..., None]:
    """Let a command end without a traceback: on a SketchstackError with its text on stderr, on Ctrl-C with one line.

    A library that is not installed is told with the remedy. Exit code 1, and 130 after Ctrl-C.
    """

    @functools.wraps(main)
    def command(*args: object, **kwargs: object) -> None:
        try:
            main(*args, **kwargs)
        except SketchstackError as error:
            sys.exit(_paragraph(str(error)))
        except ModuleNotFoundError as error:
            if str(error.name).startswith("pipeline"):
                raise
            sys.exit(_paragraph(f"the library {error.name!r} is not installed here; run `make setup`."))
        except KeyboardInterrupt:
            print("\nStopped; the same command goes on.", file=sys.stderr)
            sys.exit(130)

    return command


def _paragraph(text: str) -> str:
    return "\n" + textwrap.fill(f"Error: {text}", 110, break_long_words=False, break_on_hyphens=False)
