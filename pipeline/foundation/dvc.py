"""DVC from outside: running it, and putting right the files that it leaves damaged when it is killed."""

from __future__ import annotations

import configparser
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import IO, Any

import yaml

from pipeline.foundation.artefacts import remove, sign, whole_file
from pipeline.foundation.environment import tools_path
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.git import START, git, is_without_git

LOCK, DVC = Path("dvc.lock"), Path(".dvc/tmp")
# `python -m dvc`, which also ends without a traceback if Ctrl-C comes while it imports its modules or unloads them.
IN_WORDS = """
import runpy, sys
shown = sys.excepthook
sys.excepthook = lambda kind, *error: None if issubclass(kind, KeyboardInterrupt) else shown(kind, *error)
runpy.run_module("dvc", run_name="__main__")
"""
COPY = DVC / "sketchstack.dvc.lock"  # of the last run that left a good one
DAMAGED = DVC / "damaged.dvc.lock"
LOCAL = Path(".dvc/config.local")
RWLOCK, REPO_LOCK = DVC / "rwlock", DVC / "lock"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
CONFLICT = re.compile(rb"^(<<<<<<<|>>>>>>>) ", re.MULTILINE)


def restore_lock() -> str:
    """Put dvc.lock back where a killed DVC has left it empty or cut; what was done, empty if it is whole.

    What ran since is not lost: DVC takes it from its run cache. The damaged file is kept as `DAMAGED`.

    Raises:
        SketchstackError: another DVC may be writing it, or it has the conflict markers of a merge.
    """
    text = _read(LOCK)
    if not os.path.lexists(LOCK) or (_is_lock(text) and not _is_beginning(text, _read(COPY))):
        return ""
    _check_no_dvc_runs(LOCK)
    if CONFLICT.search(text):
        raise SketchstackError(
            f"{LOCK} has a merge's conflict markers; take one side (`git checkout --ours {LOCK}`, or --theirs) and run "
            f"the same command again: DVC takes what has run on the other side from its run cache."
        )
    _put_aside(LOCK, DAMAGED)
    for name, text in (("its last good copy", _read(COPY)), ("the last commit", git("show", f"HEAD:{LOCK}").encode())):
        if _is_lock(whole := text.rstrip(b"\n") + b"\n"):
            with whole_file(LOCK) as file:
                file.write_bytes(whole)
            return f"{LOCK} was damaged (a run was killed while DVC wrote it) and is restored from {name}."
    return f"{LOCK} was damaged, and there is no good copy: DVC writes it again from its run cache."


def settle_without_git() -> str:
    """Let DVC run in a folder that is no git repository (a source archive), and with git again once it is one.

    The setting is of this folder alone: .dvc/config.local is never committed. What was done is returned.
    """
    local = configparser.ConfigParser(interpolation=None)
    try:
        local.read(LOCAL, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return ""  # DVC says so
    without, known = is_without_git(), local.getboolean("core", "no_scm", fallback=False)
    if without == known:
        return ""
    if without:
        local.read_dict({"core": {"no_scm": "true"}})
    else:
        local.remove_option("core", "no_scm")
    with whole_file(LOCAL) as file, file.open("w", encoding="utf-8") as text:
        local.write(text)
    if not without:
        return "This folder is a git repository now: DVC uses git again."
    return (
        "This folder is not a git repository (a source archive has none), so DVC runs without git. All stages, "
        "`report`, `submit --check` and comparisons within this run work; sending and recording submissions, "
        f"`reproduce`, `experiments` and comparisons with revisions need a commit: {START}."
    )


def restore_rwlock() -> str:
    """Remove DVC's table of locks where a kill has left it unreadable, or to processes that have ended; what was done.

    DVC drops locks of processes that are gone, but takes one that nobody has waited for (a zombie, as in a container
    whose first process does not) for alive, and would refuse to run until someone removes the file.

    Raises:
        SketchstackError: another DVC runs.
    """
    if not os.path.lexists(RWLOCK):
        return ""
    text = _read(RWLOCK)
    if _is_rwlock(text):
        states = {_state(process) for process in _holders(text)}
        if b"Z" not in states or states - {b"Z", b""}:
            return ""
        remove(RWLOCK)
        return f"{RWLOCK} was held by a process that was killed and is removed."
    _check_no_dvc_runs(RWLOCK)
    remove(RWLOCK)
    return f"{RWLOCK} was damaged (a run was killed while DVC wrote it) and is removed."


def _holders(text: bytes) -> set[int]:
    """The processes that hold a lock of DVC's table."""
    found = json.loads(text)
    readers = [each for group in found.get("read", {}).values() for each in group]
    return {int(each["pid"]) for each in [*found.get("write", {}).values(), *readers]}


def _state(process: int) -> bytes:
    """The state of a process, a letter: Z for one that has ended and not been waited for; empty if there is none."""
    return b"".join(_read(Path(f"/proc/{process}/stat")).rpartition(b")")[2].split()[:1])


def keep_lock() -> None:
    """Keep a copy of a good dvc.lock."""
    text = _read(LOCK)
    if _is_lock(text) and text != _read(COPY):
        with whole_file(COPY) as file:
            file.write_bytes(text)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _is_beginning(text: bytes, whole: bytes) -> bool:
    """Whether a text was cut where it is YAML all the same."""
    return len(text) < len(whole) and whole.startswith(text)


def _is_lock(text: bytes) -> bool:
    """Whether these are all lines of a dvc.lock that DVC can read."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA  # a fifth of a second

    try:
        found = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        return False
    return text.endswith(b"\n") and _fits(COMPILED_LOCKFILE_SCHEMA, found) and "schema" in found


def _is_rwlock(text: bytes) -> bool:
    from dvc.rwlock import SCHEMA

    try:
        return _fits(SCHEMA, json.loads(text))
    except ValueError:
        return False


def _fits(schema: Callable[[Any], Any], found: Any) -> bool:
    from voluptuous import Invalid

    try:
        schema(found)
    except Invalid:
        return False
    return True


def _put_aside(path: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    remove(place)
    path.rename(place)


def _check_no_dvc_runs(path: Path) -> None:
    """Refuse to touch a damaged file while another DVC holds its lock: it may be writing the file.

    Raises:
        SketchstackError: another DVC does.
    """
    try:
        with REPO_LOCK.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return
    except BlockingIOError:
        raise SketchstackError(
            f"{path} cannot be read, and another DVC is running; wait for it to end, and run the same command again."
        ) from None


def run_dvc(arguments: list[str], held: IO[str] | None = None) -> int:
    """Run `dvc repro` with this environment's Python first on the PATH; its exit code, 130 after Ctrl-C.

    A signal goes to DVC too, and DVC ends before this does.

    Args:
        arguments: of `dvc repro`.
        held: the file of a lock of `LOCK`. DVC holds it too: if this process is killed, until DVC ends.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", IN_WORDS, "repro", *arguments],
        env={**os.environ, "PATH": tools_path()},
        pass_fds=[held.fileno()] if held else [],
    )
    if held:
        sign(held, process.pid, "dvc repro", LOCK)
    received: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if number != signal.SIGINT or not sys.stdin.isatty():  # a terminal sends Ctrl-C to DVC itself
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in SIGNALS}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signal.SIGINT in received:
        raise KeyboardInterrupt
    return 128 + received[0] if received else code
