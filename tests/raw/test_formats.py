"""Each format against a file that another library wrote, or that was packed by hand after the format's description."""

import bz2
import datetime
import gzip
import io
import json
import lzma
import os
import pickle
import shutil
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.drawings.words import load_words
from pipeline.foundation.errors import SketchstackError
from pipeline.raw import sketchrnn
from pipeline.raw.files import RawFile, layout_of
from pipeline.raw.listing import training_files
from pipeline.raw.names import format_of, has_hashed_ids, uncompressed_name, word_of_name
from pipeline.raw.readers import Reject
from pipeline.submissions.files import known_words, sample_key_ids
from tests.rawfiles import (
    HEADER,
    csv_line,
    failing_shuffle,
    record,
    rows_and_slow_ones,
    rows_of,
    run_shuffle,
    sketch,
    some_params,
    write_competition,
    write_lines,
)

SECONDS = 1489019335  # 2017-03-09 00:28:55 UTC
STAMP = "2017-03-09 00:28:55 UTC"
ANT = "ant"


def read(path, word=ANT, member=None):
    return rows_of(RawFile(path, 0, word, member))


def plain(rows):
    """Rows without their lines."""
    return [row[1:] for row in rows]


def error_of(path, word=ANT):
    with pytest.raises(SketchstackError) as caught:
        read(path, word)
    return str(caught.value)


# names


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("cat.csv", "cat"), ("cat.jsonl", "cat"), ("CAT.NDJSON.GZ", "CAT"), ("mr. t.csv.xz", "mr. t"),
        ("st. bernard.v2.parquet", "st. bernard.v2"), ("cat.bin.zst", "cat"), ("cat.npz", "cat"),
        ("cat.full.npz", "cat"), ("sketchrnn_cat.full.npz", "cat"), ("full_simplified_wine glass.ndjson", "wine glass"),
        ("full_raw_cat.ndjson.bz2", "cat"), ("full_binary_cat.bin", "cat"), ("cat.full.csv", "cat.full"),
        ("full_numpy_bitmap_cat.npy", "cat"), ("full_simplified_cat.csv", "full_simplified_cat"),
        ("a.csv.csv", "a.csv"), ("full_raw_.ndjson", "full_raw_"), ("café.csv.bz2", "café"), (" cat .csv ", "cat"),
    ],
)  # fmt: skip
def test_only_known_suffixes_are_no_part_of_a_word(name, word):
    assert word_of_name(name) == word


@pytest.mark.parametrize(
    "name", ["notes.txt", "cat.csv.zip", "cat", ".csv", "cat.gz", "a.csv.tar", ".hidden.csv", "a.pdf.gz", ""]
)
def test_other_names_have_no_word(name):
    assert word_of_name(name) is None


# compressions


def zstd(content: bytes) -> bytes:
    """Compressed by the zstd program where there is one."""
    if shutil.which("zstd"):
        return subprocess.run(["zstd", "-q", "-c"], input=content, capture_output=True, check=True).stdout
    packed = pa.BufferOutputStream()
    with pa.CompressedOutputStream(packed, "zstd") as file:
        file.write(content)
    return packed.getvalue().to_pybytes()


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("name", ["ant.csv", "ant.ndjson", "ant.jsonl", "ant.parquet", "ant.bin", "ant.npz"])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_compressed_file_gives_the_rows_of_the_file(tmp_path, name, suffix, zipped):
    path = write_format(tmp_path / name)
    packed = tmp_path / f"{name}{suffix}"
    packed.write_bytes(PACK[suffix](path.read_bytes()))
    rows, slow = rows_and_slow_ones(RawFile(path, 0, ANT))
    assert len(rows) == 5
    assert slow == 0
    if zipped:
        with zipfile.ZipFile(tmp_path / "ant.zip", "w") as archive:
            archive.write(packed, f"inside/{packed.name}")
        assert read(tmp_path / "ant.zip", member=f"inside/{packed.name}") == rows
    else:
        assert read(packed) == rows


@pytest.mark.parametrize("suffix", PACK)
def test_a_file_of_several_compressed_parts_is_read_to_its_end(tmp_path, suffix):
    lines = [HEADER, *(csv_line(key, ANT) for key in range(20))]
    path = tmp_path / f"ant.csv{suffix}"
    path.write_bytes(b"".join(PACK[suffix](f"{line}\n".encode()) for line in lines))
    assert len(read(path)) == 20


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_a_truncated_file_is_damaged(tmp_path, suffix, kept):
    content = "\n".join([HEADER, *(csv_line(key * 7919, ANT) for key in range(5000))]).encode()
    path = tmp_path / f"ant.csv{suffix}"
    packed = PACK[suffix](content)
    path.write_bytes(packed[: int(kept * len(packed))])
    assert f"{path} is damaged and cannot be unpacked" in error_of(path)


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("content", [b"no such thing", b"\0" * 100])
def test_what_is_not_compressed_as_its_name_says_is_damaged(tmp_path, suffix, content):
    path = tmp_path / f"ant.ndjson{suffix}"
    path.write_bytes(content)
    assert f"{path} is damaged and cannot be unpacked" in error_of(path)


