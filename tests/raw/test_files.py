"""Raw files are someone else's: each fault of a row is a reject with its reason, each fault of a file one error."""

import datetime
import gzip
import json
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipeline.foundation.errors import SketchstackError
from pipeline.raw import files as rawfiles
from pipeline.raw import listing, readers
from pipeline.raw.files import RawFile, blocks, layout_of
from pipeline.raw.listing import training_files
from pipeline.raw.readers import Reject
from tests.rawfiles import HEADER, Taken, csv_line, line_of_test, ndjson_line, some_params, write_lines
from tests.rawfiles import rows_of as rows_of_file

ANT = "ant"


def rows_of(path, word=ANT):
    return rows_of_file(RawFile(path, 0, word))


def read_csv(folder, *lines, word=ANT, end="\n"):
    """What the rows of a training CSV become."""
    return rows_of(write_lines(folder / f"{word}.csv", [HEADER, *lines], end), word)


def read_ndjson(folder, *lines):
    return rows_of(write_lines(folder / "ant.ndjson", list(lines)))


def the_reject(items):
    """The one reject between two good rows."""
    first, bad, last = items
    assert isinstance(first, Taken)
    assert isinstance(last, Taken)
    assert isinstance(bad, Reject)
    assert bad.line == 3
    assert bad.file.endswith("ant.csv")
    return bad


def plain(row):
    """A row without its line, in terms that compare."""
    return row[1:-1], row.drawing


def training_folder(folder, *names):
    """A folder of training files that hold one row each, and its params."""
    for name in names:
        word = name.rpartition(".")[0]
        write_lines(folder / "train_simplified" / name, [HEADER, csv_line(1, word)])


def test_a_row_keeps_every_column(tmp_path):
    (row,) = read_csv(tmp_path, csv_line(5, ANT, countrycode="DE", recognized=False))
    assert (row.line, row.key_id, row.countrycode, row.recognized) == (2, 5, "DE", False)
    assert row.timestamp == datetime.datetime(2017, 3, 9, 0, 28, 55, 637750, datetime.UTC)
    assert row.drawing == [[[5, 255, 10], [0, 0, 20]], [[5, 6], [7, 8]]]


def test_the_country_code_of_namibia_is_not_a_missing_value(tmp_path):
    (row,) = read_csv(tmp_path, csv_line(5, ANT, countrycode="NA"))
    assert row.countrycode == "NA"


def test_what_is_left_empty_is_none(tmp_path):
    (row,) = read_csv(tmp_path, csv_line(5, ANT, countrycode="", recognized="", timestamp=""))
    assert row[2:5] == (None, None, None)


def test_a_test_file_needs_no_word(tmp_path):
    path = write_lines(tmp_path / "test.csv", ["key_id,countrycode,drawing", line_of_test(7)])
    assert [row.key_id for row in rows_of(path, None)] == [7]


def test_columns_are_found_by_name_in_any_order(tmp_path):
    path = write_lines(tmp_path / "ant.csv", ["word,key_id,drawing", 'ant,7,"[[[1], [2]]]"'])
    (row,) = rows_of(path)
    assert plain(row) == ((7, None, None, None), [[[1], [2]]])


@pytest.mark.parametrize("word", [ANT, "wine glass"])
def test_ndjson_and_csv_give_the_same_rows(tmp_path, word):
    rows: list[tuple[int, dict[str, Any]]] = [
        (1, {}),
        (2, {"countrycode": "", "recognized": False}),
        (3, {"timestamp": "2017-01-01 00:00:00 UTC"}),
    ]
    in_csv = write_lines(tmp_path / f"{word}.csv", [HEADER, *(csv_line(key, word, **more) for key, more in rows)])
    in_json = write_lines(tmp_path / f"{word}.ndjson", [ndjson_line(key, word, **more) for key, more in rows])
    spelled = word.replace(" ", "_")
    assert [plain(row) for row in rows_of(in_csv, spelled)] == [plain(row) for row in rows_of(in_json, spelled)]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_of_windows_change_nothing(tmp_path, end):
    rows = read_csv(tmp_path, csv_line(1, ANT), csv_line(2, ANT), end=end)
    assert [row.key_id for row in rows] == [1, 2]


