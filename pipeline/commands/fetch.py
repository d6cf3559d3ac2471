"""Raw competition files → data/<name>, tracked by DVC: a pointer in git, the files never.

sketchstack fetch mini --from FOLDER    copy the competition files of a folder
sketchstack fetch kaggle                download the competition with the Kaggle command line
"""

from __future__ import annotations

import filecmp
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

from pipeline.foundation.artefacts import whole_folder
from pipeline.foundation.commandline import Parser
from pipeline.foundation.errors import SketchstackError, one_paragraph_errors
from pipeline.submissions import kaggle

DATA = Path("data")
COMPETITION = "quickdraw-doodle-recognition"
NEEDED = ("train_simplified", "test_simplified.csv", "sample_submission.csv")
PACKED = ("", ".zip", ".gz")  # how the drawings may lie there; shuffle reads them so
WELCOME = ("test_labels.csv", "ndjson_simplified", "ndjson_raw", "train_raw", "test_raw.csv")


def competition_files(folder: Path) -> list[Path]:
    """The competition's files in a folder, as paths inside it; what else lies there is left alone.

    Raises:
        SketchstackError: a needed file is missing, or train_simplified holds none.
    """
    missing = [name for name in NEEDED if not _there(folder, name)]
    if missing:
        raise SketchstackError(
            f"{folder} is no folder of competition files: it lacks {' and '.join(missing)}. It must hold "
            f"{', '.join(NEEDED)}, as the competition's download does; drawings may be packed as .zip or .gz."
        )
    found = [path for name in (*NEEDED, *WELCOME) for path in _there(folder, name)]
    return [path.relative_to(folder) for path in found]


def _there(folder: Path, name: str) -> list[Path]:
    """The files that a name stands for in a folder: drawings may be packed."""
    endings = ("",) if name == "sample_submission.csv" else PACKED
    return next((files for ending in endings if (files := _files(folder / f"{name}{ending}"))), [])


def _files(path: Path) -> list[Path]:
    """A file, or all files of a folder, without those of the system (.DS_Store)."""
    if path.is_file():
        return [path]
    return sorted(inside for inside in path.rglob("*") if inside.is_file() and not inside.name.startswith("."))


def copy(folder: Path, place: Path) -> int:
    """Copy the competition's files of a folder; nothing is touched if they are there already. Returns their number.

    Permissions are not copied: of a folder that may only be read, the copy must still be replaceable.

    Raises:
        SketchstackError: `competition_files` refuses the folder, or DVC could not bring back what is replaced.
    """
    files = competition_files(folder)
    if place.is_dir() and {path.relative_to(place) for path in _files(place)} == set(files):
        _, differing, unread = filecmp.cmpfiles(folder, place, [str(file) for file in files], shallow=False)
        if not differing + unread:
            return len(files)
    check_replaceable(place)
    with whole_folder(place) as beside:
        for file in files:
            (beside / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / file, beside / file)
    return len(files)


def check_replaceable(place: Path) -> None:
    """Refuse to replace files that DVC does not have.

    Raises:
        SketchstackError: there are some in the folder, or it is a file.
    """
    if place.is_file():
        raise SketchstackError(f"{place} is a file, and would become a folder; move it away, or take another NAME.")
    if not place.is_dir() or not any(place.iterdir()):
        return
    pointer = place.with_name(f"{place.name}.dvc")
    status = [sys.executable, "-m", "dvc", "status", "--quiet", str(pointer)]
    if not pointer.exists() or subprocess.run(status, check=False, capture_output=True).returncode:
        raise SketchstackError(
            f"{place} holds other files, and DVC could not bring them back. Take another NAME, move the folder away, "
            f"or let DVC keep it first: `dvc add {place}`."
        )


def download(place: Path) -> int:
    """Download the competition and unpack what is needed of it. Returns the number of files.

    Raises:
        SketchstackError: there are no credentials, or the download fails, or it lacks a file.
    """
    archives = place.with_name(f".{place.name}.download")  # kept after a failure: the download then goes on
    command = kaggle.download_command(COMPETITION, archives)
    if kaggle.credentials() is None:
        raise SketchstackError(f"`{shlex.join(command)}` needs Kaggle credentials, and there are none. {kaggle.SETUP}")
    check_replaceable(place)
    archives.mkdir(parents=True, exist_ok=True)
    print(f"{shlex.join(command)}  (about 76 GB with the raw drawings; what is not needed is not unpacked)", flush=True)
    kaggle.call(command, show=True)
    with whole_folder(place) as beside:
        unpack(archives / f"{COMPETITION}.zip", beside)
        files = competition_files(beside)
    shutil.rmtree(archives)
    return len(files)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the needed files of a competition's archive; its folders may be archives themselves.

    Raises:
        SketchstackError: the archive is missing or broken.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            for member in packed.namelist():
                parts = PurePosixPath(member).parts
                if parts and parts[0].removesuffix(".zip") in NEEDED:
                    packed.extract(member, folder)
    except (OSError, zipfile.BadZipFile) as error:
        raise SketchstackError(f"{archive} cannot be unpacked ({error}); remove it and download again.") from None
    for inner in sorted(folder.glob("*.zip")):
        name = inner.name.removesuffix(".zip")
        with zipfile.ZipFile(inner) as packed:
            packed.extractall(folder if name.endswith(".csv") else folder / name)
        inner.unlink()


def track(place: Path) -> None:
    """Let DVC track a folder of raw files: writes <folder>.dvc, the pointer that is committed.

    Raises:
        SketchstackError: DVC refuses.
    """
    run = subprocess.run(
        [sys.executable, "-m", "dvc", "add", "--quiet", str(place)], check=False, capture_output=True, text=True
    )
    if run.returncode:
        said = " ".join((run.stdout + run.stderr).split())
        raise SketchstackError(f"`dvc add {place}` failed: {said} Run it by hand after mending that.")


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Fetch the raw files of a competition into data/NAME and let DVC track them."""
    parser = Parser("fetch", main.__doc__, "sketchstack fetch mini --from FOLDER")
    parser.add_argument("name", help="folder below data/; `kaggle` downloads unless --from is given")
    parser.add_argument("--from", dest="folder", type=Path, help="copy the competition files of this folder")
    given = parser.parse_args(arguments)
    place = DATA / given.name
    if not re.fullmatch(r"\w[\w-]*", given.name):
        raise SketchstackError(f"{given.name!r} cannot name a folder of data/; use letters, digits, - and _.")
    if given.folder is None and given.name != "kaggle":
        raise SketchstackError(
            f"where from? `make data NAME={given.name} FROM=FOLDER` copies a folder of competition files; "
            f"`make data NAME=kaggle` downloads the competition."
        )
    files = copy(given.folder, place) if given.folder else download(place)
    track(place)
    print(f"{place} holds {files} competition files; {place}.dvc points to them and belongs in git.")


if __name__ == "__main__":
    main()