def test_a_member_with_a_password_is_told(tmp_path):
    with zipfile.ZipFile(tmp_path / "ant.zip", "w") as archive:
        archive.writestr("ant.csv", HEADER)
    content = bytearray((tmp_path / "ant.zip").read_bytes())
    content[6] |= 1  # the flag of encryption
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "ant.zip").write_bytes(content)
    with pytest.raises(SketchstackError, match=r"cannot be unpacked .*encrypted.*; unpack it yourself"):
        read(tmp_path / "ant.zip", member="ant.csv")


# each format holds the same five drawings


def records(word=ANT):
    changes: list[dict[str, Any]] = [
        {},
        {"countrycode": "DE"},
        {"recognized": False},
        {"drawing": [[[0, 255], [7, 7]]]},
        {},
    ]
    return [record(key, word, timestamp=STAMP, **more) for key, more in enumerate(changes, 1)]


def write_format(path: Path, rows=None, word=ANT) -> Path:
    """Write a file of the format that its name says."""
    rows = records(word) if rows is None else rows
    match format_of(path.name):
        case ".csv":
            lines = [HEADER, *(csv_line(int(row["key_id"]), word, **{**row, "word": word}) for row in rows)]
            return write_lines(path, lines)
        case ".ndjson" | ".jsonl":
            return write_lines(path, [json.dumps(row) for row in rows])
        case ".parquet":
            frame = pd.DataFrame(rows)
            frame["drawing"] = frame["drawing"].map(json.dumps)
            frame.to_parquet(path)
        case ".bin":
            path.write_bytes(b"".join(map(binary_drawing, rows)))
        case ".npz":
            save_arrays(path, train=[moves(row["drawing"]) for row in rows])
    return path


def binary_drawing(row) -> bytes:
    """A drawing as Google's binary_file_parser.py unpacks it."""
    seconds = int(datetime.datetime.fromisoformat(row["timestamp"].replace(" UTC", "+00:00")).timestamp())
    head = struct.pack("<Q", int(row["key_id"])) + struct.pack("<2s", row["countrycode"].encode())
    head += struct.pack("<b", row["recognized"]) + struct.pack("<I", seconds) + struct.pack("<H", len(row["drawing"]))
    strokes = (struct.pack(f"<H{len(x)}B{len(y)}B", len(x), *x, *y) for x, y in row["drawing"])
    return head + b"".join(strokes)


def moves(drawing, dtype=np.int16) -> np.ndarray:
    """A drawing as sketch-rnn has it: dx, dy, pen lifted."""
    x, y = (np.concatenate([stroke[axis] for stroke in drawing]) for axis in (0, 1))
    lifted = np.zeros(len(x))
    lifted[np.cumsum([len(stroke[0]) for stroke in drawing]) - 1] = 1
    return np.stack([np.diff(x, prepend=0), np.diff(y, prepend=0), lifted], axis=1).astype(dtype)


def objects(drawings) -> np.ndarray:
    """An array of arrays."""
    array = np.empty(len(drawings), object)
    for place, drawing in enumerate(drawings):
        array[place] = drawing
    return array


def save_arrays(path: Path, **arrays) -> Path:
    with path.open("wb") as file:
        content: dict[str, Any] = {name: objects(drawings) for name, drawings in arrays.items()}
        np.savez_compressed(file, **content)
    return path


@pytest.mark.parametrize("name", ["ant.ndjson", "ant.jsonl", "ant.parquet", "ant.bin"])
def test_each_format_gives_the_rows_of_the_csv(tmp_path, name):
    expected = plain(read(write_format(tmp_path / "ant.csv")))
    rows, slow = rows_and_slow_ones(RawFile(write_format(tmp_path / name), 0, ANT))
    assert plain(rows) == expected
    assert slow == 0
    assert [row.line for row in rows] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", ["the.ant.bin", "the.ant.parquet"])
@pytest.mark.parametrize("word", ["the ant", 'the "ant"', "käfer, klein", "ant'"])
def test_any_word_survives_each_format(tmp_path, name, word):
    spelled = word.replace(" ", "_")
    rows = read(write_format(tmp_path / name, records(word), word), spelled)
    assert [row.key_id for row in rows] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", ["ant.parquet", "ant.bin", "ant.npz"])
def test_the_test_set_may_have_each_format(tmp_path, name):
    assert len(read(write_format(tmp_path / name), None)) == 5


DRAWINGS = st.lists(
    st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), min_size=1, max_size=6).map(
        lambda points: [list(axis) for axis in zip(*points, strict=True)]
    ),
    min_size=1,
    max_size=4,
)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**63 - 1),
            st.booleans(),
            st.integers(1, 2**32 - 1),
            st.sampled_from(["DE", "ZZ", "  "]),
            DRAWINGS,
        ),
        min_size=1,
        max_size=6,
    )
)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_binary_file_gives_the_rows_of_the_ndjson(tmp_path, rows):
    rows = [
        {
            "key_id": str(key), "word": ANT, "recognized": known, "countrycode": code, "drawing": drawing,
            "timestamp": f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%Y-%m-%d %H:%M:%S} UTC",
        }
        for key, known, at, code, drawing in rows
    ]  # fmt: skip
    in_binary = read(write_format(tmp_path / "ant.bin", rows))
    in_json = read(
        write_format(tmp_path / "ant.ndjson", [{**row, "countrycode": row["countrycode"].strip()} for row in rows])
    )
    assert in_binary == in_json