@pytest.mark.parametrize("name", ["ant.csv", "ant.ndjson"])
def test_a_byte_order_mark_changes_nothing(tmp_path, name):
    lines = [HEADER, csv_line(1, ANT)] if name == "ant.csv" else [ndjson_line(1, ANT)]
    plainly = [plain(row) for row in rows_of(write_lines(tmp_path / name, lines))]
    marked = write_lines(tmp_path / name, ["\ufeff" + lines[0], *lines[1:]])
    assert [plain(row) for row in rows_of(marked)] == plainly


def test_blank_lines_are_no_rows_but_count_as_lines(tmp_path):
    rows = read_csv(tmp_path, csv_line(1, ANT), "", "  ", "\f", csv_line(2, ANT))
    assert [row.line for row in rows] == [2, 6]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"drawing": "[[[1, 2], [3"}, "drawing is not JSON"),
        ({"drawing": "[[[" + "1" * 5000 + "], [1]]]"}, "drawing is not JSON"),
        ({"drawing": ""}, "drawing is not JSON"),
        ({"drawing": "[]"}, "drawing has no strokes"),
        ({"drawing": "[[[], []]]"}, "a stroke has no points"),
        ({"drawing": "[[[1, 2], [3]]]"}, "x and y of a stroke are of unequal length"),
        ({"drawing": "[[[1, 256], [3, 4]]]"}, "a coordinate lies outside 0..255"),
        ({"drawing": "[[[1, -1], [3, 4]]]"}, "a coordinate lies outside 0..255"),
        ({"drawing": "[[[1.5], [3]]]"}, "a coordinate is not a whole number"),
        ({"key_id": ""}, "key_id is not a 64-bit integer"),
        ({"key_id": "1.0"}, "key_id is not a 64-bit integer"),
        ({"key_id": "1_0"}, "key_id is not a 64-bit integer"),
        ({"key_id": "٣"}, "key_id is not a 64-bit integer"),
        ({"key_id": "18446744073709551616"}, "key_id is not a 64-bit integer"),
        ({"key_id": "-5"}, "key_id is negative"),
        ({"recognized": "maybe"}, "recognized is neither True nor False"),
        ({"timestamp": "yesterday"}, "timestamp is not a date and time"),
        ({"countrycode": "Köln"}, "countrycode is not two letters"),
        ({"word": "bee"}, "word is not the file's: 'bee'"),
        ({"word": ""}, "word is not the file's: ''"),
    ],
)
def test_a_faulty_row_is_a_reject_that_names_file_line_key_id_and_reason(tmp_path, changes, reason):
    bad = the_reject(read_csv(tmp_path, csv_line(1, ANT), csv_line(2, ANT, **changes), csv_line(3, ANT)))
    assert bad == Reject(str(tmp_path / "ant.csv"), 3, changes.get("key_id", "2"), reason)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (csv_line(2, ANT).removesuffix(",ant") + ',"ant', "line is not CSV: unexpected end of data"),
        ('NA,"[[[1]"x', "line is not CSV: ',' expected after"),
        (csv_line(2, ANT) + ",more", "7 fields in place of 6"),
        ("NA,2", "2 fields in place of 6"),
        (csv_line(2, ANT) + "\r" + csv_line(4, ANT), "line is not CSV: new-line character"),
    ],
)
def test_a_broken_line_spoils_no_other(tmp_path, line, reason):
    bad = the_reject(read_csv(tmp_path, csv_line(1, ANT), line, csv_line(3, ANT)))
    assert bad.reason.startswith(reason)


