"""What happens to raw folders: renames, archives, links, other encodings, damage. Each is a function here.

HARMLESS ones leave every drawing readable: the shuffle must accept the folder and keep all its rows. After the others
it may refuse the folder, or reject rows.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import shutil
import socket
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

WORDS = ("ant", "wine glass", "t.v.", "dr. who", "café", "日本", "The Eiffel Tower", "t-shirt", "crème brûlée", "a_b")
HEADER = "countrycode,drawing,key_id,recognized,timestamp,word"
STAMPS = (
    "2017-03-09 00:28:55.63775 UTC", "2017-03-09T00:28:55Z", "2017-03-09T00:28:55.637750+01:00", "2017-03-09 00:28:55",
    "",
)  # fmt: skip
JUNK = (".DS_Store", "._ant.csv", "Thumbs.db", "README.md", "__MACOSX/._x.csv", ".gitignore", "desktop.ini", "LICENSE")
UNKNOWN = (
    ".txt", ".bak", ".part", "~", ".tmp", ".json", ".tsv", ".rar", ".7z", ".tar", ".xlsx", ".gz", ".zip", ".csv",
    ".ndjson", ".bz2", ".xz", " (1)", ".crdownload", ".dvc",
)  # fmt: skip
ODD = (
    b"\xff\xfe.csv", b"a\nb.csv", b"\x1b[31m.csv", b".csv", b".ant.csv", b"a\tb.ndjson", b"NA.csv", b"=1+1.csv",
    b"x" * 240 + b".csv", b"\xe2\x80\x8b.csv", b"CON.csv", b"-rf.csv", b"a,b.csv", b"%s{}.csv", b"\xed\xa0\x80.csv",
)  # fmt: skip
PIECES = (b"\0", b'"', b"\xff", b"\n", b",", b"[", b"\x1a", b"NaN", b"1e999", b"\\", b"}")
ENCODINGS = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "latin-1", "cp1252", "utf-7")
PACKS = ((gzip.compress, ".gz"), (gzip.compress, ".GZ"), (bz2.compress, ".bz2"), (lzma.compress, ".xz"))
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
Random = np.random.Generator


class Folder:
    """A raw folder with a few words, as it is changed.

    Args:
        home: of the project; the raw folder is data/own.
        random: draws the drawings.
    """

    def __init__(self, home: Path, random: Random) -> None:
        self.home, self.random = home, random
        self.root, self.train = home / "data" / "own", home / "data" / "own" / "train_simplified"
        self.test = self.root / "test_simplified.csv"
        self.train.mkdir(parents=True)
        self.elsewhere = home / "elsewhere"  # for what links lead to
        self.elsewhere.mkdir()
        self.key_ids: set[int] = set()
        self.timed = bool(random.random() < 0.3)
        for word in random.choice(WORDS, random.integers(2, 5), replace=False):
            self._write(str(word), in_csv=bool(random.random() < 0.6))
        lines = ["key_id,countrycode,drawing", *(self._test(self._row("")) for _ in range(5))]
        self.test.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _write(self, word: str, in_csv: bool) -> None:
        rows = [self._row(word) for _ in range(self.random.integers(15, 40))]
        name = word if self.random.random() < 0.5 else word.replace(" ", "_")
        if in_csv:
            lines = [HEADER, *(self._training(row) for row in rows)]
        else:
            lines = [json.dumps(row, ensure_ascii=bool(self.random.random() < 0.5)) for row in rows]
        text = "\n".join(lines) + ("\n" if self.random.random() < 0.8 else "")
        (self.train / f"{name}{'.csv' if in_csv else '.ndjson'}").write_text(text, encoding="utf-8")

    def _row(self, word: str) -> dict[str, object]:
        key_id = int(self.random.integers(0, 2 ** int(self.random.choice([40, 53, 63, 64])), dtype=np.uint64))
        self.key_ids.add(key_id)
        axes = [self.random.integers(0, 256, (2, self.random.integers(2, 9))).tolist() for _ in range(3)]
        drawing = [[x, y, sorted(range(len(x)))] if self.timed else [x, y] for x, y in axes]
        row = {"word": word, "countrycode": "DE", "key_id": str(key_id), "recognized": True, "drawing": drawing}
        return {**row, "timestamp": str(self.random.choice(STAMPS))}

    def _training(self, row: dict[str, object]) -> str:
        return f'DE,"{json.dumps(row["drawing"])}",{row["key_id"]},True,{row["timestamp"]},{row["word"]}'

    def _test(self, row: dict[str, object]) -> str:
        return f'{row["key_id"]},DE,"{json.dumps(row["drawing"])}"'

    def files(self, *suffixes: str) -> list[Path]:
        """The regular files below the training folder and the test file, of some suffixes."""
        below = [Path(place, name) for place, _, names in os.walk(self.train) for name in names]
        found = [path for path in [*below, self.test] if path.is_file() and not path.is_symlink()]
        found = [path for path in found if path.name.isprintable()]  # zipfile writes no other names
        return sorted(path for path in found if not suffixes or path.suffix.lower() in suffixes)

    def a_file(self, *suffixes: str) -> Path | None:
        """One of the files; None if there are none."""
        found = self.files(*suffixes)
        return found[self.random.integers(len(found))] if found else None

    def a_word(self, *suffixes: str) -> Path | None:
        """One of the files of a training word, or None."""
        found = [path for path in self.files(*suffixes) if path != self.test and path.name not in JUNK]
        found = [path for path in found if not path.name.startswith("._")]
        return found[self.random.integers(len(found))] if found else None


PLAIN, ALL = (".csv", ".ndjson", ".jsonl"), (".csv", ".ndjson", ".jsonl", ".gz", ".bz2", ".xz", ".zip")


def rename(path: Path, name: str) -> None:
    """Give a file another name, unless that is taken or too long."""
    place = path.with_name(name)
    if not os.path.lexists(place) and len(os.fsencode(name)) < 255 and name not in ("", ".", ".."):
        path.rename(place)


def upper_case(folder: Folder) -> None:
    """A suffix in capitals."""
    if path := folder.a_word(*ALL):
        how = folder.random.choice(["upper", "title"])
        rename(path, path.stem + getattr(path.suffix, how)())


def gzipped(folder: Folder) -> None:
    """A file as .gz, .bz2 or .xz."""
    if path := folder.a_word(*PLAIN):
        pack, suffix = PACKS[folder.random.integers(len(PACKS))]
        Path(f"{path}{suffix}").write_bytes(pack(path.read_bytes()))
        path.unlink()


def zipped(folder: Folder) -> None:
    """A file as .zip, by any method."""
    if path := folder.a_word(".csv", ".ndjson", ".gz"):
        place = Path(f"{path}.zip" if folder.random.random() < 0.5 else path.with_name(f"packed {path.stem}.Zip"))
        with zipfile.ZipFile(place, "w", int(folder.random.choice(METHODS))) as packed:
            packed.write(path, path.name)
        path.unlink()


def zipped_together(folder: Folder) -> None:
    """Several words in one .zip, below any top folder."""
    place, packs = folder.train / "words.zip", (".csv", ".ndjson", ".gz")
    paths = [path for path in folder.files(*packs) if path.parent == folder.train and path.name not in JUNK]
    if place.exists() or not paths:
        return
    tops = ("", "train_simplified/", "./", "a/b/", "C:\\data\\", "/", "../", "cat.csv/", "train\\")
    top = str(folder.random.choice(tops))
    with zipfile.ZipFile(place, "w", int(folder.random.choice(METHODS))) as packed:
        if top.endswith("/") and folder.random.random() < 0.5:
            packed.mkdir(top)
        for path in paths:
            if folder.random.random() < 0.7 or path == paths[0]:
                with packed.open(top + path.name, "w", force_zip64=bool(folder.random.random() < 0.3)) as member:
                    member.write(path.read_bytes())
                path.unlink()
        if folder.random.random() < 0.3:
            packed.writestr(f"__MACOSX/{top}._{paths[0].name}", "resource fork")


def moved(folder: Folder) -> None:
    """A file in a sub-folder, which may be named like a file."""
    if path := folder.a_word():
        top = path.parent == folder.train
        place = path.parent / str(
            folder.random.choice(["more", "ant.csv", "a b/c", "train_simplified", "x.zip"] if top else ["deep"])
        )
        if not place.is_file():
            place.mkdir(parents=True, exist_ok=True)
            path.rename(place / path.name)


def decomposed(folder: Folder) -> None:
    """A name in the normal form of macOS."""
    if path := folder.a_word(*ALL):
        rename(path, unicodedata.normalize("NFD" if folder.random.random() < 0.7 else "NFC", path.name))


def blanks(folder: Folder) -> None:
    """Blanks around a name."""
    if path := folder.a_word(*ALL):
        rename(path, f"{' ' * folder.random.integers(2)}{path.name}{' ' * folder.random.integers(2)}")


def json_lines(folder: Folder) -> None:
    """The other ending of ndjson."""
    if path := folder.a_word(".ndjson"):
        rename(path, f"{path.stem}.jsonl")


def underscored(folder: Folder) -> None:
    """Underscores in place of blanks."""
    if path := folder.a_word(*PLAIN):
        rename(path, path.name.strip().replace(" ", "_"))


def junk(folder: Folder) -> None:
    """A file that systems leave behind."""
    place = folder.train / str(folder.random.choice(JUNK))
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(b"\0\1")


def empty_folder(folder: Folder) -> None:
    """Folders without files."""
    (folder.train / "nothing" / "below").mkdir(parents=True, exist_ok=True)


def linked(folder: Folder) -> None:
    """A link in place of a file."""
    if path := folder.a_word():
        place = folder.elsewhere / f"{len(list(folder.elsewhere.iterdir()))}"
        path.rename(place)
        path.symlink_to(place)


def linked_folder(folder: Folder) -> None:
    """A link to a folder."""
    place = folder.elsewhere / "folder"
    path = folder.a_word()
    if path and path.parent == folder.train and not place.exists():
        place.mkdir()
        path.rename(place / path.name)
        (folder.train / "link").symlink_to(place)


def windows_lines(folder: Folder) -> None:
    """Lines that end as on Windows."""
    if path := folder.a_file(*PLAIN):
        path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))


def byte_order_mark(folder: Folder) -> None:
    """A byte order mark."""
    path = folder.a_file(*PLAIN)
    if path and path.read_bytes()[:1] in (b"c", b"{", b"k"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def blank_lines(folder: Folder) -> None:
    """Blank lines at the end."""
    if path := folder.a_file(*PLAIN):
        path.write_bytes(path.read_bytes() + b"\n" * folder.random.integers(1, 4) + b"  \n")


def zipped_folder(folder: Folder) -> None:
    """The whole folder as a .zip beside it."""
    if any(path.is_symlink() for path in folder.train.rglob("*")):
        return
    names = sorted(path for path in folder.train.rglob("*") if path.is_file())
    if not all(path.suffix.lower() != ".zip" and path.name.isprintable() for path in names):
        return
    with zipfile.ZipFile(folder.train.with_name("train_simplified.zip"), "w") as packed:
        for path in names:
            packed.write(path, path.relative_to(folder.train.parent))
    shutil.rmtree(folder.train)


def packed_test(folder: Folder) -> None:
    """The test file packed."""
    if folder.test.is_file():
        if folder.random.random() < 0.5:
            Path(f"{folder.test}.gz").write_bytes(gzip.compress(folder.test.read_bytes()))
        else:
            with zipfile.ZipFile(f"{folder.test}.zip", "w") as packed:
                packed.write(folder.test, folder.test.name)
                packed.writestr("__MACOSX/._test_simplified.csv", "")
        folder.test.unlink()


def truncated(folder: Folder) -> None:
    """A file that breaks off."""
    if path := folder.a_file():
        content = path.read_bytes()
        path.write_bytes(content[: folder.random.integers(len(content) + 1)])


def flipped(folder: Folder) -> None:
    """Bits that changed."""
    path = folder.a_file()
    if path and (content := bytearray(path.read_bytes())):
        for _ in range(folder.random.integers(1, 6)):
            content[folder.random.integers(len(content))] ^= 1 << folder.random.integers(8)
        path.write_bytes(content)


def flipped_archive(folder: Folder) -> None:
    """Damage where an archive keeps its names and sizes: at its ends."""
    path = folder.a_file(".zip", ".gz")
    if path and (content := bytearray(path.read_bytes())):
        for _ in range(folder.random.integers(1, 4)):
            near = min(len(content), 120)
            at = folder.random.integers(near)
            content[at if folder.random.random() < 0.3 else len(content) - 1 - at] = folder.random.integers(256)
        path.write_bytes(content)


def other_encoding(folder: Folder) -> None:
    """Another encoding."""
    if path := folder.a_file(*PLAIN):
        text = path.read_bytes().decode("utf-8", "replace")
        path.write_bytes(text.encode(str(folder.random.choice(ENCODINGS)), "replace"))


def old_lines(folder: Folder) -> None:
    """Lines that end in a carriage return, all or from some line on."""
    if path := folder.a_file(*PLAIN):
        content = path.read_bytes()
        start = folder.random.integers(len(content) + 1) if folder.random.random() < 0.5 else 0
        path.write_bytes(content[:start] + content[start:].replace(b"\n", b"\r"))


def inserted(folder: Folder) -> None:
    """A character that does not belong there."""
    if path := folder.a_file(*PLAIN):
        content, pieces = path.read_bytes(), PIECES
        at = folder.random.integers(len(content) + 1)
        path.write_bytes(content[:at] + pieces[folder.random.integers(len(pieces))] + content[at:])


def emptied(folder: Folder) -> None:
    """An empty file, or one of a blank line."""
    if path := folder.a_file():
        path.write_bytes(b"\n" * folder.random.integers(2))


def without_a_line(folder: Folder) -> None:
    """A line less; half of the times the first."""
    path = folder.a_file(*PLAIN)
    if path and (lines := path.read_bytes().split(b"\n")):
        del lines[0 if folder.random.random() < 0.5 else folder.random.integers(len(lines))]
        path.write_bytes(b"\n".join(lines))


def other_name(folder: Folder) -> None:
    """Another ending."""
    if path := folder.a_file():
        suffix = str(folder.random.choice(UNKNOWN))
        rename(path, path.stem + suffix if folder.random.random() < 0.5 else path.name + suffix)


def odd_name(folder: Folder) -> None:
    """A name that is hardly one."""
    if path := folder.a_word():
        rename(path, os.fsdecode(ODD[folder.random.integers(len(ODD))]))


def copied(folder: Folder) -> None:
    """A second file of a word."""
    if path := folder.a_word():
        ways: list[Callable[[str], str]] = [
            str.upper, str.title, lambda name: f"Copy of {name}", lambda name: f"more/{name}",
            lambda name: unicodedata.normalize("NFD", name), lambda name: name.replace(" ", "_"),
            lambda name: f"{name} ",
        ]  # fmt: skip
        place = path.parent / ways[folder.random.integers(len(ways))](path.name)
        if not os.path.lexists(place):
            place.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, place)


def swapped(folder: Folder) -> None:
    """Two files with the contents of each other."""
    one, two = folder.a_word(), folder.a_file()
    if one and two:
        contents = one.read_bytes(), two.read_bytes()
        two.write_bytes(contents[0])
        one.write_bytes(contents[1])


def joined(folder: Folder) -> None:
    """A file at the end of another."""
    one, two = folder.a_file(), folder.a_file()
    if one and two and one.stat().st_size < 2**20:
        one.write_bytes(one.read_bytes() + two.read_bytes())


def archive_in_archive(folder: Folder) -> None:
    """Archives of archives."""
    if path := folder.a_word():
        name, content = path.name, path.read_bytes()
        for _ in range(folder.random.integers(1, 4)):
            inner = folder.elsewhere / "inner"
            kind = folder.random.integers(3)
            if kind == 0:
                content, name = gzip.compress(content), f"{name}.gz"
            elif kind == 1:
                with zipfile.ZipFile(inner, "w") as packed:
                    packed.writestr(name, content)
                content, name = inner.read_bytes(), f"{name}.zip"
            else:
                (folder.elsewhere / "member").write_bytes(content)
                with tarfile.open(inner, "w") as tar:
                    tar.add(folder.elsewhere / "member", name)
                content, name = inner.read_bytes(), f"{name}.tar"
        path.unlink()
        if len(os.fsencode(name)) < 255:
            (path.parent / name).write_bytes(content)


def odd_archive(folder: Folder) -> None:
    """A .zip with a password, a method that nobody has, a member twice, or none."""
    if path := folder.a_word(*PLAIN):
        place, kind = Path(f"{path}.zip"), folder.random.integers(5)
        with zipfile.ZipFile(place, "w") as packed:
            if kind < 4:
                packed.write(path, path.name)
            if kind == 3:
                packed.writestr(f"sub/{path.name}", path.read_bytes())
        content = bytearray(place.read_bytes())
        central = content.rfind(b"PK\1\2")
        if kind == 0:
            content[central + 8] |= 1
            content[6] |= 1
        elif kind == 1:
            content[central + 10] = content[8] = 97
        elif kind == 2:
            content = content + b"more than an archive"
        place.write_bytes(content)
        path.unlink()


def no_file(folder: Folder) -> None:
    """Something else in place of a file."""
    name = str(folder.random.choice(["bee.csv", "bee.ndjson.gz", "bee.zip", "bee"]))
    path, kind = folder.train / name, folder.random.integers(7)
    if os.path.lexists(path) or not folder.train.is_dir():
        return
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        path.symlink_to(folder.elsewhere / "missing")
    elif kind == 2:
        path.symlink_to(path)
    elif kind == 3:
        os.mkfifo(path)
    elif kind == 4:
        path.symlink_to(folder.train)
    elif kind == 5:
        path.symlink_to("/dev/null")
    else:
        with socket.socket(socket.AF_UNIX) as server, _inside(path.parent):
            server.bind(path.name)


class _inside:  # noqa: N801
    """The working folder for a while; names of sockets are short."""

    def __init__(self, place: Path) -> None:
        self.place, self.before = place, Path.cwd()

    def __enter__(self) -> None:
        os.chdir(self.place)

    def __exit__(self, *_: object) -> None:
        os.chdir(self.before)


def no_test_file(folder: Folder) -> None:
    """A folder, a link to itself or nothing in place of the test file, or a copy of it."""
    if folder.test.is_file():
        kind = folder.random.integers(4)
        if kind < 3:
            folder.test.rename(folder.elsewhere / "test")
        if kind == 0:
            folder.test.mkdir()
            (folder.elsewhere / "test").rename(folder.test / "test_simplified.csv")
        elif kind == 1:
            folder.test.symlink_to("test_simplified.csv")
        elif kind == 3:
            shutil.copyfile(folder.test, folder.train / "test_simplified.csv") if folder.train.is_dir() else None


def deep(folder: Folder) -> None:
    """A folder far down."""
    if (path := folder.a_word()) and folder.random.random() < 0.3:
        place = path.parent / "/".join("d" * folder.random.integers(30, 60))
        place.mkdir(parents=True, exist_ok=True)
        path.rename(place / path.name)


HARMLESS = (
    upper_case, gzipped, zipped, zipped_together, moved, decomposed, blanks, underscored, json_lines, junk,
    empty_folder, linked, linked_folder, windows_lines, byte_order_mark, blank_lines, packed_test,
)  # fmt: skip
OTHERS = (
    truncated, flipped, flipped_archive, other_encoding, old_lines, inserted, emptied, without_a_line, other_name,
    odd_name, copied, swapped, joined, archive_in_archive, odd_archive, no_file, no_test_file, deep,
)  # fmt: skip
LAST = zipped_folder
