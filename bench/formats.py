"""Formats of raw files: rows a second of each on the same drawings, against a plain reader of the format."""

from __future__ import annotations

import argparse
import bz2
import csv
import datetime
import gzip
import json
import lzma
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.competition import mini_params, scratch_folder
from bench.tables import (
    RESULTS,
    RUNS,
    Measured,
    Row,
    arguments,
    hardware,
    in_turn,
    markdown_table,
    number,
    publish,
    rate,
)
from pipeline.drawings.words import spell
from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.errors import SketchstackError, one_paragraph_errors
from pipeline.foundation.params import Params
from pipeline.raw.files import RawFile, blocks, layout_of
from pipeline.raw.names import word_of_name
from pipeline.raw.readers import RowReader, by_hash
from pipeline.raw.spill import Gathered, Parts

FILES = 5
TOGETHER = 20  # words of the mini profile whose drawings one file holds
Record = dict[str, Any]


class Format(NamedTuple):
    """A format to measure.

    Attributes:
        suffix: of its files.
        write: writes a word's rows to a file.
        plain: reads a file's rows in the usual way, and returns their number; None where there is no usual way.
        by: what the plain reader is.
    """

    suffix: str
    write: Callable[[Path, list[Record]], None]
    plain: Callable[[Path], int] | None = None
    by: str = ""


def write_csv(path: Path, rows: list[Record], pack: Callable[[bytes], bytes] = bytes) -> None:
    """Kaggle's CSV, compressed by `pack`."""
    path.write_bytes(pack(pd.DataFrame(rows).to_csv(index=False, quoting=csv.QUOTE_MINIMAL).encode()))


def write_ndjson(path: Path, rows: list[Record]) -> None:
    """Google's ndjson."""
    lines = ({**row, "drawing": json.loads(row["drawing"]), "recognized": row["recognized"] == "True"} for row in rows)
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


def write_parquet(path: Path, rows: list[Record], nested: bool = False) -> None:
    """The columns of the CSV; drawings as text or as nested lists."""
    drawings: list[Any] = [json.loads(row["drawing"]) if nested else row["drawing"] for row in rows]
    table = pa.Table.from_pylist([{**row, "drawing": None} for row in rows]).drop_columns("drawing")
    kind = pa.list_(pa.list_(pa.list_(pa.uint8()))) if nested else pa.string()
    pq.write_table(table.append_column("drawing", pa.array(drawings, kind)), path)


def write_binary(path: Path, rows: list[Record]) -> None:
    """Google's binary files."""
    with path.open("wb") as file:
        for row in rows:
            drawing, known = json.loads(row["drawing"]), row["recognized"] == "True"
            head = int(row["key_id"]), row["countrycode"].encode(), known, _seconds(row["timestamp"]), len(drawing)
            file.write(struct.pack("<Q2sbIH", *head))
            for x, y in drawing:
                file.write(struct.pack("<H", len(x)) + bytes(x) + bytes(y))


def _seconds(stamp: str) -> int:
    """Seconds since 1970; 0 for a row without a timestamp."""
    moment = datetime.datetime.fromisoformat(stamp.removesuffix(" UTC")) if stamp else None
    return int(moment.replace(tzinfo=datetime.UTC).timestamp()) if moment else 0


def write_sketchrnn(path: Path, rows: list[Record]) -> None:
    """sketch-rnn's arrays, all drawings in `train`."""
    train = np.empty(len(rows), object)
    for place, row in enumerate(rows):
        drawing = json.loads(row["drawing"])
        points = [(x, y, at == len(xs) - 1) for xs, ys in drawing for at, (x, y) in enumerate(zip(xs, ys, strict=True))]
        moves = np.array(points, np.int16)
        moves[1:, :2] -= moves[:-1, :2].copy()
        train[place] = moves
    with path.open("wb") as file:
        np.savez_compressed(file, train=train, valid=train[:0], test=train[:0])


def plain_csv(path: Path) -> int:
    """pandas and json."""
    return len([json.loads(drawing) for drawing in pd.read_csv(path)["drawing"]])