def test_a_line_that_is_not_utf8_spoils_no_other(tmp_path):
    path = write_lines(tmp_path / "ant.csv", [HEADER, csv_line(1, ANT), "?", csv_line(3, ANT)])
    path.write_bytes(path.read_bytes().replace(b"?", b"\xff\xfe"))
    assert the_reject(rows_of(path)).reason == "line is not UTF-8"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"word": "ant"', "line is not JSON"),
        ("[" * 100_000, "line is not JSON"),
        ("[1, 2]", "line is not a JSON object"),
        ("{}", "word is not the file's: 'None'"),
        (ndjson_line(2, ANT, drawing=None), "drawing is not a list of strokes"),
        (ndjson_line(2, ANT, drawing=[[[1], [2], [30]]]), "a stroke has 3 lists in place of [x, y]"),
        (ndjson_line(2, ANT, key_id=True), "key_id is not a 64-bit integer"),
        (ndjson_line(2, ANT, key_id=2.0), "key_id is not a 64-bit integer"),
        (ndjson_line(2, ANT, key_id=10**30), "key_id is not a 64-bit integer"),
        (ndjson_line(2, ANT, countrycode=5), "countrycode is not two letters"),
        (ndjson_line(2, ANT, countrycode="\ud800"), "countrycode is not two letters"),
        (ndjson_line(2, ANT, recognized=[]), "recognized is neither True nor False"),
        (ndjson_line(2, ANT, timestamp={"at": 1}), "timestamp is not a date and time"),
    ],
)
def test_a_faulty_line_of_ndjson_is_a_reject_with_its_reason(tmp_path, line, reason):
    first, bad, last = read_ndjson(tmp_path, ndjson_line(1, ANT), line, ndjson_line(3, ANT))
    assert isinstance(first, Taken)
    assert isinstance(last, Taken)
    assert (bad.line, bad.reason) == (2, reason)


@pytest.mark.parametrize("name", ["ant.csv", "ant.ndjson"])
@given(
    lines=st.lists(st.binary(max_size=30) | st.sampled_from([csv_line(1, ANT), ndjson_line(2, ANT)]).map(str.encode))
)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(lines=[b'{"word":"ant","key_id":"\\ud800","drawing":[[[1],[1]]]}'])
@example(lines=[b'{"word":"ant","key_id":1,"timestamp":"0001-01-01T00:00:00+05:00","drawing":[[[1],[1]]]}'])
def test_whatever_bytes_a_file_holds_each_line_is_a_row_or_a_reject(tmp_path, name, lines):
    header = [HEADER.encode()] if name == "ant.csv" else []
    (tmp_path / name).write_bytes(b"\n".join([*header, *lines]))
    filled = [line for text in lines for line in text.split(b"\n") if line.strip()]
    try:
        found = len(rows_of(tmp_path / name))
    except SketchstackError as error:
        found = len(filled) if "the file's name says" in str(error) else 0
    assert found == len(filled)


def test_a_file_of_another_word_is_refused(tmp_path):
    with pytest.raises(SketchstackError) as caught:
        read_csv(tmp_path, csv_line(1, "bee"))
    assert str(caught.value) == (
        f"{tmp_path}/ant.csv, line 2: the word is 'bee', but the file's name says 'ant'; "
        "rename the file after the word of its rows, or bring back the right file."
    )


@pytest.mark.parametrize("column", ["key_id", "drawing", "word"])
def test_a_missing_column_is_told_with_those_there_are(tmp_path, column):
    columns = [each for each in HEADER.split(",") if each != column]
    path = write_lines(tmp_path / "ant.csv", [",".join(columns), "a,b,c,d,e"])
    with pytest.raises(SketchstackError) as caught:
        rows_of(path)
    assert str(caught.value) == (
        f"{path}, line 1: the column {column!r} is missing; there are {', '.join(columns)}. "
        "Add it, or bring back a file that has it."
    )


@pytest.mark.parametrize("header", [b"\xff\xfe\x00", HEADER.replace(",", "\r").encode()])
def test_a_header_that_is_no_csv_is_refused(tmp_path, header):
    (tmp_path / "ant.csv").write_bytes(header + b"\nrow\n")
    with pytest.raises(
        SketchstackError, match=r"ant\.csv, line 1: the header is not CSV in UTF-8 .* (S|Its lines .* s)ave it"
    ):
        rows_of(tmp_path / "ant.csv")


@pytest.mark.parametrize(("name", "lines"), [("ant.csv", [HEADER]), ("ant.csv", [HEADER, "", ""]), ("ant.ndjson", [])])
def test_a_word_or_a_test_file_without_rows_is_refused(tmp_path, name, lines):
    path = write_lines(tmp_path / name, lines)
    for word in (ANT, None):
        with pytest.raises(SketchstackError, match=r"ant\.(csv|ndjson) has no rows; (remove the file|put rows)"):
            rows_of(path, word)


