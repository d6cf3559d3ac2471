"""The second round takes test drawings under the teacher's words, and nothing of the fold that is held out."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.drawings.copies import point_hashes
from pipeline.drawings.encodings import identity, pen_movements
from pipeline.drawings.shards import NO_LABEL, Drawings, Shard, Shards, open_shards, shard_hashes, write_shard
from pipeline.drawings.words import Words
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import Params, load_params
from pipeline.predictions.cache import model_folder, read_learner, write_predictions
from pipeline.predictions.unused import stale_outputs
from pipeline.raw.records import Strokes, hash_of
from pipeline.stages import pseudo as pseudo_stage
from pipeline.stages import stack as stack_stage
from pipeline.stages import submit as submit_stage
from pipeline.stages import train
from pipeline.training.fitting import _checkpoint
from pipeline.training.pseudo import relabelled, taught_labels
from tests.commands.test_export import FIRST_KEY, WORDS, shard_table
from tests.conftest import ROOT, failing_main, run_main
from tests.toy import toy_drawings

FOLDS, ROWS = [0, 1, 2], 60  # of each fold, and of the test set
COPIES = 12  # test drawings that are copies, of each fold: rows 0..11 of fold 0, 12..23 of fold 1, 24..35 of fold 2
CONFIDENCE = 0.6


def write_shards(shards: dict[str, Shard]) -> None:
    """Write folds/ with one shard a folder, key_ids counting up through all."""
    shutil.rmtree("folds", ignore_errors=True)
    for number, (name, shard) in enumerate(shards.items()):
        Path("folds/synthetic", name).mkdir(parents=True)
        table = shard_table(shard, FIRST_KEY + number * ROWS, timed=False, labelled=name != "test")
        write_shard(Path("folds/synthetic", name, "0000.arrow"), table)
    WORDS.save(Path("folds/synthetic/words.json"))
    rows_out = {name: len(shard) for name, shard in shards.items()}
    summary = {"rows_out": rows_out, "shards": shard_hashes(Path("folds/synthetic"))}
    Path("folds/synthetic/summary.json").write_text(json.dumps(summary))


def strokes_of(drawings: Drawings, places: range) -> list[Any]:
    return [[tuple(axis.tolist() for axis in stroke) for stroke in drawings.strokes_of(place)] for place in places]


def some_shards() -> dict[str, Shard]:
    """Toy drawings; a few of each fold are in the test set too."""
    shards = {f"fold{fold}": toy_drawings(ROWS, seed=fold).shards[0] for fold in FOLDS}
    test = strokes_of(toy_drawings(ROWS, seed=9)[:], range(len(FOLDS) * COPIES, ROWS))
    copies = [each for shard in shards.values() for each in strokes_of(Shards([shard])[:], range(COPIES))]
    return {**shards, "test": Shard.from_lists([*copies, *test])}


def changed_params(**pseudo: object) -> dict[str, Any]:
    """The synthetic profile with two tiny learners in the first round and one in the second."""
    raw = yaml.safe_load((ROOT / "profiles" / "synthetic.yaml").read_text())
    raw["ensemble"], raw["threads"] = ["seresnet", "lstm"], 1
    raw["learners"]["lstm"] |= {
        "network": {"filters": [16], "strides": [1], "units": 8, "layers": 1, "dropout": 0.0},
        "encoding": {"length": 8, "fit": "resample", "timing": False},
    }
    raw["learners"]["seresnet"]["network"] = {"widths": [8], "blocks": 1, "dropout": 0.0}
    raw["learners"]["seresnet"]["encoding"] |= {"side": 8}
    for block in raw["learners"].values():
        block["training"] |= {"batch_size": 20, "epochs": 4}
    raw["pseudo"] = {"learners": ["lstm"], "teacher": "seresnet", "confidence": CONFIDENCE} | pseudo
    raw["stack"] |= {"metalearners": ["arithmetic_mean", "convex_weights"]}
    raw["submit"] |= {"prior": None}
    return raw


def write_params(**pseudo: object) -> Params:
    Path("params.yaml").write_text(yaml.safe_dump(changed_params(**pseudo)))
    return load_params()


def planted(fold: int) -> np.ndarray:
    """What the teacher without `fold` is made to say of the test drawings, (ROWS, 4): other words from each fold."""
    best = np.linspace(0.3, 1.0, ROWS)
    probabilities = np.repeat((1 - best)[:, None] / 3, 4, axis=1)
    probabilities[np.arange(ROWS), (np.arange(ROWS) + fold) % 4] = best
    return np.random.default_rng(fold).permutation(probabilities)


def plant(params: Params, folder: Path, fold: int, test: np.ndarray, test_rows: np.ndarray | None = None) -> None:
    """Cache predictions of the teacher's in a folder."""
    rows = open_shards([Path("folds/synthetic", f"fold{fold}")])
    known = open_shards([Path("folds/synthetic/test")]).key_id
    folder.mkdir(parents=True, exist_ok=True)
    write_predictions(
        folder, oof=np.full((ROWS, 4), 0.25), test=test, rows=rows.key_id,
        test_rows=known if test_rows is None else test_rows, labels=rows.word, words=WORDS,
        learner_hash=params.learner_hash("seresnet"), trained_on=rows.key_id,
    )  # fmt: skip


