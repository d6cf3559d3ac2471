"""The words to classify, in the order that every artefact shares."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.foundation.contents import intact
from pipeline.foundation.errors import SketchstackError


def spell(word: str) -> str:
    """Spell a word as Kaggle's submissions do: spaces become underscores, hyphens stay (`t-shirt`, `wine_glass`).

    Letters with accents get the normal form NFC, as macOS names files in NFD; blanks around the word are removed.
    """
    return unicodedata.normalize("NFC", word).strip(" ").replace(" ", "_")


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

    def save(self, path: Path, hashed_ids: Sequence[str] = ()) -> None:
        """Write words.json: a list of words, or an object of it and the words whose drawings have hashes as ids."""
        content = {"words": self.names, "hashed_ids": hashed_ids} if hashed_ids else self.names
        path.write_text(json.dumps(content, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")


def load_words(folder: Path) -> Words:
    """Read `words.json` of a folder of folds.

    Raises:
        SketchstackError: the file is missing, or not a list of different words.
    """
    path = folder / "words.json"
    try:
        content = json.loads(intact(path).read_text(encoding="utf-8"))
        names = content.get("words") if isinstance(content, dict) else content
    except FileNotFoundError:
        raise SketchstackError(f"{path} is missing; run `dvc repro shuffle` to write the folds.") from None
    except ValueError:
        names = None
    if not isinstance(names, list) or not _are_different_words(names):
        raise SketchstackError(
            f"{path} must be a list of different words; run `dvc repro -f shuffle` to write it again."
        )
    return Words(tuple(names))


def _are_different_words(names: list[Any]) -> bool:
    return bool(names) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
