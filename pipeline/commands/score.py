"""Score a submission against known labels: MAP@3 and top-1."""

from __future__ import annotations

from pathlib import Path

from pipeline.foundation.commandline import Parser
from pipeline.foundation.errors import one_paragraph_errors
from pipeline.submissions.scoring import score


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Score a submission against known labels."""
    parser = Parser(
        "score",
        main.__doc__,
        "sketchstack score submissions/synthetic/super_learner.csv data/synthetic/test_labels.csv",
    )
    parser.add_argument("submission", type=Path, help="a CSV of key_id and up to three words")
    parser.add_argument("labels", type=Path, help="a CSV of key_id and the true word")
    given = parser.parse_args(arguments)
    map3, top1 = score(given.submission, given.labels)
    print(f"{given.submission}: MAP@3 {map3:.4f}, top-1 {top1:.4f}")


if __name__ == "__main__":
    main()
