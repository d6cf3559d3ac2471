"""One order of the labels, whatever the files, the machine or the spelling."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.drawings.words import Words, load_words, spell
from pipeline.foundation.errors import SketchstackError


def test_spaces_become_underscores_and_hyphens_stay():
    assert [spell(word) for word in ("wine glass", "t-shirt", "The Eiffel Tower")] == [
        "wine_glass",
        "t-shirt",
        "The_Eiffel_Tower",
    ]


def test_capitals_come_first_and_a_prefix_before_its_longer_word():
    names = ["baseball bat", "ant", "The Mona Lisa", "baseball"]
    assert Words.from_names(names).names == ("The_Mona_Lisa", "ant", "baseball", "baseball_bat")


def test_both_spellings_of_a_word_are_one_label():
    assert Words.from_names(["hot dog", "hot_dog", "ant"]).names == ("ant", "hot_dog")


@given(st.lists(st.text("abZ _-é", min_size=1), unique=True), st.randoms())
@settings(deadline=None)
def test_the_order_depends_on_nothing_but_the_words(names, random):
    mixed = list(names)
    random.shuffle(mixed)
    words = Words.from_names(names)
    assert words == Words.from_names(mixed)
    assert [words.index[name] for name in words.names] == list(range(len(words)))


def test_the_hash_tells_other_words_and_another_order():
    words = Words(("ant", "bee"))
    assert words.hash == Words(("ant", "bee")).hash
    assert len({words.hash, Words(("bee", "ant")).hash, Words(("ant", "bees")).hash, Words(("ant",)).hash}) == 4


def test_saved_words_are_read_as_they_were(tmp_path):
    words = Words.from_names(["wine glass", "t-shirt", "Münze", "犬"])
    words.save(tmp_path / "words.json")
    assert load_words(tmp_path) == words
    assert load_words(tmp_path).hash == words.hash


def test_missing_words_are_refused_with_the_remedy(tmp_path):
    with pytest.raises(SketchstackError, match=r"words\.json is missing; run `dvc repro shuffle`"):
        load_words(tmp_path)


@pytest.mark.parametrize(
    "text", ['["ant", "bee"', '{"ant": 0}', "[]", '["ant", "ant"]', '["ant", 2]', '[["ant"]]', "0"]
)
def test_what_is_not_a_list_of_different_words_is_refused(tmp_path, text):
    (tmp_path / "words.json").write_text(text)
    with pytest.raises(SketchstackError, match=r"words\.json must be a list of different words; run"):
        load_words(tmp_path)


def test_words_json_is_json_that_others_can_read(tmp_path):
    Words.from_names(["bee", "ant"]).save(tmp_path / "words.json")
    assert json.loads((tmp_path / "words.json").read_text()) == ["ant", "bee"]
