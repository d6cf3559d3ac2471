"""Words as people and other programs spell them: which known word a text means.

`The Eiffel Tower`, `the_eiffel_tower ` and `THE-EIFFEL-TOWER` are all `The_Eiffel_Tower`, and an accent may be a
character of its own or part of a letter (the normal forms NFD and NFC).
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

from pipeline.drawings.words import spell

SIMILAR = 3  # words that a message proposes


class Spellings:
    """The known words, found by any of their spellings.

    Args:
        words: in Kaggle's spelling.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._words = frozenset(words)
        self._folded: dict[str, str | None] = {}
        for word in self._words:
            key = folded(word)
            self._folded[key] = None if key in self._folded else word  # None: two words differ in nothing else

    def find(self, text: str) -> str | None:
        """The word that a text means; None if it is none, or may be one of two."""
        spelled = spell(text.strip())
        return spelled if spelled in self._words else self._folded.get(folded(text))

    def similar(self, text: str) -> str:
        """The known words most similar to a text, as a list for a message; `none` if there are none."""
        return ", ".join(difflib.get_close_matches(spell(text.strip()), sorted(self._words), SIMILAR, 0.5)) or "none"


def folded(word: str) -> str:
    """A word without case, blanks around it, normal form, and the sign between its parts."""
    composed = unicodedata.normalize("NFC", unicodedata.normalize("NFC", word).casefold())
    return re.sub(r"[\s_-]+", "_", composed.strip())
