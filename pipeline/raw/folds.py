"""Shuffle: raw drawings of all words → folds of shuffled shards, in one streaming pass.

Where a drawing goes follows from a hash of its points alone, so the same drawing lands in the same fold whatever the
machine, the order of the rows or the other rows. Every row that comes in is a row of a shard or a line of rejects.csv.

    raw/<word>.csv → blocks of lines → rows of all words → a part file per shard → folds/<profile>/fold<k>/
"""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.drawings.shards import NO_LABEL, SUMMARY, TEST, shard_hashes
from pipeline.drawings.strokes import Rows
from pipeline.drawings.words import Words
from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.logs import luxury
from pipeline.foundation.params import Params
from pipeline.foundation.places import places
from pipeline.foundation.spreadsheets import cell_text, safe_row
from pipeline.raw.columns import written_id
from pipeline.raw.corrections import CORRECTIONS
from pipeline.raw.files import RawFile
from pipeline.raw.readers import TEST_SHARD, Read, Reject, first_test_part
from pipeline.raw.spill import Parts


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
            reason = f"duplicate key_id: {_short_name(reads[first].file)} line {first_line} is kept"
            duplicates[number].append(Reject(str(reads[number].file), line, str(written_id(key_id)), reason))
    for number, found in duplicates.items():
        lines = {each.line for each in found}
        reads[number].dropped[:] = [*(each for each in reads[number].dropped if each.line not in lines), *found]


def _short_name(raw: RawFile) -> str:
    """A file's name; in an archive with several files, also that of the archive."""
    return f"{raw.path.name}/{raw.member}" if raw.member else raw.path.name


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
            f"{reads[number].file}, line {line}: key_id {written_id(key_id)} is in {test} too "
            f"({sum(each[0] == number for each in found)} such rows in this file): a test drawing must not be trained "
            "on. Remove the rows from one of the files."
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
    first = first_test_part(params)
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
        _, line, _, reason = map(cell_text, next(csv.reader(file)))
    return SketchstackError(
        f"{test.file} has no usable rows: {test.rows} read, all rejected, the first, line {line}, because {reason}; a "
        "test file must hold drawings. Correct these rows, or bring back the file as it was."
    )


def rejects_copy() -> Path:
    """The path of a copy of rejects.csv that remains after a failed stage."""
    return places().logs / "rejects.csv"


def write_rejects(path: Path, reads: Iterable[Read]) -> Counter[str]:
    """Write rejects.csv (file, line, key_id, reason); returns the number of rows per kind of reason."""
    reasons: Counter[str] = Counter()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Reject._fields)
        for read in reads:
            with read.rejects.open(newline="", encoding="utf-8") as rejects:
                shutil.copyfileobj(rejects, file)
            writer.writerows(map(safe_row, read.dropped))
            reasons.update(read.reasons)
            reasons.update(reject.kind for reject in read.dropped)
    _copy_rejects(path)
    return reasons


@luxury
def _copy_rejects(path: Path) -> None:
    with whole_file(rejects_copy()) as file:
        shutil.copyfile(path, file)


def check_counts(rows: int, kept: int, reasons: Counter[str], max_rejected: float, rejects: Path) -> None:
    """Print the numbers of rows, and stop if rows are missing or too many were rejected.

    Raises:
        SketchstackError: rows in differ from rows out plus rejected rows, or a larger share than `max_rejected` was
            rejected.
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
            f"The first is {_first_reject(rejects)}. "
            f"{rejects_copy()} lists each with its file and line; fix the files or raise shuffle.max_rejected."
        )


def _first_reject(rejects: Path) -> str:
    """The place of the first row in rejects.csv that is not a correction, as text."""
    with rejects.open(newline="", encoding="utf-8") as file:
        row = next(row for row in csv.DictReader(file) if not row["reason"].startswith(str(CORRECTIONS)))
    return f"line {row['line']} of {row['file']}"


def check_every_word(words: Words, counts: np.ndarray, reads: Sequence[Read]) -> None:
    """Stop, before any training, if a word has no training rows when some fold is held out.

    Raises:
        SketchstackError: names the word, its file and its numbers of rows.
    """
    without = counts.sum(axis=0) - counts  # (folds, num_words) rows of the other folds
    for label in np.flatnonzero((without == 0).any(axis=0)):
        read = next(read for read in reads if read.file.word == words.names[label])
        raise SketchstackError(
            f"{read.file} leaves the word {words.names[label]!r} with {counts[:, label].sum()} rows "
            f"({read.rows} read, see {rejects_copy()} for those rejected), too few to have some whichever fold is "
            "held out: it needs two different drawings at least, as copies of a drawing share a fold. Add drawings of "
            "it, or name the words to keep in shuffle.words."
        )


def write_summary(folder: Path, words: Words, counts: np.ndarray, test_rows: int, reasons: Counter[str]) -> None:
    """Write summary.json: rows per fold and per word, rejects by reason, and the hash of each shard."""
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
