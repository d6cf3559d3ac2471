"""The page of the report: its sections, each made on its own; one that cannot be made shows what is missing."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.contents import own_folder
from pipeline.foundation.errors import SketchstackError, refused_by_the_system
from pipeline.foundation.places import places
from pipeline.report import data, html, lineage, markdown, scores, suspects, verification, words
from pipeline.report.blocks import Block, Chart, Missing, Section
from pipeline.report.charts import png, svg
from pipeline.report.run import Run
from pipeline.stacking.scoreboard import SUPER
from pipeline.submissions.files import read_manifests

FAILED = "This section could not be made"
SECTIONS: tuple[tuple[str, Callable[[Run], list[Block]]], ...] = (
    ("Leaderboard", scores.leaderboard),
    ("Folds", scores.folds),
    ("Learning curves", scores.curves),
    ("Errors in common", scores.errors_in_common),
    ("Weights", scores.weights),
    ("Calibration", scores.calibration),
    ("Verification", verification.verification),
    ("Words", words.words),
    ("Most confused pairs", words.confused_pairs),
    ("Hardest drawings", words.hardest),
    ("Most disputed drawings", words.disputed),
    ("Suspected mislabels", suspects.suspected_mislabels),
    ("Outliers", suspects.outliers),
    ("Data", data.data),
    ("Lineage", lineage.lineage),
    ("Out of fold against the leaderboard", lineage.against_the_leaderboard),
)


def sections_of(run: Run, draw: Callable[[Chart], str | bytes] = svg) -> Iterator[Section]:
    """All sections, their charts drawn; of one that cannot be made, what is missing."""
    for title, write in SECTIONS:
        try:
            blocks = write(run)
            yield Section(title, [replace(b, drawn=draw(b)) if isinstance(b, Chart) else b for b in blocks])
        except SketchstackError as error:
            yield Section(title, [Missing(str(error))])
        except OSError as error:
            yield Section(title, [Missing(refused_by_the_system(error))])
        except Exception as error:  # whatever is wrong with one section, the others are worth reading
            traceback.print_exc()
            yield Section(title, [Missing(f"{FAILED} ({type(error).__name__}: {error}); please report it.")])


def summary(run: Run) -> str:
    """What the run came to, in a sentence."""
    try:
        best, rows, count = run.scores[SUPER], len(run.labels), len(run.words)
    except SketchstackError as error:
        return f"Not finished: {error}"
    return (
        f"The SuperLearner reaches MAP@3 {best['map3']:.4f} and top-1 {best['top1']:.4f} out of fold, on {rows:,} rows "
        f"of {count} words in {len(run.params.folds)} folds."
    )


def write_page(run: Run) -> None:
    """Write the report as one HTML page.

    Raises:
        SystemExit: a section could not be made; the page is there without it.
    """
    sections = list(sections_of(run, svg))
    place = places().reports / "report.html"
    with whole_file(place) as file:
        file.write_text(html.page(_title(run), summary(run), sections), encoding="utf-8")
    with whole_file(places().reports / "summary.txt") as file:
        file.write_text(closing(run) + "\n", encoding="utf-8")
    print(closing(run))
    _check_made(sections)


def closing(run: Run) -> str:
    """What a run ends with: its score, its best submission, where the report is."""
    place = places().reports / "report.html"
    try:
        best = f"The best submission is {places().submissions / read_manifests()[0]['name']}.csv. "
    except SketchstackError:
        best = ""
    return f"{summary(run)}\n{best}Open {place}."


def write_markdown(run: Run, place: Path) -> None:
    """Write the report as <place>/report.md with pictures beside it.

    Raises:
        SketchstackError: the folder holds something that this program did not write.
        SystemExit: as `write_page`.
    """
    with own_folder(place) as folder:  # refused before the sections are made
        sections = list(sections_of(run, png))
        markdown.write(_title(run), summary(run), sections, folder)
    print(f"Written to {place}.")
    _check_made(sections)


def _title(run: Run) -> str:
    return f"Sketchstack, the {run.params.profile} profile"


def _check_made(sections: list[Section]) -> None:
    missing = [block.text for section in sections for block in section.blocks if isinstance(block, Missing)]
    if any(text.startswith(FAILED) for text in missing):
        sys.exit("A section could not be made; what went wrong stands above and in its place.")