def test_a_binary_file_has_timestamps_from_1970_to_2106_and_0_for_none(tmp_path):
    stamps = [
        "1970-01-01 00:00:00 UTC",
        "1970-01-01 00:00:01 UTC",
        "2000-02-29 23:59:59 UTC",
        "2106-02-07 06:28:15 UTC",
    ]
    rows = read(write_format(tmp_path / "ant.bin", [record(key, ANT, timestamp=at) for key, at in enumerate(stamps)]))
    assert rows[0].timestamp is None
    assert [f"{row.timestamp:%Y-%m-%d %H:%M:%S} UTC" for row in rows[1:]] == stamps[1:]


def test_a_binary_file_is_read_in_blocks(tmp_path, monkeypatch):
    path = write_format(tmp_path / "ant.bin", [record(key, ANT, timestamp=STAMP) for key in range(1, 300)])
    at_once = read(path)
    for size in (1, 16, 100, 1000):
        monkeypatch.setattr("pipeline.raw.binary.BLOCK", size)
        assert read(path) == at_once


@pytest.mark.parametrize("left", [1, 16, 17, 18, 20, -1, -5])
def test_a_truncated_binary_file_names_the_drawing_and_the_byte(tmp_path, left):
    pieces = [*map(binary_drawing, records())]
    path = tmp_path / "ant.bin"
    path.write_bytes(b"".join(pieces[:3]) + pieces[3][:left])
    start = sum(map(len, pieces[:3]))
    assert f"{path} is damaged: drawing 4, at byte {start}, is not complete" in error_of(path)


@pytest.mark.parametrize("content", [b"PK\x03\x04" * 30, b"{}" * 20, b"\0\1", bytes(range(200)), HEADER.encode()])
def test_a_file_that_is_no_binary_file_of_google_is_refused(tmp_path, content):
    path = tmp_path / "ant.bin"
    path.write_bytes(content)
    assert f"{path} is not a file of Google's binary format" in error_of(path)


@pytest.mark.parametrize(
    ("place", "byte", "reason"),
    [(8, b"d", "countrycode is not two"), (9, b"\n", "countrycode is not two"), (10, b"\x07", "recognized is neither"),
     (10, b"\xff", "recognized is neither"), (8, b"\x80", "countrycode is not two")],
)  # fmt: skip
def test_a_faulty_drawing_of_a_binary_file_is_a_reject(tmp_path, place, byte, reason):
    pieces = [bytearray(binary_drawing(row)) for row in records()]
    pieces[2][place : place + 1] = byte
    path = tmp_path / "ant.bin"
    path.write_bytes(b"".join(pieces))
    rows = read(path)
    (bad,) = [row for row in rows if isinstance(row, Reject)]
    assert (bad.line, bad.key_id) == (3, "3")
    assert bad.reason.startswith(reason)


def test_a_drawing_of_a_binary_file_without_strokes_or_points_is_a_reject(tmp_path):
    rows = records()
    rows[1]["drawing"], rows[3]["drawing"] = [], [[[], []]]
    found = read(write_format(tmp_path / "ant.bin", rows))
    reasons = {row.line: row.reason for row in found if isinstance(row, Reject)}
    assert reasons == {2: "drawing has no strokes", 4: "a stroke has no points"}


