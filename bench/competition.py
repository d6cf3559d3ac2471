"""The competition that is measured: the real drawings of the mini profile, or copies of them, in a scratch folder."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import yaml

from bench.tables import ROOT, Measured, publish
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import Params, load_params
from pipeline.foundation.places import places

PROFILE = ROOT / "profiles" / "mini.yaml"
APART = 10**16 + 10**7  # between the key_ids of copies: more than any key_id, and the reference puts them elsewhere
SHARD = 40_000  # rows of a shard, about


class Stage(NamedTuple):
    """What one run of the shuffle stage took, in a process of its own.

    Attributes:
        seconds: of the stage, after its imports.
        whole: seconds of the process, its start and imports included.
        peak: most memory that it held at a time, in MB: its own and the mapped files' pages.
    """

    seconds: float
    whole: float
    peak: float


def mini_params() -> Params:
    """The mini profile, its folder of drawings as an absolute path.

    Raises:
        SketchstackError: the drawings are not there.
    """
    params = load_params(PROFILE)
    folder = ROOT / params.data.folder
    if not (folder / params.data.train).is_dir():
        raise SketchstackError(
            f"{folder} is absent, and the benchmarks measure real drawings: bring a folder of competition files with "
            f"`make data NAME={params.profile} FROM=FOLDER`."
        )
    return params.model_copy(update={"data": params.data.model_copy(update={"folder": str(folder)})})


@contextmanager
def scratch_folder(place: Path | None) -> Iterator[Path]:
    """A folder that is gone afterwards, in `place` or where the system keeps such folders."""
    with TemporaryDirectory(prefix="sketchstack-bench-", dir=place) as folder:
        yield Path(folder)


def run_benchmark(measure: Callable[..., Measured], asked: argparse.Namespace, **more: Any) -> None:
    """Measure the mini profile in a scratch folder and publish what came out.

    Args:
        measure: takes params, the scratch folder, runs, rows, and what more it needs.
        asked: the command line of `tables.arguments`.
        more: see above.
    """
    with scratch_folder(asked.scratch) as scratch:
        publish(measure(mini_params(), scratch, asked.runs, asked.rows, **more), asked)


def write_copies(params: Params, home: Path, copies: int, rows: int | None = None) -> int:
    """Write a competition of several copies of the training rows, each copy under new key_ids, with its params.yaml.

    Args:
        params: name the drawings.
        home: a new folder; takes params.yaml, `data/<train>/<word>.csv` and the test file.
        copies: of each row; a drawing's copies share its fold and shard, for these follow from its points.
        rows: stop after the word that brings this many; all words otherwise.

    Returns:
        The rows written for training.
    """
    data, source = home / "data", Path(params.data.folder)
    (data / params.data.train).mkdir(parents=True)
    shutil.copy(source / params.data.test, data / params.data.test)
    written = words = 0
    for path in sorted((source / params.data.train).glob("*.csv")):
        header, *lines = path.read_text(encoding="utf-8").splitlines()
        place = header.split(",").index("key_id") - header.count(",") - 1  # from the end: drawings hold commas
        with (data / params.data.train / path.name).open("w", encoding="utf-8") as file:
            file.write(f"{header}\n")
            for copy in range(copies):
                file.writelines(f"{_renumbered(line, place, copy * APART)}\n" for line in lines)
        written, words = written + copies * len(lines), words + 1
        if rows is not None and written >= rows and words >= 2:
            break
    raw = params.model_dump()
    raw["data"]["folder"] = "data"
    raw["shuffle"]["shards"] = max(1, round(written / len(params.folds) / SHARD))
    (home / "params.yaml").write_text(yaml.safe_dump(raw))
    return written


def _renumbered(line: str, place: int, shift: int) -> str:
    """A line of CSV with its key_id, field `place` from the end, raised."""
    fields = line.rsplit(",", -place)
    fields[1] = str(int(fields[1]) + shift)
    return ",".join(fields)


def run_shuffle(home: Path, cache: Path | None = None) -> Stage:
    """Run the shuffle stage on a competition in a process of its own, its folds made anew.

    Args:
        home: the folder of params.yaml.
        cache: compiled kernels are kept here and looked for here; beside their code by default.
    """
    shutil.rmtree(home / places(home).folds, ignore_errors=True)
    os.sync()
    begun = time.perf_counter()
    found = run_child("bench.shuffle_once", home, cache)
    return Stage(found["seconds"], time.perf_counter() - begun, found["peak"])


def seconds_of(home: Path, learner: str, fold: int) -> dict[str, float]:
    """Seconds of a training stage that ran in a folder: `fit` and `predict`.

    Raises:
        SketchstackError: it has left none.
    """
    path = home / places(home).logs / learner / f"fold{fold}" / "seconds.json"
    if not path.exists():
        raise SketchstackError(f"{path} is absent: run `dvc repro` in {home} first.")
    found: dict[str, float] = json.loads(path.read_text())
    return found


def run_child(module: str, home: Path, cache: Path | None = None) -> dict[str, float]:
    """Run a module in a process of its own; give the JSON of its last line.

    Raises:
        SketchstackError: it failed; with what it wrote.
    """
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path} | ({"NUMBA_CACHE_DIR": str(cache)} if cache else {})
    done = subprocess.run(
        [sys.executable, "-m", module], cwd=home, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SketchstackError(f"python -m {module} failed: {' '.join(done.stderr.split())[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found
