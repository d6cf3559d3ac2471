"""Stage `train`: train one learner without one fold, then predict that fold and the test set."""

from __future__ import annotations

import argparse

from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.memory import watched
from pipeline.foundation.params import Params, load_params
from pipeline.training.fitting import check_stackable, fit_and_predict, less_memory, open_folds, others, ready_learner


def train(params: Params, name: str, held_out: int) -> None:
    """Fit learner `name` on all folds except `held_out`; cache its predictions in models/<profile>/base/<name>/."""
    with watched(f"train {name} {held_out}", less_memory(name)):
        learner = ready_learner(params, name, held_out)
        check_stackable(params)
        fit_and_predict(learner, open_folds(others(params.folds, held_out)), params, name, held_out)


@one_paragraph_errors
def main() -> None:
    """Train one learner without one fold, then predict that fold and the test set."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.stages.train", description=main.__doc__)
    parser.add_argument("learner", help="a file of pipeline/learners")
    parser.add_argument("held_out", type=int, help="the fold to leave out and predict")
    arguments = parser.parse_args()
    train(load_params(), arguments.learner, arguments.held_out)


if __name__ == "__main__":
    main()
