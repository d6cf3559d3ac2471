import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone, is_classifier

from pipeline.foundation.errors import SketchstackError
from pipeline.predictions.metrics import log_loss, map_at_3, precision_at_3, top3
from pipeline.stacking.metalearners import available, greedy, load_metalearner
from pipeline.stacking.metalearners._base import FACTS, ConvexCombination, simplex_weights
from pipeline.stacking.metalearners.ranker import _ranks

ROOT = Path(__file__).parents[2]
BLOCKS = yaml.safe_load((ROOT / "profiles" / "synthetic.yaml").read_text())["stack"]["params"]
WORDS, LEARNERS, N = 6, 3, 240


def made_up(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, facts and LEARNERS * WORDS) of learners better and worse, and labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, WORDS, N)
    logits = random.normal(size=(N, LEARNERS, WORDS))
    logits[np.arange(N), :, labels] += [2.0, 1.0, 0.2]
    P = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    return with_facts(P), labels


def with_facts(P: np.ndarray) -> np.ndarray:
    """Probabilities (N, ...) as features, with facts that say nothing."""
    facts = np.random.default_rng(9).integers(1, 20, (len(P), len(FACTS)))
    return np.hstack([facts, P.reshape(len(P), -1)]).astype(np.float32)


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
    X = with_facts(np.array([[0.8, 0.2, 0.2, 0.8], [0.9, 0.1, 0.5, 0.5]]))
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
    found = ConvexCombination(WORDS).fit(with_facts(P), labels).learner_weights
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
    P = np.full((3000, 3), 0.05)
    P[np.arange(3000), said] = 0.9
    X = with_facts(P)
    model = load_metalearner("logistic", 3, {**BLOCKS["logistic"], "ridge": 1.0}).fit(X, labels)
    assert (model.predict(X) == labels).all()


def test_logistic_with_an_endless_ridge_is_the_best_weighted_pool():
    X, labels = made_up()
    pool = load_metalearner("logistic", WORDS, {**BLOCKS["logistic"], "ridge": 1e12}).fit(X, labels)
    logs = np.log(X[:, len(FACTS) :].reshape(N, LEARNERS, WORDS))
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


def test_greedy_scores_as_the_metric_does_ties_included():
    random = np.random.default_rng(0)
    total, given = (random.integers(0, 4, shape).astype(np.float32) for shape in ((300, WORDS), (300, 2, WORDS)))
    labels = random.integers(0, WORDS, 300)
    found, _ = greedy._scores(total, given, labels, 1e-7)
    for learner in range(2):
        expected = precision_at_3(top3(total + given[:, learner]), labels)
        np.testing.assert_allclose(found[:, learner], expected)


def test_greedy_chooses_each_learner_as_often_as_it_helps():
    X, labels = made_up()
    P, _ = metalearner("greedy").parted(X)
    useless = np.full_like(P[:, :1], 1 / WORDS)
    model = metalearner("greedy").fit(with_facts(np.concatenate([useless, P, useless], axis=1)), labels)
    assert model.learner_weights is not None
    assert model.learner_weights.sum() == pytest.approx(1)
    assert model.learner_weights[[0, 4]].tolist() == [0, 0]
    assert model.learner_weights.argmax() == 1
    best_alone = map_at_3(top3(P[:, 0]), labels)
    assert (
        map_at_3(top3(model.predict_proba(with_facts(np.concatenate([useless, P, useless], 1)))), labels) > best_alone
    )


