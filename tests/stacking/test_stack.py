import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xxhash
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from bench import stack_size, stacking
from pipeline.drawings.shards import SCHEMA, SUMMARY, shard_hashes, write_shard
from pipeline.drawings.words import Words
from pipeline.foundation.contents import seal
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import load_params
from pipeline.predictions import metrics
from pipeline.predictions.cache import model_folder, write_predictions
from pipeline.stacking import mlens_parts, outputs
from pipeline.stacking import super_learner as stage
from pipeline.stacking.metalearners import _base, load_metalearner
from pipeline.stacking.metalearners._base import FACTS, BaseMetaLearner, ConvexCombination
from pipeline.stacking.rows import Rows, check_rows, read_rows
from pipeline.stacking.scoreboard import SCORES, SUPER, confusions, print_table, score_table, summary, weights_by_name
from pipeline.stages import stack as stack_stage

WORDS = Words.from_names(f"word{i}" for i in range(6))
SIZES, TESTS = (90, 110, 100), 40
LOGISTIC = {"ridge": 30.0, "iterations": 20, "max_rows": 10**6}
RANKER = {"candidates": 3, "trees": 10, "leaves": 4, "learning_rate": 0.1, "min_rows": 20, "max_rows": 10**6}
BLOCKS: dict[str, dict[str, Any]] = {
    "arithmetic_mean": {}, "geometric_mean": {}, "convex_weights": {}, "word_groups": {"groups": 2, "max_rows": 10**6},
    "greedy": {"rounds": 10, "max_rows": 10**6}, "logistic": LOGISTIC, "ranker": RANKER,
}  # fmt: skip


def probabilities(labels: np.ndarray, skill: float, random: np.random.Generator) -> np.ndarray:
    logits = random.normal(size=(len(labels), len(WORDS)))
    logits[np.arange(len(labels)), labels] += skill
    return (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float16)


def made_up_rows(seed: int = 0) -> Rows:
    random = np.random.default_rng(seed)
    key_ids = random.permutation(10_000)[: sum(SIZES) + TESTS].astype(np.int64)
    return Rows(
        key_ids=key_ids[: sum(SIZES)],
        labels=random.integers(0, len(WORDS), sum(SIZES)).astype(np.int16),
        folds=np.repeat(np.arange(len(SIZES)), SIZES).astype(np.int8),
        test_key_ids=key_ids[sum(SIZES) :],
        facts=random.integers(1, 9, (len(key_ids), len(FACTS))).astype(np.float32),
    )


@pytest.fixture
def rows() -> Rows:
    return made_up_rows()


@pytest.fixture
def learners(rows, tmp_path) -> list[mlens_parts.CachedLearner]:
    """Three cached learners on disk: good, fair, and one that knows nothing."""
    random, made = np.random.default_rng(1), []
    for name, skill in {"fair": 1.0, "good": 2.0, "useless": 0.0}.items():
        folders = tuple(model_folder(name, fold, tmp_path) for fold in rows.fold_numbers)
        for fold, folder in enumerate(folders):
            folder.mkdir(parents=True)
            at = rows.of_fold(fold)
            test = probabilities(np.arange(TESTS) % len(WORDS), skill, random)
            oof = probabilities(rows.labels[at], skill, random)
            write_predictions(
                folder,
                oof=oof,
                test=test,
                rows=rows.key_ids[at],
                test_rows=rows.test_key_ids,
                labels=rows.labels[at],
                words=WORDS,
                learner_hash="",
                trained_on=rows.key_ids[rows.folds != fold],
            )
        made.append(mlens_parts.CachedLearner(name, tuple(map(str, folders))))
    return made


def metalearners(*names: str) -> dict[str, BaseMetaLearner]:
    return {name: load_metalearner(name, len(WORDS), BLOCKS[name]) for name in names or BLOCKS}


