"""Suspected mislabels: export them for review, and take the decisions back as corrections.

    sketchstack relabel --export DIR [--rows 200]   pictures, index.html, and suspects.csv to fill in
    sketchstack relabel --take DIR/suspects.csv     writes its column `becomes` into corrections.csv

Look at index.html and write into `becomes` the word that a drawing shows, `drop` if it shows nothing, `keep` if its
word is right; leave it blank to decide later. corrections.csv is in git, and shuffle applies it: `dvc repro` runs the
stages that depend on it. Decided rows are not exported again.
"""

from __future__ import annotations

import csv
import difflib
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.drawings.words import Words, spell
from pipeline.foundation.artefacts import whole_folder
from pipeline.foundation.commandline import Parser
from pipeline.foundation.errors import SketchstackError, one_paragraph_errors
from pipeline.foundation.params import load_params
from pipeline.foundation.spreadsheets import cell_text, safe_row
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


def take(sheet: Path, folder: str, words: Words) -> tuple[int, int]:
    """Record the decisions of a sheet.

    Args:
        sheet: the filled-in suspects.csv; columns other than folder, key_id, word and becomes are ignored.
        folder: the folder of raw files that its rows must come from.
        words: the known words.

    Returns:
        The number of new or changed lines of corrections.csv, and the number of rows without a decision.

    Raises:
        SketchstackError: the sheet is not such a CSV, is of another folder, or has an unknown word; nothing is
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
    decided = []
    for row, (key_id, word, becomes) in enumerate(zip(key_ids, columns["word"], columns["becomes"], strict=True), 1):
        if becomes.strip():
            names = [spell(each.strip()) for each in (word, becomes)]
            for name, others in zip(names, ((), (DROP, KEEP)), strict=True):
                _check_word(name, words, others, f"{sheet} {row_place(row)}")
            decided.append(Correction(folder, key_id, names[0], KEEP if names[0] == names[1] else names[1]))
    return record(decided), len(key_ids) - len(decided)


def _check_word(name: str, words: Words, others: tuple[str, ...], place: str) -> None:
    if name not in words.index and name not in others:
        near = difflib.get_close_matches(name, [*words.names, *others], 3, 0.5)
        raise SketchstackError(
            f"{place} has the word {name!r}, which is not one of the {len(words)} words of the folds; similar: "
            f"{', '.join(near) or 'none'}. Nothing was recorded."
        )


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
        changed, blank = take(given.take, run.params.data.folder, run.words)
        print(f"{changed} lines of {CORRECTIONS} are new or changed; {blank} rows of {given.take} are undecided.")
        print(f"Commit {CORRECTIONS} and run `dvc repro`: shuffle applies it.")


if __name__ == "__main__":
    main()
