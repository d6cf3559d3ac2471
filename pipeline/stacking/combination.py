"""The fitted stack as a function: probabilities of the base learners → those of meta-learners and the SuperLearner.

The same arithmetic as mlens's, without mlens: each learner at its temperature, the meta-learners on all of them, the
SuperLearner's weights on the meta-learners.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.foundation.contents import check_sealed, intact
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import Params
from pipeline.stacking.calibration import scaled
from pipeline.stacking.metalearners import load_metalearner
from pipeline.stacking.metalearners._base import BaseMetaLearner, ConvexCombination, chunks

SUPER = "super_learner"
WEIGHTS = "weights.npz"


@dataclass(frozen=True)
class Combination:
    """A fitted stack.

    Attributes:
        learners: the names of the base learners, sorted.
        temperatures: of each learner; 1 where scaling does not lower its log loss.
        metalearners: fitted, by name, sorted.
        combined: the SuperLearner's weights on the meta-learners.
    """

    learners: tuple[str, ...]
    temperatures: Mapping[str, float]
    metalearners: Mapping[str, BaseMetaLearner]
    combined: ConvexCombination

    @property
    def names(self) -> list[str]:
        """What it predicts: each meta-learner and `super_learner`."""
        return [*self.metalearners, SUPER]

    def calibrated(self, name: str, probabilities: np.ndarray) -> np.ndarray:
        """A learner's probabilities (N, num_words) at its temperature, float32."""
        temperature = self.temperatures[name]
        return probabilities if temperature == 1 else scaled(probabilities, temperature)

    def predict(self, by_learner: Mapping[str, np.ndarray], facts: np.ndarray, name: str) -> np.ndarray:
        """The probabilities of a meta-learner or of `super_learner`, (N, num_words) float16, as the stage `stack` has.

        Args:
            by_learner: (N, num_words) float32 of each base learner, means over its fold models.
            facts: (N, len(FACTS)) float32 of each drawing.
            name: one of `names`.
        """
        rows, words = next(iter(by_learner.values())).shape
        found = np.empty((rows, words), np.float16)
        for part in chunks(rows):
            P = np.stack([self.calibrated(each, by_learner[each][part]) for each in self.learners], axis=1)
            if name == SUPER:
                meta = [model.predict_on(P, facts[part]) for model in self.metalearners.values()]
                found[part] = self.combined.predict_on(np.stack(meta, axis=1), facts[part])
            else:
                found[part] = self.metalearners[name].predict_on(P, facts[part])
        return found


def models_of(params: Params) -> list[str]:
    """What a run predicts as: its base learners, its meta-learners and `super_learner`."""
    return [*params.base_learners, *params.stack.metalearners, SUPER]


def check_model(params: Params, name: str) -> None:
    """Refuse a name that is none of `models_of`.

    Raises:
        SketchstackError: names those that there are.
    """
    if name not in (known := models_of(params)):
        raise SketchstackError(f"there is no model {name!r} in params.yaml; the models are {', '.join(known)}.")


def read_combination(params: Params, num_words: int, folder: Path) -> Combination:
    """The fitted stack of a run.

    Args:
        params: those that it was fitted with.
        num_words: columns per learner.
        folder: models/<profile>/meta.

    Raises:
        SketchstackError: a file is missing or damaged, or the stack is of other learners.
    """
    learners = tuple(sorted(params.base_learners))
    try:
        check_sealed(folder)
        calibration = json.loads(intact(folder / "calibration.json").read_text(encoding="utf-8"))
        names = sorted(params.stack.metalearners)
        fitted = {
            name: load_metalearner(name, num_words, params.stack.params[name]).load(intact(folder / name / WEIGHTS))
            for name in names
        }
        combined = ConvexCombination(num_words).load(intact(folder / SUPER / WEIGHTS))
    except (OSError, ValueError, KeyError) as error:
        raise SketchstackError(f"{folder} holds no complete stack ({error}); run `dvc repro stack`.") from None
    if set(calibration) != set(learners) and calibration:
        raise SketchstackError(
            f"{folder} is the stack of {', '.join(sorted(calibration))}, and params.yaml names {', '.join(learners)}; "
            "run `dvc repro stack`."
        )
    used = {name: found["temperature"] if found["used"] else 1.0 for name, found in calibration.items()}
    return Combination(learners, {name: used.get(name, 1.0) for name in learners}, fitted, combined)