@pytest.fixture
def home(tmp_path, monkeypatch) -> Params:
    """A folder in which the teacher's predictions are cached, each fold's by a model of its own."""
    monkeypatch.chdir(tmp_path)
    write_shards(some_shards())
    params = write_params()
    for fold in FOLDS:
        plant(params, model_folder("seresnet", fold), fold, planted(fold))
    return params


def test_a_drawing_has_the_hash_by_which_shuffle_finds_its_fold():
    shards = Shards(
        [*toy_drawings(30, seed=1).shards, *toy_drawings(0, seed=1).shards, *toy_drawings(5, seed=2).shards]
    )
    drawings, hashes = shards[:], point_hashes(shards)
    assert len(hashes) == len(shards)
    for place, found in enumerate(hashes.tolist()):
        strokes = drawings.strokes_of(place)
        x, y = (np.concatenate([stroke[axis] for stroke in strokes]) for axis in (0, 1))
        lengths = np.array([len(stroke[0]) for stroke in strokes], np.uint16)
        assert found == hash_of(Strokes(x, y, None, lengths))


@pytest.mark.parametrize("timed", [False, True])
def test_labelled_drawings_are_kept_as_they_are(timed):
    axes = 3 if timed else 2
    lists = [[(range(n + 1), range(n + 1), range(n + 1))[:axes], ([9], [n], [7])[:axes]] for n in range(6)]
    shards = Shards([Shard.from_lists(lists[:4]), Shard.from_lists(lists[4:5]), Shard.from_lists(lists[5:])])
    labels = np.array([NO_LABEL, 3, NO_LABEL, 0, NO_LABEL, 2], np.int16)
    kept = relabelled(shards, labels)
    assert kept.word.tolist() == [3, 0, 2]
    assert kept.key_id.tolist() == shards.key_id[[1, 3, 5]].tolist()
    assert kept.timed == timed
    same = shards.take(np.array([1, 3, 5]))
    assert strokes_of(kept[:], range(3)) == strokes_of(same, range(3))
    one, other = [
        pen_movements(each, identity(3), length=8, fit="truncate", timing=timed)[0] for each in (kept[:], same)
    ]
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("held_out", FOLDS)
def test_sure_test_drawings_get_the_words_of_the_model_that_did_not_see_the_fold(home, held_out):
    labels, said = taught_labels(home, held_out, WORDS), planted(held_out).astype(np.float16)
    taken = np.flatnonzero(labels != NO_LABEL)
    copies = range(held_out * COPIES, (held_out + 1) * COPIES)
    sure = np.flatnonzero(said.max(axis=1) >= CONFIDENCE)
    assert taken.tolist() == [row for row in sure if row not in copies]
    assert set(sure) & set(copies), "some of the copies must be sure, or this shows nothing"
    assert labels[taken].tolist() == said[taken].argmax(axis=1).tolist()


