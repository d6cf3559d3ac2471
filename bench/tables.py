"""What a benchmark measured, beside what it should reach: on the screen as a table, in results/ as JSON."""

from __future__ import annotations

import argparse
import json
import operator
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rich.console import Console
from rich.table import Table

from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.environment import processor, versions

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
RUNS = 5  # of everything that is timed; the median counts
WIDTH = 140  # of a table that goes to a file
LIBRARIES = (
    "joblib",
    "keras",
    "numba",
    "numpy",
    "opencv-python-headless",
    "pandas",
    "pyarrow",
    "tensorflow-cpu",
    "torch",
)
SIGNS = {"≥": operator.ge, "≤": operator.le, "<": operator.lt}
Figure = Literal["ours", "ratio", "share"]


class Bar(NamedTuple):
    """What a figure of a row should reach.

    Attributes:
        figure: `ours`, its `ratio` to the reference, or its `share` of the limit.
        sign: `≥`, `≤` or `<`.
        value: in the unit of the row for `ours`, otherwise a number (0.9 of the limit).
    """

    figure: Figure
    sign: str
    value: float


@dataclass(frozen=True)
class Row:
    """One line of a table. Of each list of single runs the median counts.

    Attributes:
        what: what was measured.
        unit: of ours, the reference and the limit.
        ours: this project.
        reference: the published way.
        limit: what the machine allows.
        bars: what should be reached; none for a figure that stands beside.
        paired: each run of ours was measured beside that of the reference in the same place: their ratio is the median
            of the pairs' ratios, so that a machine whose speed changes from pair to pair does not change it.
    """

    what: str
    unit: str
    ours: Sequence[float]
    reference: Sequence[float] = ()
    limit: Sequence[float] = ()
    bars: tuple[Bar, ...] = ()
    paired: bool = False

    def figure(self, name: Figure) -> float | None:
        """The median of ours, its ratio to the reference or its share of the limit; None where there is none."""
        if name == "ratio" and self.paired:
            return statistics.median(map(operator.truediv, self.ours, self.reference))
        against = {"ours": [1.0], "ratio": self.reference, "share": self.limit}[name]
        return statistics.median(self.ours) / statistics.median(against) if against else None

    def met(self, bar: Bar) -> bool:
        """Whether a bar is reached."""
        found = self.figure(bar.figure)
        return found is not None and SIGNS[bar.sign](found, bar.value)


class Measured(NamedTuple):
    """What one benchmark found.

    Attributes:
        name: of the benchmark's file.
        title: over the table.
        rows: its lines.
        notes: what one must know to read the figures.
        profile: of the run that was measured, where results of several profiles stand beside each other.
    """

    name: str
    title: str
    rows: list[Row]
    notes: list[str]
    profile: str = ""


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The command line that all benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--runs", type=int, default=RUNS, help="of everything that is timed (%(default)s)")
    parser.add_argument("--rows", type=int, help="training rows to read, for a quick look (all)")
    parser.add_argument("--scratch", type=Path, help="a folder with a gigabyte to spare (the system's)")
    return parser


def rate(work: Callable[[], int]) -> float:
    """Things a second of a call that returns how many it made, begun once all that was written is on disk."""
    os.sync()
    begun = time.perf_counter()
    made = work()
    return made / (time.perf_counter() - begun)


def in_turn(runs: int, **measures: Callable[[], Any]) -> dict[str, list[Any]]:
    """Measure one after the other, round by round, so that a slow minute of the machine hits all alike."""
    found: dict[str, list[Any]] = {name: [] for name in measures}
    for _ in range(runs):
        for name, measure in measures.items():
            found[name].append(measure())
    return found


