"""Training stages that die and are started again, until one lives to its end.

    python -m tests.lives LEARNER SEED

run in a folder with params.yaml and folds/, trains a learner without fold 0 over many lives, each but the last killed
at a place or time that the seed draws. The last line tells of them all, as JSON. Imports take longer than such a life,
so this process imports once what the stage needs, computes nothing, and forks a child a life.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import math
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.drawings.batches import Batch
from pipeline.drawings.encodings import identity
from pipeline.drawings.shards import TEST, Shards, open_shards
from pipeline.foundation.artefacts import file_hash
from pipeline.foundation.params import load_params
from pipeline.foundation.places import places
from pipeline.learners._base import Learner, learner_class
from pipeline.stages import train
from pipeline.training.fitting import ready_learner

HELD_OUT = 0
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux
LIVES_ON = 2  # steps, at most, that a life goes on after it was told to die
STEPS = (4, 40)  # a death in training is due at a step of these; the last come a few steps later, before step 60
LATE = ("dvclive", "dvc.repo", "torch._dynamo")  # loaded as the stage goes: for the live log, by the first optimiser


class Moment(NamedTuple):
    """When a life ends.

    Attributes:
        what: the same in words.
        place: where, as a regular expression: a step, a call of `predict`, or an operation on a file that is
            about to be done.
        after: only from this step on.
        delay: seconds until death comes, while life goes on; None for a life that stands still at the place.
        torn: the share of the last resume point's bytes beyond which no file grows any more, whereupon the system
            kills: the next large file stays torn. None for a plain kill -9.
    """

    what: str
    place: str
    after: int = 0
    delay: float | None = None
    torn: float | None = None


class Life(NamedTuple):
    """What became of one process.

    Attributes:
        began: the step from which it went on, 0 at first; None if it died before.
        step: the last one that it began; None if it died before, or had none left.
        died: its moment in words; None if it came to its end.
        signal: that it died of.
    """

    began: int | None
    step: int | None
    died: str | None
    signal: str | None


def draw_moments(seed: int, slow: bool) -> list[Moment]:
    """Moments of a run in its order: at random steps and as lives start, fourteen or so, the last six in its end.

    Args:
        seed: draws steps, what happens at which of them, and times.
        slow: whether a life takes seconds to its first step; more of them end before it then, and fewer after.
    """
    rng = np.random.default_rng(seed)
    point = rf"{places().checkpoints}/\S+/"
    in_training: list[dict[str, Any]] = [
        *({"what": "in a step, or soon after", "place": "step", "delay": rng.uniform(0, 0.03)} for _ in range(3)),
        {"what": "while a resume point is written", "place": f"mkdir {point}", "torn": rng.uniform(0.1, 0.9)},
        {"what": "before the last resume point becomes the one before", "place": f"rename {point}last"},
        {"what": "between the renames of a resume point", "place": rf"rename \.partial/{point}last"},
        {"what": "at an epoch's end, before its resume point", "place": f"open {places().logs}/"},
    ]
    at_steps, at_starts, start = (4, 4, 3.0) if slow else (len(in_training), 1, 0.5)
    steps = sorted(rng.choice(np.arange(*STEPS), at_steps, replace=False).tolist())
    moments = [
        Moment(after=step, **in_training[place])
        for step, place in zip(steps, rng.permutation(len(in_training))[:at_steps], strict=True)
    ]
    for _ in range(at_starts):
        place, delay = int(rng.integers(1, len(moments) + 1)), rng.uniform(0, start)
        moments.insert(place, Moment("as it starts, or soon after", "start", delay=delay))
    return [
        *moments,
        Moment(
            "while the weights are saved", r"mkdir \.partial/models/synthetic/base/\S+", torn=rng.uniform(0.0005, 0.004)
        ),
        Moment("in prediction", "predict"),
        Moment("before the model is in place", r"rename \.partial/models/synthetic/base/\S+"),
        Moment("before the learning curve is in place", r"rename \.partial/models/synthetic/curves/\S+"),
        Moment("before the last resume point is removed", f"remove {point}last"),
        Moment("before the resume point before is removed", f"remove {point}before"),
    ]


def preload(learner: Learner, drawings: Shards) -> None:
    """Import and compile what a training run needs, and compute nothing that starts threads: a fork has them no more.

    Args:
        learner: not built yet.
        drawings: any, one at least.
    """
    learner.inputs(drawings[:1], identity(1))
    if "pipeline.learners._keras" in sys.modules:
        from pipeline.learners._keras import without_stderr

        with without_stderr():
            importlib.import_module("keras")
    for name in LATE:
        if not name.startswith("torch") or "torch" in sys.modules:
            importlib.import_module(name)


def fork(life: Callable[[], None]) -> int:
    """Start a child that lives `life` and ends with 0, or with 1 and the traceback of its error; give its id."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    try:
        life()
        sys.stdout.flush()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def ended(child: int) -> int:
    """Wait for a child's end: its exit code, or the signal that killed it, negative."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_stage(name: str) -> None:
    """Do what `python -m pipeline.stages.train` does."""
    sys.argv = ["train", name, str(HELD_OUT)]
    train.main()


def live(name: str, moment: Moment | None) -> Life:
    """Train in a child until the moment to kill it comes; to the end where there is none.

    Raises:
        SystemExit: the child ended in another way.
    """
    heard, told = os.pipe()

    def life() -> None:
        os.dup2(told, sys.stdout.fileno())
        if moment:
            _watch(name, _reaper(moment))
        run_stage(name)

    child = fork(life)
    os.close(told)
    began: int | None = None
    step: int | None = None
    with os.fdopen(heard) as lines:  # ends when the child does
        for line in lines:
            if found := re.match(r"resuming from step (\d+)", line):
                began = int(found[1])
            elif found := re.match(r"@step (\d+)", line):
                step = int(found[1])
                began = step if began is None else began
            elif line.startswith("@dying") and moment:
                time.sleep(moment.delay or 0)
                os.kill(child, signal.SIGKILL)
    code = ended(child)
    if moment is None and code == 0:
        return Life(began, step, None, None)
    if moment is None or code >= 0:
        raise SystemExit(
            f"{name}: a life that was to {f'die {moment.what}' if moment else 'come to its end'} ended with {code}"
        )
    return Life(began, step, moment.what, signal.Signals(-code).name)


def _reaper(moment: Moment) -> Callable[[str], None]:
    """What a life calls at each place that it comes to: it tells of steps, and has the life killed at its moment."""
    armed, dying, left = moment.after == 0, False, float(LIVES_ON)

    def passing(place: str) -> None:
        nonlocal armed, left, dying
        number = int(place.removeprefix("step ")) if place.startswith("step ") else None
        if number is not None:
            _tell(place)
            armed, left = armed or number >= moment.after, left - dying
        if dying:
            if left < 0:
                _stand_still()
        elif armed and re.match(moment.place, place):
            dying = True
            if moment.torn is not None:
                _let_no_file_outgrow(moment.torn)
                left = math.inf
                return
            _tell("dying")
            if moment.delay is None:
                _stand_still()

    passing("start")
    return passing


def _tell(word: str) -> None:
    os.write(sys.stdout.fileno(), f"@{word}\n".encode())


def _stand_still() -> None:
    while True:
        time.sleep(60)


def _let_no_file_outgrow(share: float) -> None:
    """Have the system kill this process as soon as it makes a file larger than this share of a resume point."""
    largest = max(path.stat().st_size for path in places().checkpoints.rglob("*.safetensors"))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * largest), resource.RLIM_INFINITY))


def _watch(name: str, passing: Callable[[str], None]) -> None:
    """Have `passing` called at each step, each prediction, and before each operation on a file that lasts."""
    found = learner_class(name)
    train_step, predict = found.train_step, found.predict

    def watched_step(self: Learner, batch: Batch, learning_rate: float) -> tuple[Any, Any]:
        passing(f"step {batch.step}")
        return train_step(self, batch, learning_rate)

    def watched_predict(self: Learner, inputs: Any) -> np.ndarray:
        passing("predict")
        return predict(self, inputs)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if operation := _operation(event, arguments):
            passing(operation)

    found.train_step, found.predict = watched_step, watched_predict  # type: ignore[method-assign]
    sys.addaudithook(hook)


def _operation(event: str, arguments: tuple[Any, ...]) -> str | None:
    """An audit event (https://docs.python.org/3/library/audit_events.html) that is to change the project's files."""
    paths = {"open": 1, "os.mkdir": 1, "os.rename": 2, "os.remove": 1}.get(event)
    if paths is None or (event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)):
        return None
    names = [_in_project(str(path)) for path in arguments[:paths]]
    homes = (f"{places().checkpoints}/", "models/", f"{places().logs}/")
    ours = all(name.removeprefix(".partial/").startswith(homes) for name in names)
    return f"{event.removeprefix('os.')} {' '.join(names)}" if ours else None


