"""Raw competition files made up for tests, with any fault that a test asks for, and the shuffle stage run on them."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import shuffle
from pipeline.params import Params, load_params
from tests.conftest import ROOT

COLUMNS = ("countrycode", "drawing", "key_id", "recognized", "timestamp", "word")
HEADER = ",".join(COLUMNS)
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
    with contextlib.chdir(home), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["shuffle"])
        shuffle.main()
    return home / "folds"


def failing_shuffle(home: Path) -> str:
    """Run the stage, which must fail; give its paragraph on one line."""
    with pytest.raises(SystemExit) as failed:
        run_shuffle(home)
    return " ".join(str(failed.value.code).split())
