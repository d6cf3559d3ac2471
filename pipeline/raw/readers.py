"""Raw files → rows: blocks of lines by the compiled reader, unusual lines by plain Python, rejects with reasons."""

from __future__ import annotations

import csv
import itertools
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.drawings.shards import NO_LABEL
from pipeline.drawings.strokes import FIELDS, OTHER, WORD, Rows, read_lines, scratch
from pipeline.drawings.words import Words
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import Params
from pipeline.foundation.progress import progress_bar
from pipeline.foundation.spreadsheets import safe_row
from pipeline.raw.columns import written_id
from pipeline.raw.corrections import CORRECTIONS, DROPPED, Corrected
from pipeline.raw.files import LONGEST_LINE, Block, Layout, RawFile, blocks
from pipeline.raw.records import LONGEST_FIELD, BadRowError, checked_row, csv_record, json_record
from pipeline.raw.spill import Gathered, Parts, put_row

TEST_SHARD = 65536  # rows of a test shard


class Reject(NamedTuple):
    """A rejected row, as in rejects.csv. `line` counts from 1, including the header."""

    file: str
    line: int
    key_id: str
    reason: str

    @property
    def kind(self) -> str:
        """The kind of its reason: the text before the details."""
        return self.reason.split(": ")[0]


@dataclass
class Read:
    """The result of reading one raw file.

    Attributes:
        file: the raw file.
        rejects: a CSV on disk of the rejected rows, by line.
        kept: number of accepted rows, including later duplicates.
        reasons: number of rejected rows by kind of reason.
        key_ids: int64 arrays, together the key_ids of the accepted rows.
        dropped: accepted rows to leave out, because their key_id is repeated or corrections.csv drops them.
        corrected: numbers of the corrections whose row was found.
    """

    file: RawFile
    rejects: Path
    kept: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    key_ids: list[np.ndarray] = field(default_factory=list)
    dropped: list[Reject] = field(default_factory=list)
    corrected: list[int] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """The number of rows of the file."""
        return self.kept + sum(self.reasons.values())


