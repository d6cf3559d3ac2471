"""The Dockerfile, as far as it can be held without Docker: its files, its shell, its order, its command."""

import json
import re
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import PurePosixPath

import pytest

from tests.conftest import ROOT

TEXT = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text())
STEPS = [tuple(line.split(maxsplit=1)) for line in TEXT.splitlines() if line.strip() and not line.startswith("#")]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("\n")[
    :-1
]
# A Python that says its version and writes down what it is asked to install.
PYTHON = """#!/bin/bash
case "$*" in
    -c*) echo 3.12 ;;
    "-m venv --clear .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    "-m pip install"*) echo "index: $PIP_EXTRA_INDEX_URL; $*" > .venv/asked ;;
esac
"""


def of(instruction):
    return [rest for name, rest in STEPS if name == instruction]


def copied(rest):
    """Sources and target of a COPY."""
    *sources, target = [word for word in rest.split() if not word.startswith("--")]
    return sources, target


def test_every_instruction_is_one_and_the_base_has_a_python_that_is_supported():
    assert {name for name, _ in STEPS} <= {"FROM", "ARG", "RUN", "USER", "WORKDIR", "COPY", "ENV", "CMD"}
    assert re.fullmatch(r"python:3\.1[123]-slim-\w+", of("FROM")[0])


def test_every_file_that_it_copies_is_in_git():
    if not TRACKED:
        pytest.skip("there is no git checkout here")
    for rest in of("COPY"):
        assert all(source == "." or source in TRACKED for source in copied(rest)[0]), rest


@pytest.mark.parametrize("rest", of("RUN"))
def test_every_step_is_shell(rest):
    done = subprocess.run(["sh", "-n", "-c", rest], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_its_command_is_a_target_of_make():
    make, target = json.loads(of("CMD")[0])
    assert make == "make"
    assert subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_the_image_has_all_that_is_in_git_and_no_data():
    if not TRACKED:
        pytest.skip("there is no git checkout here")
    patterns = [line.removeprefix("**/") for line in (ROOT / ".dockerignore").read_text().split()]
    for name in TRACKED:
        folders = [f"{parent}/" for parent in PurePosixPath(name).parents]
        assert not any(fnmatch(each, pattern) for pattern in patterns for each in (name, *folders)), name
    assert any(fnmatch("data/mini/", pattern) for pattern in patterns)
    assert ".venv" in patterns


@pytest.mark.parametrize(("cuda", "index"), [("0", "https://download.pytorch.org/whl/cpu"), ("1", "")])
def test_the_environment_needs_no_more_than_what_is_copied_before_it(tmp_path, cuda, index):
    names = [name for name, _ in STEPS]
    install = next(number for number, (name, rest) in enumerate(STEPS) if name == "RUN" and "environment.sh" in rest)
    for name, rest in STEPS[:install]:
        sources, target = copied(rest) if name == "COPY" else ([], "")
        for source in sources:
            (tmp_path / target).mkdir(exist_ok=True)
            shutil.copy(ROOT / source, tmp_path / target)
    assert "COPY" in names[install:]  # the code comes after it
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "python3").write_text(PYTHON)
    (tools / "python3").chmod(0o755)
    for tool in ("bash", "sh", "mkdir", "cp", "rm", "touch", "dirname"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    environment = {"PATH": str(tools), "HOME": str(tmp_path), "CUDA": cuda}
    subprocess.run(["sh", "-c", STEPS[install][1]], cwd=tmp_path, env=environment, check=True, capture_output=True)
    asked = (tmp_path / ".venv/asked").read_text()
    assert asked.startswith(f"index: {index};")
    assert "-m pip install" in asked
