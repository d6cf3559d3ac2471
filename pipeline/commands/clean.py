"""Remove fitted learners and folds that params.yaml no longer names: the folder is hashed whole, stale outputs too."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.foundation.commandline import Parser
from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.params import Params, load_params
from pipeline.foundation.places import places


def stale_outputs(params: Params, base: Path | None = None) -> list[Path]:
    """The folders of a base learner that is not trained, or of a fold that is not in `folds`."""
    base = base or places().base
    named = {base / name / f"fold{held_out}" for name in params.base_learners for held_out in params.folds}
    learners = [folder for folder in sorted(base.glob("*")) if folder.is_dir()]
    gone = [folder for folder in learners if folder.name not in params.base_learners]
    folds = [fold for folder in learners if folder not in gone for fold in sorted(folder.glob("fold*"))]
    return gone + [fold for fold in folds if fold not in named]


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Remove fitted learners and folds that params.yaml no longer names, and say so."""
    Parser("clean", main.__doc__, "sketchstack clean").parse_args(arguments)
    for folder in stale_outputs(load_params()):
        shutil.rmtree(folder)
        print(f"removed {folder}, which params.yaml no longer names")


if __name__ == "__main__":
    main()
