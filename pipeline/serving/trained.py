"""The ensemble of a run, from models/<profile>: fitted networks of every fold, and the stack.

torch and TensorFlow do not share a process, so each base learner predicts in one of its own, one after the other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pipeline.drawings.shards import Shard, Shards
from pipeline.drawings.words import load_words
from pipeline.foundation.disk import check_space
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import Params, load_params
from pipeline.foundation.places import places
from pipeline.predictions.cache import model_folder
from pipeline.serving.processes import own_process
from pipeline.stacking.combination import SUPER, check_model, read_combination
from pipeline.stacking.rows import facts_of
from pipeline.training.fitting import fitted_learner, open_folds

TOO_LARGE = "make room there, or name another folder for temporary files (`export TMPDIR=FOLDER`)"


class TrainedEnsemble:
    """The learners and the stack that params.yaml names, as trained.

    Args:
        params: those in force.
        name: what it predicts as: a base learner, a meta-learner or `super_learner`.

    Attributes:
        words: of the columns.
        timed: whether it was trained on drawings with the time of each point.

    Raises:
        SketchstackError: there is no such model, or it is not trained with these params.
    """

    def __init__(self, params: Params, name: str = SUPER) -> None:
        self.params, self.name, self.words = params, name, load_words(places().folds)
        self.timed = open_folds(params.folds[:1]).timed
        check_model(params, name)
        self.combination = None
        if name not in params.base_learners:
            self.combination = read_combination(params, len(self.words), places().meta)
        self.learners = list(self.combination.learners) if self.combination else [name]
        for learner in self.learners:  # the files are checked again where they are read
            for held_out in params.folds:
                if not model_folder(learner, held_out).is_dir():
                    raise SketchstackError(
                        f"{model_folder(learner, held_out)} is missing: {learner} is not trained; run `make repro`."
                    )

    @property
    def models(self) -> int:
        """The number of networks."""
        return len(self.learners) * len(self.params.folds)

    def probabilities(self, drawings: Shards, done: Callable[[], object] = lambda: None) -> np.ndarray:
        """The probabilities of drawings, (N, num_words): the same numbers as the stages have for test rows.

        Args:
            drawings: with times if the ensemble is `timed`.
            done: called after each network.

        Raises:
            SketchstackError: a model cannot be read, or there is no memory or disk space.
        """
        with TemporaryDirectory(prefix="sketchstack-") as folder:
            size = 4 * len(drawings) * len(self.words) * len(self.learners)
            check_space(Path(folder) / "predictions", size, "predicting", TOO_LARGE)
            by_learner = {name: self._of_learner(name, drawings, Path(folder), done) for name in self.learners}
            if self.combination is None:
                return np.array(by_learner[self.name])
            return self.combination.predict(by_learner, facts_of(drawings), self.name)

    def _of_learner(self, name: str, drawings: Shards, folder: Path, done: Callable[[], object]) -> np.ndarray:
        """The mean over the fold models of a learner, in a process of its own: (N, num_words) float32, on disk."""
        arrays = [vars(shard) for shard in drawings.shards]
        of_fold, total = folder / "fold.npy", np.zeros((len(drawings), len(self.words)), np.float32)
        with own_process(f"predicts with {name}") as run:
            for held_out in self.params.folds:
                run(_predict, name, held_out, arrays, of_fold)
                total += np.load(of_fold, mmap_mode="r")
                done()
        np.save(folder / f"{name}.npy", total / len(self.params.folds))
        return np.load(folder / f"{name}.npy", mmap_mode="r")


def _predict(name: str, held_out: int, arrays: list[dict[str, np.ndarray]], place: Path) -> None:
    """Write the probabilities of a fold's model, rounded to float16 as in the cache."""
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns where several models are built in a process
    drawings = Shards([Shard(**each) for each in arrays])
    learner = fitted_learner(name, held_out, load_params(), load_words(places().folds))
    np.save(place, learner.predict_proba(drawings).astype(np.float16))
