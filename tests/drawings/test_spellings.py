import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.drawings.spellings import Spellings
from pipeline.drawings.words import Words

WORDS = ("The_Eiffel_Tower", "t-shirt", "wine_glass", "straße", "café", "İstanbul", "c++", "c#")


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize(
    "spelled",
    [
        str.upper,
        str.lower,
        str.title,
        lambda word: f" {word}\t",
        lambda word: word.replace("_", " "),
        lambda word: unicodedata.normalize("NFD", word),
    ],
)
def test_a_word_is_found_by_its_other_spellings(word, spelled):
    if word == "İstanbul" and spelled in (str.lower, str.upper, str.title):
        spelled = str.strip  # other letters in Turkish than elsewhere
    assert Spellings(WORDS).find(spelled(word)) == word


def test_other_words_are_not_found_but_the_most_similar_told():
    found = Spellings(WORDS)
    assert [found.find(text) for text in ("wineglass", "glass", "", "c", "3-Mar")] == [None] * 5
    assert found.similar("wine glas") == "wine_glass"
    assert found.similar("zzz") == "none"


@given(st.lists(st.text(min_size=1), min_size=1))
def test_every_known_word_is_found_as_it_is(names):
    words = Words.from_names(name for name in names if name.strip() == name)
    assert all(Spellings(words.names).find(name) == name for name in words.names)
