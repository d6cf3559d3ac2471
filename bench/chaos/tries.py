"""A try: something is done to a small run, and it holds or fails."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.chaos.home import Done

TRACEBACK = re.compile(r"Traceback \(most recent call last\)|^\w[\w.]*Error: ", re.MULTILINE)


@dataclass(frozen=True)
class Try:
    """What became of one try.

    Attributes:
        kind: kills, commands, disks, damage, environments, kaggle.
        name: what was done, in words.
        faults: what did not hold; none if all did.
        seconds: it took.
    """

    kind: str
    name: str
    faults: tuple[str, ...]
    seconds: float

    @property
    def held(self) -> bool:
        """Whether nothing was lost, and everything was said."""
        return not self.faults


@dataclass(frozen=True)
class Plan:
    """A try that is to be made.

    Attributes:
        kind: as of `Try`.
        name: as of `Try`.
        run: takes an empty folder to work in, gives the faults.
    """

    kind: str
    name: str
    run: Callable[[Path], list[str]]


def ends_well_or_in_words(done: Done, *names: str) -> list[str]:
    """Faults of a command that may fail: a traceback, a signal, or a paragraph that does not name the cause.

    Args:
        done: the command.
        names: one of these stands in what a failed command says; none asks for nothing.
    """
    faults = []
    if TRACEBACK.search(done.text):
        faults.append(f"a traceback: {done.text[-600:]}")
    if done.code < 0:
        faults.append(f"ended by signal {-done.code}: {done.text[-300:]}")
    if done.code and names and not any(name in done.words for name in names):
        faults.append(f"does not say any of {', '.join(names)}: {done.words[-600:]}")
    if done.code and not done.words:
        faults.append(f"exit code {done.code} without a word")
    return faults