def plain_ndjson(path: Path) -> int:
    """json, line by line."""
    with path.open(encoding="utf-8") as file:
        return len([json.loads(line) for line in file])


def plain_parquet(path: Path) -> int:
    """pandas and json."""
    return len([json.loads(drawing) for drawing in pd.read_parquet(path)["drawing"]])


def plain_nested_parquet(path: Path) -> int:
    """pyarrow, drawings as Python lists."""
    return len(pq.read_table(path)["drawing"].to_pylist())


def plain_binary(path: Path) -> int:
    """struct, a drawing at a time, as in the example of the dataset's authors."""

    def drawings() -> Iterator[tuple[Any, ...]]:
        with path.open("rb") as file:
            while head := file.read(17):
                *fields, strokes = struct.unpack("<Q2sbIH", head)
                drawing = []
                for _ in range(strokes):
                    (points,) = struct.unpack("<H", file.read(2))
                    axes = (
                        struct.unpack(f"{points}B", file.read(points)),
                        struct.unpack(f"{points}B", file.read(points)),
                    )
                    drawing.append(axes)
                yield *fields, drawing

    return len([*drawings()])


def plain_sketchrnn(path: Path) -> int:
    """NumPy, which runs what a pickle asks for; then each drawing is summed up, aligned and scaled."""
    found = []
    with np.load(path, allow_pickle=True, encoding="latin1") as arrays:
        for name in ("train", "valid", "test"):
            for moves in arrays[name]:
                points = np.cumsum(moves[:, :2], axis=0, dtype=np.float64)
                points -= points.min(axis=0)
                scaled = np.rint(points / max(points.max(), 1) * 255).astype(np.uint8)
                found.append(np.split(scaled, np.flatnonzero(moves[:-1, 2]) + 1))
    return len(found)


def zstd(content: bytes) -> bytes:
    """Compressed with Zstandard."""
    packed = pa.BufferOutputStream()
    with pa.CompressedOutputStream(packed, "zstd") as file:
        file.write(content)
    return packed.getvalue().to_pybytes()


PANDAS, JSON, STRUCT = "pandas.read_csv, json.loads", "json.loads", "struct, as in Google's example"
FORMATS = {
    "CSV": Format(".csv", write_csv, plain_csv, PANDAS),
    "CSV, gzip": Format(".csv.gz", lambda path, rows: write_csv(path, rows, gzip.compress), plain_csv, PANDAS),
    "CSV, bzip2": Format(".csv.bz2", lambda path, rows: write_csv(path, rows, bz2.compress), plain_csv, PANDAS),
    "CSV, xz": Format(".csv.xz", lambda path, rows: write_csv(path, rows, lzma.compress), plain_csv, PANDAS),
    "CSV, Zstandard": Format(".csv.zst", lambda path, rows: write_csv(path, rows, zstd)),
    "ndjson": Format(".ndjson", write_ndjson, plain_ndjson, JSON),
    "Parquet, drawings as text": Format(
        ".parquet", write_parquet, plain_parquet, "pandas.read_parquet, json.loads"
    ),
    "Parquet, drawings as lists": Format(
        ".parquet", lambda path, rows: write_parquet(path, rows, nested=True), plain_nested_parquet,
        "pyarrow.parquet, to_pylist",
    ),
    "Google's binary files": Format(".bin", write_binary, plain_binary, STRUCT),
    "sketch-rnn's arrays": Format(".npz", write_sketchrnn, plain_sketchrnn, "numpy.load with pickles, cumsum"),
}  # fmt: skip


def read_rows(paths: Sequence[Path], folder: Path) -> int:
    """Read files as the shuffle does, on one thread; returns the number of rows, none of which may be rejected."""
    count = 0
    for path in paths:
        raw = RawFile(path, 0, spell(str(word_of_name(path.name))))
        layout = layout_of(raw)
        with Parts(folder, bool(layout.timed)) as parts:
            gathered = Gathered(parts, by_hash(1, 1))
            reader = RowReader(raw, layout, 0, gathered)
            for block in blocks(raw, layout.above):
                for reject in reader.read(block):
                    raise SketchstackError(f"a row of the benchmark was rejected: {reject}")
            count += gathered.filled
    return count


