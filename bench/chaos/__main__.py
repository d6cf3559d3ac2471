"""`make chaos`: everything that may happen to a small run, tried; the table of what held goes to results/chaos.md."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from bench.chaos import commands, damage, disks, environments, kaggle, kills
from bench.chaos.home import finished_project
from bench.chaos.tries import Plan, Try
from bench.competition import scratch_folder
from bench.tables import RESULTS, WIDTH, commit, hardware, machine
from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.errors import SketchstackError, one_paragraph_errors

KINDS = {
    "kills": kills,
    "commands": commands,
    "disks": disks,
    "damage": damage,
    "environments": environments,
    "kaggle": kaggle,
}
TRIES = {
    "kills": 204,
    "commands": 18,
    "disks": 50,
    "damage": 90,
    "environments": 40,
    "kaggle": 30,
}  # an hour on two cores


def planned(project: Path, kinds: Sequence[str], share: float, seed: int) -> Iterator[Plan]:
    """The tries of some kinds: a share of all, at least one of each."""
    for kind in kinds:
        yield from KINDS[kind].plans(project, max(1, round(TRIES[kind] * share)), seed)


def tried(plan: Plan, scratch: Path) -> Try:
    """Make a try in a folder of its own."""
    begun = time.monotonic()
    with TemporaryDirectory(dir=scratch, prefix="try-", ignore_cleanup_errors=True) as folder:
        try:
            faults = plan.run(Path(folder))
        except OSError as error:  # of the try itself: it cannot say whether anything held
            faults = [f"the try could not be made: {error}"]
    return Try(plan.kind, plan.name, tuple(faults), time.monotonic() - begun)


def chaos(scratch: Path, kinds: Sequence[str], share: float, seed: int, only: str = "", jobs: int = 1) -> list[Try]:
    """Make a finished run and try everything on it, `jobs` tries at a time; each is told as it ends."""
    project, found = scratch / "project", []
    print(f"an undisturbed run takes {finished_project(project):.0f} s", flush=True)
    plans = [plan for plan in planned(project, kinds, share, seed) if re.search(only, plan.name)]
    with ThreadPoolExecutor(jobs) as pool:
        for done in pool.map(lambda plan: tried(plan, scratch), plans):
            tell(done)
            found.append(done)
    return found


def tell(done: Try) -> None:
    """Print a line for a try, and one for each of its faults."""
    print(f"{done.seconds:6.1f} s  {'held  ' if done.held else 'FAILED'}  {done.kind}: {done.name}", flush=True)
    for fault in done.faults:
        print(f"          {fault}", flush=True)


def summary(tries: Sequence[Try]) -> list[tuple[str, int, int, int, float]]:
    """Kind, tries, held, failed and minutes; a run that is killed counts its kills."""
    rows = []
    for kind, group in groupby(sorted(tries, key=lambda each: each.kind), key=lambda each: each.kind):
        of_kind = list(group)
        each = kills.A_LIFE if kind == "kills" else 1
        held = sum(one.held for one in of_kind)
        minutes = sum(one.seconds for one in of_kind) / 60
        rows.append((kind, len(of_kind) * each, held * each, (len(of_kind) - held) * each, minutes))
    return rows


def show(tries: Sequence[Try]) -> None:
    """Print the table."""
    table = Table(title="What a small run survives", title_justify="left", title_style="bold")
    for column in ("kind", "tries", "held", "failed", "minutes"):
        table.add_column(column, justify="left" if column == "kind" else "right")
    for kind, *numbers, minutes in summary(tries):
        table.add_row(kind, *map(str, numbers), f"{minutes:.1f}")
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(table)
    console.print(f"{hardware()}.", style="dim")


def record(tries: Sequence[Try], seed: int, share: float, folder: Path = RESULTS) -> Path:
    """Write every try to chaos.json and the table to chaos.md."""
    about = {
        "benchmark": "chaos",
        "command": f"python -m bench.chaos --seed {seed} --share {share:g}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "seed": seed,
        "share": share,
    }
    with whole_file(folder / "chaos.json") as file:
        rows = [{**asdict(each), "seconds": round(each.seconds, 1)} for each in tries]
        file.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    how = f"`python -m bench.chaos --seed {seed} --share {share:g}`, commit {about['commit']}. {hardware()}."
    lines = ["# What a small run survives", "", how, ""]
    lines += ["| kind | tries | held | failed | minutes |", "|---|--:|--:|--:|--:|"]
    for kind, *numbers, minutes in summary(tries):
        lines.append(f"| {kind} | {' | '.join(map(str, numbers))} | {minutes:.1f} |")
    for failed in (each for each in tries if not each.held):
        lines += ["", f"Failed: {failed.kind}, {failed.name}: {failed.faults[0][:300]}"]
    with whole_file(folder / "chaos.md") as file:
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "chaos.md"


@one_paragraph_errors
def main() -> None:
    """Try what a small run survives; a run of all kinds is recorded."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(KINDS)} (all)")
    parser.add_argument("--share", type=float, default=1.0, help="of the tries (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="draws moments, signals and files (%(default)s)")
    parser.add_argument("--only", default="", help="tries whose name matches this regular expression")
    parser.add_argument("--jobs", type=int, default=2, help="tries at a time, each with one thread (%(default)s)")
    parser.add_argument("--scratch", type=Path, help="a folder with two gigabytes to spare (the system's)")
    asked = parser.parse_args()
    if unknown := set(asked.kinds) - set(KINDS):
        raise SketchstackError(f"there is no kind {sorted(unknown)[0]!r}; the kinds are {', '.join(KINDS)}.")
    kinds = asked.kinds or list(KINDS)
    with scratch_folder(asked.scratch) as scratch:
        tries = chaos(scratch, kinds, asked.share, asked.seed, asked.only, asked.jobs)
    show(tries)
    if kinds == list(KINDS) and not asked.only:
        print(f"Recorded in {os.path.relpath(record(tries, asked.seed, asked.share))}.")
    if failed := [each.name for each in tries if not each.held]:
        raise SketchstackError(f"{len(failed)} tries failed: {'; '.join(failed[:20])}.")


if __name__ == "__main__":
    main()
