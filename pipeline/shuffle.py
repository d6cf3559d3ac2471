"""Shuffle: raw drawings of all words → folds of shuffled shards, in one streaming pass.

Where a drawing goes follows from a hash of its points alone, so the same drawing lands in the same fold whatever the
machine, the order of the rows or the other rows. Every row that comes in is a row of a shard or a line of rejects.csv.

    raw/<word>.csv → spill/<fold>-<shard>/<word>.arrow → folds/fold<k>/<shard>.arrow
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

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
        rows: rows read.
        keys: (rows kept, 3) int64: key_id, point hash (as int64), line.
        rejects: the rows that were not kept.
    """

    file: RawFile
    rows: int = 0
    keys: np.ndarray = field(default_factory=lambda: np.empty((0, 3), np.int64))
    rejects: list[Reject] = field(default_factory=list)


def spill_file(raw: RawFile, words: Words, folder: Path, folds: int, shards: int) -> Spilled:
    """Parse one raw file and append each row to the part file of its fold and shard.

    Args:
        raw: a file of drawings.
        words: gives the labels.
        folder: takes `<fold>-<shard>/<file number>.arrow`.
        folds: number of folds; 0 keeps all rows in one part, `test-0`.
        shards: shards a fold.
    """
    spilled, writers = Spilled(raw), {}
    block: list[Row] = []
    keys: list[np.ndarray] = []
    label = words.index[raw.word] if raw.word else NO_LABEL

    def flush() -> None:
        table = _table(block, label)
        keys.append(np.stack([table[name].to_numpy().astype(np.int64) for name in ("key_id", "hash", "line")], 1))
        for part, rows in _parts(table["hash"].to_numpy(), folds, shards).items():
            if part not in writers:
                (folder / part).mkdir(exist_ok=True)
                writers[part] = pa.ipc.new_file(folder / part / f"{raw.number:06d}.arrow", SPILL)
            writers[part].write_table(table.take(rows))
        block.clear()

    for item in read_rows(raw):
        spilled.rows += 1
        if isinstance(item, Reject):
            spilled.rejects.append(item)
            continue
        block.append(item)
        if len(block) == BLOCK:
            flush()
    if block:
        flush()
    for writer in writers.values():
        writer.close()
    spilled.keys = np.concatenate(keys) if keys else spilled.keys
    return spilled


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


