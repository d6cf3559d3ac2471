"""Activate a profile: copy profiles/<name>.yaml to params.yaml.

sketchstack profile NAME [--force]
"""

from __future__ import annotations

from pathlib import Path

from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.commandline import Parser
from pipeline.foundation.errors import SketchstackError, one_paragraph_errors
from pipeline.foundation.params import Params, check_data, load_params
from pipeline.foundation.places import PARAMS

PROFILES = Path("profiles")


def put_in_force(name: str, *, force: bool) -> Params:
    """Copy a profile to params.yaml and return its params.

    Raises:
        SketchstackError: there is no such profile, it is not valid, its data is missing, or params.yaml has edits that
            are in no profile.
    """
    profiles = {path.stem: path for path in sorted(PROFILES.glob("*.yaml"))}
    if name not in profiles:
        raise SketchstackError(f"there is no profile {name!r}; {PROFILES}/ has {', '.join(profiles)}.")
    params = load_params(profiles[name])
    if PARAMS.exists() and not force and PARAMS.read_bytes() not in {path.read_bytes() for path in profiles.values()}:
        raise SketchstackError(
            f"{PARAMS} has edits that are in no profile; save them with `cp {PARAMS} {PROFILES}/NEW.yaml`, or discard "
            f"them with `make profile NAME={name} FORCE=1`."
        )
    check_data(params)
    with whole_file(PARAMS) as file:
        file.write_bytes(profiles[name].read_bytes())
    return params


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Activate a profile: copy profiles/NAME.yaml to params.yaml."""
    parser = Parser("profile", main.__doc__, "sketchstack profile mini")
    parser.add_argument("name", help="a file in profiles/, without its suffix")
    parser.add_argument("--force", action="store_true", help="discard edits in params.yaml")
    given = parser.parse_args(arguments)
    params = put_in_force(given.name, force=given.force)
    print(
        f"{PARAMS} is now profile {given.name}: data in {params.data.folder}, {len(params.folds)} folds of "
        f"{', '.join(params.ensemble)}. `make repro` runs it."
    )


if __name__ == "__main__":
    main()
