"""Commands that people run by hand, killed while they write: the next start ends well, and the run is untouched."""

from __future__ import annotations

import functools
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.chaos.home import bytes_of, committed, copied, differing, python, started, unclean
from bench.chaos.kills import SIGNALS
from bench.chaos.tries import Plan, ends_well_or_in_words

COMMANDS: dict[tuple[str, ...], str] = {  # a command → what it writes; it may be missing after a kill, never half
    ("submit", "super_learner", "--labels"): "ledger.csv",
    ("report", "--markdown", "exported/post"): "exported/post",
    ("export", "memmaps", "exported/rows"): "exported/rows",
    ("export-model", "lstm", "0", "exported/lstm.onnx"): "exported/lstm.onnx",
    ("relabel", "--export", "exported/suspects"): "exported/suspects",
    ("compare", "lstm", "binarynet"): "reports/synthetic/compare",
    ("preview", "cat"): "preview.png",
    ("tune", "lstm", "--trials", "2", "--rows", "200", "--epochs", "1"): "logs/synthetic/tune",
    ("profile", "synthetic"): "params.yaml",
    ("reproduce", "super_learner"): "ledger.csv",
}
LATEST = 6.0  # seconds after a start until which death comes
TIMES = 4  # that a command is killed in one try


def killed(project: Path, words: tuple[str, ...], seed: int, folder: Path) -> list[str]:
    """Kill a command at random moments, start it again each time, and let it end."""
    chance, home, expected = random.Random(seed), copied(project, folder / "home"), bytes_of(project)
    (home / "exported").mkdir()
    if words[0] == "reproduce":
        faults = _recorded(home)
        if faults:
            return faults
    for _ in range(TIMES):
        process = started(home, [sys.executable, "-m", "pipeline", *words])
        time.sleep(chance.uniform(0.1, LATEST))
        if process.poll() is None:
            os.killpg(process.pid, chance.choice(SIGNALS))
        process.communicate()
    done = python(home, "-m", "pipeline", *words)
    faults = ends_well_or_in_words(done)
    ended = any(said in done.words for said in ("is there", " exists"))  # an earlier start did; nothing is replaced
    if done.code and not ended:
        faults.append(f"it fails: {done.words[-500:]}")
    if not (home / COMMANDS[words]).exists():
        faults.append(f"{COMMANDS[words]} is not there")
    ours = ("reports/synthetic/compare",)
    faults += [f"other bytes: {name}" for name in differing(expected, home, ours)[:3]]
    faults += ["params.yaml is other"] * ((home / "params.yaml").read_bytes() != (project / "params.yaml").read_bytes())
    worktrees = subprocess.run(["git", "worktree", "list"], cwd=home, capture_output=True, text=True, check=True).stdout
    faults += [f"left over: {line}" for line in worktrees.splitlines()[1:]]
    leftovers = [name for name in unclean(home) if "exported" not in name and "preview" not in name]
    return faults + [f"left over: {name}" for name in leftovers]


def _recorded(home: Path) -> list[str]:
    """Record a submission in ledger.csv and commit it; faults in words."""
    done = python(home, "-m", "pipeline", "submit", "super_learner", "--labels")
    committed(home, "a submission")
    return [f"nothing can be recorded: {done.words[-500:]}"] if done.code else []


def plans(project: Path, tries: int, seed: int) -> Iterator[Plan]:
    """The commands in turn."""
    for number in range(tries):
        words = list(COMMANDS)[number % len(COMMANDS)]
        name = f"{' '.join(words)} is killed {TIMES} times, seed {seed + number}"
        yield Plan("commands", name, functools.partial(killed, project, words, seed + number))
