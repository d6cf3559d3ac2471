"""The same stages in odd environments: the same bytes, or one paragraph that says what is wrong with the machine."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.chaos.disks import can_mount, mount
from bench.chaos.home import Done, bytes_of, command, copied, differing
from bench.chaos.tries import Plan, ends_well_or_in_words

STAGES = (
    ("-m", "pipeline.stages.shuffle"),
    ("-m", "pipeline.stages.train", "lstm", "0"),
    ("-m", "pipeline.stages.stack"),
    ("-m", "pipeline.stages.submit"),
    ("-m", "pipeline", "report"),
)
NOBODY = 65534
CGROUPS = Path("/sys/fs/cgroup/memory")  # of version 1; below version 2 a process that has children may not make one
LITTLE = 1_500_000_000  # bytes of memory; the libraries of a stage take a third of them


@dataclass(frozen=True)
class Surroundings:
    """What is odd.

    Attributes:
        variables: of the environment; None takes one away, `{folder}` stands for an empty folder of the try.
        shell: what a shell does before it runs a stage.
        after: what follows the stage on the same line, as `| head -1`.
        place: the project's path below the folder of the try.
        prepare: changes the copy of the project first.
    """

    variables: Mapping[str, str | None] = field(default_factory=dict)
    shell: str = ""
    after: str = ""
    place: str = "home"
    prepare: Callable[[Path], None] = lambda home: None


def _small_disk(home: Path) -> None:
    disk = home.parent / "small"
    disk.mkdir()
    if can_mount(home.parent / "probe"):
        mount(disk, 65536)


def _given_away(home: Path) -> None:
    for folder in (home.parent, home.parent.parent):  # temporary folders are closed to others
        folder.chmod(folder.stat().st_mode | 0o011)
    for path in [home, *home.rglob("*")]:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def _little_memory() -> str:
    """What a shell does to have little memory, with what it starts."""
    group = CGROUPS / "sketchstack-chaos"
    return f"mkdir -p {group}; echo {LITTLE} > {group}/memory.limit_in_bytes; echo $$ > {group}/cgroup.procs"


def _elsewhere(*names: str) -> Callable[[Path], None]:
    """Folders that are links to another place, as on a machine whose disk is too small."""

    def move(home: Path) -> None:
        for name in names:
            place = home.parent / "elsewhere" / name
            place.parent.mkdir(exist_ok=True)
            shutil.move(home / name, place)
            (home / name).symlink_to(place)

    return move


def _without(*names: str) -> Callable[[Path], None]:
    def remove(home: Path) -> None:
        for name in names:
            shutil.rmtree(home / name, ignore_errors=True)

    return remove


ENVIRONMENTS: dict[str, Surroundings] = {
    "no HOME": Surroundings({"HOME": None}),
    "a HOME that is not there": Surroundings({"HOME": "/nowhere"}),
    "a HOME that cannot be written": Surroundings({"HOME": "/proc"}),
    "TMPDIR that is not there": Surroundings({"TMPDIR": "/nowhere"}),
    "TMPDIR on a full disk": Surroundings({"TMPDIR": "{folder}/small"}, prepare=_small_disk),
    "umask 077": Surroundings(shell="umask 077"),
    "umask 000": Surroundings(shell="umask 000"),
    "one core": Surroundings(shell=f"taskset -p -c 0 $$ > {os.devnull}"),
    "64 open files": Surroundings(shell="ulimit -n 64"),
    "1.5 GB of memory by a cgroup": Surroundings(shell=_little_memory()),
    "little address space": Surroundings(shell="ulimit -v 1500000"),
    "locale C, no UTF-8": Surroundings({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    "output in ASCII": Surroundings({"PYTHONIOENCODING": "ascii"}),
    "output in Latin-1": Surroundings({"PYTHONIOENCODING": "latin-1"}),
    "a Turkish locale": Surroundings({"LC_ALL": "tr_TR.UTF-8"}),
    "a time zone at the edge": Surroundings({"TZ": "Pacific/Kiritimati"}),
    "another hash seed": Surroundings({"PYTHONHASHSEED": "12345"}),
    "a terminal of 20 columns": Surroundings({"COLUMNS": "20"}),
    "a terminal of 0 columns, dumb": Surroundings({"COLUMNS": "0", "TERM": "dumb"}),
    "output that is cut off": Surroundings(after="| head -c 10"),
    "output closed": Surroundings(after=">&-"),
    "errors closed": Surroundings(after="2>&-"),
    "a path with blanks, quotes and umlauts": Surroundings(place="a folder/it's “größer” $HOME; x"),
    "a path of 200 characters": Surroundings(place="/".join(["long" * 10] * 5)),
    "folds/ and models/ are links": Surroundings(prepare=_elsewhere("folds", "models")),
    "no git": Surroundings({"PATH": str(Path(sys.executable).parent)}, prepare=_without(".git")),
    "no logs/": Surroundings(prepare=_without("logs", "checkpoints", ".partial")),
    "threads by OMP_NUM_THREADS": Surroundings({"OMP_NUM_THREADS": "7", "MKL_NUM_THREADS": "3"}),
    "Numba's cache cannot be written": Surroundings({"NUMBA_CACHE_DIR": "/proc/nowhere"}),
    "another user": Surroundings(shell="", prepare=_given_away),
}


def surrounded(project: Path, name: str, folder: Path) -> list[str]:
    """Run the stages, one after the other, in odd surroundings, and compare bytes; what may fail says why."""
    odd, expected = ENVIRONMENTS[name], bytes_of(project)
    home = folder / odd.place
    home.parent.mkdir(parents=True, exist_ok=True)
    copied(project, home)
    odd.prepare(home)
    faults: list[str] = []
    for stage in STAGES:
        done = _run(home, odd, stage, name == "another user", folder)
        faults += ends_well_or_in_words(done)
        if done.code and not name.startswith(
            ("TMPDIR", "little address", "output closed", "output that is cut", "64 open")
        ):
            faults.append(f"{' '.join(stage)} fails: {done.words[-500:]}")
        if done.code:
            break
    subprocess.run(["umount", "-l", str(folder / "small")], check=False, capture_output=True)
    return faults + [f"other bytes: {each}" for each in differing(expected, home)[:3]]


def _run(home: Path, odd: Surroundings, stage: tuple[str, ...], as_nobody: bool, folder: Path) -> Done:
    variables = {name: value and value.replace("{folder}", str(folder)) for name, value in odd.variables.items()}
    words = [sys.executable, *stage]
    if as_nobody:
        variables |= {"HOME": str(home)}
        words = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *words]
    line = f"{odd.shell or ':'}\n{shlex.join(words)} {odd.after}"
    return command(home, [shutil.which("bash") or "bash", "-c", f"set -o pipefail\n{line}"], variables)


def plans(project: Path, tries: int, seed: int) -> Iterator[Plan]:
    """Every environment once, from one that the seed draws on."""
    names = list(ENVIRONMENTS)
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        names.remove("another user")  # only root can become one
    if not os.access(CGROUPS, os.W_OK) or not (CGROUPS / "memory.limit_in_bytes").exists():
        names.remove("1.5 GB of memory by a cgroup")
    for number in range(min(tries, len(names))):
        name = names[(seed + number) % len(names)]
        yield Plan("environments", name, functools.partial(surrounded, project, name))
