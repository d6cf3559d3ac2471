"""Search for better params of a learner: its network and its training, by validation rows inside the training folds.

    sketchstack tune lstm --trials 40     can be stopped at any moment; the same command resumes

A trial is a block of params, trained in its own process and scored after each epoch; the first trial is the block in
force. The search varies the keywords of the learner's `network`, each by its type around the value in force, and some
of `training`. A learner can override this in a class attribute, by the path in its block:

    search: ClassVar = {
        "network.backbone": ["MobileNet", "MobileNetV2"],  # one of these
        "network.options.alpha": (0.25, 1.0),              # from, to
        "network.strides": None,                           # stays as it is
    }
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import yaml
from pydantic import ValidationError
from tqdm import tqdm

from pipeline.drawings.encodings import set_threads
from pipeline.drawings.shards import SUMMARY, Shards
from pipeline.drawings.words import load_words
from pipeline.foundation.artefacts import alone, file_hash
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import LearnerParams, Params, fingerprint
from pipeline.foundation.places import places
from pipeline.learners._base import EpochRow, Learner, learner_class, load_learner
from pipeline.predictions.metrics import map_at_3, top3
from pipeline.training.checkpoints import Checkpoint
from pipeline.training.fitting import code_hash, open_folds, others
from pipeline.training.searchspace import Dimension, block_with, space_of

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

VALIDATION = 5000  # validation rows at most; the standard error of their MAP@3 is below 0.5 / sqrt(5000) = 0.007
RANDOM = 8  # random trials before the sampler uses earlier scores
LEAVE = 10  # seconds that a trial's process gets to end by itself
UNPRUNED = 4  # trials that run to the end before any trial is pruned
PRUNED = "pruned: below the median of the trials before it"
_SPAWN = multiprocessing.get_context("spawn")


# A trial runs in its own process: its memory is freed, a crash ends only this trial, and the process of the study
# never loads a framework.


class Job(NamedTuple):
    """Settings that all trials of a study share.

    Attributes:
        params: params.yaml.
        name: of the learner.
        held_out: the fold that the study does not use.
        rows: most training rows of a trial.
        epochs: of a trial.
    """

    params: Params
    name: str
    held_out: int
    rows: int | None
    epochs: int

    @property
    def place(self) -> Path:
        """The path of its files below logs/ and checkpoints/."""
        return Path("tune", self.name, f"fold{self.held_out}")

    def learner(self, block: dict[str, Any]) -> Learner:
        """A learner with a trial's block, ready to fit.

        Raises:
            ValidationError: the block does not fit the schema.
            SketchstackError: the block does not fit the learner's signatures.
        """
        block = {**block, "training": {**block["training"], "epochs": self.epochs}}
        return load_learner(
            self.name,
            LearnerParams.model_validate(block),
            num_words=len(load_words(places().folds)),
            seed=(self.params.seed, self.held_out),
            threads=self.params.threads,
        )


def training_and_validation(job: Job) -> tuple[Shards, Shards]:
    """The training rows and the validation rows: the last shard of each training fold is for validation.

    A drawing's shard, as its fold, follows from its hash, so duplicates are never in both sets. Rows are in random
    order within a shard, so the first rows are a random sample.

    Raises:
        SketchstackError: there are too few rows, or no folds.
    """
    shards = open_folds(others(job.params.folds, job.held_out)).shards
    training, validation = Shards(shards[:-1]), Shards(shards[-1:]).first(VALIDATION)
    if not len(training) or not len(validation):
        raise SketchstackError(
            f"{places().folds} has too few rows for a validation set; lower shuffle.shards in params.yaml."
        )
    return training.first(job.rows or len(training)), validation


class _PrunedError(Exception):
    """The study prunes this trial."""


def _train(study: Connection, job: Job, block: dict[str, Any], checkpoint: Checkpoint, known: int) -> None:
    """Train one trial in its own process: send each epoch's score to the study, and stop if the study says so.

    Sends ("epoch", number, MAP@3) and waits for the answer whether to stop; at the end ("done",), ("refused", reason)
    if the block is at fault, or ("failed", reason).

    Args:
        study: connection to the process of the study.
        job: settings that all trials share.
        block: of this trial.
        checkpoint: to resume from.
        known: number of epochs whose scores the study has already; above 0 for a resumed trial.
    """
    _end_with_the_study()
    tqdm.set_lock(threading.RLock())  # tqdm's default lock has a semaphore, which a killed process would leave behind
    try:
        set_threads(job.params.threads)
        learner = job.learner(block)
        training, validation = training_and_validation(job)

        def log(row: EpochRow) -> None:
            if row.epoch <= known:
                return
            probabilities = learner.predict_proba(validation)
            if not np.isfinite(probabilities).all():
                raise SketchstackError(f"training diverged in epoch {row.epoch}")
            study.send(("epoch", row.epoch, map_at_3(top3(probabilities), validation.word)))
            if study.recv():
                raise _PrunedError

        learner.fit(training, checkpoint, f"{job.name} {checkpoint.last.parent.name}", log)
        study.send(("done",))
    except _PrunedError:
        pass
    except OSError as error:  # a full disk, for example: the block is not at fault
        study.send(("failed", _reason(error)))
    except Exception as error:  # any error that a framework raises for an unsuitable block
        of_the_gpu = type(error).__name__ == "AcceleratorError"  # by name: torch may not be loaded
        study.send(("failed" if of_the_gpu else "refused", _reason(error)))


def _end_with_the_study() -> None:
    """Exit when the process of the study ends or is killed: an orphaned trial would occupy the cores for hours."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _reason(error: Exception) -> str:
    text = " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())[:300]  # Keras writes in bold
    return text if isinstance(error, SketchstackError) else f"{type(error).__name__}: {text}"


