import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from pipeline.drawings.words import Words
from pipeline.foundation.errors import SketchstackError
from pipeline.submissions.balance import (
    CANDIDATES,
    TOLERANCE,
    assign,
    balance,
    balanced_guesses,
    check_drawable,
    draw_evenly,
    gains,
    uniform,
    whole_counts,
)
from pipeline.submissions.ranking import balanced_score


def softmax(logits):
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(5, 60), words=st.integers(2, 9), certainty=st.floats(0, 6))
def test_expected_counts_are_the_prior_s_and_rows_stay_distributions(seed, rows, words, certainty):
    rng = np.random.default_rng(seed)
    probabilities = softmax(certainty * rng.normal(size=(rows, words))).astype(np.float16)
    prior = rng.dirichlet(np.full(words, 5.0))
    balanced = balance(probabilities, prior)
    assert np.allclose(balanced.probabilities.sum(axis=1), 1)
    assert balanced.error <= TOLERANCE
    assert np.allclose(balanced.probabilities.sum(axis=0), prior * rows, rtol=2 * TOLERANCE)


def test_what_is_balanced_already_is_left_as_it_is():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.3, 0.2, 0.5]])
    balanced = balance(probabilities, uniform(3))
    assert balanced.rounds == 1
    assert np.allclose(balanced.probabilities, probabilities)


def test_a_word_that_is_never_given_a_chance_does_not_stop_it():
    probabilities = np.array([[0.5, 0.5, 0], [0.9, 0.1, 0], [0.4, 0.6, 0]], np.float16)
    assert np.isfinite(balance(probabilities, uniform(3)).probabilities).all()


def test_the_order_of_the_rows_does_not_matter():
    probabilities = softmax(np.random.default_rng(0).normal(size=(40, 5)))
    order = np.random.default_rng(1).permutation(40)
    assert np.allclose(
        balance(probabilities[order], uniform(5)).probabilities, balance(probabilities, uniform(5)).probabilities[order]
    )


def biased(rng, labels, words):
    """Probabilities of a model that prefers words, whatever it is shown."""
    logits = rng.normal(size=(len(labels), words)) + np.linspace(-2, 2, words)
    logits[np.arange(len(labels)), labels] += 2.5
    return softmax(logits)


@pytest.mark.parametrize("method", ["scaling", "assignment"])
def test_balancing_mends_a_model_that_prefers_some_words(method):
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(10), 50)
    gained = gains(biased(rng, labels, 10), labels, method)
    assert gained.shape == (500,)
    assert gained.mean() > 0.05


def test_draws_hold_each_word_equally_often_and_no_row_twice():
    labels = np.random.default_rng(0).choice(4, size=200, p=[0.1, 0.2, 0.3, 0.4])
    draw = draw_evenly(labels, 4, 1000, np.random.default_rng(1))
    assert set(np.bincount(labels[draw])) == {np.bincount(labels).min()}
    assert len(set(draw.tolist())) == len(draw)
    smaller = draw_evenly(labels, 4, 3, np.random.default_rng(1))
    assert np.bincount(labels[smaller]).tolist() == [3, 3, 3, 3]


