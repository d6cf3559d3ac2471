"""Training of every learner: fed by its batches against one batch from memory, the way to the first step, memory."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from bench.competition import mini_params, run_child, run_shuffle, scratch_folder, write_copies
from bench.tables import Bar, Measured, Row, arguments, in_turn, publish, show
from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.params import Params
from pipeline.learners._base import available

PERCENT = "% of the time"


def measure(
    params: Params, scratch: Path, runs: int, rows: int | None, learners: Sequence[str] | None = None
) -> Measured:
    """Train each learner for some seconds, in turn, a new process a run.

    Args:
        params, scratch, runs, rows: as every benchmark.
        learners: some of them; all by default.
    """
    home, names = scratch / "ours", learners or available()
    count = write_copies(params, home, 1, rows)
    run_shuffle(home)
    found = in_turn(runs, **{name: functools.partial(run_learner, params, home, name) for name in names})
    gpus = sorted({run["gpu"] for name in names for run in found[name] if run["gpu"]})
    return Measured(
        Path(__file__).stem,
        f"Training on two folds of {count:,} rows, params of the {params.profile} profile",
        [row for name in names for row in rows_of(name, found[name])],
        [
            "Drawings/s of training steps in blocks, in turn: `ours` takes new batches as in training, `reference` "
            f"the same batch from memory every time (a GPU is sent it anew each step), with the same network. The "
            "ratio is the median of those of two blocks in turn. No batch lies ready where a block begins. "
            f"{params.threads} threads, {runs} runs, a new process each.",
            "The first step: from the start of the process, imports, reading of the folds and building of the network "
            "included; files lie in the page cache. Memory: the most that the process held at a time (VmHWM), "
            "libraries and the pages of mapped files included.",
            *(
                [
                    f"Where torch trains, it trains on a GPU: {', '.join(gpus)}. It waits while a step is done and "
                    "nothing of the next one has come, by the GPU's own clock."
                ]
                if gpus
                else []
            ),
        ],
    )


def run_learner(params: Params, home: Path, name: str) -> dict[str, Any]:
    """Train one learner in a process of its own; `first_step` in seconds since its start."""
    alone = params.model_copy(update={"ensemble": [name]})
    (home / "params.yaml").write_text(yaml.safe_dump(alone.model_dump()))
    begun = time.monotonic()  # one clock for all processes
    found: dict[str, Any] = run_child("bench.train_once", home)
    return found | {"first_step": found["first_step"] - begun}


def rows_of(name: str, runs: Sequence[dict[str, Any]]) -> list[Row]:
    """The lines of a learner."""
    waits = [100 * run["waits"] for run in runs if run["gpu"]]
    fed, again = ([rate for run in runs for rate in run[key]] for key in ("fed", "again"))
    first_step, peak = ([run[key] for run in runs] for key in ("first_step", "peak"))
    return [
        Row(name, "drawings/s", fed, again, paired=True, bars=(Bar("ratio", "≥", 0.95),)),
        *([Row(f"{name}: the GPU waits for data", PERCENT, waits, bars=(Bar("ours", "<", 5),))] if waits else []),
        Row(f"{name}: first step done after", "s", first_step),
        Row(f"{name}: peak memory", "MB", peak),
    ]


@one_paragraph_errors
def main() -> None:
    """Measure the training of every learner."""
    parser = arguments(main.__doc__)
    parser.add_argument("--learners", nargs="+", choices=available(), help="for a quick look at some (all)")
    asked = parser.parse_args()
    with scratch_folder(asked.scratch) as scratch:
        measured = measure(mini_params(), scratch, asked.runs, asked.rows, asked.learners)
    if asked.learners:
        show(measured)
        print("Not recorded: that takes all learners.")
    else:
        publish(measured, asked)


if __name__ == "__main__":
    main()
