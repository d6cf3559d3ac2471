"""A run as the report reads it; parts may be missing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.comparison.candidates import Candidate, read
from pipeline.drawings.shards import TEST, Shards, open_shards
from pipeline.drawings.words import Words, load_words
from pipeline.foundation.contents import intact
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.logs import seconds_of
from pipeline.foundation.params import Params
from pipeline.foundation.places import places
from pipeline.predictions.cache import cached_share
from pipeline.predictions.metrics import CHUNK
from pipeline.submissions.sources import mapped

CURVE = ["epoch", "learning_rate", "loss", "top1"]  # columns of a learning curve
HELD_OUT = ["held_out_loss", "held_out_map3", "held_out_top1"]  # of the held-out fold; only if it was scored by epoch


class NotThereError(SketchstackError):
    """A part of the run is not finished; the text names it and the command that makes it."""


@dataclass(frozen=True)
class Run:
    """A run in the working directory.

    Attributes:
        params: those in force.
        hourly: price of an hour of the machine, in any currency; None if not known.
    """

    params: Params
    hourly: float | None = None

    @cached_property
    def words(self) -> Words:
        """The words of the folds."""
        if not (places().folds / "words.json").exists():
            raise NotThereError("The folds are not made yet: `dvc repro shuffle`.")
        return load_words(places().folds)

    @cached_property
    def fold_scores(self) -> pd.DataFrame:
        """name, kind, fold, map3, top1, log_loss."""
        return pd.read_csv(self.made(places().meta / "fold_scores.csv", "stack"))

    def _noted(self, name: str) -> dict[str, Any]:
        """The content of a JSON file of the stack."""
        found: dict[str, Any] = json.loads(self.made(places().meta / f"{name}.json", "stack").read_text())
        return found

    @cached_property
    def scores(self) -> dict[str, dict[str, float]]:
        """MAP@3, top-1 and log loss over all OOF rows, by name."""
        return self._noted("scores")

    @cached_property
    def test_scores(self) -> dict[str, float]:
        """MAP@3 on the test set, by submission; empty if the labels are not known.

        Raises:
            SketchstackError: the file of them is damaged.
        """
        file = places().reports / "test.json"
        if not file.exists():
            return {}
        try:
            return {name: float(score) for name, score in json.loads(file.read_text()).items()}
        except (ValueError, TypeError, AttributeError):
            raise SketchstackError(f"{file} is damaged; `dvc repro -f score` writes it again.") from None

    @cached_property
    def kinds(self) -> dict[str, str]:
        """base, meta or super, by name."""
        return dict(self.fold_scores.groupby("name")["kind"].first())

    @property
    def learners(self) -> list[str]:
        """The names that are base learners."""
        return [name for name in self.scores if self.kinds[name] == "base"]

    @cached_property
    def weights(self) -> dict[str, dict[str, float]]:
        """The weight of each member, by the name of their combination."""
        return self._noted("weights")

    @cached_property
    def calibration(self) -> dict[str, Any]:
        """Temperature, log loss and calibration error before and after, by learner."""
        return self._noted("calibration")

    @cached_property
    def labels(self) -> np.ndarray:
        """(N,) int64 of the OOF rows."""
        return np.load(self.made(places().meta / "labels.npy", "stack")).astype(np.int64)

    def guesses(self, name: str) -> Candidate:
        """The OOF guesses of a name.

        Raises:
            SketchstackError: they are missing, their rows are not those of the stack, or a prediction failed.
        """
        if name not in self._guesses:
            self.made(places().meta / "scores.json", "stack")
            try:
                self._guesses[name] = read(name, name, Path())
            except SketchstackError as error:
                self._guesses[name] = error
        found = self._guesses[name]
        if isinstance(found, SketchstackError):
            raise found
        return found

    @cached_property
    def _guesses(self) -> dict[str, Candidate | SketchstackError]:
        """Guesses that were read, or the error of reading them."""
        return {}

    def readable(self, names: Iterable[str]) -> list[str]:
        """The names whose OOF guesses are available."""
        return [name for name in names if self._can_read(name)]

    def _can_read(self, name: str) -> bool:
        try:
            self.guesses(name)
        except SketchstackError:
            return False
        return True

    @cached_property
    def folds(self) -> list[Shards]:
        """The training drawings, fold by fold."""
        if not (places().folds / "words.json").exists():
            raise NotThereError("The folds are not made yet: `dvc repro shuffle`.")
        return [open_shards([places().folds / f"fold{fold}"]) for fold in self.params.folds]

    @cached_property
    def shards(self) -> Shards:
        """The drawings of the OOF rows, in their order.

        Raises:
            SketchstackError: the folds hold other rows than those that were stacked.
        """
        parts = [each.first(cached_share(len(each), self.params)).shards for each in self.folds]
        found = Shards([shard for part in parts for shard in part])
        if not np.array_equal(found.key_id, np.load(self.made(places().meta / "rows.npy", "stack"))):
            raise SketchstackError(
                f"{places().folds} holds other rows than {places().meta} was made from: raw files, corrections, folds "
                "or oof.max_rows have changed since then. Run `dvc repro` to make both again."
            )
        return found

    @cached_property
    def test_shards(self) -> Shards:
        """The test drawings."""
        return open_shards([self.made(places().folds / TEST, "shuffle")])

    def column(self, name: str) -> pd.Series:
        """A column of the shards that learners do not read (countrycode, recognized), of each OOF row.

        Raises:
            SketchstackError: the folds hold other rows than those that were stacked.
        """
        parts, shards = [], self.shards  # which refuses other rows
        for fold in self.params.folds:
            of_fold = pa.chunked_array(columns(places().folds / f"fold{fold}", name))
            parts += of_fold.slice(0, cached_share(len(of_fold), self.params)).chunks
        return pd.Series(pa.chunked_array(parts).to_pandas()).iloc[: len(shards)]

    def of_true_word(self, name: str) -> np.ndarray:
        """The probability that a name gives to each OOF row's word, (N,) float32."""
        parts = self.oof(name)
        labels = np.split(self.labels, np.cumsum([len(part) for part in parts])[:-1])
        found = [part[np.arange(len(part)), own] for part, own in zip(parts, labels, strict=True)]
        return np.concatenate(found).astype(np.float32)

    def oof(self, name: str) -> list[np.ndarray]:
        """The OOF probabilities of a name, memory-mapped, in consecutive parts of rows.

        Raises:
            SketchstackError: as `guesses`, which checks them.
        """
        self.guesses(name)
        if (places().base / name).is_dir():
            files = [places().base / name / f"fold{fold}" / "oof.npy" for fold in self.params.folds]
        else:
            files = [places().meta / name / "oof.npy"]
        return [mapped(file) for file in files]

    def first_guess(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The probability of each OOF row's first guess, (N,) float32, and whether it is right, (N,) bool."""
        sure, first = [], []
        for part in self.oof(name):
            for start in range(0, len(part), CHUNK):
                chunk = np.asarray(part[start : start + CHUNK], np.float32)
                sure.append(chunk.max(axis=1))
                first.append(chunk.argmax(axis=1))
        return np.concatenate(sure), np.concatenate(first) == self.labels

    def curves(self, name: str) -> dict[int, pd.DataFrame]:
        """epoch, learning_rate, loss, top1 and the HELD_OUT columns that there are, of each trained fold.

        Raises:
            SketchstackError: a file of them is damaged.
        """
        files = {fold: places().curves / name / f"fold{fold}.csv" for fold in self.params.folds}
        found = {fold: _curve(file) for fold, file in files.items() if file.exists()}
        return {fold: curve for fold, curve in found.items() if len(curve)}

    def seconds(self, name: str) -> dict[str, float] | None:
        """Seconds of fitting and predicting, all folds together, as logs/ noted them last; None if it has none."""
        files = [places().logs / name / f"fold{fold}" / "seconds.json" for fold in self.params.folds]
        found = [seconds_of(file) for file in files]
        if not all({"fit", "predict"} <= fold.keys() for fold in found):
            return None
        return {part: float(sum(fold[part] for fold in found)) for part in ("fit", "predict")}

    def made(self, path: Path, stage: str) -> Path:
        """A file, undamaged, if the stage that writes it has run."""
        if not path.exists():
            raise NotThereError(f"{path} is not there yet: `dvc repro {stage}` makes it.")
        return intact(path) if path.is_file() else path


def columns(folder: Path, name: str) -> list[pa.Array]:
    """A column of each shard of a folder, memory-mapped, in the order of `open_shards`; countries as text."""
    found = []
    for path in sorted(folder.glob("*.arrow")):
        column = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0).column(name)
        found.append(column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column)
    return found


def _curve(file: Path) -> pd.DataFrame:
    """A learning curve: a row an epoch."""
    try:
        found = pd.read_csv(file, dtype=np.float64)
        return found[CURVE + [name for name in HELD_OUT if name in found]]
    except (KeyError, ValueError):  # other columns, no numbers, no text
        raise SketchstackError(f"{file} is damaged; `dvc checkout {file}` restores it.") from None
