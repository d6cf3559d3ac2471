"""environment.sh: which Python and which installer make .venv, and what is said where none can."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A Python of a version: it makes a venv with a pip, and writes down what it is asked for.
PYTHON = """#!/bin/bash
echo "$0 $*" >> "{log}"
case "$*" in
    -c*) echo {version} ;;
    "-m venv --clear .venv") mkdir -p .venv/bin && cp "$0" .venv/bin/python {then} ;;
    "-m pip --version") {pip} ;;
    "-m pip install"*) {install} ;;
esac
"""
UV = """#!/bin/bash
echo "uv $*" >> "{log}"
[ "$1" = venv ] && mkdir -p .venv/bin && cp "{python}" .venv/bin/python
exit 0
"""


@pytest.fixture
def home(tmp_path):
    """A checkout with nothing but the script; no Python is on its PATH."""
    (tmp_path / "environment.sh").write_text((ROOT / "environment.sh").read_text())
    (tmp_path / "environment.sh").chmod(0o755)
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "mkdir", "cp", "rm", "touch", "dirname"):
        (tools / name).symlink_to(Path("/bin", name) if Path("/bin", name).exists() else Path("/usr/bin", name))
    return tmp_path


def put(home, name, version, *, then="", pip="exit 0", install="exit 0"):
    script = home / "tools" / name
    script.write_text(PYTHON.format(log=home / "log", version=version, then=then, pip=pip, install=install))
    script.chmod(0o755)
    return script


def run(home, **variables):
    environment = {"PATH": str(home / "tools"), "HOME": str(home), **variables}
    command = [home / "environment.sh"]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd="/")


def asked(home):
    return [
        line.replace(f"{home}/tools/", "") for line in (home / "log").read_text().splitlines() if " -c " not in line
    ]


def test_the_range_is_that_of_pyproject():
    script, pyproject = (ROOT / "environment.sh").read_text(), (ROOT / "pyproject.toml").read_text()
    needed = re.search(r'requires-python = "(.*)"', pyproject)
    assert needed
    assert f'RANGE="{needed[1]}"' in script


@pytest.mark.parametrize(
    ("pythons", "taken"),
    [
        ({"python3": "3.11"}, "python3"),
        ({"python3": "3.13"}, "python3"),
        ({"python3": "3.10", "python3.12": "3.12"}, "python3.12"),
        ({"python3": "3.14", "python3.11": "3.11"}, "python3.11"),
        ({"python3.13": "3.13", "python3.12": "3.12"}, "python3.13"),
    ],
)
def test_the_first_supported_python_makes_it(home, pythons, taken):
    for name, version in pythons.items():
        put(home, name, version)
    done = run(home)
    assert done.returncode == 0, done.stderr
    assert asked(home)[0] == f"{taken} -m venv --clear .venv"
    assert (home / ".venv/.installed").exists()
    assert not (home / ".venv/.unfinished").exists()


@pytest.mark.parametrize(
    "pythons", [{}, {"python3": "3.10"}, {"python3": "3.9", "python3.12": "3.8"}, {"python3": "2.7"}]
)
def test_without_a_supported_python_one_paragraph_says_which_are_and_nothing_is_made(home, pythons):
    for name, version in pythons.items():
        put(home, name, version)
    done = run(home)
    assert done.returncode == 1
    assert "needs Python 3.11, 3.12 or 3.13" in done.stderr
    assert pythons.get("python3", "no Python that runs") in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (home / ".venv").exists()


def test_a_python_that_is_named_is_the_only_one_asked(home):
    put(home, "python3", "3.12")
    named = put(home, "mine", "3.10")
    done = run(home, BASE=str(named))
    assert done.returncode == 1
    assert f"{named} is 3.10" in done.stderr


def test_uv_makes_it_where_it_is_there(home):
    python, uv = put(home, "python3.12", "3.12"), home / "tools/uv"
    uv.write_text(UV.format(log=home / "log", python=python))
    uv.chmod(0o755)
    done = run(home)
    assert done.returncode == 0, done.stderr
    assert [line.split(" --")[0] for line in asked(home)] == ["uv venv", "uv pip install"]
    assert "--python >=3.11,<3.14" in asked(home)[0]


def test_an_installation_that_broke_off_goes_on_with_the_same_environment(home):
    put(home, "python3", "3.12", install="exit 1")
    assert run(home).returncode == 1
    assert (home / ".venv/.unfinished").exists()
    put(home, ".venv", "3.12")
    (home / "tools/.venv").replace(home / ".venv/bin/python")
    (home / "log").unlink()
    done = run(home)
    assert done.returncode == 0, done.stderr
    assert not any("-m venv" in line for line in asked(home))


@pytest.mark.parametrize("marker", [".unfinished", ".installed"])
def test_an_environment_of_the_script_that_cannot_be_used_is_made_again(home, marker):
    """A venv whose creation was killed has no pip; one whose Python was removed does not run."""
    put(home, "python3", "3.12")
    (home / ".venv/bin").mkdir(parents=True)
    (home / ".venv" / marker).touch()
    done = run(home)
    assert done.returncode == 0, done.stderr
    assert "made again" in done.stderr
    assert "python3 -m venv --clear .venv" in asked(home)


def test_an_environment_that_someone_else_made_is_never_removed(home):
    put(home, "python3", "3.12")
    (home / ".venv/bin").mkdir(parents=True)
    (home / ".venv/notes.txt").write_text("mine")
    done = run(home)
    assert done.returncode == 1
    assert "move it away" in done.stderr
    assert (home / ".venv/notes.txt").read_text() == "mine"


def test_a_python_without_venv_says_what_to_install(home):
    put(home, "python3", "3.12", then="; exit 1")
    done = run(home)
    assert done.returncode == 1
    assert "install python3.12-venv" in done.stderr
    assert not (home / ".venv").exists()


def test_the_script_has_no_fault_that_shellcheck_knows():
    try:
        done = subprocess.run(["shellcheck", ROOT / "environment.sh"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("shellcheck is not installed")
    assert done.returncode == 0, done.stdout
