"""Stage `stack`: the learners' cached predictions → an mlens SuperLearner, scored out of fold, applied to the test set.

The first layer holds the learners, but as caches: fitting does nothing and predicting looks a row's cached prediction
up, so mlens cuts folds, propagates, scores and fits the layers above without refitting a network. The second layer
holds the meta-learners, the last the SuperLearner's own combination of them.

Every score is honest. A learner's OOF predictions are by a model that never saw the row. A meta-learner is fitted on
the OOF rows of the other folds and scored on those of the fold held out, which is what the second layer does anyhow.
The SuperLearner is built once more for each held-out fold from the others alone, and scored there.

    models/meta/scores.json      MAP@3, top-1 and log loss over all OOF rows, a block a name
                fold_scores.csv  the same a fold, with the kind: base, meta or super
                weights.json     how much each learner or meta-learner counts
                rows.npy         int64 key_ids of the OOF rows, in the order of folds and shards; folds.npy int8,
                labels.npy int16 beside it; test_rows.npy int64 key_ids of the test rows
                <name>/          oof.npy and test.npy float16 (rows, num_words) of a meta-learner or of super_learner,
                                 weights.npz, what fitting on all rows found
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import pandas as pd
import xxhash
from rich.console import Console
from rich.table import Table
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from pipeline import metrics
from pipeline.artefacts import whole_folder
from pipeline.compat import frozen_objects, mlens_imports
from pipeline.drawings import TEST, open_shards
from pipeline.errors import SketchstackError, one_paragraph_errors
from pipeline.metalearners import load_metalearner
from pipeline.metalearners._base import BaseMetaLearner, ConvexCombination
from pipeline.params import Params, load_params
from pipeline.predictions import (
    BASE,
    LearnerPredictions,
    cached_share,
    model_folder,
    open_predictions,
    read_learner,
    rows_hash,
)
from pipeline.progress import progress_bar
from pipeline.words import Words, load_words

with mlens_imports():
    from mlens.ensemble import BaseEnsemble, SuperLearner
    from mlens.index import BaseIndex

FOLDS = Path("folds")
META = Path("models/meta")
SUPER = "super_learner"
STYLES = {"base": "", "meta": "", "super": "bold"}
SCORES = ["map3", "top1", "log_loss"]
CHUNK = 16384  # rows predicted at a time: mlens writes each layer's predictions of them out in full


@dataclass(frozen=True)
class Rows:
    """The rows to stack, in the one order that positions number: OOF rows fold by fold, then test rows.

    Attributes:
        key_ids: (N,) int64 of the OOF rows.
        labels: (N,) int16.
        folds: (N,) int8, rising.
        test_key_ids: (T,) int64.
    """

    key_ids: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    test_key_ids: np.ndarray

    def __len__(self) -> int:
        return len(self.key_ids)

    def of_fold(self, fold: int) -> np.ndarray:
        """Positions of a fold's OOF rows."""
        return np.flatnonzero(self.folds == fold)

    @property
    def fold_numbers(self) -> list[int]:
        """The folds, rising."""
        return [int(fold) for fold in np.unique(self.folds)]

    @property
    def test_positions(self) -> np.ndarray:
        """(T,) int64 positions of the test rows, after those of the OOF rows."""
        return len(self) + np.arange(len(self.test_key_ids))


class CachedLearner(ClassifierMixin, BaseEstimator):
    """A learner whose predictions are on disk. It holds paths: clone deep-copies, and would pull memory maps into RAM.

    Args:
        name: the learner's.
        folders: its model folders, fold by fold.
    """

    def __init__(self, name: str, folders: tuple[str, ...]) -> None:
        self.name = name
        self.folders = folders

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Nothing: each fold's model is fitted already, on the other folds."""
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Look up the rows at positions X (N, 1), exact as floats: (N, num_words) float32, OOF or of the test set."""
        positions = X[:, 0].astype(np.int64)
        cached = LearnerPredictions(self.name, tuple(open_predictions(Path(folder)) for folder in self.folders))
        rows = sum(cached.fold_sizes)
        found = np.empty((len(positions), cached.folds[0].oof.shape[1]), np.float32)
        is_oof = positions < rows
        found[is_oof] = cached.oof(positions[is_oof])
        found[~is_oof] = cached.test(positions[~is_oof] - rows)
        return found


class FitOnce(ClassifierMixin, BaseEstimator):
    """A meta-learner that takes its weights from disk if it was fitted on the same rows before.

    With three folds mlens asks for thirteen fits of a meta-learner, of which seven differ.

    Args:
        metalearner: unfitted.
        folder: where weights are kept, a file a set of rows.
    """

    def __init__(self, metalearner: BaseMetaLearner, folder: str) -> None:
        self.metalearner = metalearner
        self.folder = folder

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Fit or load."""
        self.fitted_ = clone(self.metalearner)
        rows = xxhash.xxh3_128(np.ascontiguousarray(X).data)
        rows.update(np.ascontiguousarray(y).data)
        weights = Path(self.folder, f"{rows.hexdigest()}.npz")
        if weights.exists():
            self.fitted_.load(weights)
        else:
            weights.parent.mkdir(exist_ok=True)
            self.fitted_.fit(X, y).save(weights)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """See BaseMetaLearner."""
        return self.fitted_.predict_proba(X)


