"""Parquet files with the columns of the CSV → lines of CSV.

A drawing is text as in the CSV, or nested lists: strokes of axes of numbers. A timestamp is text or a timestamp; one
without a time zone counts as UTC. Other columns are ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from pyarrow import types

from pipeline.foundation.errors import SketchstackError
from pipeline.raw.flat import CONVERTED

BATCH = 2**12  # rows that become lines at a time
LINE_ENDS = r"[\r\n]"
AGAIN = "Copy or download this file again, or remove it."
_OPTIONS = pa.csv.WriteOptions(include_header=False, quoting_style="needed")


def parquet_lines(file: IO[bytes], place: object, word: str | None) -> Iterator[bytes]:
    """The rows of a parquet file as lines of CSV with the columns CONVERTED, a batch of rows at a time.

    Args:
        file: can be read out of order.
        place: of the file, for messages.
        word: of the drawings; None in the test set.

    Raises:
        SketchstackError: the file is damaged, lacks a column, or has one of another type.
    """
    row = 0
    try:
        # Without pre_buffer a group of rows is read in pages, and not at once.
        parquet = pa.parquet.ParquetFile(file, pre_buffer=False, buffer_size=2**20)
        schema = parquet.schema_arrow
        _check_columns(schema, place, needs_word=word is not None)
        columns = [name for name in CONVERTED if name in schema.names]
        for batch in parquet.iter_batches(BATCH, columns=columns):
            yield _csv(batch)
            row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        where = f"{place}, behind row {row}" if row else place
        raise SketchstackError(f"{where}: it is damaged or no parquet file ({reason}). {AGAIN}") from None


def _check_columns(schema: pa.Schema, place: object, *, needs_word: bool) -> None:
    for name in ("key_id", "drawing", *(["word"] if needs_word else [])):
        if name not in schema.names:
            raise SketchstackError(
                f"{place}: the column {name!r} is missing; there are {', '.join(schema.names) or 'none'}. Write the "
                "file with the columns of the competition's CSV."
            )
    for name in CONVERTED:
        if schema.names.count(name) > 1:
            raise SketchstackError(f"{place}: the column {name!r} stands there twice; remove one.")
        if name in schema.names and not _KINDS[name][1](_plain_type(schema.field(name).type)):
            raise SketchstackError(
                f"{place}: the column {name!r} holds {schema.field(name).type}; write it as {_KINDS[name][0]}."
            )


def _plain_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    texts = (types.is_string, types.is_large_string, types.is_string_view, types.is_binary, types.is_large_binary)
    return types.is_null(kind) or any(is_one(kind) for is_one in texts)


def _is_list(kind: pa.DataType) -> bool:
    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view)
    return any(is_one(kind) for is_one in lists)


def _is_drawing(kind: pa.DataType) -> bool:
    depth = 0
    while _is_list(kind):
        kind, depth = kind.value_type, depth + 1
    numbers = types.is_integer(kind) or types.is_floating(kind)
    return types.is_null(kind) or (depth == 3 and numbers) or (depth == 0 and _is_text(kind))


_KINDS: dict[str, tuple[str, Callable[[pa.DataType], bool]]] = {
    "key_id": ("int64, uint64 or text (a float rounds it)", lambda kind: types.is_integer(kind) or _is_text(kind)),
    "countrycode": ("text", _is_text),
    "recognized": ("bool or text", lambda kind: types.is_boolean(kind) or _is_text(kind)),
    "timestamp": ("timestamp or text", lambda kind: types.is_temporal(kind) or _is_text(kind)),
    "word": ("text", _is_text),
    "drawing": ("text or nested lists: strokes of [x, y] or [x, y, t]", _is_drawing),
}


def _csv(batch: pa.RecordBatch) -> bytes:
    columns = {name: _text(name, batch.column(name)) for name in batch.schema.names}
    unknown = pa.nulls(batch.num_rows, pa.string())
    lines = pa.BufferOutputStream()
    table = pa.table({name: columns.get(name, unknown) for name in CONVERTED})
    pa.csv.write_csv(table, lines, _OPTIONS)
    return lines.getvalue().to_pybytes()


def _text(name: str, column: pa.Array) -> pa.Array:
    """A column as text, each in one line."""
    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if types.is_boolean(column.type):
        return pc.if_else(column, "True", "False")
    if types.is_temporal(column.type):
        return _times(column)
    if _is_list(column.type):
        return _json(column)
    column = column.cast(pa.string())
    if any(pc.any(pc.match_substring(column, end)).as_py() for end in "\r\n"):
        # White space is the same for JSON; elsewhere it must not make a wrong text a right one.
        column = pc.replace_substring_regex(column, LINE_ENDS, " " if name == "drawing" else "\ufffd")
    return column


def _times(column: pa.Array) -> pa.Array:
    """Timestamps as text, in UTC, to the microsecond."""
    zone = column.type.tz if types.is_timestamp(column.type) else None
    exact = column.cast(pa.timestamp("us", zone), safe=False)
    return pc.strftime(exact.cast(pa.int64()).cast(pa.timestamp("us")), "%Y-%m-%d %H:%M:%S")


def _json(column: pa.Array) -> pa.Array:
    """Nested lists of numbers as JSON."""
    if not _is_list(column.type):
        return pc.fill_null(column.cast(pa.string()), "null")
    items = _json(pc.list_flatten(column))
    counts = pc.fill_null(pc.list_value_length(column), 0).cast(pa.int64())
    ends: Any = pc.cumulative_sum(counts)
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), ends]).cast(pa.int32())
    inside = pc.binary_join(pa.ListArray.from_arrays(offsets, items), ", ")
    listed = pc.binary_join_element_wise("[", inside, "]", "")
    return pc.if_else(column.is_valid(), listed, "null")
