"""Memory of the shuffle: once the training rows, and ten times as many."""

from __future__ import annotations

from pathlib import Path

from bench.competition import run_benchmark, run_shuffle, write_copies
from bench.shuffle import COPIES
from bench.tables import Bar, Measured, Row, arguments
from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.params import Params

GIGABYTE = 1000.0  # MB


def measure(params: Params, scratch: Path, runs: int, rows: int | None) -> Measured:
    """The peak memory of shuffling one copy and many, in turn, each in a process of its own."""
    homes = {copies: scratch / f"copies{copies}" for copies in (1, COPIES)}
    counts = {copies: write_copies(params, home, copies, rows and rows * copies) for copies, home in homes.items()}
    run_shuffle(homes[1])  # compiles the kernels, which takes memory too
    peaks: dict[int, list[float]] = {copies: [] for copies in homes}
    for _ in range(runs):
        for copies, home in homes.items():
            peaks[copies].append(run_shuffle(home).peak)
    return Measured(
        Path(__file__).stem,
        "Peak memory of the shuffle",
        [
            *(
                Row(f"{counts[copies]:,} rows", "MB", peaks[copies], bars=(Bar("ours", "<", GIGABYTE),))
                for copies in homes
            ),
            Row(f"{COPIES} times the rows against once", "MB", peaks[COPIES], peaks[1], bars=(Bar("ratio", "<", 1.2),)),
        ],
        [
            "The most that the process held at a time (VmHWM), libraries and the pages of mapped files included; the "
            "stage is one process. `reference` in the last line is the shuffle of the rows once."
        ],
    )


@one_paragraph_errors
def main() -> None:
    """Measure the shuffle's memory."""
    run_benchmark(measure, arguments(main.__doc__).parse_args())


if __name__ == "__main__":
    main()
