"""Shuffle: raw drawings of all words → folds of shuffled shards, in one streaming pass.

Where a drawing goes follows from a hash of its points alone, so the same drawing lands in the same fold whatever the
machine, the order of the rows or the other rows. Every row that comes in is a row of a shard or a line of rejects.csv.

    raw/<word>.csv → blocks of lines → rows of all words → a part file a shard-to-be → folds/fold<k>/<shard>.arrow
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import shutil
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from pipeline.artefacts import whole_folder
from pipeline.corrections import CORRECTIONS, DROPPED, Corrected, check_found, corrections_of
from pipeline.drawings import NO_LABEL, SUMMARY, TEST, shard_hashes
from pipeline.errors import SketchstackError, one_paragraph_errors
from pipeline.params import Params, load_params
from pipeline.progress import progress_bar
from pipeline.rawfiles import LONGEST_LINE, Block, Layout, RawFile, blocks, layout_of, test_file, training_files
from pipeline.records import LONGEST_FIELD, BadRowError, checked_row, csv_record, json_record
from pipeline.spill import Gathered, Parts, put_row
from pipeline.strokes import FIELDS, OTHER, WORD, Rows, read_lines, scratch
from pipeline.words import Words

FOLDS = Path("folds")
REJECTS = Path("logs/rejects.csv")  # a copy that outlives a failed stage
TEST_SHARD = 65536  # rows of a test shard
LOG = Path("logs/shuffle.json")  # timings: never a DVC output


class Reject(NamedTuple):
    """A row that was left out, as in rejects.csv. `line` counts from 1, the header included."""

    file: str
    line: int
    key_id: str
    reason: str

    @property
    def kind(self) -> str:
        """The kind of its reason: what stands before the details."""
        return self.reason.split(": ")[0]


@dataclass
class Read:
    """What became of the rows of one raw file.

    Attributes:
        file: the raw file.
        rejects: a CSV on disk of the rows that were refused, by line.
        kept: rows that were taken, those included that turn out as duplicates.
        reasons: how many rows were rejected, by kind of reason.
        key_ids: int64 arrays, together those of the rows that were taken.
        dropped: of those taken, the rows to leave out, because their key_id is taken or corrections.csv drops them.
        corrected: numbers of the corrections that met their row.
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
        """How many rows the file has."""
        return self.kept + sum(self.reasons.values())


class RowReader:
    """Reads the rows of one file, block by block: the compiled reader takes what it can, `records` sees to the rest.

    Args:
        raw: the file.
        layout: how to read it.
        label: of its rows.
        into: takes the rows.
    """

    def __init__(self, raw: RawFile, layout: Layout, label: int, into: Gathered) -> None:
        self.raw, self.layout, self.label, self.into = raw, layout, label, into
        fields = [FIELDS.get(name, OTHER) for name in layout.columns]
        fields = [OTHER if what == WORD and raw.word is None else what for what in fields]
        self._fields = np.array(fields, np.uint8) if fields else None
        self._word = np.frombuffer(bytearray((raw.word or "").encode()), np.uint8)
        self._room = scratch(0, bool(layout.timed))

    def read(self, block: Block) -> Iterator[Reject]:
        """Add a block's rows to those gathered; give the others, by line."""
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
        if not text.strip():  # form feeds and the like, too, make a blank line
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
    """Parse one raw file and gather its rows, corrected; `<file number>.rejects.csv` in the folder takes the others."""
    read, reader = Read(raw, folder / f"{raw.number:06d}.rejects.csv"), RowReader(raw, layout, label, into)
    # JSON can spell half a surrogate pair, which UTF-8 cannot hold.
    with read.rejects.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        rejects = csv.writer(file, lineterminator="\n")
        for block in blocks(raw, layout.above):
            for reject in reader.read(block):
                rejects.writerow(reject)
                read.reasons[reject.kind] += 1
            newest = into.newest()
            read.key_ids.append(into.rows.key_id[newest].copy())
            if label != NO_LABEL:
                correct(read, into.rows, newest, label, corrected)
    read.kept = sum(map(len, read.key_ids))
    return read


