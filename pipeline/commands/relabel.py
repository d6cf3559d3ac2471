"""Suspected mislabels: export them for review, and take the decisions back as corrections.

    sketchstack relabel --export DIR [--rows 200]   pictures, index.html, and suspects.csv to fill in
    sketchstack relabel --take DIR/suspects.csv     writes its column `becomes` into corrections.csv

Look at index.html and write into `becomes` the word that a drawing shows, `drop` if it shows nothing, `keep` if its
word is right; leave it blank to decide later. corrections.csv is in git, and shuffle applies it: `dvc repro` runs the
stages that depend on it. Decided rows are not exported again.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.drawings.spellings import Spellings
from pipeline.drawings.words import Words, spell
from pipeline.foundation.artefacts import whole_folder
from pipeline.foundation.commandline import Parser
from pipeline.foundation.errors import SketchstackError, one_paragraph_errors
from pipeline.foundation.params import load_params
from pipeline.foundation.spreadsheets import ROUNDED, cell_text, rounded, safe_row
from pipeline.raw.columns import read_columns, read_key_ids, row_place, stored_id, written_id, written_ids
from pipeline.raw.corrections import CORRECTIONS, DROP, KEEP, Correction, read_corrections, record
from pipeline.report import html
from pipeline.report.blocks import Picture, Pictures, Section
from pipeline.report.run import Run
from pipeline.report.suspects import mislabelled
from pipeline.report.words import pictures
from pipeline.stacking.scoreboard import SUPER

SHEET, PAGE = "suspects.csv", "index.html"
COLUMNS = ("folder", "key_id", "word", "guess1", "guess2", "guess3", "probability", "becomes")


def export(run: Run, place: Path, count: int) -> int:
    """Write the most certain suspects that have no decision yet; returns their number.

    Args:
        run: a run with a finished stack.
        place: a new folder for `<key_id>.png`, index.html and suspects.csv.
        count: the most rows to export.

    Raises:
        SketchstackError: the folder exists.
        NotThereError: the stack of the run is missing.
    """
    if place.exists():
        raise SketchstackError(f"{place} exists, and decisions filled in there would be lost; name another folder.")
    folder, side, sure = run.params.data.folder, run.guesses(SUPER), run.of_true_word(SUPER)
    decided = [stored_id(each.key_id) for each in read_corrections() if each.folder == folder]
    rows = mislabelled(run)
    rows = rows[~np.isin(side.key_ids[rows], decided)][:count]
    shown = pictures(run, rows.tolist())
    with whole_folder(place) as made:
        with (made / SHEET).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for row in rows.tolist():
                names = [run.words.names[label] for label in (run.labels[row], *side.guesses[row])]
                writer.writerow(safe_row([folder, written_id(side.key_ids[row]), *names, f"{sure[row]:.4f}", ""]))
        for row, picture in zip(rows.tolist(), shown, strict=True):
            (made / f"{written_id(side.key_ids[row])}.png").write_bytes(picture.png)
        (made / PAGE).write_text(_page(folder, shown), encoding="utf-8")
    return len(rows)


def _page(folder: str, shown: list[Picture]) -> str:
    told = (
        f"Write into the column `becomes` of `{SHEET}` what each drawing shows: a word, `{DROP}` if it shows nothing, "
        f"`{KEEP}` if it is what it says. The surest suspects come first, in the order of the file."
    )
    pictures_ = Pictures("suspect", "The word that each bears, then the SuperLearner's three guesses.", shown)
    return html.page(f"Suspected mislabels of {folder}", told, [Section("Suspects", [pictures_])])


AGAIN = (
    "`sketchstack relabel --export NEW_FOLDER` writes the sheet again, in the same order, to copy the column `becomes` "
    "into. Nothing was recorded."
)
Drawn = Callable[[Sequence[int]], Mapping[int, str]]


def take(sheet: Path, folder: str, words: Words, drawn: Drawn | None = None) -> tuple[int, int]:
    """Record the decisions of a sheet.

    Args:
        sheet: the filled-in suspects.csv; columns other than folder, key_id, word and becomes are ignored.
        folder: the folder of raw files that its rows must come from.
        words: the known words; any spelling of one is taken.
        drawn: key_ids → the words of those that are training drawings, to find rows that a spreadsheet has spoilt.

    Returns:
        The number of new or changed lines of corrections.csv, and the number of rows without a decision.

    Raises:
        SketchstackError: the sheet is not such a CSV, is of another folder, or has an unknown word or row; nothing is
            recorded.
    """
    columns = read_columns(sheet, ["folder", "key_id", "word", "becomes"])
    columns = {name: [cell_text(text) for text in texts] for name, texts in columns.items()}
    other = next((row for row, of in enumerate(columns["folder"], 1) if of != folder), None)
    if other:
        raise SketchstackError(
            f"{sheet} {row_place(other)} is of {columns['folder'][other - 1]!r}, but params.yaml names {folder!r}; "
            f"activate the profile that it was exported from (`make profile NAME=...`). Nothing was recorded."
        )
    key_ids = written_ids(read_key_ids(sheet, columns["key_id"])).tolist()
    known, decisions = Spellings(words.names), Spellings([*words.names, DROP, KEEP])
    decided: dict[int, Correction] = {}  # by row
    for row, (key_id, word, becomes) in enumerate(zip(key_ids, columns["word"], columns["becomes"], strict=True), 1):
        if becomes.strip():
            place = f"{sheet} {row_place(row)}"
            name, new = _found(word, known, words, place), _found(becomes, decisions, words, place)
            decided[row] = Correction(folder, key_id, name, KEEP if name == new else new)
    if drawn:
        _check_rows(sheet, decided, key_ids, drawn([each.key_id for each in decided.values()]))
    return record(decided.values()), len(key_ids) - len(decided)


def _found(text: str, spellings: Spellings, words: Words, place: str) -> str:
    """The word or decision that a cell means."""
    if (name := spellings.find(text)) is None:
        raise SketchstackError(
            f"{place} has the word {spell(text.strip())!r}, which is not one of the {len(words)} words of the folds; "
            f"similar: {spellings.similar(text)}. Nothing was recorded."
        )
    return name


def _check_rows(
    sheet: Path, decided: Mapping[int, Correction], key_ids: Sequence[int], drawn: Mapping[int, str]
) -> None:
    """Refuse decisions about rows that are not there, or that belong to other rows."""
    known = {each[:2]: each.word for each in read_corrections()}  # a dropped row has left the run
    for row, each in decided.items():
        words = {drawn.get(each.key_id), known.get(each[:2])} - {None}
        if not words:
            why = ROUNDED if rounded(key_ids) else "Remove the row, or take the sheet as `--export` wrote it."
            raise SketchstackError(
                f"{sheet} {row_place(row)} has the key_id {each.key_id}, which no training drawing of {each.folder} "
                f"has. {why} {AGAIN}"
            )
        if each.word not in words:
            filed = " or ".join(sorted(filter(None, words)))
            raise SketchstackError(
                f"{sheet} {row_place(row)} calls the drawing {each.key_id} {each.word!r}, but it is filed under "
                f"{filed!r}: the columns of the sheet no longer belong together, as after one of them was sorted "
                f"alone, or it was exported from another run. {AGAIN}"
            )


def drawn_words(run: Run, key_ids: Sequence[int]) -> dict[int, str]:
    """The word of each of these training drawings, by key_id; those that the run does not have are left out."""
    wanted, found = np.array([stored_id(key_id) for key_id in key_ids], np.int64), dict[int, str]()
    for shards in run.folds:
        rows = np.flatnonzero(np.isin(shards.key_id, wanted))
        labels = np.asarray(shards.word)[rows].tolist()
        names = [run.words.names[label] for label in labels]
        found |= dict(zip(written_ids(shards.key_id[rows]).tolist(), names, strict=True))
    return found


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Export suspected mislabels with their pictures, or take corrections back."""
    parser = Parser("relabel", __doc__, "sketchstack relabel --export look")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--export", type=Path, metavar="DIR", help="write suspects into a new folder")
    what.add_argument("--take", type=Path, metavar="SHEET", help=f"record the decisions of a filled-in {SHEET}")
    parser.add_argument("--rows", type=int, default=200, help="the most suspects to export (%(default)s)")
    given: Any = parser.parse_args(arguments)
    run = Run(load_params())
    if given.export:
        count = export(run, given.export, given.rows)
        print(f"{count} suspects in {given.export}: look at {PAGE}, fill in `becomes` in {SHEET}, and --take it.")
    else:
        changed, blank = take(given.take, run.params.data.folder, run.words, partial(drawn_words, run))
        print(f"{changed} lines of {CORRECTIONS} are new or changed; {blank} rows of {given.take} are undecided.")
        print(f"Commit {CORRECTIONS} and run `dvc repro`: shuffle applies it.")


if __name__ == "__main__":
    main()
