"""The report of the current run: its time, its size, and faults that a browser finds."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from bench.browser import DESK, PHONE, checked
from bench.tables import RESULTS, Bar, Measured, Row, record, show
from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.params import load_params
from pipeline.foundation.places import places

LONGEST = {"synthetic": 60.0}  # seconds; other profiles have OTHERS
OTHERS, LARGEST = 300.0, 15.0  # seconds, MB


def measure(profile: str, runs: int) -> Measured:
    """Write the report of the run in the working directory as a user does, and open it in Chromium."""
    seconds = []
    for _ in range(runs):
        start = time.monotonic()
        subprocess.run([sys.executable, "-m", "pipeline.commands.report"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.monotonic() - start)
    findings = checked(places().reports / "report.html")
    none = (Bar("ours", "≤", 0),)
    rows = [
        Row("report of the run", "s", seconds, bars=(Bar("ours", "≤", LONGEST.get(profile, OTHERS)),)),
        Row("size", "MB", [(places().reports / "report.html").stat().st_size / 1e6], bars=(Bar("ours", "≤", LARGEST),)),
        *(Row(f"wrong in the browser: {kind}", "", [len(said)], bars=none) for kind, said in vars(findings).items()),
    ]
    note = (
        f"Seconds with Python's start. Chromium, from disk, without a network: {DESK} pixels wide and light, {PHONE} "
        "and dark; accessibility by axe-core, WCAG 2.1 A and AA and its best practices."
    )
    return Measured("report", f"The report of the {profile} profile", rows, [note, *findings.all()], profile)


@one_paragraph_errors
def main() -> None:
    """Measure the report of the run in the working directory."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--runs", type=int, default=3, help="(%(default)s)")
    asked = parser.parse_args()
    measured = measure(load_params().profile, asked.runs)
    show(measured)
    print(f"Recorded in {record(measured, sys.argv[1:], RESULTS)}.")


if __name__ == "__main__":
    main()
