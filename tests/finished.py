"""A run as it lies on disk once every stage is through, made in seconds: only the networks' predictions are made up."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.drawings.kaggle_csv import KaggleRow
from pipeline.drawings.shards import open_shards
from pipeline.drawings.words import load_words, spell
from pipeline.foundation.params import load_params
from pipeline.predictions.cache import model_folder, write_predictions
from pipeline.stages import score, stack, submit
from pipeline.stages import shuffle as shuffle_stage
from pipeline.stages import synthesize as synthesize_stage
from pipeline.synthetic import competition as synthesize
from pipeline.synthetic import drawing
from tests.conftest import ROOT, run_main

LEARNERS = {"gru": 3.4, "seresnet": 4.2}  # and how much likelier each finds what is drawn
ROWS, TESTS = 24, 4  # a word
CURVE = "epoch,learning_rate,loss,top1\n1,0.01,3.0,0.2\n2,0.001,2.0,0.4\n"


def finish_run(home: Path) -> dict[int, str]:
    """Fill an empty folder with a small synthetic competition and a run of it.

    Returns:
        What each drawing shows, by key_id: of some rows it is another word than they bear.
    """
    raw = yaml.safe_load((ROOT / "profiles" / "synthetic.yaml").read_text())
    raw["ensemble"] = list(LEARNERS)
    raw["synthesize"] |= {"train_rows": ROWS, "test_rows": TESTS, "mislabelled": 0.05}
    raw["stack"]["metalearners"] = ["arithmetic_mean", "geometric_mean", "convex_weights"]
    (home / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    (home / "corrections.csv").write_text((ROOT / "corrections.csv").read_text())
    with contextlib.chdir(home), pytest.MonkeyPatch.context() as patch:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            patch.setenv(name, "1")  # stages set them; this puts them back afterwards
        shown = _synthesize(patch)
        run_main(shuffle_stage)
        for name in LEARNERS:
            _predict(name, shown)
        for module in (stack, submit, score):
            run_main(module)
    return shown


def _synthesize(patch: pytest.MonkeyPatch) -> dict[int, str]:
    """Run the stage, and note what it draws in each row."""
    drawn: list[str] = []
    draw, row, shown = drawing.draw, synthesize.row, {}

    def noting(word: str, *rest: object, **how: object) -> object:
        drawn.append(word)
        return draw(word, *rest, **how)  # type: ignore[arg-type]

    def noted(*given: object, **how: object) -> KaggleRow:
        made = row(*given, **how)  # type: ignore[arg-type]
        shown[made.key_id] = drawn[-1]
        return made

    patch.setattr(synthesize, "draw", noting)
    patch.setattr(synthesize, "row", noted)
    run_main(synthesize_stage, "synthetic")
    return shown


def _predict(name: str, shown: dict[int, str]) -> None:
    """Predictions as a learner caches them: it sees what is drawn, the better the more skill it has."""
    params, words, random = load_params(), load_words(Path("folds/synthetic")), np.random.default_rng(len(name))

    def probabilities(key_ids: np.ndarray) -> np.ndarray:
        logits = random.normal(size=(len(key_ids), len(words)))
        labels = [words.index[spell(shown[key])] for key in key_ids.tolist()]
        logits[np.arange(len(key_ids)), labels] += LEARNERS[name]
        return (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float16)

    folds = {fold: open_shards([Path(f"folds/synthetic/fold{fold}")]) for fold in params.folds}
    test = open_shards([Path("folds/synthetic/test")]).key_id
    for fold, held_out in folds.items():
        place = model_folder(name, fold)
        place.mkdir(parents=True)
        others = np.concatenate([shards.key_id for other, shards in folds.items() if other != fold])
        write_predictions(
            place, oof=probabilities(held_out.key_id), test=probabilities(test), rows=held_out.key_id, test_rows=test,
            labels=held_out.word, words=words, learner_hash=params.learner_hash(name), trained_on=others,
        )  # fmt: skip
        curve = Path(f"models/synthetic/curves/{name}/fold{fold}.csv")
        curve.parent.mkdir(parents=True, exist_ok=True)
        curve.write_text(CURVE)
        seconds = Path(f"logs/synthetic/{name}/fold{fold}/seconds.json")
        seconds.parent.mkdir(parents=True, exist_ok=True)
        seconds.write_text(json.dumps({"fit": 3.5, "predict": 0.5}))
