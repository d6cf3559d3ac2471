"""Time of a training process from its imports to its first batch."""

from __future__ import annotations

from pathlib import Path

from bench.competition import run_benchmark, run_child, run_shuffle, write_copies
from bench.first_batch_once import LEARNER
from bench.tables import Bar, Measured, Row, arguments
from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.params import Params


def measure(params: Params, scratch: Path, runs: int, rows: int | None) -> Measured:
    """Start one process per run, and one more without compiled kernels."""
    home = scratch / "ours"
    count = write_copies(params, home, 1, rows)
    run_shuffle(home)
    run_child("bench.first_batch_once", home)  # compiles the kernels
    warm = [run_child("bench.first_batch_once", home)["seconds"] for _ in range(runs)]
    cold = run_child("bench.first_batch_once", home, cache=scratch / "cache")["seconds"]
    return Measured(
        Path(__file__).stem,
        f"First batch of learners.{LEARNER}, two folds of {count:,} rows",
        [
            Row("after the imports", "s", warm, bars=(Bar("ours", "<", 1.0),)),
            Row("kernels not compiled yet (one run)", "s", [cold]),
        ],
        [
            "From reading params.yaml: the learner's params are checked, every byte of the shards is compared with its "
            "hash, the batch is made. A new process a run; the shards lie in the page cache."
        ],
    )


@one_paragraph_errors
def main() -> None:
    """Measure the start of a training process."""
    run_benchmark(measure, arguments(main.__doc__).parse_args())


if __name__ == "__main__":
    main()
