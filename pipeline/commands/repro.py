"""Run the changed stages: `dvc repro`, with repairs after a killed run before it, and the report after it.

Before: a dvc.lock that a kill has truncated is restored from its last good copy or from git, unfinished artefacts are
removed, models that params.yaml no longer names are set aside. After: the report, if it is older than the scores, and
the scores; or the reason why a stage was killed.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from typing import IO, Any

from pipeline.foundation.artefacts import alone, tidy
from pipeline.foundation.commandline import Parser
from pipeline.foundation.dvc import LOCK, keep_lock, restore_lock, restore_rwlock, run_dvc, settle_without_git
from pipeline.foundation.errors import SketchstackError, one_paragraph_errors
from pipeline.foundation.memory import limit, oom_kills
from pipeline.foundation.params import Params, load_params
from pipeline.predictions.unused import set_aside
from pipeline.submissions.others import move_others


def killed_for_memory(kills: int) -> str:
    """The error text if the system has killed processes for memory since the count was `kills`; else an empty text."""
    if oom_kills() <= kills:
        return ""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return (
        f"the system killed a stage for lack of memory: one process of this run held up to {peak / 1e9:.1f} GB, and "
        f"this machine allows {limit() / 1e9:.1f} GB for all. Close other programs, or lower `batch_size` of "
        f"that learner (or `stack.dense_rows` for the stage stack) in params.yaml; the same command resumes."
    )


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Run the changed stages, from raw drawings to ranked submissions, and write the report."""
    parser = Parser("repro", main.__doc__, "sketchstack repro", "sketchstack repro stack")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="of dvc.yaml, after those it needs; default all")
    parser.add_argument("--force", action="store_true", help="also run stages that have not changed")
    given: Any = parser.parse_args(arguments)
    params = load_params()
    with alone(LOCK) as held:
        put_right(params)
        run([*(["--force"] if given.force else []), *given.stages], held)
    sys.exit(subprocess.run([sys.executable, "-m", "pipeline", "report", "--if-older"], check=False).returncode)


def put_right(params: Params) -> None:
    """Restore what a killed run has left damaged, take away what is unfinished or no longer named, and say so."""
    done = [settle_without_git(), restore_lock(), restore_rwlock(), *tidy()]
    done += [f"moved {folder}, which params.yaml no longer names, to {place}" for folder, place in set_aside(params)]
    done += [f"moved {path} to {place}: DVC empties the folder where it was" for path, place in move_others()]
    for line in filter(None, done):
        print(line, flush=True)


def run(arguments: list[str], held: IO[str] | None) -> None:
    """Run DVC, and keep a copy of the dvc.lock before and after.

    Raises:
        SketchstackError: the system has killed a stage for lack of memory.
        SystemExit: DVC failed.
    """
    keep_lock()
    kills = oom_kills()
    code = run_dvc(arguments, held)
    keep_lock()
    if code:
        if reason := killed_for_memory(kills):
            raise SketchstackError(reason)
        sys.exit(code)


if __name__ == "__main__":
    main()
