"""Columns and key_ids of a CSV from outside: read as text; errors name the row and the remedy."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.foundation.errors import SketchstackError
from pipeline.raw.packing import opened_text

_INTEGER = re.compile(r"0|[1-9][0-9]{0,19}")  # without the zeros, point or exponent that a spreadsheet adds
IDS = range(2**64)  # of drawings; the shards store those from 2**63 on as negative int64


def read_columns(path: Path, columns: Sequence[str]) -> dict[str, list[str]]:
    """Read some columns of a CSV from outside as text; other columns are ignored.

    Raises:
        SketchstackError: the file is missing, is not UTF-8, has no such column, or a row has a wrong number of fields.
    """
    try:
        with opened_text(path) as file:
            header, *rows = list(csv.reader(file, strict=True)) or [[]]
    except FileNotFoundError:
        raise SketchstackError(f"{path} is missing; it must be a CSV with the columns {','.join(columns)}.") from None
    except (UnicodeDecodeError, csv.Error, IsADirectoryError) as error:
        raise SketchstackError(f"{path} cannot be read as a CSV in UTF-8 ({error}); save it again as one.") from None
    if missing := [column for column in columns if column not in header]:
        raise SketchstackError(
            f"{path} has no column {' and no column '.join(missing)}; its first line is {','.join(header)!r} and must "
            f"name {','.join(columns)}."
        )
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise SketchstackError(
                f"{path} {row_place(number)} has {len(row)} fields, but the header names {len(header)}; fix that row."
            )
    return {column: [row[header.index(column)] for row in rows] for column in columns}


def read_key_ids(path: Path, texts: Sequence[str]) -> np.ndarray:
    """Convert a file's column of key_ids to (N,) int64, as the shards store them.

    Raises:
        SketchstackError: a key_id is not a 64-bit integer, or is repeated.
    """
    found: dict[int, int] = {}
    for row, text in enumerate(texts, 1):
        key_id = parsed_key_id(text)
        if key_id is None:
            raise SketchstackError(
                f"{path} {row_place(row)} has the key_id {text!r}, which is not a 64-bit integer (0 to 2^64 - 1, "
                "without leading zeros); read and write key_ids as text or integers (a float rounds them)."
            )
        if key_id in found:
            raise SketchstackError(
                f"{path} {row_place(row)} repeats the key_id {key_id} of row {found[key_id]}; remove one of the rows."
            )
        found[key_id] = row
    return np.fromiter(found, np.uint64, len(found)).view(np.int64)


def row_place(row: int) -> str:
    """A row's number in the data, and its line number in the file."""
    return f"row {row} (line {row + 1})" if row else "line 1"


def parsed_key_id(text: str) -> int | None:
    """The key_id that a text spells, 0..2^64 - 1, or None if it is not one."""
    return int(text) if _INTEGER.fullmatch(text) and int(text) in IDS else None


def stored_id(key_id: int) -> int:
    """A key_id as the shards store it: the int64 with the same 64 bits."""
    return key_id - 2**64 if key_id >= 2**63 else key_id


def written_id(stored: int) -> int:
    """A key_id as files spell it, from the int64 that the shards store."""
    return int(stored) % 2**64


def written_ids(stored: np.ndarray) -> np.ndarray:
    """Key_ids as files spell them, (N,) uint64, from the int64 that the shards store."""
    return np.ascontiguousarray(stored, np.int64).view(np.uint64)
