"""Error rates of claimed words: by hand, against scikit-learn and pyeer, and what must hold for any scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import det_curve

from pipeline.drawings.words import Words
from pipeline.foundation.errors import SketchstackError
from pipeline.predictions import verification
from pipeline.predictions.verification import (
    FALSE_ACCEPTS,
    GRID,
    VALUES,
    ErrorRates,
    Scores,
    accepted_claims,
    count_scores,
    thresholds,
)

ANIMALS = Words(("bee", "cat", "dog"))


def named(count: int) -> Words:
    return Words(tuple(f"word{number:03}" for number in range(count)))


def predictions(rows: int, words: int, seed: int = 0, skill: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (rows, words) float16, many of them equal or 0, and labels (rows,)."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, words, rows)
    logits = random.normal(size=(rows, words)) * 2
    logits[np.arange(rows), labels] += skill
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return np.round(probabilities, 3).astype(np.float16), labels


def claims(probabilities: np.ndarray, labels: np.ndarray, label: int) -> tuple[np.ndarray, np.ndarray]:
    """Genuine and impostor scores of a claimed word, float64."""
    scores = probabilities[:, label].astype(np.float64)
    return scores[labels == label], scores[labels != label]


@st.composite
def drawn(draw, least_rows: int = 2):
    """Any float16 probabilities (they need not sum to 1) and labels of at least two words."""
    rows, words = draw(st.integers(least_rows, 30)), draw(st.integers(2, 4))
    values = st.sampled_from([0.0, -0.0, 6e-8, 1e-4, 0.1, 0.5, 0.9, 0.9995, 1.0]) | st.floats(0, 1, width=16)
    probabilities = draw(hnp.arrays(np.float16, (rows, words), elements=values))
    labels = draw(hnp.arrays(np.int64, rows, elements=st.integers(0, words - 1)))
    labels[:2] = 0, 1
    return probabilities, labels


def test_the_rates_of_five_drawings_by_hand():
    probabilities = np.array(
        [[0.75, 0.25, 0], [0.25, 0.5, 0.25], [0.5, 0.5, 0], [0.25, 0.75, 0], [0.5, 0.25, 0.25]], np.float16
    )
    scores = count_scores([probabilities], np.array([0, 0, 1, 1, 2]), ANIMALS)
    bee = scores.of_word(0)  # genuine 0.75 and 0.25; impostors 0.5, 0.25 and 0.5
    assert bee.at(0.0) == (1, 0)
    assert bee.at(0.3) == (pytest.approx(2 / 3), 0.5)
    assert bee.at(0.6) == (0, 0.5)
    assert bee.at(0.8) == (0, 1)
    # the line from (2/3, 1/2) at 0.5 to (0, 1/2) above it meets FAR = FRR at 1/2
    assert float(bee.eer) == pytest.approx(0.5)
    dog = scores.of_word(2)  # genuine 0.25; impostors 0, 0.25, 0, 0
    assert dog.at(0.25) == (0.25, 0)
    assert float(dog.eer) == pytest.approx(0.2)  # from (1/4, 0) straight to (0, 1)
    assert float(dog.eer_threshold) == np.nextafter(np.float16(0.25), np.float16(1))
    cat = scores.of_word(1)  # genuine 0.5 and 0.75; impostors 0.25, 0.5 and 0.25
    assert cat.at(0.5) == (pytest.approx(1 / 3), 0)
    assert float(cat.eer) == pytest.approx(0.2)  # from (1/3, 0) straight to (0, 1/2)
    assert scores.rows.tolist() == [2, 2, 1]
    assert scores.impostors.tolist() == [3, 3, 4]
    assert scores.pooled.at(0.3) == (
        pytest.approx((2 / 3 + 1 / 3 + 0) / 3),
        pytest.approx((1 / 2 + 0 + 1) / 3),
    )


@pytest.mark.parametrize("seed", range(5))
def test_the_rates_of_a_word_are_those_of_scikit_learn(seed):
    probabilities, labels = predictions(300, 4, seed)
    scores = count_scores([probabilities], labels, named(4))
    for label in range(4):
        own = labels == label
        far, frr, at = det_curve(own, probabilities[:, label].astype(np.float64), drop_intermediate=False)
        found = np.array([scores.of_word(label).at(threshold) for threshold in at])
        np.testing.assert_allclose(found, np.stack([far, frr], axis=1), atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_pooled_rates_are_those_of_scikit_learn_with_words_of_equal_weight(seed):
    probabilities, labels = predictions(400, 5, seed)
    labels[:200] = 0  # a word with many rows counts as much as the others
    scores = count_scores([probabilities], labels, named(5))
    own = np.arange(5) == labels[:, None]
    weights = np.where(own, 1 / own.sum(axis=0), 1 / (~own).sum(axis=0))
    far, frr, at = det_curve(
        own.ravel(), probabilities.astype(np.float64).ravel(), sample_weight=weights.ravel(), drop_intermediate=False
    )
    found = np.array([scores.pooled.at(threshold) for threshold in at])
    np.testing.assert_allclose(found, np.stack([far, frr], axis=1), atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_the_equal_error_rate_is_in_the_bounds_that_pyeer_gives(seed):
    pyeer = pytest.importorskip("pyeer.eer_stats")
    probabilities, labels = predictions(300, 3, seed, skill=1.0)
    scores = count_scores([probabilities], labels, named(3))
    for label in range(3):
        at, far, frr = pyeer.calculate_roc(*claims(probabilities, labels, label))
        rates = scores.of_word(label)
        np.testing.assert_allclose([rates.at(threshold) for threshold in at], np.stack([far, frr], axis=1), atol=1e-12)
        _, *between, _ = pyeer.get_eer_values(far, frr)
        # pyeer's bounds are of one threshold; a straight line to the next may meet the diagonal a step further
        step = 1 / min(scores.rows[label], scores.impostors[label])
        assert min(between) - step <= float(rates.eer) <= max(between) + step


@given(drawn())
def test_rates_are_shares_and_monotone(given_rows):
    scores = count_scores([given_rows[0]], given_rows[1], named(given_rows[0].shape[1]))
    for rates in (scores.pooled, *(scores.of_word(label) for label in np.flatnonzero(scores.rows).tolist())):
        assert (rates.far[0], rates.frr[0], rates.far[-1], rates.frr[-1]) == (1, 0, 0, 1)
        assert (np.diff(rates.far) <= 1e-12).all()
        assert (np.diff(rates.frr) >= -1e-12).all()
        assert 0 <= float(rates.eer) <= 1


@given(drawn(), st.sampled_from([0.5, 0.1, 0.01, 0.0001]))
def test_a_threshold_keeps_its_rate_and_no_lower_one_does(given_rows, false_accept):
    scores = count_scores([given_rows[0]], given_rows[1], named(given_rows[0].shape[1]))
    for label in np.flatnonzero(scores.rows).tolist():
        _, impostors = claims(given_rows[0], given_rows[1], label)
        threshold = float(scores.of_word(label).threshold(false_accept))
        assert np.mean(impostors >= threshold) <= false_accept
        lower = GRID[np.searchsorted(GRID, threshold) - 1]
        assert np.mean(impostors >= lower) > false_accept


@given(drawn(), st.integers(0, 2**32 - 1))
def test_a_monotone_map_of_the_probabilities_changes_no_rate(given_rows, seed):
    probabilities, labels = given_rows
    words = named(probabilities.shape[1])
    distinct, inverse = np.unique(np.abs(probabilities), return_inverse=True)
    others = np.sort(np.random.default_rng(seed).choice(VALUES, len(distinct), replace=False))
    mapped = GRID[others][inverse].reshape(probabilities.shape).astype(np.float16)
    before, after = (count_scores([each], labels, words) for each in (probabilities, mapped))
    np.testing.assert_allclose(before.eers, after.eers, atol=1e-12)
    assert float(before.pooled.eer) == pytest.approx(float(after.pooled.eer), abs=1e-9)
    for false_accept in (0.3, 0.01):
        assert before.pooled.frr_at(false_accept) == pytest.approx(after.pooled.frr_at(false_accept), abs=1e-9)


@pytest.mark.parametrize("words", [2, 7])
@pytest.mark.parametrize("seed", range(3))
def test_a_perfect_model_a_constant_one_and_an_inverted_one(words, seed):
    labels = np.random.default_rng(seed).permutation(np.arange(40) % words)
    perfect = np.eye(words)[labels]
    for probabilities, eer in ((perfect, 0), (np.full_like(perfect, 0.3), 0.5), (1 - perfect, 1)):
        scores = count_scores([probabilities], labels, named(words))
        assert float(scores.pooled.eer) == pytest.approx(eer)
        np.testing.assert_allclose(scores.eers, eer)
    assert float(count_scores([perfect], labels, named(words)).pooled.frr_at(0.0001)) == 0


def test_the_threshold_of_the_equal_error_rate_is_the_lowest_at_which_both_rates_are_the_same():
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.25, 0.75], [0.75, 0.25], [0.5, 0.5], [0.125, 0.875]])
    bee = count_scores([probabilities], labels, named(2)).of_word(0)  # genuine 0.25, 0.75; impostors 0.5, 0.125
    assert float(bee.eer) == 0.5  # FAR and FRR are 1/2 above 0.25, up to 0.5
    assert float(bee.eer_threshold) == np.nextafter(np.float16(0.25), np.float16(1))


def test_a_random_model_is_right_half_the_time():
    random = np.random.default_rng(3)
    labels = random.integers(0, 3, 6000)
    assert float(count_scores([random.random((6000, 3))], labels, ANIMALS).pooled.eer) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("sizes", [[300], [1, 299], [150, 0, 150], [20] * 15])
@pytest.mark.parametrize("chunk", [37, 8192])
def test_parts_and_chunks_change_nothing(sizes, chunk, monkeypatch):
    probabilities, labels = predictions(300, 4)
    whole = count_scores([probabilities], labels, named(4))
    monkeypatch.setattr(verification, "CHUNK", chunk)
    parts = np.split(probabilities, np.cumsum(sizes)[:-1])
    cut = count_scores(iter(parts), labels, named(4))
    for name in ("genuine", "impostor"):
        np.testing.assert_array_equal(getattr(cut, name), getattr(whole, name))
    for name in ("genuine_groups", "impostor_groups"):
        np.testing.assert_allclose(getattr(cut, name), getattr(whole, name), atol=1e-12)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_other_floats_are_rounded_to_float16(kind):
    probabilities, labels = predictions(100, 3)
    nudged = probabilities.astype(kind) * kind(1 + (0 if kind is np.float16 else 1e-5))
    scores = count_scores([nudged], labels, ANIMALS)
    np.testing.assert_array_equal(scores.impostor, count_scores([probabilities], labels, ANIMALS).impostor)


def test_every_claim_is_counted_once():
    probabilities, labels = predictions(500, 6)
    scores = count_scores([probabilities], labels, named(6))
    assert scores.genuine.sum() == 500
    assert scores.impostor.sum() == 500 * 5
    assert scores.genuine_groups.sum() == pytest.approx(6)  # each word weighs 1
    assert scores.impostor_groups.sum() == pytest.approx(6)


def test_a_word_without_rows_has_no_rates_and_the_pooled_threshold():
    probabilities, labels = predictions(200, 3)
    labels[labels == 1] = 2
    scores = count_scores([probabilities], labels, ANIMALS)
    assert np.isnan(scores.eers).tolist() == [False, True, False]
    assert 1 not in scores.hardest_first()
    assert len(scores.hardest_first()) == 2
    point = scores.points(1)[0]
    assert (point.pooled, point.threshold) == (True, float(scores.pooled.threshold(0.01)))
    assert np.isnan(point.frr)
    assert 0 <= point.far <= 1
    both = [scores.of_word(label).far for label in (0, 2)]
    np.testing.assert_allclose(scores.pooled.far, np.mean(both, axis=0), atol=1e-12)


def test_a_word_with_one_row_is_pooled_like_the_others():
    probabilities = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.125, 0.25, 0.625], [0, 1, 0]])
    scores = count_scores([probabilities], np.array([0, 1, 2, 1]), ANIMALS)
    assert scores.eers.tolist() == [0, 0, 0]
    assert scores.intervals(np.random.default_rng(0))["eer"] == (0, 0)


def test_zeros_of_either_sign_are_one_value():
    labels = np.array([0, 0, 1, 1])
    scores = count_scores([np.array([[0.0, 0], [-0.0, -0.0], [0, 0], [-0.0, 0]], np.float16)], labels, named(2))
    assert float(scores.pooled.eer) == 0.5
    assert np.flatnonzero(scores.genuine.sum(axis=0)).tolist() == [0]


def test_where_probability_1_is_not_enough_the_threshold_is_infinite():
    labels = np.array([0, 1] * 50)
    probabilities = np.eye(2)[labels]
    probabilities[0] = 0, 1  # sure of the wrong word
    probabilities[1] = 1, 0
    scores = count_scores([probabilities], labels, named(2))
    assert scores.pooled.threshold(0.001) == np.inf
    assert scores.pooled.frr_at(0.001) == 1
    assert scores.pooled.threshold(0.05) <= 1
    assert thresholds(probabilities, labels, named(2), 0.001).tolist() == [np.inf, np.inf]


@pytest.mark.parametrize(
    ("probabilities", "labels", "said"),
    [
        ([[0.5, np.nan, 0.5], [0.2, 0.3, 0.5]], [0, 1], r"row 0 has the probability nan"),
        ([[0.5, 0.5, 0.0], [0.2, 1.5, 0.5]], [0, 1], r"row 1 has the probability 1\.5, which is not between 0 and 1"),
        ([[0.5, 0.5, 0.0], [0.2, -0.1, 0.5]], [0, 1], r"row 1 has the probability -0\.1"),
        ([[0.5, np.inf, 0.0], [0.2, 0.1, 0.5]], [0, 1], r"row 0 has the probability inf"),
        ([[0.5, 1e30, 0.0], [0.2, 0.1, 0.5]], [0, 1], r"row 0 has the probability 1e\+30"),
        ([[0.5, 0.5], [0.2, 0.8]], [0, 1], r"2 rows and 2 words do not fit 2 labels of 3 words"),
        ([[0.5, 0.5, 0]] * 3, [0, 1], r"3 rows and 3 words do not fit 2 labels"),
        ([[0.5, 0.5, 0]], [0, 1], r"1 rows do not fit 2 labels"),
        ([[0.5, 0.5, 0]] * 2, [0, 3], r"label 3 is of none of the 3 words"),
        ([[0.5, 0.5, 0]] * 2, [-1, 0], r"label -1 is of none of the 3 words"),
        ([[0.5, 0.5, 0]] * 2, [1, 1], r"all 2 rows are of 'cat'"),
        (np.zeros((0, 3)), [], r"there are no rows"),
    ],
)
def test_what_has_no_error_rates_is_refused_in_words(probabilities, labels, said):
    with pytest.raises(SketchstackError, match=said):
        count_scores([np.asarray(probabilities)], np.asarray(labels, np.int64), ANIMALS)


@pytest.mark.parametrize("rate", [0, 1, -0.1, 2, float("nan"), float("inf")])
def test_a_rate_that_is_no_share_is_refused(rate):
    probabilities, labels = predictions(20, 3)
    with pytest.raises(SketchstackError, match="give one between 0 and 1"):
        thresholds(probabilities, labels, ANIMALS, rate)


def test_a_word_has_its_own_threshold_from_thirty_accepted_impostors_on():
    probabilities, labels = predictions(6000, 4, skill=1.0)
    probabilities *= np.array([1, 0.8, 0.6, 0.4], np.float16)
    labels[:] = np.arange(6000) % 3  # the fourth word has no rows
    words, pooled = named(4), count_scores([probabilities], labels, named(4)).pooled
    many = thresholds(probabilities, labels, words, 0.01)  # 4,000 impostors: 40 accepted
    for label in range(3):
        _, impostors = claims(probabilities, labels, label)
        assert np.mean(impostors >= many[label]) <= 0.01
        assert np.mean(impostors >= np.nextafter(np.float16(many[label]), np.float16(0))) > 0.01
    assert len(set(many[:3])) == 3
    assert many[3] == pooled.threshold(0.01)
    few = thresholds(probabilities, labels, words, 0.001)
    assert set(few) == {float(pooled.threshold(0.001))}


def test_a_threshold_holds_on_new_rows():
    probabilities, labels = predictions(40_000, 5, seed=1)
    chosen = thresholds(probabilities[:20_000], labels[:20_000], named(5), 0.01)
    new, of = probabilities[20_000:], labels[20_000:]
    for label in range(5):
        _, impostors = claims(new, of, label)
        assert np.mean(impostors >= chosen[label]) == pytest.approx(0.01, abs=0.004)


def test_intervals_are_those_of_a_bootstrap_over_single_rows():
    probabilities, labels = predictions(2000, 5, seed=2, skill=3)
    words, random = named(5), np.random.default_rng(0)
    scores = count_scores([probabilities], labels, words)
    samples = []
    for _ in range(100):
        rows = random.integers(0, 2000, 2000)
        again = count_scores([probabilities[rows]], labels[rows], words).pooled
        samples.append([again.eer, again.frr_at(0.01)])
    expected = np.quantile(samples, [0.025, 0.975], axis=0).T
    found = scores.intervals(np.random.default_rng(1))
    widths = np.diff(expected, axis=1)
    np.testing.assert_allclose([found["eer"], found["frr at 0.01"]], expected, atol=0.25 * widths.max())
    assert found == scores.intervals(np.random.default_rng(1))


class Same:
    """A random generator whose samples are the expected counts."""

    def multinomial(self, n, pvals, size):
        return np.tile(np.rint(n * pvals).astype(np.int64), (size, 1))


@pytest.mark.parametrize("seed", range(4))
def test_impostors_between_genuine_scores_can_be_counted_together(seed):
    probabilities, labels = predictions(300, 3, seed, skill=seed)
    scores = count_scores([probabilities], labels, ANIMALS)
    for label in range(3):
        low, high = scores.eer_interval(label, Same())  # type: ignore[arg-type]
        assert low == high == pytest.approx(scores.eers[label])
        low, high = scores.eer_interval(label, np.random.default_rng(seed))
        assert low <= scores.eers[label] <= high


def test_the_interval_of_a_word_is_that_of_a_bootstrap_over_single_rows():
    probabilities, labels = predictions(1500, 3, seed=5)
    random = np.random.default_rng(0)
    samples = []
    for _ in range(100):
        rows = random.integers(0, 1500, 1500)
        samples.append(count_scores([probabilities[rows]], labels[rows], ANIMALS).eers[1])
    found = count_scores([probabilities], labels, ANIMALS).eer_interval(1, np.random.default_rng(1))
    expected = np.quantile(samples, [0.025, 0.975])
    np.testing.assert_allclose(found, expected, atol=0.25 * np.diff(expected)[0])


def test_accepted_claims_by_hand():
    probabilities = np.array([[0.5, 0.375, 0.125], [0.25, 0.625, 0.125], [0.25, 0.25, 0.5]])
    accepted = accepted_claims([probabilities], np.array([0, 0, 2]), np.array([0.5, 0.375, np.inf]))
    assert accepted.tolist() == [[1, 2, 0], [0, 0, 0], [0, 0, 0]]


def test_few_accepted_impostors_make_a_rough_threshold():
    probabilities, labels = predictions(4000, 3)
    scores = count_scores([probabilities], labels, ANIMALS)  # 8,000 impostors
    assert [scores.is_rough(rate) for rate in FALSE_ACCEPTS] == [False, True, True]
    assert [point.false_accept for point in scores.pooled_points()] == list(FALSE_ACCEPTS)


@settings(max_examples=30)
@given(hnp.arrays(np.int32, (2, VALUES), elements=st.integers(0, 3), fill=st.just(0)))
def test_sums_of_counts(counts):
    counts[:, 5] += 1
    rates = ErrorRates.from_counts(*counts)
    for place in (0, 5, 6, VALUES):
        assert rates.far[place] == pytest.approx(counts[1][place:].sum() / counts[1].sum())
        assert rates.frr[place] == pytest.approx(counts[0][:place].sum() / counts[0].sum())
    assert isinstance(Scores(*(each[None] for each in (*counts, *counts))).pooled, ErrorRates)