def correct(read: Read, rows: Rows, newest: slice, label: int, corrected: Corrected) -> None:
    """Give the newest rows of a label the words that corrections say; note those to drop."""
    places, numbers = corrected.find(rows.key_id[newest], label)
    read.corrected += numbers.tolist()
    for place, becomes in zip((newest.start + places).tolist(), corrected.becomes[numbers].tolist(), strict=True):
        if becomes == DROPPED:
            key_id = str(rows.key_id[place])
            read.dropped.append(
                Reject(str(read.file), int(rows.line[place]), key_id, f"{CORRECTIONS}: it drops the row")
            )
        else:
            rows.word[place] = becomes


def by_hash(folds: int, shards: int) -> Callable[[Rows], np.ndarray]:
    """Gives each training row its part, the shards of fold 0 first: fold and shard are both read off its hash."""

    def part_of(rows: Rows) -> np.ndarray:
        fold, shard = rows.hash % np.uint64(folds), rows.hash // np.uint64(folds) % np.uint64(shards)
        return (fold * np.uint64(shards) + shard).astype(np.int64)

    return part_of


def by_line(first_part: int) -> Callable[[Rows], np.ndarray]:
    """Gives each test row its part, so many rows a part, from `first_part` on."""
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
    """Parse all files, several at a time, into the parts of shards. The last file is the test set's."""
    waiting = deque(sorted(zip(files, layouts, strict=True), key=lambda each: each[0].word is not None))  # test first
    reads: list[Read] = []

    def work() -> None:
        training = Gathered(parts, by_hash(len(params.folds), params.shuffle.shards))
        test = Gathered(parts, by_line(_first_test_part(params)))
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
            waiting.clear()  # after a fault no other file need be read

    start = time.monotonic()
    with progress_bar("shuffle", total=len(files), unit="file") as bar:
        with ThreadPoolExecutor(params.threads) as pool:  # the kernels need no GIL; all end before a fault is told
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


def _first_test_part(params: Params) -> int:
    return len(params.folds) * params.shuffle.shards


def check_alike(files: Sequence[RawFile], layouts: Sequence[Layout]) -> bool:
    """Whether the files hold raw drawings; one whose first rows do not tell is taken for what the others are.

    Raises:
        SketchstackError: some do, and others hold simplified ones.
    """
    kinds = {layout.timed: str(file) for file, layout in zip(files, layouts, strict=True) if layout.timed is not None}
    if len(kinds) > 1:
        raise SketchstackError(
            f"{kinds[True]} holds raw drawings and {kinds[False]} simplified ones: learners would see times in some "
            "rows alone. Name files of one kind in params.yaml under data."
        )
    return any(kinds)


def find_duplicates(reads: Sequence[Read], parts: Parts) -> None:
    """Of rows that share a key_id, keep the one with the smallest point hash; note the others as duplicates.

    Rows equal in both are told apart by word and line, so the choice never depends on the order of reading. 8 bytes a
    row are held, and what there is of rows that share their key_id.

    Raises:
        SketchstackError: a key_id is in a training file and in the test file.
    """
    training, test = _sorted_key_ids(reads[:-1]), _sorted_key_ids(reads[-1:])
    places = np.minimum(np.searchsorted(training, test), max(0, len(training) - 1))
    _check_apart(reads, parts, test[training[places] == test] if len(training) else training)
    shared = np.concatenate([key_ids[1:][key_ids[1:] == key_ids[:-1]] for key_ids in (training, test)])
    kept: dict[int, tuple[int, int]] = {}
    duplicates: defaultdict[int, list[Reject]] = defaultdict(list)
    for key_id, _, number, line in sorted(parts.rows_with(shared)) if len(shared) else []:
        first, first_line = kept.setdefault(key_id, (number, line))
        if (first, first_line) != (number, line):
            reason = f"duplicate key_id: {reads[first].file.path.name} line {first_line} is kept"
            duplicates[number].append(Reject(str(reads[number].file), line, str(key_id), reason))
    for number, found in duplicates.items():
        lines = {each.line for each in found}
        reads[number].dropped[:] = [*(each for each in reads[number].dropped if each.line not in lines), *found]


