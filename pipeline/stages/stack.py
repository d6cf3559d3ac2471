"""Stage `stack`: cached predictions of the base learners → the SuperLearner, its predictions and its scores."""

from __future__ import annotations

import argparse

from rich.console import Console

from pipeline.drawings.words import load_words
from pipeline.foundation.artefacts import whole_folder
from pipeline.foundation.contents import seal
from pipeline.foundation.disk import check_space
from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.logs import note
from pipeline.foundation.memory import watched
from pipeline.foundation.params import Params, load_params
from pipeline.foundation.places import places
from pipeline.predictions.cache import read_learner
from pipeline.stacking import leaks
from pipeline.stacking.mlens_parts import cached
from pipeline.stacking.outputs import write_scores
from pipeline.stacking.rows import check_rows, read_rows
from pipeline.stacking.scoreboard import (
    SUPER,
    print_calibration,
    print_table,
    score_table,
    weights_by_name,
)
from pipeline.stacking.super_learner import Stack, limit_threads, load_metalearners

TOO_LARGE = "make room there, or lower oof.max_rows or name fewer stack.metalearners in params.yaml"
LESS_MEMORY = "lower oof.max_rows or stack.dense_rows in params.yaml, or name fewer stack.metalearners"


def stack(params: Params) -> None:
    """Stack the base learners; write the SuperLearner's folder, and the seconds that it took to logs/."""
    words = load_words(places().folds)
    limit_threads(params.threads)
    metalearners = load_metalearners(params, len(words))
    rows = read_rows(params)
    check_rows(rows, words)
    names = sorted(params.base_learners)  # mlens's order of columns
    learners = [read_learner(name, params, words) for name in names]
    digests = leaks.check_folds(params.folds)
    for learner in learners:
        leaks.check_learner(learner, rows, words, digests)
    with whole_folder(places().meta) as folder:
        stacking = Stack(
            [cached(name, params) for name in names],
            metalearners,
            rows,
            len(words),
            folder,
            calibrate=params.stack.calibrate,
            dense=len(rows) <= params.stack.dense_rows,
        )
        check_space(places().meta, stacking.bytes_needed, "stacking", TOO_LARGE)
        stacked = stacking.stacked()
        table = score_table(learners, stacked.oof, rows)
        write_scores(folder, stacked, rows, words, table, names)
        seal(folder)
    print_table(table, weights_by_name(stacked.models, names)[SUPER], Console(width=120))
    print_calibration(stacked.calibration, Console(width=120))
    note(places().logs / "stack" / "seconds.json", stacked.seconds)


@one_paragraph_errors
def main() -> None:
    """Stack the base learners that params.yaml names and write models/<profile>/meta."""
    argparse.ArgumentParser(
        description="Stack the cached predictions of the learners that params.yaml names."
    ).parse_args()
    with watched("stack", LESS_MEMORY):
        stack(load_params())


if __name__ == "__main__":
    main()
