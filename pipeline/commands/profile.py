"""Put a profile in force: profiles/<name>.yaml becomes params.yaml.

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
    """Copy a profile to params.yaml and return what it says.

    Raises:
        SketchstackError: there is no such profile, it is not valid, its data is not there, or params.yaml has edits
            that no profile holds.
    """
    profiles = {path.stem: path for path in sorted(PROFILES.glob("*.yaml"))}
    if name not in profiles:
        raise SketchstackError(f"there is no profile {name!r}; {PROFILES}/ has {', '.join(profiles)}.")
    params = load_params(profiles[name])
    if PARAMS.exists() and not force and PARAMS.read_bytes() not in {path.read_bytes() for path in profiles.values()}:
        raise SketchstackError(
            f"{PARAMS} has edits that no profile holds; save them with `cp {PARAMS} {PROFILES}/NEW.yaml`, or give them "
            f"up with `make profile NAME={name} FORCE=1`."
        )
    check_data(params)
    with whole_file(PARAMS) as file:
        file.write_bytes(profiles[name].read_bytes())
    return params


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Put a profile in force."""
    parser = Parser("profile", main.__doc__, "sketchstack profile mini")
    parser.add_argument("name", help="a file in profiles/, without its suffix")
    parser.add_argument("--force", action="store_true", help="give up edits in params.yaml")
    given = parser.parse_args(arguments)
    params = put_in_force(given.name, force=given.force)
    print(
        f"{PARAMS} is now profile {given.name}: data in {params.data.folder}, {len(params.folds)} folds of "
        f"{', '.join(params.ensemble)}. `make repro` runs it."
    )


if __name__ == "__main__":
    main()
