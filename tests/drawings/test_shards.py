"""Shards: rows are gathered as plain Python would gather them, straight from the memory map."""

import json
import random
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.drawings.shards import (
    SCHEMA,
    SUMMARY,
    TIMED_SCHEMA,
    Drawings,
    Shard,
    Shards,
    open_shard,
    open_shards,
    shard_hashes,
    write_shard,
)
from pipeline.foundation.errors import SketchstackError
from tests.conftest import ROOT

coordinates = st.integers(0, 255)
strokes = st.lists(st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=4), min_size=1, max_size=3)
a_shard = st.lists(strokes, max_size=4)


def shard_of(shard):
    return Shard.from_lists([[axes(points) for points in drawing] for drawing in shard])


def axes(points):
    xs, ys = zip(*points, strict=True)
    return xs, ys


def lists(drawings):
    """Drawings as nested lists of points."""
    return [
        [list(zip(*(axis.tolist() for axis in stroke), strict=True)) for stroke in drawings.strokes_of(place)]
        for place in range(len(drawings))
    ]


def table(rows, first_key=0):
    """An Arrow table of drawings that differ: row i has i + 1 points in one stroke."""
    points = [[(first_key + row + point) % 256 for point in range(row + 1)] for row in range(rows)]
    columns = {
        "key_id": range(first_key, first_key + rows),
        "word": [row % 3 for row in range(rows)],
        "countrycode": [["DE", None, "NA"][row % 3] for row in range(rows)],
        "recognized": [[True, False, None][row % 3] for row in range(rows)],
        "timestamp": [None] * rows,
        "x": points,
        "y": points,
        "stroke": [[row + 1] for row in range(rows)],
    }
    plain = SCHEMA.set(SCHEMA.get_field_index("countrycode"), pa.field("countrycode", pa.string()))
    return pa.table({name: pa.array(values, plain.field(name).type) for name, values in columns.items()}, schema=plain)


def list_shards(folds):
    """Write the summary of a folder of folds, as the shuffle does."""
    (folds / SUMMARY).write_text(json.dumps({"shards": shard_hashes(folds)}))


@pytest.fixture
def folder(tmp_path):
    """Three shards of 5, 0 and 7 rows."""
    folder = tmp_path / "fold0"
    folder.mkdir()
    for number, (rows, first_key) in enumerate([(5, 0), (0, 0), (7, 100)]):
        write_shard(folder / f"{number:04d}.arrow", table(rows, first_key))
    list_shards(tmp_path)
    return folder


@given(a_shard)
@settings(deadline=None)
def test_drawings_come_back_as_the_lists_they_were_made_of(shard):
    drawings = Shards([shard_of(shard)])[:]
    assert lists(drawings) == shard
    assert drawings.key_id.tolist() == list(range(len(shard)))
    assert set(drawings.word.tolist()) <= {-1}


def test_times_come_back_with_their_points():
    strokes = [((1, 2), (3, 4), (0, 70_000)), ((5,), (6,), (2**32 - 1,))]
    drawings = Drawings.from_lists([strokes], words=[3])
    assert drawings.timed
    assert lists(drawings) == [[[(1, 3, 0), (2, 4, 70_000)], [(5, 6, 2**32 - 1)]]]
    assert drawings.word.tolist() == [3]
    assert not Drawings.from_lists([[((1,), (2,))]]).timed


def test_drawings_are_timed_if_all_their_shards_are():
    timed, plain = Shard.from_lists([[((1,), (2,), (0,))]]), Shard.from_lists([[((1,), (2,))]])
    shards = Shards([timed, plain])
    assert not shards.timed
    assert not shards[:].timed
    assert shards[:1].timed
    assert Shards([timed, timed]).timed