def show(measured: Measured) -> None:
    """Print the table, what the bars say, and the machine."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    table = Table(title=measured.title, title_justify="left", title_style="bold")
    for column in ("", "unit", "ours", "reference", "ratio", "limit", "share", "bar", ""):
        table.add_column(column, justify="left" if column in ("", "bar", "unit") else "right")
    for row in measured.rows:
        medians = [number(statistics.median(runs)) if runs else "" for runs in (row.ours, row.reference, row.limit)]
        ratio, share = row.figure("ratio"), row.figure("share")
        table.add_row(
            row.what, row.unit, *medians[:2],
            f"{number(ratio)}×" if ratio is not None else "", medians[2],
            f"{share:.0%}" if share is not None else "",
            "\n".join(words_of(bar, row.unit) for bar in row.bars),
            "\n".join("met" if row.met(bar) else "NOT met" for bar in row.bars),
        )  # fmt: skip
    console.print(table)
    counts = " or ".join(map(str, sorted({len(row.ours) for row in measured.rows})))
    console.print(f"Medians of {counts}. {hardware()}.", style="dim")
    for note in measured.notes:
        console.print(note, style="dim")


def publish(measured: Measured, asked: argparse.Namespace, folder: Path = RESULTS) -> None:
    """Show what was measured; record it unless it was a quick look."""
    show(measured)
    if asked.runs < RUNS or asked.rows is not None:
        print(f"Not recorded: that takes {RUNS} runs over all rows.")
    else:
        print(f"Recorded in {os.path.relpath(record(measured, sys.argv[1:], folder))}.")


def words_of(bar: Bar, unit: str) -> str:
    """A bar in words."""
    written = {
        "ours": f"{number(bar.value)} {unit}",
        "ratio": f"{number(bar.value)}×",
        "share": f"{bar.value:.0%} of the limit",
    }
    return f"{bar.sign} {written[bar.figure]}"


def number(value: float) -> str:
    """Three digits that count; whole numbers in full."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def mean_and_spread(values: Sequence[float], form: str) -> str:
    """Mean ± standard deviation; the mean alone of one value."""
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{form}}{spread}"


def hardware() -> str:
    """The machine in a line."""
    found = machine()
    return f"{found['cpu']}, {found['cores']} cores, {found['memory_gb']} GB"


def record(measured: Measured, command: Sequence[str], folder: Path) -> Path:
    """Write what was measured, every single run of it, to <folder>/<name>.json or <name>_<profile>.json."""
    found = {
        "benchmark": measured.name,
        "title": measured.title,
        "command": shlex.join(["python", "-m", f"bench.{measured.name}", *command]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "versions": {"python": platform.python_version()} | versions(LIBRARIES),
        "rows": [_row(row) for row in measured.rows],
        "notes": measured.notes,
    }
    path = folder / f"{'_'.join(filter(None, (measured.name, measured.profile)))}.json"
    with whole_file(path) as file:
        file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _row(row: Row) -> dict[str, Any]:
    """A row for JSON, numbers with six digits."""

    def runs(values: Sequence[float]) -> dict[str, Any] | None:
        return {"median": _round(statistics.median(values)), "runs": [*map(_round, values)]} if values else None

    figures = {name: _round(found) for name in ("ratio", "share") if (found := row.figure(name)) is not None}
    bars = [{"bar": words_of(bar, row.unit), "met": row.met(bar)} for bar in row.bars]
    three = {"ours": runs(row.ours), "reference": runs(row.reference), "limit": runs(row.limit)}
    return {"what": row.what, "unit": row.unit, **three, **figures, "bars": bars}


def _round(value: float) -> float:
    return float(f"{value:.6g}")


def commit() -> str | None:
    """The commit of the code, with `-dirty` where other files than results differ from it; None outside a clone."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    dirty = "-dirty" if git("status", "--porcelain", "--", ".", ":!bench/results") else ""
    commit = git("rev-parse", "--short=12", "HEAD")
    return f"{commit}{dirty}" if commit else None


def machine() -> dict[str, Any]:
    """Its processor, cores, memory and system."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return {
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory),
        "system": platform.platform(terse=True),
    }
