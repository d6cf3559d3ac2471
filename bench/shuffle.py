"""Shuffle: ten copies of the training rows, rows a second against the published way."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyarrow import csv

from bench import reference
from bench.competition import run_benchmark, run_shuffle, write_copies
from bench.tables import Bar, Measured, Row, arguments, in_turn, rate
from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.params import Params

COPIES = 10
REFERENCE = 100_000  # rows that a run of the published way reads


def measure(params: Params, scratch: Path, runs: int, rows: int | None, reference_rows: int) -> Measured:
    """Shuffle, ours and the published way in turn, and read the CSVs as fast as they can be read."""
    ours, published, threads = scratch / "ours", scratch / "published", params.threads
    count = write_copies(params, ours, COPIES, rows)
    published_count = write_copies(params, published, COPIES, reference_rows)
    run_shuffle(ours)  # compiles the kernels, and brings the files into memory

    def limit() -> int:
        read_and_drop(ours / "data" / params.data.train, threads)
        return count

    def reference_of(shuffle: Callable[[Path, Path], None]) -> float:
        place = scratch / "shuffled"
        place.mkdir()

        def work() -> int:
            shuffle(published / "data" / params.data.train, place)
            return published_count

        found = rate(work)
        shutil.rmtree(place)
        return found

    found = in_turn(
        runs,
        ours=lambda: run_shuffle(ours),
        limit=lambda: rate(limit),
        single=lambda: reference_of(reference.shuffle_csvs),
        several=lambda: reference_of(functools.partial(reference.shuffle_csvs_in_processes, processes=threads)),
    )
    cold = run_shuffle(ours, cache=scratch / "cache")
    stage = [count / each.seconds for each in found["ours"]]
    whole = [count / each.whole for each in found["ours"]]
    return Measured(
        Path(__file__).stem,
        f"Shuffle of {count:,} rows ({COPIES} copies of the training rows)",
        [
            Row("shuffle", "rows/s", stage, found["single"], found["limit"], (Bar("ratio", "≥", 100),)),
            Row(f"against the published way in {threads} processes", "rows/s", stage, found["several"]),
            Row("with the start of the process and its imports", "rows/s", whole),
            Row("kernels not compiled yet (one run)", "rows/s", [count / cold.seconds]),
        ],
        [
            f"Reference: pandas, {reference.NCSVS} CSVs, gzip, one process, over {published_count:,} rows: {COPIES} "
            "copies of the first words' drawings. Its rate follows from the rows of a word, not from the words.",
            f"Limit: pyarrow.csv reads the same CSVs on {threads} threads and drops them. All files lie in the page "
            "cache. Ours reads the test file too, whose rows are not counted.",
        ],
    )


def read_and_drop(train: Path, threads: int) -> None:
    """Read each CSV of a folder with pyarrow, a file a thread, and keep nothing."""
    options = csv.ReadOptions(use_threads=False)

    def read(path: Path) -> None:
        csv.read_csv(path, options)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, sorted(train.glob("*.csv"))))


@one_paragraph_errors
def main() -> None:
    """Measure the shuffle."""
    parser = arguments(main.__doc__)
    parser.add_argument(
        "--reference-rows", type=int, default=REFERENCE, help="that the published way reads (%(default)s)"
    )
    asked = parser.parse_args()
    run_benchmark(measure, asked, reference_rows=asked.reference_rows)


if __name__ == "__main__":
    main()
