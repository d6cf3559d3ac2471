"""Training batches: pictures against the published generator, pen movements against a copy of as many bytes."""

from __future__ import annotations

import ast
import functools
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench import reference
from bench.competition import run_benchmark, run_shuffle, write_copies
from bench.tables import Bar, Measured, Row, arguments, in_turn, rate
from pipeline.drawings.batches import Batches
from pipeline.drawings.encodings import Distortion, pen_movements, random_distortion, raster, set_threads
from pipeline.drawings.shards import Drawings, Shards, open_shards
from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.params import LearnerParams, Params
from pipeline.foundation.places import places

PICTURES, MOVEMENTS = "mobilenet", "lstm"  # the learners whose encoding and augmentation are measured
BATCH_SIZE = 512
REFERENCE = 20_000  # fewest drawings of a run of the published generator


def measure(params: Params, scratch: Path, runs: int, rows: int | None) -> Measured:
    """Alternate passes over all folds, with batches made in advance as for a learner, and the published generator."""
    set_threads(params.threads)
    home, published = scratch / "ours", scratch / "published"
    write_copies(params, home, 1, rows)
    run_shuffle(home)
    drawings = open_shards(sorted((home / places(home).folds).glob("fold*")))
    published.mkdir()
    reference.shuffle_csvs_in_processes(home / "data" / params.data.train, published, params.threads)
    pictures = Passes(drawings, raster, params.learner(PICTURES))
    movements = Passes(drawings, pen_movements, params.learner(MOVEMENTS))
    side = params.learner(PICTURES).encoding["side"]
    return Measured(
        Path(__file__).stem,
        f"Training batches of {pictures.size} drawings, {pictures.count:,} drawings a pass",
        [*_pictures(pictures, side, published, runs, params.threads), _movements(movements, runs)],
        [
            f"Ours: encoding and augmentation of learners.{PICTURES} (grey levels as bytes) and learners.{MOVEMENTS}, "
            f"on {params.threads} threads. Reference: grey levels as float32, no augmentation, chunks of "
            f"{reference.BATCH_SIZE} rows of gzipped CSVs, one process.",
            "Limit of the pictures: the encoder alone on batches whose rows are picked and whose distortions are drawn "
            "before. Limit of the pen movements: a copy of each batch to new memory.",
        ],
    )


class Passes:
    """Passes over drawings with the encoding and the augmentation of a learner.

    Args:
        drawings: all rows.
        encode: drawings, their distortion and the learner's keyword params → inputs.
        learner: its block of params.yaml.
    """

    def __init__(self, drawings: Shards, encode: Callable[..., Any], learner: LearnerParams) -> None:
        self.drawings, self.augmentation = drawings, learner.augmentation
        self.encode = functools.partial(encode, **learner.encoding)
        self.size = min(BATCH_SIZE, len(drawings))
        self.batches = Batches(drawings, self.encode, learner.augmentation, self.size, seed=(0,))
        self._starts = itertools.count(0, self.batches.steps_an_epoch)

    @property
    def count(self) -> int:
        """Number of drawings of a pass."""
        return self.batches.steps_an_epoch * self.size

    def made_ahead(self) -> int:
        """One more epoch as a learner gets it; returns the number of drawings."""
        start = next(self._starts)
        return sum(len(batch.labels) for batch in self.batches.steps(start, start + self.batches.steps_an_epoch))

    def picked(self) -> list[tuple[Drawings, Distortion]]:
        """The drawings of a pass in random order, batch by batch, not encoded yet."""
        rng = np.random.default_rng(0)
        rows = rng.permutation(len(self.drawings))[: self.count].reshape(-1, self.size)
        return [(self.drawings.take(batch), random_distortion(rng, self.size, self.augmentation)) for batch in rows]


def _pictures(passes: Passes, side: int, published: Path, runs: int, threads: int) -> list[Row]:
    """Pictures, ours and the published generator's, over gzipped CSVs of the same drawings."""
    num_words, picked = int(passes.drawings.word.max()) + 1, passes.picked()

    def alone() -> int:
        for drawings, distortion in picked:
            passes.encode(drawings, distortion)
        return passes.count

    def generator(parse: reference.Parse) -> int:
        count, batches = 0, reference.image_generator(published, side, num_words, parse)
        while count < REFERENCE:
            count += len(next(batches)[0])
        return count

    def processes() -> int:
        return sum(len(x) for x, _ in reference.images_in_processes(published, side, num_words, threads))

    alone()  # compiles the kernel
    processes()  # starts the processes
    found = in_turn(
        runs,
        ours=lambda: rate(passes.made_ahead),
        limit=lambda: rate(alone),
        single=lambda: rate(lambda: generator(json.loads)),
        several=lambda: rate(processes),
        older=lambda: rate(lambda: generator(ast.literal_eval)),
    )
    ours, bars = found["ours"], (Bar("ratio", "≥", 40), Bar("share", "≥", 0.9))
    return [
        Row(f"grey pictures of {side} px", "drawings/s", ours, found["single"], found["limit"], bars),
        Row(f"against the published way in {threads} processes", "drawings/s", ours, found["several"]),
        Row("against the published way, parsing with ast.literal_eval", "drawings/s", ours, found["older"]),
    ]


def _movements(passes: Passes, runs: int) -> Row:
    """Pen movements, and the speed of copying their bytes."""
    made = [passes.encode(*batch)[0] for batch in passes.picked()]

    def copied() -> int:
        return sum(len(batch.copy()) for batch in made)

    found = in_turn(runs, ours=lambda: rate(passes.made_ahead), limit=lambda: rate(copied))
    what = f"pen movements, {made[0].shape[1]} points"
    return Row(what, "drawings/s", found["ours"], limit=found["limit"], bars=(Bar("ours", "≥", 300_000),))


@one_paragraph_errors
def main() -> None:
    """Measure training batches."""
    run_benchmark(measure, arguments(main.__doc__).parse_args())


if __name__ == "__main__":
    main()