def read_text(path: Path) -> pd.DataFrame:
    """A CSV with all columns as text."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def write_formats(params: Params, folder: Path, rows: int | None) -> tuple[dict[str, list[Path]], int]:
    """Write the same drawings in each format; returns the files of each, and the number of rows."""
    found: dict[str, list[Path]] = {name: [] for name in FORMATS}
    sources = sorted((Path(params.data.folder) / params.data.train).glob("*.csv"))[: FILES * TOGETHER]
    count = 0
    for source in sources[:FILES]:
        frame = pd.concat([read_text(path) for path in sources[sources.index(source) :: FILES]])
        frame["word"] = source.stem
        if rows is not None:
            frame = frame[: max(1, rows // FILES)]
        rows_of_word: list[Record] = json.loads(frame.to_json(orient="records"))
        count += len(rows_of_word)
        for number_of, (name, form) in enumerate(FORMATS.items()):
            place = folder / str(number_of)
            place.mkdir(exist_ok=True)
            found[name].append(place / f"{source.stem}{form.suffix}")
            form.write(found[name][-1], rows_of_word)
    return found, count


def measure(params: Params, scratch: Path, runs: int, rows: int | None) -> Measured:
    """Read each format in turn, ours and the plain way."""
    files, count = write_formats(params, scratch, rows)
    spilled = scratch / "spilled"
    spilled.mkdir()
    measures: dict[str, Callable[[], float]] = {}
    for name, form in FORMATS.items():
        if (read := read_rows(files[name], spilled)) != count:  # also compiles the kernels
            raise SketchstackError(f"{name}: {read} rows instead of {count}")
        measures[name] = lambda name=name: rate(lambda: read_rows(files[name], spilled))  # type: ignore[misc]
        if form.plain is not None:
            plain = form.plain
            measures[f"plain {name}"] = lambda name=name, plain=plain: rate(  # type: ignore[misc]
                lambda: sum(map(plain, files[name]))
            )
    found = in_turn(runs, **measures)
    return Measured(
        Path(__file__).stem,
        f"Formats: {count:,} rows in {FILES} files, on one thread",
        [Row(name, "rows/s", found[name], found.get(f"plain {name}", ())) for name in FORMATS],
        [
            "Ours: files → checked rows in flat arrays with their hashes, as in the shuffle, which uses all threads.",
            "Reference: files → Python objects. " + "; ".join(f"{name}: {f.by}" for name, f in FORMATS.items() if f.by)
            + ". pandas reads Zstandard only with a further package.",
            "Bytes a row: " + ", ".join(
                f"{name} {sum(path.stat().st_size for path in files[name]) / count:.0f}" for name in FORMATS
            ) + ".",
        ],
    )  # fmt: skip


def markdown(measured: Measured) -> str:
    """The table as formats.md."""
    cells = []
    for row in measured.rows:
        ratio, plain = row.figure("ratio"), FORMATS[row.what]
        ours, reference = row.figure("ours"), np.median(row.reference) if row.reference else None
        cells.append([
            row.what, f"`{plain.suffix}`", number(float(ours or 0)), number(float(reference)) if reference else "",
            f"{number(ratio)}×" if ratio else "", plain.by,
        ])  # fmt: skip
    header = ("format", "file", "rows/s here", "rows/s of a plain reader", "ratio", "plain reader")
    runs = len(measured.rows[0].ours)
    return "\n\n".join(
        [f"# {measured.title}", markdown_table(header, cells), f"Medians of {runs}. {hardware()}.", *measured.notes, ""]
    )


@one_paragraph_errors
def main() -> None:
    """Measure the formats of raw files."""
    asked: argparse.Namespace = arguments(main.__doc__).parse_args()
    with scratch_folder(asked.scratch) as scratch:
        measured = measure(mini_params(), scratch, asked.runs, asked.rows)
        publish(measured, asked)
    if asked.runs >= RUNS and asked.rows is None:
        with whole_file(RESULTS / "formats.md") as file:
            file.write_text(markdown(measured), encoding="utf-8")


if __name__ == "__main__":
    main()
