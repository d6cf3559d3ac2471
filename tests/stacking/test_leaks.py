"""Ten planted leaks, each caught by its name; what is no leak passes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.drawings.shards import NO_LABEL, SCHEMA, SUMMARY, TEST, Shard, open_shards, shard_hashes, write_shard
from pipeline.drawings.words import Words
from pipeline.predictions.cache import (
    LearnerPredictions,
    model_folder,
    open_predictions,
    rows_digest,
    write_predictions,
)
from pipeline.stacking import leaks
from pipeline.stacking.rows import Rows, facts_of

WORDS = Words.from_names(f"word{i}" for i in range(5))
FOLDS, EACH, TESTS = (0, 1, 2), 400, 60
SKILL = 3.0


def some_drawings(count: int, seed: int) -> Shard:
    random = np.random.default_rng(seed)
    points = random.integers(0, 256, (count, 2, 4)).tolist()
    return Shard.from_lists([[stroke] for stroke in points], random.integers(0, len(WORDS), count).tolist())


def write_folds(shards: dict[str, Shard], first_keys: dict[str, int]) -> None:
    for name, shard in shards.items():
        place = Path("folds/synthetic", name)
        place.mkdir(parents=True, exist_ok=True)
        write_shard(place / "0000.arrow", table_of(shard, first_keys[name], labelled=name != TEST))
    Path("folds/synthetic", SUMMARY).write_text(json.dumps({"shards": shard_hashes(Path("folds/synthetic"))}))


def table_of(shard: Shard, first_key: int, *, labelled: bool) -> pa.Table:
    rows = len(shard)
    lists = {name: pa.ListArray.from_arrays(shard.points, getattr(shard, name)) for name in ("x", "y")}
    columns = {
        "key_id": pa.array(range(first_key, first_key + rows), pa.int64()),
        "word": pa.array(shard.word if labelled else np.full(rows, NO_LABEL, np.int16)),
        **lists,
        "stroke": pa.ListArray.from_arrays(shard.strokes, shard.stroke),
    }
    arrays = [columns.get(field.name, pa.nulls(rows, field.type)) for field in SCHEMA]
    return pa.Table.from_arrays(
        [array.cast(field.type) for array, field in zip(arrays, SCHEMA, strict=True)], schema=SCHEMA
    )


def probabilities(labels: np.ndarray, skill: float, seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(len(labels), len(WORDS)))
    logits[np.arange(len(labels)), labels] += skill
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


class Project:
    """Folds, and a learner's predictions of them, as an honest run leaves them; tests plant one leak in it."""

    def __init__(self) -> None:
        self.shards = {f"fold{fold}": some_drawings(EACH, fold) for fold in FOLDS} | {TEST: some_drawings(TESTS, 9)}
        self.first_keys = {name: 10_000 * number for number, name in enumerate(self.shards, 1)}
        self.learner = "gru"
        write_folds(self.shards, self.first_keys)
        for fold in FOLDS:
            self.predict(fold)

    def rows(self) -> Rows:
        opened = [open_shards([Path("folds/synthetic", f"fold{fold}")]) for fold in FOLDS]
        test = open_shards([Path("folds/synthetic", TEST)])
        return Rows(
            key_ids=np.concatenate([each.key_id for each in opened]),
            labels=np.concatenate([each.word for each in opened]),
            folds=np.repeat(np.array(FOLDS, np.int8), EACH),
            test_key_ids=test.key_id,
            facts=np.concatenate([facts_of(each) for each in (*opened, test)]),
        )

    def predict(
        self,
        fold: int,
        *,
        skill: float = SKILL,
        trained_on: Sequence[int] | None = None,
        changed: Callable[[np.ndarray], np.ndarray] = lambda P: P,
        order: Sequence[int] = range(EACH),
    ) -> None:
        """Cache the predictions of a fold's model."""
        rows, folder = self.rows(), model_folder(self.learner, fold)
        folder.mkdir(parents=True, exist_ok=True)
        at = rows.of_fold(fold)[list(order)]
        seen = [other for other in FOLDS if other != fold] if trained_on is None else trained_on
        write_predictions(
            folder,
            oof=changed(probabilities(rows.labels[at], skill, fold)),
            test=probabilities(np.arange(TESTS) % len(WORDS), skill, 20 + fold),
            rows=rows.key_ids[at],
            test_rows=rows.test_key_ids,
            labels=rows.labels[at],
            words=WORDS,
            learner_hash="",
            trained_on=rows.key_ids[np.isin(rows.folds, seen)],
        )

    def check(self) -> None:
        folders = [model_folder(self.learner, fold) for fold in FOLDS]
        learner = LearnerPredictions(self.learner, tuple(map(open_predictions, folders)))
        leaks.check_learner(learner, self.rows(), WORDS, leaks.check_folds(FOLDS))


