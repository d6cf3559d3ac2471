"""The parts of `reproduce` that need no run; tests/test_pipeline.py reproduces a whole one."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

from pipeline.commands import reproduce
from pipeline.commands.reproduce import Changes, changed, first_that_differs, raw_data
from pipeline.foundation.environment import as_text, environment, from_text, record_environment, recorded_environment
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.nested import flattened
from pipeline.submissions.ledger import Entry, record

MADE = ("c" * 40, "d" * 64, "e" * 64, "python=3.11.9", "0.81", "0.80", "0.82")


def test_nested_params_are_named_by_their_place():
    block = {"seed": 1, "learners": {"gru": {"units": [64], "empty": {}}}}
    assert dict(flattened(block)) == {"seed": 1, "learners.gru.units": [64], "learners.gru.empty": {}}


def test_what_has_changed_is_named_with_both_values():
    assert changed({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 5, "d": 4}) == [
        "b 5 instead of 2",
        "c absent instead of 3",
        "d 4 instead of absent",
    ]


def lock(**outputs: str) -> dict:
    stages = {name.replace("_at_", "@"): {"outs": [{"path": "out", "md5": md5}]} for name, md5 in outputs.items()}
    return stages | {"shuffle": {"deps": [{"path": "data/mini", "md5": outputs["data"]}], "outs": []}}


def test_the_first_stage_that_differs_is_the_first_that_runs():
    before = lock(stack="1", train_at_gru="1", train_at_lstm="1", data="d")
    after = lock(stack="2", train_at_gru="1", train_at_lstm="2", data="d")
    assert first_that_differs(before, after) == "train@lstm"
    assert first_that_differs(before, before) is None
    assert raw_data(before, "data/mini") == "d"
    assert raw_data(before, "data/other") is None


def test_changes_are_told_by_kind_and_not_without_end():
    lines = list(Changes(params=[f"p{n}" for n in range(9)], first_stage="stack").lines())
    assert lines[0] == "  environment  as recorded"
    assert lines[2] == "  params       p0; p1; p2; p3; p4 and 4 more"
    assert lines[-1] == "  first output that differs: of stack"


def test_an_environment_is_a_line_and_back():
    known = environment()
    assert known["python"] == platform.python_version()
    assert "numpy" in known
    assert from_text(as_text(known)) == known
    assert from_text("processor=AMD; odd; torch=2") == {"processor": "AMD", "torch": "2"}


def test_the_environment_is_that_of_the_machine_that_made_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("profile: synthetic\n")
    assert recorded_environment("ab") == ""
    record_environment(["ab", "cd"])
    assert from_text(recorded_environment("cd")) == environment()
    assert recorded_environment("ef") == ""


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("profile: synthetic\n")
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "start"]):
        subprocess.run(["git", *command], check=True)
    record(Entry("doodles", "beta", "ab" * 32, *MADE, "0.9", ""))
    return tmp_path


def test_what_is_not_recorded_is_refused_with_what_is(repository):
    with pytest.raises(SketchstackError, match="no submission 'gamma'; it has beta"):
        reproduce.reproduce("gamma")


def test_a_commit_that_is_not_there_is_refused(repository):
    with pytest.raises(SketchstackError, match=f"git has no commit '{'c' * 40}' here"):
        reproduce.reproduce("beta")


def test_a_worktree_replaces_an_earlier_one(repository):
    tree = repository / "logs/synthetic" / "reproduce" / "beta"
    (tree / "old").mkdir(parents=True)
    head = reproduce.commit_of("HEAD", repository)
    for _ in range(2):
        reproduce.check_out(head, tree, repository)
        assert not (tree / "old").exists()
        assert (tree / ".git").exists()
        (tree / "old").touch()
    reproduce.remove(tree, repository)
    assert not tree.exists()
