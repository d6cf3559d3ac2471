"""Shuffle: raw drawings of all words → folds of shuffled shards, in one streaming pass.

Where a drawing goes follows from a hash of its points alone, so the same drawing lands in the same fold whatever the
machine, the order of the rows or the other rows. Every row that comes in is a row of a shard or a line of rejects.csv.

    raw/<word>.csv → a temporary <fold>-<shard>/<file number>.arrow → folds/fold<k>/<shard>.arrow
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.artefacts import file_hash, whole_folder
from pipeline.drawings import NO_LABEL, SCHEMA, TEST, write_shard
from pipeline.errors import SketchstackError, one_paragraph_errors
from pipeline.params import Params, load_params
from pipeline.progress import progress_bar
from pipeline.rawfiles import RawFile, Reject, Row, read_rows, test_file, training_files
from pipeline.strokes import point_hash
from pipeline.words import Words

FOLDS = Path("folds")
REJECTS = Path("logs/rejects.csv")  # a copy that outlives a failed stage
BLOCK = 8192  # rows a worker holds before it spills them
TEST_SHARD = 65536  # rows of a test shard
BUCKET = 4_000_000  # key_ids compared at a time

# Plain strings while spilled: an Arrow file cannot grow a dictionary from block to block.
SPILL = SCHEMA.set(SCHEMA.get_field_index("countrycode"), pa.field("countrycode", pa.string()))
SPILL = SPILL.append(pa.field("hash", pa.uint64())).append(pa.field("line", pa.int64()))


@dataclass
class Spilled:
    """What is known of one raw file after its rows were spilled.

    Attributes:
        file: the raw file.
        rejects: a CSV on disk of the rows that were not kept.
        rows: rows read.
        reasons: how many rows were rejected, by kind of reason.
        keys: (rows kept, 3) int64: key_id, point hash (as int64), line.
        duplicates: of those kept, the rows to drop because their key_id is taken.
    """

    file: RawFile
    rejects: Path
    rows: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    keys: np.ndarray = field(default_factory=lambda: np.empty((0, 3), np.int64))
    duplicates: list[Reject] = field(default_factory=list)


def spill_file(raw: RawFile, words: Words, folder: Path, folds: int, shards: int) -> Spilled:
    """Parse one raw file and append each row to the part file of its fold and shard.

    Args:
        raw: a file of drawings.
        words: gives the labels.
        folder: takes `<fold>-<shard>/<file number>.arrow` and `<file number>.rejects.csv`.
        folds: number of folds; 0 keeps all rows in one part, `test-0`.
        shards: shards a fold.
    """
    spilled = Spilled(raw, folder / f"{raw.number:06d}.rejects.csv")
    label = words.index[raw.word] if raw.word else NO_LABEL
    keys, rows = [spilled.keys], read_rows(raw)
    with ExitStack() as files:
        writers: dict[str, Any] = {}
        # JSON can spell half a surrogate pair, which UTF-8 cannot hold.
        file = spilled.rejects.open("w", newline="", encoding="utf-8", errors="backslashreplace")
        rejects = csv.writer(files.enter_context(file), lineterminator="\n")
        while block := list(itertools.islice(rows, BLOCK)):
            spilled.rows += len(block)
            kept = [row for row in block if isinstance(row, Row)]
            refused = [row for row in block if isinstance(row, Reject)]
            rejects.writerows(refused)
            spilled.reasons.update(kind(reject) for reject in refused)
            if not kept:
                continue
            table = _table(kept, label)
            keys.append(np.stack([table[name].to_numpy().astype(np.int64) for name in ("key_id", "hash", "line")], 1))
            for part, places in _parts(table["hash"].to_numpy(), folds, shards).items():
                if part not in writers:
                    (folder / part).mkdir(exist_ok=True)
                    writers[part] = files.enter_context(
                        pa.ipc.new_file(folder / part / f"{raw.number:06d}.arrow", SPILL)
                    )
                writers[part].write_table(table.take(places))
    spilled.keys = np.concatenate(keys)
    return spilled


def kind(reject: Reject) -> str:
    """The kind of a reject's reason: what stands before its details."""
    return reject.reason.split(": ")[0]


