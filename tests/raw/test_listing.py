"""Each file below the raw folder is read, named as harmless, or refused by its name with a reason and a remedy."""

import bz2
import gzip
import os
import socket
import tarfile
import unicodedata
import zipfile

import pytest

from pipeline.foundation.errors import SketchstackError
from pipeline.raw import listing
from pipeline.raw.listing import list_training, told_not_read, training_files
from tests.rawfiles import HEADER, csv_line, line_of_test, ndjson_line, rows_of, some_params, write_lines

TRAIN = "train_simplified"


@pytest.fixture
def raw(tmp_path):
    """A raw folder with two words, and room for more."""
    for word in ("ant", "bee"):
        write_lines(tmp_path / TRAIN / f"{word}.csv", [HEADER, csv_line(1, word)])
    return tmp_path


def content(word="cat", suffix=".csv"):
    lines = [HEADER, csv_line(1, word)] if suffix == ".csv" else [ndjson_line(1, word)]
    return "".join(f"{line}\n" for line in lines).encode()


def words_of(raw):
    return training_files(some_params(str(raw)))[0].names


def refusal(raw):
    with pytest.raises(SketchstackError) as caught:
        training_files(some_params(str(raw)))
    text = str(caught.value)
    assert "\n" not in text
    text.encode()
    return text


def zipped(place, *members, **kinds):
    with zipfile.ZipFile(place, "w", **kinds) as packed:
        for name, data in members:
            packed.writestr(name, data)
    return place


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("cat.CSV", "cat"),
        ("Cat.Csv", "Cat"),
        ("cat.csv ", "cat"),
        (" cat.csv", "cat"),
        ("cat .csv", "cat"),
        ("t.v..csv", "t.v."),
        ("dr. who.csv", "dr._who"),
        ("v1.2 final.csv", "v1.2_final"),
        ("more/cat.csv", "cat"),
        ("animals/small/dr. who.csv", "dr._who"),
        ("cat.csv/cat.csv", "cat"),
        ("data.zip/cat.csv", "cat"),
        (unicodedata.normalize("NFD", "café.csv"), "café"),
        (unicodedata.normalize("NFD", "Ångström å.csv"), "Ångström_å"),
    ],
)
def test_a_word_is_read_however_its_file_is_spelled_and_wherever_it_lies(raw, name, word):
    path = raw / TRAIN / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content(word.replace("_", " ")))
    words, files = training_files(some_params(str(raw)))
    assert sorted(words.names) == sorted(["ant", "bee", word])
    (taken,) = rows_of(files[words.index[word]])
    assert taken.key_id == 1


@pytest.mark.parametrize("name", ["cat.CSV.GZ", "cat.csv.Gz", "dr. who.csv.gz", "a/cat.csv.gz"])
def test_a_packed_word_is_read_in_any_case(raw, name):
    path = raw / TRAIN / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(content("dr. who" if "who" in name else "cat")))
    words, files = training_files(some_params(str(raw)))
    assert len(words) == 3
    assert all(rows_of(file) for file in files)


