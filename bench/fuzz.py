"""The shuffle of damaged, renamed and packed raw folders: no traceback, no row lost, no file left out without a word.

    python -m bench.fuzz --minutes 20 --seed 1
    python -m bench.fuzz --seed 1 --case 1234      one case again

A case is a small raw folder to which some of `mishaps` happen. Then the shuffle must end with a SketchstackError that
names a file, or read every file that it does not say it left out, each of its lines being a row of a shard or a reject.
"""

from __future__ import annotations

import argparse
import bz2
import contextlib
import csv
import gzip
import io
import json
import lzma
import os
import shutil
import sys
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import yaml

from bench import mishaps
from bench.tables import RESULTS, ROOT, commit, hardware, machine, markdown_table
from pipeline.drawings.shards import TEST, open_shards
from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.errors import SketchstackError, one_paragraph_errors
from pipeline.foundation.params import Params, load_params
from pipeline.foundation.places import places
from pipeline.raw.columns import written_ids
from pipeline.raw.files import RawFile
from pipeline.raw.listing import list_training, test_file
from pipeline.stages.shuffle import shuffle

IN_MEMORY = Path("/dev/shm")  # a disk would be waited for after each file
MOST = 4  # mishaps of a case
HARMLESS_ONLY = 0.35  # share of the cases
LONGEST_ERROR = 6000  # characters: a paragraph that names at most some twenty files


@dataclass
class Case:
    """What became of one raw folder.

    Attributes:
        number: of the case.
        mishaps: names, in order.
        accepted: whether the shuffle took the folder.
        error: the SketchstackError, if any.
        faults: what must not happen.
        rows: rows in shards and rejects.
    """

    number: int
    mishaps: list[str] = field(default_factory=list)
    accepted: bool = False
    error: str = ""
    faults: list[str] = field(default_factory=list)
    rows: int = 0