def _table(rows: Sequence[Row], label: int) -> pa.Table:
    """Rows as an Arrow table of the spill schema."""
    points = [len(row.strokes.x) for row in rows]
    strokes = [len(row.strokes.stroke) for row in rows]
    columns = {
        "key_id": pa.array([row.key_id for row in rows], pa.int64()),
        "word": pa.array(np.full(len(rows), label, np.int16)),
        "countrycode": pa.array([row.countrycode for row in rows], pa.string()),
        "recognized": pa.array([row.recognized for row in rows], pa.bool_()),
        "timestamp": pa.array([row.timestamp for row in rows], pa.timestamp("us", tz="UTC")),
        "x": _lists(points, np.frombuffer(b"".join(row.strokes.x for row in rows), np.uint8)),
        "y": _lists(points, np.frombuffer(b"".join(row.strokes.y for row in rows), np.uint8)),
        "stroke": _lists(strokes, np.concatenate([row.strokes.stroke for row in rows])),
        "hash": pa.array([point_hash(row.strokes) for row in rows], pa.uint64()),
        "line": pa.array([row.line for row in rows], pa.int64()),
    }
    return pa.table([columns[name].cast(SPILL.field(name).type) for name in SPILL.names], schema=SPILL)


def _lists(lengths: Sequence[int], values: np.ndarray) -> pa.ListArray:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values))


def _parts(hashes: np.ndarray, folds: int, shards: int) -> dict[str, np.ndarray]:
    """Row numbers by part; a part is a fold and a shard, both read off the point hash."""
    if not folds:
        return {f"{TEST}-0": np.arange(len(hashes))}
    part = (hashes % np.uint64(folds)) * np.uint64(shards) + hashes // np.uint64(folds) % np.uint64(shards)
    return {f"{each // shards}-{each % shards}": np.flatnonzero(part == each) for each in np.unique(part).tolist()}