@pytest.mark.parametrize("top", ["", "train/", "./", "a/b c/", "../", "/", "C:\\data\\", "a\\b\\", "cat.csv/"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_may_hold_several_words_below_any_folder(raw, top, method):
    members = [(f"{top}cat.csv", content()), (f"{top}dr. who.CSV", content("dr. who"))]
    zipped(raw / TRAIN / "More words.ZIP", *members, (f"__MACOSX/{top}._cat.csv", b"\0"), compression=method)
    words, files = training_files(some_params(str(raw)))
    assert words.names == ("ant", "bee", "cat", "dr._who")
    assert all(rows_of(file) for file in files)


def test_a_zip_of_macos_has_names_in_utf8_without_saying_so(raw):
    place = zipped(raw / TRAIN / "w.zip", ("caf##.csv", content("café")), ("cafe##.csv", content("cafe\u0300")))
    data = place.read_bytes().replace(b"caf##", "café".encode()).replace(b"cafe##", "cafe\u0300".encode())
    place.write_bytes(data)
    words, files = training_files(some_params(str(raw)))
    assert words.names == ("ant", "bee", "cafè", "café")
    assert all(type(row).__name__ == "Taken" for file in files for row in rows_of(file))


@pytest.mark.parametrize(
    "name",
    [
        ".DS_Store", "._cat.csv", "Thumbs.db", "desktop.ini", "README.md", "LICENSE", "readme.txt", ".gitignore",
        "__MACOSX/._cat.csv", ".ipynb_checkpoints/cat-checkpoint.csv", ".~lock.cat.csv#", "ant.csv.dvc", "SHA256SUMS",
        "sub/.DS_Store", "@eaDir/cat.csv",
    ],
)  # fmt: skip
def test_what_systems_leave_behind_is_named_as_not_read(raw, name):
    write_lines(raw / TRAIN / name, ["anything"])
    params = some_params(str(raw))
    line = told_not_read(params, list_training(params))
    assert line.startswith(f"Not read in {raw}: {TRAIN}/")
    assert name.split("/")[0] in line
    assert "\n" not in line
    assert words_of(raw) == ("ant", "bee")


def test_files_beside_the_training_folder_are_named_as_not_read(raw):
    for name in ("train_simplified.zip", "test_raw.csv", "cat.csv", "sample_submission.csv", "test_simplified.csv"):
        write_lines(raw / name, ["x"])
    params = some_params(str(raw))
    assert told_not_read(params, list_training(params)) == (
        f"Not read in {raw}: cat.csv, test_raw.csv, train_simplified.zip"
    )


def test_many_names_are_cut_short(raw):
    for number in range(50):
        write_lines(raw / TRAIN / f"._{number:02}.csv", ["x"])
    params = some_params(str(raw))
    assert told_not_read(params, list_training(params)).endswith("and 30 more")


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("cat.txt", content(), r"its name does not end like that of a file of drawings; save it as <word>\.csv"),
        ("cat", content(), "its name does not end like"),
        ("cat.csv.bak", content(), "its name does not end like"),
        ("cat.csv.part", content(), "its name does not end like"),
        ("cat.tsv", content(), "its name does not end like"),
        ("cat.csv.rar", b"Rar!\x1a", "its name does not end like"),
        ("sub/cat.xlsx", b"PK\3\4", "its name does not end like"),
        (".cat.csv", content(), "hidden file"),
        (".csv", content(), "hidden file"),
        ("cat.csv.dvc", b"outs:", r"the file cat\.csv that it stands for is missing; run `dvc pull`"),
        ("cat.csv", b"", "it is empty"),
        ("cat.csv.gz", b"", "it is empty"),
        ("cat.csv", gzip.compress(content()), r"it is gzip \(\.gz\), but its name says text"),
        ("cat.csv.gz", content(), r"its name says gzip \(\.gz\), but it does not start like it"),
        ("cat.csv.gz", b"PK\3\4..", r"it is a ZIP archive \(\.zip\), but its name says gzip"),
        ("cat.zip", gzip.compress(content()), r"it is gzip \(\.gz\), but its name says a ZIP archive"),
        ("cat.ndjson", bz2.compress(content()), r"it is bzip2 \(\.bz2\), but its name says text"),
        ("cat.zip", b"no archive", "damaged and cannot be unpacked .*; copy or download it again"),
        (
            "cat.csv",
            "key_id".encode("utf-16"),
            "it is text in UTF-16 or UTF-32, but its name says text; save it as UTF-8",
        ),
        ("cat.ndjson", "\ufeff{".encode("utf-16-be"), "it is text in UTF-16"),
        ("cat.csv", b"<!DOCTYPE html>", "it is a web page"),
        ("cat.csv", b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS"),
        ("c\nat.csv", content(), "control characters"),
        ("\x1b[31m.csv", content(), "control characters"),
        (os.fsdecode(b"caf\xe9.csv"), content(), "bytes that are not UTF-8; rename it"),
    ],
)
def test_what_is_not_read_is_refused_by_its_name_with_reason_and_remedy(raw, name, data, reason):
    (raw / TRAIN / name).parent.mkdir(exist_ok=True)
    (raw / TRAIN / name).write_bytes(data)
    with pytest.raises(SketchstackError, match=reason) as caught:
        training_files(some_params(str(raw)))
    assert str(raw / TRAIN) in str(caught.value)
    assert "make data" not in str(caught.value)
    refusal(raw)


def test_all_refused_files_are_named(raw):
    for name in ("cat.txt", "dog.rar", "sub/elk.csv.part"):
        write_lines(raw / TRAIN / name, ["x"])
    text = refusal(raw)
    assert "cat.txt cannot be read: " in text
    assert " 2 more: " in text
    assert "dog.rar (its name" in text
    assert "sub/elk.csv.part (its name" in text


def no_file(path, kind):
    if kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a link to nowhere, which is missing":
        path.symlink_to("nowhere")
    elif kind == "symbolic links":
        path.symlink_to(path)
    elif kind == "a device":
        path.symlink_to("/dev/null")
    elif kind == "a folder without drawings":
        path.mkdir()
    elif kind == "a link to a folder that is listed as":
        path.symlink_to(path.parent)
    elif kind == "a socket":
        with socket.socket(socket.AF_UNIX) as server, pytest.MonkeyPatch.context() as patch:
            patch.chdir(path.parent)
            server.bind(path.name)


@pytest.mark.parametrize(
    "kind",
    [
        "a named pipe", "a link to nowhere, which is missing", "symbolic links", "a device",
        "a folder without drawings", "a link to a folder that is listed as", "a socket",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["cat.csv", "cat.zip"])
def test_something_else_in_place_of_a_file_is_refused(raw, kind, name):
    no_file(raw / TRAIN / name, kind)
    text = refusal(raw)
    assert kind in text
    assert f"{TRAIN}/{name} cannot be read" in text


@pytest.mark.parametrize("name", ["cat.csv", "animals"])
def test_a_file_or_folder_without_the_right_to_read_is_refused(raw, name, monkeypatch):
    path = raw / TRAIN / name
    path.mkdir() if name == "animals" else path.write_bytes(content())
    whole = type(path).stat

    def stat(self, **more):
        if self == path and not more:
            raise PermissionError(13, "Permission denied", str(self))
        return whole(self, **more)

    monkeypatch.setattr(type(path), "stat", stat)  # tests may run as root, who may read everything
    assert f"{name} cannot be read: the system says Permission denied; give yourself the right to it" in refusal(raw)


def test_links_to_files_and_folders_are_followed(raw, tmp_path_factory):
    place = tmp_path_factory.mktemp("elsewhere")
    (place / "1.csv").write_bytes(content())
    (place / "folder").mkdir()
    (place / "folder" / "dog.csv").write_bytes(content("dog"))
    (raw / TRAIN / "cat.csv").symlink_to(place / "1.csv")
    (raw / TRAIN / "link").symlink_to(place / "folder")
    assert words_of(raw) == ("ant", "bee", "cat", "dog")


def test_folders_without_end_are_refused(raw):
    place = raw / TRAIN / "/".join(["d"] * 60)
    place.mkdir(parents=True)
    (place / "cat.csv").write_bytes(content())
    assert "folders deep; move it up" in refusal(raw)


def spoilt(place, kind):
    """An archive with a member that cannot be read."""
    zipped(place, ("cat.csv", content()))
    data = bytearray(place.read_bytes())
    central = data.rfind(b"PK\1\2")
    if kind == "password":
        data[6], data[central + 8] = data[6] | 1, data[central + 8] | 1
    elif kind == "method":
        data[8] = data[central + 10] = 99
    elif kind == "member":
        data[0:4] = b"PK\3\5"
    elif kind == "start":
        data[central + 42] = 200
    elif kind == "end":
        data = data[:-10]
    place.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("password", "protected by a password; unpack the archive"),
        ("method", r"its compression \(method 99\) is not supported; unpack the archive"),
        ("member", "damaged and cannot be unpacked|but its name says a ZIP"),
        ("start", "damaged and cannot be unpacked"),
        ("end", "damaged and cannot be unpacked"),
    ],
)
def test_a_broken_archive_is_refused_with_its_cause(raw, kind, reason):
    spoilt(raw / TRAIN / "more.zip", kind)
    with pytest.raises(SketchstackError, match=rf"more\.zip.* {reason}"):
        training_files(some_params(str(raw)))