class BaseFolds(BaseIndex):
    """Cuts rows where the base folds end, so that copies of a drawing, which share a fold, are never on both sides.

    Args:
        sizes: rows of each fold, in the order of the rows.
    """

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.sizes = sizes
        self.folds = len(sizes)

    def fit(self, X: np.ndarray, y: np.ndarray | None = None, job: str | None = None) -> Self:
        """Take note of how many rows there are; those to predict may be any number.

        Raises:
            ValueError: rows to fit on are not those of the folds.
        """
        if job == "fit" and len(X) != sum(self.sizes):
            raise ValueError(f"{len(X)} rows do not make folds of {self.sizes} rows")
        self.n_samples = self.n_test_samples = len(X)
        self.__fitted__ = True
        return self

    def _gen_indices(self) -> Iterator[tuple[tuple[tuple[int, int], ...], tuple[int, int]]]:
        """Each fold's (start, stop) as the test set, with the stretches before and after it to train on."""
        ends = [int(end) for end in np.cumsum(self.sizes)]
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            yield tuple(piece for piece in ((0, start), (end, ends[-1])) if piece[0] < piece[1]), (start, end)


@dataclass(frozen=True)
class Stacked:
    """What stacking gives.

    Attributes:
        oof: (N, num_words) float16 of each meta-learner and of `super_learner`, by models that did not see the row.
        test: (T, num_words) float16 of the same.
        models: the same, fitted on all OOF rows.
    """

    oof: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    models: dict[str, BaseMetaLearner]


def stack(
    learners: Sequence[CachedLearner], metalearners: Mapping[str, BaseMetaLearner], rows: Rows, num_words: int
) -> Stacked:
    """Fit the SuperLearner on all OOF rows, and once more on the others of each fold to predict that one."""
    names = sorted(metalearners)  # mlens's order of columns
    bar = progress_bar("stack", total=1 + len(rows.fold_numbers), unit="fits")
    with frozen_objects(), TemporaryDirectory() as fits, bar:
        ensemble, by_layer = fitted(learners, metalearners, rows, np.arange(len(rows)), num_words=num_words, fits=fits)
        bar.update()
        oof = dict(zip(names, np.split(by_layer, len(names), axis=1), strict=True))
        test = predicted(ensemble, rows.test_positions, ["layer-2", "layer-3"])
        oof[SUPER] = np.empty((len(rows), num_words), np.float16)
        for held_out in rows.fold_numbers:
            seen = np.flatnonzero(rows.folds != held_out)
            others, _ = fitted(learners, metalearners, rows, seen, num_words=num_words, fits=fits)
            oof[SUPER][rows.folds == held_out] = predicted(others, rows.of_fold(held_out), ["layer-3"])
            bar.update()
    tests = np.split(test, len(names) + 1, axis=1)
    return Stacked(oof, dict(zip([*names, SUPER], tests, strict=True)), models_of(ensemble, names))