def params_of(folder: Path) -> Params:
    """Params of a small competition in data/own of a folder."""
    raw = load_params(ROOT / "profiles" / "synthetic.yaml").model_dump()
    raw["threads"], raw["profile"] = 1, "own"
    raw["data"] |= {"folder": "data/own", "labels": None}
    raw["shuffle"] |= {"words": "all", "shards": 1, "max_rejected": 1.0}
    (folder / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    return Params.model_validate(raw)


def try_case(seed: int, number: int, home: Path) -> Case:
    """Make a raw folder, let things happen to it, shuffle it, and see what became of it."""
    random, case = np.random.default_rng([seed, number]), Case(number)
    folder, params = mishaps.Folder(home, random), params_of(home)
    harmless = bool(random.random() < HARMLESS_ONLY)
    others = () if harmless else mishaps.OTHERS
    drawn = random.integers(len(mishaps.HARMLESS) + 2 * len(others), size=random.integers(not harmless, MOST + 1))
    happen = [[*mishaps.HARMLESS, *others, *others][number] for number in drawn]
    happen += [mishaps.LAST] if random.random() < 0.1 else []
    case.mishaps = [each.__name__ for each in happen]
    try:
        for each in happen:
            each(folder)
    except Exception:
        case.faults.append(f"the case could not be made: {traceback.format_exc(limit=-2)}")
        return case
    harmless = _is_harmless(case)
    with contextlib.chdir(home), contextlib.redirect_stdout(io.StringIO()) as told:
        try:
            shuffle(params)
            case.accepted = True
        except SketchstackError as error:
            case.error = str(error)
        except Exception:
            case.faults.append(f"traceback: {traceback.format_exc(limit=-4)}")
            return case
        faults = _faults_of_success(folder, params, told.getvalue(), case) if case.accepted else _faults_of(case.error)
        case.faults += faults
    if harmless and not case.accepted:
        case.faults.append(f"a right folder is refused: {case.error}")
    if harmless and case.accepted and case.rows != len(folder.key_ids):
        case.faults.append(f"{case.rows} rows of {len(folder.key_ids)} of a right folder are accounted for")
    return case


def _is_harmless(case: Case) -> bool:
    return set(case.mishaps) <= {each.__name__ for each in (*mishaps.HARMLESS, mishaps.LAST)}


def _faults_of(error: str) -> Iterator[str]:
    try:
        error.encode()
    except UnicodeError:
        yield f"an error cannot be printed: {error!r}"
    if "data/own" not in error:
        yield f"an error names no file: {error}"
    if any(letter in error for letter in "\n\r\0\x1b") or len(error) > LONGEST_ERROR:
        yield f"an error is no paragraph: {error!r}"
    if "fetch it again" in error.lower():
        yield f"an error tells to fetch a file of one's own: {error}"


def _faults_of_success(folder: mishaps.Folder, params: Params, told: str, case: Case) -> Iterator[str]:
    listing = list_training(params)
    files = [*listing.files.values(), test_file(params, 0)]
    read = {str(file) for file in files}
    for name in _names_below(listing.place):
        if name not in read and not _is_told(Path(os.path.relpath(name, params.data.folder)), told):
            yield f"{name!r} is neither read nor named"
    folds = places().folds
    summary = json.loads((folds / "summary.json").read_text(encoding="utf-8"))
    with (folds / "rejects.csv").open(newline="", encoding="utf-8") as file:
        rejects = list(csv.DictReader(file))
    shards = [open_shards([folds / name]) for name in (TEST, *(f"fold{fold}" for fold in params.folds))]
    kept = [key_id for each in shards for key_id in written_ids(each.key_id).tolist()]
    case.rows = len(kept) + len(rejects)
    lines = sum(map(_lines, files))
    if not summary["rows_in"] == case.rows == lines:
        yield f"{lines} lines in the files, {summary['rows_in']} rows in by the summary, {case.rows} accounted for"
    if len(set(kept)) != len(kept):
        yield "a key_id is kept twice"
    if _is_harmless(case) and set(kept) != folder.key_ids:
        yield f"{len(rejects)} rows of a right folder are rejected: {rejects[:1]}"


def _is_told(path: Path, told: str) -> bool:
    """Whether the line of what is not read names a file or a folder that it is in, or has no room for more names."""
    line = told.partition("Not read")[2].partition("\n")[0]
    return " more" in line or any(str(each) in line for each in (path, *path.parents[:-2]))


def _names_below(place: Path) -> Iterator[str]:
    """All files below a place, also those in a .zip; links to folders are followed."""
    paths = [place]
    if place.is_dir():
        paths = [Path(at, name) for at, _, names in os.walk(place, followlinks=True) for name in names]
    for path in paths:
        if path.is_file() and zipfile.is_zipfile(path) and path.suffix.strip().lower() == ".zip":
            with zipfile.ZipFile(path) as packed:
                yield from (f"{path}/{name}" for name in packed.namelist() if not name.endswith(("/", "\\")))
        else:
            yield str(path)


def _lines(file: RawFile) -> int:
    """The rows of a raw file, counted without the project's reader: lines that are not blank, less a CSV's header."""
    path, member = file.path, file.member
    if member:
        with zipfile.ZipFile(path) as packed:
            content = packed.read(member)
    else:
        content = path.read_bytes()
    name = Path(member or path).name.strip().lower()
    for suffix, unpacked in ((".gz", gzip.decompress), (".bz2", bz2.decompress), (".xz", lzma.decompress)):
        if name.endswith(suffix):
            content, name = unpacked(content), name.removesuffix(suffix)
    return sum(1 for line in content.split(b"\n") if line.strip()) - name.endswith(".csv")


def fuzz(seed: int, cases: range, seconds: float = float("inf")) -> list[Case]:
    """Try cases until the time is over."""
    found: list[Case] = []
    end = time.monotonic() + seconds
    with TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as scratch:
        for number in cases:
            if time.monotonic() > end:
                break
            home = Path(scratch, str(number))
            home.mkdir()
            found.append(try_case(seed, number, home))
            shutil.rmtree(home, ignore_errors=True)
            for fault in found[-1].faults:
                print(f"Case {number} ({', '.join(found[-1].mishaps)}): {fault}", flush=True)
    return found


def record(cases: list[Case], seed: int, minutes: float, code: str | None, folder: Path = RESULTS) -> Path:
    """Write counts and findings to fuzz.json, and a table of the mishaps to fuzz.md."""
    faulty = [case for case in cases if case.faults]
    accepted = [case for case in cases if case.accepted]
    about = {
        "benchmark": "fuzz",
        "command": f"python -m bench.fuzz --minutes {minutes:g} --seed {seed}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": code,
        "machine": machine(),
        "cases": len(cases),
        "accepted": len(accepted),
        "refused": sum(bool(case.error) for case in cases),
        "rows": sum(case.rows for case in accepted),
        "findings": [asdict(case) for case in faulty],
        "mishaps": {name: dict(counts) for name, counts in _by_mishap(cases).items()},
    }
    with whole_file(folder / "fuzz.json") as file:
        file.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    table = markdown_table(
        ("what happened", "cases", "accepted", "refused", "findings"),
        [(name.replace("_", " "), *(f"{counts[of]:,}" for of in ("cases", "accepted", "refused", "findings")))
         for name, counts in sorted(_by_mishap(cases).items())],
    )  # fmt: skip
    lines = [
        "# What raw folders survive", "",
        f"`{about['command']}`, commit {about['commit']}. {hardware()}.", "",
        f"{len(cases):,} raw folders, {len(accepted):,} accepted with {about['rows']:,} rows, {about['refused']:,} "
        f"refused with a reason; {len(faulty)} findings. A folder counts in each line that is true of it.", "",
        table,
        *(f"\nCase {case.number} ({', '.join(case.mishaps)}): {case.faults[0][:300]}" for case in faulty[:20]),
    ]  # fmt: skip
    with whole_file(folder / "fuzz.md") as file:
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "fuzz.md"


def _by_mishap(cases: list[Case]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for case in cases:
        for name in {*case.mishaps} or {"nothing"}:
            counts = found.setdefault(name, Counter())
            counts.update(["cases", "accepted" if case.accepted else "refused", *(["findings"] if case.faults else [])])
    return found


@one_paragraph_errors
def main() -> None:
    """Shuffle raw folders to which things happened; a run of twenty minutes is recorded."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="to go on (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="draws folders and what happens to them (%(default)s)")
    parser.add_argument("--case", type=int, help="only this case, with what became of it")
    asked = parser.parse_args()
    if asked.case is not None:
        print(fuzz(asked.seed, range(asked.case, asked.case + 1)))
        return
    code = commit()  # before the run, as the files may change during it
    cases = fuzz(asked.seed, range(sys.maxsize), 60 * asked.minutes)
    faulty = sum(bool(case.faults) for case in cases)
    print(f"{len(cases):,} cases, {faulty} with findings.")
    if asked.minutes >= 20:
        print(f"Recorded in {os.path.relpath(record(cases, asked.seed, asked.minutes, code))}.")
    if faulty:
        raise SketchstackError(f"{faulty} of {len(cases)} cases have findings; `--case N` shows one.")


if __name__ == "__main__":
    main()
