"""The Kaggle command line: whether it may be used, what it is asked, what it answers.

The `kaggle` package authenticates when it is imported and leaves the process if it cannot, so only its command is run.
Nothing is concluded from what an answer lacks: only `Successfully submitted` means sent, and only `No submissions
found` means that there are none. Everything else that is no whole table is an error, whatever the exit code.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

from pipeline.foundation.errors import SketchstackError
from pipeline.submissions.troubles import RATE_LIMIT, KaggleError

POLL_SECONDS = 10.0
LONGEST_POLL_SECONDS = 120.0
PATIENCE_SECONDS = 1800.0  # Kaggle scores a submission within minutes, on a busy day within half an hour
STATUS_SECONDS = 60.0  # between two lines about a wait
ASK_SECONDS = 120.0  # limits of one run of the command: to read a list, to send a file of some MB, to download 76 GB
SUBMIT_SECONDS = 1800.0
DOWNLOAD_SECONDS = 48 * 3600.0
REST_SECONDS = 5.0  # for the last output of a command that has ended
BACKOFF_SECONDS, BACKOFF_LIMIT_SECONDS = 10.0, 300.0
PAGE_SIZE = 200  # the most that Kaggle gives; the command prints no token of a second page

COLUMNS = ("ref", "date", "description", "status", "publicScore", "privateScore")
STATUSES = ("pending", "complete", "error")
Result = TypeVar("Result")


class Answer(NamedTuple):
    """What a command printed: its output, and its warnings and progress."""

    out: str
    warnings: str

    @property
    def text(self) -> str:
        """All of it."""
        return f"{self.out}\n{self.warnings}"


class Submission(NamedTuple):
    """A submission in Kaggle's list.

    Attributes:
        ref: its number at Kaggle.
        date: when it was sent, as Kaggle writes it.
        status: `pending`, `complete` or `error`.
        public, private: its scores as Kaggle writes them, numbers from 0 to 1; empty where there is none yet.
    """

    ref: str
    date: str
    status: str
    public: str
    private: str


class Listed(NamedTuple):
    """What a list of submissions says of one file.

    Attributes:
        found: the submissions of that file, the latest first.
        whole: the list has all submissions of the team; else only the latest PAGE_SIZE.
        today: the number of submissions of the team since midnight UTC, where Kaggle starts to count again.
    """

    found: list[Submission]
    whole: bool
    today: int = 0


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


def list_command(competition: str) -> list[str]:
    """The command that lists the submissions of a team, the latest first."""
    return ["kaggle", "competitions", "submissions", "-c", competition, "-v", "--page-size", str(PAGE_SIZE)]


def download_command(competition: str, folder: Path) -> list[str]:
    """The command that downloads a competition into a folder, as `<competition>.zip`."""
    return ["kaggle", "competitions", "download", "-c", competition, "-p", str(folder)]


def call(command: Sequence[str], seconds: float, *, show: bool = False, inherited: Sequence[int] = ()) -> Answer:
    """Run a `kaggle` command, the one on the PATH or else the one beside this Python, and return what it prints.

    Args:
        command: starts with `kaggle`.
        seconds: time limit; after it the command is killed.
        show: let it print to the terminal too (a progress bar).
        inherited: file descriptors that the command holds open as long as it lives.

    Raises:
        KaggleError: it failed or took too long; its last lines are told, without any credential, and the remedy.
        SketchstackError: there is no such command.
    """
    found = shutil.which("kaggle") or shutil.which("kaggle", path=str(Path(sys.executable).parent))
    if not found:
        raise SketchstackError("the command `kaggle` is not installed; run `make setup`.")
    try:
        code, answer = _run([found, *command[1:]], seconds, show, inherited)
    except OSError as error:
        raise SketchstackError(f"the command {found} cannot be started ({error}); run `make setup`.") from None
    if code is None:
        raise KaggleError(
            f"`{shlex.join(command)}` did not end within {seconds:.0f} seconds", f"{answer.text}\ntimed out"
        )
    if code:
        raise KaggleError(f"`{shlex.join(command)}` failed with exit code {code}", answer.text)
    return answer


def _run(line: Sequence[str], seconds: float, show: bool, inherited: Sequence[int]) -> tuple[int | None, Answer]:
    """Run a command; return its exit code, None if it was killed after the time limit, and what it printed."""
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, pass_fds=inherited
    ) as process:
        gathered = [_Gathered(pipe, show) for pipe in (process.stdout, process.stderr) if pipe]
        code: int | None
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:  # after Ctrl-C, too: no upload goes on unseen
            process.kill()
        return code, Answer(*(each.text() for each in gathered))


class _Gathered(threading.Thread):
    """What comes out of a pipe; of what is shown too, the last pieces are enough."""

    def __init__(self, pipe: IO[bytes], show: bool) -> None:
        super().__init__(daemon=True)
        self._descriptor, self._show, self._pieces = pipe.fileno(), show, list[bytes]()
        self.start()

    def run(self) -> None:
        with suppress(OSError):  # the pipe was closed: a process that the command has left behind holds its other end
            while piece := os.read(self._descriptor, 65_536):
                self._pieces.append(piece)
                if self._show:
                    del self._pieces[:-20]
                    sys.stderr.write(piece.decode(errors="replace"))
                    sys.stderr.flush()

    def text(self) -> str:
        self.join(REST_SECONDS)
        return b"".join(self._pieces).decode(errors="replace").replace("\r\n", "\n")


def with_backoff(ask: Callable[[], Result]) -> Result:
    """Ask again, after longer and longer pauses, while Kaggle says that it is asked too often.

    Raises:
        KaggleError: of the last try, or of another kind.
    """
    pause, waited = BACKOFF_SECONDS, 0.0
    while True:
        try:
            return ask()
        except KaggleError as error:
            if error.trouble is not RATE_LIMIT or waited + pause > BACKOFF_LIMIT_SECONDS:
                raise
        print(f"Kaggle is asked too often (429); it is asked again in {pause:.0f} seconds.", flush=True)
        time.sleep(pause)
        waited, pause = waited + pause, 2 * pause


def submit(competition: str, file: Path, message: str, *, inherited: Sequence[int] = ()) -> str:
    """Send a submission; return what Kaggle says of the submissions that are left today, empty if it says nothing.

    Raises:
        KaggleError: Kaggle did not say that it was submitted.
    """
    command = submit_command(competition, file, message)
    answer = call(command, SUBMIT_SECONDS, inherited=inherited)
    if "successfully submitted" not in answer.out.lower():  # a broken upload ends with exit code 0, too
        raise KaggleError(f"`{shlex.join(command)}` was not accepted", answer.text)
    left = re.search(r"(\d+) submissions? remaining today", answer.out)
    return f"{left[1]} submissions left today" if left else ""


def submissions(competition: str, mark: str) -> Listed:
    """The submissions whose message holds `mark`.

    Raises:
        KaggleError: the answer is neither a whole table nor that there are none.
    """
    command = list_command(competition)
    answer = call(command, ASK_SECONDS)
    if any(line.strip() == "No submissions found" for line in answer.out.splitlines()):
        return Listed([], whole=True)
    try:
        rows = _table(answer.out)
        found = [_submission(row) for row in rows if mark in row["description"]]
    except ValueError as error:
        what = f"the answer of `{shlex.join(command)}` is no list of submissions ({error})"
        raise KaggleError(what, answer.text) from None
    today = sum(row["date"].startswith(_day()) for row in rows)
    return Listed(found, whole=len(rows) < PAGE_SIZE, today=today)


def _day() -> str:
    """The day in UTC, as Kaggle writes it."""
    return time.strftime("%Y-%m-%d", time.gmtime())


def _table(answer: str) -> list[dict[str, str]]:
    """The rows of the table in an answer; a warning may stand above it.

    Raises:
        ValueError: there is no table, or it is not whole.
    """
    start = re.search(r"^ref,.*$", answer, re.MULTILINE)
    if not start:
        raise ValueError("it has no table")
    if not answer.endswith("\n"):
        raise ValueError("its last line breaks off")
    try:
        header, *rows = [
            row for row in csv.reader(io.StringIO(answer[start.start() :], newline=""), strict=True) if row
        ]
    except csv.Error as error:
        raise ValueError(str(error)) from None
    if missing := [column for column in COLUMNS if column not in header]:
        raise ValueError(f"its table has no column {missing[0]}")
    if not rows or any(len(row) != len(header) or not row[0].strip().isdigit() for row in rows):
        raise ValueError("its table is not whole")
    return [dict(zip(header, row, strict=True)) for row in rows]


def _submission(row: dict[str, str]) -> Submission:
    """A row of the list.

    Raises:
        ValueError: its status or a score is none.
    """
    status = row["status"].rpartition(".")[2].lower()  # SubmissionStatus.COMPLETE
    if status not in STATUSES:
        raise ValueError(f"the status {row['status']!r} is none of {', '.join(STATUSES)}")
    return Submission(row["ref"], row["date"], status, _score(row["publicScore"]), _score(row["privateScore"]))


def _score(text: str) -> str:
    """A score as Kaggle writes it, empty where there is none yet."""
    if text.strip() in ("", "None"):
        return ""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise ValueError(f"the score {text!r} is no number from 0 to 1")
    return text.strip()


def wait_for_score(competition: str, mark: str, *, ignored: Collection[str] = (), left: str = "") -> Submission:
    """Ask until a submission that was sent is scored, and print how it stands.

    Args:
        competition: its name at Kaggle.
        mark: in the submission's message.
        ignored: refs of earlier submissions of the same file, which Kaggle could not score.
        left: what is known of the submissions left today, told beside the status.

    Returns:
        The submission; its status is `complete`, with a public score, or `error`.

    Raises:
        SketchstackError: it was not scored within half an hour, or the list cannot be read.
    """
    begun, pause, hindrance = time.monotonic(), POLL_SECONDS, ""
    told = Status("the score", left)
    while time.monotonic() - begun < PATIENCE_SECONDS:
        try:
            found = [each for each in submissions(competition, mark).found if each.ref not in ignored]
            pause, hindrance = POLL_SECONDS, ""
        except KaggleError as error:  # it is sent: a network that is down for a while must not end the wait
            if not error.trouble.passes:
                raise _still_sent(error) from None
            found, hindrance = [], f" The last answer: {error}"
            if error.trouble is RATE_LIMIT:
                pause = min(2 * pause, LONGEST_POLL_SECONDS)
        if found and (found[0].status == "error" or (found[0].status == "complete" and found[0].public)):
            return found[0]
        status = "Kaggle does not answer" if hindrance else found[0].status if found else "not in Kaggle's list yet"
        told.tell(status, time.monotonic() - begun)
        time.sleep(pause)
    raise SketchstackError(
        f"the submission marked {mark!r} has had no score for {PATIENCE_SECONDS / 60:.0f} minutes; run the same "
        f"command again later: what was sent is not sent twice, and its score is recorded.{hindrance}"
    )


def _still_sent(error: KaggleError) -> SketchstackError:
    return SketchstackError(
        f"the submission was sent, but its score cannot be read. {error} The same command goes on with the wait and "
        f"sends nothing twice."
    )


class Status:
    """Prints the status of a wait: where it changes, and once a minute."""

    def __init__(self, waits_for: str, left: str = "") -> None:
        self._waits_for = waits_for
        self._left = f"; {left}" if left else ""
        self._status, self._due = "", 0.0

    def tell(self, status: str, seconds: float) -> None:
        """Print a status after so many seconds of waiting, if it is due."""
        if status == self._status and seconds < self._due:
            return
        self._status, self._due = status, seconds + STATUS_SECONDS
        minutes, rest = divmod(round(seconds), 60)
        print(f"  waiting for {self._waits_for}, {minutes} min {rest:02d} s: {status}{self._left}", flush=True)
