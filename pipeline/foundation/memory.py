"""The memory of a long stage: what it may take, and its peak, so that the next run can say what killed the last one.

The kernel ends a process that takes too much with SIGKILL: no line of Python runs after that, and DVC reports "exited
with -9". So the process keeps a note below logs/ and removes it when it ends in any other way. The next run of the same
stage reports a note that a dead process left.

    logs/<profile>/running/<stage>.json     pid, when it started, its peak and the machine's limit in bytes
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel, ValidationError

from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.disk import size
from pipeline.foundation.environment import GPUS
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.logs import noted
from pipeline.foundation.places import places

ALLOWED = 0.95  # of the memory that is available
MORE = 1.05  # an allowance must have grown by this factor for another attempt
M_MMAP_THRESHOLD = -3  # of glibc's malloc.h: blocks from this size on are mapped on their own
LARGE = 2**20  # bytes
SCARCE = 4e9  # bytes: with less, freed memory is given back from the start
EVERY = 1.0  # seconds between two looks
GROWN = 1.02  # a peak is written down when it has grown by this factor
NEAR = 0.8  # of the limit: a process that died with that much was killed for it
CGROUPS = Path("/sys/fs/cgroup")
UNLIMITED = 2**60  # cgroups of version 1 write a number like it where there is no limit


class Note(BaseModel):
    """What a running stage writes down of itself.

    Attributes:
        pid: its process.
        started: of the process, in ticks since the machine was: tells it from a later one of the same number.
        boot: of the machine; empty if not known.
        peak: bytes that it has held at once.
        limit: bytes that it may hold.
        kills: processes that the kernel had killed for memory when it began.
    """

    pid: int
    started: int
    boot: str
    peak: int
    limit: int
    kills: int


@contextmanager
def watched(stage: str, remedy: str) -> Iterator[None]:
    """Note the peak of this process's memory as long as the block runs; tell first what has killed the run before.

    Args:
        stage: its name, as in `train lstm 0`.
        remedy: what to do if it is killed for memory.
    """
    if "LOCAL_RANK" in os.environ:  # a copy that the first of several devices has started, which keeps the note
        yield
        return
    path = places().logs / "running" / f"{stage.replace(' ', '_')}.json"
    if told := _of_the_last(path, stage, remedy):
        print(told, flush=True)
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(path, ended), daemon=True, name="memory")
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _of_the_last(path: Path, stage: str, remedy: str) -> str | None:
    """What to say of the run that has left a note; None if it lives, or was not killed for memory."""
    try:
        last = Note(**noted(path))
    except ValidationError:  # there is none, or it is damaged
        return None
    if last.boot != _boot() or _started(last.pid) == last.started:
        return None
    if oom_kills() <= last.kills and last.peak < NEAR * last.limit:
        return None
    return (
        f"warning: the last run of {stage} was killed for want of memory, at a peak of {size(last.peak)} of "
        f"{size(last.limit)}: {remedy}."
    )


def _watch(path: Path, ended: threading.Event) -> None:
    """Write the peak down whenever it has grown. Where nothing can be written, nothing is: no result depends on it."""
    pid, written = os.getpid(), 0
    about = {"pid": pid, "started": _started(pid), "boot": _boot(), "limit": limit(), "kills": oom_kills()}
    while True:
        if (now := peak()) > GROWN * written:
            with suppress(OSError, SketchstackError), whole_file(path) as file:
                file.write_text(json.dumps(about | {"peak": now}) + "\n")
            written = now
        if ended.wait(EVERY):
            return


class Allowance:
    """While the block runs, this process may hold the memory that was available at its start: more is refused to it.

    Linux grants more memory than there is, and kills a process that uses it. With a limit on its data (RLIMIT_DATA) it
    refuses instead, as a GPU does, and torch and NumPy raise an error that can be answered. On a machine with a GPU
    nothing is limited: its driver reserves addresses as if they were memory.

    Args:
        enforced: False for a library that a refusal crashes.

    Attributes:
        bytes: that were available when last asked; 0 where that is not known.
    """

    def __init__(self, enforced: bool) -> None:
        self.enforced = enforced and not GPUS.exists()
        self.before = resource.getrlimit(resource.RLIMIT_DATA)

    def __enter__(self) -> Allowance:
        self.unused = _of_this_process("VmData:") - _of_this_process("RssAnon:")  # reserved, as for stacks of threads
        self._ask()
        if self.bytes < SCARCE:
            _give_back()
        return self

    def __exit__(self, *of_an_error: object) -> None:
        resource.setrlimit(resource.RLIMIT_DATA, self.before)

    def renew(self) -> bool:
        """After a refusal: give back what is not in use, and allow what is available now.

        Returns:
            Whether that is more than before, for another program has ended: worth another attempt.
        """
        gc.collect()
        _give_back()
        before = self.bytes
        self._ask()
        return self.bytes > MORE * before

    def _ask(self) -> None:
        held, self.bytes = _of_this_process("RssAnon:"), int(ALLOWED * available())
        if self.enforced and held and self.bytes:
            soft, hard = self.before
            allowed = held + self.unused + self.bytes
            allowed = allowed if soft == resource.RLIM_INFINITY else min(allowed, soft)
            resource.setrlimit(resource.RLIMIT_DATA, (allowed, hard))


def _give_back() -> None:
    """Return freed memory to the system, and from now on large blocks at once; glibc keeps it for the next step."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim"):
        libc.mallopt(M_MMAP_THRESHOLD, LARGE)
        libc.malloc_trim(0)