@pytest.fixture
def project(tmp_path, monkeypatch) -> Project:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("profile: synthetic\n")
    return Project()


def test_an_honest_run_passes(project):
    project.check()


def test_a_learner_that_knows_nothing_passes(project):
    for fold in FOLDS:
        project.predict(fold, skill=0.0)
    project.check()


def test_a_learner_that_names_the_same_two_words_all_the_time_passes(project):
    def collapsed(P: np.ndarray) -> np.ndarray:
        P = P + 5 * np.eye(len(WORDS))[np.random.default_rng(0).choice([1, 3], len(P))]
        return P / P.sum(axis=1, keepdims=True)

    for fold in FOLDS:
        project.predict(fold, changed=collapsed)
    project.check()


def same_drawing(project: Project) -> None:
    copied = project.shards["fold0"]
    strokes = [[[copied.x[:4].tolist(), copied.y[:4].tolist()]]]
    fold2 = project.shards["fold2"]
    others = [[[fold2.x[4 * n : 4 * n + 4].tolist(), fold2.y[4 * n : 4 * n + 4].tolist()]] for n in range(1, EACH)]
    project.shards["fold2"] = Shard.from_lists([*strokes, *others], fold2.word.tolist())
    write_folds(project.shards, project.first_keys)


def key_id_twice(project: Project) -> None:
    project.first_keys["fold1"] = project.first_keys["fold0"] + EACH - 1
    write_folds(project.shards, project.first_keys)


def key_id_in_test(project: Project) -> None:
    project.first_keys[TEST] = project.first_keys["fold2"] + EACH - 1
    write_folds(project.shards, project.first_keys)


def saw_its_rows(project: Project) -> None:
    project.predict(1, trained_on=FOLDS)


def other_labels(project: Project) -> None:
    for fold in FOLDS:
        project.predict(fold, changed=lambda P: P[:, [0, 3, 2, 1, 4]])


def other_rows(project: Project) -> None:
    project.predict(1, order=[1, 0, *range(2, EACH)])


def stands_out(project: Project) -> None:
    project.predict(2, skill=1.0)


def constant(project: Project) -> None:
    project.predict(0, changed=lambda P: np.repeat(P[:1], len(P), axis=0))


def failed(project: Project) -> None:
    project.predict(2, changed=lambda P: np.where(np.arange(len(P))[:, None] == 7, np.nan, P))


def no_probabilities(project: Project) -> None:
    project.predict(1, changed=lambda P: np.where(np.arange(len(P))[:, None] == 33, 2 * P, P))


