"""Raw competition files → data/<name>, tracked by DVC: only a pointer is in git.

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
from pipeline.raw.packing import PACKED
from pipeline.submissions import kaggle
from pipeline.submissions.troubles import SETUP, KaggleError

DATA = Path("data")
COMPETITION = "quickdraw-doodle-recognition"
NEEDED = ("train_simplified", "test_simplified.csv", "sample_submission.csv")
ENDINGS = ("", *PACKED)  # of a file that may be packed
WELCOME = ("test_labels.csv", "ndjson_simplified", "ndjson_raw", "train_raw", "test_raw.csv")


def competition_files(folder: Path) -> list[Path]:
    """The competition's files in a folder, as paths inside it; other files there are ignored.

    Raises:
        SketchstackError: a needed file is missing, or train_simplified/ is empty.
    """
    missing = [name for name in NEEDED if not _there(folder, name)]
    if missing:
        raise SketchstackError(
            f"{folder} does not hold the competition files: {' and '.join(missing)} is missing. It must hold "
            f"{', '.join(NEEDED)}, as the competition's download does; each may be compressed ({', '.join(PACKED)})."
        )
    found = [path for name in (*NEEDED, *WELCOME) for path in _there(folder, name)]
    return [path.relative_to(folder) for path in found]


def _there(folder: Path, name: str) -> list[Path]:
    """The files of a needed name in a folder, which may be compressed."""
    return next((files for ending in ENDINGS if (files := _files(folder / f"{name}{ending}"))), [])


def _files(path: Path) -> list[Path]:
    """A file, or all files of a folder, without files of the operating system (.DS_Store)."""
    if path.is_file():
        return [path]
    return sorted(inside for inside in path.rglob("*") if inside.is_file() and not inside.name.startswith("."))


def copy(folder: Path, place: Path) -> int:
    """Copy the competition's files of a folder, unless the same files are there already. Returns their number.

    Permissions are not copied: the copy of a read-only folder must be replaceable.

    Raises:
        SketchstackError: `competition_files` refuses the folder, or DVC could not restore the replaced files.
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
        SketchstackError: the folder holds such files, or is a file.
    """
    if place.is_file():
        raise SketchstackError(f"{place} is a file, and would become a folder; move it away, or take another NAME.")
    if not place.is_dir() or not any(place.iterdir()):
        return
    pointer = place.with_name(f"{place.name}.dvc")
    status = [sys.executable, "-m", "dvc", "status", "--quiet", str(pointer)]
    if not pointer.exists() or subprocess.run(status, check=False, capture_output=True).returncode:
        raise SketchstackError(
            f"{place} holds other files, which DVC could not restore. Choose another NAME, move the folder away, or "
            f"add it to DVC first: `dvc add {place}`."
        )


def download(place: Path) -> int:
    """Download the competition and unpack the needed files. Returns their number.

    Raises:
        SketchstackError: there are no credentials, the download fails, or a file is missing in it.
    """
    archives = place.with_name(f".{place.name}.download")  # kept after a failure: the next download resumes
    command = kaggle.download_command(COMPETITION, archives)
    if kaggle.credentials() is None:
        raise SketchstackError(f"`{shlex.join(command)}` needs Kaggle credentials, and there are none. {SETUP}")
    check_replaceable(place)
    archives.mkdir(parents=True, exist_ok=True)
    print(f"{shlex.join(command)}  (about 76 GB with the raw drawings; only needed files are unpacked)", flush=True)
    answer, archive = kaggle.call(command, kaggle.DOWNLOAD_SECONDS, show=True), archives / f"{COMPETITION}.zip"
    if not archive.exists():  # some errors end with exit code 0
        raise KaggleError(f"`{shlex.join(command)}` has left no {archive}", answer.text)
    with whole_folder(place) as beside:
        unpack(archive, beside)
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
        for inner in sorted(folder.glob("*.zip")):
            name = inner.name.removesuffix(".zip")
            with zipfile.ZipFile(inner) as packed:
                packed.extractall(folder if name.endswith(".csv") else folder / name)
            inner.unlink()
    except (OSError, zipfile.BadZipFile) as error:
        raise SketchstackError(f"{archive} cannot be unpacked ({error}); remove it and download again.") from None


def track(place: Path) -> None:
    """Let DVC track a folder of raw files: writes the pointer <folder>.dvc, which belongs in git.

    Raises:
        SketchstackError: `dvc add` fails.
    """
    run = subprocess.run(
        [sys.executable, "-m", "dvc", "add", "--quiet", str(place)], check=False, capture_output=True, text=True
    )
    if run.returncode:
        said = " ".join((run.stdout + run.stderr).split())
        raise SketchstackError(f"`dvc add {place}` failed: {said} Fix that and run it by hand.")


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
            f"no source is given for data/{given.name}: `make data NAME={given.name} FROM=FOLDER` copies a folder of "
            f"competition files; `make data NAME=kaggle` downloads the competition."
        )
    files = copy(given.folder, place) if given.folder else download(place)
    track(place)
    print(f"{place} holds {files} competition files; {place}.dvc points to them and belongs in git.")


if __name__ == "__main__":
    main()
