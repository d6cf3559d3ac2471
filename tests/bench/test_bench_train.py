from __future__ import annotations

import itertools
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench import competition, effects, plain, reference, train, train_once
from bench.effects import BASELINE, MEANS, Effect, Runs, block_of
from bench.plain import Scored
from pipeline.drawings.batches import Batch
from pipeline.drawings.encodings import set_threads
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import LearnerParams, Params, load_params
from pipeline.foundation.signatures import check_keywords
from pipeline.learners._base import Learner, available, learner_class
from tests import rawfiles as raw
from tests.toy import toy_drawings, toy_learner

WORDS = [f"word {letter}" for letter in "abcdefghijklmnopq"]
ROWS = 20  # of a word


@pytest.fixture
def params(tmp_path: Path) -> Params:
    return params_over(tmp_path)


def params_over(home: Path) -> Params:
    """The mini profile with small batches and one epoch, over a competition of words that differ in one corner."""
    lines: dict[str, list[str]] = {word: [] for word in WORDS}
    for number in range(len(WORDS) * ROWS):
        place = number // ROWS
        corner = [[[15 * place, 255, 10], [number % ROWS, 5 * place, 20]], [[5, 6], [7, 8]]]
        lines[WORDS[place]].append(raw.csv_line(number * 10**7, WORDS[place], drawing=corner))
    raw.write_competition(home, lines)
    params = load_params(competition.PROFILE)
    learners = {name: _hurried(block) for name, block in params.learners.items()}
    data = raw.some_params(str(home / "data" / "synthetic")).data
    return params.model_copy(update={"data": data, "learners": learners})


def _hurried(block: LearnerParams) -> LearnerParams:
    return block.model_copy(update={"training": block.training.model_copy(update={"batch_size": 16, "epochs": 1})})


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def learner() -> Learner:
    """A learner that only notes which steps it was asked for, and takes no time."""
    found = toy_learner("seresnet")
    found.steps = []  # type: ignore[attr-defined]

    def train_step(batch: Batch, learning_rate: float) -> tuple[float, float]:
        found.steps.append(batch.step)  # type: ignore[attr-defined]
        time.sleep(0.002)
        return 0.0, 0.0

    found.train_step = train_step  # type: ignore[method-assign]
    return found


def blocks_of(learner: Learner, pairs: int = 3, block: float = 0.05) -> dict[str, list[float]]:
    set_threads(1)
    batches = learner.batches(toy_drawings(64, seed=1))
    batches.batch(0)  # compiles the kernel
    return train_once.in_blocks(learner, batches.steps(0, 10**6), pairs, block)


def test_blocks_take_new_batches_and_one_from_memory_in_turn(learner):
    found = blocks_of(learner)
    assert {name: len(rates) for name, rates in found.items()} == {"fed": 3, "again": 3}
    taken = [(step, len(list(group))) for step, group in itertools.groupby(learner.steps)]
    again, fed = [count for step, count in taken if step == 0], [step for step, _ in taken if step > 0]
    assert fed == sorted(set(fed))  # each once
    assert len(again) >= 2
    assert len(set(again[1:])) == 1  # all blocks of as many steps
    assert taken[-1][0] == 0


@pytest.mark.parametrize(("seconds", "block", "most"), [(0.008, 0.05, 0.5), (0.002, 0.002, 0.8)])
def test_slow_batches_show_however_short_the_blocks(learner, monkeypatch, seconds, block, most):
    encode = learner.inputs

    def slowly(*drawn: Any) -> Any:
        time.sleep(seconds)
        return encode(*drawn)

    monkeypatch.setattr(learner, "inputs", slowly)
    found = blocks_of(learner, pairs=9, block=block)
    assert statistics.median(found["fed"]) < most * statistics.median(found["again"])


def test_a_learner_fed_too_slowly_does_not_meet_its_bar():
    def runs(*fed: float) -> list[dict[str, Any]]:
        return [{"fed": [rate], "again": [100.0], "first_step": 5.0, "peak": 700.0, "gpu": None} for rate in fed]

    steps, first_step, peak = train.rows_of("gru", runs(94, 96, 93))
    assert not steps.met(steps.bars[0])
    assert (first_step.ours, peak.ours) == ([5.0] * 3, [700.0] * 3)
    assert train.rows_of("gru", runs(96, 98, 95))[0].met(steps.bars[0])


def test_a_machine_that_slows_down_between_pairs_of_blocks_does_not_change_their_ratio():
    run = {"fed": [98.0, 48.0, 49.0, 99.0, 97.0], "again": [100.0, 50.0, 50.0, 100.0, 50.0]}
    steps, *_ = train.rows_of("gru", [{**run, "first_step": 5.0, "peak": 700.0, "gpu": None}])
    assert steps.figure("ratio") == 0.98
    assert replace(steps, paired=False).figure("ratio") == 97 / 50


def test_the_wait_of_a_gpu_is_told_where_there_is_one():
    runs = [{"fed": [1.0], "again": [1.0], "first_step": 5.0, "peak": 700.0, "gpu": "A card", "waits": 0.06}]
    _, waits, *_ = train.rows_of("lstm", runs)
    assert (waits.ours, waits.unit, waits.met(waits.bars[0])) == ([6.0], "% of the time", False)