def test_archives_in_archives_are_refused_by_name(raw):
    inner = zipped(raw / "inner.zip", ("dog.csv", content("dog"))).read_bytes()
    with tarfile.open(raw / "cat.tar", "w") as tar:
        tar.add(raw / TRAIN / "ant.csv", "cat.csv")
    zipped(
        raw / TRAIN / "more.zip", ("cat.csv", content()), ("in.zip", inner), ("x.tar", (raw / "cat.tar").read_bytes())
    )
    text = refusal(raw)
    assert "more.zip/in.zip cannot be read: it is an archive in an archive; unpack the outer one" in text
    assert "more.zip/x.tar (its name does not end" in text


@pytest.mark.parametrize("members", [[], [(".DS_Store", b"")], [("folder/", b"")]])
def test_an_archive_without_drawings_is_refused(raw, members):
    zipped(raw / TRAIN / "more.zip", *members)
    assert "more.zip cannot be read: it is an archive without files of drawings" in refusal(raw)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(raw):
    zipped(raw / TRAIN / "more.zip", ("cat.csv", content()), ("cat.csv", content()))
    assert "several files of this name; pack it again" in refusal(raw)


@pytest.mark.parametrize(
    "twin",
    ["sub/ant.csv", "ant.CSV", "ant.ndjson", "more.zip", " ant.csv"],
)
def test_a_second_file_of_a_word_is_refused_with_both_names(raw, twin):
    path = raw / TRAIN / twin
    path.parent.mkdir(exist_ok=True)
    if twin == "more.zip":
        zipped(path, ("x/ant.csv", content("ant")))
    else:
        path.write_bytes(content("ant"))
    text = refusal(raw)
    assert "two files of one word; remove one of them" in text
    assert "ant.csv" in text
    assert twin in text


