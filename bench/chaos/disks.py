"""A disk that fills at some place of a stage: one paragraph, the old artefact whole, and the same bytes with room.

Half of the tries let no file grow beyond a size (EFBIG), half run on a small file system of their own (ENOSPC), where
this machine lets one be mounted.
"""

from __future__ import annotations

import functools
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.chaos.home import Done, bytes_of, command, copied, differing, python, unclean
from bench.chaos.tries import Plan, ends_well_or_in_words

STAGES = {  # the command → the folder that it writes
    ("pipeline.stages.shuffle",): "folds/synthetic",
    ("pipeline.stages.train", "lstm", "0"): "models/synthetic/base/lstm/fold0",
    ("pipeline.stages.train", "binarynet", "1"): "models/synthetic/base/binarynet/fold1",
    ("pipeline.stages.stack",): "models/synthetic/meta",
    ("pipeline.stages.submit",): "submissions/synthetic",
    ("pipeline.stages.report",): "reports/synthetic/report.html",
    ("pipeline", "submit", "super_learner", "--labels"): "ledger.csv",
    ("pipeline", "export", "memmaps", "exported"): "exported",
}
TOLD = ("space", "disk", "full", "grow", "File too large", "limit")  # one of these stands in what is said


def file_limit(project: Path, words: tuple[str, ...], share: float, folder: Path) -> list[str]:
    """No file may grow beyond a share of the largest that the stage writes."""
    home, place = copied(project, folder / "home"), STAGES[words]
    largest = max((path.stat().st_size for path in files_of(home / place)), default=100_000)
    limit = max(64, int(largest * share))
    code = (
        f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); "
        f"os.execv(sys.executable, [sys.executable, '-m', *sys.argv[1:]])"
    )
    return checked(project, home, words, command(home, [sys.executable, "-c", code, *words]))


def small_disk(project: Path, words: tuple[str, ...], share: float, folder: Path) -> list[str]:
    """A file system with room for a share of what the stage writes."""
    disk, place = folder / "disk", STAGES[words]
    disk.mkdir()
    used = sum(path.stat().st_blocks * 512 for path in project.rglob("*") if path.is_file() and not path.is_symlink())
    written = sum(path.stat().st_size for path in files_of(project / place)) or 100_000
    mount(disk, used + (8 << 20))
    try:
        home = copied(project, disk / "home")
        free = shutil.disk_usage(disk).free
        ballast = disk / "ballast"
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(4096, free - int(written * share) - 4096))
        done = python(home, "-m", *words)
        ballast.unlink()
        return checked(project, home, words, done)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def checked(project: Path, home: Path, words: tuple[str, ...], done: Done) -> list[str]:
    """Faults of the stage that met the limit, of what it left, and of the same stage once there is room."""
    place, expected = STAGES[words], bytes_of(project)
    faults = ends_well_or_in_words(done, *TOLD)
    free = ("ledger.csv", "exported")  # new with each command
    if done.code:
        faults += [f"the old artefact is not whole: {name}" for name in differing(expected, home)[:3]]
    if place not in free:
        again = python(home, "-m", *words)
        faults += ends_well_or_in_words(again)
        if again.code:
            faults.append(f"fails with room too: {again.words[-500:]}")
        faults += [f"other bytes with room: {name}" for name in differing(expected, home, ("reports",))[:3]]
    return faults + [f"left over: {name}" for name in unclean(home) if "exported" not in name]


def files_of(place: Path) -> list[Path]:
    """The files of an artefact."""
    return [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]


def mount(place: Path, size: int) -> None:
    """Mount a file system in memory of some bytes."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)


def can_mount(folder: Path) -> bool:
    """Whether this user may mount a file system."""
    folder.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", "size=65536", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(words, check=False, capture_output=True).returncode:
        return False
    subprocess.run(["umount", "-l", str(folder)], check=False)
    return True


def plans(project: Path, tries: int, seed: int) -> Iterator[Plan]:
    """The stages in turn, each with less or more room."""
    chance, mounts = random.Random(seed), can_mount(project.parent / "mount")
    for number in range(tries):
        words = list(STAGES)[number % len(STAGES)]
        share = chance.uniform(0, 0.98)
        way = small_disk if mounts and number // len(STAGES) % 2 else file_limit
        name = f"{' '.join(words).removeprefix('pipeline.')}: {way.__name__.replace('_', ' ')} of {share:.0%}"
        yield Plan("disks", name, functools.partial(way, project, words, share))
