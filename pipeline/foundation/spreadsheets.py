"""Cells of CSVs that people open in a spreadsheet: text of a user's file must not become a formula there.

A cell that starts with = + - @ or a tab gets an apostrophe in front, which a spreadsheet takes for "this is text". What
reads such a file again takes the apostrophe away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_ESCAPED = re.compile(r"'+[=+\-@\t\r\n]")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def safe_cell(value: Any) -> Any:
    """A value as a cell that no spreadsheet takes for a formula; numbers and all other texts stay as they are."""
    if not isinstance(value, str) or not _FORMULA.match(value) or _NUMBER.fullmatch(value):
        return value
    return f"'{value}"


def safe_row(values: Iterable[Any]) -> list[Any]:
    """`safe_cell` of each value of a row."""
    return [safe_cell(value) for value in values]


def cell_text(cell: str) -> str:
    """The text that `safe_cell` made a cell of."""
    return cell[1:] if _ESCAPED.match(cell) else cell
