"""Where the artefacts of a run lie: each profile's in folders of its own, so that switching profiles loses nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.foundation.errors import SketchstackError

PARAMS, MODELS = Path("params.yaml"), Path("models")
_PROFILE = re.compile(r"""^profile:\s*["']?([^\s"'#]+)""", re.MULTILINE)


@dataclass(frozen=True)
class Places:
    """The folders of one profile, relative to the project's root.

    Attributes:
        profile: its name.
    """

    profile: str

    @property
    def folds(self) -> Path:
        """Shards of drawings, words.json, rejects.csv, summary.json: what `shuffle` writes."""
        return Path("folds", self.profile)

    @property
    def base(self) -> Path:
        """Fitted learners and their cached predictions, a folder per learner and fold."""
        return Path(MODELS, self.profile, "base")

    @property
    def unused(self) -> Path:
        """Models that params.yaml no longer names, set aside; never a DVC output."""
        return Path(MODELS, self.profile, "unused")

    @property
    def curves(self) -> Path:
        """Learning curves, a CSV per learner and fold."""
        return Path(MODELS, self.profile, "curves")

    @property
    def meta(self) -> Path:
        """The fitted SuperLearner, its predictions and all scores."""
        return Path(MODELS, self.profile, "meta")

    @property
    def submissions(self) -> Path:
        """Top-3 CSVs, a manifest beside each."""
        return Path("submissions", self.profile)

    @property
    def reports(self) -> Path:
        """Scores, the HTML report, comparisons."""
        return Path("reports", self.profile)

    @property
    def checkpoints(self) -> Path:
        """Resume points of trainings; never a DVC output."""
        return Path("checkpoints", self.profile)

    @property
    def logs(self) -> Path:
        """Timings and live curves; never a DVC output, and no result depends on them."""
        return Path("logs", self.profile)


def places(root: Path = Path()) -> Places:
    """The places of the profile in force: the one that params.yaml in `root` names.

    Raises:
        SketchstackError: there is no params.yaml, or it names no profile.
    """
    path = root / PARAMS
    try:
        found = _PROFILE.search(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SketchstackError(
            f"{Path.cwd() / path} cannot be read ({error}); run from the repository's root."
        ) from None
    if not found:
        raise SketchstackError(f"{path} names no profile; its first lines have `profile: NAME`. See profiles/.")
    return Places(found[1])