@pytest.mark.parametrize("name", ["ant.bin", "ant.csv", "ant.jsonl"])
def test_an_empty_file_has_no_rows(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(SketchstackError):
        layout_of(RawFile(tmp_path / name, 0, ANT))


# parquet


def frame_of(**columns):
    frame = pd.DataFrame(records())
    for name, values in columns.items():
        frame[name] = values
    return frame


TYPES = {
    "key_id": [pa.int64(), pa.uint64(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())],
    "word": [pa.dictionary(pa.int8(), pa.string()), pa.large_string(), pa.binary(), pa.string_view()],
    "countrycode": [pa.dictionary(pa.int8(), pa.string()), pa.string_view()],
    "timestamp": [pa.timestamp("s"), pa.timestamp("ns"), pa.timestamp("ms", "UTC"), pa.timestamp("us", "Asia/Tokyo")],
    "drawing": [
        pa.list_(pa.list_(pa.list_(pa.int64()))), pa.list_(pa.list_(pa.list_(pa.uint8()))),
        pa.large_list(pa.large_list(pa.large_list(pa.int16()))), pa.list_(pa.list_(pa.list_(pa.float64()))),
        pa.list_(pa.list_(pa.list_(pa.int32())), -1),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("column", "kind"), [(column, kind) for column, kinds in TYPES.items() for kind in kinds], ids=str
)
def test_parquet_columns_of_any_fitting_type_give_the_same_rows(tmp_path, column, kind):
    rows = records()
    values = [row[column] for row in rows]
    if column == "key_id" and pa.types.is_integer(kind):
        values = [*map(int, values)]
    if column == "timestamp":
        values = [datetime.datetime.fromtimestamp(SECONDS, datetime.UTC)] * 5
    if column != "drawing":
        for row in rows:
            row["drawing"] = json.dumps(row["drawing"])
    table = pa.table({name: [row[name] for row in rows] for name in rows[0] if name != column})
    pq.write_table(table.append_column(column, pa.array(values, kind)), tmp_path / "ant.parquet")
    assert plain(read(tmp_path / "ant.parquet")) == plain(read(write_format(tmp_path / "ant.csv")))


def test_parquet_has_timestamps_to_the_microsecond_and_empty_fields(tmp_path):
    stamps = [pd.Timestamp("2017-03-09 00:28:55.637750"), *[pd.NaT] * 4]
    frame = frame_of(
        timestamp=stamps, countrycode=None, recognized=pd.array([True, None, None, False, None], "boolean")
    )
    frame.to_parquet(tmp_path / "ant.parquet")
    rows = read(tmp_path / "ant.parquet")
    assert rows[0].timestamp == datetime.datetime(2017, 3, 9, 0, 28, 55, 637750, datetime.UTC)
    assert [row.recognized for row in rows] == [True, None, None, False, None]
    assert {row.countrycode for row in rows} == {None}
    assert rows[1].timestamp is None


@pytest.mark.parametrize("nested", [True, False])
def test_raw_drawings_of_parquet_give_the_rows_of_the_ndjson(tmp_path, nested):
    raw = [[[10.5, 30.25, 90.0], [0.0, 40.125, 7.0], [0, 17, 40]], [[1, 2], [3, 4], [100, 120]]]
    rows = [record(key, ANT, timestamp=STAMP, drawing=raw) for key in range(3)]
    frame = pd.DataFrame([{**row, "drawing": raw if nested else json.dumps(raw)} for row in rows])
    frame.to_parquet(tmp_path / "ant.parquet")
    assert layout_of(RawFile(tmp_path / "ant.parquet", 0, ANT)).timed
    in_json = read(write_lines(tmp_path / "ant.ndjson", [json.dumps(row) for row in rows]))
    assert read(tmp_path / "ant.parquet") == in_json


@pytest.mark.parametrize(
    ("drawing", "reason"),
    [
        ("[[[1, 2],\n [3, 4]]]", None), (None, "drawing is not"), ("", "drawing is not JSON"),
        ("[[[300], [1]]]", "a coordinate lies outside"), ('{"a": "b"}', "drawing is not a list"),
        ("[[[1], [2, 3]]]", "x and y of a stroke"),
    ],
)  # fmt: skip
def test_a_faulty_text_of_parquet_spoils_only_its_row(tmp_path, drawing, reason):
    texts = [json.dumps(sketch(1))] * 4
    frame_of(drawing=[*texts[:2], drawing, *texts[2:]]).to_parquet(tmp_path / "ant.parquet")
    rows = read(tmp_path / "ant.parquet")
    assert len(rows) == 5
    assert [row.line for row in rows if isinstance(row, Reject)] == ([3] if reason else [])
    assert reason is None or rows[2].reason.startswith(reason)


@pytest.mark.parametrize(
    ("drawing", "reason"),
    [
        (None, "drawing is not a list"), ([], "drawing has no strokes"), ([[[], []]], "a stroke has no points"),
        ([[[1, None], [2, 3]]], "a coordinate is not a whole"), ([[[1, 256], [2, 3]]], "a coordinate lies outside"),
        ([[[1, 2]]], "a stroke has 1 lists"), ([None], "a stroke is not"),
    ],
)  # fmt: skip
def test_a_faulty_nested_list_of_parquet_spoils_only_its_row(tmp_path, drawing, reason):
    drawings = [sketch(1), sketch(2), drawing, sketch(4), sketch(5)]
    frame_of(drawing=drawings).to_parquet(tmp_path / "ant.parquet")
    rows = read(tmp_path / "ant.parquet")
    assert [row.line for row in rows if isinstance(row, Reject)] == [3]
    assert rows[2].reason.startswith(reason)
    assert rows[4].drawing == sketch(5)


def test_a_line_end_in_a_word_of_parquet_makes_no_right_word(tmp_path):
    words = ["the ant", "the_ant", "the\nant", "the\rant", "the ant\u2028"]
    frame_of(word=words).to_parquet(tmp_path / "ant.parquet")
    rows = read(tmp_path / "ant.parquet", "the_ant")
    assert [row.line for row in rows if isinstance(row, Reject)] == [3, 4, 5]


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"key_id": [1.0, 2.0, 3.0, 4.0, 5.0]}, "the column 'key_id' holds double; write it as int64, uint64 or text"),
        ({"word": [1, 2, 3, 4, 5]}, "the column 'word' holds int64; write it as text"),
        ({"drawing": [[1, 2]] * 5}, "the column 'drawing' holds list<"),
        ({"recognized": [1.0] * 5}, "the column 'recognized' holds double"),
        ({"timestamp": [1489019335] * 5}, "the column 'timestamp' holds int64"),
    ],
)
def test_a_parquet_column_of_another_type_is_named(tmp_path, columns, reason):
    frame_of(**columns).to_parquet(tmp_path / "ant.parquet")
    assert reason in error_of(tmp_path / "ant.parquet")


