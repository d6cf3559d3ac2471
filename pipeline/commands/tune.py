"""Search for better params of a learner (`make tune`)."""

from __future__ import annotations

from pipeline.foundation.commandline import Parser, count
from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.params import load_params
from pipeline.learners._base import learner_class
from pipeline.training.study import Job, tune


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Search for better params of a learner, by validation rows inside the training folds; prints a block to paste."""
    parser = Parser("tune", main.__doc__, "sketchstack tune lstm --trials 40")
    parser.add_argument("learner", help="a file of pipeline/learners")
    parser.add_argument("--fold", type=int, default=0, metavar="K", help="the fold to leave out; default 0")
    parser.add_argument("--trials", type=count, default=30, metavar="N", help="trials of the study in all; default 30")
    parser.add_argument("--seconds", type=float, metavar="S", help="time limit of this run; the same command resumes")
    parser.add_argument("--rows", type=count, metavar="N", help="training rows of a trial; default all")
    parser.add_argument("--epochs", type=count, metavar="N", help="of a trial; default as in params.yaml")
    parser.add_argument("--fresh", action="store_true", help="remove the existing study and start again")
    given = parser.parse_args(arguments)
    learner_class(given.learner)  # its error for an unknown name is clearer than that of the params
    params = load_params()
    epochs = given.epochs or params.learner(given.learner).training.epochs
    job = Job(params, given.learner, given.fold, given.rows, epochs)
    tune(job, trials=given.trials, seconds=given.seconds, fresh=given.fresh)


if __name__ == "__main__":
    main()
