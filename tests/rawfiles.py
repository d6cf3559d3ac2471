"""Raw competition files made up for tests, with any fault that a test asks for, read row by row or shuffled."""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from pipeline.drawings.strokes import NO_TIME, Rows
from pipeline.foundation.params import Params, load_params
from pipeline.foundation.places import places
from pipeline.raw.files import RawFile, blocks, layout_of
from pipeline.raw.readers import Reject, RowReader
from pipeline.raw.records import BadRowError, Row, checked_row, csv_record, json_record
from pipeline.raw.spill import LETTERS, Gathered, Parts
from pipeline.stages import shuffle as shuffle_stage
from tests.conftest import ROOT, failing_main, run_main

COLUMNS = ("countrycode", "drawing", "key_id", "recognized", "timestamp", "word")
HEADER = ",".join(COLUMNS)
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
STAMP = "2017-03-09 00:28:55.63775 UTC"


def sketch(number: int) -> list[list[list[int]]]:
    """A drawing of two strokes, another one for each number below 65536."""
    return [[[number % 256, 255, 10], [number // 256, 0, 20]], [[5, 6], [7, 8]]]


def record(key_id: int, word: str, /, **changes: Any) -> dict[str, Any]:
    """A row of a raw file by column, a good one unless a change spoils it."""
    drawing = sketch(key_id % 65536)
    row = {"countrycode": "NA", "drawing": drawing, "key_id": str(key_id), "recognized": True, "timestamp": STAMP}
    return {**row, "word": word, **changes}


def csv_line(key_id: int, word: str, /, **changes: Any) -> str:
    """A row as a line of Kaggle's training CSV, without the line end."""
    row = record(key_id, word, **changes)
    drawing = row["drawing"] if isinstance(row["drawing"], str) else json.dumps(row["drawing"])
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow([{**row, "drawing": drawing}[column] for column in COLUMNS])
    return line.getvalue()


def ndjson_line(key_id: int, word: str, /, **changes: Any) -> str:
    """A row as a line of Google's simplified ndjson."""
    return json.dumps(record(key_id, word, **changes))


def line_of_test(key_id: int, /, **changes: Any) -> str:
    """A row as a line of Kaggle's test CSV, whose columns are others."""
    row = record(key_id, "", **changes)
    return f'{row["key_id"]},{row["countrycode"]},"{json.dumps(row["drawing"])}"'


def some_params(folder: str = "data/synthetic", **changes: Any) -> Params:
    """The synthetic profile on one thread, with other changes to its top level or to `shuffle`."""
    raw = load_params(ROOT / "profiles" / "synthetic.yaml").model_dump()
    raw["threads"] = changes.pop("threads", 1)
    raw["data"]["folder"] = folder
    for name, value in changes.items():
        block = raw["shuffle"] if name in raw["shuffle"] else raw
        block[name] = value
    return Params.model_validate(raw)


def write_lines(path: Path, lines: list[str], end: str = "\n") -> Path:
    """Write lines with their ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def write_competition(
    home: Path, train: dict[str, list[str]], test: list[str] | None = None, suffix: str = ".csv", **changes: Any
) -> None:
    """Write params.yaml and raw files: lines for each word (headers are added to CSV), and lines for the test file."""
    params = some_params(**changes)
    (home / "params.yaml").write_text(yaml.safe_dump(params.model_dump()))
    data = home / params.data.folder
    for word, lines in train.items():
        write_lines(data / params.data.train / f"{word}{suffix}", [*([HEADER] if suffix == ".csv" else []), *lines])
    lines = [line_of_test(9_000_000 + row) for row in range(4)] if test is None else test
    write_lines(data / params.data.test, ["key_id,countrycode,drawing", *lines])


def run_shuffle(home: Path) -> Path:
    """Run the stage in a folder; give the folder of its folds."""
    with contextlib.chdir(home):
        run_main(shuffle_stage)
    return home / places(home).folds


def failing_shuffle(home: Path) -> str:
    """Run the stage, which must fail; give its paragraph on one line."""
    with contextlib.chdir(home):
        return failing_main(shuffle_stage)


class Taken(NamedTuple):
    """A row as it was read, its drawing as nested lists of [x, y] or [x, y, t]."""

    line: int
    key_id: int
    countrycode: str | None
    recognized: bool | None
    timestamp: datetime.datetime | None
    drawing: list[list[list[int]]]


def rows_of(raw: RawFile) -> list[Taken | Reject]:
    """What becomes of each row of a raw file, by line."""
    found, _ = rows_and_slow_ones(raw)
    return found


def rows_and_slow_ones(raw: RawFile) -> tuple[list[Taken | Reject], int]:
    """What becomes of each row of a raw file, and how many of the good ones the compiled reader left to `records`."""
    layout = layout_of(raw)
    gathered = Gathered(Parts(Path("nowhere"), bool(layout.timed)), lambda rows: rows.word)
    found: list[Taken | Reject] = []
    reader, slow = RowReader(raw, layout, 0, gathered), 0
    read_slowly = reader._read_slowly

    def counted(text, line):
        nonlocal slow
        before = gathered.filled
        yield from read_slowly(text, line)
        slow += gathered.filled - before

    reader._read_slowly = counted  # type: ignore[method-assign]
    for block in blocks(raw, layout.above):
        found += list(reader.read(block))
    found += [_taken(gathered.rows, place) for place in range(gathered.filled)]
    return sorted(found, key=lambda item: item.line), slow


def _taken(rows: Rows, place: int) -> Taken:
    code, stamp = int(rows.countrycode[place]), int(rows.timestamp[place])
    starts = np.cumsum([rows.points[place], *rows.stroke[rows.strokes[place] : rows.strokes[place + 1]]]).tolist()
    axes = [axis for axis in (rows.x, rows.y, rows.t) if len(axis)]
    assert starts[-1] == rows.points[place + 1]
    return Taken(
        int(rows.line[place]),
        int(rows.key_id[place]),
        None if code < 0 else LETTERS[code // 26] + LETTERS[code % 26],
        None if rows.recognized[place] < 0 else bool(rows.recognized[place]),
        None if stamp == NO_TIME else EPOCH + datetime.timedelta(microseconds=stamp),
        [[axis[a:b].tolist() for axis in axes] for a, b in itertools.pairwise(starts)],
    )


def slowly(raw: RawFile) -> list[Taken | Reject]:
    """What `records` alone makes of each row of a raw file, by line."""
    layout, found = layout_of(raw), list[Taken | Reject]()
    for line, text in enumerate(raw.path.read_bytes().split(b"\n"), 1):
        if line <= layout.above or not text.strip():
            continue
        key_id = ""
        try:
            record = csv_record(text, list(layout.columns)) if layout.columns else json_record(text)
            key_id = str(record.get("key_id", ""))[:80]
            row = checked_row(record, raw.word, bool(layout.timed))
        except BadRowError as error:
            found.append(Reject(str(raw), line, key_id, str(error)))
        else:
            found.append(Taken(line, *row[:-1], lists_of(row)))
    return found


def lists_of(row: Row) -> list[list[list[int]]]:
    """The drawing of a row as nested lists."""
    axes = [axis for axis in row.strokes[:3] if axis is not None]
    cuts = np.cumsum(row.strokes.stroke)[:-1]
    return [[piece.tolist() for piece in stroke] for stroke in zip(*(np.split(a, cuts) for a in axes), strict=True)]