@pytest.mark.parametrize("column", ["key_id", "drawing", "word"])
def test_a_missing_column_of_parquet_is_named(tmp_path, column):
    frame_of().drop(columns=column).to_parquet(tmp_path / "ant.parquet")
    assert f"the column {column!r} is missing; there are " in error_of(tmp_path / "ant.parquet")


@pytest.mark.parametrize("damage", ["cut", "middle", "text", "empty"])
def test_a_damaged_parquet_file_is_refused(tmp_path, damage):
    path = tmp_path / "ant.parquet"
    pd.DataFrame([{**record(key, ANT), "drawing": json.dumps(sketch(key))} for key in range(3000)]).to_parquet(path)
    content = path.read_bytes()
    middle = len(content) // 3
    path.write_bytes(
        {
            "cut": content[:middle],
            "middle": content[:middle] + os.urandom(2000) + content[middle + 2000 :],
            "text": b"key_id,word\n",
            "empty": b"",
        }[damage]
    )
    assert "damaged or no parquet file" in error_of(path)


def test_parquet_is_read_in_groups_of_rows(tmp_path, monkeypatch):
    rows = [{**record(key, ANT), "drawing": json.dumps(sketch(key))} for key in range(1000)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "ant.parquet", row_group_size=70)
    at_once = read(tmp_path / "ant.parquet")
    monkeypatch.setattr("pipeline.raw.parquet.BATCH", 33)
    assert read(tmp_path / "ant.parquet") == at_once
    assert [row.line for row in at_once] == [*range(1, 1001)]


# sketch-rnn


def test_sketchrnn_gives_the_drawings_that_went_in(tmp_path):
    drawings = [[[[0, 255, 10], [0, 0, 20]], [[5, 6], [7, 8]]], [[[0], [0]], [[9, 3], [0, 255]]]]
    path = save_arrays(tmp_path / "ant.npz", test=[moves(drawings[1])], train=[moves(drawings[0])], valid=[])
    rows = read(path)
    assert [row.drawing for row in rows] == drawings
    assert [row[2:5] for row in rows] == [(None, None, None)] * 2


@given(st.lists(DRAWINGS, min_size=1, max_size=5), st.sampled_from(["<i2", ">i2", "<i4", "<f4", "<f8"]), st.booleans())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sketchrnn_file_gives_its_drawings_aligned_and_scaled(tmp_path, drawings, dtype, columns_first):
    arrays = [np.array(moves(drawing, dtype), order="F" if columns_first else "C") for drawing in drawings]
    rows = read(save_arrays(tmp_path / "ant.npz", train=arrays))
    assert [row.drawing for row in rows] == [*map(aligned, drawings)]


def aligned(drawing):
    """A drawing at the top left with a longer side of 255, in plain Python."""
    low = [min(value for stroke in drawing for value in stroke[axis]) for axis in (0, 1)]
    high = [max(value for stroke in drawing for value in stroke[axis]) for axis in (0, 1)]
    size = max(high[0] - low[0], high[1] - low[1]) or 1
    return [
        [[round((value - low[axis]) / size * 255) for value in stroke[axis]] for axis in (0, 1)] for stroke in drawing
    ]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<i2", ">i4", "<f4"])
def test_drawings_of_equal_length_need_no_pickle(tmp_path, order, dtype):
    drawings = np.array([moves(sketch(key)) for key in range(1, 4)], dtype, order=order)
    np.savez(tmp_path / "ant.npz", train=drawings, valid=drawings[:0])
    assert [row.drawing for row in read(tmp_path / "ant.npz")] == [aligned(sketch(key)) for key in range(1, 4)]


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_pickles_of_every_numpy_are_read(tmp_path, protocol, core):
    array = objects([moves(sketch(key)) for key in range(1, 6)])
    content = pickle.dumps(array, protocol)
    old = b"cnumpy._core.multiarray\n", f"c{core}.multiarray\n".encode()
    new = b"\x8c\x16numpy._core.multiarray", b"\x8c" + bytes([len(core) + 11]) + f"{core}.multiarray".encode()
    content = content.replace(*(old if protocol < 4 else new))
    if protocol == 4:  # its frame has another length
        content = content[:2] + content[11:]
    write_pickled(tmp_path / "ant.npz", content, 5)
    assert [row.drawing for row in read(tmp_path / "ant.npz")] == [aligned(sketch(key)) for key in range(1, 6)]


def write_pickled(path: Path, content: bytes, count: int, shape: str | None = None) -> Path:
    """A .npz whose array `train` is a pickle."""
    header = f"{{'descr': '|O', 'fortran_order': False, 'shape': ({shape or count},), }}".encode().ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content)
    return path


def text(content: bytes) -> bytes:
    """A str of Python 2 in a pickle."""
    return (b"U" + bytes([len(content)]) if len(content) < 256 else b"T" + struct.pack("<i", len(content))) + content