def _in_project(path: str) -> str:
    """A path inside the project; of an unfinished artefact, with the folders that its name stands for."""
    name = path.removeprefix(f"{Path.cwd()}/")
    return name.replace("--", "/") if name.startswith(".partial/") else name


def main() -> None:
    """Live until nothing kills any more."""
    parser = argparse.ArgumentParser(prog="python -m tests.lives", description=main.__doc__)
    parser.add_argument("learner")
    parser.add_argument("seed", type=int)
    arguments = parser.parse_args()
    name = arguments.learner
    preload(ready_learner(load_params(), name, HELD_OUT), open_shards([places().folds / TEST]))
    lives, seen = [], set()
    # Keras traces a network before its first step.
    for moment in [*draw_moments(arguments.seed, slow="keras" in sys.modules), None]:
        lives.append(live(name, moment))
        seen |= _standing()
    other = {path for files in seen - _standing() for path, _ in files}
    print(json.dumps({"lives": [life._asdict() for life in lives], "other": sorted(other)}))


def _standing() -> set[frozenset[tuple[str, str]]]:
    """The files of each folder below models/ that have their final names, by path and hash."""
    folders: dict[Path, set[tuple[str, str]]] = {}
    for path in Path("models").rglob("*"):
        if path.is_file() and ".partial" not in str(path):
            folders.setdefault(path.parent, set()).add((str(path), file_hash(path)))
    return {frozenset(files) for files in folders.values()}


if __name__ == "__main__":
    main()
