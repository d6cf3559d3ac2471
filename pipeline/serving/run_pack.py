"""The pack of the run in models/, made again where the run has changed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.places import places
from pipeline.serving.packed import MANIFEST
from pipeline.stacking.combination import SUPER, WEIGHTS


def bring_up_to_date(pack: Path) -> None:
    """Pack the run, in a process of its own, unless the file is its pack already.

    Raises:
        SketchstackError: the run is not complete, or cannot be packed.
    """
    weights = places().meta / SUPER / WEIGHTS
    if not weights.is_file():
        raise SketchstackError(f"{weights} is missing, so there is no run to pack; run `make repro` first.")
    if is_of(pack, weights):
        return
    command = [sys.executable, "-m", "pipeline", "pack", str(pack)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        told = " ".join(done.stderr.rpartition("Error:")[2].split())
        raise SketchstackError(told or "the run cannot be packed; `sketchstack pack` says why.")


def is_of(pack: Path, weights: Path) -> bool:
    """Whether a pack has the SuperLearner of these weights, which every network has a part in."""
    try:
        with zipfile.ZipFile(pack) as file:
            hashes = json.loads(file.read(MANIFEST))["files"]
        return hashes[f"{SUPER}.npz"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return False
