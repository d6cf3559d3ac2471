"""A fitted learner as one file that runs without Sketchstack: ONNX, or TorchScript for torch learners.

    sketchstack export-model lstm 0 exported/lstm.onnx
    sketchstack export-model lstm 0 exported/lstm.pt --format torchscript

The file takes drawings in the learner's encoding, any number at a time, and returns their probabilities:

    images         uint8 (N, side, side, channels) of a picture encoding; or
    points         float32 (N, T, features) of any other, with
    lengths        int32 (N,), the points of each drawing
    probabilities  float32 (N, num_words), each row sums to 1, in the order of the words in the file's metadata

ONNX is the default and the safer choice: the file is a graph of known operations over arrays. A TorchScript file is a
program, and loading it runs its code; load only files from sources you trust. The model itself is read from
safetensors, which hold only arrays.

A file gets its name only after its probabilities for held-out drawings agree with the learner's. Both are computed in
float32 on the CPU, whatever the training used, and without the mean over mirror images (`mirror_test`).
"""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.drawings.encodings import identity
from pipeline.drawings.shards import open_shards
from pipeline.drawings.words import load_words
from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.commandline import Parser
from pipeline.foundation.errors import SketchstackError, one_paragraph_errors
from pipeline.foundation.params import learner_of, load_params
from pipeline.foundation.places import places
from pipeline.learners._base import learner_class
from pipeline.serving.convert import ON_CPU, OUTPUT, TRACED, check, description, is_torch, write
from pipeline.serving.packed import INPUTS
from pipeline.training.fitting import fitted_learner

ROWS = 300  # held-out drawings for the check of a file


def export_model(name: str, held_out: int, out: Path, *, kind: str) -> None:
    """Write and check a learner's model of held-out fold `held_out` as a file, atomically.

    Args:
        name: of the learner.
        held_out: the fold that the model was not trained on.
        out: the file to write; it must not exist.
        kind: onnx or torchscript.

    Raises:
        SketchstackError: there is no such learner, fold or model, or the model has other params or words; `out` exists
            or cannot be written; the learner cannot be converted, or the file gives other probabilities.
    """
    check_place(out)
    if kind == "torchscript" and not is_torch(learner_class(learner_of(name))):
        raise SketchstackError(f"TorchScript needs a torch learner, but {name} is a Keras learner; use --format onnx.")
    params, words = load_params(), load_words(places().folds)
    learner = fitted_learner(name, held_out, params, words, precision="float32", compile=False)
    drawings = open_shards([places().folds / f"fold{held_out}"])[:ROWS]
    inputs = learner.inputs(drawings, identity(len(drawings)))
    expected = learner.predict(inputs)
    arrays = inputs if isinstance(inputs, tuple) else (inputs,)
    about = description(learner, name, held_out, words)
    try:
        with whole_file(out) as beside:
            try:
                run = write(kind, learner, [array[:TRACED] for array in arrays], beside, about)
                difference = check(run, arrays, expected)
            except BaseException:
                beside.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise SketchstackError(f"{out} cannot be written: {error.strerror}; choose another place.") from None
    print(
        f"{out}: {out.stat().st_size / 1e6:.2f} MB; takes {' and '.join(INPUTS[len(arrays)])}, gives {OUTPUT}. Over "
        f"{len(drawings)} drawings of fold {held_out} they differ from the learner's probabilities by at most "
        f"{difference:.1e}, with the same top 3."
    )


def check_place(out: Path) -> None:
    """Refuse to replace a file.

    Raises:
        SketchstackError: `out` exists.
    """
    if out.exists():
        raise SketchstackError(f"{out} exists already; remove it, or name another file.")


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Write a fitted learner as one file that runs without Sketchstack, checked against the learner."""
    parser = Parser("export-model", main.__doc__, "sketchstack export-model lstm 0 exported/lstm.onnx")
    parser.add_argument("learner", help="a file of pipeline/learners")
    parser.add_argument("held_out", type=int, metavar="fold", help="the fold that the model did not see")
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument(
        "--format", choices=["onnx", "torchscript"], default="onnx",
        help="default onnx; torchscript, for torch learners, is a program: loading the file runs its code",
    )  # fmt: skip
    given = parser.parse_args(arguments)
    os.environ.update(ON_CPU)  # before a framework is imported
    export_model(given.learner, given.held_out, given.out, kind=given.format)


if __name__ == "__main__":
    main()
