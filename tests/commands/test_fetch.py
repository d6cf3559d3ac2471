import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.commands import fetch as data
from pipeline.commands.fetch import COMPETITION, copy, unpack
from pipeline.foundation.errors import SketchstackError
from tests.bucket_stand_in import ndjson, stand_in

FILES = {
    "train_simplified/ant.csv": "ant's",
    "train_simplified/wine glass.csv": "glass",
    "test_simplified.csv": "test",
    "sample_submission.csv": "sample",
}
EXTRA = {"test_labels.csv": "labels", "ndjson_raw/ant.ndjson": "{}"}
STRANGE = {"sealed.bin": "?", "README.md": "read me", "train_simplified/.DS_Store": "?"}


def write_files(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def contents(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """A project of one's own, and nobody's credentials."""
    for name in [name for name in os.environ if name.startswith("KAGGLE_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    for name in ("home", "project"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "project")


@pytest.fixture
def source(tmp_path):
    return write_files(tmp_path / "source", FILES | EXTRA | STRANGE)


def test_competition_files_are_copied_and_nothing_else(source):
    assert copy(source, Path("data/mini")) == 6
    assert contents(Path("data/mini")) == FILES | EXTRA
    assert [path.name for path in Path("data").iterdir()] == ["mini"]


def test_a_copy_of_a_folder_that_may_only_be_read_can_be_replaced(source):
    for path in [*source.rglob("*"), source]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    copy(source, Path("data/mini"))
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in Path("data").rglob("*")}
    assert all(mode & stat.S_IWUSR for mode in modes.values())
    source.chmod(0o755)


@pytest.fixture
def kept_by_dvc(monkeypatch):
    """DVC has every file, so any may be replaced."""
    monkeypatch.setattr(data, "check_replaceable", lambda place: None)


def test_files_that_dvc_does_not_have_are_never_replaced(source):
    write_files(Path("data/mini"), {"train_simplified/ant.csv": "mine", "notes.txt": "mine"})
    with pytest.raises(SketchstackError, match=r"data/mini holds other files.*`dvc add data/mini`"):
        copy(source, Path("data/mini"))
    assert contents(Path("data/mini"))["notes.txt"] == "mine"


def test_a_file_in_the_folder_s_place_is_not_replaced(source):
    write_files(Path("data"), {"mini": "mine"})
    with pytest.raises(SketchstackError, match="data/mini is a file"):
        copy(source, Path("data/mini"))
    assert Path("data/mini").read_text() == "mine"


def test_files_that_dvc_can_bring_back_are_replaced_until_they_change(source, capsys):
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True, capture_output=True)
    data.main(["mini", "--from", str(source)])
    (source / "test_simplified.csv").write_text("another")
    data.main(["mini", "--from", str(source)])
    assert contents(Path("data/mini"))["test_simplified.csv"] == "another"
    Path("data/mini/train_simplified/ant.csv").write_text("mine")
    with pytest.raises(SystemExit, match="holds other"):
        data.main(["mini", "--from", str(source)])
    assert contents(Path("data/mini"))["train_simplified/ant.csv"] == "mine"


def test_copying_again_touches_nothing_and_a_changed_source_replaces_all(source, kept_by_dvc):
    copy(source, Path("data/mini"))
    before = Path("data/mini").stat().st_ino
    copy(source, Path("data/mini"))
    assert Path("data/mini").stat().st_ino == before
    (source / "test_simplified.csv").write_text("tset")  # of the same length, and of the same age
    for folder in (source, Path("data/mini")):
        os.utime(folder / "test_simplified.csv", (1_500_000_000, 1_500_000_000))
    copy(source, Path("data/mini"))
    assert contents(Path("data/mini")) == FILES | EXTRA | {"test_simplified.csv": "tset"}
    (source / "train_simplified/ant.csv").unlink()
    copy(source, Path("data/mini"))
    assert contents(Path("data/mini")) == {
        name: text for name, text in (FILES | EXTRA | {"test_simplified.csv": "tset"}).items() if "ant.csv" not in name
    }


@pytest.mark.parametrize("missing", ["train_simplified", "test_simplified.csv", "sample_submission.csv"])
def test_what_a_source_lacks_is_named(source, missing):
    path = source / missing
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    with pytest.raises(SystemExit, match=f"{missing}\\sis\\smissing"):
        data.main(["mini", "--from", str(source)])
    assert not Path("data/mini").exists()


def test_an_empty_train_folder_counts_as_missing(source):
    shutil.rmtree(source / "train_simplified")
    (source / "train_simplified").mkdir()
    with pytest.raises(SketchstackError, match=r"train_simplified is missing"):
        copy(source, Path("data/mini"))


def test_where_from_must_be_said(capsys):
    with pytest.raises(SystemExit, match=r"NAME=mini\sFROM=FOLDER"):
        data.main(["mini"])
    with pytest.raises(SystemExit, match="cannot name a folder"):
        data.main(["../mini", "--from", "."])


def git(*arguments):
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout


def test_the_pointer_goes_to_git_and_the_same_data_leave_git_clean(source, capsys):
    git("init", "--quiet")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True, capture_output=True)
    Path(".gitignore").write_text("/data/*\n!/data/*.dvc\n")
    data.main(["mini", "--from", str(source)])
    assert "data/mini.dvc" in capsys.readouterr().out
    git("add", "--all")
    git("commit", "--quiet", "--message", "data")
    assert "data/mini.dvc" in git("ls-files")
    assert "data/mini/" not in git("ls-files")
    shutil.rmtree("data/mini")
    data.main(["mini", "--from", str(source)])
    assert git("status", "--porcelain") == ""


def test_dvc_s_refusal_is_told(source):
    with pytest.raises(SystemExit, match=r"`dvc add data/mini` failed:"):
        data.main(["mini", "--from", str(source)])


def test_without_credentials_a_download_says_how_to_set_them_up():
    with pytest.raises(SystemExit) as stopped:
        data.main(["kaggle"])
    told = " ".join(str(stopped.value).split())
    assert f"kaggle competitions download -c {COMPETITION} -p data/.kaggle.download" in told
    assert "KAGGLE_API_TOKEN" in told
    assert not Path("data").exists()


def write_archive(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_only_what_is_needed_is_unpacked(tmp_path):
    archive = write_archive(tmp_path / "all.zip", FILES | {"train_raw/ant.csv": "raw", "../evil.csv": "evil"})
    unpack(archive, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES


def test_an_archive_of_archives_is_unpacked_too(tmp_path):
    inner = write_archive(tmp_path / "inner.zip", {"ant.csv": "ant's", "wine glass.csv": "glass"})
    table = write_archive(tmp_path / "table.zip", {"test_simplified.csv": "test"})
    archive = write_archive(tmp_path / "all.zip", {"sample_submission.csv": "sample"})
    with zipfile.ZipFile(archive, "a") as packed:
        packed.write(inner, "train_simplified.zip")
        packed.write(table, "test_simplified.csv.zip")
    unpack(archive, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES


def test_a_broken_archive_is_named(tmp_path):
    (tmp_path / "all.zip").write_bytes(b"no archive")
    with pytest.raises(SketchstackError, match=r"all.zip cannot be unpacked"):
        unpack(tmp_path / "all.zip", tmp_path / "out")


def test_the_competition_is_downloaded_and_unpacked(tmp_path, monkeypatch, kept_by_dvc):
    """A `kaggle` of our own puts the archive where the real one would."""
    archive = write_archive(tmp_path / "made.zip", FILES | {"train_raw/ant.csv": "raw"})
    fake = tmp_path / "bin/kaggle"
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\n[ "$4" = {COMPETITION} ] && cp {archive} "$6/$4.zip"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "t0ken")
    assert data.download(Path("data/kaggle")) == 4
    assert contents(Path("data")) == {f"kaggle/{name}": text for name, text in FILES.items()}
    fake.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(SketchstackError, match=r"-p data/.kaggle.download` failed with exit code 3"):
        data.download(Path("data/kaggle"))
    assert contents(Path("data/kaggle")) == FILES


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo '403 Client Error: Forbidden for url: x' >&2; exit 1", "accept the rules"),
        ("echo '429 Client Error: Too Many Requests for url: x' >&2; exit 1", "wait some minutes"),
        ("echo '<html><title>Sign in</title>'", r"has left no data/\S*zip: a web page titled 'Sign in'"),
    ],
)
def test_a_download_that_fails_tells_what_to_do(tmp_path, monkeypatch, capsys, script, told):
    fake = tmp_path / "bin/kaggle"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "t0ken")
    with pytest.raises(SketchstackError, match=told) as failed:
        data.download(Path("data/kaggle"))
    assert "API token" not in str(failed.value)
    assert script.split("'")[1] in capsys.readouterr().err


