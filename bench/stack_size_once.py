"""A stacking process on the made-up predictions in the working directory; the last line says what was measured."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import StackingClassifier
from sklearn.model_selection import PredefinedSplit

from bench.tables import ROOT
from pipeline.foundation.params import load_params
from pipeline.predictions.metrics import log_loss
from pipeline.stacking.metalearners import load_metalearner
from pipeline.stacking.metalearners._base import FACTS
from pipeline.stacking.mlens_parts import CachedLearner
from pipeline.stacking.rows import Rows
from pipeline.stacking.super_learner import Stack, limit_threads

THREADS = 2
STACK = load_params(ROOT / "profiles" / "kaggle.yaml").stack


class Memory(threading.Thread):
    """Watches this process's anonymous memory; `most` in GB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0.0

    def run(self) -> None:
        """Look ten times a second."""
        while True:
            lines = Path("/proc/self/status").read_text().splitlines()
            held = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
            self.most = max(self.most, held * 1024 / 1e9)
            time.sleep(0.1)


class Logistic(ClassifierMixin, BaseEstimator):
    """Our logistic regression as the final estimator of a StackingClassifier, which knows no facts."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> Logistic:
        """See scikit-learn."""
        self.classes_ = np.unique(y)
        model = load_metalearner("logistic", len(self.classes_), STACK.params["logistic"])
        self.fitted_ = model.fit(_with_facts(X), y)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """See scikit-learn."""
        return self.fitted_.predict_proba(_with_facts(X))


class Member(CachedLearner):
    """A cached learner as StackingClassifier wants it."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> Member:
        """Note the labels."""
        self.classes_ = np.unique(y)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The likeliest label."""
        return self.predict_proba(X).argmax(axis=1)


def _with_facts(X: np.ndarray) -> np.ndarray:
    return np.hstack([np.zeros((len(X), len(FACTS)), np.float32), X.astype(np.float32)])


def read_rows(stored: Mapping[str, np.ndarray]) -> Rows:
    """The made-up rows."""
    count, tests = len(stored["labels"]), len(stored["test_labels"])
    facts = np.random.default_rng(0).integers(1, 9, (count + tests, len(FACTS))).astype(np.float32)
    return Rows(np.arange(count), stored["labels"], stored["folds"], count + np.arange(tests), facts)


def ours(learners: list[CachedLearner], rows: Rows, num_words: int, how: str) -> dict[str, Any]:
    """Stack in chunks: the seconds of each part, and what each name says of the test rows."""
    metalearners = {name: load_metalearner(name, num_words, STACK.params[name]) for name in STACK.metalearners}
    calibrate = STACK.calibrate and how != "uncalibrated"
    with TemporaryDirectory(dir=".") as folder:
        stack = Stack(learners, metalearners, rows, num_words, Path(folder), calibrate=calibrate, dense=False)
        if how == "scored":
            found = stack.stacked()
            return {**found.seconds, "test": {name: np.array(test) for name, test in found.test.items()}}
        begun = time.monotonic()
        _, _, test = stack.fit_all()
        return {"fit": time.monotonic() - begun, "test": {name: np.array(each) for name, each in test.items()}}


def plain(learners: list[CachedLearner], rows: Rows) -> dict[str, Any]:
    """The same learners and folds in a StackingClassifier."""
    begun = time.monotonic()
    members = [(learner.name, Member(learner.name, learner.folders)) for learner in learners]
    model = StackingClassifier(
        members, Logistic(), cv=PredefinedSplit(rows.folds), stack_method="predict_proba", n_jobs=1
    )
    model.fit(np.arange(len(rows), dtype=np.float64)[:, None], rows.labels)
    test = model.predict_proba(rows.test_positions.astype(np.float64)[:, None])
    return {"fit": time.monotonic() - begun, "test": {"logistic": test}}


def main() -> None:
    """Stack, and print what was measured."""
    limit_threads(THREADS)
    tempfile.tempdir = str(Path.cwd())  # all files of a fit beside the cache
    watch = Memory()
    watch.start()
    names = sorted(path.name for path in Path().glob("learner*"))
    learners = [CachedLearner(name, tuple(str(fold) for fold in sorted(Path(name).iterdir()))) for name in names]
    how, stored = json.loads(Path("how.json").read_text())["how"], np.load("rows.npz")
    rows, labels = read_rows(stored), stored["test_labels"]
    if how == "plain":
        found = plain(learners, rows)
    else:
        found = ours(learners, rows, learners[0].opened().folds[0].oof.shape[1], how)
    losses = {name: log_loss(each, labels) for name, each in found.pop("test").items()}
    print(json.dumps({**found, "test_log_loss": losses, "anonymous": watch.most}))


if __name__ == "__main__":
    main()
