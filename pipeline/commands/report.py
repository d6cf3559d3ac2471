"""The report of the run in the working directory, as an HTML page or as Markdown with pictures.

sketchstack report                  writes the report as an HTML page
sketchstack report --markdown DIR   writes the report as DIR/report.md with pictures
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.foundation.commandline import Parser
from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.params import load_params
from pipeline.foundation.places import places


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Write the report of the run in the working directory."""
    parser = Parser("report", main.__doc__, "sketchstack report --markdown post")
    parser.add_argument("--markdown", type=Path, metavar="DIR", help="write Markdown and pictures into a new folder")
    parser.add_argument(
        "--hourly", type=float, metavar="PRICE", help="of an hour of the machine: shows the price of each stage"
    )
    parser.add_argument("--if-older", action="store_true", help="write it only if it is older than the scores")
    given: Any = parser.parse_args(arguments)
    if given.if_older and up_to_date():
        print((places().reports / "summary.txt").read_text(encoding="utf-8"), end="")
        return
    from pipeline.report.page import write_markdown, write_page  # these imports take seconds
    from pipeline.report.run import Run

    run = Run(load_params(), given.hourly)
    if given.markdown is None:
        write_page(run)
    else:
        write_markdown(run, given.markdown)


def up_to_date() -> bool:
    """Whether the report is newer than the scores and submissions it shows, and its closing text is saved.

    It is not compared with dvc.lock: DVC rewrites that after every stage, including `fingerprint`.
    """
    where = places()
    report, told = where.reports / "report.html", where.reports / "summary.txt"
    shown = [where.meta / "scores.json", where.submissions / "ranking.csv", where.reports / "out_of_fold.json"]
    if not all(file.exists() for file in (report, told, *shown)):
        return False
    return all(file.stat().st_mtime <= report.stat().st_mtime for file in shown)


if __name__ == "__main__":
    main()