def experts(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """P (4000, 2, WORDS): the first learner knows the first half of the words, the second the others; and labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, WORDS, 4000)
    logits = random.normal(size=(4000, 2, WORDS))
    logits[np.arange(4000), (labels >= WORDS // 2).astype(int), labels] += 3
    return np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True), labels


def test_word_groups_tell_which_learner_knows_which_words():
    (P, labels), (others, unseen) = experts(0), experts(1)
    grouped = load_metalearner("word_groups", WORDS, {"groups": 2, "max_rows": 10**6}).fit(with_facts(P), labels)
    weights = grouped.weights_["weights"] / grouped.weights_["weights"].sum(axis=1, keepdims=True)
    assert weights[: WORDS // 2, 0].min() > 0.9
    assert weights[WORDS // 2 :, 1].min() > 0.9
    one = load_metalearner("word_groups", WORDS, {"groups": 1, "max_rows": 10**6}).fit(with_facts(P), labels)
    plain = ConvexCombination(WORDS).fit(with_facts(P), labels)
    np.testing.assert_allclose(one.predict_proba(with_facts(P)), plain.predict_proba(with_facts(P)), atol=2e-3)
    scores = [log_loss(model.predict_proba(with_facts(others)), unseen) for model in (grouped, one)]
    assert scores[0] < scores[1] - 0.1


def told_by_strokes(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of two learners, the first right about drawings of one stroke alone, the second about the others."""
    random = np.random.default_rng(seed)
    labels, strokes = random.integers(0, WORDS, 4000), random.integers(1, 3, 4000)
    logits = random.normal(size=(4000, 2, WORDS))
    logits[np.arange(4000), strokes - 1, labels] += 3
    P = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    X = with_facts(P)
    X[:, 0] = strokes
    return X, labels


def test_the_ranker_learns_from_facts_whom_to_believe():
    (X, labels), (others, unseen) = told_by_strokes(0), told_by_strokes(1)
    block = {**BLOCKS["ranker"], "candidates": 4, "min_rows": 50}
    ranked = load_metalearner("ranker", WORDS, block).fit(X, labels).predict_proba(others)
    pooled = load_metalearner("geometric_mean", WORDS, {}).fit(X, labels).predict_proba(others)
    assert map_at_3(top3(ranked), unseen) > map_at_3(top3(pooled), unseen) + 0.05
    assert log_loss(ranked, unseen) < log_loss(pooled, unseen) - 0.1
    flat = others.copy()
    flat[:, 0] = 1
    assert not np.allclose(load_metalearner("ranker", WORDS, block).fit(X, labels).predict_proba(flat), ranked)


def test_words_that_no_learner_names_keep_their_pooled_probability():
    X, labels = made_up()
    block = {**BLOCKS["ranker"], "candidates": 2, "min_rows": 20}
    model = load_metalearner("ranker", WORDS, block).fit(X, labels)
    P, facts = model.parted(X)
    found, pooled = (
        model.predict_proba(X),
        load_metalearner("geometric_mean", WORDS, {}).fit(X, labels).predict_proba(X),
    )
    candidates = np.zeros_like(pooled, bool)
    chosen = model._candidates(P, facts)
    candidates[chosen.rows, chosen.words] = True
    assert candidates.sum(axis=1).min() >= 2
    assert not candidates.all()
    np.testing.assert_allclose(found[~candidates], pooled[~candidates], atol=1e-6)
    by_hand = np.argsort(-P[0, 1])[:2]
    assert candidates[0, by_hand].all()


def test_the_ranker_takes_no_huge_step_where_all_learners_are_sure_and_often_wrong():
    X, labels = told_by_strokes(0)  # of these there is something to learn
    random = np.random.default_rng(0)
    told = np.where(random.random(2000) < 0.25, (labels[:2000] + 1) % WORDS, labels[:2000])
    sure = np.full((2000, 2, WORDS), 1e-7, np.float32)
    sure[np.arange(2000), :, told] = 1 - 1e-7 * (WORDS - 1)
    X[:2000, len(FACTS) :] = sure.reshape(2000, -1)
    ranked, pooled = (
        load_metalearner(name, WORDS, BLOCKS[name]).fit(X, labels).predict_proba(X)
        for name in ("ranker", "geometric_mean")
    )
    assert log_loss(ranked[2000:], labels[2000:]) < log_loss(pooled[2000:], labels[2000:]) - 0.1
    assert log_loss(ranked[:2000], labels[:2000]) < log_loss(pooled[:2000], labels[:2000])


@pytest.mark.parametrize("most", [3, WORDS])
def test_ranks_are_those_of_a_stable_sort(most):
    random = np.random.default_rng(0)
    for P in (random.random((50, 3, WORDS)), random.integers(0, 3, (50, 3, WORDS)), np.zeros((2, 1, WORDS))):
        expected = np.full(P.shape, most)
        best = np.argsort(-P, axis=2, kind="stable")[..., :most]
        np.put_along_axis(expected, best, np.broadcast_to(np.arange(most), best.shape), axis=2)
        np.testing.assert_array_equal(_ranks(P.astype(np.float32), most), expected)


def test_the_ranker_is_the_pool_where_no_row_can_teach_it():
    X, _ = made_up()
    P, _ = metalearner("ranker").parted(X)
    never = np.argmin(P.sum(axis=1), axis=1)  # likely among nobody's best two
    chosen = load_metalearner("ranker", WORDS, {**BLOCKS["ranker"], "candidates": 2})._candidates(P, X[:, :3])
    named = np.zeros((N, WORDS), bool)
    named[chosen.rows, chosen.words] = True
    untaught = ~named[np.arange(N), never]
    model = load_metalearner("ranker", WORDS, {**BLOCKS["ranker"], "candidates": 2}).fit(X[untaught], never[untaught])
    pooled = load_metalearner("geometric_mean", WORDS, {}).fit(X, never).predict_proba(X)
    np.testing.assert_allclose(model.predict_proba(X), pooled, atol=1e-6)


class Lazy:
    """Probabilities that are read as they are asked for."""

    def __init__(self, P: np.ndarray) -> None:
        self.P, self.shape, self.most = P, P.shape, 0

    def __len__(self) -> int:
        return len(self.P)

    def __getitem__(self, rows):
        found = self.P[rows]
        self.most = max(self.most, len(found))
        return found


@pytest.mark.parametrize("name", available())
def test_probabilities_that_are_read_in_chunks_give_the_same(name, monkeypatch):
    X, labels = made_up()
    P, facts = metalearner(name).parted(X)
    whole = metalearner(name).fit(X, labels).predict_proba(X)
    lazy = Lazy(P)
    fitted = metalearner(name).fit_on(lazy, facts, labels)
    np.testing.assert_array_equal(fitted.predict_on(lazy, facts), whole)
    monkeypatch.setattr("pipeline.stacking.metalearners._base.CHUNK", 50)
    lazy.most = 0
    np.testing.assert_allclose(fitted.predict_on(lazy, facts), whole, atol=1e-6)
    assert lazy.most == 50


WITHOUT_LIBGOMP = """
import sys

class Missing:
    tried = False

    def find_spec(self, name, path=None, target=None):
        if name == "lightgbm" and not self.tried:
            self.tried = True
            raise OSError("libgomp.so.1: cannot open shared object file: No such file or directory")

sys.meta_path.insert(0, Missing())
from pipeline.stacking.metalearners.ranker import _lightgbm
print(_lightgbm().__name__, "torch/lib/libgomp.so.1" in open("/proc/self/maps").read())
"""


def test_where_the_system_has_no_libgomp_the_ranker_takes_torch_s():
    shown = subprocess.run(
        [sys.executable, "-c", WITHOUT_LIBGOMP], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert shown.stdout == "lightgbm True\n", shown.stderr


FEW = [(1, 2, 1), (2, 2, 3), (5, 3, 2), (9, 30, 2), (40, 5, 2)]  # rows, words, learners


@pytest.mark.parametrize("name", available())
@pytest.mark.parametrize("shape", FEW)
@pytest.mark.parametrize("alike", [False, True])
def test_a_metalearner_fits_on_few_rows_even_if_all_are_alike(name, shape, alike):
    rows, num_words, learners = shape
    rng = np.random.default_rng(rows)
    P = rng.dirichlet(np.ones(num_words), (rows, learners)).astype(np.float32)
    P = np.repeat(P[:1], rows, axis=0) if alike else P
    block = yaml.safe_load((ROOT / "profiles" / "synthetic.yaml").read_text())["stack"]["params"][name]
    model = load_metalearner(name, num_words, block)
    found = model.fit(with_facts(P), rng.integers(0, num_words, rows)).predict_proba(with_facts(P))
    assert found.shape == (rows, num_words)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-4)
    if model.learner_weights is not None:
        assert np.isfinite(model.learner_weights).all()


@pytest.mark.parametrize("rows", [1, 20, 39])
def test_a_ranker_whose_rows_cannot_be_split_is_the_geometric_mean(rows):
    P = np.random.default_rng(rows).dirichlet(np.ones(5), (rows, 2)).astype(np.float32)
    labels = np.arange(rows) % 5
    block = yaml.safe_load((ROOT / "profiles" / "synthetic.yaml").read_text())["stack"]["params"]["ranker"]
    ranker = load_metalearner("ranker", 5, block).fit(with_facts(P), labels)
    geometric = load_metalearner("geometric_mean", 5, {}).fit(with_facts(P), labels)
    np.testing.assert_allclose(ranker.predict_proba(with_facts(P)), geometric.predict_proba(with_facts(P)), rtol=1e-6)
