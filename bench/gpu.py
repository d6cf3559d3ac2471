"""Training on a GPU: drawings/s at the sizes of the full competition, and the scores that mini reaches at GPU sizes."""

from __future__ import annotations

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bench.competition import mini_params, run_child, run_shuffle, scratch_folder, write_copies
from bench.first_batch_once import HELD_OUT
from bench.tables import ROOT, Measured, Row, arguments, record, show
from bench.train import rows_of, run_learner
from pipeline.drawings.shards import open_shards
from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.params import Params, load_params
from pipeline.learners._base import available
from pipeline.predictions.metrics import map_at_3, top3

# mini's networks at several times the size, with as many epochs as a GPU makes in about two minutes.
SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "strokenet": {
        "network": {"samples": 128, "features": [64, 64], "side": 32, "widths": [64, 128, 256], "blocks": 2},
        "encoding": {"length": 128},
        "training": {"epochs": 30},
    },
    "seresnet": {
        "network": {"widths": [64, 128, 256], "blocks": 2},
        "encoding": {"side": 64, "stroke_width": 2.0, "margin": 2.0},
        "training": {"epochs": 24},
    },
    "transformer": {
        "network": {"filters": [96, 96], "points_a_token": 2, "width": 256, "heads": 8, "layers": 6},
        "encoding": {"length": 96},
        "training": {"epochs": 30, "precision": "bfloat16"},
    },
    "lstm": {
        "network": {"filters": [64, 128, 192], "strides": [2, 1, 1], "units": 256, "layers": 2},
        "encoding": {"length": 128},
        "training": {"epochs": 24, "precision": "bfloat16"},
    },
}


def full_params() -> Params:
    """The kaggle profile's networks and batches, on the folds of mini."""
    mini, full = load_params(ROOT / "profiles" / "mini.yaml"), load_params(ROOT / "profiles" / "kaggle.yaml")
    return full.model_copy(update={"folds": mini.folds})


def large_mini() -> Params:
    """The mini profile with the sizes above."""
    raw = load_params(ROOT / "profiles" / "mini.yaml").model_dump()
    for name, blocks in SIZES.items():
        for block, changes in blocks.items():
            raw["learners"][name][block] |= changes
    raw["threads"] = 4  # for each of four processes in parallel
    return Params.model_validate(raw)


def folds_at(home: Path, folds: Path | None) -> None:
    """Put the folds of mini into `home`, for both profiles: a copy of those in `folds`, or shuffled from data/mini."""
    if folds is not None:
        for name in ("mini", "kaggle"):
            shutil.copytree(folds, home / "folds" / name)
        return
    write_copies(mini_params(), home, 1)
    run_shuffle(home)
    shutil.copytree(home / "folds" / "mini", home / "folds" / "kaggle")


def scores(home: Path, names: list[str]) -> list[Row]:
    """Train all learners in parallel without fold 0 at GPU sizes; their scores, and those of the geometric mean."""
    with ThreadPoolExecutor(len(names)) as pool:
        measured = dict(zip(names, pool.map(lambda name: score(home, name), names), strict=True))
    rows = list[Row]()
    for name, found in measured.items():
        rows += [Row(f"{name}: fold 0", "MAP@3", [found["map3"]]), Row(f"{name}: fold 0", "top-1", [found["top1"]])]
        rows += [Row(f"{name}: fit", "s", [found["fit"]]), Row(f"{name}: GPU memory", "MB", [found["memory"]])]
    log_mean = np.mean([np.log(np.load(home / name / f"{name}.npy") + 1e-9) for name in names], axis=0)
    words = open_shards([home / "folds" / "mini" / f"fold{HELD_OUT}"]).word
    return [*rows, Row("geometric mean of them: fold 0", "MAP@3", [map_at_3(top3(log_mean), words)])]


def score(home: Path, name: str) -> dict[str, float]:
    """Train one learner in its own process and folder."""
    place = home / name
    place.mkdir()
    (place / "folds").symlink_to(home / "folds")
    params = large_mini().model_copy(update={"ensemble": [name]})
    (place / "params.yaml").write_text(yaml.safe_dump(params.model_dump()))
    found = run_child("bench.gpu_once", place)
    print(name, found, flush=True)
    return found


@one_paragraph_errors
def main() -> None:
    """Measure training on a GPU; `--part` measures half of it."""
    parser = arguments(main.__doc__)
    parser.add_argument("--part", choices=["speed", "scores"], help="(both)")
    parser.add_argument("--learners", nargs="+", choices=available(), help="for a quick look at some (all)")
    parser.add_argument("--folds", type=Path, help="the folds of mini, if they are shuffled already")
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results", help="a folder (%(default)s)")
    parser.set_defaults(runs=1)
    asked = parser.parse_args()
    with scratch_folder(asked.scratch) as home:
        folds_at(home, asked.folds)
        lines = []
        if asked.part != "scores":
            for name in asked.learners or available():
                found = run_learner(full_params(), home, name)
                print(name, found, flush=True)
                lines += rows_of(name, [found])
        if asked.part != "speed":
            lines += scores(home, [name for name in asked.learners or SIZES if name in SIZES])
    notes = [
        "Speed: networks, encodings and batches of the kaggle profile (bfloat16), drawings of mini; `ours` takes new "
        "batches as in training, `reference` the same batch from memory every time.",
        "Scores: the networks of SIZES in bench/gpu.py on two folds of mini, the third held out, mirror images "
        "averaged; one seed; the trainings run side by side on one GPU, so the seconds are upper bounds.",
    ]
    measured = Measured("gpu", "Training on a GPU", lines, notes, profile=asked.part or "")
    show(measured)
    record(measured, sys.argv[1:], asked.results)


if __name__ == "__main__":
    main()
