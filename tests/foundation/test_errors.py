"""How commands end: one paragraph for what the system refuses, and no lost stage for a character or a reader."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import tempfile

import pytest

from pipeline.foundation import errors
from tests.conftest import ROOT

COMMAND = """
import sys
from pathlib import Path
from pipeline.foundation.errors import one_paragraph_errors

@one_paragraph_errors
def main():
    {body}

main()
"""


def run(folder, body, shell="exec {python} script.py", **variables):
    (folder / "script.py").write_text(COMMAND.format(body=body), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    line = shell.format(python=sys.executable)
    done = subprocess.run(["bash", "-c", line], cwd=folder, env=environment, capture_output=True, check=False)
    return done.returncode, done.stdout, " ".join(done.stderr.decode().split())


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('open("there is none.csv")', r"^Error: there is none\.csv: No such file or directory; run `make repro`"),
        ('open(".")', r"^Error: \.: Is a directory; a folder stands where a file belongs: move it away"),
        ('open("script.py/x")', r"^Error: script\.py/x: Not a directory; a file stands where a folder belongs"),
        ('Path("a").symlink_to("a"); open("a")', r"^Error: a: Too many levels of symbolic links; .* remove it"),
        ('Path("/dev/full").write_text("x")', r"^Error: \S+ cannot be written: the disk is full\..* Make room"),
        ("bytearray(10**15)", r"^Error: there is not enough memory .* has held \d+\.\d GB; close other programs"),
    ],
)
def test_what_the_system_refuses_is_one_paragraph_with_a_remedy(body, told, tmp_path):
    code, _, text = run(tmp_path, body)
    assert code == 1
    assert re.search(told, text), text
    assert "Traceback" not in text


def test_a_file_that_may_not_be_read_is_one_paragraph(tmp_path):
    (tmp_path / "secret").touch(0o000)
    shell = "exec {python} script.py"
    if os.getuid() == 0:  # may read all
        tmp_path.chmod(0o755)
        shell = "exec setpriv --reuid=65534 --regid=65534 --clear-groups {python} script.py"
        if subprocess.run(["bash", "-c", "setpriv --reuid=65534 true"], check=False, capture_output=True).returncode:
            pytest.skip("root may read all, and cannot become another user here")
    code, _, text = run(tmp_path, 'open("secret")', shell)
    if "can't open file" in text:
        pytest.skip("another user cannot come here")
    assert (code, text.startswith("Error: secret: Permission denied; give yourself the right to it")) == (1, True)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_character_that_stdout_lacks_costs_no_stage(encoding, tmp_path):
    code, out, text = run(tmp_path, 'print("★ 0.8136 ± 0.0012 ━━ ✓")', PYTHONIOENCODING=encoding)
    assert (code, text) == (0, "")
    assert b"0.8136" in out


def test_a_reader_that_has_gone_is_no_traceback(tmp_path):
    body = "[print('x' * 1000) for _ in range(10_000)]"
    code, out, text = run(tmp_path, body, "set -o pipefail; {python} script.py | head -c 5")
    assert (code, out, text) == (141, b"xxxxx", "")


def test_a_closed_stdout_costs_no_stage(tmp_path):
    code, _, text = run(tmp_path, 'print("scores"); Path("done").touch()', "{python} script.py >&-")
    assert (code, text) == (0, "")
    assert (tmp_path / "done").exists()


def test_a_full_folder_for_temporary_files_is_told_as_such(monkeypatch, tmp_path):
    monkeypatch.setattr(errors, "_free", lambda place: 1000 if "tmp.small" in str(place) else 10**12)
    monkeypatch.setattr(tempfile, "tempdir", "/tmp.small")
    said = str(errors.no_room(tmp_path / "meta", OSError(errno.ENOSPC, "No space left on device"), 0))
    assert "the folder for temporary files, /tmp.small, is full" in said
    assert "export TMPDIR=FOLDER" in said


def test_no_folder_for_temporary_files_is_told_with_its_remedy():
    said = errors.refused_by_the_system(FileNotFoundError(2, "No usable temporary directory found in ['/tmp', '/']"))
    assert "TMPDIR, /tmp, /var/tmp" in said
    assert "make repro" not in said


def test_a_disk_that_fails_while_libraries_are_imported_is_one_paragraph(tmp_path):
    code = "import pipeline, sys; sys.excepthook = pipeline._in_one_line; raise OSError(28, 'No space left on device')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("\nError: ")
    assert "Traceback" not in done.stderr
