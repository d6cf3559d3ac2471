"""Send a submission to Kaggle and record it in the ledger, or only check a file.

sketchstack submit                         send the best, or show exactly what would be sent
sketchstack submit NAME                    send this submission
sketchstack submit --check FILE            check any submission
sketchstack submit --record NAME --public S  record one that was sent by hand, or its score
"""

from __future__ import annotations

from pathlib import Path

from pipeline.foundation.artefacts import file_hash
from pipeline.foundation.commandline import Parser
from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.params import load_params
from pipeline.submissions.files import check_file
from pipeline.submissions.send import record, record_on_labels, send


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Send a submission, check one, or record one."""
    parser = Parser("submit", main.__doc__, "sketchstack submit --check FILE --sample data/mini/sample_submission.csv")
    parser.add_argument("name", nargs="?", help="send this submission, by default the best")
    parser.add_argument("--check", type=Path, metavar="FILE", help="check this submission and send nothing")
    parser.add_argument(
        "--sample", type=Path, metavar="FILE", help="sample submission to check against (params.yaml's)"
    )
    parser.add_argument("--record", metavar="NAME", help="write this submission, sent by hand, into the ledger")
    parser.add_argument("--labels", action="store_true", help="record NAME with its score on the profile's test labels")
    parser.add_argument("--public", type=float, metavar="SCORE", help="its MAP@3 on the public leaderboard")
    parser.add_argument("--private", type=float, metavar="SCORE", help="its MAP@3 on the private leaderboard")
    given = parser.parse_args(arguments)
    if (given.record is None) != (given.public is None) or (given.private is not None and given.record is None):
        parser.error("--record NAME takes --public SCORE, and --private SCORE once that is known")
    if given.labels and given.record is not None:
        parser.error("--labels takes the score from the test labels: `sketchstack submit NAME --labels`")
    if given.check:
        rows = check_file(given.check, given.sample or load_params().sample_path)
        print(f"{given.check} is a valid submission: {rows} rows, SHA-256 {file_hash(given.check)}")
    elif given.record is not None:
        record(given.record, given.public, given.private, load_params())
    elif given.labels:
        record_on_labels(given.name, load_params())
    else:
        send(given.name, load_params())


if __name__ == "__main__":
    main()