@pytest.mark.parametrize("held_out", FOLDS)
def test_no_drawing_of_the_held_out_fold_is_among_those_to_train_on(home, held_out):
    test = open_shards([Path("folds/synthetic/test")])
    taken = point_hashes(relabelled(test, taught_labels(home, held_out, WORDS)))
    every = {fold: set(point_hashes(open_shards([Path("folds/synthetic", f"fold{fold}")])).tolist()) for fold in FOLDS}
    assert not set(taken.tolist()) & every[held_out]
    assert all(set(taken.tolist()) & every[fold] for fold in FOLDS if fold != held_out), "copies of others may stay"


def test_a_teacher_that_saw_the_held_out_fold_is_refused(home):
    shutil.rmtree(model_folder("seresnet", 0))
    shutil.copytree(model_folder("seresnet", 1), model_folder("seresnet", 0))
    with pytest.raises(
        SketchstackError, match=r"fold0: rows\.npy is not of fold 0, so this model may have been trained"
    ):
        taught_labels(home, 0, WORDS)


def of_other_words(params: Params) -> None:
    Words(("a", "b", "c", "d")).save(Path("folds/synthetic/words.json"))


def of_other_test_rows(params: Params) -> None:
    plant(params, model_folder("seresnet", 0), 0, planted(0), np.arange(ROWS))


def of_fewer_test_rows(params: Params) -> None:
    plant(params, model_folder("seresnet", 0), 0, planted(0)[1:])


def failed(params: Params) -> None:
    said = planted(0)
    said[7] = np.nan
    plant(params, model_folder("seresnet", 0), 0, said)


def absent(params: Params) -> None:
    shutil.rmtree(model_folder("seresnet", 0))


def of_other_params(params: Params) -> None:
    raw = changed_params()
    raw["learners"]["seresnet"]["training"]["epochs"] += 1
    Path("params.yaml").write_text(yaml.safe_dump(raw))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (absent, "models/synthetic/base/seresnet/fold0 holds no complete predictions"),
        (of_other_params, "models/synthetic/base/seresnet/fold0 was made from other learner"),
        (of_other_words, "models/synthetic/base/seresnet/fold0 was made from other words"),
        (
            of_other_test_rows,
            "models/synthetic/base/seresnet/fold0: test.npy is not of the rows in folds/synthetic/test",
        ),
        (
            of_fewer_test_rows,
            "models/synthetic/base/seresnet/fold0: test.npy is not of the rows in folds/synthetic/test",
        ),
        (
            failed,
            "models/synthetic/base/seresnet/fold0: a prediction failed, because test.npy has values",
        ),
    ],
)
def test_a_teacher_with_unusable_predictions_is_refused(home, spoil, said):
    spoil(home)
    text = failing_main(pseudo_stage, "lstm", 0)
    assert said in text
    assert "dvc repro" in text
    assert not Path("models/synthetic/base/lstm_pseudo").exists()


def test_the_error_of_an_unsure_teacher_shows_what_lower_thresholds_would_take(home):
    plant(home, model_folder("seresnet", 0), 0, np.where(planted(0) > 0.58, 0.58, planted(0)))
    text = failing_main(pseudo_stage, "lstm", 0)
    assert "seresnet gives no test drawing a probability of pseudo.confidence (0.6) with fold 0 held out" in text
    best = planted(0)[COPIES:].max(axis=1)
    shares = ", ".join(f"{level} would take {np.mean(best >= level):.2%}" for level in (0.5, 0.4, 0.3))
    assert f"its highest probability is 0.580; {shares}. Lower pseudo" in text


def test_a_test_set_of_duplicates_alone_is_refused(home):
    shards = some_shards()
    write_shards({**shards, "test": shards["fold0"]})
    plant(home, model_folder("seresnet", 0), 0, planted(0))
    assert "all duplicate drawings of that fold. Lower pseudo" in failing_main(pseudo_stage, "lstm", 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gru", 0), "pseudo.learners does not name 'gru'; it names lstm."),
        (("lstm_pseudo", 0), "pseudo.learners does not name 'lstm_pseudo'"),
        (("lstm", 7), "no fold 7; params.yaml has folds 0, 1, 2."),
    ],
)
def test_a_second_round_that_params_do_not_name_is_refused(home, arguments, said):
    assert said in failing_main(pseudo_stage, *arguments)


