"""Stage `submit`: predicted probabilities → checked, ranked top-3 submissions."""

from __future__ import annotations

from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.params import load_params
from pipeline.submissions.ranking import write_submissions


@one_paragraph_errors
def main() -> None:
    """Write, check and rank all submissions."""
    write_submissions(load_params())


if __name__ == "__main__":
    main()
