"""The front door: each command is listed and explains itself, mistakes name the nearest, make passes words on whole."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest

from pipeline.__main__ import COMMANDS, NAMES
from tests.conftest import ROOT


def sketchstack(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline", *arguments]
    environment = {**os.environ, **variables}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_the_help_lists_every_command_in_its_group_and_there_is_no_other():
    told = sketchstack("--help").stdout
    assert list(COMMANDS) == ["run", "look", "use", "compare", "try", "share"]
    for group, commands in COMMANDS.items():
        assert f"\n{group}:\n" in told
        assert all(f"\n  {name} " in told for name in commands)
    files = {path.stem.replace("_", "-") for path in (ROOT / "pipeline/commands").glob("[!_]*.py")}
    assert files == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_command_explains_itself_with_an_example(name):
    told = sketchstack(name, "--help")
    assert told.returncode == 0
    assert f"usage: sketchstack {name}" in told.stdout
    assert f"\n  sketchstack {name}" in told.stdout.partition("example")[2]


def test_help_imports_no_library_of_weight():
    code = """if True:
        import runpy, sys
        sys.argv = ["sketchstack", "--help"]
        try:
            runpy.run_module("pipeline", run_name="__main__")
        except SystemExit:
            print([name for name in ("numpy", "torch", "rich", "pydantic") if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("rep", {"plain,repro", "plain,report", "plain,reproduce"}),
        ("tune lstm --tr", {"plain,--trials"}),
        ("export-model --", {"plain,--format", "plain,--help"}),
        ("submit --check subm", {"file,subm"}),
    ],
)
def test_the_shell_completes_commands_options_and_files(typed, offered):
    words = f"sketchstack {typed}"
    current = str(len(words.split()) - 1)
    completed = sketchstack(_SKETCHSTACK_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=current)
    assert set(completed.stdout.split()) == offered


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["comprae"], "there is no command 'comprae'; do you mean compare?"),
        (["compare", "--rop", "1", "a", "b"], "there is no '--rop'; do you mean --rope?"),
        (["clean", "--hepl"], "there is no '--hepl'; do you mean --help?"),
    ],
)
def test_a_mistyped_name_ends_with_the_nearest(arguments, told):
    done = sketchstack(*arguments)
    assert done.returncode == 2
    assert told in done.stderr


def test_ctrl_c_is_one_line():
    code = (
        "from pipeline.foundation.errors import one_paragraph_errors\n"
        "@one_paragraph_errors\ndef main(): raise KeyboardInterrupt\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "\nStopped; run the same command again to resume.\n")


def test_make_compare_alone_says_how_to_call_it():
    done = subprocess.run(["make", "-n", "compare"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "A is missing, as in: make compare A=strokenet B=seresnet" in done.stderr


def test_a_python_without_the_libraries_says_make_setup(tmp_path):
    (tmp_path / "pipeline").mkdir()
    for name in ("__init__.py", "__main__.py"):
        (tmp_path / "pipeline" / name).write_bytes((ROOT / "pipeline" / name).read_bytes())
    bare = [sys.executable, "-S", "-E", "-m", "pipeline", "--help"]  # -S: nothing that was installed is found
    done = subprocess.run(bare, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "Sketchstack's libraries are not installed here; run `make setup` in the project's folder.\n"
    own = tmp_path / ".venv" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.write_text('#!/bin/sh\necho own "$@"\n')
    own.chmod(0o755)
    done = subprocess.run(bare, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "own" in done.stdout
    assert done.stdout.endswith("-m pipeline --help\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_output_that_is_closed_goes_nowhere(tmp_path, closed):
    """Not into the file that is opened next, which would get its number."""
    code = """if True:
        import sys
        sys.orig_argv = ["python", "-m", "pipeline"]
        import pipeline
        file = open("next", "w")
        sys.stderr.write("told")
        print("told", flush=True)
        sys.stderr.flush()
    """
    script = f"cd {shlex.quote(str(tmp_path))}; exec {shlex.quote(sys.executable)} -c {shlex.quote(code)} {closed}"
    done = subprocess.run(["bash", "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 0
    assert (tmp_path / "next").read_text() == ""


@pytest.mark.parametrize(("kilobytes", "code"), [("1500000", 1), ("unlimited", 0)])
def test_a_small_address_space_is_refused_before_libraries_hang_in_it(kilobytes, code):
    command = f"ulimit -v {kilobytes}; exec {shlex.quote(sys.executable)} -m pipeline --help"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code
    assert ("ulimit -v unlimited" in done.stderr) == bool(code)
    assert "Traceback" not in done.stderr