def test_draws_are_a_function_of_the_seed_and_differ_between_seeds():
    labels = np.repeat(np.arange(4), 50)
    first, again, other = (draw_evenly(labels, 4, 5, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()


def test_every_row_of_a_word_can_be_drawn():
    labels = np.array([0, 0, 0, 1, 1, 1])
    drawn = {row for seed in range(50) for row in draw_evenly(labels, 2, 1, np.random.default_rng(seed)).tolist()}
    assert drawn == set(range(6))


def test_a_word_without_rows_is_named():
    with pytest.raises(SketchstackError, match=r"shows 'bee'.*raise oof.max_rows"):
        check_drawable(np.array([0, 2, 2]), Words(("ant", "bee", "cat")))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(4, 50), words=st.integers(2, 9))
def test_the_assignment_is_the_likeliest_that_has_these_counts(seed, rows, words):
    rng = np.random.default_rng(seed)
    probabilities, prior = softmax(3 * rng.normal(size=(rows, words))), rng.dirichlet(np.full(words, 5.0))
    found, counts = assign(probabilities, prior), whole_counts(prior, rows)
    assert np.bincount(found, minlength=words).tolist() == counts.tolist()
    places = np.repeat(np.arange(words), counts)  # a column a place: the plain assignment problem
    costs = -np.log(probabilities)
    _, best = linear_sum_assignment(costs[:, places])
    reached = costs[np.arange(rows), found].sum()
    assert reached == pytest.approx(costs[np.arange(rows), places[best]].sum(), abs=1e-4)


def test_a_row_whose_candidates_are_all_full_takes_what_is_left():
    words = CANDIDATES + 5
    probabilities = np.tile(np.linspace(1, 2, words), (2 * words, 1))  # all rows like the same words best
    found = assign(probabilities / probabilities.sum(axis=1, keepdims=True), uniform(words))
    assert np.bincount(found, minlength=words).tolist() == [2] * words


def test_counts_add_up_and_differ_by_less_than_one():
    counts = whole_counts(np.array([0.5, 0.3, 0.2]), 7)
    assert counts.tolist() == [4, 2, 1]
    assert whole_counts(uniform(340), 112_200).tolist() == [330] * 340


def test_the_first_guess_is_the_assigned_one_and_the_others_the_likeliest_of_the_rest():
    probabilities = np.array(
        [[0.7, 0.2, 0.06, 0.04], [0.6, 0.1, 0.25, 0.05], [0.5, 0.1, 0.1, 0.3], [0.4, 0.35, 0.2, 0.05]]
    )
    found = balanced_guesses(probabilities, uniform(4), "assignment")
    first = assign(balance(probabilities, uniform(4)).probabilities, uniform(4))
    assert sorted(first.tolist()) == [0, 1, 2, 3]
    assert found.best[:, 0].tolist() == first.tolist()
    assert all(len(set(row)) == 3 for row in found.best.tolist())
    assert found.done["method"] == "assignment"
    scaled = balance(probabilities, uniform(4)).probabilities
    for row, (one, two, three) in zip(scaled, found.best.tolist(), strict=True):
        rest = [word for word in np.argsort(-row) if word != one]
        assert [two, three] == rest[:2]


def rows_of_gains(rows: int, gain: float, spread: float = 0.3) -> list[np.ndarray]:
    return [np.random.default_rng(seed).normal(gain, spread, rows).clip(-1, 1) for seed in range(5)]


@pytest.mark.parametrize(("rows", "gain"), [(1, 0.5), (2, 0.3), (8, 0.1), (8, -0.1), (60, 0.05), (300, 0.01)])
def test_a_gain_that_chance_explains_is_told_and_not_added(rows, gain):
    precision = np.random.default_rng(0).choice([0, 1 / 2, 1], 90)
    score = balanced_score(precision, rows_of_gains(rows, gain), np.random.default_rng(0))
    assert score["map3"] == pytest.approx(precision.mean(), abs=1e-6)
    assert score["gain_counts"] is False
    assert 0 <= score["low"] <= score["map3"] <= score["high"] <= 1


@pytest.mark.parametrize(("rows", "gain"), [(1000, 0.001), (1800, 0.002), (300, 0.3), (5000, -0.01)])
def test_a_gain_of_enough_rows_or_beyond_chance_is_added(rows, gain):
    precision = np.random.default_rng(0).choice([0, 1 / 2, 1], 90)
    score = balanced_score(precision, rows_of_gains(rows, gain), np.random.default_rng(0))
    assert score["map3"] == pytest.approx(precision.mean() + score["gain"], abs=2e-6)
    assert "gain_counts" not in score


@pytest.mark.parametrize("rows", [1, 4, 2000])
def test_a_score_with_its_gain_and_its_interval_stay_in_range(rows):
    for precision, gain in ((np.ones(30), 0.4), (np.zeros(30), -0.4)):
        score = balanced_score(precision, rows_of_gains(rows, gain), np.random.default_rng(0))
        assert 0 <= score["low"] <= score["map3"] <= score["high"] <= 1
