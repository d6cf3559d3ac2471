"""The prediction cache gives back what was written, and nothing that belongs to other words, rows or params."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.drawings.words import Words
from pipeline.foundation.contents import seal
from pipeline.foundation.errors import SketchstackError
from pipeline.predictions.cache import (
    FoldPredictions,
    LearnerPredictions,
    cached_share,
    model_folder,
    read_learner,
    read_predictions,
    rows_hash,
    write_predictions,
)
from tests.rawfiles import some_params

WORDS = Words(("ant", "bee", "cat", "dog"))
HASH = "the params"


def probabilities(rows, seed=0, num_words=4):
    return np.random.default_rng(seed).dirichlet(np.ones(num_words), rows).astype(np.float32)


def write(folder, rows=6, first_key=10, learner_hash=HASH, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    how = {
        "oof": probabilities(rows, first_key),
        "test": probabilities(3, first_key + 1),
        "rows": np.arange(first_key, first_key + rows),
        "test_rows": np.arange(3),
        "labels": np.arange(rows) % len(WORDS),
        "words": WORDS,
        "learner_hash": learner_hash,
        "trained_on": np.arange(100, 110),
    }
    return write_predictions(folder, **{**how, **changes})


def refusal(folder, words=WORDS, learner_hash=HASH):
    with pytest.raises(SketchstackError) as caught:
        read_predictions(folder, words=words, learner_hash=learner_hash)
    text = str(caught.value)
    assert text.startswith(str(folder))
    assert text.endswith(f"run `dvc repro` to predict again; if that fails, remove {folder} first.")
    return text


def test_predictions_come_back_as_half_precision_memory_maps(tmp_path):
    write(tmp_path)
    read = read_predictions(tmp_path, words=WORDS, learner_hash=HASH)
    for array, expected in ((read.oof, probabilities(6, 10)), (read.test, probabilities(3, 11))):
        assert isinstance(array, np.memmap)
        assert array.dtype == np.float16
        np.testing.assert_array_equal(array, expected.astype(np.float16))
    assert read.rows.tolist() == list(range(10, 16))
    assert read.rows.dtype == np.int64


def test_the_metrics_written_are_those_of_what_is_cached(tmp_path):
    oof = np.array([[0.5, 0.25, 0.25, 0], [0.5, 0.25, 0.125, 0.125]])
    written = write(tmp_path, rows=2, oof=oof, labels=np.array([0, 1]))
    assert written["map3"] == pytest.approx((1 + 1 / 2) / 2)
    assert written["top1"] == 0.5
    assert written["log_loss"] == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert written["rows"] == 2
    assert json.loads((tmp_path / "metrics.json").read_text()) == written


def test_the_same_predictions_are_written_as_the_same_bytes(tmp_path):
    for name in ("one", "other"):
        write(tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()


def test_a_failed_prediction_stays_not_a_number(tmp_path):
    oof = probabilities(6)
    oof[2] = np.nan
    write(tmp_path, oof=oof)
    read = read_predictions(tmp_path, words=WORDS, learner_hash=HASH)
    assert np.isnan(read.oof).all(axis=1).tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize("words", [("ant", "bee", "cat", "eel"), ("bee", "ant", "cat", "dog"), ("ant", "bee", "cat")])
def test_predictions_of_other_words_are_refused(tmp_path, words):
    write(tmp_path)
    assert "was made from other words: its hash is not the one in force" in refusal(tmp_path, words=Words(words))


def test_predictions_of_other_params_are_refused(tmp_path):
    write(tmp_path)
    assert "was made from other learner" in refusal(tmp_path, learner_hash="other params")


def test_rows_that_were_exchanged_afterwards_are_refused(tmp_path):
    write(tmp_path)
    np.save(tmp_path / "rows.npy", np.arange(10, 16)[::-1])
    seal(tmp_path)
    assert "was made from other rows" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["oof.npy", "test.npy", "rows.npy", "metrics.json"])
def test_a_missing_file_is_refused_by_name(tmp_path, name):
    write(tmp_path)
    (tmp_path / name).unlink()
    assert f"holds no complete predictions ([Errno 2] No such file or directory: '{tmp_path / name}')" in refusal(
        tmp_path
    )


@pytest.mark.parametrize("name", ["oof.npy", "test.npy", "rows.npy", "metrics.json"])
def test_a_file_that_is_cut_short_is_refused(tmp_path, name):
    write(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-9])
    assert "holds no complete predictions" in refusal(tmp_path)


@pytest.mark.parametrize("text", ["{}", "null", "[1]", '{"hashes": null}', '{"hashes": {}, "trained_on": 7}', '"x"'])
def test_metrics_without_hashes_are_refused(tmp_path, text):
    write(tmp_path)
    (tmp_path / "metrics.json").write_text(text)
    assert f"{tmp_path} holds no complete predictions" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"oof": probabilities(5), "labels": np.zeros(5, int)},
            "oof.npy is (5, 4) and test.npy (3, 4), but rows.npy has 6",
        ),
        ({"oof": probabilities(6, num_words=5)}, "oof.npy is (6, 5) and test.npy (3, 4)"),
        ({"test": probabilities(3, num_words=3)}, "test.npy (3, 3), but rows.npy has 6 rows and words.json 4 words"),
        ({"test": probabilities(3)[0]}, "test.npy (4,)"),
    ],
)
def test_a_wrong_shape_is_refused_with_what_it_is(tmp_path, changes, told):
    write(tmp_path, **changes)
    assert told in refusal(tmp_path)


def test_the_hash_of_rows_tells_their_order_and_not_their_dtype():
    assert rows_hash(np.array([1, 2], np.int32)) == rows_hash(np.array([1, 2], np.int64))
    assert rows_hash(np.arange(8)[::2]) == rows_hash(np.array([0, 2, 4, 6]))
    assert rows_hash(np.array([1, 2])) != rows_hash(np.array([2, 1]))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
@settings(deadline=None)
def test_rows_of_all_folds_are_numbered_fold_by_fold(sizes, data):
    folds, key = [], 0
    for number, size in enumerate(sizes):
        arrays = (probabilities(size, number).astype(np.float16), probabilities(3, 50 + number).astype(np.float16))
        folds.append(FoldPredictions(*arrays, np.arange(key, key + size), {}))
        key += size
    learner = LearnerPredictions("gru", tuple(folds))
    assert learner.rows.tolist() == list(range(key))
    assert learner.fold_sizes == sizes
    flat = [row.tolist() for fold in folds for row in fold.oof]
    positions = data.draw(st.lists(st.integers(0, key - 1), max_size=8))
    found = learner.oof(np.array(positions, np.int64))
    assert found.dtype == np.float32
    assert found.tolist() == [flat[position] for position in positions]


def test_test_probabilities_are_the_mean_over_the_fold_models():
    halves = [np.array([[0.5, 0.5], [1, 0]]), np.array([[0.25, 0.75], [0.5, 0.5]]), np.array([[0, 1], [0.75, 0.25]])]
    folds = [FoldPredictions(half.astype(np.float16), half.astype(np.float16), np.arange(2), {}) for half in halves]
    learner = LearnerPredictions("gru", tuple(folds))
    assert learner.test().dtype == np.float32
    np.testing.assert_allclose(learner.test(), [[0.25, 0.75], [0.75, 0.25]])
    np.testing.assert_allclose(learner.test(np.array([1, 0, 1])), learner.test()[[1, 0, 1]])
    np.testing.assert_allclose(learner.test(slice(1, 2)), learner.test()[1:2])


def test_a_learner_is_read_fold_by_fold_and_checked_against_the_params_in_force(tmp_path):
    params = some_params()
    for held_out in params.folds:
        folder = model_folder("gru", held_out, tmp_path)
        write(folder, first_key=100 * held_out, learner_hash=params.learner_hash("gru"))
    learner = read_learner("gru", params, WORDS, tmp_path)
    assert learner.name == "gru"
    assert learner.rows.tolist() == [100 * fold + row for fold in params.folds for row in range(6)]
    with pytest.raises(SketchstackError, match="gru/fold0 was made from other learner"):
        read_learner("gru", some_params(seed=1), WORDS, tmp_path)
    with pytest.raises(SketchstackError, match="lstm/fold0 holds no complete predictions"):
        read_learner("lstm", params, WORDS, tmp_path)


@pytest.mark.parametrize(("max_rows", "share"), [(1000, 40), (120, 40), (119, 39), (100, 33), (101, 33)])
def test_a_fold_caches_an_equal_share_of_max_rows(max_rows, share):
    assert cached_share(40, some_params(oof={"max_rows": max_rows})) == share