def fitted(
    learners: Sequence[CachedLearner],
    metalearners: Mapping[str, BaseMetaLearner],
    rows: Rows,
    positions: np.ndarray,
    *,
    num_words: int,
    fits: str,
) -> tuple[SuperLearner, np.ndarray]:
    """Build a SuperLearner and fit it on some OOF rows.

    Args:
        learners: the first layer.
        metalearners: the second layer, unfitted, by name.
        rows: all rows.
        positions: of the rows to fit on, whole folds, rising.
        num_words: columns a learner.
        fits: a folder for the weights of the meta-learners' fits.

    Returns:
        The ensemble, and the second layer's own OOF predictions (rows, num_metalearners * num_words) float16.
    """
    _, sizes = np.unique(rows.folds[positions], return_counts=True)
    index = {"indexer": BaseFolds(tuple(int(size) for size in sizes)), "proba": True}
    once = [(name, FitOnce(metalearner, str(Path(fits, name)))) for name, metalearner in metalearners.items()]
    # One job at a time: the arithmetic inside a fit takes all threads, and a second fit would copy its rows again.
    ensemble = SuperLearner(scorer=_log_loss, backend="threading", n_jobs=1)
    BaseEnsemble.add(ensemble, [(learner.name, learner) for learner in learners], **index)
    BaseEnsemble.add(ensemble, once, **index)
    ensemble.add_meta(ConvexCombination(num_words), proba=True)
    (second,) = ensemble.fit(_column(positions), rows.labels[positions], return_preds=["layer-2"])
    return ensemble, second.astype(np.float16)


def predicted(ensemble: SuperLearner, positions: np.ndarray, layers: list[str]) -> np.ndarray:
    """What some layers of a fitted ensemble say of the rows at these positions, side by side, (N, ...) float16."""
    chunks = []
    for start in range(0, len(positions), CHUNK):
        chunk = positions[start : start + CHUNK]
        found = ensemble.predict(_column(chunk), return_preds=layers)
        by_layer = found if isinstance(found, list) else [found]
        chunks.append(np.hstack([layer.reshape(len(chunk), -1).astype(np.float16) for layer in by_layer]))
    return np.concatenate(chunks)


def models_of(ensemble: SuperLearner, names: Sequence[str]) -> dict[str, BaseMetaLearner]:
    """The meta-learners and the combination of a fitted ensemble, as fitted on all its rows."""
    found = {learner.name: next(learner.learner).estimator.fitted_ for learner in ensemble.layer_2.learners}
    (last,) = ensemble.layer_3.learners
    return {name: found[name] for name in names} | {SUPER: next(last.learner).estimator}


def _column(positions: np.ndarray) -> np.ndarray:
    """Positions as mlens takes its rows: (N, 1) floats, exact below 2**53."""
    return positions.astype(np.float64)[:, None]


def _log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return metrics.log_loss(probabilities, labels)


def read_rows(params: Params, folds: Path = FOLDS) -> Rows:
    """Read key_ids and labels of the rows that learners cache from the shards."""
    key_ids, labels, numbers = [], [], []
    for fold in params.folds:
        shards = open_shards([folds / f"fold{fold}"])
        share = cached_share(len(shards), params)
        key_ids.append(shards.key_id[:share])
        labels.append(shards.word[:share])
        numbers.append(np.full(share, fold, np.int8))
    test = open_shards([folds / TEST])
    return Rows(np.concatenate(key_ids), np.concatenate(labels), np.concatenate(numbers), test.key_id)


def check_rows(rows: Rows, words: Words) -> None:
    """Refuse rows on which a stack of stacks cannot be fitted.

    Raises:
        SketchstackError: there are fewer than three folds, or a word has rows in one fold alone.
    """
    if len(rows.fold_numbers) < 3:
        raise SketchstackError(
            f"params.yaml, folds: {len(rows.fold_numbers)} are too few to stack. To score the SuperLearner on a fold "
            f"it is fitted on the others, which it cuts again: write at least three, as in [0, 1, 2]."
        )
    for held_out in rows.fold_numbers:
        missing = np.setdiff1d(np.arange(len(words)), rows.labels[rows.folds != held_out])
        if len(missing):
            raise SketchstackError(
                f"folds/: the cached rows of {words.names[missing[0]]!r} (and {len(missing) - 1} more words) are all "
                f"in fold {held_out}, so nothing can be fitted without it. Raise oof.max_rows in params.yaml, or add "
                f"drawings of the word and run `dvc repro`."
            )


def check_learner(learner: LearnerPredictions, rows: Rows) -> None:
    """Refuse predictions that are of other rows than the shards', or that failed.

    Raises:
        SketchstackError: names the learner, the fold and the row.
    """
    for fold, predictions in zip(rows.fold_numbers, learner.folds, strict=True):
        where = f"{learner.name}, fold {fold}"
        expected = rows.key_ids[rows.of_fold(fold)]
        _check_same_rows(where, predictions.rows, expected)
        same_test = predictions.metrics["hashes"]["test_rows"] == rows_hash(rows.test_key_ids)
        if not same_test or len(predictions.test) != len(rows.test_key_ids):
            raise SketchstackError(
                f"{where}: test.npy holds {len(predictions.test)} rows that are not the {len(rows.test_key_ids)} of "
                f"the test shards; run `dvc repro` to predict anew."
            )
        _check_numbers(f"{where}, oof.npy", predictions.oof, expected)
        _check_numbers(f"{where}, test.npy", predictions.test, rows.test_key_ids)