def duplicates(spilled: Sequence[Spilled]) -> dict[int, list[Reject]]:
    """Of rows that share a key_id, keep the one with the smallest point hash; the others are rejected.

    Rows equal in both are told apart by word, file and line, so the choice never depends on the order of reading.

    Returns:
        The rejects of each file, by file number. Memory holds at most about BUCKET key_ids at a time.
    """
    total = sum(len(each.keys) for each in spilled)
    buckets = max(1, -(-total // BUCKET))
    rejects: dict[int, list[Reject]] = {}
    for bucket in range(buckets):
        for reject, number in _duplicates_in(spilled, bucket, buckets):
            rejects.setdefault(number, []).append(reject)
    return rejects


def _duplicates_in(spilled: Sequence[Spilled], bucket: int, buckets: int) -> Iterable[tuple[Reject, int]]:
    picked = [each.keys[each.keys[:, 0] % buckets == bucket] for each in spilled]
    sources = np.repeat(np.arange(len(spilled)), [len(keys) for keys in picked])
    keys = np.concatenate(picked)
    order = np.lexsort((keys[:, 2], sources, keys[:, 1].view(np.uint64), keys[:, 0]))
    key_ids = keys[order, 0]
    again = np.flatnonzero(key_ids[1:] == key_ids[:-1]) + 1
    firsts = np.searchsorted(key_ids, key_ids[again])
    for place, first in zip(order[again], order[firsts], strict=True):
        kept, (key_id, _, line) = spilled[sources[first]].file, keys[place].tolist()
        source = spilled[sources[place]].file
        reason = f"duplicate key_id, kept: {kept.path.name} line {keys[first, 2]}"
        yield Reject(str(source.path), line, str(key_id), reason), source.number


def write_fold_shard(parts: Path, place: Path, dropped: dict[int, list[Reject]], seed: Sequence[int]) -> np.ndarray:
    """Join a shard's parts, drop duplicates, shuffle by the seed, and write the shard.

    The rows are put in order of their key_id first, so the shuffle does not depend on the order of the raw rows.

    Returns:
        (rows,) int16 labels of the shard.
    """
    table = _read_parts(parts, dropped)
    table = table.take(pc.sort_indices(table, sort_keys=[("key_id", "ascending")]))
    table = table.take(np.random.default_rng(seed).permutation(len(table)))
    write_shard(place, table.select(SCHEMA.names))
    return table["word"].to_numpy()


def _read_parts(parts: Path, dropped: dict[int, list[Reject]]) -> pa.Table:
    tables = []
    for path in sorted(parts.glob("*.arrow")):
        table = pa.ipc.open_file(path).read_all()
        lines = [reject.line for reject in dropped.get(int(path.stem), [])]
        tables.append(table.filter(pc.invert(pc.is_in(table["line"], pa.array(lines, pa.int64())))) if lines else table)
    if not tables:
        return SPILL.empty_table()
    return pa.concat_tables(tables)


def shuffle_training(params: Params, words: Words, files: list[RawFile], folder: Path) -> tuple[list[Spilled], dict]:
    """Write the shards of all folds; return what was read, and each fold's rows a word."""
    spill = folder / "spill"
    spill.mkdir()
    shards = params.shuffle.shards
    work = (joblib.delayed(spill_file)(raw, words, spill, len(params.folds), shards) for raw in files)
    done = joblib.Parallel(n_jobs=min(params.threads, len(files)), return_as="generator")(work)
    spilled = []
    with progress_bar("shuffle", total=len(files), unit="file") as bar:
        for each in done:
            spilled.append(each)
            bar.update()
            bar.set_postfix_str(f"{sum(one.rows for one in spilled):,} rows", refresh=False)
    dropped = duplicates(spilled)
    counts = {}
    for fold in params.folds:
        (folder / f"fold{fold}").mkdir()
        labels = [
            write_fold_shard(
                spill / f"{fold}-{shard}",
                folder / f"fold{fold}" / f"{shard:04d}.arrow",
                dropped,
                seed=[params.seed, fold, shard],
            )
            for shard in range(shards)
        ]
        counts[fold] = np.bincount(np.concatenate(labels), minlength=len(words))
    shutil.rmtree(spill)
    return _with_rejects(spilled, dropped), counts


def shuffle_test(raw: RawFile, words: Words, folder: Path) -> Spilled:
    """Write the test shards, rows in the order of the file: a submission keeps that order."""
    spill = folder / "spill"
    spill.mkdir()
    spilled = spill_file(raw, words, spill, folds=0, shards=1)
    dropped = duplicates([spilled])
    table = _read_parts(spill / f"{TEST}-0", dropped).select(SCHEMA.names)
    if not len(table):
        first = spilled.rejects[0]
        raise SketchstackError(
            f"{raw.path} has no usable rows: {spilled.rows} read, all rejected, the first, line {first.line}, because "
            f"{first.reason}; a test file must hold drawings. Fetch the competition's files again with `make data`."
        )
    (folder / TEST).mkdir()
    for number, start in enumerate(range(0, len(table), TEST_SHARD)):
        write_shard(folder / TEST / f"{number:04d}.arrow", table.slice(start, TEST_SHARD))
    shutil.rmtree(spill)
    return _with_rejects([spilled], dropped)[0]


def _with_rejects(spilled: list[Spilled], dropped: dict[int, list[Reject]]) -> list[Spilled]:
    for each in spilled:
        each.rejects = sorted([*each.rejects, *dropped.get(each.file.number, [])], key=lambda reject: reject.line)
    return spilled


def write_rejects(path: Path, spilled: Iterable[Spilled]) -> Counter[str]:
    """Write rejects.csv (file, line, key_id, reason); return how often each kind of reason occurs."""
    reasons: Counter[str] = Counter()
    path.parent.mkdir(parents=True, exist_ok=True)
    # JSON can spell half a surrogate pair, which UTF-8 cannot hold.
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Reject._fields)
        for each in spilled:
            writer.writerows(each.rejects)
            reasons.update(reject.reason.split(",")[0] for reject in each.rejects)
    return reasons


def check_counts(spilled: Sequence[Spilled], kept: int, reasons: Counter[str], max_rejected: float) -> None:
    """Print what became of the rows read, and stop if rows are missing or too many were rejected.

    Raises:
        SketchstackError: the rows in are not the rows out and the rejects, or more than `max_rejected` were rejected.
    """
    read, rejected = sum(each.rows for each in spilled), sum(reasons.values())
    print(f"{read:,} rows in = {kept:,} rows out + {rejected:,} rejected", flush=True)
    if read != kept + rejected:
        raise SketchstackError(
            f"{read} rows in, but {kept} rows out and {rejected} rejected: rows were lost; report it."
        )
    if rejected > max_rejected * read:
        common = "; ".join(f"{reason} ({count} rows)" for reason, count in reasons.most_common(3))
        raise SketchstackError(
            f"{rejected} of {read} rows were rejected, more than shuffle.max_rejected ({max_rejected:.2%}): {common}. "
            f"{REJECTS} lists each with its file and line; mend the files or raise shuffle.max_rejected."
        )


def write_summary(folder: Path, words: Words, spilled: Sequence[Spilled], counts: dict, reasons: Counter[str]) -> None:
    """Write summary.json: rows a fold and word, rejects by reason, and the SHA-256 of each shard."""
    summary = {
        "rows_in": sum(each.rows for each in spilled),
        "rejected": dict(sorted(reasons.items())),
        "rows_out": {f"fold{fold}": int(count.sum()) for fold, count in counts.items()},
        "rows_a_word": {
            name: int(sum(count[label] for count in counts.values())) for name, label in words.index.items()
        },
        "words_hash": words.hash,
        "shards": {str(path.relative_to(folder)): file_hash(path) for path in sorted(folder.glob("*/*.arrow"))},
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


def check_every_word(words: Words, counts: dict[int, np.ndarray], spilled: Sequence[Spilled]) -> None:
    """Stop if a word has no rows left to train on.

    Raises:
        SketchstackError: it names the word, its file and what became of the rows.
    """
    for label in np.flatnonzero(sum(counts.values()) == 0):
        each = next(each for each in spilled if each.file.word == words.names[label])
        raise SketchstackError(
            f"{each.file.path} leaves the word {words.names[label]!r} with no rows ({each.rows} read, "
            f"{len(each.rejects)} rejected, see {REJECTS}); mend the file, or name the words to keep in shuffle.words."
        )


@one_paragraph_errors
def main() -> None:
    """Shuffle the raw files that params.yaml names into folds/."""
    argparse.ArgumentParser(prog="python -m pipeline.shuffle", description=main.__doc__).parse_args()
    params = load_params()
    words, files = training_files(params)
    with whole_folder(FOLDS) as folder:
        spilled, counts = shuffle_training(params, words, files, folder)
        test = shuffle_test(test_file(params, len(files)), words, folder)
        reasons = write_rejects(folder / "rejects.csv", [*spilled, test])
        write_rejects(REJECTS, [*spilled, test])
        kept = int(sum(count.sum() for count in counts.values())) + test.rows - len(test.rejects)
        check_counts([*spilled, test], kept, reasons, params.shuffle.max_rejected)
        check_every_word(words, counts, spilled)
        words.save(folder / "words.json")
        write_summary(folder, words, [*spilled, test], counts, reasons)


if __name__ == "__main__":
    main()
