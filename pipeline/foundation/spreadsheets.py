"""Cells of CSVs that people open in a spreadsheet: text of a user's file must not become a formula there.

A cell that starts with = + - @ or a tab gets an apostrophe in front, which a spreadsheet takes for "this is text". What
reads such a file again takes the apostrophe away.

A spreadsheet keeps 15 digits of a number: of a longer key_id the last digits become zeros when the file is saved.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
_ESCAPED = re.compile(r"'+[=+\-@\t\r\n]")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
DIGITS = 15  # of a number that a spreadsheet keeps
ROUNDED = (
    "The last digits of the key_ids in it are zeros, as a spreadsheet leaves them, which keeps 15 digits of a number: "
    "take the file as it was before, and import it into the spreadsheet with key_id as a column of text."
)


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


def rounded(key_ids: Iterable[int]) -> bool:
    """Whether a spreadsheet may have rounded key_ids: some have more digits than it keeps, and these end in 0.

    Of unrounded key_ids, one in ten or fewer ends so.
    """
    long = [key_id for key_id in map(abs, key_ids) if key_id >= 10**DIGITS]
    return bool(long) and all(key_id % 10 ** (len(str(key_id)) - DIGITS) == 0 for key_id in long)


def why_unknown(key_ids: Iterable[int]) -> str:
    """A sentence for a message about key_ids that another file lacks, with a blank before it; empty if none fits."""
    return f" {ROUNDED}" if rounded(key_ids) else ""
