"""Set aside fitted models that params.yaml no longer names.

They go to models/<profile>/unused, from where they can be moved back; `--remove` deletes that folder.
"""

from __future__ import annotations

from typing import Any

from pipeline.foundation.artefacts import remove
from pipeline.foundation.commandline import Parser
from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.params import load_params
from pipeline.foundation.places import places
from pipeline.predictions.unused import set_aside


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Set aside fitted models that params.yaml no longer names, or delete those that were set aside."""
    parser = Parser("clean", main.__doc__, "sketchstack clean", "sketchstack clean --remove")
    parser.add_argument("--remove", action="store_true", help="delete what models/<profile>/unused holds")
    given: Any = parser.parse_args(arguments)
    for folder, place in set_aside(load_params()):
        print(f"moved {folder}, which params.yaml no longer names, to {place}")
    if given.remove and places().unused.exists():
        remove(places().unused)
        print(f"removed {places().unused}")


if __name__ == "__main__":
    main()