@given(st.lists(a_shard, min_size=1, max_size=4), st.data())
@settings(deadline=None)
def test_rows_are_gathered_in_any_order_with_repeats(shards, data):
    flat = [drawing for shard in shards for drawing in shard]
    rows = data.draw(st.lists(st.integers(0, len(flat) - 1), max_size=8) if flat else st.just([]))
    taken = Shards([shard_of(shard) for shard in shards]).take(np.array(rows, np.int64))
    assert lists(taken) == [flat[row] for row in rows]
    assert len(taken) == len(rows)
    places = [place for _, _, places in taken.pieces for place in places.tolist()]
    assert sorted(places) == list(range(len(rows))), "the pieces hold every place once"


def test_taking_rows_copies_no_points(folder):
    shards = open_shards([folder])
    for shard, _, _ in shards.take(np.array([11, 0, 5])).pieces:
        assert any(shard is each for each in shards.shards)


def test_a_place_that_is_none_is_refused():
    with pytest.raises(IndexError, match="place 2 of 2 drawings"):
        Drawings.from_lists([[((1,), (2,))]] * 2).strokes_of(2)


@given(st.lists(a_shard, min_size=1, max_size=4), st.integers(1, 9), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_parts_hold_every_drawing_once_in_about_equal_shares(shards, count, rng):
    whole = Shards([shard_of(shard) for shard in shards])
    rows = rng.sample(range(len(whole)), len(whole))
    drawings = whole.take(np.array(rows, np.int64))
    parts = drawings.parts(count)
    assert len(parts) == min(count, len(rows))
    held = [[pair for _, rows, places in part for pair in zip(rows, places, strict=True)] for part in parts]
    assert max(map(len, held), default=0) - min(map(len, held), default=0) <= 1
    assert [pair for part in held for pair in part] == [
        pair for _, rows, places in drawings.pieces for pair in zip(rows, places, strict=True)
    ]
    assert sum(map(len, parts)) <= len(drawings.pieces) + count - 1, "few pieces are cut"


def test_key_ids_and_labels_go_with_their_drawings(folder):
    shards = open_shards([folder])
    taken = shards.take(np.array([11, 0, 5, 4, 5]))
    assert taken.key_id.tolist() == [106, 0, 100, 4, 100]
    assert taken.word.tolist() == [0, 0, 0, 1, 0]
    assert [len(drawing[0]) for drawing in lists(taken)] == [7, 1, 1, 5, 1]


@pytest.mark.parametrize("row", [-1, 12])
def test_a_row_out_of_range_is_refused(folder, row):
    with pytest.raises(IndexError, match=r"rows must be in 0\.\.11"):
        open_shards([folder]).take(np.array([0, row]))


@pytest.mark.parametrize(
    "piece", [slice(None), slice(3, 9), slice(9, 99), slice(-2, None), slice(4, 4), slice(0, 12, 5)]
)
def test_a_slice_is_what_a_list_would_give(folder, piece):
    assert open_shards([folder])[piece].key_id.tolist() == [*range(5), *range(100, 107)][piece]


@pytest.mark.parametrize("size", [1, 5, 7, 100])
def test_chunks_hold_every_row_once_in_order(folder, size):
    shards = open_shards([folder])
    chunks = list(shards.chunks(size))
    assert max(map(len, chunks)) <= size
    assert [key for chunk in chunks for key in chunk.key_id.tolist()] == shards.key_id.tolist()
    assert [drawing for chunk in chunks for drawing in lists(chunk)] == lists(shards[:])


@pytest.mark.parametrize("count", [0, 3, 7, 12, 99])
def test_the_first_rows_are_shards_of_their_own(folder, count):
    shards = open_shards([folder])
    first = shards.first(count)
    assert len(first) == min(count, 12)
    assert first.key_id.tolist() == shards.key_id.tolist()[:count]
    assert lists(first[:]) == lists(shards[:count])


def test_folders_and_shards_keep_their_order(folder):
    other = folder.parent / "test"
    other.mkdir()
    write_shard(other / "0000.arrow", table(2, 50))
    list_shards(folder.parent)
    assert open_shards([other, folder]).key_id.tolist() == [50, 51, *range(5), *range(100, 107)]


def test_a_folder_is_not_taken_for_another_whose_name_begins_alike(folder):
    other = folder.parent / "fold01"
    other.mkdir()
    write_shard(other / "0000.arrow", table(2, 50))
    list_shards(folder.parent)
    assert open_shards([folder]).key_id.tolist() == [*range(5), *range(100, 107)]
    assert open_shards([other]).key_id.tolist() == [50, 51]


def test_shards_are_read_by_pandas_and_pyarrow_without_us(folder):
    frame = pd.read_feather(folder / "0002.arrow")
    assert frame["key_id"].tolist() == list(range(100, 107))
    assert frame["countrycode"].astype(object).where(frame["countrycode"].notna(), None).tolist()[:3] == [
        "DE",
        None,
        "NA",
    ]
    read = pa.ipc.open_file(folder / "0002.arrow").read_all()
    assert read.schema == SCHEMA
    assert read["x"].to_pylist() == table(7, 100)["x"].to_pylist()


def test_a_shard_of_many_chunks_is_written_as_one_record_batch(tmp_path):
    write_shard(tmp_path / "s.arrow", pa.concat_tables([table(3), table(4, 50), table(2, 90)]))
    assert pa.ipc.open_file(tmp_path / "s.arrow").num_record_batches == 1
    assert open_shard(tmp_path / "s.arrow").key_id.tolist() == [0, 1, 2, 50, 51, 52, 53, 90, 91]


def test_a_slice_of_a_table_is_written_without_the_rest(tmp_path):
    write_shard(tmp_path / "all.arrow", table(50))
    write_shard(tmp_path / "part.arrow", table(50).slice(10, 3))
    part = open_shard(tmp_path / "part.arrow")
    assert part.key_id.tolist() == [10, 11, 12]
    assert part.points.tolist() == [0, 11, 23, 36]
    assert len(part.x) == 36
    assert (tmp_path / "part.arrow").stat().st_size < (tmp_path / "all.arrow").stat().st_size


def test_an_opened_shard_is_the_file_itself_and_not_a_copy(tmp_path):
    rows = 300
    write_shard(tmp_path / "s.arrow", table(rows))
    before = pa.total_allocated_bytes()
    shard = open_shard(tmp_path / "s.arrow")
    assert pa.total_allocated_bytes() == before
    for array in (shard.key_id, shard.word, shard.x, shard.y, shard.stroke, shard.points, shard.strokes):
        assert not array.flags.owndata
        assert not array.flags.writeable
    assert len(shard.x) == rows * (rows + 1) // 2
    place = (tmp_path / "s.arrow").read_bytes().index(shard.x.tobytes())
    with (tmp_path / "s.arrow").open("r+b") as file:
        file.seek(place)
        file.write(b"\x07" * len(shard.x))
    assert (shard.x == 7).all(), "what is written to the file shows in the array"


def test_a_timed_shard_is_mapped_with_its_times(tmp_path):
    times = pa.array([[10 * point for point in range(row + 1)] for row in range(4)], TIMED_SCHEMA.field("t").type)
    write_shard(tmp_path / "s.arrow", table(4).append_column("t", times))
    shard = open_shard(tmp_path / "s.arrow")
    assert shard.timed
    assert shard.t.tolist() == [0, 0, 10, 0, 10, 20, 0, 10, 20, 30]
    assert not shard.t.flags.owndata
    assert pa.ipc.open_file(tmp_path / "s.arrow").schema == TIMED_SCHEMA


def test_a_shard_takes_few_bytes_beside_its_points(tmp_path):
    write_shard(tmp_path / "s.arrow", table(200))
    points = 200 * 201 // 2
    assert (tmp_path / "s.arrow").stat().st_size < 2 * points + 200 * 50 + 4000


def test_opening_shards_does_not_import_pandas(folder):
    code = f"""if True:
        import sys
        from pathlib import Path
        from pipeline.drawings.shards import open_shards
        assert len(open_shards([Path({str(folder)!r})])) == 12
        print("pandas" in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False", "it takes a third of a second"


@pytest.mark.parametrize("summary", [None, "{}", '{"shards": {"fold1/0000.arrow": "00"}}'])
def test_a_folder_without_shards_is_refused(tmp_path, summary):
    if summary:
        (tmp_path / SUMMARY).write_text(summary.replace("{}", '{"shards": {}}'))
    with pytest.raises(SketchstackError, match=r"fold0 holds no shards \(\*\.arrow\); run `dvc repro shuffle`"):
        open_shards([tmp_path / "fold0"])


@pytest.mark.parametrize("summary", ["", "[]", "{}", '{"shards": 3', '"shards"'])
def test_a_summary_that_lists_no_shards_is_refused(folder, summary):
    (folder.parent / SUMMARY).write_text(summary)
    with pytest.raises(SketchstackError, match=r"summary\.json does not list the shards; run `dvc repro -f shuffle`"):
        open_shards([folder])


def refused(folder):
    with pytest.raises(SketchstackError) as error:
        open_shards([folder])
    assert str(error.value).endswith("; run `dvc repro -f shuffle` to write it again.")
    return str(error.value)


def test_a_shard_with_any_byte_altered_is_found_by_its_name(folder):
    path = folder / "0002.arrow"
    whole, rng = path.read_bytes(), random.Random(0)
    for place in [0, len(whole) - 1, *rng.sample(range(len(whole)), 100)]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << rng.randrange(8))]) + whole[place + 1 :])
        assert "fold0/0002.arrow was cut or altered since it was written" in refused(folder)
    path.write_bytes(whole)
    assert len(open_shards([folder])) == 12


@pytest.mark.parametrize("left", [0, 1, 100, -1])
def test_a_shard_that_was_cut_is_found_by_its_name(folder, left):
    path = folder / "0000.arrow"
    path.write_bytes(path.read_bytes()[:left])
    assert "fold0/0000.arrow was cut or altered" in refused(folder)


def test_a_shard_that_grew_is_found_by_its_name(folder):
    with (folder / "0001.arrow").open("ab") as file:
        file.write(b"\0")
    assert "fold0/0001.arrow was cut or altered" in refused(folder)


def test_a_shard_that_is_missing_is_found_by_its_name(folder):
    (folder / "0001.arrow").unlink()
    assert "fold0/0001.arrow is missing" in refused(folder)


def test_shards_that_changed_places_are_found_by_name(folder):
    one, other = (folder / f"{number:04d}.arrow" for number in (0, 2))
    swapped = one.read_bytes(), other.read_bytes()
    other.write_bytes(swapped[0])
    one.write_bytes(swapped[1])
    assert "fold0/0000.arrow was cut or altered" in refused(folder)


def test_a_shard_that_is_not_listed_is_found_by_its_name(folder):
    write_shard(folder / "0003.arrow", table(2, 500))
    assert re.search(r"fold0/0003\.arrow is not listed in .*summary\.json", refused(folder))


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "columns", "batches", "missing"])
def test_a_damaged_shard_is_refused_with_the_remedy(folder, damage):
    path = folder / "0000.arrow"
    if damage == "empty":
        path.write_bytes(b"")
    if damage == "text":
        path.write_text("key_id,word\n1,2\n" * 20)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    if damage == "columns":
        only = pa.table({"key_id": [1]})
        with pa.ipc.new_file(path, only.schema) as writer:
            writer.write_table(only)
    if damage == "batches":
        read = pa.ipc.open_file(pa.py_buffer(path.read_bytes())).read_all()
        with pa.ipc.new_file(path, SCHEMA) as writer:
            writer.write_table(read)
            writer.write_table(read)
    if damage == "missing":
        path.unlink()
    with pytest.raises(SketchstackError, match=r"0000\.arrow is not a shard .*; run `dvc repro -f shuffle`"):
        open_shard(path)
