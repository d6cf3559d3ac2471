"""A Kaggle that is slow, dies or answers nonsense, and a sender that is killed: nothing is sent twice, nothing lost."""

from __future__ import annotations

import functools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.chaos.home import Done, copied, started
from bench.chaos.tries import Plan, ends_well_or_in_words
from tests.kaggle_stand_in import MODES, KaggleStandIn

# The command in a process of its own, with short waits; nothing else of it is changed.
SEND = """
import sys
from pipeline.submissions import kaggle, send
kaggle.POLL_SECONDS, kaggle.PATIENCE_SECONDS, kaggle.ASK_SECONDS, kaggle.SUBMIT_SECONDS = 0.05, 4.0, 10.0, 10.0
kaggle.BACKOFF_SECONDS, kaggle.BACKOFF_LIMIT_SECONDS, send.LISTING_SECONDS = 0.05, 0.3, 2.0
sys.argv = ["sketchstack"]
from pipeline.commands.submit import main
main(["super_learner"])
"""
ARRIVES = {"works", "slow", "dies_after"}  # modes of an upload that Kaggle has in the end
LATEST = 3.0  # seconds after a start until which a sender is killed
TIMES = 4  # that a sender is killed in one try


def _send(home: Path, stand_in: KaggleStandIn) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(stand_in.folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    secrets = {"KAGGLE_USERNAME": "somebody", "KAGGLE_KEY": "s3cr3t"}
    return started(home, [sys.executable, "-c", SEND], {"PATH": path, **secrets})


def _ended(process: subprocess.Popen[str]) -> Done:
    try:
        text = process.communicate(timeout=120)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        text = process.communicate()[0] + "\nit hung"
    return Done(process.returncode, text, 0.0)


def misbehaving(project: Path, verb: str, modes: Sequence[str], folder: Path) -> list[str]:
    """Let Kaggle misbehave on the first calls of a verb, send until it works, and count what Kaggle has."""
    home, stand_in = copied(project, folder / "home"), KaggleStandIn(folder / "bin", pending=1, seconds=0.5)
    stand_in.plan(**{verb: [*modes, "works"]})
    faults: list[str] = []
    for _ in range(len(modes) + 6):
        done = _ended(_send(home, stand_in))
        faults += ends_well_or_in_words(done)
        faults += ["a credential is told"] * ("s3cr3t" in done.text)
        if not done.code:
            break
    return faults + _counted(home, stand_in, done)


def killed(project: Path, seed: int, folder: Path) -> list[str]:
    """Kill the sender at random moments, before, in and after a slow upload; start it again; count what Kaggle has."""
    chance, home = random.Random(seed), copied(project, folder / "home")
    stand_in = KaggleStandIn(folder / "bin", pending=2, hidden=chance.randrange(2), seconds=1.0)
    stand_in.plan(submit=["slow"])
    for _ in range(TIMES):
        process = _send(home, stand_in)
        time.sleep(chance.uniform(0.05, LATEST))
        kill = os.killpg if chance.random() < 0.4 else os.kill  # else the upload lives on
        if process.poll() is None:
            kill(process.pid, chance.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)))
        process.wait()
        if process.stdout:
            process.stdout.close()
    for _ in range(6):  # a run that finds the upload of a dead one alive refuses, by name
        done = _ended(_send(home, stand_in))
        if not done.code:
            break
        time.sleep(1)
    return ends_well_or_in_words(done) + _counted(home, stand_in, done)


def _counted(home: Path, stand_in: KaggleStandIn, done: Done) -> list[str]:
    faults = []
    if done.code:
        faults.append(f"it never works: {done.words[-600:]}")
    if len(stand_in.sent) != 1:
        faults.append(f"Kaggle has it {len(stand_in.sent)} times")
    lines = [line for line in (home / "ledger.csv").read_text().splitlines() if line.startswith("doodles,")]
    if len(lines) != 1 or ",0.91234," not in lines[0]:
        faults.append(f"the ledger has {lines}")
    return faults


def plans(project: Path, tries: int, seed: int) -> Iterator[Plan]:
    """Half of the tries kill the sender, half let Kaggle misbehave, a mode of a verb after the other."""
    chance = random.Random(seed)
    modes = [
        (verb, mode) for verb in ("submit", "submissions") for mode in MODES if mode not in ("works", "many_pages")
    ]
    chance.shuffle(modes)
    for number in range(tries):
        if number % 2:
            verb, mode = modes[number // 2 % len(modes)]
            times = chance.randrange(1, 3) if mode not in ARRIVES else 1
            run = functools.partial(misbehaving, project, verb, [mode] * times)
            yield Plan("kaggle", f"{verb} answers {mode} {times} times", run)
        else:
            run_killed = functools.partial(killed, project, seed + number)
            yield Plan("kaggle", f"the sender is killed {TIMES} times, seed {seed + number}", run_killed)