PLANTED: dict[str, tuple[Callable[[Project], None], str]] = {
    "same_drawing_in_two_folds": (same_drawing, "key_id 10000 in fold 0 and key_id 30000 in fold 2"),
    "key_id_in_two_folds": (key_id_twice, "key_id 10399 is in fold 0 and in fold 1"),
    "key_id_in_train_and_test": (key_id_in_test, "key_id 30399 of fold 2"),
    "model_saw_its_rows": (saw_its_rows, "gru, fold 1: .* trained on all folds, also the held-out one"),
    "other_labels": (other_labels, r"gru: .* guesses 'word(1|3)' where 'word(3|1)' is right \(2 columns"),
    "other_rows": (other_rows, "gru, fold 1: row 0 of rows.npy is key_id 20001 where the shards have key_id 20000"),
    "fold_stands_out": (stands_out, "gru, fold 2: MAP@3 .* more than 6 standard errors"),
    "constant": (constant, "gru, fold 0, oof.npy: all 400 rows have the same prediction"),
    "not_a_number": (failed, r"gru, fold 2, oof.npy: the prediction of row 7 \(key_id 30007\)"),
    "not_probabilities": (no_probabilities, r"gru, fold 1, oof.npy: .* row 33 \(key_id 20033\) .* but to 2.0"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_leak_is_caught_by_its_name(name, project):
    plant, said = PLANTED[name]
    plant(project)
    with pytest.raises(leaks.LeakError, match=f"leak, {name}: .*{said}") as caught:
        project.check()
    assert caught.value.name == name


def test_all_detectors_are_planted_for():
    documented = [line.split()[0] for line in (leaks.__doc__ or "").splitlines() if line[:1].islower()]
    assert sorted(documented) == sorted(PLANTED)


@pytest.mark.parametrize(("last", "stands_out"), [(0.708, False), (0.73, True)])
def test_models_that_differ_as_honest_ones_do_pass_however_many_rows_are_scored(last, stands_out):
    random = np.random.default_rng(0)
    precisions = [(random.random(300_000) < mean).astype(float) for mean in (0.7, 0.7, last)]
    if stands_out:
        with pytest.raises(leaks.LeakError, match=r"fold_stands_out: gru, fold 2: .*0\.7"):
            leaks._check_scores("gru", FOLDS, precisions)
    else:
        leaks._check_scores("gru", FOLDS, precisions)


def test_a_model_trained_on_other_rows_than_the_folds_is_refused(project):
    project.predict(1, trained_on=[0])
    with pytest.raises(leaks.LeakError, match=r"model_saw_its_rows: gru, fold 1: .* trained on other rows"):
        project.check()


def test_a_test_prediction_that_failed_is_refused(project):
    path = model_folder("gru", 2) / "test.npy"
    test = np.load(path)
    test[5] = np.nan
    np.save(path, test)
    with pytest.raises(leaks.LeakError, match=r"not_a_number: gru, fold 2, test.npy: .* row 5 \(key_id 40005\)"):
        project.check()


def test_a_test_set_of_other_length_is_refused(project):
    path = model_folder("gru", 0) / "test.npy"
    np.save(path, np.load(path)[:-1])
    with pytest.raises(leaks.LeakError, match=r"other_rows: gru, fold 0: the 59 rows of test\.npy are not the 60"):
        project.check()


def test_rows_that_are_too_few_are_refused(project):
    path = model_folder("gru", 2) / "rows.npy"
    np.save(path, np.load(path)[:-1])
    with pytest.raises(leaks.LeakError, match=r"other_rows: gru, fold 2: row 399 .* nothing .* \(399 and 400 rows\)"):
        project.check()


def test_a_digest_knows_sets_of_rows_whatever_their_order():
    key_ids = np.random.default_rng(0).integers(-(2**63), 2**63, 1000)
    digest = rows_digest(key_ids)
    assert rows_digest(key_ids[::-1]) == digest
    assert (rows_digest(key_ids[:300]) + rows_digest(key_ids[300:])) % 2**64 == digest
    assert rows_digest(key_ids[1:]) != digest
    moved = key_ids.copy()
    moved[:2] += [1, -1]
    assert rows_digest(moved) != digest


@pytest.mark.parametrize("sizes", [(1, 20, 20), (1, 300, 300), (2, 3, 4), (13, 200, 200), (1, 1, 1), (8, 1000, 1)])
@pytest.mark.parametrize("own", [0.0, 1.0])
def test_a_fold_of_few_rows_does_not_stand_out(sizes, own):
    random = np.random.default_rng(0)
    precisions = [
        np.full(sizes[0], own),
        *((random.random(size) < abs(own - 0.95)).astype(float) for size in sizes[1:]),
    ]
    leaks._check_scores("gru", FOLDS, precisions)


def test_a_fold_of_forty_rows_that_a_model_saw_stands_out():
    random = np.random.default_rng(0)
    precisions = [np.ones(40), *((random.random(400) < 0.3).astype(float) for _ in range(2))]
    with pytest.raises(leaks.LeakError, match="fold_stands_out: gru, fold 0"):
        leaks._check_scores("gru", FOLDS, precisions)


ALIKE = [(1, 1, False), (8, 1, False), (8, 8, False), (400, 2, False), (400, 400, True)]


@pytest.mark.parametrize(("rows", "drawings", "refused"), ALIKE)
def test_the_same_prediction_is_refused_only_for_many_different_drawings(rows, drawings, refused):
    given = np.full((rows, 2), 0.5), np.arange(rows), lambda: drawings, "Train it again."
    if refused:
        with pytest.raises(leaks.LeakError, match=r"constant: gru.* training\.epochs"):
            leaks._check_numbers("gru", *given)
    else:
        leaks._check_numbers("gru", *given)
