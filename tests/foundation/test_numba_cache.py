"""Damage of Numba's cache heals, and no place to write is no error: each in processes of their own."""

import os
import random
import subprocess
import sys

import pytest

from tests.conftest import ROOT

CODE = """
import pipeline, numba
from pathlib import Path
exec(compile(Path("own.py").read_text(), str(Path("own.py").absolute()), "exec"))
print(double(21), "hit" if sum(double.stats.cache_hits.values()) else "compiled")
"""
OWN = "@numba.njit(cache=True)\ndef double(number):\n    return 2 * number\n"


def run(home, **variables):
    """What a process prints that calls a compiled function: its result, whether it came from the cache; stderr."""
    (home / "own.py").write_text(OWN)
    given = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(home / "cache"), **variables}
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, cwd=home, env=given, capture_output=True, text=True, check=True)
    return done.stdout.split(), done.stderr


def flip(path):
    content = bytearray(path.read_bytes())
    for place in random.Random(1).sample(range(len(content)), 20):
        content[place] ^= 255
    path.write_bytes(content)


DAMAGE = {
    "nbi": (
        lambda path: os.truncate(path, 40),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"x"),
    ),
    "nbc": (
        lambda path: os.truncate(path, path.stat().st_size - 1),
        lambda path: path.write_bytes(b"\0" * path.stat().st_size),
        flip,
    ),
}


@pytest.mark.parametrize("ending", DAMAGE)
def test_a_damaged_file_is_made_again(tmp_path, ending):
    assert run(tmp_path) == (["42", "compiled"], "")
    for damage in DAMAGE[ending]:
        for path in (tmp_path / "cache").rglob(f"*.{ending}"):
            damage(path)
        printed, said = run(tmp_path)
        assert printed == ["42", "compiled"]
        assert "damaged" in said
        assert said.count("\n") == 1
    assert run(tmp_path) == (["42", "hit"], "")


def test_a_cache_in_the_way_of_another_file_falls_back_to_the_folder_of_the_code(tmp_path):
    (tmp_path / "file").touch()
    assert run(tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "file")) == (["42", "compiled"], "")
    assert run(tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "file")) == (["42", "hit"], "")


def test_without_any_place_functions_are_compiled_each_time(tmp_path):
    (tmp_path / "__pycache__").touch()  # a file, where the folder of the cache would be
    printed, said = run(tmp_path, NUMBA_CACHE_DIR="/proc/nowhere", HOME="/proc", XDG_CACHE_HOME="/proc/nowhere")
    assert printed == ["42", "compiled"]
    assert "is not kept" in said