def available() -> int:
    """Bytes that this process can still get: of the machine and its cgroups, which drop files that were read."""
    found = [_meminfo("MemAvailable")]
    for place in _cgroups():
        for most, used, files in (
            ("memory.max", "memory.current", ("inactive_file", "active_file")),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
        ):
            if 0 < (most_bytes := _number(place / most)) < UNLIMITED:
                dropped = sum(_field(place / "memory.stat", name) for name in files)
                found.append(max(1, most_bytes - _number(place / used) + dropped))
    return min(found)


def peak() -> int:
    """Bytes that this process has held at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def limit() -> int:
    """Bytes that this process may hold: those of its cgroup, or all of the machine."""
    found = [_meminfo("MemTotal")]
    for place in _cgroups():
        found += [number for name in ("memory.max", "memory.limit_in_bytes") if (number := _number(place / name))]
    return min(number for number in found if number < UNLIMITED)


def _cgroups() -> Iterator[Path]:
    """The folders that may bound this process: its cgroup and those above it, of version 2; that of version 1."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            if not kinds or "memory" in kinds.split(","):
                root = CGROUPS / "memory" if kinds else CGROUPS
                inner = root / path.strip("/")
                yield from (place for place in (inner, *inner.parents) if place.is_relative_to(root))


def _of_this_process(name: str) -> int:
    return _field(Path("/proc/self/status"), name) * 1024


def _meminfo(name: str) -> int:
    return _field(Path("/proc/meminfo"), f"{name}:") * 1024


def oom_kills() -> int:
    """Processes that the kernel has killed for memory since the machine started."""
    return _field(Path("/proc/vmstat"), "oom_kill")


def _field(path: Path, name: str) -> int:
    """The number after a name in a file of the kernel; 0 where there is none."""
    with suppress(OSError):
        for line in path.read_text().splitlines():
            words = line.split()
            if words and words[0] == name:
                return int(words[1])
    return 0


def _number(path: Path) -> int:
    """The number in a file; 0 where there is none, or no number."""
    with suppress(OSError, ValueError):
        return int(path.read_text())
    return 0


def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _started(pid: int) -> int:
    """When a process started, in ticks; 0 if there is none of that number."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return 0
