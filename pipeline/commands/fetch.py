"""Raw competition files → data/<name>, tracked by DVC: only a pointer is in git.

sketchstack fetch mini --from FOLDER    copy the competition files of a folder
sketchstack fetch google --rows 1000    make a competition of Google's public drawings, without an account
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
from argparse import Namespace
from pathlib import Path, PurePosixPath

from pipeline.foundation.artefacts import alone, whole_folder
from pipeline.foundation.commandline import Parser, count
from pipeline.foundation.disk import check_space
from pipeline.foundation.errors import SketchstackError, one_paragraph_errors
from pipeline.raw import google
from pipeline.raw.folder import NEEDED, SHOWN, all_files, competition_files, left_out
from pipeline.raw.names import listed
from pipeline.submissions import kaggle
from pipeline.submissions.troubles import SETUP, KaggleError

DATA = Path("data")
COMPETITION = "quickdraw-doodle-recognition"
GOOGLE_OPTIONS = ("rows", "test_rows", "words", "seed", "raw", "address", "connections")
SEED, ROWS, CONNECTIONS = 2018, 1000, 4


def copy(folder: Path, place: Path) -> int:
    """Copy the competition's files of a folder, unless the same files are there already. Returns their number.

    What is left out is told. Permissions are not copied: the copy of a read-only folder must be replaceable.

    Raises:
        SketchstackError: `competition_files` refuses the folder, the disk has no room, or DVC could not restore the
            replaced files.
    """
    if not folder.is_dir():
        raise SketchstackError(
            f"{folder} {'is a file' if folder.exists() else 'is not there'}; FROM= (or --from) must name a folder that "
            f"holds {', '.join(NEEDED)}. Unpack an archive first."
        )
    files = competition_files(folder)
    if others := left_out(folder, files):
        print(f"Not copied, because no competition file is called so: {listed(others, SHOWN)}.")
    if place.is_dir() and {path.relative_to(place) for path in all_files(place)} == set(files):
        _, differing, unread = filecmp.cmpfiles(folder, place, [str(file) for file in files], shallow=False)
        if not differing + unread:
            return len(files)
    check_replaceable(place)
    needed = sum((folder / file).stat().st_size for file in files)
    check_space(place, needed, f"the copy of {folder}", "make room, or copy to another disk and link to it")
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


def from_google(place: Path, request: google.Request, connections: int) -> str:
    """Make a competition of Google's drawings, unless it is there already. Returns a sentence about it.

    Raises:
        SketchstackError: there are other files that DVC could not restore, or the bucket cannot be fetched from.
    """
    if google.is_there(place, request):
        return "They are there already, with the same bytes."
    check_replaceable(place)
    with alone(place):
        return google.fetch(place, request, place.with_name(f".{place.name}.download"), connections=connections)


def google_request(given: Namespace) -> google.Request:
    """What the options ask Google for.

    Raises:
        SketchstackError: the words or numbers cannot be.
    """
    rows = given.rows or ROWS
    test_rows = given.test_rows or min(google.MOST_TEST_ROWS, max(1, round(google.TEST_SHARE * rows)))
    if test_rows >= rows:
        raise SketchstackError(
            f"of {rows} drawings a word (--rows), {test_rows} would go to the test set (--test-rows), and none would "
            f"be left for training; take more rows, at least 2, or fewer test rows."
        )
    address = (given.address or google.ADDRESS).rstrip("/")
    words = google.chosen_words(given.words, address)
    seed = SEED if given.seed is None else given.seed
    return google.Request(address, "raw" if given.raw else "simplified", words, rows, test_rows, seed)


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Fetch the raw files of a competition into data/NAME and let DVC track them."""
    parser = Parser(
        "fetch",
        main.__doc__,
        "sketchstack fetch mini --from FOLDER",
        "sketchstack fetch google --rows 1000",
        "sketchstack fetch google --rows 200 --words 'cat,dog,wine glass'",
    )
    parser.add_argument("name", help="folder below data/; `google` and `kaggle` download unless --from is given")
    parser.add_argument("--from", dest="folder", help="copy the competition files of this folder")
    options = parser.add_argument_group("google", "options of `fetch google`; a fetch that was stopped goes on")
    options.add_argument("--rows", type=count, help=f"drawings a word, test set included (default {ROWS})")
    options.add_argument(
        "--test-rows", type=count, help="how many of them go to the test set (default a tenth, <= 300)"
    )
    options.add_argument("--words", help="words between commas, or `all` 345 (default the competition's 340)")
    options.add_argument("--seed", type=count, help=f"of the choice of the test set (default {SEED})")
    options.add_argument("--raw", action="store_true", default=None, help="raw drawings, with the time of each point")
    options.add_argument("--address", help=f"of the bucket or a copy of it (default {google.ADDRESS})")
    options.add_argument("--connections", type=count, help=f"words fetched at a time (default {CONNECTIONS})")
    given = parser.parse_args(arguments)
    place = DATA / given.name
    if not re.fullmatch(r"\w[\w-]*", given.name):
        raise SketchstackError(f"{given.name!r} cannot name a folder of data/; use letters, digits, - and _.")
    unused = [name for name in GOOGLE_OPTIONS if getattr(given, name) is not None]
    if unused and (given.name != "google" or given.folder is not None):
        raise SketchstackError(
            f"--{unused[0].replace('_', '-')} is an option of `sketchstack fetch google` (`make data NAME=google`) "
            f"without --from (FROM=); leave it out."
        )
    files = _fetched(given, place)
    track(place)
    print(f"{place} holds {files} competition files; {place}.dvc points to them and belongs in git.")
    if given.name == "google" and not given.folder:
        print("`make profile NAME=google && make repro` trains on them.")


def _fetched(given: Namespace, place: Path) -> int:
    """Bring the files of a competition to their place. Returns their number."""
    if given.folder is not None:
        if not given.folder.strip():
            raise SketchstackError("--from (FROM=) is empty; it must name the folder to copy.")
        return copy(Path(given.folder).expanduser(), place)
    if given.name == "kaggle":
        return download(place)
    if given.name == "google":
        print(from_google(place, google_request(given), given.connections or CONNECTIONS))
        return len(all_files(place))
    raise SketchstackError(
        f"no source is given for data/{given.name}: `make data NAME={given.name} FROM=FOLDER` copies a folder of "
        f"competition files; `make data NAME=google` makes a competition of Google's drawings, without an account; "
        f"`make data NAME=kaggle` downloads the competition."
    )


if __name__ == "__main__":
    main()
