"""Compatibility of mlens 0.2.3 (2018, no longer maintained) with current Python and NumPy.

- It imports `Sequence` from `collections`, which Python 3.10 moved to `collections.abc`:
  https://github.com/flennerhag/mlens/issues/148
- It uses `np.int`, which NumPy 1.24 removed: https://github.com/flennerhag/mlens/issues/155,
  https://github.com/flennerhag/mlens/issues/156. (`np.bool` is left alone: an alias of it breaks masked arrays.)
- Its `predict_proba` is `predict`, so each layer is added with `proba=True`:
  https://github.com/flennerhag/mlens/issues/151
- Importing it prints its settings, scans the whole temporary folder, makes joblib fork (which hangs once OpenMP has
  run) and leaves an import hook that warns at every later failed import. All of this is undone.

The multiprocessing backend needs more fixes (its joblib calls functions that NumPy 2 removed); Sketchstack runs mlens
on threads.
"""

from __future__ import annotations

import collections
import collections.abc
import gc
import math
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.foundation.artefacts import reserve

QUIET = {"MLENS_VERBOSE": "N", "MLENS_BACKEND": "threading", "MLENS_TMPDIR": str(Path(tempfile.gettempdir(), "mlens"))}
TOUCHED = (*QUIET, "JOBLIB_START_METHOD")


@contextmanager
def mlens_imports() -> Iterator[None]:
    """Context in which mlens can be imported; afterwards only `np.int` remains changed, which mlens calls later."""
    before = {name: os.environ.get(name) for name in TOUCHED}
    finders = list(sys.meta_path)
    os.environ.update(QUIET)
    collections.Sequence = collections.abc.Sequence  # type: ignore[attr-defined]
    np.int = int  # type: ignore[attr-defined]  # noqa: NPY001
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SciPy's and importlib's, about names that mlens takes from old places
            yield
    finally:
        del collections.Sequence  # type: ignore[attr-defined]
        sys.meta_path[:] = [finder for finder in sys.meta_path if finder in finders]
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


@contextmanager
def frozen_objects() -> Iterator[None]:
    """Exclude all live objects from garbage collection: mlens runs it three times per job, which takes 0.2 s each."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def mapped_predictions(folder: Path | None) -> Iterator[None]:
    """Make mlens keep the predictions of its layers in memory-mapped files of a folder; None changes nothing.

    On threads mlens would otherwise hold a layer's predictions of all rows in memory, (rows, learners * words) float32.
    """
    from mlens.parallel.backend import BaseProcessor, ParallelProcessing

    usual = ParallelProcessing._gen_prediction_array

    def mapped(self: BaseProcessor, task: Any, job: str, threading: bool) -> None:
        with tempfile.TemporaryFile(dir=folder) as file:  # goes with the last use of the array
            shape = task.shape(job)
            reserve(file, 4 * math.prod(shape))
            self.job.predict_out = np.memmap(file, np.float32, "r+", shape=shape)

    if folder is not None:
        ParallelProcessing._gen_prediction_array = mapped
    try:
        yield
    finally:
        ParallelProcessing._gen_prediction_array = usual