def test_the_mini_profile_has_every_learner():
    assert set(available()) <= set(load_params(competition.PROFILE).learners)


@pytest.mark.slow
def test_the_benchmark_of_training_runs(params, scratch):
    found = train.measure(params, scratch, runs=1, rows=None, learners=["seresnet", "gru"])
    rows = {row.what: row for row in found.rows}
    for name in ("seresnet", "gru"):
        assert rows[name].ours[0] > 0
        assert rows[name].reference[0] > 0
        assert 1 < rows[f"{name}: first step done after"].ours[0] < 300
        assert 100 < rows[f"{name}: peak memory"].ours[0] < 5000


@pytest.mark.parametrize("name", ["baseline", *MEANS])
def test_each_means_changes_the_baseline_and_fits_the_learner(name):
    block, found = block_of(name), learner_class(effects.LEARNER)
    if block["training"]["initial_weights"] == effects.OTHER_WORDS:
        block["training"]["initial_weights"] = None
    LearnerParams.model_validate(block)
    check_keywords("network", block["network"], found.network)
    check_keywords("encoding", block["encoding"], found.encode)
    assert (block_of(name) == BASELINE) == (name in ("baseline", "pseudo_labels"))


def test_a_second_round_is_that_of_pseudo_labels_alone_and_is_measured_by_its_teacher(params, scratch, monkeypatch):
    def run_child(module: str, home: Path) -> dict[str, float]:
        (home / "weights.safetensors").touch()
        taught = {"teacher": 0.7} if load_params(home / "params.yaml").pseudo.learners else {}
        return {"map3": 0.75, "map3_mirrored": 0.8, **taught}

    monkeypatch.setattr(effects, "run_child", run_child)
    found = {effect.name: effect for effect in effects.measure(Runs(params, scratch), [*MEANS], seeds=1)}
    assert found.pop("pseudo_labels").gains == pytest.approx([0.05])
    mirrored = {"mirror_test", "flip_and_mirror_test"}
    assert {name for name, effect in found.items() if effect.gains[0]} == mirrored


def test_effects_are_means_over_seeds_and_differences_of_pairs(tmp_path):
    baseline = Effect("baseline", [0.80, 0.82, 0.81], [0.0, 0.0, 0.0], [50.0, 52.0, 51.0])
    flip = Effect("flip", [0.82, 0.83, 0.84], [0.02, 0.01, 0.03], [50.0, 130.0, 150.0])
    assert effects.cells(baseline) == ["baseline", "", "0.8100 ± 0.0100", "", "51"]
    assert effects.cells(flip) == ["flip", "flip 0.5", "0.8300 ± 0.0100", "+0.0200 ± 0.0100", "110"]
    effects.store([baseline, flip], "A title", ["A note."], tmp_path)
    assert "| flip | flip 0.5 | 0.8300 ± 0.0100 | +0.0200 ± 0.0100 | 110 |" in (tmp_path / "effects.md").read_text()
    rows = {row["what"]: row for row in json.loads((tmp_path / "effects.json").read_text())["rows"]}
    assert rows["flip"]["ours"]["runs"] == flip.scores
    assert rows["flip"]["reference"]["runs"] == baseline.scores
    assert [row["bars"][0]["met"] for what, row in rows.items() if what.endswith("a run")] == [True, False]


def test_finished_runs_are_not_run_again_and_serve_both_ways_of_predicting(params, scratch, monkeypatch):
    asked = []

    def run_child(module: str, home: Path) -> dict[str, float]:
        written = load_params(home / "params.yaml")
        asked.append((written.seed, written.learner(effects.LEARNER).training.ema))
        assert not written.learner(effects.LEARNER).augmentation.mirror_test
        return {"map3": 0.5 + written.seed / 1e6, "map3_mirrored": 0.6 + written.seed / 1e6}

    monkeypatch.setattr(effects, "run_child", run_child)
    first, second = params.seed, params.seed + 1
    effects.measure(Runs(params, scratch), ["ema_0.99", "mirror_test"], seeds=1)
    runs = Runs(params, scratch)
    baseline, ema, mirrored = effects.measure(runs, ["ema_0.99", "mirror_test"], seeds=2)
    assert asked == [(first, 0.0), (first, 0.99), (second, 0.0), (second, 0.99)]
    assert baseline.scores == ema.scores == [0.5 + seed / 1e6 for seed in (first, second)]
    assert mirrored.gains == pytest.approx([0.1, 0.1])
    monkeypatch.setattr(effects, "SOURCES", effects.SOURCES[1:])  # as other code would
    runs.score("baseline", first)
    assert len(asked) == 5


def test_the_words_of_effects_are_every_fifth(params):
    assert effects.words_of(params) == ("word_a", "word_f", "word_k", "word_p")
    assert effects.others_of(params) == ("word_c", "word_h", "word_m")