def _sorted_key_ids(reads: Iterable[Read]) -> np.ndarray:
    key_ids = np.concatenate([np.empty(0, np.int64), *(each for read in reads for each in read.key_ids)])
    key_ids.sort()
    return key_ids


def _check_apart(reads: Sequence[Read], parts: Parts, shared: np.ndarray) -> None:
    test = reads[-1].file
    if len(shared):
        found = sorted((number, line, key) for key, _, number, line in parts.rows_with(shared) if number != test.number)
        number, line, key_id = found[0]
        raise SketchstackError(
            f"{reads[number].file}, line {line}: key_id {key_id} is in {test} too "
            f"({sum(each[0] == number for each in found)} such rows in this file): a test drawing must not be trained "
            "on. Remove the rows, or fetch the files again with `make data`."
        )


def write_shards(
    params: Params, words: Words, reads: Sequence[Read], parts: Parts, folder: Path
) -> tuple[np.ndarray, int]:
    """Write the shards of all folds and of the test set.

    Returns:
        The training rows that were written, (folds, num_words), and the number of test rows that were.
    """
    folds, shards, test = params.folds, params.shuffle.shards, reads[-1]
    if not test.kept:
        raise _no_test_rows(test)
    places = {
        fold * shards + shard: Path(f"fold{fold}", f"{shard:04d}.arrow") for fold in folds for shard in range(shards)
    }
    first = _first_test_part(params)
    places |= {first + number: Path(TEST, f"{number:04d}.arrow") for number in range(-(-test.kept // TEST_SHARD))}
    dropped = np.array([_place(read.file.number, each.line) for read in reads for each in read.dropped], np.int64)
    for name in {place.parent for place in places.values()}:
        (folder / name).mkdir()

    def order(part: int, rows: Rows) -> np.ndarray:
        kept = np.flatnonzero(~np.isin(_place(rows.file.astype(np.int64), rows.line), dropped))
        if part >= first:
            return kept[np.argsort(rows.line[kept])]  # a submission keeps the order of the test file
        kept = kept[np.argsort(rows.key_id[kept])]  # so that the shuffle does not depend on the order of the raw rows
        return np.random.default_rng([params.seed, *divmod(part, shards)]).permutation(kept)

    def write(part: int) -> np.ndarray:
        labels = parts.join(part, folder / places[part], partial(order, part))
        return np.bincount(labels - NO_LABEL, minlength=len(words) + 1)  # rows without a label first

    with ThreadPoolExecutor(params.threads) as pool:
        counted = list(pool.map(write, places))
    counts = np.stack([np.sum(counted[fold * shards : (fold + 1) * shards], axis=0) for fold in folds])
    return counts[:, 1:], int(np.sum(counted[first:], axis=0)[0])


def _place(number: Any, line: Any) -> Any:
    """A row's file and line as one integer."""
    return number * 2**40 + line


def _no_test_rows(test: Read) -> SketchstackError:
    with test.rejects.open(newline="", encoding="utf-8") as file:
        _, line, _, reason = next(csv.reader(file))
    return SketchstackError(
        f"{test.file} has no usable rows: {test.rows} read, all rejected, the first, line {line}, because {reason}; a "
        "test file must hold drawings. Fetch the competition's files again with `make data`."
    )


def write_rejects(path: Path, reads: Iterable[Read]) -> Counter[str]:
    """Write rejects.csv (file, line, key_id, reason); return how often each kind of reason occurs."""
    reasons: Counter[str] = Counter()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Reject._fields)
        for read in reads:
            with read.rejects.open(newline="", encoding="utf-8") as rejects:
                shutil.copyfileobj(rejects, file)
            writer.writerows(read.dropped)
            reasons.update(read.reasons)
            reasons.update(reject.kind for reject in read.dropped)
    REJECTS.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, REJECTS)
    return reasons


def check_counts(rows: int, kept: int, reasons: Counter[str], max_rejected: float) -> None:
    """Print what became of the rows read, and stop if rows are missing or too many were rejected.

    Raises:
        SketchstackError: the rows in are not the rows out and the rejects, or more than `max_rejected` were rejected.
    """
    rejected = sum(reasons.values())
    print(f"{rows:,} rows in = {kept:,} rows out + {rejected:,} rejected", flush=True)
    if rows != kept + rejected:
        raise SketchstackError(
            f"{rows} rows in, but {kept} rows out and {rejected} rejected: rows were lost; report it."
        )
    unwanted = rejected - reasons[str(CORRECTIONS)]
    if unwanted > max_rejected * rows:
        common = "; ".join(f"{reason} ({count} rows)" for reason, count in reasons.most_common(3))
        raise SketchstackError(
            f"{unwanted} of {rows} rows were rejected, more than shuffle.max_rejected ({max_rejected:.2%}): {common}. "
            f"{REJECTS} lists each with its file and line; mend the files or raise shuffle.max_rejected."
        )


def check_every_word(words: Words, counts: np.ndarray, reads: Sequence[Read]) -> None:
    """Stop, before anything is trained, if a word has no rows to train on once a fold is held out.

    Raises:
        SketchstackError: it names the word, its file and what became of the rows.
    """
    without = counts.sum(axis=0) - counts  # (folds, num_words) rows of the other folds
    for label in np.flatnonzero((without == 0).any(axis=0)):
        read = next(read for read in reads if read.file.word == words.names[label])
        raise SketchstackError(
            f"{read.file} leaves the word {words.names[label]!r} with {counts[:, label].sum()} rows "
            f"({read.rows} read, see {REJECTS} for those rejected), too few to have some whichever fold is held out; "
            "add drawings of it, or name the words to keep in shuffle.words."
        )


def write_summary(folder: Path, words: Words, counts: np.ndarray, test_rows: int, reasons: Counter[str]) -> None:
    """Write summary.json: rows a fold and word, rejects by reason, and the hash of each shard."""
    rows_out = {**{f"fold{fold}": int(rows) for fold, rows in enumerate(counts.sum(axis=1))}, TEST: test_rows}
    summary = {
        "rows_in": sum(rows_out.values()) + sum(reasons.values()),
        "rejected": dict(sorted(reasons.items())),
        "rows_out": rows_out,
        "rows_a_word": {name: int(counts[:, label].sum()) for name, label in words.index.items()},
        "words_hash": words.hash,
        "shards": shard_hashes(folder),
    }
    (folder / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


@one_paragraph_errors
def main() -> None:
    """Shuffle the raw files that params.yaml names into folds/."""
    argparse.ArgumentParser(prog="python -m pipeline.shuffle", description=main.__doc__).parse_args()
    params, start = load_params(), time.monotonic()
    words, files = training_files(params)
    corrected = corrections_of(params.data.folder, words, every=params.shuffle.words == "all")
    files.append(test_file(params, len(files)))
    layouts = [layout_of(raw) for raw in files]
    timed = check_alike(files, layouts)
    layouts = [layout._replace(timed=timed) for layout in layouts]
    with whole_folder(FOLDS) as folder:
        with TemporaryDirectory(dir=folder) as spilled:
            with Parts(Path(spilled), timed) as parts:
                reads = read_files(params, words, files, layouts, corrected, parts)
            find_duplicates(reads, parts)
            check_found(corrected, [number for read in reads for number in read.corrected], params.data.folder, words)
            counts, test_rows = write_shards(params, words, reads, parts, folder)
            reasons = write_rejects(folder / "rejects.csv", reads)
        rows_in, rows_out = sum(read.rows for read in reads), int(counts.sum()) + test_rows
        check_counts(rows_in, rows_out, reasons, params.shuffle.max_rejected)
        if len(corrected):
            print(f"{len(corrected):,} rows changed or dropped by {CORRECTIONS}", flush=True)
        check_every_word(words, counts, reads)
        words.save(folder / "words.json")
        write_summary(folder, words, counts, test_rows, reasons)
    LOG.parent.mkdir(parents=True, exist_ok=True)
    LOG.write_text(json.dumps({"seconds": round(time.monotonic() - start, 3)}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
