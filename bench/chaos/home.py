"""A small project with a finished run, copies of it to break, and what its bytes must be in the end."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench.tables import ROOT
from pipeline.foundation.errors import SketchstackError

LIMIT = 600  # seconds for any command; the longest takes one
ARTEFACTS = ("data", "folds", "models", "submissions", "reports")
CLOCKS = ("report.html",)  # it tells times, so no two are alike
REPRO = ("-m", "pipeline", "repro")


@dataclass(frozen=True)
class Done:
    """A command that has ended.

    Attributes:
        code: its exit code; negative for a signal.
        text: stdout and stderr together.
        seconds: it took.
    """

    code: int
    text: str
    seconds: float

    @property
    def words(self) -> str:
        """The text on one line."""
        return " ".join(self.text.split())


def environment(changes: Mapping[str, str | None] | None = None) -> dict[str, str]:
    """Variables for a command: this environment's tools first on the PATH, no GPU; None takes a variable away."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    found = {**os.environ, "PATH": path, "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "120"} | dict(changes or {})
    return {name: value for name, value in found.items() if value is not None}


def python(home: Path, *arguments: str, changes: Mapping[str, str | None] | None = None) -> Done:
    """Run this Python in a project to its end."""
    return command(home, [sys.executable, *arguments], changes)


def command(home: Path, words: Sequence[str], changes: Mapping[str, str | None] | None = None) -> Done:
    """Run a command in a project to its end; one that hangs is killed and ends with code -9."""
    process, begun = started(home, words, changes), time.monotonic()
    try:
        text = process.communicate(timeout=LIMIT)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        text = process.communicate()[0] + f"\nkilled after {LIMIT} s: it hung"
    return Done(process.returncode, text, time.monotonic() - begun)


def started(home: Path, words: Sequence[str], changes: Mapping[str, str | None] | None = None) -> subprocess.Popen[str]:
    """Start a command as the leader of a process group of its own."""
    # What runs in the background of a shell ignores Ctrl-C, and under nohup a hang-up: a try must not.
    return subprocess.Popen(
        ["/usr/bin/env", "--default-signal=INT,HUP", *words], cwd=home, env=environment(changes),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", start_new_session=True,
    )  # fmt: skip


def new_project(place: Path) -> None:
    """A git repository with this code and a competition of a minute: two learners, three folds, a second round."""
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, tracked):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place / name)
    (place / "dvc.lock").unlink(missing_ok=True)
    params = yaml.safe_load((place / "profiles" / "synthetic.yaml").read_text())
    params |= {"ensemble": ["lstm", "binarynet"], "threads": 1}
    params["synthesize"] |= {"train_rows": 24, "test_rows": 6}
    params["checkpoints"] |= {"seconds": 0.2}
    params["pseudo"] |= {"learners": ["binarynet"], "teacher": "lstm", "confidence": 0.04}
    params["submit"]["competition"] = "doodles"
    params["stack"]["metalearners"] = ["arithmetic_mean", "geometric_mean", "convex_weights", "logistic"]
    for name in params["ensemble"]:
        params["learners"][name]["training"]["epochs"] = 2
    (place / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (place / "profiles" / "synthetic.yaml").write_text((place / "params.yaml").read_text())
    subprocess.run(["git", "init", "-q"], cwd=place, check=True)
    committed(place, "start")


def committed(home: Path, message: str) -> None:
    """Commit all that git does not ignore."""
    author = ["-c", "user.name=chaos", "-c", "user.email=chaos@localhost"]
    for words in (["add", "-A"], ["commit", "-qm", message]):
        subprocess.run(["git", *author, *words], cwd=home, check=True)


def finished_project(place: Path) -> float:
    """A new project after its run, committed; returns the seconds of the run.

    Raises:
        SketchstackError: the run fails undisturbed.
    """
    new_project(place)
    done = python(place, *REPRO)
    if done.code:
        raise SketchstackError(f"the run fails undisturbed: {done.text[-3000:]}")
    committed(place, "a run")
    return done.seconds


def copied(project: Path, place: Path, fresh: bool = False) -> Path:
    """A copy of a project; a fresh one has neither artefacts nor DVC's cache."""
    left = [".pytest_cache", *((*ARTEFACTS, "logs", "cache", "tmp", "checkpoints") if fresh else ())]

    def ignored(folder: str, names: list[str]) -> list[str]:
        top = Path(folder) in (project, project / ".dvc")
        return [name for name in names if top and name in left]

    shutil.copytree(project, place, symlinks=True, ignore=ignored)
    if fresh:
        for folder in ("folds", "models", "submissions", "data"):
            subprocess.run(["git", "checkout", "-q", "--", folder], cwd=place, check=False, capture_output=True)
    return place


def bytes_of(home: Path) -> dict[str, str]:
    """SHA-256 of every artefact and of dvc.lock, by path; of a link or another thing, what it is."""
    found = {}
    for top in ARTEFACTS:
        for path in sorted((home / top).rglob("*")):
            name = str(path.relative_to(home))
            if path.is_symlink():
                found[name] = f"link to {path.readlink()}"
            elif path.is_file() and path.name not in CLOCKS:
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    lock = home / "dvc.lock"
    return found | {"dvc.lock": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else "missing"}


def differing(expected: Mapping[str, str], home: Path, unless: Sequence[str] = ()) -> list[str]:
    """Paths whose bytes are not those expected, or that stand on one side only; none below those of `unless`."""
    found = bytes_of(home)
    names = (name for name in sorted({*expected, *found}) if not name.startswith(tuple(unless)))
    return [name for name in names if expected.get(name) != found.get(name)]


def unclean(home: Path) -> list[str]:
    """What a run that has ended must not leave: unfinished artefacts, and files that git sees as new."""
    partial = [str(path.relative_to(home)) for path in home.rglob("*partial*") if ".git" not in path.parts]
    partial = [name for name in partial if not name.startswith((".dvc/", "pipeline/", "tests/")) and name != ".partial"]
    status = subprocess.run(["git", "status", "--porcelain"], cwd=home, capture_output=True, text=True, check=True)
    return partial + [line for line in status.stdout.splitlines() if not line.endswith((" dvc.lock", " ledger.csv"))]
