"""The Kaggle command line: whether it may be used, what it is asked, what it answers.

The `kaggle` package authenticates when it is imported and leaves the process if it cannot, so only its command is run.
"""

from __future__ import annotations

import csv
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.foundation.errors import SketchstackError

POLL_SECONDS = 10.0
PATIENCE_SECONDS = 1800.0  # Kaggle scores a submission within minutes, on a busy day within half an hour

SETUP = (
    "To set credentials up, make an API token at https://www.kaggle.com/settings and give it in one of these ways: "
    "save kaggle.json as ~/.kaggle/kaggle.json (chmod 600), or export KAGGLE_USERNAME and KAGGLE_KEY, or export "
    "KAGGLE_API_TOKEN. Accept the competition's rules on its page once."
)


class Scored(NamedTuple):
    """A submission in Kaggle's list: `pending`, `complete` or `error`, and its scores as Kaggle writes them."""

    status: str
    public: str
    private: str


def credentials() -> str | None:
    """Where credentials are, None if there are none; what they are is never read."""
    if os.environ.get("KAGGLE_API_TOKEN"):
        return "KAGGLE_API_TOKEN"
    if os.environ.get("KAGGLE_USERNAME") and os.environ.get("KAGGLE_KEY"):
        return "KAGGLE_USERNAME and KAGGLE_KEY"
    home = Path.home() / ".kaggle"
    files = [_settings() / "kaggle.json", *(home / name for name in ("access_token", "access_token.txt"))]
    found = [file for file in (*files, home / "credentials.json") if file.is_file()]
    return str(found[0]) if found else None


def _settings() -> Path:
    """The folder in which the command looks for kaggle.json."""
    if folder := os.environ.get("KAGGLE_CONFIG_DIR"):
        return Path(folder)
    home = Path.home() / ".kaggle"
    return home if home.exists() else Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "kaggle"


def submit_command(competition: str, file: Path, message: str) -> list[str]:
    """The command that sends a submission."""
    return ["kaggle", "competitions", "submit", "-c", competition, "-f", str(file), "-m", message]


def download_command(competition: str, folder: Path) -> list[str]:
    """The command that downloads a competition into a folder, as `<competition>.zip`."""
    return ["kaggle", "competitions", "download", "-c", competition, "-p", str(folder)]


def call(command: Sequence[str], *, show: bool = False) -> str:
    """Run a `kaggle` command, the one on the PATH or else the one beside this Python, and return what it prints.

    Args:
        command: starts with `kaggle`.
        show: let it print to the terminal (a progress bar); nothing is returned.

    Raises:
        SketchstackError: there is no such command, or it failed; its last lines are told, without any credential.
    """
    found = shutil.which("kaggle") or shutil.which("kaggle", path=str(Path(sys.executable).parent))
    if not found:
        raise SketchstackError("the command `kaggle` is not installed; run `make setup`.")
    line = [found, *command[1:]]
    run = subprocess.run(line, check=False, capture_output=not show, text=True, stdin=subprocess.DEVNULL)
    if run.returncode:
        said = "its message is above" if show else _said(run.stdout + run.stderr)
        raise SketchstackError(f"`{shlex.join(command)}` failed with exit code {run.returncode}: {said}. {SETUP}")
    return run.stdout or ""  # None where it was shown


def _said(output: str) -> str:
    """The last lines of a command's output, with every credential of the environment struck out."""
    for name in ("KAGGLE_KEY", "KAGGLE_API_TOKEN"):
        if secret := os.environ.get(name):
            output = output.replace(secret, "***")
    return " / ".join(line.strip() for line in output.splitlines() if line.strip())[-500:] or "it printed nothing"


def submit(competition: str, file: Path, message: str) -> None:
    """Send a submission.

    Raises:
        SketchstackError: it was not accepted.
    """
    command = submit_command(competition, file, message)
    answer = call(command)
    if "could not" in answer.lower():  # an unknown competition or a broken upload ends with exit code 0
        raise SketchstackError(f"`{shlex.join(command)}` was not accepted: {_said(answer)}. {SETUP}")


def find(competition: str, mark: str) -> Scored | None:
    """The latest submission whose message holds `mark`, None if none was sent."""
    answer = call(["kaggle", "competitions", "submissions", "-c", competition, "-v"])
    lines = answer.splitlines()
    header = next((number for number, line in enumerate(lines) if "description" in line and "status" in line), None)
    if header is None:  # "No submissions found"
        return None
    for row in csv.DictReader(lines[header:]):
        if mark in (row["description"] or ""):
            status = (row["status"] or "").rpartition(".")[2].lower()  # SubmissionStatus.COMPLETE
            return Scored(status, _score(row.get("publicScore")), _score(row.get("privateScore")))
    return None


def _score(text: str | None) -> str:
    return "" if text in (None, "None") else str(text)


def wait_for_score(competition: str, mark: str) -> Scored:
    """Ask until a submission that was sent has its score.

    Raises:
        SketchstackError: Kaggle could not score it, or did not within half an hour.
    """
    end, hindrance = time.monotonic() + PATIENCE_SECONDS, ""
    while time.monotonic() < end:
        try:
            found, hindrance = find(competition, mark), ""
        except SketchstackError as error:  # it is sent: a network that is down for a while must not end the wait
            found, hindrance = None, f" The last answer: {error}"
        if found and found.status == "complete":
            return found
        if found and found.status == "error":
            raise SketchstackError(
                f"Kaggle could not score the submission marked {mark!r}; read why at "
                f"https://www.kaggle.com/competitions/{competition}/submissions."
            )
        time.sleep(POLL_SECONDS)
    raise SketchstackError(
        f"the submission marked {mark!r} has had no score for {PATIENCE_SECONDS / 60:.0f} minutes; run the same "
        f"command again later: what was sent is not sent twice, and its score is recorded.{hindrance}"
    )
