"""Stage `score`: every submission against the test labels where they are known, beside its out-of-fold score."""

from __future__ import annotations

from pipeline.foundation.errors import one_paragraph_errors
from pipeline.submissions.scoring import score_all


@one_paragraph_errors
def main() -> None:
    """Write MAP@3 by submission, out of fold and on the test set."""
    score_all()


if __name__ == "__main__":
    main()
