"""Stage `report`: the run as one HTML page, not hashed because it contains times, and its summary, which is hashed."""

from __future__ import annotations

from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.params import load_params
from pipeline.report.page import write_page
from pipeline.report.run import Run


@one_paragraph_errors
def main() -> None:
    """Write the report of the run in the working directory."""
    write_page(Run(load_params()))


if __name__ == "__main__":
    main()
