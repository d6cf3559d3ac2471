"""Files of people's own in a profile's folder of submissions, which DVC empties before the stage `submit` runs."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.foundation.artefacts import move_aside
from pipeline.foundation.places import places

RANKING = "ranking.csv"


def others(folder: Path) -> list[Path]:
    """What the stage `submit` has not written, files and folders, sorted."""
    ours = {RANKING, *(f"{name}{ending}" for name in _names_written(folder) for ending in (".csv", ".json"))}
    return [path for path in sorted(folder.glob("*")) if path.name not in ours]


def move_others() -> list[tuple[Path, Path]]:
    """Move what the stage has not written to submissions/, where nothing removes it; from where to where."""
    folder = places().submissions
    return [(path, move_aside(path, folder.parent / path.name)) for path in others(folder)]


def _names_written(folder: Path) -> set[str]:
    """The names of submissions that have a manifest or a line in the ranking: one of the two may be damaged."""
    ranking = folder / RANKING
    lines = ranking.read_text(encoding="utf-8", errors="replace").splitlines()[1:] if ranking.is_file() else []
    ranked = {line.split(",")[1] for line in lines if line.count(",") > 1}
    return ranked | {path.stem for path in folder.glob("*.json") if path.is_file() and _is_manifest(path)}


def _is_manifest(path: Path) -> bool:
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        return False
    return isinstance(found, dict) and {"name", "rank", "sha256"} <= found.keys()
