"""Resume points: two are kept, a damaged one is passed over, another run's are refused."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pipeline.training.checkpoints import Checkpoint

MADE_FROM = {"params": "p", "data": "d", "code": "c"}


def checkpoint(folder, **changes):
    given = {"made_from": MADE_FROM, "seconds": None, "steps": None} | changes
    return Checkpoint(folder, given.pop("made_from"), **given)


def state(step):
    return {"a": np.full((2, 3), step, np.float32), "b": np.array(step, np.int64), "none": np.zeros((0,), np.uint8)}


def write(folder, *steps):
    for step in steps:
        checkpoint(folder).write(state(step), {"step": step, "sums": [0.1, 0.2]})


def test_what_was_written_is_read(tmp_path):
    write(tmp_path, 7)
    found = checkpoint(tmp_path).read()
    assert found.progress == {"step": 7, "sums": [0.1, 0.2]}
    assert sorted(found.state) == ["a", "b", "none"]
    for name, array in state(7).items():
        np.testing.assert_array_equal(found.state[name], array)
        assert found.state[name].dtype == array.dtype


def test_two_resume_points_are_kept_and_both_are_removed_at_the_end(tmp_path):
    write(tmp_path, 1, 2, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["before.safetensors", "last.safetensors"]
    (tmp_path / ".last.safetensors.partial").write_bytes(b"what a kill has left")
    checkpoint(tmp_path).remove()
    assert not list(tmp_path.iterdir())
    assert checkpoint(tmp_path).read() is None


def test_any_damaged_byte_is_detected_and_the_previous_one_is_read(tmp_path, capsys):
    write(tmp_path, 1, 2)
    whole = (tmp_path / "last.safetensors").read_bytes()
    before = (tmp_path / "before.safetensors").read_bytes()
    for place in range(len(whole)):
        (tmp_path / "last.safetensors").write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        found = checkpoint(tmp_path).read()
        assert found is not None, place
        if found.progress["step"] == 2:  # a space of the header that means nothing
            for name, array in state(2).items():
                np.testing.assert_array_equal(found.state[name], array)
            assert whole[place : place + 1] == b" "
        else:
            told = capsys.readouterr().out
            assert "last.safetensors is damaged" in told
            assert not (tmp_path / "last.safetensors").exists()
        assert (tmp_path / "before.safetensors").read_bytes() == before


@pytest.mark.parametrize("length", [0, 5, 200, -1])
def test_a_truncated_one_is_detected_and_without_another_the_run_starts_again(length, tmp_path, capsys):
    write(tmp_path, 1)
    path = tmp_path / "last.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    assert checkpoint(tmp_path).read() is None
    told = capsys.readouterr().out
    assert "last.safetensors is damaged" in told
    assert "starting from the first step" in told


def test_a_write_that_dies_between_its_renames_loses_nothing(tmp_path):
    write(tmp_path, 1, 2)
    (tmp_path / "last.safetensors").replace(tmp_path / "before.safetensors")
    assert checkpoint(tmp_path).read().progress["step"] == 2


@pytest.mark.parametrize("name", MADE_FROM)
def test_one_of_other_params_data_or_code_is_refused_with_the_reason(name, tmp_path, capsys):
    write(tmp_path, 1, 2)
    assert checkpoint(tmp_path, made_from=MADE_FROM | {name: "other"}).read() is None
    told = capsys.readouterr().out
    assert told.count(f"is refused: it was made from other {name}.") == 2
    assert checkpoint(tmp_path).read().progress["step"] == 2, "a refused one must stay where it is"


def test_one_is_due_after_so_many_steps_or_seconds_whichever_comes_first(tmp_path):
    assert [step for step in range(1, 10) if checkpoint(tmp_path, steps=4).due(step)] == [4, 8]
    assert not checkpoint(tmp_path, seconds=3600.0).due(4)
    assert checkpoint(tmp_path, seconds=0.0, steps=4).due(3)
    assert checkpoint(tmp_path, seconds=3600.0, steps=4).due(4)
    assert not checkpoint(tmp_path).due(4)


def test_seconds_count_from_the_last_one(tmp_path):
    found = checkpoint(tmp_path, seconds=0.2)
    time.sleep(0.25)
    assert found.due(1)
    found.write(state(1), {"step": 1, "sums": [0.1, 0.2]})
    assert not found.due(2)