@pytest.fixture
def bucket(monkeypatch):
    """A stand-in for Google's bucket with two words."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with stand_in(cat=ndjson("cat", 60), wine_glass=ndjson("wine glass", 60)) as server:
        yield server


def test_google_s_drawings_become_a_tracked_competition_and_are_not_fetched_twice(bucket, capsys):
    git("init", "--quiet")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True, capture_output=True)
    command = ["google", "--address", bucket.address, "--words", "cat,wine_glass", "--rows"]
    data.main([*command, "20"])
    said = capsys.readouterr().out
    assert "2 words, 36 training and 4 test drawings" in said
    assert "data/google holds 6 competition files" in said
    assert "make profile NAME=google" in said
    asked, before = len(bucket.asked), contents(Path("data/google"))
    data.main([*command, "20"])
    assert len(bucket.asked) == asked
    assert "there already" in capsys.readouterr().out
    data.main([*command, "40"])
    assert contents(Path("data/google")) != before
    assert {path.name for path in Path("data").iterdir()} == {"google", "google.dvc", ".gitignore"}


def test_files_that_dvc_does_not_have_are_not_replaced_by_google_s(bucket):
    write_files(Path("data/google"), {"notes.txt": "mine"})
    with pytest.raises(SystemExit, match=r"holds\sother\sfiles"):
        data.main(["google", "--address", bucket.address, "--words", "cat,wine glass"])
    assert not bucket.asked


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["google", "--rows", "1"], "none would be left for training"),
        (["google", "--rows", "50", "--test-rows", "50"], "none would be left for training"),
        (["google", "--words", "catt,dog"], "no word 'catt'; similar: cat"),
        (["google", "--address", "quickdraw"], "no address of a bucket"),
        (["kaggle", "--rows", "5"], "--rows is an option of `sketchstack fetch google`"),
        (["mini", "--from", ".", "--test-rows", "5"], "--test-rows is an option of"),
        (["google", "--from", ".", "--words", "all"], "--words is an option of"),
        (["mini", "--from", ""], "is empty"),
        (["mini", "--from", "nowhere"], "nowhere is not there"),
    ],
)
def test_options_that_cannot_be_are_refused(options, told):
    with pytest.raises(SystemExit) as stopped:
        data.main(options)
    assert told in " ".join(str(stopped.value).split())
    assert not Path("data").exists()


@pytest.mark.parametrize("rows", ["0", "-3", "many", "1e3"])
def test_rows_that_are_no_count_are_refused(rows, capsys):
    with pytest.raises(SystemExit):
        data.main(["google", "--rows", rows])
    assert "--rows" in capsys.readouterr().err


FORMATS = [
    "train_simplified/ant.ndjson.xz", "train_simplified/bee.jsonl", "train_simplified/c.a.t.parquet",
    "train_simplified/more/dog.bin", "train_simplified/more/even more/egg.npz", "test_simplified.ndjson.zst",
    "sample_submission.csv.zip",
]  # fmt: skip


def test_files_of_any_format_and_in_subfolders_are_copied(tmp_path):
    copy(write_files(tmp_path / "mine", dict.fromkeys(FORMATS, "x")), Path("data/mini"))
    assert set(contents(Path("data/mini"))) == set(FORMATS)


def test_what_is_not_copied_is_named(source, capsys):
    write_files(
        source, {"train_simplified/more/.hidden.csv": "?", "labels/ant.csv": "?", "test_simplified.csv.gz": "?"}
    )
    copy(source, Path("data/mini"))
    said = capsys.readouterr().out
    for name in ("sealed.bin", "README.md", "labels/", "test_simplified.csv.gz", "train_simplified/.DS_Store",
                 "train_simplified/more/.hidden.csv"):  # fmt: skip
        assert name in said


@pytest.mark.parametrize("name", ["it's here", "two  spaces", 'a "quote"', "$HOME", "ünï", "-x", "new\nline", "a;b"])
def test_a_folder_may_have_any_name(tmp_path, name):
    write_files(tmp_path / name, FILES | {'train_simplified/it\'s a "bee".csv': "bee"})
    assert copy(tmp_path / name, Path("data/mini")) == 5


def test_a_home_folder_is_found():
    write_files(Path.home() / "mine", FILES)
    with pytest.raises(SystemExit, match="dvc add"):  # all is copied; this is no DVC project
        data.main(["mini", "--from", "~/mine"])
    assert contents(Path("data/mini")) == FILES


def test_links_are_followed(source, tmp_path):
    elsewhere = write_files(tmp_path / "elsewhere", {"bee.csv": "bee", "more/dog.csv": "dog"})
    (source / "train_simplified/bee.csv").symlink_to(elsewhere / "bee.csv")
    (source / "train_simplified/more").symlink_to(elsewhere / "more")
    copy(source, Path("data/mini"))
    assert contents(Path("data/mini"))["train_simplified/more/dog.csv"] == "dog"
    assert not any(path.is_symlink() for path in Path("data/mini").rglob("*"))
    (tmp_path / "link").symlink_to(source)
    copy(tmp_path / "link", Path("data/mini"))


def odd(source, name, kind):
    path = source / name
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if kind == "folder":
        write_files(path, {"inside.csv": "x"})
    elif kind == "empty folder":
        path.mkdir()
    elif kind == "file":
        path.write_text("x")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(kind)
    return path


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [
        ("test_simplified.csv", "folder", "is a folder where a file belongs"),
        ("sample_submission.csv", "empty folder", "is a folder where a file belongs"),
        ("test_labels.csv", "folder", "is a folder where a file belongs"),
        ("train_simplified", "file", "is a file where a folder belongs"),
        ("train_simplified/bee.csv", "nowhere", "is a link to nowhere, where nothing is"),
        ("test_simplified.csv", "/no/such/file", "is a link to /no/such/file, where nothing is"),
        ("test_labels.csv", "nowhere", "is a link to nowhere, where nothing is"),
        ("train_simplified/bee.csv", "bee.csv", "is a link that leads back to itself"),
        ("train_simplified", "train_simplified", "is a link that leads back to itself"),
        ("train_simplified/more", "..", "is a link back to"),
        ("train_simplified/more", ".", "is a link back to"),
        ("train_simplified/bee.csv", "pipe", "is neither a file nor a folder"),
        ("test_simplified.csv", "/dev/null", "is neither a file nor a folder"),
    ],
)
def test_what_cannot_be_copied_is_told_in_one_paragraph(source, name, kind, told):
    path = odd(source, name, kind)
    with pytest.raises(SystemExit) as stopped:
        data.main(["mini", "--from", str(source)])
    text = " ".join(str(stopped.value).split())
    assert told in text
    assert path.name in text
    assert not Path("data/mini").exists()


def test_a_folder_of_other_names_is_told_what_it_holds(tmp_path):
    with pytest.raises(SketchstackError, match=r"holds cat\.csv, dog\.csv\. The files of the words.*train_simplified"):
        copy(write_files(tmp_path / "mine", {"cat.csv": "x", "dog.csv": "x"}), Path("data/mini"))


def test_an_archive_in_the_folder_s_place_is_told(tmp_path):
    (tmp_path / "all.zip").write_bytes(b"PK")
    with pytest.raises(SketchstackError, match=r"all\.zip is a file.*Unpack an archive first"):
        copy(tmp_path / "all.zip", Path("data/mini"))


def test_a_copy_that_the_disk_has_no_room_for_is_not_begun(source, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=3))
    with pytest.raises(SketchstackError, match=r"the copy of .* takes at least"):
        copy(source, Path("data/mini"))
