"""The competition for benchmarks: the real drawings of the mini profile, or copies of them, in a scratch folder."""

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
APART = 10**16 + 10**7  # offset of key_ids per copy: above any key_id; the reference shards copies differently
SHARD = 40_000  # approximate rows per shard


class Stage(NamedTuple):
    """Time and memory of one run of the shuffle stage, in its own process.

    Attributes:
        seconds: of the stage, after its imports.
        whole: seconds of the process, including its start and imports.
        peak: peak memory in MB, including pages of mapped files.
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
    """A temporary folder, in `place` or in the system's folder for temporary files."""
    with TemporaryDirectory(prefix="sketchstack-bench-", dir=place) as folder:
        yield Path(folder)


def run_benchmark(measure: Callable[..., Measured], asked: argparse.Namespace, **more: Any) -> None:
    """Measure the mini profile in a scratch folder and publish the result.

    Args:
        measure: called with params, the scratch folder, runs, rows, and `more`.
        asked: the command line of `tables.arguments`.
        more: further arguments of `measure`.
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
    """Run the shuffle stage on a competition in its own process; the folds are made again.

    Args:
        home: the folder of params.yaml.
        cache: folder of compiled kernels; by default beside their code.
    """
    shutil.rmtree(home / places(home).folds, ignore_errors=True)
    os.sync()
    begun = time.perf_counter()
    found = run_child("bench.shuffle_once", home, cache)
    return Stage(found["seconds"], time.perf_counter() - begun, found["peak"])


def seconds_of(home: Path, learner: str, fold: int) -> dict[str, float]:
    """Seconds of a training stage that ran in a folder: `fit` and `predict`.

    Raises:
        SketchstackError: the stage has written no times.
    """
    path = home / places(home).logs / learner / f"fold{fold}" / "seconds.json"
    if not path.exists():
        raise SketchstackError(f"{path} is absent: run `dvc repro` in {home} first.")
    found: dict[str, float] = json.loads(path.read_text())
    return found


def run_child(module: str, home: Path, cache: Path | None = None) -> dict[str, float]:
    """Run a module in its own process; returns the JSON of its last line.

    Raises:
        SketchstackError: it failed; with its error output.
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
