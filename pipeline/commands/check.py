"""Check params.yaml against the learners and meta-learners that it names, before hours of training.

sketchstack check
"""

from __future__ import annotations

from pipeline.foundation.commandline import Parser
from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.params import check_data, load_params
from pipeline.learners._base import load_learner
from pipeline.stacking.metalearners import load_metalearner


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Check params.yaml against the learners and meta-learners that it names."""
    Parser("check", main.__doc__, "sketchstack check").parse_args(arguments)
    params = load_params()
    check_data(params)
    for name in dict.fromkeys([*params.ensemble, *params.pseudo.learners]):
        learner = load_learner(name, params.learner(name), num_words=2, seed=(params.seed,), threads=params.threads)
        learner.check(params.devices)
    for name in params.stack.metalearners:
        load_metalearner(name, 2, params.stack.params[name])


if __name__ == "__main__":
    main()
