"""The raw files of a competition: each file below the raw folder is read, ignored by its name, or refused.

A sub-folder is no word: its files are listed like those beside it. So are the files of a .zip. Nothing is unpacked to
disk, so names of members with `..` or a leading slash do no harm.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pipeline.drawings.words import Words, spell
from pipeline.foundation.errors import REMEDIES, SketchstackError
from pipeline.foundation.params import Params
from pipeline.raw.files import RawFile
from pipeline.raw.names import listed, word_of_name
from pipeline.raw.packing import BROKEN_ZIP, PACKED

ENDINGS = ".ndjson, .jsonl, .parquet, .bin or .npz, also packed as .gz, .bz2, .xz, .zst or .zip"
NAMED = 20  # most names that a message lists
DEEPEST = 40  # folders below each other
UTF8 = 0x800  # flag of a .zip's member: its name is UTF-8
ENCRYPTED = 0x1
UNPACKED = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
BROKEN = (*BROKEN_ZIP, OSError)  # the last for offsets before the start of a file
# What systems and tools leave in folders: no drawings.
HARMLESS = re.compile(
    r"\._.*|\.DS_Store|__MACOSX|Icon\r|\.Spotlight-V100|\.Trashes|\.fseventsd|\.TemporaryItems|\.apdisk"
    r"|(eh)?thumbs\.db|desktop\.ini|@eaDir|\.directory|\.nfs.*|\.~lock\..*#|~\$.*"
    r"|\.git|\.gitignore|\.gitkeep|\.gitattributes|\.keep|\.dvc|\.dvcignore|.*\.dvc|\.ipynb_checkpoints|__pycache__"
    r"|(read[-_ ]?me|licen[cs]e|copying|notice|changelog|attribution|citation|checksums?|(md5|sha\d+)sums?)"
    r"(\.(txt|md|rst|html?|pdf|cff))?|.*\.(md5|sha1|sha256|sha512)",
    re.IGNORECASE,
)
STARTS = {  # the first bytes of files, with what they show
    b"\x1f\x8b": "gzip (.gz)",
    b"PK\x03\x04": "a ZIP archive (.zip)",
    b"PK\x05\x06": "a ZIP archive (.zip)",
    b"BZh": "bzip2 (.bz2)",
    b"\xfd7zXZ\0": "xz (.xz)",
    b"\x28\xb5\x2f\xfd": "Zstandard (.zst)",
    b"PAR1": "Parquet (.parquet)",
    b"\x93NUMPY": "a NumPy array (.npy)",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"%PDF": "a PDF document",
}
TEXTS = {  # of files that should be text
    b"\xff\xfe": "text in UTF-16 or UTF-32",
    b"\xfe\xff": "text in UTF-16",
    b"\0\0\xfe\xff": "text in UTF-32",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"version https://git-lfs": "a pointer of Git LFS, not the file (run `git lfs pull`)",
}
BY_SUFFIX = {  # what a file with such a name must start like
    ".gz": "gzip (.gz)", ".zip": "a ZIP archive (.zip)", ".npz": "a ZIP archive (.zip)", ".bz2": "bzip2 (.bz2)",
    ".xz": "xz (.xz)", ".zst": "Zstandard (.zst)", ".parquet": "Parquet (.parquet)", ".npy": "a NumPy array (.npy)",
}  # fmt: skip
BINARY = {".bin", *BY_SUFFIX}
TRUE_ENDING = "give it the ending that is true, or bring back the right file"
START = 32  # bytes that show what a file is
KINDS = {
    stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip


class Refusal(NamedTuple):
    """A file below the raw folder that cannot be read, and is not known to be harmless."""

    name: str
    reason: str
    remedy: str


class Found(NamedTuple):
    """All files below a place.

    Attributes:
        files: of drawings, with number 0.
        ignored: names of the harmless files and empty folders.
        refused: all other files.
        folders: the folders, by their real path, so that none is listed twice.
    """

    files: list[RawFile]
    ignored: list[str]
    refused: list[Refusal]
    folders: dict[Path, Path]


class Listing(NamedTuple):
    """The training files.

    Attributes:
        place: their folder or .zip.
        files: by word.
        ignored: names of the files below the place that hold no drawings.
    """

    place: Path
    files: dict[str, RawFile]
    ignored: list[str]


def training_files(params: Params) -> tuple[Words, list[RawFile]]:
    """The words and their files.

    Raises:
        SketchstackError: see `list_training` and `chosen_files`.
    """
    return chosen_files(params, list_training(params))


def list_training(params: Params) -> Listing:
    """List the training files.

    Raises:
        SketchstackError: the folder is missing or empty, a file is neither read nor harmless, or two files are of one
            word.
    """
    folder = Path(params.data.folder, params.data.train)
    packed = folder.with_name(f"{folder.name}.zip")
    if not os.path.lexists(folder) and not os.path.lexists(packed):
        raise SketchstackError(
            f"the folder {folder} is missing, and there is no {packed.name}; fetch it with `make data "
            f"NAME={params.profile}`, or put your own files there, or name another folder in params.yaml under data."
        )
    place = folder if os.path.lexists(folder) else packed
    if place == folder and stat.S_ISREG(_mode(folder)):
        raise SketchstackError(
            f"{folder} is a file, but data.train in params.yaml must name a folder with one file of drawings per word; "
            f"make such a folder, or name the file {packed.name} if it is a ZIP archive."
        )
    found = list_files(place)
    check_refused(place, found.refused)
    files = _by_word(place, found.files)
    if not files:
        raise SketchstackError(
            f"{place} holds no file of drawings (<word>.csv, {ENDINGS}){_told_ignored(found.ignored)}; "
            f"fetch them with `make data NAME={params.profile}`, or put your own there, or name another folder in "
            "params.yaml under data."
        )
    return Listing(place, files, found.ignored)


def chosen_files(params: Params, listing: Listing) -> tuple[Words, list[RawFile]]:
    """The words that `shuffle.words` names, and their files.

    Raises:
        SketchstackError: `shuffle.words` names a word that has no file, or there are fewer than two words.
    """
    place, files, _ = listing
    wanted = set(files) if params.shuffle.words == "all" else {spell(word) for word in params.shuffle.words}
    for word in sorted(wanted - set(files)):
        near = ", ".join(difflib.get_close_matches(word, files, 3)) or "none"
        raise SketchstackError(f"params.yaml, shuffle.words: {place} has no word {word!r}; similar: {near}.")
    words = Words.from_names(wanted)
    if len(words) < 2:
        raise SketchstackError(
            f"{place} with shuffle.words has {len(words)} words, but a competition needs at least two; "
            "name more in params.yaml, or put the files of more words there."
        )
    return words, [files[word]._replace(number=number) for number, word in enumerate(words.names)]


def test_file(params: Params, number: int) -> RawFile:
    """The file of test drawings.

    Raises:
        SketchstackError: it is missing, or cannot be read.
    """
    place = _test_place(params)
    if place is None:
        path = Path(params.data.folder, params.data.test)
        raise SketchstackError(
            f"the test file {path} is missing; fetch it with `make data NAME={params.profile}`, or put your own there, "
            "or name another in params.yaml under data.test."
        )
    found = list_files(place)
    check_refused(place, found.refused)
    if len(found.files) != 1:
        names = ": " + listed([str(file) for file in found.files], NAMED) if found.files else ""
        raise SketchstackError(
            f"{place} holds {len(found.files)} files of drawings instead of one{names}; leave one there, or "
            "name the file itself in params.yaml under data.test."
        )
    return found.files[0]._replace(number=number, word=None)


def not_read(params: Params, listing: Listing) -> list[str]:
    """Names of the files and folders below the raw folder that the shuffle does not read, relative to it."""
    folder, test = Path(params.data.folder), _test_place(params)
    used = {listing.place.name, test.name if test else "", params.data.labels or ""}
    beside = (entry for entry in folder.iterdir() if entry.name not in used)
    others = [entry.name for entry in beside if not entry.name.startswith(params.data.sample_submission)]
    return sorted([*others, *(os.path.relpath(name, folder) for name in listing.ignored)])


def told_not_read(params: Params, listing: Listing) -> str:
    """One line that names what is not read; empty if everything is."""
    names = [safe_name(name) for name in not_read(params, listing)]
    return f"Not read in {params.data.folder}: {listed(names, NAMED)}" if names else ""


def list_files(place: Path) -> Found:
    """List the files below a place: a folder, a .zip or one file."""
    found = Found([], [], [], {})
    _add(found, place, DEEPEST)
    return found


def _test_place(params: Params) -> Path | None:
    path = Path(params.data.folder, params.data.test)
    places = (path, *(path.with_name(path.name + suffix) for suffix in PACKED))
    return next((place for place in places if os.path.lexists(place)), None)


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _add(found: Found, path: Path, deepest: int) -> None:
    """Add what stands at a path: a file, or the files of a folder."""
    if _is_harmless(path):
        found.ignored.append(str(path))
    elif not _is_text(path.name):
        found.refused.append(_unreadable_name(str(path)))
    else:
        try:
            mode = path.stat().st_mode
            if stat.S_ISDIR(mode):
                _add_folder(found, path, deepest)
            elif stat.S_ISREG(mode):
                _add_file(found, path)
            else:
                kind = KINDS.get(stat.S_IFMT(mode), "no ordinary file")
                found.refused.append(Refusal(str(path), f"it is {kind}, not a file", "move it away"))
        except OSError as error:
            found.refused.append(_refused_by_the_system(path, error))


def _is_harmless(path: Path) -> bool:
    """Whether a file or folder is known to hold no drawings; a file that DVC tracks must stand beside its .dvc."""
    if not HARMLESS.fullmatch(path.name) or word_of_name(path.name):
        return False
    tracked = path.with_suffix("")
    return not (path.suffix == ".dvc" and _is_drawings(tracked.name) and not os.path.lexists(tracked))


def _is_drawings(name: str) -> bool:
    return bool(word_of_name(name)) or _suffix(name) == ".zip"


def _is_text(name: str) -> bool:
    """Whether a name has neither control characters nor bytes that are not UTF-8."""
    return not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)


def safe_name(name: str) -> str:
    """A name whose control characters and bytes that are not UTF-8 are escaped."""
    return name if _is_text(name) else ascii(name)


def _unreadable_name(name: str) -> Refusal:
    reason = "its name has control characters, or bytes that are not UTF-8"
    return Refusal(ascii(name), reason, "rename it")


def _refused_by_the_system(path: Path, error: OSError) -> Refusal:
    if path.is_symlink() and isinstance(error, FileNotFoundError):
        reason = f"it is a link to {safe_name(str(path.readlink()))}, which is missing"
        return Refusal(str(path), reason, "bring that back, or remove the link")
    remedy = REMEDIES.get(error.errno or 0, "see that it can be read")
    return Refusal(str(path), f"the system says {error.strerror or error}", remedy)


def _add_folder(found: Found, folder: Path, deepest: int) -> None:
    twin = found.folders.setdefault(folder.resolve(), folder)
    if twin is not folder:
        found.refused.append(
            Refusal(str(folder), f"it is a link to a folder that is listed as {twin}", "remove the link")
        )
    elif not deepest:
        found.refused.append(Refusal(str(folder), f"it lies more than {DEEPEST} folders deep", "move it up"))
    else:
        before = len(found.files) + len(found.refused)
        for path in sorted(folder.iterdir()):
            _add(found, path, deepest - 1)
        if len(found.files) + len(found.refused) == before and _is_drawings(folder.name):
            found.refused.append(
                Refusal(str(folder), "it is a folder without drawings, with the name of a file", "put the file there")
            )
        elif not any(folder.iterdir()):
            found.ignored.append(f"{folder}/")


def _add_file(found: Found, path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(START)
    if (refusal := _refusal(str(path), path.name, start)) is not None:
        found.refused.append(refusal)
    elif _suffix(path.name) == ".zip":
        _add_members(found, path)
    else:
        found.files.append(RawFile(path, 0, spell(str(word_of_name(path.name)))))


def _suffix(name: str) -> str:
    return Path(name.strip()).suffix.lower()


def _refusal(place: str, name: str, start: bytes) -> Refusal | None:
    """Why a file of this name that starts with these bytes is not read; None if it is."""
    if not _is_drawings(name):
        return Refusal(place, *_unknown_name(name))
    if not start:
        return Refusal(place, "it is empty", "bring the file back, or remove it if its word has no drawings")
    wanted = BY_SUFFIX.get(_suffix(name))
    is_like = next((what for first, what in STARTS.items() if start.startswith(first)), None)
    if _suffix(name) not in BINARY and is_like is None:
        plain = start.lstrip().lower()
        is_like = next((what for first, what in TEXTS.items() if plain.startswith(first)), None)
    if is_like == wanted or (is_like is None and _suffix(name) == ".zip") or _suffix(name) == ".bin":
        return None  # bytes before a .zip are allowed
    if is_like is None:
        return Refusal(
            place, f"its name says {wanted}, but it does not start like it", "give it the ending that is true"
        )
    remedy = "save it as UTF-8" if "UTF-" in is_like else TRUE_ENDING
    return Refusal(place, f"it is {is_like}, but its name says {wanted or 'text'}", remedy)


def _unknown_name(name: str) -> tuple[str, str]:
    if name.startswith("."):
        return "it is a hidden file that is not known to be harmless", "rename it without the dot, or move it away"
    if name.endswith(".dvc"):
        return f"the file {name.removesuffix('.dvc')} that it stands for is missing", "run `dvc pull` to bring it back"
    return (
        "its name does not end like that of a file of drawings",
        f"save it as <word>.csv, {ENDINGS}, or move it out of this folder",
    )


def _add_members(found: Found, path: Path) -> None:
    """Add the files of a .zip."""
    before = len(found.files) + len(found.refused)
    try:
        with zipfile.ZipFile(path) as packed:
            members = [info for info in packed.infolist() if not info.is_dir()]
            repeated = Counter(info.filename for info in members)
            for info in sorted(members, key=lambda info: info.filename):
                if repeated[info.filename] > 1:
                    found.refused.append(_repeated(path, info))
                else:
                    _add_member(found, path, packed, info)
    except BROKEN as error:
        found.refused.append(_broken(str(path), error))
    if len(found.files) + len(found.refused) == before:
        found.refused.append(
            Refusal(str(path), "it is an archive without files of drawings", "put drawings there, or remove it")
        )


def _repeated(path: Path, info: zipfile.ZipInfo) -> Refusal:
    return Refusal(f"{path}/{safe_name(info.filename)}", "the archive has several files of this name", "pack it again")


def _broken(place: str, error: Exception) -> Refusal:
    return Refusal(
        place,
        f"it is damaged and cannot be unpacked ({safe_name(str(error)) or type(error).__name__})",
        "copy or download it again, pack it again, or remove it",
    )


def _add_member(found: Found, path: Path, packed: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    parts = re.split(r"[\\/]", _member_name(info))
    place, name = f"{path}/{safe_name(_member_name(info))}", parts[-1]
    if not name:  # a folder, by a tool that writes back slashes
        return
    if any(HARMLESS.fullmatch(part) and not word_of_name(part) for part in parts):
        found.ignored.append(place)
    elif not _is_text(name):
        found.refused.append(_unreadable_name(place))
    elif info.flag_bits & ENCRYPTED:
        found.refused.append(Refusal(place, "it is protected by a password", "unpack the archive, and remove it"))
    elif info.compress_type not in UNPACKED:
        reason = f"its compression (method {info.compress_type}) is not supported"
        found.refused.append(Refusal(place, reason, "unpack the archive, and remove it"))
    elif _suffix(name) == ".zip":
        found.refused.append(Refusal(place, "it is an archive in an archive", "unpack the outer one, and remove it"))
    else:
        try:
            with packed.open(info) as member:
                start = member.read(START)
        except BROKEN as error:
            found.refused.append(_broken(place, error))
            return
        if (refusal := _refusal(place, name, start)) is not None:
            found.refused.append(refusal)
        else:
            found.files.append(RawFile(path, 0, spell(str(word_of_name(name))), info.filename))


def _member_name(info: zipfile.ZipInfo) -> str:
    """The name of a member; macOS writes UTF-8 without the flag for it, which zipfile takes for cp437."""
    if info.flag_bits & UTF8 or info.filename.isascii():
        return info.filename
    try:
        return info.filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return info.filename


def _by_word(place: Path, files: Iterable[RawFile]) -> dict[str, RawFile]:
    """The files by word; `A` and `a` are two words, as someone may draw letters."""
    found: dict[str, RawFile] = {}
    for file in files:
        twin = found.setdefault(str(file.word), file)
        if twin != file:
            names = [os.path.relpath(str(each), place) if place.is_dir() else str(each) for each in (twin, file)]
            raise SketchstackError(f"{place} has {' and '.join(names)}, two files of one word; remove one of them.")
    return found


def check_refused(place: Path, refused: list[Refusal]) -> None:
    """Stop if files are refused: the first with its reason and remedy, the others by name."""
    if not refused:
        return
    first = refused[0]
    more = [f"{each.name} ({each.reason})" for each in refused[1:]]
    others = f" {len(more)} more: {listed(more, NAMED)}." if more else ""
    raise SketchstackError(f"{first.name} cannot be read: {first.reason}; {first.remedy}.{others}")


def _told_ignored(ignored: list[str]) -> str:
    return f" (only {listed([safe_name(name) for name in ignored], NAMED)})" if ignored else ""