def find_duplicates(spilled: Sequence[Spilled]) -> None:
    """Of rows that share a key_id, keep the one with the smallest point hash; note the others as duplicates.

    Rows equal in both are told apart by word, file and line, so the choice never depends on the order of reading.
    About BUCKET key_ids are compared at a time; 24 bytes a row are held.
    """
    buckets = max(1, -(-sum(len(each.keys) for each in spilled) // BUCKET))
    for bucket in range(buckets):
        for each, reject in _duplicates_in(spilled, bucket, buckets):
            each.duplicates.append(reject)


def _duplicates_in(spilled: Sequence[Spilled], bucket: int, buckets: int) -> Iterator[tuple[Spilled, Reject]]:
    picked = [each.keys[each.keys[:, 0] % buckets == bucket] for each in spilled]
    sources = np.repeat(np.arange(len(spilled)), [len(keys) for keys in picked])
    keys = np.concatenate(picked)
    order = np.lexsort((keys[:, 2], sources, keys[:, 1].view(np.uint64), keys[:, 0]))
    key_ids = keys[order, 0]
    again = np.flatnonzero(key_ids[1:] == key_ids[:-1]) + 1
    firsts = np.searchsorted(key_ids, key_ids[again])
    for place, first in zip(order[again], order[firsts], strict=True):
        kept, (key_id, _, line) = spilled[sources[first]].file, keys[place].tolist()
        source = spilled[sources[place]]
        reason = f"duplicate key_id: {kept.path.name} line {keys[first, 2]} is kept"
        yield source, Reject(str(source.file.path), line, str(key_id), reason)


def write_fold_shard(parts: Path, place: Path, dropped: Mapping[int, list[int]], seed: Sequence[int]) -> np.ndarray:
    """Join a shard's parts, drop duplicates, shuffle by the seed, and write the shard.

    The rows are put in order of their key_id first, so the shuffle does not depend on the order of the raw rows.

    Returns:
        (rows,) int16 labels of the shard.
    """
    tables = [SPILL.empty_table()]
    for path in sorted(parts.glob("*.arrow")):
        table = pa.ipc.open_file(path).read_all()
        tables.append(_without(table, dropped.get(int(path.stem), [])))
    table = pa.concat_tables(tables)
    table = table.take(pc.sort_indices(table, sort_keys=[("key_id", "ascending")]))
    table = table.take(np.random.default_rng(seed).permutation(len(table)))
    write_shard(place, table.select(SCHEMA.names))
    return table["word"].to_numpy()


def _without(table: pa.Table, lines: Sequence[int]) -> pa.Table:
    """A table of the spill schema without the rows of some lines."""
    return table.filter(pc.invert(pc.is_in(table["line"], pa.array(lines, pa.int64())))) if lines else table


def _dropped(spilled: Iterable[Spilled]) -> dict[int, list[int]]:
    """The lines to drop as duplicates, by file number."""
    return {each.file.number: [reject.line for reject in each.duplicates] for each in spilled if each.duplicates}


def spill_training(params: Params, words: Words, files: list[RawFile], spill: Path) -> list[Spilled]:
    """Parse all files of drawings, several at a time, into the parts of shards."""
    folds, shards = len(params.folds), params.shuffle.shards
    work = (joblib.delayed(spill_file)(raw, words, spill, folds, shards) for raw in files)
    done = joblib.Parallel(n_jobs=min(params.threads, len(files)), return_as="generator")(work)
    spilled: list[Spilled] = []
    with progress_bar("shuffle", total=len(files), unit="file") as bar:
        for each in done:
            spilled.append(each)
            bar.update()
            bar.set_postfix_str(f"{sum(one.rows for one in spilled):,} rows", refresh=False)
    find_duplicates(spilled)
    return spilled


def write_folds(params: Params, num_words: int, spilled: Sequence[Spilled], spill: Path, folder: Path) -> np.ndarray:
    """Write the shards of all folds; returns the rows of each word, (folds, num_words)."""
    dropped, counts = _dropped(spilled), np.zeros((len(params.folds), num_words), np.int64)
    for fold in params.folds:
        (folder / f"fold{fold}").mkdir()
        for shard in range(params.shuffle.shards):
            place = folder / f"fold{fold}" / f"{shard:04d}.arrow"
            labels = write_fold_shard(spill / f"{fold}-{shard}", place, dropped, seed=[params.seed, fold, shard])
            counts[fold] += np.bincount(labels, minlength=num_words)
    return counts


def write_test(raw: RawFile, words: Words, spill: Path, folder: Path) -> tuple[Spilled, int]:
    """Write the test shards, rows in the order of the file: a submission keeps that order. Returns their rows too.

    Raises:
        SketchstackError: no row can be used.
    """
    spilled = spill_file(raw, words, spill, folds=0, shards=1)
    find_duplicates([spilled])
    if not len(spilled.keys):
        with spilled.rejects.open(newline="", encoding="utf-8") as file:
            _, line, _, reason = next(csv.reader(file))
        raise SketchstackError(
            f"{raw.path} has no usable rows: {spilled.rows} read, all rejected, the first, line {line}, because "
            f"{reason}; a test file must hold drawings. Fetch the competition's files again with `make data`."
        )
    (folder / TEST).mkdir()
    written = 0
    with pa.ipc.open_file(spill / f"{TEST}-0" / f"{raw.number:06d}.arrow") as reader:
        a_shard = TEST_SHARD // BLOCK
        for number, start in enumerate(range(0, reader.num_record_batches, a_shard)):
            batches = [reader.get_batch(n) for n in range(start, min(start + a_shard, reader.num_record_batches))]
            table = _without(pa.Table.from_batches(batches), _dropped([spilled]).get(raw.number, []))
            write_shard(folder / TEST / f"{number:04d}.arrow", table.select(SCHEMA.names))
            written += len(table)
    return spilled, written


def check_apart(spilled: Iterable[Spilled], test: Spilled) -> None:
    """Stop if a drawing is in the training files and in the test file.

    Raises:
        SketchstackError: it names the first key_id that is in both.
    """
    for each in spilled:
        shared = np.flatnonzero(np.isin(each.keys[:, 0], test.keys[:, 0]))
        if len(shared):
            key_id, _, line = each.keys[shared[0]]
            raise SketchstackError(
                f"{each.file.path}, line {line}: key_id {key_id} is in {test.file.path} too ({len(shared)} such rows "
                "in this file): a test drawing must not be trained on. Remove the rows, or fetch the files again with "
                "`make data`."
            )


def write_rejects(path: Path, spilled: Iterable[Spilled]) -> Counter[str]:
    """Write rejects.csv (file, line, key_id, reason); return how often each kind of reason occurs."""
    reasons: Counter[str] = Counter()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Reject._fields)
        for each in spilled:
            with each.rejects.open(newline="", encoding="utf-8") as rejects:
                shutil.copyfileobj(rejects, file)
            writer.writerows(each.duplicates)
            reasons.update(each.reasons)
            reasons.update(kind(reject) for reject in each.duplicates)
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
    if rejected > max_rejected * rows:
        common = "; ".join(f"{reason} ({count} rows)" for reason, count in reasons.most_common(3))
        raise SketchstackError(
            f"{rejected} of {rows} rows were rejected, more than shuffle.max_rejected ({max_rejected:.2%}): {common}. "
            f"{REJECTS} lists each with its file and line; mend the files or raise shuffle.max_rejected."
        )


def check_every_word(words: Words, counts: np.ndarray, spilled: Sequence[Spilled]) -> None:
    """Stop, before anything is trained, if a word has no rows to train on once a fold is held out.

    Raises:
        SketchstackError: it names the word, its file and what became of the rows.
    """
    without = counts.sum(axis=0) - counts  # (folds, num_words) rows of the other folds
    for label in np.flatnonzero((without == 0).any(axis=0)):
        each = next(each for each in spilled if each.file.word == words.names[label])
        raise SketchstackError(
            f"{each.file.path} leaves the word {words.names[label]!r} with {counts[:, label].sum()} rows "
            f"({each.rows} read, see {REJECTS} for those rejected), too few to have some whichever fold is held out; "
            "add drawings of it, or name the words to keep in shuffle.words."
        )


def write_summary(folder: Path, words: Words, counts: np.ndarray, test_rows: int, reasons: Counter[str]) -> None:
    """Write summary.json: rows a fold and word, rejects by reason, and the SHA-256 of each shard."""
    rows_out = {**{f"fold{fold}": int(rows) for fold, rows in enumerate(counts.sum(axis=1))}, TEST: test_rows}
    summary = {
        "rows_in": sum(rows_out.values()) + sum(reasons.values()),
        "rejected": dict(sorted(reasons.items())),
        "rows_out": rows_out,
        "rows_a_word": {name: int(counts[:, label].sum()) for name, label in words.index.items()},
        "words_hash": words.hash,
        "shards": {str(path.relative_to(folder)): file_hash(path) for path in sorted(folder.glob("*/*.arrow"))},
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


@one_paragraph_errors
def main() -> None:
    """Shuffle the raw files that params.yaml names into folds/."""
    argparse.ArgumentParser(prog="python -m pipeline.shuffle", description=main.__doc__).parse_args()
    params = load_params()
    words, files = training_files(params)
    with whole_folder(FOLDS) as folder:
        with TemporaryDirectory(dir=folder) as spill:
            spilled = spill_training(params, words, files, Path(spill))
            counts = write_folds(params, len(words), spilled, Path(spill), folder)
            test, test_rows = write_test(test_file(params, len(files)), words, Path(spill), folder)
            check_apart(spilled, test)
            reasons = write_rejects(folder / "rejects.csv", [*spilled, test])
        rows = sum(each.rows for each in spilled) + test.rows
        check_counts(rows, int(counts.sum()) + test_rows, reasons, params.shuffle.max_rejected)
        check_every_word(words, counts, spilled)
        words.save(folder / "words.json")
        write_summary(folder, words, counts, test_rows, reasons)


if __name__ == "__main__":
    main()