class RowReader:
    """Reads the rows of one file, block by block: first by the compiled reader; `records` reads the lines it refuses.

    Args:
        raw: the file.
        layout: of the file.
        label: of its rows.
        into: receives the rows.
    """

    def __init__(self, raw: RawFile, layout: Layout, label: int, into: Gathered) -> None:
        self.raw, self.layout, self.label, self.into = raw, layout, label, into
        fields = [FIELDS.get(name, OTHER) for name in layout.columns]
        fields = [OTHER if what == WORD and raw.word is None else what for what in fields]
        self._fields = np.array(fields, np.uint8) if fields else None
        self._word = np.frombuffer(bytearray((raw.word or "").encode()), np.uint8)
        self._room = scratch(0, bool(layout.timed))

    def read(self, block: Block) -> Iterator[Reject]:
        """Add a block's rows to `into`; yields the rejected rows, by line."""
        if block.text is None:
            yield Reject(str(self.raw), block.first, "", f"line is longer than {LONGEST_LINE} bytes")
            return
        size, into = len(block.text), self.into
        if size > len(self._room.bytes):
            self._room = scratch(size, bool(self.layout.timed))
        into.make_room(block.lines, size // 2 + 8, size // 6 + 8)
        refused = np.empty((block.lines, 3), np.int64)
        into.filled, count = read_lines(
            block.text, block.first, self._fields, self._word, self.raw.number, self.label, into.rows, into.filled,
            self._room, refused,
        )  # fmt: skip
        for line, start, end in refused[:count].tolist():
            yield from self._read_slowly(block.text[start:end].tobytes(), line)

    def _read_slowly(self, text: bytes, line: int) -> Iterator[Reject]:
        if not text.strip():  # form feeds and similar characters also make a blank line
            return
        key_id = ""
        try:
            record = csv_record(text, list(self.layout.columns)) if self.layout.columns else json_record(text)
            key_id = str(record.get("key_id", ""))[:LONGEST_FIELD]
            row = checked_row(record, self.raw.word, bool(self.layout.timed))
        except BadRowError as error:
            yield Reject(str(self.raw), line, key_id, str(error))
        else:
            put_row(self.into.rows, self.into.filled, self.raw.number, line, self.label, row)
            self.into.filled += 1


def read_file(raw: RawFile, layout: Layout, label: int, corrected: Corrected, into: Gathered, folder: Path) -> Read:
    """Parse one raw file and gather its corrected rows; rejected rows go to `<file number>.rejects.csv` in `folder`."""
    read, reader = Read(raw, folder / f"{raw.number:06d}.rejects.csv"), RowReader(raw, layout, label, into)
    # JSON can spell half a surrogate pair, which UTF-8 cannot hold.
    with read.rejects.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        rejects = csv.writer(file, lineterminator="\n")
        for block in blocks(raw, layout.above):
            for reject in reader.read(block):
                rejects.writerow(safe_row(reject))
                read.reasons[reject.kind] += 1
            newest = into.newest()
            read.key_ids.append(into.rows.key_id[newest].copy())
            if label != NO_LABEL:
                correct(read, into.rows, newest, label, corrected)
    read.kept = sum(map(len, read.key_ids))
    return read


def correct(read: Read, rows: Rows, newest: slice, label: int, corrected: Corrected) -> None:
    """Apply the corrections to the newest rows of a label; note the rows to drop."""
    places, numbers = corrected.find(rows.key_id[newest], label)
    read.corrected += numbers.tolist()
    for place, becomes in zip((newest.start + places).tolist(), corrected.becomes[numbers].tolist(), strict=True):
        if becomes == DROPPED:
            key_id = str(written_id(int(rows.key_id[place])))
            read.dropped.append(
                Reject(str(read.file), int(rows.line[place]), key_id, f"{CORRECTIONS}: it drops the row")
            )
        else:
            rows.word[place] = becomes


def by_hash(folds: int, shards: int) -> Callable[[Rows], np.ndarray]:
    """A function that assigns each training row to a part, by hash: the part is a shard of a fold, fold 0 first."""

    def part_of(rows: Rows) -> np.ndarray:
        fold, shard = rows.hash % np.uint64(folds), rows.hash // np.uint64(folds) % np.uint64(shards)
        return (fold * np.uint64(shards) + shard).astype(np.int64)

    return part_of


def by_line(first_part: int) -> Callable[[Rows], np.ndarray]:
    """A function that assigns each test row to a part from `first_part` on, with equally many rows per part."""
    counted = itertools.count()

    def part_of(rows: Rows) -> np.ndarray:
        rank = np.empty(len(rows.line), np.int64)
        rank[np.argsort(rows.line)] = list(itertools.islice(counted, len(rows.line)))
        return first_part + rank // TEST_SHARD

    return part_of


def read_files(
    params: Params,
    words: Words,
    files: Sequence[RawFile],
    layouts: Sequence[Layout],
    corrected: Corrected,
    parts: Parts,
) -> list[Read]:
    """Parse all files, several at a time, into the parts of shards. The last file is the test set."""
    waiting = deque(sorted(zip(files, layouts, strict=True), key=lambda each: each[0].word is not None))  # test first
    reads: list[Read] = []

    def work() -> None:
        training = Gathered(parts, by_hash(len(params.folds), params.shuffle.shards))
        test = Gathered(parts, by_line(first_test_part(params)))
        try:
            while (taken := _next(waiting)) is not None:
                raw, layout = taken
                label, into = (NO_LABEL, test) if raw.word is None else (words.index[raw.word], training)
                reads.append(read_file(raw, layout, label, corrected, into, parts.folder))
                bar.update()
                bar.set_postfix_str(_speed(reads, start), refresh=False)
            training.spill()
            test.spill()
        finally:
            waiting.clear()  # after an error the other files are not read

    start = time.monotonic()
    with progress_bar("shuffle", total=len(files), unit="file") as bar:
        with ThreadPoolExecutor(params.threads) as pool:  # kernels release the GIL; errors wait for all
            working = [pool.submit(work) for _ in range(params.threads)]
        for each in working:
            each.result()
        bar.set_postfix_str(_speed(reads, start), refresh=False)
    return sorted(reads, key=lambda read: read.file.number)


def _next(waiting: deque[tuple[RawFile, Layout]]) -> tuple[RawFile, Layout] | None:
    try:
        return waiting.popleft()
    except IndexError:  # another thread took the last
        return None


def _speed(reads: Iterable[Read], start: float) -> str:
    rows = sum(read.rows for read in list(reads))
    return f"{rows:,} rows, {rows / (time.monotonic() - start):,.0f} rows/s"


def first_test_part(params: Params) -> int:
    """The number of the first test shard, after the shards of the folds."""
    return len(params.folds) * params.shuffle.shards


def check_alike(files: Sequence[RawFile], layouts: Sequence[Layout]) -> bool:
    """Whether the files hold raw drawings; a file whose first rows do not show it counts as the other files.

    Raises:
        SketchstackError: some files hold raw drawings, and others simplified drawings.
    """
    kinds = {layout.timed: str(file) for file, layout in zip(files, layouts, strict=True) if layout.timed is not None}
    if len(kinds) > 1:
        raise SketchstackError(
            f"{kinds[True]} holds raw drawings and {kinds[False]} simplified ones, so only some rows would have "
            "times. Leave files of one kind there, or name folders of one kind in params.yaml under data."
        )
    return any(kinds)
