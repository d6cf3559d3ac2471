"""Stage `stack`: cached predictions of the base learners → the SuperLearner, its predictions and its scores."""

from __future__ import annotations

import argparse

from rich.console import Console

from pipeline.drawings.words import load_words
from pipeline.foundation.artefacts import whole_folder
from pipeline.foundation.contents import seal
from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.logs import note
from pipeline.foundation.params import load_params
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


@one_paragraph_errors
def main() -> None:
    """Stack the base learners that params.yaml names and write models/<profile>/meta."""
    argparse.ArgumentParser(
        description="Stack the cached predictions of the learners that params.yaml names."
    ).parse_args()
    params, words = load_params(), load_words(places().folds)
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
        stacked = Stack(
            [cached(name, params) for name in names],
            metalearners,
            rows,
            len(words),
            folder,
            calibrate=params.stack.calibrate,
            dense=len(rows) <= params.stack.dense_rows,
        ).stacked()
        table = score_table(learners, stacked.oof, rows)
        write_scores(folder, stacked, rows, words, table, names)
        seal(folder)
    print_table(table, weights_by_name(stacked.models, names)[SUPER], Console(width=120))
    print_calibration(stacked.calibration, Console(width=120))
    note(places().logs / "stack" / "seconds.json", stacked.seconds)


if __name__ == "__main__":
    main()
