"""What a user gives to make reaches a command as one word, and no shell or make reads it."""

import json
import os
import re
import subprocess

import pytest

from tests.conftest import ROOT

PYTHON = """#!/bin/sh
exec python3 -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@"
"""
ENVIRONMENT = {"PATH": os.environ["PATH"]}  # not the caller's NAME, which make would read
SHELL = ["x; touch hit", "$(touch hit)", "$$(touch hit)", "`touch hit`", "it's", '"', "a  b", "*", "\\"]
VALUES = [*SHELL, "$(shell touch hit)", "a$b", "-x"]
TARGETS = {
    "submit": (["NAME"], []),
    "reproduce": (["NAME", "AT"], []),
    "data": (["NAME", "FROM", "ROWS", "WORDS", "ADDRESS"], []),
    "profile": (["NAME"], ["FORCE=1"]),
    "tune": (["LEARNER", "TRIALS"], []),
    "compare": (["A", "B", "ROPE"], []),
    "report": (["HOURLY"], []),
    "bench-plain": (["LEARNER"], []),
}


@pytest.fixture
def home(tmp_path):
    """The Makefile with a Python that prints its arguments; everything counts as installed."""
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text())
    for name in ("pyproject.toml", "constraints.txt", "environment.sh"):
        (tmp_path / name).touch()
    stub = tmp_path / ".venv/bin/python"
    stub.parent.mkdir(parents=True)
    stub.write_text(PYTHON)
    stub.chmod(0o755)
    (tmp_path / ".venv/.installed").touch()
    return tmp_path


def made(home, target, *given):
    command = ["make", target, *given]
    return json.loads(subprocess.run(command, cwd=home, capture_output=True, check=True, env=ENVIRONMENT).stdout)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("value", VALUES)
def test_a_variable_reaches_the_command_as_it_was_given(home, target, value):
    names, others = TARGETS[target]
    arguments = made(home, target, *(f"{name}={value}" for name in names), *others)
    assert [word.partition("=")[2] if word.startswith("--") else word for word in arguments if value in word] == [
        value for _ in names
    ]
    assert not (home / "hit").exists()


def test_every_variable_of_a_user_is_tested():
    makefile = (ROOT / "Makefile").read_text()
    used = set(re.findall(r"call (?:q|needed|option,--\w+),(\w+)", makefile)) - {"2", "1"}
    assert used == {"BASE", *(name for names, _ in TARGETS.values() for name in names)}
    upper = set(re.findall(r"\$\((?:if |value )*([A-Z]+)\)", makefile))
    assert upper - {"FORCE"} <= {"PYTHON", "SKETCHSTACK", "PYTEST", "INSTALLED", "CHECKED", "COMPARE", "CURDIR", "PATH"}


@pytest.mark.parametrize("value", VALUES)
def test_the_python_of_setup_reaches_its_script_as_it_was_given(home, value):
    (home / ".venv/.installed").unlink()
    (home / "environment.sh").write_text('#!/bin/bash\nprintf %s "$BASE"\n')
    (home / "environment.sh").chmod(0o755)
    command = ["make", "setup", f"BASE={value}"]
    done = subprocess.run(command, cwd=home, capture_output=True, check=True, env=ENVIRONMENT, text=True)
    assert done.stdout == value
    assert not (home / "hit").exists()


@pytest.mark.parametrize("target", ["reproduce", "data", "profile", "tune", "compare", "bench-plain"])
def test_a_missing_variable_is_told_with_an_example(home, target):
    run = subprocess.run(
        ["make", target], cwd=home, capture_output=True, text=True, check=False, env={"PATH": "/bin:/usr/bin"}
    )
    assert run.returncode == 2
    assert f"is missing, as in: make {target} " in run.stderr
