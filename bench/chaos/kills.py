"""A run that is killed again and again, at random or at aimed moments, ends with the bytes of an undisturbed one."""

from __future__ import annotations

import functools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from bench.chaos.home import LIMIT, REPRO, Done, bytes_of, committed, copied, differing, python, started, unclean
from bench.chaos.tries import TRACEBACK, Plan

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LATEST = 14.0  # seconds after a start until which death comes at a random moment
POLL = 0.0005  # seconds between two looks for an aimed moment
A_LIFE = 12  # kills of one run, from nothing to its end
DEVICES = 5  # this run of every `A_LIFE` trains on two devices


def _appears(*patterns: str) -> Callable[[Path], bool]:
    """A moment: a file or folder of one of these patterns is there."""
    return lambda home: any(next(home.glob(pattern), None) is not None for pattern in patterns)


def _lock_is_written() -> Callable[[Path], bool]:
    """A moment: dvc.lock has just been opened for writing, or is shorter than it was."""
    sizes: list[int] = []

    def now(home: Path) -> bool:
        try:
            sizes.append((home / "dvc.lock").stat().st_size)
        except OSError:
            return False
        return len(sizes) > 1 and sizes[-1] < max(sizes)

    return now


MOMENTS: dict[str, Callable[[], Callable[[Path], bool]]] = {
    "while dvc.lock is written": _lock_is_written,
    "while shards are written": lambda: _appears(".partial/folds--*/fold*/*"),
    "while a resume point is written": lambda: _appears(".partial/checkpoints--*"),
    "while predictions are written": lambda: _appears(".partial/models--*--base--*/oof.npy"),
    "while the stack is written": lambda: _appears(".partial/models--*--meta/rows.npy"),
    "between two renames": lambda: _appears(".partial/*.former"),
    "while submissions are written": lambda: _appears(".partial/submissions--*/*.csv"),
    "while the report is written": lambda: _appears(".partial/reports--*"),
    "while DVC holds its locks": lambda: _appears(".dvc/tmp/rwlock"),
}


class Death:
    """How one start of the run ends, if it does not come to its end before.

    Args:
        random: draws the signal, whom it hits and the moment.
        moment: an aimed one, by its name in `MOMENTS`; None for a random one.
    """

    def __init__(self, random: random.Random, moment: str | None) -> None:
        self.signal = random.choice(SIGNALS) if moment is None else signal.SIGKILL
        self.everyone = random.random() < 0.7  # else DVC alone, as `kill` of its number does
        self.after = random.uniform(0.1, LATEST)
        self.moment = moment
        self.skip = random.randrange(3)  # times that an aimed moment passes before it kills

    def __str__(self) -> str:
        when = self.moment or f"after {self.after:.1f} s"
        return f"{self.signal.name} to {'all' if self.everyone else 'the leader'} {when}"

    def comes(self, home: Path, process: subprocess.Popen[str]) -> bool:
        """Wait for the moment and kill; False if the run ended before."""
        due = MOMENTS[self.moment]() if self.moment else None
        until = time.monotonic() + (self.after if due is None else LIMIT)
        seen = 0
        while time.monotonic() < until and process.poll() is None:
            if due is not None and due(home):
                seen += 1
                if seen > self.skip:
                    break
                due = MOMENTS[str(self.moment)]()
            time.sleep(POLL if due else 0.01)
        if process.poll() is not None:
            return False
        with_group = os.killpg if self.everyone else os.kill
        with_group(process.pid, self.signal)
        return True


def lives(project: Path, expected: dict[str, str], seed: int, aimed: bool, folder: Path) -> list[str]:
    """Kill a run from nothing `A_LIFE` times, each time starting it again by the same command; faults in words."""
    chance, home, faults, deaths = random.Random(seed), copied(project, folder / "home", fresh=True), [], []
    names = list(MOMENTS)
    for number in range(A_LIFE):
        moment = names[(seed + number) % len(names)] if aimed else None
        death = Death(chance, moment)
        done, killed = _one_life(home, death)
        deaths.append(str(death) if killed else "none: it ended before")
        if not killed and done.code:
            faults.append(f"after {deaths}: {done.text[-1500:]}")
            break
        if not killed:
            break
        if death.signal != signal.SIGKILL and TRACEBACK.search(done.text):
            faults.append(f"{death}: a traceback: {done.text[-800:]}")
    last = python(home, *REPRO)
    if last.code:
        return [*faults, f"after {deaths}: the next run fails: {last.text[-1500:]}"]
    faults += [f"after {deaths}: other bytes: {name}" for name in differing(expected, home)[:5]]
    return faults + [f"after {deaths}: left over: {name}" for name in unclean(home)]


def lives_on_two_devices(project: Path, seed: int, folder: Path) -> list[str]:
    """As `lives`, where two processes train each learner together; their bytes are those of two devices undisturbed."""
    two = copied(project, folder / "two", fresh=True)
    params = yaml.safe_load((two / "params.yaml").read_text())
    (two / "params.yaml").write_text(yaml.safe_dump(params | {"devices": 2}, sort_keys=False))
    committed(two, "two devices")
    done = python(two, *REPRO)
    if done.code:
        return [f"it fails undisturbed: {done.text[-1500:]}"]
    committed(two, "a run on two devices")
    return lives(two, bytes_of(two), seed, seed % 2 == 0, folder)


def _one_life(home: Path, death: Death) -> tuple[Done, bool]:
    """Start the run and let it die; how it ended, and whether it was killed."""
    process, begun = started(home, [sys.executable, *REPRO]), time.monotonic()
    killed = death.comes(home, process)
    try:
        text = process.communicate(timeout=LIMIT if not killed else 120)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        text = process.communicate()[0] + "\nit hung"
    return Done(process.returncode, text, time.monotonic() - begun), killed


def plans(project: Path, tries: int, seed: int) -> Iterator[Plan]:
    """Runs that are killed, `A_LIFE` times each; every other at aimed moments."""
    expected = bytes_of(project)
    for number in range(max(1, tries // A_LIFE)):
        aimed = number % 2 == 0
        run: Callable[[Path], list[str]] = functools.partial(lives, project, expected, seed + number, aimed)
        name = f"{A_LIFE} {'aimed' if aimed else 'random'} kills of a run"
        if number % A_LIFE == DEVICES:
            name, run = f"{name} on two devices", functools.partial(lives_on_two_devices, project, seed + number)
        yield Plan("kills", f"{name}, seed {seed + number}", run)
