"""What predicts: the ensemble of a run (`trained`) and that of a pack (`packed`) are used alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from pipeline.drawings.shards import Shards
from pipeline.drawings.words import Words


class Ensemble(Protocol):
    """An ensemble, or one model of it.

    Attributes:
        name: of the model that it predicts as.
        words: of the columns.
        timed: whether drawings need the time of each point.
    """

    name: str
    words: Words
    timed: bool

    @property
    def models(self) -> int:
        """The number of networks."""

    def probabilities(self, drawings: Shards, done: Callable[[], object] = ...) -> np.ndarray:
        """The probabilities of drawings, (N, num_words); `done` is called after each network."""
