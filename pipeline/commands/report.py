"""The report of the run in the working directory, with what its stages cost, or as Markdown with pictures.

sketchstack report                  writes the report's HTML page
sketchstack report --markdown DIR   writes the same as DIR/report.md with pictures
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.foundation.commandline import Parser
from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.params import load_params
from pipeline.foundation.places import places
from pipeline.report.page import closing, write_markdown, write_page
from pipeline.report.run import Run


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Write the report of the run in the working directory."""
    parser = Parser("report", main.__doc__, "sketchstack report --markdown post")
    parser.add_argument("--markdown", type=Path, metavar="DIR", help="write Markdown and pictures into a new folder")
    parser.add_argument(
        "--hourly", type=float, metavar="PRICE", help="of an hour of the machine: tells what stages cost"
    )
    parser.add_argument("--if-older", action="store_true", help="write it only if dvc.lock is newer than it")
    given: Any = parser.parse_args(arguments)
    run = Run(load_params(), given.hourly)
    place, lock = places().reports / "report.html", Path("dvc.lock")
    if given.if_older and place.exists() and place.stat().st_mtime >= lock.stat().st_mtime:
        print(closing(run))
    elif given.markdown is None:
        write_page(run)
    else:
        write_markdown(run, given.markdown)


if __name__ == "__main__":
    main()