def test_an_empty_file_is_refused(tmp_path):
    path = write_lines(tmp_path / "ant.csv", [])
    with pytest.raises(SketchstackError, match=r"ant\.csv, line 1: the column 'key_id' is missing; there are none"):
        rows_of(path)


def test_words_are_named_after_their_files_in_label_order(tmp_path):
    training_folder(tmp_path, "wine glass.csv", "ant.csv", "The Mona Lisa.csv")
    words, files = training_files(some_params(str(tmp_path)))
    assert words.names == ("The_Mona_Lisa", "ant", "wine_glass")
    assert [(file.path.name, file.number, file.word) for file in files] == [
        ("The Mona Lisa.csv", 0, "The_Mona_Lisa"),
        ("ant.csv", 1, "ant"),
        ("wine glass.csv", 2, "wine_glass"),
    ]


@pytest.mark.parametrize("spelled", ["wine glass", "wine_glass"])
def test_a_smaller_competition_is_picked_by_its_words_in_either_spelling(tmp_path, spelled):
    training_folder(tmp_path, "wine glass.csv", "ant.csv", "bee.csv")
    words, _ = training_files(some_params(str(tmp_path), words=[spelled, "ant"]))
    assert words.names == ("ant", "wine_glass")


def test_an_unknown_word_is_refused_with_those_like_it(tmp_path):
    training_folder(tmp_path, "wine glass.csv", "ant.csv")
    with pytest.raises(SketchstackError, match=r"shuffle\.words: .*has no word 'wine_glas'; similar: wine_g"):
        training_files(some_params(str(tmp_path), words=["ant", "wine glas"]))


@pytest.mark.parametrize(("words", "count"), [([], 0), (["ant"], 1)])
def test_fewer_than_two_words_are_no_competition(tmp_path, words, count):
    training_folder(tmp_path, "ant.csv", "bee.csv")
    with pytest.raises(SketchstackError, match=rf"has {count} words, but .*name more in params\.yaml"):
        training_files(some_params(str(tmp_path), words=words))


@pytest.mark.parametrize("twin", ["ant.ndjson", "hot_dog.csv"])
def test_two_files_of_one_word_are_refused(tmp_path, twin):
    training_folder(tmp_path, "ant.csv", "hot dog.csv", twin)
    with pytest.raises(SketchstackError, match=rf"and {twin}, two files of one word; remove one"):
        training_files(some_params(str(tmp_path)))


def test_a_missing_folder_is_told_with_the_remedy(tmp_path):
    with pytest.raises(
        SketchstackError,
        match=r"the folder .*train_simplified is missing, .* no train_simplified\.zip; fetch it with",
    ):
        training_files(some_params(str(tmp_path)))


def test_a_folder_without_drawings_is_refused(tmp_path):
    (tmp_path / "train_simplified").mkdir()
    with pytest.raises(SketchstackError, match=r"train_simplified holds no file of drawings \(<word>\.csv"):
        training_files(some_params(str(tmp_path)))


def test_a_missing_test_file_is_told_with_the_remedy(tmp_path):
    with pytest.raises(
        SketchstackError, match=r"the test file .*test_simplified\.csv is missing; fetch it with `make data"
    ):
        listing.test_file(some_params(str(tmp_path)), 0)


@pytest.mark.parametrize("name", ["train_simplified/t-shirt.csv", "ndjson_simplified/airplane.ndjson"])
def test_real_files_are_read_to_the_last_row(mini, name):
    path = mini / name
    items = rows_of(path, path.stem)
    lines = len(path.read_bytes().splitlines()) - (path.suffix == ".csv")
    assert len(items) == lines
    assert all(isinstance(item, Taken) for item in items)
    assert len({item.key_id for item in items}) == lines


