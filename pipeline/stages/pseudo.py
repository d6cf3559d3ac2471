"""Stage `pseudo`: fit a learner again with pseudo-labelled test drawings; predict the held-out fold and test set."""

from __future__ import annotations

import argparse

from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.memory import watched
from pipeline.foundation.params import load_params
from pipeline.training.fitting import less_memory
from pipeline.training.pseudo import pseudo


@one_paragraph_errors
def main() -> None:
    """Train one learner again without one fold, with test drawings under pseudo-labels of a teacher."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.stages.pseudo", description=main.__doc__)
    parser.add_argument("learner", help="one that pseudo.learners of params.yaml names")
    parser.add_argument("held_out", type=int, help="the fold to leave out and predict")
    arguments = parser.parse_args()
    name, held_out = arguments.learner, arguments.held_out
    with watched(f"pseudo {name} {held_out}", less_memory(name)):
        pseudo(load_params(), name, held_out)


if __name__ == "__main__":
    main()
