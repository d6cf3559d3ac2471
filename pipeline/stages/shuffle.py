"""Stage `shuffle`: raw drawings of all words → folds of shuffled shards, in one streaming pass."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.drawings.words import Words
from pipeline.foundation.artefacts import whole_folder
from pipeline.foundation.contents import seal
from pipeline.foundation.disk import check_space
from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.logs import note, noted
from pipeline.foundation.memory import watched
from pipeline.foundation.params import Params, load_params
from pipeline.foundation.places import places
from pipeline.raw.corrections import CORRECTIONS, check_found, corrections_of
from pipeline.raw.files import layout_of, least_written, words_of_hashed_ids
from pipeline.raw.folder import SHOWN
from pipeline.raw.folds import (
    check_counts,
    check_every_word,
    find_duplicates,
    write_rejects,
    write_shards,
    write_summary,
)
from pipeline.raw.listing import chosen_files, list_training, test_file, told_not_read
from pipeline.raw.names import listed
from pipeline.raw.readers import check_alike, read_files
from pipeline.raw.spill import Parts
from pipeline.raw.spread import is_spread, spread

TOO_LARGE = "make room there, or name fewer words in shuffle.words of params.yaml"
LESS_MEMORY = "lower threads in params.yaml, each of which holds a block of rows, or raise shuffle.shards"


def shuffle(params: Params) -> None:
    """Write the folds of a profile, and the seconds that it took to logs/."""
    start = time.monotonic()
    listing = list_training(params)
    words, files = chosen_files(params, listing)
    corrected = corrections_of(params.data.folder, words, every=params.shuffle.words == "all")
    files.append(test_file(params, len(files)))
    if line := told_not_read(params, listing):
        print(line, flush=True)
    layouts = [layout_of(raw) for raw in files]
    timed = check_alike(files, layouts)
    layouts = [layout._replace(timed=timed) for layout in layouts]
    check_space(places().folds, sum(map(least_written, files)), "the shuffle", TOO_LARGE)
    with whole_folder(places().folds) as folder:
        with TemporaryDirectory(dir=folder) as spilled:
            with Parts(Path(spilled), timed) as parts:
                reads = read_files(params, words, files, layouts, corrected, parts)
            find_duplicates(reads, parts)
            check_found(corrected, [number for read in reads for number in read.corrected], params.data.folder, words)
            counts, test_rows = write_shards(params, words, reads, parts, folder)
            reasons = write_rejects(folder / "rejects.csv", reads)
        rows_in, rows_out = sum(read.rows for read in reads), int(counts.sum()) + test_rows
        check_counts(rows_in, rows_out, reasons, params.shuffle.max_rejected, folder / "rejects.csv")
        if len(corrected):
            print(f"{len(corrected):,} rows changed or dropped by {CORRECTIONS}", flush=True)
        if not is_spread(counts):
            counts = spread(folder, counts, params.shuffle.shards)
        check_every_word(words, counts, reads)
        words.save(folder / "words.json", words_of_hashed_ids(files))
        write_summary(folder, words, counts, test_rows, reasons)
        seal(folder, folder.glob("*.*"))  # the summary has the hashes of the shards
    note(places().logs / "shuffle.json", {"seconds": round(time.monotonic() - start, 3)})
    tell_words(words)


def tell_words(words: Words) -> None:
    """Say which words came or went since the last shuffle: the file of one may have been lost."""
    log = places().logs / "words.json"
    former = noted(log).get("words")
    if isinstance(former, list):
        for what, names in (("gone", set(former) - set(words.names)), ("new", set(words.names) - set(former))):
            if names:
                print(f"words that are {what} since the last shuffle: {listed(sorted(names), SHOWN)}", flush=True)
    note(log, {"words": words.names})


@one_paragraph_errors
def main() -> None:
    """Shuffle the raw files that params.yaml names into folds/."""
    argparse.ArgumentParser(prog="python -m pipeline.stages.shuffle", description=main.__doc__).parse_args()
    with watched("shuffle", LESS_MEMORY):
        shuffle(load_params())


if __name__ == "__main__":
    main()