def test_real_test_rows_are_read(mini):
    rows = iter(rows_of(mini / "test_simplified.csv", None))
    with (mini / "test_simplified.csv").open() as file:
        next(file)
        for row, line in zip(range(20), file, strict=False):
            item = next(rows)
            assert isinstance(item, Taken), row
            key_id, _, drawing = line.rstrip("\n").split(",", 2)
            assert item.key_id == int(key_id)
            assert item.drawing == json.loads(drawing.strip('"'))


def packed(path, how):
    """A file packed in place of itself."""
    data = path.read_bytes()
    path.unlink()
    if how == "gz":
        target = path.with_name(path.name + ".gz")
        target.write_bytes(gzip.compress(data))
    else:
        target = path.with_name(path.name + ".zip")
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("__MACOSX/._" + path.name, b"junk")
            file.writestr(path.name, data)
    return target


@pytest.mark.parametrize("how", ["gz", "zip"])
@pytest.mark.parametrize(("ending", "line"), [("csv", csv_line), ("ndjson", ndjson_line)])
def test_packed_files_are_read_as_plain_ones(tmp_path, how, ending, line):
    folder = tmp_path / "train_simplified"
    for word, key in (("wine glass", 1), ("ant", 100)):
        lines = [line(key + row, word) for row in range(5)]
        write_lines(folder / f"{word}.{ending}", [*([HEADER] if ending == "csv" else []), *lines])
    params = some_params(str(tmp_path))
    words, files = training_files(params)
    plainly = [[plain(row) for row in rows_of_file(file)] for file in files]
    for file in files:
        packed(file.path, how)
    packed_words, files = training_files(params)
    assert packed_words == words
    assert [[plain(row) for row in rows_of_file(file)] for file in files] == plainly
    assert str(files[0]).endswith(f"ant.{ending}.{how}" if how == "gz" else f"ant.{ending}.zip/ant.{ending}")


def test_a_folder_may_be_one_zip_as_kaggle_ships_it(tmp_path):
    with zipfile.ZipFile(tmp_path / "train_simplified.zip", "w") as file:
        for word, key in (("wine glass", 1), ("ant", 2)):
            file.writestr(f"train_simplified/{word}.csv", f"{HEADER}\n{csv_line(key, word)}\n")
    words, files = training_files(some_params(str(tmp_path)))
    assert words.names == ("ant", "wine_glass")
    assert [row.key_id for file in files for row in rows_of_file(file)] == [2, 1]
    assert str(files[0]) == f"{tmp_path}/train_simplified.zip/train_simplified/ant.csv"


@pytest.mark.parametrize("ending", ["gz", "zip"])
def test_the_test_file_may_be_packed(tmp_path, ending):
    path = write_lines(tmp_path / "test_simplified.csv", ["key_id,countrycode,drawing", line_of_test(7)])
    packed(path, ending)
    raw = listing.test_file(some_params(str(tmp_path)), 3)
    assert [row.key_id for row in rows_of_file(raw)] == [7]
    assert (raw.number, raw.word) == (3, None)


def test_a_zip_of_two_test_files_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "test_simplified.csv.zip", "w") as file:
        file.writestr("a.csv", "key_id,drawing")
        file.writestr("b.csv", "key_id,drawing")
    with pytest.raises(SketchstackError, match=r"holds 2 files of drawings instead of one: .*a\.csv, .*b\.csv; leave"):
        listing.test_file(some_params(str(tmp_path)), 0)


