"""Pack the trained ensemble into one file that predicts and serves without torch, TensorFlow or this run."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from pipeline.foundation.commandline import Parser
from pipeline.foundation.disk import size
from pipeline.foundation.errors import SketchstackError, one_paragraph_errors
from pipeline.foundation.params import load_params
from pipeline.foundation.progress import progress_bar
from pipeline.serving.pack import pack
from pipeline.serving.packed import Weights
from pipeline.stacking.combination import SUPER


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Pack the trained ensemble into one file for `predict` and `serve`."""
    parser = Parser("pack", main.__doc__, "sketchstack pack champion.zip", "sketchstack pack lstm.zip --model lstm")
    parser.add_argument("out", type=Path, help="the file to write, ending in .zip")
    parser.add_argument("--model", default=SUPER, help="a base learner, a meta-learner or (default) %(default)s")
    parser.add_argument("--weights", choices=get_args(Weights), default="float32", help="default: %(default)s")
    given = parser.parse_args(arguments)
    if given.out.suffix.lower() != ".zip":
        raise SketchstackError(f"{given.out} does not end in .zip; name it so.")
    params = load_params()
    models = len(params.folds) * (1 if given.model in params.base_learners else len(params.base_learners))
    with progress_bar("pack", total=models, unit="networks") as bar:
        scores = pack(params, given.out, model=given.model, weights=given.weights, done=bar.update)
    held_out, bytes_ = scores["held_out"], given.out.stat().st_size
    print(
        f"{given.out}: {size(bytes_)}. Of {scores['drawings']:,} test drawings {scores['same_top3']:.2%} have the "
        f"run's three guesses; a probability differs by at most {scores['largest_difference']:.1g}. MAP@3 of "
        f"{held_out['rows']:,} held-out drawings: {held_out['pack']:.4f}, of the run {held_out['run']:.4f}."
    )


if __name__ == "__main__":
    main()
