"""ledger.csv: every recorded submission, with what it was made from and what it scored. It is in git."""

from __future__ import annotations

import csv
import fcntl
import io
import os
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from pipeline.artefacts import whole_file
from pipeline.errors import SketchstackError

LEDGER = Path("ledger.csv")


@dataclass(frozen=True)
class Entry:
    """A row of the ledger.

    Attributes:
        competition: its name at Kaggle.
        name: the submission's.
        sha256: of its CSV.
        commit: the commit it was made from.
        dvc_lock: SHA-256 of that commit's dvc.lock.
        oof_map3: its MAP@3 out of fold.
        public, private: its MAP@3 on the leaderboard, as Kaggle writes it; empty where Kaggle does not tell.
    """

    competition: str
    name: str
    sha256: str
    commit: str
    dvc_lock: str
    oof_map3: str
    public: str
    private: str

    @property
    def line(self) -> str:
        """The entry as a line of CSV, without its line feed."""
        return _line(astuple(self))


COLUMNS = tuple(field.name for field in fields(Entry))


def _line(values: tuple[str, ...]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()


def read_ledger(path: Path = LEDGER) -> list[Entry]:
    """All entries, oldest first; none where there is no ledger.

    Raises:
        SketchstackError: the file is not a ledger.
    """
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file))
    broken = [number for number, line in enumerate(lines, 1) if len(line) != len(COLUMNS)]
    if not lines or tuple(lines[0]) != COLUMNS or broken:
        raise SketchstackError(
            f"{path} line {broken[0] if broken else 1} is no line of the ledger, whose columns are {','.join(COLUMNS)}"
            f"; restore the file with `git checkout {path}`."
        )
    return [Entry(*line) for line in lines[1:]]


def append(entry: Entry, path: Path = LEDGER) -> bool:
    """Append an entry unless the ledger has it: a file is recorded once a competition. True if it was appended."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # two senders at once must not lose each other's line
        entries = read_ledger(path)
        if recorded(entries, entry.competition, entry.sha256):
            return False
        with whole_file(path) as beside:
            lines = [_line(COLUMNS), *(known.line for known in [*entries, entry])]
            beside.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return True
    finally:
        os.close(folder)


def recorded(entries: list[Entry], competition: str, sha256: str) -> Entry | None:
    """The entry of a file that was recorded before, if it was."""
    same = [known for known in entries if (known.competition, known.sha256) == (competition, sha256)]
    return same[0] if same else None
