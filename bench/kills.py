"""Every learner is killed many times in training, and must end with the bytes of an uninterrupted run."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.competition import scratch_folder
from bench.tables import RESULTS, ROOT, WIDTH, commit, hardware, machine
from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.errors import SketchstackError, one_paragraph_errors
from pipeline.foundation.places import places
from pipeline.learners._base import available
from tests.lives import HELD_OUT, Life
from tests.toy import write_project

EPOCHS = 4  # 60 steps
LIMIT = 900  # seconds: a learner that starts threads when it is imported hangs once it is forked
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}  # bytes are promised on a CPU


@dataclass(frozen=True)
class Proof:
    """What became of a learner that was killed.

    Attributes:
        learner: its name.
        seed: drew the moments of death.
        lives: in their order; each but the last was killed.
        files: how many each run left in models/: weights, predictions, hashes, the learning curve.
        differing: those of them that are not the same bytes in both runs, or stand in one only.
        unfinished: files that stood in models/ between two lives, in a folder that was not yet as it was at the end.
        seconds: both runs, side by side.
    """

    learner: str
    seed: int
    lives: list[Life]
    files: int
    differing: list[str]
    unfinished: list[str]
    seconds: float

    @property
    def kills(self) -> int:
        """Deaths by kill -9; the others died of a file that could not grow."""
        return sum(life.signal == "SIGKILL" for life in self.lives)

    @property
    def held(self) -> bool:
        """Whether all bytes are the same, and no folder had its name before it was whole."""
        return not self.differing and not self.unfinished


def prove(learner: str, scratch: Path, seed: int) -> Proof:
    """Train on a toy project undisturbed, by the command of the stage, and beside it over many lives; compare.

    Args:
        learner: its name.
        scratch: a folder for both projects.
        seed: draws when to kill.

    Raises:
        SketchstackError: one of the two failed; with what it wrote.
    """
    begun = time.monotonic()
    commands = {
        "undisturbed": ["pipeline.stages.train", learner, str(HELD_OUT)],
        "killed": ["tests.lives", learner, str(seed)],
    }
    for name in commands:
        write_project(scratch / name, learner, EPOCHS)
    running = {name: start(command, scratch / name) for name, command in commands.items()}
    try:
        written = {name: process.communicate(timeout=LIMIT) for name, process in running.items()}
    finally:
        for process in running.values():
            process.kill()
    for name, process in running.items():
        if process.returncode:
            raise SketchstackError(f"python -m {shlex.join(commands[name])} failed: {written[name][1][-3000:]}")
    told = json.loads(written["killed"][0].splitlines()[-1])
    lives = [Life(**life) for life in told["lives"]]
    one, other = (models(scratch / name) for name in commands)
    differing = sorted(path for path in one | other if one.get(path) != other.get(path))
    return Proof(learner, seed, lives, len(one), differing, told["other"], time.monotonic() - begun)


def start(command: Sequence[str], home: Path) -> subprocess.Popen[str]:
    """Start `python -m` in a project."""
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=home, env={**os.environ, **ENVIRONMENT}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def models(home: Path) -> dict[str, bytes]:
    """The bytes of all files below models/ of a project, by their path."""
    folder = home / places(home).base.parent
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def show(proofs: list[Proof]) -> None:
    """Print the table."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    table = Table(title="Training that is killed and started again", title_justify="left", title_style="bold")
    for column in ("learner", "kill -9", "torn files", "lives: from step → to step", "same bytes", "s"):
        table.add_column(column, justify="right" if column in ("kill -9", "torn files", "s") else "left")
    for proof in proofs:
        lives = ", ".join(
            f"{life.began} → {'end' if life.step is None else life.step}"
            for life in proof.lives
            if life.began is not None
        )
        same = f"{proof.files} of {proof.files}" if proof.held else f"NO: {proof.differing or proof.unfinished}"
        torn = len(proof.lives) - 1 - proof.kills
        table.add_row(proof.learner, str(proof.kills), str(torn), lives, same, f"{proof.seconds:.0f}")
    console.print(table)
    console.print(f"{hardware()}.", style="dim")


def record(proofs: list[Proof], folder: Path = RESULTS) -> Path:
    """Write what was found, life by life, to <folder>/kills.json."""
    rows = [
        {"learner": proof.learner, "kills": proof.kills, "same_bytes": proof.held, **asdict(proof)}
        | {"lives": [life._asdict() for life in proof.lives], "seconds": round(proof.seconds, 1)}
        for proof in proofs
    ]
    found = {
        "benchmark": Path(__file__).stem,
        "title": "Training that is killed and started again",
        "command": "python -m bench.kills",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "rows": rows,
    }
    path = folder / "kills.json"
    with whole_file(path) as file:
        file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return path


@one_paragraph_errors
def main() -> None:
    """Kill every learner, or those that are named, and compare bytes; record it if it was every one."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("learners", nargs="*", help="by name (all)")
    parser.add_argument("--seed", type=int, help="draws the moments of death (a new one for each learner)")
    parser.add_argument("--scratch", type=Path, help="a folder with room for both runs (the system's)")
    asked = parser.parse_args()
    proofs = []
    with scratch_folder(asked.scratch) as scratch:
        for learner in asked.learners or available():
            seed = secrets.randbelow(2**32) if asked.seed is None else asked.seed
            proofs.append(prove(learner, scratch / learner, seed))
    show(proofs)
    if asked.learners:
        print("Not recorded: that takes every learner.")
    else:
        print(f"Recorded in {os.path.relpath(record(proofs))}.")
    if not all(proof.held for proof in proofs):
        raise SketchstackError("killed runs ended with other bytes than undisturbed ones.")


if __name__ == "__main__":
    main()