def test_letters_in_both_cases_are_two_words_but_a_copy_in_capitals_is_refused(raw):
    (raw / TRAIN / "a.csv").write_bytes(content("a"))
    (raw / TRAIN / "A.csv").write_bytes(content("A"))
    (raw / TRAIN / "ANT.csv").write_bytes(content("ant"))
    words, files = training_files(some_params(str(raw)))
    assert words.names == ("A", "ANT", "a", "ant", "bee")
    with pytest.raises(SketchstackError, match=r"the word is 'ant', but the file's name says 'ANT'; rename the file"):
        rows_of(files[words.index["ANT"]])


def test_two_normal_forms_of_a_name_are_one_word(raw):
    for form in ("NFC", "NFD"):
        (raw / TRAIN / unicodedata.normalize(form, "café.csv")).write_bytes(content("café"))
    assert "two files of one word" in refusal(raw)


def test_rows_may_have_the_other_normal_form_than_the_name(raw):
    (raw / TRAIN / unicodedata.normalize("NFD", "crème brûlée.csv")).write_bytes(content("crème brûlée"))
    (raw / TRAIN / "café.csv").write_bytes(content(unicodedata.normalize("NFD", "café")))
    files = training_files(some_params(str(raw)))[1]
    assert [len(rows_of(file)) for file in files] == [1] * 4
    assert all(type(row).__name__ == "Taken" for file in files for row in rows_of(file))


@pytest.mark.parametrize("kind", ["folder", "gz", "bz2", "zip", "upper zip"])
def test_the_test_file_may_lie_in_a_folder_or_be_packed(raw, kind):
    lines = "".join(f"{line}\n" for line in ["key_id,countrycode,drawing", line_of_test(7)]).encode()
    place = raw / "test_simplified.csv"
    if kind == "folder":
        place.mkdir()
        (place / "test_simplified.csv").write_bytes(lines)
        (place / ".DS_Store").write_bytes(b"")
    elif kind in ("gz", "bz2"):
        (raw / f"test_simplified.csv.{kind}").write_bytes({"gz": gzip, "bz2": bz2}[kind].compress(lines))
    else:
        zipped(raw / "test_simplified.csv.zip", ("data/Test.CSV", lines), ("__MACOSX/data/._Test.CSV", b"\0"))
    (row,) = rows_of(listing.test_file(some_params(str(raw)), 2))
    assert row.key_id == 7


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("a link to nowhere, which is missing", "is missing; bring that back"),
        ("symbolic links", "levels of symbolic links"),
        ("a named pipe", "it is a named pipe"),
        ("a folder without drawings", "it is a folder without drawings"),
    ],
)
def test_something_else_in_place_of_the_test_file_is_refused(raw, kind, reason):
    no_file(raw / "test_simplified.csv", kind)
    with pytest.raises(SketchstackError, match=rf"test_simplified\.csv cannot be read: .*{reason}"):
        listing.test_file(some_params(str(raw)), 0)


def test_a_file_in_place_of_the_training_folder_is_told(tmp_path):
    (tmp_path / TRAIN).write_bytes(content())
    assert "is a file, but data.train in params.yaml must name a folder" in refusal(tmp_path)