def _check_same_rows(where: str, found: np.ndarray, expected: np.ndarray) -> None:
    shared = min(len(found), len(expected))
    different = np.flatnonzero(found[:shared] != expected[:shared])
    if len(different) or len(found) != len(expected):
        row = int(different[0]) if len(different) else shared
        have, want = (f"key_id {ids[row]}" if row < len(ids) else "nothing" for ids in (found, expected))
        raise SketchstackError(
            f"{where}: row {row} of rows.npy is {have} where the shards have {want} ({len(found)} and {len(expected)} "
            f"rows): the predictions are of other rows or in another order. Run `dvc repro` to predict anew."
        )


def _check_numbers(where: str, probabilities: np.ndarray, key_ids: np.ndarray) -> None:
    for start in range(0, len(key_ids), CHUNK):
        bad = np.flatnonzero(~np.isfinite(probabilities[start : start + CHUNK]).all(axis=1))
        if len(bad):
            row = start + int(bad[0])
            raise SketchstackError(
                f"{where}: the prediction of row {row} (key_id {key_ids[row]}) is not a number, so it failed. "
                f"Train that learner and fold again: remove its folder in models/base and run `dvc repro`."
            )


def score_table(learners: Sequence[LearnerPredictions], stacked: Stacked, rows: Rows) -> pd.DataFrame:
    """MAP@3, top-1 and log loss of every base learner, meta-learner and the SuperLearner, a row a name and fold."""
    records = []
    for learner in learners:
        records += fold_scores(learner.name, "base", [fold.oof for fold in learner.folds], rows)
    for name, oof in stacked.oof.items():
        by_fold = [oof[rows.of_fold(fold)] for fold in rows.fold_numbers]
        records += fold_scores(name, "super" if name == SUPER else "meta", by_fold, rows)
    return pd.DataFrame(records, columns=["name", "kind", "fold", *SCORES])


def fold_scores(name: str, kind: str, by_fold: Sequence[np.ndarray], rows: Rows) -> list[dict[str, Any]]:
    """The scores of each fold's OOF probabilities, a record a fold."""
    return [
        {"name": name, "kind": kind, "fold": fold, **metrics.scores(oof, rows.labels[rows.of_fold(fold)])}
        for fold, oof in zip(rows.fold_numbers, by_fold, strict=True)
    ]


def pooled_scores(table: pd.DataFrame, rows: Rows) -> dict[str, dict[str, float]]:
    """Each name's scores over all OOF rows, the SuperLearner first: folds count by their rows."""
    sizes = table["fold"].map(lambda fold: len(rows.of_fold(fold)))
    sums = table[SCORES].mul(sizes, axis=0).groupby(table["name"], sort=False).sum() / len(rows)
    ordered = sums.loc[[SUPER, *(name for name in sums.index if name != SUPER)]]
    return {str(name): {score: round(float(row[score]), 6) for score in SCORES} for name, row in ordered.iterrows()}


def weights_by_name(stacked: Stacked, learners: Sequence[str]) -> dict[str, dict[str, float]]:
    """How much each member counts in the SuperLearner, and in each meta-learner that has such weights."""
    members = {name: sorted(stacked.models.keys() - {SUPER}) if name == SUPER else learners for name in stacked.models}
    return {
        name: {member: round(float(w), 6) for member, w in zip(members[name], model.learner_weights, strict=True)}
        for name, model in sorted(stacked.models.items(), key=lambda item: item[0] != SUPER)
        if model.learner_weights is not None
    }