@contextlib.contextmanager
def _process(*arguments: Any) -> Iterator[tuple[Connection, BaseProcess]]:
    """Run `_train` in its own process, which has ended when this context ends."""
    ours, theirs = _SPAWN.Pipe()
    process = _SPAWN.Process(target=_train, args=(theirs, *arguments))
    # Ctrl-C reaches all processes of the terminal; the trial's process inherits the setting that ignores it.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, before)
    theirs.close()
    try:
        yield ours, process
        process.join(LEAVE)
    finally:
        process.kill()
        process.join()
        ours.close()


# The study.


class _OutOfTimeError(Exception):
    """The time of --seconds is over."""


def tune(job: Job, *, trials: int, seconds: float | None, fresh: bool) -> None:
    """Run trials until the study has `trials` of them, or the time is over; print the best block.

    Args:
        job: settings that all trials share.
        trials: total number of trials of the study, including those of earlier runs.
        seconds: time limit of this run, or None.
        fresh: remove the study and start again.

    Raises:
        SketchstackError: there is no such learner or fold; another process runs this study; its trials were made from
            other params, data or code; the block in force does not train.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    learner, block = learner_class(job.name), job.params.learner(job.name).model_dump()
    space, (training, validation) = space_of(job.name, learner, block), training_and_validation(job)
    rows = (len(training), len(validation))
    made_from = _made_from(job, block, space, rows)
    # A second run would take the cores, and the order of the trials would be chance.
    with alone(places().logs / job.place):
        study = _open_study(job, made_from, fresh=fresh)
        study.pruner = optuna.pruners.MedianPruner(UNPRUNED, n_warmup_steps=math.ceil(job.epochs / 3))
        _enqueue(study, space)
        ended = ""
        try:
            while len(_finished(study)) < trials:
                _run_trial(study, job, block, space, made_from, deadline)
        except _OutOfTimeError:
            ended = "out of time"
        except KeyboardInterrupt:
            ended = "interrupted"
        finally:
            _enqueue(study, space)
        _print_result(study, job, block, rows)
    if ended:
        print(f"\nStopped ({ended}) after {len(_finished(study))} of {trials} trials; the same command resumes.")
    if ended == "interrupted":
        sys.exit(128 + signal.SIGINT)


def _made_from(job: Job, block: dict[str, Any], space: list[Dimension], rows: tuple[int, int]) -> dict[str, str]:
    """Hashes of everything that scores depend on; all trials of a study must have the same ones."""
    from optuna.distributions import distribution_to_json

    searched = {each.name: distribution_to_json(each.distribution) for each in space}
    params = {name: getattr(job.params, name) for name in ("seed", "threads", "folds")}
    return {
        f"params (learners.{job.name}, seed, threads or folds)": fingerprint({"learner": block, **params}),
        f"data ({places().folds}/)": file_hash(places().folds / SUMMARY),
        f"code (pipeline/learners/{job.name}.py or what it rests on)": code_hash(job.name),
        "search space": fingerprint(searched),
        "epochs (--epochs)": str(job.epochs),
        "rows (--rows)": f"{rows[0]} and {rows[1]}",
    }


def _open_study(job: Job, made_from: dict[str, str], *, fresh: bool) -> Study:
    """The study of a job, new or resumed.

    Raises:
        SketchstackError: the file is damaged, or its trials were made from other params, data or code.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    path = places().logs / job.place.with_suffix(".db")
    path.parent.mkdir(parents=True, exist_ok=True)
    if fresh:
        path.unlink(missing_ok=True)
        shutil.rmtree(places().checkpoints / job.place, ignore_errors=True)
    try:
        study = optuna.create_study(
            storage=f"sqlite:///{path}", study_name="tune", direction="maximize", load_if_exists=True
        )
        if not study.user_attrs:
            study.set_user_attr("made_from", made_from)
        found = study.user_attrs["made_from"]
    except (SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError, KeyError) as error:
        raise SketchstackError(
            f"{path} is damaged or from another version of optuna ({_reason(error)}); start again with --fresh."
        ) from None
    if other := [name for name, value in made_from.items() if found.get(name) != value]:
        raise SketchstackError(
            f"{path} was made from other {' and '.join(other)}, so its trials cannot be compared with new ones; "
            f"undo that change, or start again with --fresh, which removes its {len(_finished(study))} trials."
        )
    return study


