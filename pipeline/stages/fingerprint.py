"""Stage `fingerprint`: a hash of the code that each stage and each learner reaches, which the other stages depend on.

It always runs, before all other stages and in a second or two. So it also checks what the run will use: the raw files
each time, params.yaml against the learners where one of them has changed.

An edit that reaches no stage (a comment, a message, a new learner) leaves fingerprints.yaml as it is for the others,
and DVC runs none of them.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.fingerprints import Code, project
from pipeline.foundation.logs import note, noted
from pipeline.foundation.params import Params, fingerprint, load_params
from pipeline.foundation.places import places
from pipeline.submissions.inputs import check_inputs, check_models

FINGERPRINTS = Path("fingerprints.yaml")
STAGES = ("synthesize", "shuffle", "train", "pseudo", "stack", "submit", "score", "report")


def fingerprints(params: Params, code: Code) -> dict[str, dict[str, str]]:
    """A hash per stage and per learner that is trained; files that a stage imports by name are roots of their own."""
    named = {"stack": [f"pipeline.stacking.metalearners.{name}" for name in params.stack.metalearners]}
    learners = sorted({*params.ensemble, *params.pseudo.learners})
    return {
        "stages": {name: code.fingerprint(f"pipeline.stages.{name}", *named.get(name, [])) for name in STAGES},
        "learners": {name: code.fingerprint(f"pipeline.learners.{name}") for name in learners},
    }


def check(params: Params, code: str) -> None:
    """Check all that the run will use; learners and meta-learners only if params or code are not those of last time."""
    check_inputs(params)
    passed = {"params": fingerprint(params.model_dump()), "code": code}
    if noted(_checked()) != passed:
        check_models(params)
        note(_checked(), passed)


def _checked() -> Path:
    """Params and code that have passed the check."""
    return places().logs / "checked.json"


@one_paragraph_errors
def main() -> None:
    """Write fingerprints.yaml."""
    params = load_params()
    text = yaml.safe_dump(fingerprints(params, project()), sort_keys=False)
    check(params, text)
    with whole_file(FINGERPRINTS) as file:
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