def pickled_by_python2(drawings) -> bytes:
    """An array of arrays as Python 2 pickled it with protocol 2, opcode by opcode."""

    def array(shape: bytes, kind: bytes, order: bytes, flags: bytes, content: bytes) -> bytes:
        reconstruct = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
        dtype = b"cnumpy\ndtype\n" + text(kind) + b"K\x00K\x01\x87R"
        dtype += b"(K\x03" + text(order) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK" + flags + b"tb"
        return reconstruct + b"(K\x01" + shape + dtype + b"\x89" + content + b"tb"

    items = b"".join(
        array(b"K" + bytes([len(moves)]) + b"K\x03\x86", b"i2", b"<", b"\0", text(moves.astype("<i2").tobytes()))
        for moves in drawings
    )
    return b"\x80\x02" + array(b"K" + bytes([len(drawings)]) + b"\x85", b"O8", b"|", b"?", b"](" + items + b"e") + b"."


def test_a_file_of_python_2_is_read(tmp_path):
    drawings = [moves(sketch(key)) for key in range(1, 6)]
    long = moves([[[*range(200)], [*range(200)]]])
    content = pickled_by_python2([*drawings, long])
    write_pickled(tmp_path / "ant.full.npz", content, 6, shape="6L")
    rows = read(tmp_path / "ant.full.npz")
    assert [row.drawing for row in rows[:5]] == [aligned(sketch(key)) for key in range(1, 6)]
    with np.load(write_pickled(tmp_path / "same.npz", content, 6), allow_pickle=True, encoding="latin1") as same:
        assert all(np.array_equal(a, b) for a, b in zip(same["train"], [*drawings, long], strict=True))


class Evil:
    """A pickle of it calls a function."""

    def __init__(self, function, *values) -> None:
        self.call = function, values

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "values", "name"),
    [
        (os.system, ("touch ran",), "posix.system"), (eval, ("open('ran', 'w')",), ".eval"),
        (Path.touch, (Path("ran"),), "getattr|Path"), (np.load, ("ran",), "numpy.load"),
        (bytes, (10**12,), "damaged"), (np.dtype, (("O", 3),), "damaged|drawing 1"),
        (exec, ("open('ran','w')",), "exec"), (subprocess.call, (["touch", "ran"],), ".call"),
        (pickle.loads, (b"cos\nsystem\n.",), ".loads"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("protocol", [2, 4])
def test_no_code_of_a_pickle_is_run(tmp_path, monkeypatch, function, values, name, protocol):
    monkeypatch.chdir(tmp_path)
    inside = objects([moves(sketch(1)), Evil(function, *values)])
    for content in (inside, Evil(function, *values)):
        path = write_pickled(tmp_path / "ant.npz", pickle.dumps(content, protocol), 2)
        message = error_of(path)
        assert any(part in message for part in (*name.split("|"), "damaged", "in place of an array"))
        assert "array 'train'" in message
    assert not Path("ran").exists()


@pytest.mark.parametrize("name", [b"_codecs\nencode", b"numpy\nndarray", b"numpy\ndtype", b"__builtin__\nbytes"])
@pytest.mark.parametrize("state", [b"N}X\x07\x00\x00\x00spoiledK\x01s\x86", b"}X\x07\x00\x00\x00spoiledK\x01s"])
def test_a_pickle_cannot_change_what_it_is_given(tmp_path, name, state):
    path = write_pickled(tmp_path / "ant.npz", b"\x80\x02c" + name + b"\n" + state + b"b.", 1)
    assert "array 'train': it is damaged" in error_of(path)
    assert not any(hasattr(given, "spoiled") for given in sketchrnn._ALLOWED.values())


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"train": [np.zeros((4, 5), np.int16)]}, "'train': drawing 1 has the shape (4, 5)"),
        ({"train": [moves(sketch(1)), "text"]}, "'train': drawing 2 is a str in place of an array"),
        ({"train": [moves(sketch(1))], "valid": [np.zeros((2, 3), "c16")]}, "'valid': drawing 1 holds c16"),
        ({"train": [moves(sketch(1)), np.array([[1, 2, 7]])]}, "'train', drawing 2: a value is not a number, or a pen"),
        ({"train": [np.array([[np.nan, 2, 1]])]}, "'train', drawing 1: a value is not a number"),
        ({"train": [np.array([[1e7, 2, 1]])]}, "'train', drawing 1: a point lies more than 1,000,000 pixels"),
        ({"train": [np.zeros((65536, 3))]}, "'train', drawing 1: a stroke has more than 65535 points"),
        ({"train": [np.zeros(3)]}, "'train': drawing 1 has the shape (3,)"),
    ],
)
def test_an_array_of_something_else_is_named(tmp_path, arrays, reason):
    assert reason in error_of(save_arrays(tmp_path / "ant.npz", **arrays))


@pytest.mark.parametrize(
    "array", [np.zeros((10, 784), np.uint8), np.zeros((3, 28, 28)), np.array({"a": 1}), np.zeros(3)]
)
def test_an_npz_of_other_arrays_is_refused_before_it_is_read(tmp_path, array):
    np.savez(tmp_path / "ant.npz", train=array)
    with pytest.raises(SketchstackError, match=r"array 'train': it has the shape .* write the file again"):
        layout_of(RawFile(tmp_path / "ant.npz", 0, ANT))


