"""The recorded scores of a run."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from bench import scores
from pipeline.foundation.errors import SketchstackError
from tests.conftest import ROOT, failing_main

FOLD_SCORES = """name,kind,fold,map3,top1,log_loss
gru,base,0,0.70,0.60,1.0
gru,base,1,0.72,0.62,1.0
gru,base,2,0.74,0.64,1.0
super_learner,super,0,0.90,0.80,0.5
super_learner,super,1,0.90,0.80,0.5
super_learner,super,2,0.90,0.80,0.5
"""
RANKING = """rank,name,oof_map3,low,high,best_three,sha256
1,super_learner,0.9,0.89,0.91,true,02ee45b6637334de866bb4
2,gru,0.72,0.71,0.73,false,7cad117bc217bfa34f
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """What a run of the synthetic profile leaves, of two learners."""
    params = shutil.copy(ROOT / "profiles" / "synthetic.yaml", tmp_path / "params.yaml")
    found = scores.load_params(Path(params))
    for name in found.base_learners:
        for fold in found.folds:
            write(
                tmp_path / "logs/synthetic" / name / f"fold{fold}" / "seconds.json",
                json.dumps({"fit": 10 + fold, "predict": 1}),
            )
    rows = {f"fold{fold}": 1000 for fold in found.folds}
    write(
        tmp_path / "folds/synthetic" / "summary.json",
        json.dumps({"rows_out": {**rows, "test": 50}, "rows_a_word": {"ant": 9}}),
    )
    write(tmp_path / "models/synthetic/meta/fold_scores.csv", FOLD_SCORES)
    write(tmp_path / "submissions/synthetic/ranking.csv", RANKING)
    write(tmp_path / "submissions/synthetic" / "super_learner.csv", "key_id,word\n1,ant\n")
    manifest = {"params": {"learners": {"gru": found.learner("gru").model_dump()}}}
    write(tmp_path / "submissions/synthetic" / "super_learner.json", json.dumps(manifest))
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_run_is_recorded_best_first_with_its_submission(home, tmp_path):
    text = scores.store(home, ["A note."], tmp_path).read_text()
    assert text.startswith("# The synthetic profile: 1 words, 3,000 drawings\n")
    best, second = (
        "| super_learner | super | 0.9000 ± 0.0000 |",
        "| gru | base | 0.7200 ± 0.0200 | 0.7000 | 0.7200 | 0.7400 |",
    )
    assert 0 < text.index(best) < text.index(second)
    assert "| super_learner | 0.9000 | 0.8900 to 0.9100 | `02ee45b6637334de…` |" in text
    assert "| gru | 11 | 12 | 13 | 36 |" in text
    assert "\nA note.\n" in text
    assert gzip.decompress((tmp_path / "synthetic_submission.csv.gz").read_bytes()) == b"key_id,word\n1,ant\n"


def test_a_run_of_other_params_or_without_its_end_is_refused(home, tmp_path):
    text = (home / "params.yaml").read_text()
    (home / "params.yaml").write_text(text.replace("seed: 2018", "seed: 2019"))
    with pytest.raises(SketchstackError, match="nobody could repeat"):
        scores.store(home, [], tmp_path)
    (home / "params.yaml").write_text(text)
    (home / "logs/synthetic" / "gru" / "fold1" / "seconds.json").unlink()
    with pytest.raises(SketchstackError, match=r"seconds\.json is absent"):
        scores.store(home, [], tmp_path)
    assert not [*tmp_path.glob("synthetic*")]
    (home / "models/synthetic/meta/fold_scores.csv").unlink()
    assert "run `dvc repro`" in failing_main(scores, "--home", home)


def test_submissions_of_other_params_are_refused(home, tmp_path):
    path = home / "submissions/synthetic" / "super_learner.json"
    path.write_text(path.read_text().replace('"epochs": ', '"epochs": 1'))
    with pytest.raises(SketchstackError, match="submissions were made with other params"):
        scores.store(home, [], tmp_path)
    assert not [*tmp_path.glob("synthetic*")]
