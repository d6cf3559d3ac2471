from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone, is_classifier

from pipeline.errors import SketchstackError
from pipeline.metalearners import available, load_metalearner
from pipeline.metalearners._base import ConvexCombination, simplex_weights
from pipeline.metrics import log_loss

ROOT = Path(__file__).parents[1]
BLOCKS = yaml.safe_load((ROOT / "params.yaml").read_text())["stack"]["params"]
WORDS, LEARNERS, N = 6, 3, 240


def made_up(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, LEARNERS * WORDS) of learners better and worse, and labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, WORDS, N)
    logits = random.normal(size=(N, LEARNERS, WORDS))
    logits[np.arange(N), :, labels] += [2.0, 1.0, 0.2]
    P = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    return P.reshape(N, -1).astype(np.float32), labels


def metalearner(name: str):
    return load_metalearner(name, WORDS, BLOCKS[name])


@pytest.mark.parametrize("name", available())
def test_a_metalearner_keeps_the_contract(name, tmp_path):
    X, labels = made_up()
    fitted = clone(metalearner(name)).fit(X, labels)
    found = fitted.predict_proba(X)
    assert is_classifier(fitted)
    assert found.shape == (N, WORDS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert found.min() >= 0
    assert log_loss(found, labels) < np.log(WORDS)
    order = np.random.default_rng(1).permutation(N)
    np.testing.assert_allclose(fitted.predict_proba(X[order]), found[order], atol=1e-6)
    assert (clone(fitted).fit(X, labels).predict_proba(X) == found).all(), "the same rows must give the same bytes"
    fitted.save(tmp_path / "weights.npz")
    assert (clone(fitted).load(tmp_path / "weights.npz").predict_proba(X) == found).all()
    assert fitted.get_params() == {"num_words": WORDS, **BLOCKS[name]}
    if fitted.learner_weights is not None:
        assert fitted.learner_weights.shape == (LEARNERS,)


@pytest.mark.parametrize("name", available())
def test_a_metalearner_knows_words_that_its_training_rows_lack(name):
    X, labels = made_up()
    seen = labels != WORDS - 1
    assert metalearner(name).fit(X[seen], labels[seen]).predict_proba(X).shape == (N, WORDS)


def test_the_means_by_hand():
    X = np.array([[0.8, 0.2, 0.2, 0.8], [0.9, 0.1, 0.5, 0.5]], np.float32)
    arithmetic = load_metalearner("arithmetic_mean", 2, {}).fit(X, np.array([0, 1]))
    geometric = load_metalearner("geometric_mean", 2, {}).fit(X, np.array([0, 1]))
    np.testing.assert_allclose(arithmetic.predict_proba(X), [[0.5, 0.5], [0.7, 0.3]], atol=1e-6)
    np.testing.assert_allclose(geometric.predict_proba(X), [[0.5, 0.5], [0.75, 0.25]], atol=1e-6)  # sqrt(9) to sqrt(1)


def test_convex_weights_find_the_mixture_that_drew_the_labels():
    random = np.random.default_rng(0)
    P = random.dirichlet(np.full(WORDS, 0.3), size=(20_000, 3))  # (N, 3, WORDS), three learners at odds
    member = random.choice(3, size=len(P), p=[0.6, 0.4, 0.0])  # the third has no part in it
    chosen = P[np.arange(len(P)), member]
    labels = (chosen.cumsum(axis=1) > random.random((len(P), 1))).argmax(axis=1)
    found = ConvexCombination(WORDS).fit(P.reshape(len(P), -1), labels).learner_weights
    np.testing.assert_allclose(found, [0.6, 0.4, 0.0], atol=0.03)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), members=st.integers(1, 6))
def test_no_move_on_the_simplex_lowers_the_log_loss_of_the_convex_weights(seed, members):
    true = np.random.default_rng(seed).beta(0.5, 0.5, size=(50, members))
    weights = simplex_weights(true)
    true = np.maximum(true, 1e-7)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    # The gradient's condition for a least point: no member's likelihood ratio to the mixture is above 1 on average.
    ratios = (true / (true @ weights)[:, None]).mean(axis=0)
    assert ratios.max() < 1 + 1e-3
    assert np.abs(ratios[weights > 1e-3] - 1).max() < 1e-2


def test_a_member_that_never_helps_gets_exactly_nothing():
    better = np.random.default_rng(0).uniform(0.2, 0.9, 500)
    assert simplex_weights(np.stack([better, better / 2], axis=1)).tolist() == [1.0, 0.0]


def test_logistic_learns_a_confusion_that_no_pool_can_mend():
    """The learner calls word 0 `1` and word 1 `0`, surely: only weights across words put that right."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 3000)
    said = np.array([1, 0, 2])[labels]
    X = np.full((3000, 3), 0.05, np.float32)
    X[np.arange(3000), said] = 0.9
    model = load_metalearner("logistic", 3, {**BLOCKS["logistic"], "ridge": 1.0}).fit(X, labels)
    assert (model.predict(X) == labels).all()


def test_logistic_with_an_endless_ridge_is_the_best_weighted_pool():
    X, labels = made_up()
    pool = load_metalearner("logistic", WORDS, {**BLOCKS["logistic"], "ridge": 1e12}).fit(X, labels)
    logs = np.log(X.reshape(N, LEARNERS, WORDS))
    assert pool.learner_weights is not None
    expected = np.exp(np.einsum("nlw,l->nw", logs, pool.learner_weights))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(pool.predict_proba(X), expected, atol=1e-4)
    assert pool.learner_weights.argsort().tolist() == [2, 1, 0], "better learners count more"
    assert log_loss(expected, labels) < log_loss(
        load_metalearner("geometric_mean", WORDS, {}).fit(X, labels).predict_proba(X), labels
    )


def test_logistic_expects_each_word_as_often_as_it_came():
    """Where the gradient by the bias is 0 and the ridge near 0, mean probabilities are the words' shares."""
    X, labels = made_up()
    kept = (labels < 2) | (np.arange(N) % 3 == 0)  # two words come three times as often
    X, labels = X[kept], labels[kept]
    block = {**BLOCKS["logistic"], "ridge": 1e-2, "iterations": 300}
    found = load_metalearner("logistic", WORDS, block).fit(X, labels).predict_proba(X).mean(axis=0)
    np.testing.assert_allclose(found, np.bincount(labels) / len(labels), atol=2e-3)


def test_logistic_fits_on_no_more_rows_than_it_may():
    X, labels = made_up()
    few = load_metalearner("logistic", WORDS, {**BLOCKS["logistic"], "max_rows": 2}).fit(X, labels)
    first_and_last = metalearner("logistic").fit(X[[0, -1]], labels[[0, -1]])
    assert (few.predict_proba(X) == first_and_last.predict_proba(X)).all()


def test_an_unknown_metalearner_is_refused_with_what_exists():
    with pytest.raises(SketchstackError, match=r"no meta-learner 'nosuch'.*arithmetic_mean.*logistic"):
        load_metalearner("nosuch", WORDS, {})


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({**BLOCKS["logistic"], "rigde": 1.0}, "rigde.*takes ridge, iterations, max_rows"),
        ({"ridge": 1.0}, "iterations: Field required"),
        ({**BLOCKS["logistic"], "ridge": "much"}, "ridge.*valid number"),
        ({**BLOCKS["logistic"], "iterations": 0}, "iterations.*greater than or equal to 1"),
    ],
)
def test_a_block_that_does_not_fit_the_constructor_is_refused(block, said):
    with pytest.raises(SketchstackError, match=f"stack.params.logistic: .*{said}"):
        load_metalearner("logistic", WORDS, block)
