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
    parser.add_argument("--fold", type=int, default=0, metavar="K", help="the fold to leave alone; 0 if not given")
    parser.add_argument("--trials", type=count, default=30, metavar="N", help="of the study in all; 30 if not given")
    parser.add_argument("--seconds", type=float, metavar="S", help="time for this run; the same command goes on")
    parser.add_argument("--rows", type=count, metavar="N", help="training rows of a trial; all if not given")
    parser.add_argument("--epochs", type=count, metavar="N", help="of a trial; as in params.yaml if not given")
    parser.add_argument("--fresh", action="store_true", help="remove the study that is there, and start again")
    given = parser.parse_args(arguments)
    learner_class(given.learner)  # tells of a name that is no learner better than the params can
    params = load_params()
    epochs = given.epochs or params.learner(given.learner).training.epochs
    job = Job(params, given.learner, given.fold, given.rows, epochs)
    tune(job, trials=given.trials, seconds=given.seconds, fresh=given.fresh)


if __name__ == "__main__":
    main()
