"""DVC from outside: running it, and putting right the files that it leaves damaged when it is killed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

import yaml

from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.git import git

LOCK, DVC = Path("dvc.lock"), Path(".dvc/tmp")
COPY = DVC / "sketchstack.dvc.lock"  # of the last run that left a good one
RWLOCK, REPO_LOCK = DVC / "rwlock", DVC / "lock"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def restore_lock() -> str:
    """Put dvc.lock back where a killed DVC has left it empty or cut; what was done, empty if it is whole.

    What ran since is not lost: DVC takes it from its run cache.
    """
    if not LOCK.exists() or (_is_lock(_read(LOCK)) and not _is_beginning(_read(LOCK), _read(COPY))):
        return ""
    for name, text in (("its last good copy", _read(COPY)), ("the last commit", git("show", f"HEAD:{LOCK}").encode())):
        if _is_lock(text):
            with whole_file(LOCK) as file:
                file.write_bytes(text if text.endswith(b"\n") else text + b"\n")
            return f"{LOCK} was damaged (a run was killed while DVC wrote it) and is restored from {name}."
    LOCK.unlink()
    return f"{LOCK} was damaged, and there is no good copy: it is removed, and DVC writes it again from its run cache."


def restore_rwlock() -> str:
    """Remove DVC's table of locks where a kill has left it unreadable and no DVC runs; what was done."""
    try:
        json.loads(RWLOCK.read_bytes())
        return ""
    except FileNotFoundError:
        return ""
    except (ValueError, OSError):
        if _dvc_runs():
            raise SketchstackError(
                f"{RWLOCK} cannot be read, and another DVC is running; wait for it to end."
            ) from None
    shutil.rmtree(RWLOCK) if RWLOCK.is_dir() and not RWLOCK.is_symlink() else RWLOCK.unlink()
    return f"{RWLOCK} was damaged (a run was killed while DVC wrote it) and is removed."


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
    """Whether this is a dvc.lock: YAML with a schema, and stages that have all their lines."""
    try:
        found = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        return False
    if not isinstance(found, dict) or "schema" not in found or not isinstance(found.get("stages", {}), dict):
        return False
    return all(isinstance(stage, dict) and "cmd" in stage for stage in found.get("stages", {}).values())


def _dvc_runs() -> bool:
    try:
        with REPO_LOCK.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except OSError:
        return True


def run_dvc(arguments: list[str]) -> int:
    """Run `dvc repro` with this environment's Python first on the PATH; its exit code, 130 after Ctrl-C.

    A signal goes to DVC too, and DVC ends before this does.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    process = subprocess.Popen([sys.executable, "-m", "dvc", "repro", *arguments], env={**os.environ, "PATH": path})
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
