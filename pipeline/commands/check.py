"""Check all that a run uses before hours of training: params.yaml, learners, words, sample submission, labels.

sketchstack check
"""

from __future__ import annotations

from pipeline.foundation.commandline import Parser
from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.params import check_data, load_params
from pipeline.submissions.inputs import check_inputs, check_models


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Check params.yaml, the learners and meta-learners that it names, and the raw files."""
    Parser("check", main.__doc__, "sketchstack check").parse_args(arguments)
    params = load_params()
    check_data(params)
    check_inputs(params)
    check_models(params)


if __name__ == "__main__":
    main()
