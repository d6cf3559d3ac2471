"""Scores, against numbers worked by hand and a slow, plain oracle."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.predictions import metrics
from pipeline.predictions.metrics import log_loss, map_at_3, precision_at_3, scores, top3

few_probabilities = arrays(  # few different values, so that ties are the rule
    np.float16, st.tuples(st.integers(1, 7), st.integers(3, 6)), elements=st.sampled_from([0, 0.125, 0.25, 0.5])
)


def test_a_first_guess_is_worth_one():
    assert map_at_3([["dog", "cat", "bee"]], ["dog"]) == 1


def test_a_second_guess_is_worth_half():
    assert map_at_3([["cat", "dog", "bee"]], ["dog"]) == 0.5


def test_a_third_guess_is_worth_a_third():
    assert map_at_3([["cat", "bee", "dog"]], ["dog"]) == pytest.approx(1 / 3)


def test_a_miss_is_worth_nothing():
    assert map_at_3([["cat", "bee", "ant"]], ["dog"]) == 0


def test_a_word_guessed_twice_counts_once():
    assert map_at_3([["dog", "dog", "dog"]], ["dog"]) == 1


def test_rows_are_averaged():
    guesses = [["dog", "cat", "bee"], ["dog", "cat", "bee"], ["dog", "cat", "bee"], ["dog", "cat", "bee"]]
    assert map_at_3(guesses, ["dog", "cat", "bee", "ant"]) == pytest.approx((1 + 1 / 2 + 1 / 3 + 0) / 4)


def test_precision_is_told_row_by_row():
    guesses = np.array([[2, 0, 1], [0, 2, 1], [0, 1, 2], [0, 1, 3]])
    np.testing.assert_allclose(precision_at_3(guesses, np.array([2, 2, 2, 2])), [1, 1 / 2, 1 / 3, 0])


def test_ties_go_to_the_earlier_label():
    probabilities = np.array([[0.2, 0.2, 0.2, 0.2, 0.2], [0.1, 0.3, 0.0, 0.3, 0.3]], np.float16)
    assert top3(probabilities).tolist() == [[0, 1, 2], [1, 3, 4]]


def test_log_loss_is_the_mean_negative_logarithm():
    probabilities = np.array([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]])
    assert log_loss(probabilities, np.array([0, 1])) == pytest.approx((math.log(2) + math.log(8)) / 2)


def test_log_loss_of_an_impossible_word_is_finite():
    assert log_loss(np.array([[1.0, 0.0, 0.0]]), np.array([2])) == pytest.approx(-math.log(1e-7))


def test_a_failed_prediction_is_not_scored_as_a_number():
    assert math.isnan(log_loss(np.full((2, 3), np.nan), np.array([0, 1])))


def test_all_scores_by_hand():
    probabilities = np.array([[0.5, 0.25, 0.25, 0], [0.25, 0.5, 0.25, 0], [0.5, 0.25, 0.125, 0.125]])
    found = scores(probabilities, np.array([0, 0, 2]))
    assert found == {
        "map3": pytest.approx((1 + 1 / 2 + 1 / 3) / 3),
        "top1": pytest.approx(1 / 3),
        "log_loss": pytest.approx((math.log(2) + math.log(4) + math.log(8)) / 3),
    }


@given(few_probabilities, st.data())
@settings(deadline=None)
def test_scores_equal_a_plain_oracle(probabilities, data):
    num_words = probabilities.shape[1]
    labels = data.draw(arrays(np.int16, len(probabilities), elements=st.integers(0, num_words - 1)))
    precision, firsts, losses = [], [], []
    for row, label in zip(probabilities.tolist(), labels.tolist(), strict=True):
        place = sum(other > row[label] or (other == row[label] and word < label) for word, other in enumerate(row))
        precision.append([1, 1 / 2, 1 / 3][place] if place < 3 else 0)
        firsts.append(place == 0)
        losses.append(-math.log(max(row[label], 1e-7)))
    found = scores(probabilities, labels)
    assert found["map3"] == pytest.approx(np.mean(precision))
    assert found["top1"] == pytest.approx(np.mean(firsts))
    assert found["log_loss"] == pytest.approx(np.mean(losses))


@pytest.mark.parametrize("rows", [7, 8, 9, 25])
def test_a_memory_map_read_in_chunks_gives_what_the_whole_gives(tmp_path, monkeypatch, rows):
    probabilities = np.random.default_rng(0).dirichlet(np.ones(5), rows).astype(np.float16)
    np.save(tmp_path / "oof.npy", probabilities)
    monkeypatch.setattr(metrics, "CHUNK", 8)
    in_chunks = top3(np.load(tmp_path / "oof.npy", mmap_mode="r"))
    np.testing.assert_array_equal(in_chunks, np.argsort(-probabilities.astype(float), axis=1, kind="stable")[:, :3])


def test_of_two_words_both_are_guessed_and_a_second_guess_is_worth_half():
    probabilities = np.array([[0.7, 0.3], [0.4, 0.6], [0.5, 0.5]])
    assert top3(probabilities).tolist() == [[0, 1], [1, 0], [0, 1]]
    assert scores(probabilities, np.array([0, 0, 1]))["map3"] == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)


def test_of_one_word_there_is_one_guess():
    assert top3(np.ones((2, 1))).tolist() == [[0], [0]]
