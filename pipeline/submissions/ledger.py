"""ledger.csv: every recorded submission with its origin (commit, params, environment) and its scores. It is in git."""

from __future__ import annotations

import csv
import fcntl
import io
import os
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.spreadsheets import cell_text, safe_row

LEDGER = Path("ledger.csv")


@dataclass(frozen=True)
class Entry:
    """A row of the ledger.

    Attributes:
        competition: its name at Kaggle, or `test labels of PROFILE` for a score on the labels of a profile.
        name: of the submission.
        sha256: of its CSV.
        commit: the commit it was made from.
        dvc_lock: SHA-256 of dvc.lock at that commit.
        params: fingerprint of the params that it depends on.
        environment: see pipeline/foundation/environment.py; empty if made on another machine.
        oof_map3: its MAP@3 out of fold.
        low, high: the 95% interval of `oof_map3`.
        public, private: its MAP@3 on the leaderboard, as Kaggle writes it (or on the test labels); empty if not known.
    """

    competition: str
    name: str
    sha256: str
    commit: str
    dvc_lock: str
    params: str
    environment: str
    oof_map3: str
    low: str
    high: str
    public: str
    private: str

    @property
    def line(self) -> str:
        """The entry as a line of CSV, without its line feed."""
        return _line(astuple(self))


COLUMNS = tuple(field.name for field in fields(Entry))
FIRST_COLUMNS = COLUMNS[:12]  # that every ledger has had


def _line(values: tuple[str, ...]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(safe_row(values))
    return text.getvalue()


def read_ledger(path: Path = LEDGER) -> list[Entry]:
    """All entries, oldest first; empty if there is no ledger. A field that is newer than the file is empty.

    Raises:
        SketchstackError: the file is not a ledger.
    """
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file))
    header = lines[0] if lines else []
    broken = [number for number, line in enumerate(lines, 1) if len(line) != len(header)]
    if not header or not set(FIRST_COLUMNS) <= set(header) <= set(COLUMNS) or broken:
        raise SketchstackError(
            f"{path} line {broken[0] if broken else 1} does not have the columns of the ledger, {','.join(COLUMNS)}"
            f"; restore the file with `git checkout {path}`."
        )
    unknown = dict.fromkeys(COLUMNS, "")
    return [Entry(**unknown | dict(zip(header, map(cell_text, line), strict=True))) for line in lines[1:]]


def record(entry: Entry, path: Path = LEDGER) -> Entry | None:
    """Append an entry, or fill in new scores if the ledger has it; a file has one entry per competition.

    Returns:
        The new or changed entry; None if the ledger had it already.
    """
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # concurrent processes must not lose each other's line
        entries = read_ledger(path)
        known = recorded(entries, entry.competition, entry.sha256)
        new = entry
        if known:
            new = replace(known, public=known.public or entry.public, private=known.private or entry.private)
            if new == known:
                return None
        with whole_file(path) as beside:
            kept = [new if each == known else each for each in entries] + ([] if known else [new])
            lines = [_line(COLUMNS), *(each.line for each in kept)]
            beside.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return new
    finally:
        os.close(folder)


def recorded(entries: list[Entry], competition: str, sha256: str) -> Entry | None:
    """The entry of this file and competition, or None."""
    same = [known for known in entries if (known.competition, known.sha256) == (competition, sha256)]
    return same[0] if same else None
