"""Set aside fitted models that params.yaml no longer names: DVC hashes all of models/<profile>/base."""

from __future__ import annotations

from pathlib import Path

from pipeline.foundation.artefacts import move_aside
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
    base, unused = places().base, places().unused
    return [(folder, move_aside(folder, unused / folder.relative_to(base))) for folder in stale_outputs(params)]
