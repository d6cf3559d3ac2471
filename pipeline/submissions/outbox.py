"""What is being sent to a competition: a lock that the upload holds, and a record that is written before it starts.

    submissions/.COMPETITION.lock                 locked as long as a process sends, or its upload lives
    submissions/.COMPETITION.SHA256.sending.json  a submission whose fate is not known yet

A process can die between the upload and the ledger. The next run then knows from the record that Kaggle may have the
file already, and looks in Kaggle's list before it sends anything.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.errors import SketchstackError

FOLDER = Path("submissions")  # not a profile's folder, which DVC replaces


@dataclass(frozen=True)
class Upload:
    """An upload that was begun.

    Attributes:
        name: the submission's.
        since: when it was begun, or accepted, in seconds since the epoch.
        accepted: Kaggle has said that it was submitted.
        before: refs of earlier submissions of the same file, which Kaggle could not score.
    """

    name: str
    since: float
    accepted: bool
    before: list[str]

    @property
    def clock(self) -> str:
        """When it was begun or accepted, as people write it."""
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))


@dataclass(frozen=True)
class Outbox:
    """The records of a competition, while this process holds the lock.

    Attributes:
        competition: its name at Kaggle.
        lock: the file descriptor that is locked; a child that inherits it holds the lock, too.
    """

    competition: str
    lock: int

    def upload(self, sha256: str) -> Upload | None:
        """The upload of a file that an earlier run began, None if there is none.

        Raises:
            SketchstackError: the record cannot be read.
        """
        path = self._path(sha256)
        try:
            return Upload(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise SketchstackError(
                f"{path} is no record of an upload ({error}), so it is not known whether the file was sent; look at "
                f"https://www.kaggle.com/competitions/{self.competition}/submissions and remove the record."
            ) from None

    def begin(self, sha256: str, name: str, before: list[str]) -> None:
        """Record that an upload is about to start."""
        self._write(sha256, Upload(name, time.time(), False, before))

    def accept(self, sha256: str, name: str, before: list[str]) -> None:
        """Record that Kaggle has accepted an upload."""
        self._write(sha256, Upload(name, time.time(), True, before))

    def close(self, sha256: str) -> None:
        """Remove the record of an upload whose fate is known."""
        self._path(sha256).unlink(missing_ok=True)

    def _write(self, sha256: str, upload: Upload) -> None:
        with whole_file(self._path(sha256)) as beside:
            beside.write_text(json.dumps(asdict(upload)) + "\n", encoding="utf-8")

    def _path(self, sha256: str) -> Path:
        return FOLDER / f".{self.competition}.{sha256[:16]}.sending.json"


@contextmanager
def locked(competition: str, name: str) -> Iterator[Outbox]:
    """Hold off other senders: two at once would both find nothing sent, and send.

    Args:
        competition: its name at Kaggle.
        name: of the submission; another process that finds the lock held tells it.

    Raises:
        SketchstackError: another process is sending, or the upload of one that has died still runs.
    """
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f".{competition}.lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 1000).decode(errors="replace").strip() or "a submission"
            raise SketchstackError(
                f"{path} is locked: another process is sending {holder} to {competition}, or has died while its upload "
                f"goes on. Wait until it has ended (`pgrep -af kaggle` shows it), then run the same command again: "
                f"what was sent is not sent twice."
            ) from None
        os.ftruncate(lock, 0)
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        os.pwrite(lock, f"{name} (process {os.getpid()}, since {started})\n".encode(), 0)
        yield Outbox(competition, lock)
    finally:
        os.close(lock)
