"""Stage `score`: the out-of-fold score of every submission, and its score on the test labels if they are known."""

from __future__ import annotations

from pipeline.foundation.errors import one_paragraph_errors
from pipeline.submissions.scoring import score_all


@one_paragraph_errors
def main() -> None:
    """Write MAP@3 by submission, out of fold and on the test set."""
    score_all()


if __name__ == "__main__":
    main()
