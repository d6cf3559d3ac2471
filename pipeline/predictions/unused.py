"""Set aside fitted models that params.yaml no longer names: DVC hashes all of models/<profile>/base."""

from __future__ import annotations

import shutil
from itertools import chain, count
from pathlib import Path

from pipeline.foundation.params import Params
from pipeline.foundation.places import places


def stale_outputs(params: Params, base: Path | None = None) -> list[Path]:
    """Folders of base learners that are not trained now, and of folds that are not in `folds`."""
    base = base or places().base
    named = {base / name / f"fold{held_out}" for name in params.base_learners for held_out in params.folds}
    learners = [folder for folder in sorted(base.glob("*")) if folder.is_dir()]
    gone = [folder for folder in learners if folder.name not in params.base_learners]
    folds = [fold for folder in learners if folder not in gone for fold in sorted(folder.glob("fold*"))]
    return gone + [fold for fold in folds if fold not in named]


def set_aside(params: Params) -> list[tuple[Path, Path]]:
    """Move the stale outputs out of the hashed folder; returns pairs (from, to)."""
    moves = []
    for folder in stale_outputs(params):
        wanted = places().unused / folder.relative_to(places().base)
        numbered = (wanted.with_name(f"{wanted.name}.{number}") for number in count(1))
        free = next(path for path in chain([wanted], numbered) if not path.exists())
        free.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder, free)  # not `rename`: the base may be a link to another disk
        moves.append((folder, free))
    return moves
