from __future__ import annotations

import subprocess

from rich.console import Console

from pipeline.commands import experiments as command
from pipeline.commands.experiments import OOF, TEST, Experiment, draw, experiments
from tests.conftest import failing_main

PARAMS = {"seed": 1, "folds": [0, 1], "learners": {"gru": {"network": {"units": [64]}}}}


def entry(name, units, oof, test=None):
    """As `dvc exp show --json` of DVC 3.67 tells of a revision."""
    params = {**PARAMS, "learners": {"gru": {"network": {"units": units}}}}
    metrics = {OOF: {"data": oof}, **({TEST: {"data": test}} if test else {})}
    data = {"timestamp": "2026-11-22T04:42:35", "params": {"params.yaml": {"data": params}}, "metrics": metrics}
    return {"rev": "fa2751cab2e5", "name": name, "data": data, "error": None, "experiments": None}


SCORES = {"super_learner": 0.8, "arithmetic_mean": 0.9, "gru": 0.6, "gru_balanced": 0.7, "lstm": 0.5}
SHOWN = [
    entry(None, [64], {}),
    entry("main", [64], SCORES, {"super_learner": 0.85})
    | {
        "experiments": [
            {"revs": [entry("worse", [32], {"super_learner": 0.7, "gru": 0.4})], "name": "worse"},
            {"revs": [entry("better", [128], {"super_learner": 0.81, "gru": 0.65})], "name": "better"},
            {"revs": None, "error": {"msg": "failed"}, "name": "failed"},
        ]
    },
    {"rev": "0123456789", "name": None, "data": None, "error": {"msg": "no dvc.yaml"}, "experiments": None},
]


def test_each_experiment_has_its_scores_and_what_it_changed():
    (main, worse, better), (old,) = experiments(SHOWN)
    assert main == Experiment("main", "2026-11-22T04:42", SCORES, {"super_learner": 0.85}, [])
    assert main.best_learner == ("gru", 0.6)
    assert worse.changes == ["learners.gru.network.units [32] instead of [64]"]
    assert better.score == 0.81
    assert (old.name, old.score, old.best_learner) == ("0123456", -1.0, None)


def test_the_commit_comes_first_then_the_best():
    console = Console(record=True, width=140)
    console.print(draw(list(experiments(SHOWN))))
    lines = [line.split() for line in console.export_text().splitlines() if line.strip()][3:]
    assert [line[0] for line in lines] == ["main", "better", "worse", "0123456"]
    assert "+0.0100" in lines[1]
    assert "-0.1000" in lines[2]
    assert "0.8500" in lines[0]
    assert "none" in lines[3]


def test_where_dvc_has_nothing_to_say_its_words_are_passed_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    assert "`dvc exp show` failed: ERROR: you are not inside of a DVC repository" in failing_main(command)


def test_nothing_is_cut_off_in_a_narrow_terminal():
    console = Console(record=True, width=80)
    console.print(draw(experiments(SHOWN)))
    text = console.export_text()
    assert "…" not in text
    for part in ("SuperLearner", "+0.0100", "0.8500", "gru"):
        assert part in text


def test_gains_are_over_the_commit_that_an_experiment_began_from():
    older = entry("older", [64], {"super_learner": 0.5}) | {
        "experiments": [{"revs": [entry("kept", [32], {"super_learner": 0.6})], "name": "kept"}]
    }
    console = Console(record=True, width=140)
    console.print(draw(experiments([*SHOWN[:2], older])))
    lines = [line.split() for line in console.export_text().splitlines() if line.strip()][3:]
    assert [line[0] for line in lines] == ["main", "better", "worse", "older", "kept"]
    assert "+0.1000" in lines[4]


def test_without_a_commit_there_is_nothing_to_begin_from(monkeypatch):
    done = subprocess.CompletedProcess([], 0, stdout="[]", stderr="")
    monkeypatch.setattr(command.subprocess, "run", lambda *_, **__: done)
    assert "there is no commit yet" in failing_main(command)