def features(learners, rows, positions=None) -> np.ndarray:
    """What the meta-learners are fed: facts, then every learner's probabilities, of the OOF rows by default."""
    at = np.arange(len(rows)) if positions is None else positions
    return np.hstack([rows.facts[at], *(learner.at(at) for learner in learners)])


@pytest.fixture
def run(learners, rows, tmp_path):
    """Stacks into a new folder each time it is called, and gives what came out."""
    numbers = itertools.count()

    def run(**changed: Any) -> stage.Stacked:
        return stack_of(learners, rows, tmp_path / f"stack{next(numbers)}", **changed).stacked()

    return run


def stack_of(learners, rows, folder: Path, *, metas=None, calibrate=False, dense=True) -> stage.Stack:
    folder.mkdir()
    return stage.Stack(learners, metas or metalearners(), rows, len(WORDS), folder, calibrate=calibrate, dense=dense)


@pytest.mark.parametrize("dense", [True, False])
def test_the_super_learner_is_what_scikit_learn_computes(dense, run, learners, rows):
    stacked = run(dense=dense)
    X, names = features(learners, rows), sorted(BLOCKS)

    def nested(at: np.ndarray, asked: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The meta-learners' OOF predictions of rows `at`, and what a SuperLearner of these rows says of `asked`."""
        y, split = rows.labels[at], PredefinedSplit(rows.folds[at])
        oof = {n: cross_val_predict(m, X[at], y, cv=split, method="predict_proba") for n, m in metalearners().items()}
        P = np.stack([oof[name] for name in names], axis=1)
        last = ConvexCombination(len(WORDS)).fit_on(P, rows.facts[at], y)
        second = [metalearners(name)[name].fit(X[at], y).predict_proba(asked) for name in names]
        return oof, last.predict_on(np.stack(second, axis=1), asked[:, : len(FACTS)])

    oof, test = nested(np.arange(len(rows)), features(learners, rows, rows.test_positions))
    for name in names:
        np.testing.assert_allclose(stacked.oof[name], oof[name], atol=1e-3, err_msg=name)  # float16 near 1
    np.testing.assert_allclose(stacked.test[SUPER], test, atol=1e-3)
    for held_out in range(len(SIZES)):
        asked = rows.of_fold(held_out)
        _, expected = nested(np.flatnonzero(rows.folds != held_out), X[asked])
        np.testing.assert_allclose(stacked.oof[SUPER][asked], expected, atol=1e-3)


@pytest.mark.parametrize("calibrate", [True, False])
def test_reading_the_cache_in_chunks_gives_what_mlens_gives_in_memory(calibrate, run):
    dense, chunked = (run(calibrate=calibrate, dense=dense) for dense in (True, False))
    assert list(dense.oof) == list(chunked.oof) == [*sorted(BLOCKS), SUPER]
    for name in dense.oof:
        np.testing.assert_allclose(dense.oof[name], chunked.oof[name], atol=1e-3, err_msg=name)
        np.testing.assert_allclose(dense.test[name], chunked.test[name], atol=1e-3, err_msg=name)
    ours, theirs = (found.models[SUPER].learner_weights for found in (dense, chunked))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_mlens_scored_the_same_predictions_as_the_table(run, learners, rows, tmp_path):
    stacked = run()
    table = score_table([learner.opened() for learner in learners], stacked.oof, rows)
    again = stack_of(learners, rows, tmp_path / "again")
    ensemble, _ = again.fitted(np.arange(len(rows)))
    ours = table.groupby("name")["log_loss"].mean()
    scores = {name.split("/")[1]: score for name, score in ensemble.data["score-m"].items() if "layer-3" not in name}
    assert sorted([*scores, SUPER]) == sorted(ours.index)
    for name, score in scores.items():
        assert score == pytest.approx(ours[name], abs=2e-3), name


@pytest.mark.parametrize("calibrate", [False, True])
@pytest.mark.parametrize("dense", [False, True])
def test_each_set_of_rows_is_fitted_once(calibrate, dense, learners, rows, tmp_path):
    """All rows, three pairs of folds, three single folds."""
    CountingMean.fits = 0
    # Not the fair one: its temperature is 1 but for chance, so it helps in some sets of folds and not in others.
    uncalibrated = [learner for learner in learners if learner.name != "fair"]
    metas = {"counting": CountingMean(len(WORDS))}
    found = stack_of(uncalibrated, rows, tmp_path / "stack", metas=metas, calibrate=calibrate, dense=dense).stacked()
    assert CountingMean.fits == 7
    assert all(each.used for each in found.calibration.values())


@pytest.mark.parametrize("dense", [False, True])
def test_nothing_of_a_fold_s_labels_is_in_what_is_said_of_that_fold(dense, learners, rows, tmp_path):
    usual = stack_of(learners, rows, tmp_path / "usual", calibrate=True, dense=dense).stacked()
    for fold in rows.fold_numbers:
        labels = rows.labels.copy()
        at = rows.of_fold(fold)
        labels[at] = (labels[at] + 1) % len(WORDS)
        wrong = replace(rows, labels=labels)
        found = stack_of(learners, wrong, tmp_path / f"wrong{fold}", calibrate=True, dense=dense).stacked()
        for name in usual.oof:
            np.testing.assert_array_equal(found.oof[name][at], usual.oof[name][at], err_msg=name)


@pytest.mark.parametrize("dense", [False, True])
def test_fits_that_stacks_share_change_nothing(dense, learners, rows, tmp_path):
    """Stacks of other learners, other params, and with and without temperatures, one after the other."""
    metas, other = metalearners("convex_weights", "logistic"), {**LOGISTIC, "ridge": 1.0}
    kinds: dict[str, dict[str, Any]] = {
        "whole": {"calibrate": True, "metas": metas}, "plain": {"metas": metas},
        "fewer": {"metas": metalearners("logistic")}, "two": {"metas": metas, "of": learners[:2]},
        "other": {"metas": {"logistic": load_metalearner("logistic", len(WORDS), other)}},
    }  # fmt: skip
    for name, kind in kinds.items():
        of = kind.pop("of", learners)
        alone = stack_of(of, rows, tmp_path / f"{name}_alone", dense=dense, **kind).stacked()
        shared = replace(stack_of(of, rows, tmp_path / name, dense=dense, **kind), fits=tmp_path / "fits").stacked()
        for each in alone.oof:
            np.testing.assert_array_equal(shared.oof[each], alone.oof[each], err_msg=f"{name}: {each}")


def test_rows_at_other_temperatures_are_fitted_again(learners, rows, tmp_path):
    CountingMean.fits, temperatures = 0, tmp_path / "temperatures.npy"
    for temperature in (1.0, 2.0, 2.0):
        np.save(temperatures, np.full(len(rows.facts), temperature, np.float32))
        warm = tuple(mlens_parts.CachedLearner(each.name, each.folders, str(temperatures)) for each in learners)
        at = np.column_stack([np.arange(len(rows), dtype=np.float64), rows.facts[: len(rows)]])
        mlens_parts.StackedMetaLearner(CountingMean(len(WORDS)), str(tmp_path / "fits"), warm).fit(at, rows.labels)
    assert CountingMean.fits == 2


class CountingMean(BaseMetaLearner):
    fits = 0

    def solve(self, P, labels, facts):
        CountingMean.fits += 1
        return {}

    def combine(self, P, facts):
        return P.mean(axis=1)


class Memoriser(BaseMetaLearner):
    """Knows each row that it was fitted on, by its features, and guesses at the others."""

    def solve(self, P, labels, facts):
        keys = [xxhash.xxh3_64_intdigest(np.ascontiguousarray(row).data) for row in P]
        return {"keys": np.array(keys, np.uint64), "labels": labels}

    def combine(self, P, facts):
        known = dict(zip(self.weights_["keys"].tolist(), self.weights_["labels"].tolist(), strict=True))
        found = np.random.default_rng(0).dirichlet(np.ones(self.num_words), len(P)).astype(np.float32)
        for i, row in enumerate(P):
            label = known.get(xxhash.xxh3_64_intdigest(np.ascontiguousarray(row).data))
            if label is not None:
                found[i] = np.eye(self.num_words)[label]
        return found


def test_a_metalearner_that_memorises_scores_at_chance_and_gets_no_weight(run, learners, rows):
    memoriser = Memoriser(len(WORDS))
    X = features(learners, rows)
    assert (memoriser.fit(X, rows.labels).predict(X) == rows.labels).all(), "it does memorise"
    stacked = run(metas={"memoriser": memoriser, **metalearners("geometric_mean")})
    top1 = metrics.scores(stacked.oof["memoriser"], rows.labels)["top1"]
    assert top1 < 2 / len(WORDS)
    assert np.array_equal(stacked.models[SUPER].weights_["weights"], [1, 0])
    both = metrics.scores(stacked.oof["geometric_mean"], rows.labels)["map3"]
    assert metrics.scores(stacked.oof[SUPER], rows.labels)["map3"] == pytest.approx(both, abs=0.02)


def test_a_useless_learner_gets_no_weight_and_the_super_learner_is_best(run, learners, rows):
    stacked = run()
    weights = weights_by_name(stacked.models, [learner.name for learner in learners])
    assert next(iter(weights)) == SUPER
    assert set(weights[SUPER]) == set(BLOCKS)
    assert sum(weights[SUPER].values()) == pytest.approx(1, abs=1e-5)
    assert weights["convex_weights"]["useless"] == pytest.approx(0, abs=0.02)
    assert weights["convex_weights"]["good"] > weights["convex_weights"]["fair"]
    means = summary(score_table([learner.opened() for learner in learners], stacked.oof, rows))
    assert means.loc[SUPER, "map3"] >= means.loc[means["kind"] == "base", "map3"].max()


@given(sizes=st.lists(st.integers(1, 50), min_size=2, max_size=6))
def test_the_index_respects_base_folds(sizes):
    folds, n = np.repeat(np.arange(len(sizes)), sizes), sum(sizes)
    cuts = list(mlens_parts.BaseFolds(tuple(sizes)).generate(np.empty((n, 1)), as_array=True))
    assert len(cuts) == len(sizes)
    for fold, (train, test) in enumerate(cuts):
        assert set(folds[test]) == {fold}, "a fold is held out whole"
        assert fold not in folds[train]
        assert sorted([*train, *test]) == list(range(n))


def test_the_index_refuses_to_fit_other_rows():
    with pytest.raises(ValueError, match="7 rows do not make folds of"):
        mlens_parts.BaseFolds((3, 3)).fit(np.empty((7, 1)), job="fit")


def test_a_cached_learner_finds_rows_by_position_and_holds_no_arrays(learners, rows):
    learner = learners[0]
    positions = np.array([0, 299, 100, 300, 339, 95])
    found = learner.fit(None, None).predict_proba(positions[:, None].astype(float))
    expected = np.vstack([learner.opened().oof(positions[[0, 1, 2]]), learner.opened().test(np.array([0, 39]))])
    np.testing.assert_array_equal(found[:5], expected)
    assert all(isinstance(value, str | tuple | None) for value in learner.get_params().values())


@pytest.mark.parametrize("dense", [True, False])
def test_the_test_set_is_predicted_in_chunks_alike(dense, run, rows, monkeypatch):
    whole = run(dense=dense)
    monkeypatch.setattr(_base, "CHUNK", TESTS - 1)  # leaves a chunk of one row, which mlens squeezes
    parts = run(dense=dense)
    for name, test in whole.test.items():
        np.testing.assert_allclose(parts.test[name], test, atol=1e-3)


def test_two_folds_are_too_few(rows):
    two = replace(rows, folds=np.minimum(rows.folds, 1))
    with pytest.raises(SketchstackError, match="2 are too few to stack"):
        check_rows(two, WORDS)


def test_a_word_that_one_fold_alone_holds_is_refused(rows):
    check_rows(rows, WORDS)
    labels = rows.labels.copy()
    labels[(labels == 4) & (rows.folds != 2)] = 0
    with pytest.raises(SketchstackError, match=r"'word4'.*fold 2"):
        check_rows(replace(rows, labels=labels), WORDS)


def test_words_like_formulas_are_none_in_the_table_of_confusions(learners, rows, tmp_path):
    words = Words(tuple(f"={name}" for name in WORDS.names))
    stacked = stack_of(learners, rows, tmp_path / "run").stacked()
    table = score_table([learner.opened() for learner in learners], stacked.oof, rows)
    outputs.write_scores(tmp_path / "run", stacked, rows, words, table, [learner.name for learner in learners])
    _, *lines = (tmp_path / "run/confusions.csv").read_text().splitlines()
    assert lines
    assert all(re.fullmatch(r"'=word\d,'=word\d,\d+", line) for line in lines)


def test_two_runs_write_the_same_bytes(learners, rows, tmp_path):
    written = []
    for run in ("first", "second"):
        stacked = stack_of(learners, rows, tmp_path / run, calibrate=True).stacked()
        table = score_table([learner.opened() for learner in learners], stacked.oof, rows)
        outputs.write_scores(tmp_path / run, stacked, rows, WORDS, table, [learner.name for learner in learners])
        files = sorted(path for path in (tmp_path / run).rglob("*") if path.is_file())
        written.append({str(path.relative_to(tmp_path / run)): path.read_bytes() for path in files})
    assert written[0] == written[1]
    each = [f"{name}/{file}" for name in [*BLOCKS, SUPER] for file in ("oof.npy", "test.npy", "weights.npz")]
    arrays = ["rows.npy", "folds.npy", "labels.npy", "test_rows.npy"]
    assert sorted(written[0]) == sorted(
        [*each, *arrays, "scores.json", "fold_scores.csv", "confusions.csv", "weights.json", "calibration.json"]
    )
    folder = tmp_path / "first"
    oof = np.load(folder / SUPER / "oof.npy")
    assert (oof.dtype, oof.shape) == (np.float16, (len(rows), len(WORDS)))
    assert np.load(folder / "logistic" / "test.npy").shape == (TESTS, len(WORDS))
    dtypes = [str(np.load(folder / name).dtype) for name in arrays]
    assert dtypes == ["int64", "int8", "int16", "int64"]
    scores = json.loads((folder / "scores.json").read_text())
    assert next(iter(scores)) == SUPER
    assert scores[SUPER] == pytest.approx(
        {name: metrics.scores(oof, rows.labels)[name] for name in SCORES}, abs=1e-5
    ), "folds weighted by their rows are the score over all rows"
    table = pd.read_csv(folder / "fold_scores.csv")
    assert list(table) == ["name", "kind", "fold", "map3", "top1", "log_loss"]
    assert len(table) == (3 + len(BLOCKS) + 1) * len(SIZES)


def made_up_table(super_map3: float) -> pd.DataFrame:
    scores = {("gru", "base"): 0.5, ("logistic", "meta"): 0.6, ("super_learner", "super"): super_map3}
    return pd.DataFrame(
        [
            {"name": name, "kind": kind, "fold": fold, "map3": map3 + 0.01 * fold, "top1": 0.4, "log_loss": 1.0}
            for (name, kind), map3 in scores.items()
            for fold in range(3)
        ]
    )


def test_confusions_by_hand(monkeypatch):
    first = np.array([1, 1, 0, 2, 3, 4, 5, 0])
    labels = np.array([0, 0, 1, 2, 2, 4, 5, 0])
    found = confusions(np.eye(6, dtype=np.float16)[first], labels, WORDS)
    counts = found.pivot(index="word", columns="guess", values="rows").to_numpy()
    assert counts.sum() == 4
    assert (counts[0, 1], counts[1, 0], counts[2, 3]) == (2, 1, 1)
    monkeypatch.setattr("pipeline.stacking.scoreboard.CONFUSED", 2)
    few = confusions(np.eye(6, dtype=np.float16)[first], labels, WORDS)
    assert few.values.tolist() == [
        ["word0", "word0", 0], ["word0", "word1", 2], ["word1", "word0", 1], ["word1", "word1", 0],
    ]  # fmt: skip


@pytest.mark.parametrize(("super_map3", "warned"), [(0.7, False), (0.4, True)])
def test_the_table_is_sorted_and_owns_up_to_a_poor_super_learner(super_map3, warned):
    console = Console(record=True, width=110)
    print_table(made_up_table(super_map3), {"logistic": 0.25}, console)
    lines = console.export_text().splitlines()
    names = [line.split("│")[1].strip() for line in lines if line.startswith("│")]
    best_first = ["super_learner", "logistic", "gru"] if not warned else ["logistic", "gru", "super_learner"]
    assert names == best_first
    assert any("0.6100 ± 0.0100" in line and "0.250" in line for line in lines)
    assert any("below its best learner's" in line for line in lines) == warned


@pytest.fixture
def project(rows, tmp_path, monkeypatch) -> Path:
    """A folder in which shuffle and train have run, with five rows a fold more than learners cache."""
    random, root = np.random.default_rng(2), Path(__file__).parents[2]
    raw = yaml.safe_load((root / "profiles" / "synthetic.yaml").read_text())
    raw["ensemble"], raw["oof"]["max_rows"] = ["good", "fair"], 3 * 85
    raw["learners"] = dict.fromkeys(
        raw["ensemble"], next(iter(raw["learners"].values()))
    )  # any will do: none is fitted
    raw["stack"] |= {"metalearners": ["geometric_mean", "convex_weights"], "params": BLOCKS}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    monkeypatch.chdir(tmp_path)
    params = load_params()
    (tmp_path / "folds/synthetic").mkdir(parents=True)
    WORDS.save(tmp_path / "folds/synthetic" / "words.json")
    shards = [(f"fold{fold}", rows.key_ids[at], rows.labels[at]) for fold, at in enumerate(map(rows.of_fold, range(3)))]
    for name, key_ids, labels in [*shards, ("test", rows.test_key_ids, np.full(TESTS, -1, np.int16))]:
        (tmp_path / "folds/synthetic" / name).mkdir()
        nothing = {"countrycode": None, "recognized": None, "timestamp": None}
        drawn = {**nothing, "stroke": [2]}
        records = [
            {"key_id": int(i), "word": int(w), "x": [i % 251, 9], "y": [i // 251, 9], **drawn}
            for i, w in zip(key_ids, labels, strict=True)
        ]
        write_shard(tmp_path / "folds/synthetic" / name / "shard0.arrow", pa.Table.from_pylist(records, schema=SCHEMA))
    (tmp_path / "folds/synthetic" / SUMMARY).write_text(
        json.dumps({"shards": shard_hashes(tmp_path / "folds/synthetic")})
    )
    for name, skill in {"good": 2.0, "fair": 1.0}.items():
        for fold, (_, key_ids, labels) in enumerate(shards):
            folder = model_folder(name, fold)
            folder.mkdir(parents=True)
            write_predictions(
                folder, oof=probabilities(labels[:85], skill, random),
                test=probabilities(np.arange(TESTS) % len(WORDS), skill, random),
                rows=key_ids[:85], test_rows=rows.test_key_ids, labels=labels[:85], words=WORDS,
                learner_hash=params.learner_hash(name), trained_on=rows.key_ids[rows.folds != fold],
            )  # fmt: skip
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # main sets them; this puts them back afterwards
    monkeypatch.setattr(sys, "argv", ["stack"])
    return tmp_path


def test_the_stage_from_shards_and_caches_to_models_meta(project, capsys):
    stack_stage.main()
    meta = project / "models/synthetic/meta"
    assert set(json.loads((meta / "scores.json").read_text())) == {
        "super_learner", "geometric_mean", "convex_weights", "good", "fair",
    }  # fmt: skip
    assert len(np.load(meta / "rows.npy")) == 3 * 85
    assert list(json.loads((meta / "weights.json").read_text())["convex_weights"]) == ["fair", "good"]
    assert np.load(meta / "super_learner/test.npy").shape == (TESTS, len(WORDS))
    assert "super_learner" in capsys.readouterr().out
    assert sorted(path.name for path in (project / "models/synthetic").iterdir()) == ["base", "meta"]


def test_a_failed_prediction_ends_the_stage_in_one_paragraph_and_leaves_what_was_there(project):
    stack_stage.main()
    before = (project / "models/synthetic/meta/scores.json").stat().st_mtime_ns
    path = model_folder("fair", 1) / "oof.npy"
    oof = np.load(path)
    oof[7] = np.nan
    np.save(path, oof)
    seal(path.parent)
    with pytest.raises(SystemExit, match=r"(?s)leak, not_a_number: fair, fold 1, oof.npy: the prediction of row 7"):
        stack_stage.main()
    assert (project / "models/synthetic/meta/scores.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("stack", "said"),
    [
        ({"metalearners": ["nosuch"], "params": {"nosuch": {}}}, "no meta-learner 'nosuch'"),
        ({"metalearners": ["arithmetic_mean"], "params": {}}, "no block 'arithmetic_mean'"),
        ({"metalearners": ["arithmetic_mean"] * 2, "params": {"arithmetic_mean": {}}}, "'arithmetic_mean' is taken"),
        ({"metalearners": ["arithmetic_mean"], "params": {"arithmetic_mean": {"p": 1}}}, "no params, so write {}"),
    ],
)
def test_params_that_name_no_metalearner_are_refused(stack, said):
    params = load_params(Path(__file__).parents[2] / "profiles" / "synthetic.yaml")
    changed = params.model_copy(update={"stack": params.stack.model_copy(update=stack)})
    with pytest.raises(SketchstackError, match=said):
        stage.load_metalearners(changed, len(WORDS))


def test_stack_starts_without_the_frameworks():
    code = "import pipeline.stages.stack, sys; print([m for m in ('torch', 'keras', 'tensorflow') if m in sys.modules])"
    root = Path(__file__).parents[2]
    shown = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
    assert shown.stderr == "", "mlens must not announce itself"


def test_the_benchmark_says_what_each_part_is_worth(project, tmp_path):
    measured, page = stacking.measure(load_params())
    rows = {row.what: row.ours for row in measured.rows}
    scored = stacking.stacked(load_params(), read_rows(load_params()), tmp_path / "fits")
    over_mean = (scored.precisions[SUPER] - scored.precisions["geometric_mean"]).mean()
    by_name = {row.what: row for row in measured.rows}
    assert rows["over geometric_mean"][0] == scored.precisions[SUPER].mean()
    assert rows["over geometric_mean"][0] - by_name["over geometric_mean"].reference[0] == pytest.approx(over_mean)
    assert "with calibration, over without" in rows
    assert len(rows["balanced by assignment, gain"]) == len(rows["balanced by scaling, gain"]) == stacking.DRAWS
    for part in ("| super_learner |", "| fair |", "| scaling |", "over geometric_mean"):
        assert part in page


@pytest.mark.slow
def test_the_benchmark_of_sizes_runs_and_both_ways_agree(tmp_path):
    measured = stack_size.measure(tmp_path, (3000,), runs=1, most_scored=3000, learners=3, words=30)
    rows = {row.what: row for row in measured.rows}
    memory = rows["3,000 rows: anonymous memory"]
    assert min(memory.ours[0], memory.reference[0]) > 0.05
    _, ours, plain = (note for note in measured.notes if "log loss on the test rows" in note)
    losses = [float(re.search(r"logistic (\d+\.\d+)", note).group(1)) for note in (ours, plain)]  # type: ignore[union-attr]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
