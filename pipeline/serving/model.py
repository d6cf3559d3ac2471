"""The model that a server predicts with: requests to drawings, drawings to guesses. Importing it takes seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.raw.records import Strokes
from pipeline.serving.drawn import Asked, as_lists, asked, drawings_of
from pipeline.serving.packed import PackedEnsemble

DIGITS = 6  # of a probability
OF_A_LEARNER = 3  # guesses
# Below it a first guess is unsure. Of the synthetic test drawings 86% are above, and 98% of those are guessed right;
# of those below, half. No dot and few scribbles are above: see docs/serving.md.
UNSURE = 0.7
SIMPLIFIED = [[[20, 235, 128], [20, 20, 235]], [[128, 128], [60, 160]]]  # drawings for the first prediction
RAW = [[[10.5, 300.25, 128], [20, 33.75, 235], [0, 120, 260]], [[128, 130], [60, 160], [500, 640]]]


class Guess(NamedTuple):
    """What the model says of a drawing.

    Attributes:
        probabilities: (num_words,) float32.
        by_learner: (num_words,) float32 of each base learner.
    """

    probabilities: np.ndarray
    by_learner: dict[str, np.ndarray]


class Model:
    """A pack that answers requests.

    Args:
        path: of the pack.
        name: a base learner of it, to predict with this one alone; None for the pack's model.
        threads: that predict.

    Raises:
        SketchstackError: the file is missing, damaged, or not a pack; or has no such learner.
    """

    def __init__(self, path: Path, name: str | None = None, threads: int = 2) -> None:
        self.ensemble = PackedEnsemble(path, name, threads)

    @property
    def words(self) -> list[str]:
        """The words that it knows, in the order of labels."""
        return list(self.ensemble.words.names)

    def about(self) -> dict[str, Any]:
        """What `GET /model` tells."""
        manifest = self.ensemble.manifest
        return {
            **self.identity,
            "profile": manifest.profile,
            "commit": manifest.commit,
            "weights": manifest.weights,
            "timed": self.ensemble.timed,
            "words": len(self.ensemble.words),
            "learners": [network.name for network in self.ensemble.networks],
            "scores": manifest.scores,
        }

    @property
    def identity(self) -> dict[str, str]:
        """Its name, and the hash of the pack's manifest."""
        return {"name": self.ensemble.name, "hash": self.ensemble.hash}

    def asked(self, body: bytes) -> Asked:
        """What the body of a request asks for.

        Raises:
            RefusedError: it is not a request.
        """
        return asked(body, self.ensemble.words, self.ensemble.timed)

    def predict(self, drawings: list[Strokes]) -> list[Guess]:
        """A guess per drawing."""
        found = self.ensemble.predict(drawings_of(drawings))
        probabilities = found.probabilities.astype(np.float32)
        return [
            Guess(row, {name: each[place] for name, each in found.by_learner.items()})
            for place, row in enumerate(probabilities)
        ]

    def warm_up(self) -> None:
        """Predict once in each way: what is compiled is compiled then, and the networks make their plans."""
        kinds = [RAW] if self.ensemble.timed else [RAW, SIMPLIFIED]
        for drawing in kinds:
            request = self.asked(json.dumps({"drawing": drawing}).encode())
            self.answer(request, self.predict(request.drawings))

    def answer(self, request: Asked, guesses: list[Guess]) -> dict[str, Any]:
        """The answer to a request, as JSON."""
        pairs = zip(request.drawings, guesses, strict=True)
        return {"model": self.identity, "results": [self._result(request, *pair) for pair in pairs]}

    def _result(self, request: Asked, strokes: Strokes, guess: Guess) -> dict[str, Any]:
        best = self._best(guess.probabilities, request.top)
        claim = request.claim
        return {
            "guesses": best,
            "unsure": best[0]["probability"] < UNSURE,
            "learners": {name: self._best(each, OF_A_LEARNER) for name, each in guess.by_learner.items()},
            "claim": None if claim is None else self._pair(claim, guess.probabilities),
            "familiar": None,
            "simplified": as_lists(strokes),
            "points": len(strokes.x),
            "strokes": len(strokes.stroke),
        }

    def _best(self, probabilities: np.ndarray, top: int) -> list[dict[str, Any]]:
        """The most probable words, best first; ties in the order of labels."""
        labels = np.argsort(-probabilities, kind="stable")[:top]
        return [self._pair(label, probabilities) for label in labels.tolist()]

    def _pair(self, label: int, probabilities: np.ndarray) -> dict[str, Any]:
        return {
            "word": self.ensemble.words.names[label],
            "probability": round(float(probabilities[label]), DIGITS),
        }
