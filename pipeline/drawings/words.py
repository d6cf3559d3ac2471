"""The words to classify, in the order that every artefact shares."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pipeline.foundation.contents import intact
from pipeline.foundation.errors import SketchstackError


def spell(word: str) -> str:
    """Spell a word as Kaggle's submissions do: spaces become underscores, hyphens stay (`t-shirt`, `wine_glass`).

    Letters with accents get the normal form NFC, as macOS names files in NFD; blanks around the word are removed.
    """
    return unicodedata.normalize("NFC", word).strip().replace(" ", "_")


@dataclass(frozen=True)
class Words:
    """The labels in label order. `index[word]` is the label of a word in its Kaggle spelling."""

    names: tuple[str, ...]

    @classmethod
    def from_names(cls, names: Iterable[str]) -> Words:
        """Order words by their Kaggle spelling, so that the order does not depend on files, machine or locale."""
        return cls(tuple(sorted({spell(name) for name in names})))

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def index(self) -> dict[str, int]:
        """The label of each word, found by its Kaggle spelling."""
        return {name: label for label, name in enumerate(self.names)}

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the words in order; stored with every artefact that has a column per word."""
        return hashlib.sha256("\n".join(self.names).encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write words.json."""
        path.write_text(json.dumps(self.names, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")


def load_words(folder: Path) -> Words:
    """Read `words.json` of a folder of folds.

    Raises:
        SketchstackError: the file is missing, or not a list of different words.
    """
    path = folder / "words.json"
    try:
        names = json.loads(intact(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SketchstackError(f"{path} is missing; run `dvc repro shuffle` to write the folds.") from None
    except ValueError:
        names = None
    texts = isinstance(names, list) and bool(names) and all(isinstance(name, str) for name in names)
    if not texts or len(set(names)) != len(names):
        raise SketchstackError(
            f"{path} must be a list of different words; run `dvc repro -f shuffle` to write it again."
        )
    return Words(tuple(names))