def write_stacked(
    folder: Path, stacked: Stacked, rows: Rows, table: pd.DataFrame, weights: Mapping[str, Mapping[str, float]]
) -> None:
    """Write all outputs of the stage into an empty folder."""
    named = {"rows": rows.key_ids, "labels": rows.labels, "folds": rows.folds, "test_rows": rows.test_key_ids}
    for name, values in named.items():
        np.save(folder / f"{name}.npy", values)
    for name, model in stacked.models.items():
        (folder / name).mkdir()
        np.save(folder / name / "oof.npy", np.ascontiguousarray(stacked.oof[name]))
        np.save(folder / name / "test.npy", np.ascontiguousarray(stacked.test[name]))
        model.save(folder / name / "weights.npz")
    (folder / "scores.json").write_text(json.dumps(pooled_scores(table, rows), indent=2) + "\n")
    (folder / "weights.json").write_text(json.dumps(weights, indent=2) + "\n")
    table.to_csv(folder / "fold_scores.csv", index=False, float_format="%.6f", lineterminator="\n")


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """One row a name, best first: `kind`, `map3` and `top1` as means over folds, and `std`, the deviation of MAP@3."""
    found = table.groupby("name").agg(
        kind=("kind", "first"), map3=("map3", "mean"), std=("map3", "std"), top1=("top1", "mean")
    )
    return found.sort_values("map3", ascending=False, kind="stable")


def print_table(table: pd.DataFrame, console: Console) -> None:
    """Show the scores, best MAP@3 first, and say so if the SuperLearner is not at least the best learner."""
    by_fold = table.pivot(index="name", columns="fold", values="map3")
    shown = Table(title="Out of fold: every base learner, meta-learner and the SuperLearner", title_justify="left")
    for heading in ("name", "kind"):
        shown.add_column(heading, no_wrap=True)
    for heading in ("MAP@3, mean ± std", *(f"fold {fold}" for fold in by_fold.columns), "top-1"):
        shown.add_column(heading, justify="right", no_wrap=True)
    means = summary(table)
    for name, kind, map3, std, top1 in means.itertuples():
        folds = [f"{score:.4f}" for score in by_fold.loc[name]]
        shown.add_row(name, kind, f"{map3:.4f} ± {std:.4f}", *folds, f"{top1:.4f}", style=STYLES[kind])
    console.print(shown)
    best, reached = means[means["kind"] == "base"].iloc[0], means[means["kind"] == "super"].iloc[0]
    if reached["map3"] < best["map3"]:
        console.print(
            f"The SuperLearner's MAP@3 ({reached['map3']:.4f}) is below its best learner's "
            f"({best.name}, {best['map3']:.4f}): stacking does not pay here."
        )


def load_metalearners(params: Params, num_words: int) -> dict[str, BaseMetaLearner]:
    """The unfitted meta-learners that params.yaml names.

    Raises:
        SketchstackError: a name is unknown, taken or without a block, or a block does not fit.
    """
    names, blocks = params.stack.metalearners, params.stack.params
    for block in blocks:  # those not stacked rest, but must fit too
        load_metalearner(block, num_words, blocks[block])
    for name in names:
        if name not in blocks:
            raise SketchstackError(
                f"params.yaml, stack.params: no block {name!r} for that meta-learner; it has "
                f"{', '.join(sorted(blocks)) or 'none'}. Add `{name}: {{}}` with the params it takes."
            )
        if names.count(name) > 1 or name in params.base_learners or name == SUPER:
            raise SketchstackError(
                f"params.yaml, stack.metalearners: the name {name!r} is taken; each learner and meta-learner is named "
                f"once, and {SUPER} is the name of them all."
            )
    return {name: load_metalearner(name, num_words, blocks[name]) for name in names}


def limit_threads(threads: int) -> None:
    """Fix the threads of the arithmetic: NumPy's, which is loaded, and torch's, which reads this as it loads."""
    os.environ.update({"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)})
    threadpool_limits(threads)


@one_paragraph_errors
def main() -> None:
    """Stack the base learners that params.yaml names and write models/meta."""
    argparse.ArgumentParser(
        description="Stack the cached predictions of the learners that params.yaml names."
    ).parse_args()
    params, words = load_params(), load_words(FOLDS)
    limit_threads(params.threads)
    metalearners = load_metalearners(params, len(words))
    rows = read_rows(params)
    check_rows(rows, words)
    names = sorted(params.base_learners)  # mlens's order of columns
    learners = [read_learner(name, params, words) for name in names]
    for learner in learners:
        check_learner(learner, rows)
    stacked = stack([cached(name, params) for name in names], metalearners, rows, len(words))
    table = score_table(learners, stacked, rows)
    with whole_folder(META) as folder:
        write_stacked(folder, stacked, rows, table, weights_by_name(stacked, names))
    print_table(table, Console(width=110))


def cached(name: str, params: Params, base: Path = BASE) -> CachedLearner:
    """A learner as mlens sees it."""
    return CachedLearner(name, tuple(str(model_folder(name, fold, base)) for fold in params.folds))


if __name__ == "__main__":
    main()
