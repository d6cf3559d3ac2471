"""The report of the run that is there (`make report`): everything it reached, and what is not there yet.

    python -m pipeline.report                  writes reports/report.html
    python -m pipeline.report --markdown DIR   writes the same as DIR/report.md with pictures

A run that is not finished is shown as far as it is, with what is missing in its place.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.artefacts import whole_file, whole_folder
from pipeline.errors import SketchstackError, one_paragraph_errors
from pipeline.params import load_params
from pipeline.report import data, html, lineage, markdown, scores, suspects, words
from pipeline.report.blocks import Block, Chart, Missing, Section
from pipeline.report.charts import png, svg
from pipeline.report.run import Run
from pipeline.scoreboard import SUPER

PLACE = Path("reports/report.html")
FAILED = "This section could not be made"
SECTIONS: tuple[tuple[str, Callable[[Run], list[Block]]], ...] = (
    ("Leaderboard", scores.leaderboard),
    ("Folds", scores.folds),
    ("Learning curves", scores.curves),
    ("Errors in common", scores.errors_in_common),
    ("Weights", scores.weights),
    ("Calibration", scores.calibration),
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


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Write the report of the run in the working directory."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.report", description=main.__doc__)
    parser.add_argument("--markdown", type=Path, metavar="DIR", help="write Markdown and pictures into a new folder")
    parser.add_argument(
        "--hourly", type=float, metavar="PRICE", help="of an hour of the machine: tells what stages cost"
    )
    given: Any = parser.parse_args(arguments)
    run = Run(load_params(), given.hourly)
    draw = svg if given.markdown is None else png
    title, sections = f"Sketchstack, the {run.params.profile} profile", list(sections_of(run, draw))
    if given.markdown is None:
        with whole_file(PLACE) as file:
            file.write_text(html.page(title, summary(run), sections), encoding="utf-8")
        print(f"Written to {PLACE}.")
    else:
        with whole_folder(given.markdown) as folder:
            markdown.write(title, summary(run), sections, folder)
        print(f"Written to {given.markdown}.")
    missing = [block.text for section in sections for block in section.blocks if isinstance(block, Missing)]
    if any(text.startswith(FAILED) for text in missing):
        sys.exit("A section could not be made; what went wrong stands above and in its place.")


if __name__ == "__main__":
    main()