def _enqueue(study: Study, space: list[Dimension]) -> None:
    """Queue the block in force as the first trial, and repeat an interrupted trial."""
    from optuna.trial import TrialState

    if not study.trials:
        study.enqueue_trial({each.name: each.in_force for each in space})
    queued = {trial.user_attrs.get("again") for trial in study.get_trials(states=(TrialState.WAITING,))}
    names = {each.name for each in space}
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        values = trial.system_attrs.get("fixed_params", trial.params)
        # A trial with values still to draw repeats by itself: its values depend only on the trials before it.
        if values.keys() == names and trial.number not in queued:
            study.enqueue_trial(values, user_attrs={"again": trial.number})
        study.tell(trial.number, state=TrialState.FAIL)


def _finished(study: Study) -> list[FrozenTrial]:
    """Trials that are not repeated: completed or pruned."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _run_trial(
    study: Study, job: Job, block: dict[str, Any], space: list[Dimension], made_from: dict[str, str], deadline: float
) -> None:
    """Draw a trial, or take the queued one; train it; record its result.

    Raises:
        SketchstackError: the block in force does not train.
        _OutOfTimeError: there is no time left.
    """
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    if time.monotonic() >= deadline:
        raise _OutOfTimeError
    finished = _finished(study)
    # A new sampler for each trial: its draws depend on the trials before it, not on when the process was restarted.
    seed = int(np.random.SeedSequence([job.params.seed, len(finished)]).generate_state(1)[0])
    study.sampler = TPESampler(seed=seed, n_startup_trials=RANDOM)
    trial = study.ask({each.name: each.distribution for each in space})
    chosen = block_with(block, space, trial.params)
    trial.set_user_attr("block", chosen)
    if twin := next((former for former in finished if former.user_attrs["block"] == chosen), None):
        for epoch, score in twin.intermediate_values.items():
            trial.report(score, epoch)
        reason = twin.user_attrs.get("reason")
        trial.set_user_attr("epoch_seconds", twin.user_attrs.get("epoch_seconds"))
    else:
        reason = _train_trial(study, trial, job, chosen, made_from, deadline)
    if chosen == block and reason:
        raise SketchstackError(f"params.yaml: the block learners.{job.name} in force does not train: {reason}.")
    scores = study.trials[trial.number].intermediate_values
    if reason:
        trial.set_user_attr("reason", reason)
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, scores[job.epochs])
    print(_line(study, trial.number, block), flush=True)


def _train_trial(
    study: Study, trial: Trial, job: Job, chosen: dict[str, Any], made_from: dict[str, str], deadline: float
) -> str | None:
    """Train one trial and report its scores; returns the reason if it ended early, else None.

    Raises:
        _OutOfTimeError: there is no time left.
    """
    try:
        job.learner(chosen)
    except (ValidationError, SketchstackError) as error:
        return f"refused: {_reason(error)}"
    number = trial.number
    known: dict[int, float] = {}
    while "again" in study.trials[number].user_attrs:
        number = study.trials[number].user_attrs["again"]
        known |= study.trials[number].intermediate_values
    for epoch, score in known.items():
        trial.report(score, epoch)
    if max(known, default=0) == job.epochs:
        return None
    if trial.should_prune():
        return PRUNED
    folder = places().checkpoints / job.place / f"trial{number}"
    checkpoint = Checkpoint(folder, {**made_from, "block": fingerprint(chosen)}, **job.params.checkpoints.model_dump())
    with _process(job, chosen, checkpoint, max(known, default=0)) as (connection, process):
        reason = _followed(trial, job, connection, process, deadline)
    shutil.rmtree(folder, ignore_errors=True)
    return reason


def _followed(trial: Trial, job: Job, connection: Connection, process: BaseProcess, deadline: float) -> str | None:
    """Report the scores that a trial's process sends, until the trial ends; returns as `_train_trial` does.

    Raises:
        _OutOfTimeError: there is no time left.
        SketchstackError: the process failed for a reason other than the block.
    """
    ends = []  # time at the end of each epoch
    while True:
        try:
            if not connection.poll(None if deadline == math.inf else max(0.0, deadline - time.monotonic())):
                raise _OutOfTimeError
            kind, *told = connection.recv()
        except (EOFError, ConnectionResetError):
            process.join()
            return f"refused: its process ended with exit code {process.exitcode}; -9 often means out of memory"
        if kind == "failed":
            raise SketchstackError(f"trial {trial.number}: {told[0]}; fix that, and the same command resumes.")
        if kind == "refused":
            return f"refused: {told[0]}"
        if kind == "done":
            return None
        epoch, score = told
        trial.report(score, epoch)
        ends.append(time.monotonic())
        if len(ends) > 1:  # the first epoch's time includes the start of the process
            trial.set_user_attr("epoch_seconds", round((ends[-1] - ends[0]) / (len(ends) - 1), 3))
        stop = epoch < job.epochs and trial.should_prune()
        connection.send(stop)
        if stop:
            return PRUNED


# What is printed.


def _line(study: Study, number: int, block: dict[str, Any]) -> str:
    """A line about a trial: its score or how it ended, and the params that it changed."""
    trial = study.trials[number]
    reason, scores = trial.user_attrs.get("reason"), trial.intermediate_values
    told = f"MAP@3 {scores[max(scores)]:.4f} after epoch {max(scores)}" if scores else "no score"
    return f"trial {number}: {told}{f', {reason}' if reason else ''}; {changes(block, trial.user_attrs['block'])}"


def changes(block: dict[str, Any], changed: dict[str, Any]) -> str:
    """The values of `changed` that differ from `block`, in the style of params.yaml."""
    differing = {
        part: {key: value for key, value in values.items() if value != block[part][key]}
        for part, values in changed.items()
    }
    return _flow({part: values for part, values in differing.items() if values})[1:-1] or "the block in force"


def _flow(values: dict[str, Any] | list[Any]) -> str:
    return yaml.safe_dump(values, default_flow_style=True, sort_keys=False, width=math.inf).strip()


def _print_result(study: Study, job: Job, block: dict[str, Any], rows: tuple[int, int]) -> None:
    """Print the scores of the block in force and the best one, faster blocks nearly as good, and a block to paste."""
    from optuna.trial import TrialState

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        print("No trial has finished yet.")
        return
    ranked = sorted(complete, key=lambda trial: (-(trial.value or 0.0), trial.number))
    best, now = ranked[0], next((trial for trial in complete if trial.user_attrs["block"] == block), None)
    error = 0.5 / math.sqrt(rows[1])  # upper bound for a mean of values in 0..1
    print(
        f"\n{job.name}, trained on {rows[0]:,} rows for {job.epochs} epochs without fold {job.held_out}; MAP@3 of "
        f"{rows[1]:,} validation rows (standard error at most {error:.3f}):"
    )
    front = [t for n, t in enumerate(ranked) if all(_seconds(t) < _seconds(better) for better in ranked[:n])]
    for trial in [*front[:5], *([now] if now and now not in front[:5] else [])]:
        seconds = f"{_seconds(trial):7.2f} s per epoch" if math.isfinite(_seconds(trial)) else " " * 19
        print(f"  {trial.value:.4f} {seconds}  trial {trial.number}: {changes(block, trial.user_attrs['block'])}")
    score = f"; the block in force has {now.value:.4f}" if now else ""
    print(f"\nThe best, trial {best.number}, has {best.value:.4f}{score}. For params.yaml, below `learners:`\n")
    print(as_yaml(job.name, best.user_attrs["block"]))


def _seconds(trial: FrozenTrial) -> float:
    return trial.user_attrs.get("epoch_seconds") or math.inf


def as_yaml(name: str, block: dict[str, Any]) -> str:
    """A learner's block in the style of params.yaml: one line per value, lists in brackets."""
    return "\n".join(_yaml_lines(name, block, 2))


def _yaml_lines(name: str, value: Any, indent: int) -> Iterator[str]:
    if isinstance(value, dict) and value:
        yield f"{' ' * indent}{name}:"
        for key, inner in value.items():
            yield from _yaml_lines(key, inner, indent + 2)
    else:
        text = "" if value is None else f" {_flow([value])[1:-1]}"
        yield f"{' ' * indent}{name}:{text}"
