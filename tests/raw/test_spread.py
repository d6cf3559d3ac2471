from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.drawings.copies import point_hashes
from pipeline.drawings.shards import SUMMARY, open_shards
from pipeline.raw.spread import is_spread, new_homes
from pipeline.stages import shuffle
from tests.conftest import failing_main, run_main
from tests.smallsets import Small, write

FOLDS = Path("folds/own")


def shuffled(small: Small, folds: int = 3) -> list:
    """The drawings of each fold after the shuffle."""
    write(small, Path())
    run_main(shuffle)
    return [open_shards([FOLDS / f"fold{fold}"]) for fold in range(folds)]


@pytest.mark.parametrize(
    "small",
    [
        Small({"a": 12, "b": 12, "c": 2}, homes={"c": (0,)}),
        Small({"a": 12, "b": 12, "c": 9}, homes={"c": (2,)}),
        Small({"a": 6, "b": 6}, homes={"a": (0,), "b": (0,)}),
        Small({"a": 6, "b": 6, "c": 6}, homes={"a": (0, 1), "b": (0, 1), "c": (1, 0)}),
        Small({"a": 6, "b": 6, "c": 2}, homes={"a": (2,), "b": (2,), "c": (1,)}, copies=3),
        Small({"a": 2, "b": 2}, homes={"a": (1,), "b": (1,)}, params={"shuffle.shards": 4}),
        Small(dict.fromkeys("abcdef", 2), timed=True, countries=False),
    ],
    ids=["pair", "nine", "all in one", "an empty fold", "copies", "many shards", "timed"],
)
def test_each_word_is_in_two_folds_and_no_fold_is_empty(small, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folds = shuffled(small)
    assert "moved to another fold" in capsys.readouterr().out
    counts = np.stack([np.bincount(fold.word, minlength=len(small.words)) for fold in folds])
    assert is_spread(counts)
    assert counts.sum(axis=0).tolist() == [small.copies * count for count in small.words.values()]
    key_ids = np.concatenate([fold.key_id for fold in folds])
    assert len(set(key_ids.tolist())) == len(key_ids) == counts.sum()
    hashes = [set(point_hashes(fold).tolist()) for fold in folds]
    assert len(set.union(*hashes)) == sum(map(len, hashes))  # copies of a drawing share a fold
    summary = json.loads((FOLDS / SUMMARY).read_text())
    assert [summary["rows_out"][f"fold{fold}"] for fold in range(3)] == counts.sum(axis=1).tolist()


def test_moves_do_not_depend_on_the_order_of_the_rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = shuffled(Small({"a": 12, "b": 12, "c": 4}, homes={"c": (0,)}))
    for path in Path("data/own/train_simplified").iterdir():
        header, *rows = path.read_text().splitlines()
        path.write_text("\n".join([header, *rows[::-1], ""]))
    run_main(shuffle)
    again = [open_shards([FOLDS / f"fold{fold}"]) for fold in range(3)]
    assert [fold.key_id.tolist() for fold in again] == [fold.key_id.tolist() for fold in first]


def test_folds_with_each_word_twice_are_left_as_they_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folds = shuffled(Small({"a": 12, "b": 12, "c": 2}, homes={"a": (0, 1, 2), "b": (0, 1, 2), "c": (1, 2)}))
    assert "moved" not in capsys.readouterr().out
    for number, fold in enumerate(folds):
        assert (point_hashes(fold) % np.uint64(3) == number).all()


@pytest.mark.parametrize("seed", range(20))
def test_any_small_set_with_two_drawings_a_word_is_spread(seed):
    rng = np.random.default_rng(seed)
    folds, num_words = int(rng.integers(3, 6)), int(rng.integers(2, 8))
    labels = np.repeat(np.arange(num_words), rng.integers(2, 9, num_words))
    labels = np.concatenate([labels, rng.integers(0, num_words, folds)])
    homes = rng.integers(0, rng.integers(1, folds + 1), len(labels))
    now = new_homes(labels, np.arange(len(labels)), homes, num_words, folds)
    counts = np.zeros((folds, num_words), int)
    np.add.at(counts, (now, labels), 1)
    assert is_spread(counts)


def test_a_drawing_that_cannot_be_spread_is_named_with_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Small({"a": 9, "b": 9, "c": 1}, copies=5), Path())
    said = failing_main(shuffle)
    assert "'c' with 5 rows" in said
    assert "two different drawings at least" in said


def test_fewer_drawings_than_folds_are_too_few(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Small({"a": 2, "b": 2}, folds=7), Path())
    assert "add 3 drawings at least" in failing_main(shuffle)