def test_the_first_round_does_not_train_under_a_name_of_the_second(home):
    assert "params.yaml has no block learners.lstm_pseudo" in failing_main(train, "lstm_pseudo", 0)


def test_a_resume_point_of_other_labels_is_refused(home, capsys):
    state = {"weights": np.zeros(3, np.float32)}
    _checkpoint(home, "lstm_pseudo", 0, {"pseudo-labels": "one"}).write(state, {"step": 1})
    assert _checkpoint(home, "lstm_pseudo", 0, {"pseudo-labels": "one"}).read() is not None
    assert _checkpoint(home, "lstm_pseudo", 0, {"pseudo-labels": "other"}).read() is None
    assert "is refused: it was made from other pseudo-labels." in capsys.readouterr().out


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Iterator[Path]:
    """A folder in which both rounds have trained a tiny learner of all folds."""
    folder = tmp_path_factory.mktemp("finished")
    with contextlib.chdir(folder):
        write_shards(some_shards())
        raw = changed_params(teacher="lstm", confidence=0.2)
        Path("params.yaml").write_text(yaml.safe_dump(raw | {"ensemble": ["lstm"]}))
        for fold in FOLDS:
            run_main(train, "lstm", fold)
            run_main(pseudo_stage, "lstm", fold)
    return folder


