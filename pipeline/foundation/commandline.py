"""The command line of a command: its options, an example under `--help`, the nearest name for a mistyped option."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """The parser of one command.

    Args:
        command: its name, as in `sketchstack COMMAND`.
        description: of the command; the docstring of its `main`.
        examples: complete command lines, shown at the end of `--help`.
    """

    def __init__(self, command: str, description: str | None, *examples: str) -> None:
        shown = "\n  ".join(["example:" if len(examples) == 1 else "examples:", *examples])
        super().__init__(
            prog=f"sketchstack {command}",
            description=description,
            epilog=shown,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The arguments as a namespace; an unknown option ends the command with the nearest known option."""
        given, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"there is no {unknown[0]!r}{nearest(unknown[0], self._option_string_actions)}")
        return given

    def error(self, message: str) -> NoReturn:
        """End with exit code 2, after the usage."""
        super().error(f"{message}; see `{self.prog} --help`")


def count(text: str) -> int:
    """The type of an option that takes an integer from 1 on."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def nearest(name: str, known: Sequence[str] | dict[str, Any]) -> str:
    """`; do you mean X?` with the known name most similar to an unknown one; empty if none is similar."""
    found = difflib.get_close_matches(name.partition("=")[0], list(known), n=1)
    return f"; do you mean {found[0]}?" if found else ""
