"""Guess what drawings show, with the trained ensemble or one of its models."""

from __future__ import annotations

import csv
import os
from contextlib import ExitStack
from pathlib import Path

from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.commandline import Parser
from pipeline.foundation.errors import SketchstackError, one_paragraph_errors
from pipeline.foundation.progress import progress_bar
from pipeline.foundation.spreadsheets import safe_row
from pipeline.raw.readers import Reject
from pipeline.serving.ensemble import Ensemble
from pipeline.serving.guesses import FORMATS, format_of, opened
from pipeline.serving.rows import input_files, layouts_of, read_blocks
from pipeline.stacking.combination import SUPER


def predict(files: list[Path], out: Path, *, model: str | None, kind: str | None, pack: Path | None) -> None:
    """Write the guesses of all drawings in some files, and the rejected rows beside them.

    Args:
        files: of drawings, in any format that the shuffle takes; folders, archives; `-` is ndjson on stdin.
        out: the file to write; rejected rows go to `<out without ending>.rejects.csv`.
        model: a base learner, a meta-learner or super_learner; None for the last, or for that of the pack.
        kind: of FORMATS; None for that of the ending of `out`.
        pack: a packed ensemble that predicts in place of the run's.

    Raises:
        SketchstackError: a file cannot be read, a model is not trained, or `out` exists.
    """
    kind, rejected = format_of(out, kind), out.with_suffix(".rejects.csv")
    for path in (out, rejected):
        if path.exists():
            raise SketchstackError(f"{path} exists already; remove it, or name another file.")
    ensemble = opened_ensemble(model, pack)
    rows = bad = 0
    with ExitStack() as stack:
        inputs = stack.enter_context(input_files(files))
        layouts = layouts_of(inputs, ensemble.timed)
        written, rejects = (stack.enter_context(whole_file(path)) for path in (out, rejected))
        lines = stack.enter_context(rejects.open("w", newline="", encoding="utf-8", errors="backslashreplace"))
        table = csv.writer(lines, lineterminator="\n")
        table.writerow(Reject._fields)
        guesses = opened(kind, written, ensemble.words)
        bar = stack.enter_context(progress_bar("predict", total=0, unit="networks"))
        blocks = 0
        for block in read_blocks(inputs, layouts, timed=ensemble.timed):
            if len(block.drawings):
                blocks += 1
                bar.total = blocks * ensemble.models
                guesses.add(block, ensemble.probabilities(block.drawings, bar.update))
            table.writerows(safe_row(reject) for _, reject in block.rejects)
            rows, bad = rows + len(block.drawings), bad + len(block.rejects)
        guesses.close()
        lines.flush()
    if not bad:
        rejected.unlink()
    told = f"; {bad:,} rows cannot be used, see {rejected}" if bad else ""
    print(f"{out}: the guesses of {ensemble.name} for {rows:,} drawings{told}")


def opened_ensemble(model: str | None, pack: Path | None) -> Ensemble:
    """The ensemble of a pack, or of the run in models/.

    Raises:
        SketchstackError: it is missing, damaged, or has no such model.
    """
    if pack is not None:
        from pipeline.serving.packed import PackedEnsemble

        return PackedEnsemble(pack, model, threads=len(os.sched_getaffinity(0)))
    from pipeline.foundation.params import load_params
    from pipeline.serving.trained import TrainedEnsemble

    return TrainedEnsemble(load_params(), model or SUPER)


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Guess what drawings show: three words each, with their probabilities."""
    parser = Parser(
        "predict",
        main.__doc__,
        "sketchstack predict data/synthetic/test_simplified.csv -o guesses.csv",
        "sketchstack predict drawings.zip -o guesses.parquet --pack champion.zip",
        "head -3 drawings.ndjson | sketchstack predict - -o guesses.ndjson --model lstm",
    )
    parser.add_argument("files", type=Path, nargs="+", help="of drawings, also folders and .zip; - is ndjson on stdin")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the file to write; its ending says the format")
    parser.add_argument("--model", help=f"a base learner, a meta-learner or {SUPER} (default: this, or the pack's)")
    parser.add_argument("--pack", type=Path, help="predict with this file of `sketchstack pack`, not with models/")
    parser.add_argument("--format", choices=FORMATS, help="default: by the ending; submission is Kaggle's format")
    given = parser.parse_args(arguments)
    predict(given.files, given.out, model=given.model, kind=given.format, pack=given.pack)


if __name__ == "__main__":
    main()