@pytest.mark.slow
def test_the_benchmark_of_effects_runs(params, scratch, monkeypatch):
    monkeypatch.setitem(BASELINE["training"], "batch_size", 16)
    runs = Runs(params.model_copy(update={"threads": 1}), scratch)
    baseline, weights, taught = effects.measure(runs, ["initial_weights", "pseudo_labels"], seeds=1)
    assert 0.3 < baseline.scores[0] <= 1
    assert len({*baseline.scores, *weights.scores, *taught.scores}) == 3
    assert taught.scores[0] - taught.gains[0] > 0.3
    assert len(list(scratch.glob("*.safetensors"))) == 1
    assert len((scratch / "runs.jsonl").read_text().splitlines()) == 3


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> plain.Competition:
    """The competition as the plain references take it, in few CSVs, so that none is empty, and for one thread."""
    params, scratch = params_over(tmp_path_factory.mktemp("raw")), tmp_path_factory.mktemp("scratch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "NCSVS", 3)
        return plain.prepared(params.model_copy(update={"threads": 1}), scratch)


def test_the_references_get_the_rows_that_learners_get(prepared):
    training, held_out = prepared.shards()
    folder = prepared.published / "held_out"
    words = enumerate(reference.categories(folder))
    frames = {
        "training": map(pd.read_csv, (prepared.published / "train").glob("train_k*.csv.gz")),
        "held_out": (pd.read_csv(folder / f"{word}.csv").assign(y=label) for label, word in words),
    }
    for name, shards in (("training", training), ("held_out", held_out)):
        rows, drawings = pd.concat(frames[name]), shards[:]
        ours = [[[axis.tolist() for axis in stroke] for stroke in drawings.strokes_of(n)] for n in range(len(drawings))]
        assert sorted(zip(map(json.loads, rows.drawing), rows.y, strict=True)) == sorted(
            zip(ours, shards.word, strict=True)
        )
    assert not np.isin(held_out.key_id, training.key_id).any()
    assert len(training) + len(held_out) == len(WORDS) * ROWS
    assert prepared.num_words == len(WORDS)


def test_rows_that_are_missing_in_the_files_are_noticed(params, scratch):
    with pytest.raises(SketchstackError, match="holds 1 rows of 2 key_ids"):
        plain.write_some(Path(params.data.folder, params.data.train), scratch / "some", np.array([0, 5]))


def test_the_clock_ends_with_the_time_and_the_rate_with_it():
    begun = time.monotonic()
    shares = list(plain.clock(0.05))
    assert 0.05 <= time.monotonic() - begun < 1
    assert 0 <= shares[0] < shares[-1] < 1
    assert [round(plain.rate_at(share), 3) for share in (0, 0.05, 0.1, 0.55, 1, 1.1)] == [0, 0.5, 1, 0.5, 0, 0]


def test_the_time_and_the_score_are_those_of_a_run_of_ours(tmp_path):
    (tmp_path / "params.yaml").write_text("profile: synthetic\n")
    with pytest.raises(SketchstackError, match="fold0 is absent: put the mini profile in force"):
        plain.score_and_seconds(tmp_path, "gru")
    for folder, name, found in (
        ("models/synthetic/base", "metrics", {"map3": 0.7}),
        ("logs/synthetic", "seconds", {"fit": 99.5}),
    ):
        (tmp_path / folder / "gru" / "fold0").mkdir(parents=True)
        (tmp_path / folder / "gru" / "fold0" / f"{name}.json").write_text(json.dumps(found))
    assert plain.score_and_seconds(tmp_path, "gru") == (0.7, 99.5)


def test_the_plain_cnn_learns(prepared, monkeypatch):
    monkeypatch.setattr(plain, "clock", lambda seconds: iter(np.linspace(0, 1, 30, endpoint=False)))
    scored = plain.cnn(prepared, seconds=1.0)
    assert scored.map3 > 2 * (1 + 1 / 2 + 1 / 3) / len(WORDS)  # twice what guessing gives
    assert scored.rows == len(prepared.shards()[0])
    assert scored.drawings == 15 * scored.rows  # in two batches a pass
    assert scored.seconds > 0


@pytest.mark.slow
def test_the_published_network_trains(prepared):
    scored = plain.train("mobilenet", prepared, 20.0)
    assert 0 < scored.map3 <= 1
    assert scored.drawings > 0
    assert scored.rows == len(prepared.shards()[0])


def test_the_table_of_the_references_compares_errors():
    found = plain.table({"cnn": Scored(0.66, 3000, 1000, 10.0)}, ours=0.77, seconds=10.0)
    score, error = found.rows
    assert (score.ours, score.reference) == ([0.77], [0.66])
    assert error.figure("ratio") == pytest.approx(0.23 / 0.34)
    assert error.met(error.bars[0])
    assert "300 drawings/s, 3.0 passes over 1,000 rows in 10 s; its error is 1.478 times ours" in found.notes[0]
    worse = plain.table({"cnn": Scored(0.72, 3000, 1000, 10.0)}, ours=0.77, seconds=10.0)
    assert not worse.rows[1].met(worse.rows[1].bars[0])