@pytest.mark.parametrize("how", ["gz", "zip"])
@pytest.mark.parametrize("damage", ["cut", "altered"])
def test_a_damaged_packed_file_stops_the_stage_by_name(tmp_path, how, damage):
    rng = np.random.default_rng(0)
    drawings = [[[*rng.integers(0, 256, (2, 30)).tolist()]] for _ in range(400)]
    lines = [csv_line(row, ANT, drawing=drawing) for row, drawing in enumerate(drawings)]
    path = packed(write_lines(tmp_path / "ant.csv", [HEADER, *lines]), how)
    data = bytearray(path.read_bytes())
    if damage == "altered":
        data[len(data) // 2] ^= 255
    elif how == "gz":
        data = data[: len(data) // 2]
    else:
        data = data[:-60]  # of the list of files, which stands at the end
    path.write_bytes(data)
    member = "ant.csv" if how == "zip" else None
    with pytest.raises(SketchstackError, match=rf"ant\.csv\.{how}.* cannot be unpacked .*copy or download"):
        rows_of_file(RawFile(path, 0, ANT, member))


def test_a_line_that_is_too_long_is_one_reject(tmp_path, monkeypatch):
    monkeypatch.setattr(rawfiles, "BLOCK", 64)
    monkeypatch.setattr(rawfiles, "LONGEST_LINE", 1000)
    monkeypatch.setattr(readers, "LONGEST_LINE", 1000)
    path = write_lines(tmp_path / "ant.csv", [HEADER, csv_line(1, ANT), "x" * 5000, csv_line(2, ANT), "y" * 2000])
    first, long, second, last = rows_of(path)
    assert (first.key_id, second.key_id) == (1, 2)
    assert long == Reject(str(path), 3, "", "line is longer than 1000 bytes")
    assert last.line == 5


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_blocks_are_all_lines_of_a_file_whatever_their_size(tmp_path, monkeypatch, size):
    monkeypatch.setattr(rawfiles, "BLOCK", size)
    rng = np.random.default_rng(size)
    lines = ["x" * length for length in rng.integers(1, 40, 60)]
    path = tmp_path / "ant.csv"
    path.write_text("\n".join(["header", *lines]))
    found, first = b"", 2
    for block in blocks(RawFile(path, 0, ANT), 1):
        assert block.text is not None
        assert (block.first, block.text[-1]) == (first, ord("\n"))
        found, first = found + block.text.tobytes(), first + block.lines
    assert found.decode().split("\n") == [*lines, ""]


@pytest.mark.parametrize("zeros", ["\0", "\0" * 50])
def test_a_row_with_nul_bytes_spoils_no_other(tmp_path, zeros):
    bad = csv_line(2, ANT, drawing=f"[[[1{zeros}], [2]]]")
    assert the_reject(read_csv(tmp_path, csv_line(1, ANT), bad, csv_line(3, ANT))).reason == "drawing is not JSON"


def test_quotes_inside_a_field_are_read_as_csv_means_them(tmp_path):
    header = "note,word,key_id,drawing"
    path = write_lines(tmp_path / "ant.csv", [header, '"said ""ant"", twice",ant,5,"[[[1], [2]]]"'])
    (row,) = rows_of(path)
    assert row.key_id == 5


def test_a_column_that_stands_twice_is_refused(tmp_path):
    path = write_lines(tmp_path / "ant.csv", ["word,key_id,key_id,drawing", 'ant,5,6,"[[[1], [2]]]"'])
    with pytest.raises(SketchstackError, match=r"ant\.csv, line 1: the column 'key_id' stands there twice; remove one"):
        rows_of(path)


@pytest.mark.parametrize("ending", ["csv", "ndjson"])
def test_a_raw_file_is_known_by_its_drawings(tmp_path, ending):
    line = csv_line if ending == "csv" else ndjson_line
    drawing = [[[0.5, 10.5], [2.5, 2.5], [0, 30]]]
    rows = [line(1, ANT, drawing="?"), line(2, ANT, drawing=drawing), line(3, ANT, drawing=[[[1], [2]]])]
    path = write_lines(tmp_path / f"ant.{ending}", [*([HEADER] if ending == "csv" else []), *rows])
    assert layout_of(RawFile(path, 0, ANT)).timed
    _, good, simple = rows_of(path)
    assert good.drawing == [[[0, 255], [0, 0], [0, 30]]]
    assert simple.reason == "a stroke has 2 lists in place of [x, y, t]"


@pytest.mark.parametrize("ending", ["csv", "ndjson"])
@given(cut=st.integers(1, 150))
@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_line_cut_in_half_at_the_end_of_a_file_is_one_reject(tmp_path, ending, cut):
    line = csv_line if ending == "csv" else ndjson_line
    text = line(2, ANT)
    path = write_lines(tmp_path / f"ant.{ending}", [*([HEADER] if ending == "csv" else []), line(1, ANT)])
    with path.open("a") as file:
        file.write(text[: min(cut, len(text) - 1)])
    good, half = rows_of(path)
    assert good.key_id == 1
    assert isinstance(half, Reject)