@pytest.mark.parametrize("damage", ["cut", "inside", "text", "pickle", "behind"])
def test_a_damaged_npz_is_refused(tmp_path, damage):
    path = save_arrays(tmp_path / "ant.npz", train=[moves(sketch(key)) for key in range(500)])
    content = path.read_bytes()
    pickled = pickle.dumps(objects([moves(sketch(1))] * 3), 4)
    match damage:
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "inside":
            path.write_bytes(content[:900] + b"\xff" * 50 + content[950:])
        case "text":
            path.write_bytes(b"text")
        case "pickle":
            write_pickled(path, pickled[: len(pickled) // 2], 3)
        case "behind":
            write_pickled(path, pickled + b"more", 3)
    assert "damaged" in error_of(path)


def test_an_npz_without_drawings_has_no_rows(tmp_path):
    with pytest.raises(SketchstackError, match="has no rows"):
        layout_of(RawFile(save_arrays(tmp_path / "ant.npz", train=[], valid=[], test=[]), 0, ANT))


def test_ids_are_the_same_for_the_same_file_and_differ_for_equal_drawings(tmp_path):
    drawings = [moves(sketch(key)) for key in (1, 2, 1, 1)]
    one = save_arrays(tmp_path / "ant.npz", train=drawings, test=drawings[:1])
    ids = [row.key_id for row in read(one)]
    assert len(set(ids)) == 5
    assert all(0 <= key_id < 2**59 for key_id in ids)
    shutil.copy(one, tmp_path / "elsewhere.npz")
    assert [row.key_id for row in read(tmp_path / "elsewhere.npz")] == ids
    assert not set(ids) & {row.key_id for row in read(one, "bee")}
    assert ids == [hashed(1, 0), hashed(2, 0), hashed(1, 1), hashed(1, 2), hashed(1, 3)]


def hashed(key: int, before: int) -> int:
    """The id of the drawing `sketch(key)` of an ant with a number of equal drawings before it."""
    drawing = aligned(sketch(key))
    axes = b"".join(bytes(value for stroke in drawing for value in stroke[axis]) for axis in (0, 1))
    points = xxhash.xxh64_intdigest(axes + struct.pack(f"<{len(drawing)}H", *(len(x) for x, _ in drawing)))
    return xxhash.xxh64_intdigest(b"ant" + struct.pack("<QQ", points, before)) >> 5


# bitmaps, and whole folders


@pytest.mark.parametrize("name", ["ant.npy", "full_numpy_bitmap_ant.npy", "ant.npy.gz"])
def test_bitmaps_are_refused_by_that_name(tmp_path, name):
    content = io.BytesIO()
    np.save(content, np.zeros((5, 784), np.uint8))
    (tmp_path / name).write_bytes(content.getvalue())
    with pytest.raises(SketchstackError, match=r"holds bitmaps \(.npy.*have no strokes; take .*full/simplified"):
        layout_of(RawFile(tmp_path / name, 0, ANT))


STARTS = {
    "ant.parquet": b"PAR1", "bee.bin": b"\0", "cat.jsonl.zst": b"\x28\xb5\x2f\xfd", "dog.csv.bz2": b"BZh9",
    "sketchrnn_elk.full.npz": b"PK\3\4",
}  # fmt: skip


def test_all_formats_are_found_in_one_folder(tmp_path):
    for name, start in STARTS.items():
        (tmp_path / "train_simplified").mkdir(exist_ok=True)
        (tmp_path / "train_simplified" / name).write_bytes(start)
    words, files = training_files(some_params(str(tmp_path)))
    assert words.names == ("ant", "bee", "cat", "dog", "elk")
    assert [file.path.name for file in files] == sorted(STARTS, key=lambda name: str(word_of_name(name)))
    assert has_hashed_ids(files[-1].name)


def fold_files(folds: Path) -> dict[str, bytes]:
    """The shards of a shuffle, and its rejects."""
    return {
        str(path.relative_to(folds)): path.read_bytes() for path in sorted(folds.rglob("*.*")) if path.suffix != ".json"
    }


def write_words(home: Path, suffixes: dict[str, str]) -> None:
    """A competition with 30 drawings of each word, in the format and compression of its suffix."""
    write_competition(home, {})
    train = home / "data/synthetic/train_simplified"
    train.mkdir()
    for number, (word, suffix) in enumerate(suffixes.items()):
        rows = [record(100 * number + row, word, timestamp=STAMP) for row in range(1, 31)]
        path = write_format(train / f"{word}{suffix}", rows, word)
        if format_of(path.name) != path.suffix:
            path.write_bytes(PACK[path.suffix](path.read_bytes()))


def test_a_shuffle_of_any_formats_gives_the_shards_of_the_csvs(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    write_words(tmp_path / "one", dict.fromkeys(["ant", "bee", "cat", "dog", "elk"], ".csv"))
    write_words(
        tmp_path / "other",
        {"ant": ".parquet", "bee": ".bin", "cat": ".jsonl.zst", "dog": ".csv.bz2", "elk": ".parquet.xz"},
    )
    one, other = run_shuffle(tmp_path / "one"), run_shuffle(tmp_path / "other")
    assert len(fold_files(one)) > 4
    assert fold_files(one) == fold_files(other)
    for name in ("words.json", "summary.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_words_json_names_the_words_whose_ids_are_hashes(tmp_path):
    write_words(tmp_path, {"ant": ".npz", "bee": ".csv", "cat": ".npz.gz"})
    folds = run_shuffle(tmp_path)
    assert json.loads((folds / "words.json").read_text()) == {
        "words": ["ant", "bee", "cat"],
        "hashed_ids": ["ant", "cat"],
    }
    assert load_words(folds).names == ("ant", "bee", "cat")
    first = fold_files(folds)
    assert fold_files(run_shuffle(tmp_path)) == first


def test_bitmaps_beside_good_files_stop_the_shuffle_by_name(tmp_path):
    write_words(tmp_path, {"ant": ".npz", "bee": ".csv"})
    np.save(tmp_path / "data/synthetic/train_simplified/cat.npy", np.zeros((5, 784), np.uint8))
    assert "cat.npy holds bitmaps" in failing_shuffle(tmp_path)


@pytest.mark.parametrize("suffix", PACK)
def test_the_test_file_may_be_compressed(tmp_path, suffix):
    write_words(tmp_path, {"ant": ".csv", "bee": ".csv"})
    plainly = fold_files(run_shuffle(tmp_path))
    test = tmp_path / "data/synthetic/test_simplified.csv"
    test.with_name(f"{test.name}{suffix}").write_bytes(PACK[suffix](test.read_bytes()))
    test.unlink()
    assert fold_files(run_shuffle(tmp_path)) == plainly


# sample submissions


@pytest.mark.parametrize("suffix", [*PACK, ".zip"])
@pytest.mark.parametrize("named", [False, True])
def test_a_sample_submission_may_be_packed(tmp_path, suffix, named):
    content = b"key_id,word\r\n5,ant bee cat\r\n3,ant bee cat\r\n"
    sample = tmp_path / "sample_submission.csv"
    path = sample.with_name(f"{sample.name}{suffix}")
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("__MACOSX/._sample_submission.csv", b"")
            archive.writestr("sample_submission.csv", content)
    else:
        path.write_bytes(PACK[suffix](content))
    assert sample_key_ids(path if named else sample).tolist() == [5, 3]


@pytest.mark.parametrize("suffix", [*PACK, ".zip"])
@pytest.mark.parametrize("content", [b"", b"no such thing at all"])
def test_a_damaged_packed_sample_submission_is_named(tmp_path, suffix, content):
    path = tmp_path / f"sample.csv{suffix}"
    path.write_bytes(PACK[suffix](b"key_id,word\n5,ant\n" * 999)[:-9] if suffix != ".zip" and not content else content)
    with pytest.raises(SketchstackError, match=rf"sample\.csv\{suffix} is damaged and cannot be unpacked"):
        sample_key_ids(tmp_path / "sample.csv")


def test_a_zip_of_several_samples_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "sample.csv.zip", "w") as archive:
        archive.writestr("a.csv", "key_id,word\n")
        archive.writestr("b.csv", "key_id,word\n")
    with pytest.raises(SketchstackError, match="holds 2 files instead of one"):
        sample_key_ids(tmp_path / "sample.csv")


def test_words_of_a_sample_come_from_files_of_any_format(tmp_path):
    for name in ("mr. ant.csv.xz", "bee.bin", "sketchrnn_cat.full.npz", "dog.csv.zip", "notes.txt"):
        (tmp_path / "train_simplified").mkdir(exist_ok=True)
        (tmp_path / "train_simplified" / name).write_bytes(b"")
    assert known_words(tmp_path / "sample.csv") == {"mr._ant", "bee", "cat", "dog"}


# any damage


def rows_or_reason(path):
    try:
        return read(path)
    except SketchstackError as error:
        return str(error)


@pytest.mark.parametrize("name", ["ant.bin", "ant.npz", "ant.parquet", "ant.npz.zst", "ant.csv.bz2", "ant.parquet.xz"])
@given(data=st.data())
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_leaves_rows_rejects_or_a_reason(tmp_path, name, data):
    whole = write_format(tmp_path / uncompressed_name(name)).read_bytes()
    content = bytearray(PACK.get(Path(name).suffix, bytes)(whole))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"damaged.{name}"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    found = rows_or_reason(path)
    assert str(path) in found if isinstance(found, str) else len(found) <= 5


@pytest.mark.parametrize("protocol", [2, 4])
@given(data=st.data())
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_of_a_pickle_leaves_rows_or_a_reason(tmp_path, protocol, data):
    content = bytearray(pickle.dumps(objects([moves(sketch(key)) for key in range(1, 4)]), protocol))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = write_pickled(tmp_path / "ant.npz", bytes(content), 3)
    found = rows_or_reason(path)
    assert "array 'train'" in found if isinstance(found, str) else len(found) == 3