@pytest.fixture
def project(finished, tmp_path, monkeypatch) -> Path:
    """A copy of it, to change."""
    shutil.copytree(finished, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def files_of(name: str, fold: int) -> dict[str, bytes]:
    names = ("weights.safetensors", "oof.npy", "test.npy")
    return {each: (model_folder(name, fold) / each).read_bytes() for each in names}


def test_the_second_round_is_cached_as_one_more_base_learner(project):
    params = load_params()
    first, second = (read_learner(name, params, WORDS) for name in params.base_learners)
    assert (first.name, second.name) == ("lstm", "lstm_pseudo")
    np.testing.assert_array_equal(first.rows, second.rows)
    for fold in FOLDS:
        before, after = files_of("lstm", fold), files_of("lstm_pseudo", fold)
        assert all(before[name] != after[name] for name in before)
        curves = [Path("models/synthetic/curves", name, f"fold{fold}.csv") for name in params.base_learners]
        assert len({curve.read_text() for curve in curves}) == 2
        assert Path("logs/synthetic/lstm_pseudo", f"fold{fold}", "seconds.json").exists()
    assert not list(Path("checkpoints/synthetic").rglob("*.safetensors"))
    assert stale_outputs(params) == []


def test_nothing_of_the_held_out_fold_flows_into_what_is_fitted_without_it(project, capsys):
    before = files_of("lstm_pseudo", 0)
    shards = some_shards()
    other = {name: np.array(value) for name, value in vars(shards["fold0"]).items()}
    other["word"] = (3 - other["word"]).astype(np.int16)
    write_shards({**shards, "fold0": Shard(**other)})
    for fold in FOLDS:
        run_main(train, "lstm", fold)
    run_main(pseudo_stage, "lstm", 0)
    assert " test drawings beside 120 of the other folds, under lstm's words" in capsys.readouterr().out
    assert files_of("lstm_pseudo", 0) == before
    run_main(pseudo_stage, "lstm", 1)
    assert files_of("lstm_pseudo", 1) != before, "the words of fold 0 do count where it is trained on"


@pytest.fixture
def stacked(project, monkeypatch) -> Path:
    """The project with its stack."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # the stage sets them; this puts them back afterwards
    run_main(stack_stage)
    return project


def test_the_stack_holds_it_by_its_name(stacked):
    scores = json.loads(Path("models/synthetic/meta/scores.json").read_text())
    assert {"lstm", "lstm_pseudo"} <= set(scores)


def test_its_submission_names_its_teacher(stacked):
    Path("data/synthetic").mkdir(parents=True)
    test = open_shards([Path("folds/synthetic/test")]).key_id.tolist()
    sample = ["key_id,word", *(f"{key_id},ant bee zigzag" for key_id in test), ""]
    Path("data/synthetic/sample_submission.csv").write_text("\n".join(sample))
    submit_stage.main()
    made = {
        name: json.loads(Path(f"submissions/synthetic/{name}.json").read_text()) for name in ("lstm", "lstm_pseudo")
    }
    assert "pseudo" not in made["lstm"]["params"]
    assert made["lstm_pseudo"]["params"]["pseudo"] == {"teacher": "lstm", "confidence": 0.2}
    assert list(made["lstm_pseudo"]["params"]["learners"]) == ["lstm"]


def valid(**pseudo: object) -> Params:
    return Params.model_validate(changed_params(**pseudo))


def test_base_learners_are_the_ensemble_then_the_second_round():
    assert valid(learners=[]).base_learners == ["seresnet", "lstm"]
    assert valid(learners=["gru", "lstm"]).base_learners == ["seresnet", "lstm", "gru_pseudo", "lstm_pseudo"]


@pytest.mark.parametrize("profile", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda path: path.stem)
def test_no_profile_has_a_second_round_unless_asked(profile):
    params = load_params(profile)
    assert params.pseudo.learners == []
    assert params.base_learners == params.ensemble


def test_the_hash_of_the_second_round_covers_its_block_the_teacher_and_the_confidence():
    raw, hashes = changed_params(), {valid().learner_hash("lstm_pseudo"), valid().learner_hash("lstm")}
    for name in ("lstm", "seresnet"):  # the learner itself, and the teacher
        other = yaml.safe_load(yaml.safe_dump(raw))
        other["learners"][name]["training"]["epochs"] += 1
        hashes.add(Params.model_validate(other).learner_hash("lstm_pseudo"))
    for change in ({"confidence": 0.7}, {"teacher": "lstm"}):
        hashes.add(valid(**change).learner_hash("lstm_pseudo"))
        assert valid(**change).learner_hash("lstm") == valid().learner_hash("lstm")
    assert len(hashes) == 6
    assert valid(learners=["lstm", "gru"]).learner_hash("lstm_pseudo") in hashes, "others of the round do not matter"


@pytest.mark.parametrize(
    ("pseudo", "said"),
    [
        (
            {"teacher": "gru"},
            "pseudo.teacher 'gru' is not trained in the first round; name one of `ensemble`: seresnet",
        ),
        ({"learners": ["lstm", "lstm"]}, "pseudo.learners: a name stands twice"),
        ({"learners": ["lstmm"]}, "'lstmm' has no block learners.lstmm; there are "),
        ({"learners": ["lstm_pseudo"]}, "'lstm_pseudo' has no block learners.lstm_pseudo"),
        ({"confidence": 0.0}, "pseudo.confidence: "),
        ({"confidence": 1.5}, "pseudo.confidence: "),
        ({"share": 0.5}, "pseudo.share is unknown; that block has learners, teacher, confidence"),
    ],
)
def test_an_invalid_second_round_is_refused(tmp_path, monkeypatch, pseudo, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SketchstackError, match=re.escape(said)):
        write_params(**pseudo)


def test_without_a_second_round_no_teacher_is_needed():
    assert valid(learners=[], teacher="gru").base_learners == ["seresnet", "lstm"]


def test_a_learner_may_not_be_named_as_one_of_the_second_round(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw = changed_params(learners=[])
    raw["learners"]["gru_pseudo"] = raw["learners"]["gru"]
    Path("params.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(SketchstackError, match="'gru_pseudo' is named as a base learner of the second round"):
        load_params()


def dvc(*arguments: str) -> list[str]:
    """What a command of DVC prints, by lines."""
    command = [str(Path(sys.executable).with_name("dvc")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_dvc_has_the_stage_if_asked_and_each_fold_waits_for_its_own_teacher(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
    dvc("init", "--no-scm", "--quiet")
    write_params(learners=[])
    assert not [line for line in dvc("stage", "list", "--name-only") if line.startswith("pseudo")]
    write_params(learners=["lstm", "seresnet"])
    edges = {tuple(re.findall(r'"([^"]+)"', line)) for line in dvc("dag", "--dot") if "->" in line}
    for name in ("lstm", "seresnet"):
        for fold in FOLDS:
            before = {start for start, end in edges if end == f"pseudo@{name}-{fold}"}
            assert before == {"fingerprint", "shuffle", f"train@seresnet-{fold}"}
            assert (f"pseudo@{name}-{fold}", "stack") in edges
