"""params.yaml is checked to the last name: a fault is told by its place, with what is known there."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import Params, fingerprint, load_params
from pipeline.foundation.signatures import check_keywords
from tests.conftest import ROOT

SYNTHETIC = ROOT / "profiles" / "synthetic.yaml"


def changed(place: str, value: Any) -> dict[str, Any]:
    """The synthetic profile with one value set, at a place like `learners.gru.training.epochs`."""
    raw = yaml.safe_load(SYNTHETIC.read_text())
    block = raw
    *blocks, name = place.split(".")
    for each in blocks:
        block = block[each]
    block[name] = value
    return raw


def without(place: str) -> dict[str, Any]:
    raw = changed(place, None)
    block = raw
    *blocks, name = place.split(".")
    for each in blocks:
        block = block[each]
    del block[name]
    return raw


def fault(folder: Path, raw: Any) -> str:
    """The text of the error that a params file gives."""
    path = folder / "params.yaml"
    path.write_text(raw if isinstance(raw, str) else yaml.safe_dump(raw))
    with pytest.raises(SketchstackError) as caught:
        load_params(path)
    text = str(caught.value)
    assert text.startswith(str(path)), "the file is named first"
    assert "\n" not in text, "an error is one paragraph"
    return text.removeprefix(str(path))


@pytest.mark.parametrize("path", sorted((ROOT / "profiles").glob("*.yaml")), ids=lambda path: path.stem)
def test_each_profile_is_complete_and_named_after_its_file(path):
    params = load_params(path)
    assert params.profile == path.stem
    assert set(params.ensemble) <= set(params.learners)


@pytest.mark.parametrize(
    ("place", "known"),
    [
        ("treads", "profile, seed, threads, devices, checkpoints, folds"),
        ("data.foldr", "folder, train, test, sample_submission, labels"),
        ("synthesize.rows", "train_rows, test_rows"),
        ("shuffle.shard", "words, shards, max_rejected"),
        ("oof.rows", "max_rows"),
        ("learners.gru.netwrk", "network, encoding, augmentation, training"),
        (
            "learners.gru.augmentation.flipp",
            "flip, rotate, scale, shear, shift, jitter, stroke_dropout, mixup, mirror_test",
        ),
        ("learners.gru.training.epoch", "batch_size, micro_batches, epochs, schedule, learning_rate"),
        ("stack.metalearner", "metalearners, calibrate, dense_rows, params"),
        ("submit.priors", "competition, prior"),
    ],
)
def test_a_typo_at_any_level_is_told_by_its_place_with_the_known_names(tmp_path, place, known):
    text = fault(tmp_path, changed(place, 1))
    assert f"{place} is unknown; that block has" in text
    assert known in text


@pytest.mark.parametrize("place", ["threads", "data.labels", "shuffle.shards", "learners.gru.training.precision"])
def test_a_missing_name_is_told_by_its_place(tmp_path, place):
    assert f"{place} is missing" in fault(tmp_path, without(place))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("seed", -1),
        ("seed", "2018"),
        ("threads", 0),
        ("threads", True),
        ("shuffle.max_rejected", 1.5),
        ("oof.max_rows", 1e6),
        ("ensemble", []),
        ("learners.gru.training.learning_rate", 0),
        ("learners.gru.training.precision", "float16"),
        ("learners.gru.augmentation.mirror_test", "yes please"),
        ("learners.gru.augmentation.scale", 1.0),
        ("submit.prior", "equal"),
    ],
)
def test_a_wrong_value_is_told_by_its_place_and_never_coerced(tmp_path, place, value):
    text = fault(tmp_path, changed(place, value))
    assert f"{place}: " in text
    assert f"(it is {value!r})" in text


def test_all_faults_of_a_file_are_told_at_once(tmp_path):
    text = fault(tmp_path, {**changed("threads", 0), "sed": 1})
    assert "threads: " in text
    assert "sed is unknown" in text


@pytest.mark.parametrize("folds", [[], [0], [0, 1]])
def test_too_few_folds_are_refused_with_the_remedy(tmp_path, folds):
    assert "folds: too few folds" in (text := fault(tmp_path, changed("folds", folds)))
    assert "name at least three, as in [0, 1, 2]" in text


@pytest.mark.parametrize("folds", [[1, 2, 3], [0, 2, 1], [0, 1, 1], [0, 1, 3]])
def test_folds_that_do_not_count_up_from_0_are_refused(tmp_path, folds):
    assert "folds must count up from 0, as in [0, 1, 2]" in fault(tmp_path, changed("folds", folds))


def test_a_learner_named_twice_is_refused(tmp_path):
    assert "ensemble: a learner is named twice; name each once" in fault(tmp_path, changed("ensemble", ["gru", "gru"]))


@pytest.mark.parametrize("text", ["", "- a list\n", "just text\n"])
def test_a_file_that_holds_no_blocks_is_refused(tmp_path, text):
    assert "See profiles/ for complete params files." in fault(tmp_path, text)


def test_broken_yaml_is_refused_with_its_line(tmp_path):
    text = fault(tmp_path, "seed: 1\nfolds: [0, 1\nthreads: 2\n")
    assert "is not YAML" in text
    assert "line 3" in text


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SketchstackError, match=r"params\.yaml is not YAML"):
        load_params(tmp_path / "params.yaml")


def test_a_missing_file_is_told_with_its_full_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SketchstackError) as caught:
        load_params()
    assert str(caught.value) == f"{tmp_path}/params.yaml is missing; run from the repository's root."


def test_a_learner_without_a_block_is_told_with_those_that_have_one():
    with pytest.raises(SketchstackError, match=r"no block learners\.grue; it has .*gru, lstm, mobilenet, .*\. Add"):
        load_params(SYNTHETIC).learner("grue")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("learners.gru.network.dropout", 0.5),
        ("learners.gru.encoding.length", 65),
        ("learners.gru.augmentation.flip", 0.5),
        ("learners.gru.training.epochs", 11),
        ("seed", 1),
        ("threads", 1),
        ("devices", 2),
        ("folds", [0, 1, 2, 3]),
        ("shuffle.shards", 3),
        ("oof.max_rows", 1000),
    ],
)
def test_whatever_a_learner_s_predictions_depend_on_changes_its_hash(place, value):
    before, after = load_params(SYNTHETIC), Params.model_validate(changed(place, value))
    assert before.learner_hash("gru") != after.learner_hash("gru")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("learners.lstm.training.epochs", 11),
        ("ensemble", ["gru"]),
        ("stack.metalearners", ["logistic"]),
        ("submit.prior", None),
        ("data.labels", None),
    ],
)
def test_what_is_no_business_of_a_learner_leaves_its_hash(place, value):
    before, after = load_params(SYNTHETIC), Params.model_validate(changed(place, value))
    assert before.learner_hash("gru") == after.learner_hash("gru")


def test_two_learners_with_equal_blocks_in_other_order_have_equal_fingerprints():
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1, "b": [1, 2]}) != fingerprint({"a": 1, "b": [2, 1]})


def takes(images: object, *, side: int, margin: float) -> None:
    """A function like an encoding: what it works on first, then its params by name."""


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ({"side": 8, "margin": 1.0, "sied": 8}, "encoding.sied is unknown. That block has side, margin."),
        ({"side": 8}, "encoding.margin is missing. That block has side, margin."),
        ({"side": "8", "margin": 1.0}, "encoding.side Input should be a valid integer (it is '8')"),
        ({"side": 8, "margin": 1.0, "images": 0}, "encoding.images does not stand behind a `*` in the signature"),
    ],
)
def test_a_block_is_checked_against_the_function_that_takes_it(block, told):
    with pytest.raises(SketchstackError) as caught:
        check_keywords("encoding", block, takes)
    assert told in str(caught.value)


def test_a_block_that_fits_its_function_passes():
    check_keywords("encoding", {"side": 8, "margin": 1}, takes)


def test_a_block_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("seed: 1\nlearners:\n  gru: {a: 1}\n  lstm: {a: 1}\n  gru: {a: 2}\n")
    with pytest.raises(SketchstackError, match=r"'gru' stands twice in one block, the block at line 3"):
        load_params(path)


def test_a_number_that_yaml_reads_as_text_is_told_how_to_write_it(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(SYNTHETIC.read_text().replace("learning_rate: 0.004", "learning_rate: 1e-3", 1))
    with pytest.raises(SketchstackError, match=r"learning_rate: .* \(it is '1e-3'\); write 0\.001 or 1\.0e-3"):
        load_params(path)


def test_a_learner_without_a_block_is_refused_with_those_that_have_one(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(SYNTHETIC.read_text().replace("ensemble: [mobilenet,", "ensemble: [mobilenett,"))
    with pytest.raises(
        SketchstackError, match=r"'mobilenett' has no block learners\.mobilenett; there are binarynet, gru"
    ):
        load_params(path)


EVIL = ["x; touch hit", "$(touch hit)", "it's", "a b", "../x", "-x", "", "a\nb", "ä", "a\n"]


@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize(
    "place",
    [
        "profile", "submit.competition", "pseudo.teacher", "ensemble", "pseudo.learners", "synthesize.competitions",
        "stack.metalearners",
    ],
)  # fmt: skip
def test_a_name_that_a_shell_would_read_is_refused(tmp_path, place, name):
    many = place.rpartition(".")[2] not in ("profile", "competition", "teacher")
    told = fault(tmp_path, changed(place, [name] if many else name))
    assert place in told
    assert "a name may hold letters of the English alphabet, digits" in told


@pytest.mark.parametrize("place", ["learners", "stack.params"])
def test_a_block_is_named_as_its_learner(tmp_path, place):
    raw = changed("seed", 1)
    block = raw
    for each in place.split("."):
        block = block[each]
    block["x; touch hit"] = next(iter(block.values()))
    assert "a name may hold" in fault(tmp_path, raw)


def test_every_param_that_dvc_puts_into_a_command_is_a_checked_name():
    dvc = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    stages = [stage for stage in dvc["stages"].values() if "${" in stage["cmd"]]
    into = {
        stage["matrix"][item].removeprefix("${").removesuffix("}")
        for stage in stages
        for item in re.findall(r"\$\{item\.(\w+)\}", stage["cmd"])
    }
    assert into == {"synthesize.competitions", "ensemble", "pseudo.learners", "folds"}
    assert all(re.fullmatch(r"[^$]*(\$\{item\.\w+\}[^$]*)*", stage["cmd"]) for stage in stages)
