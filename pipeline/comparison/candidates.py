"""Candidates of a comparison: out-of-fold guesses of a learner or meta-learner, of this run or of a git revision.

    strokenet, ranker, super_learner   of the run in the working directory
    HEAD~1, v1                         the SuperLearner of a revision
    ranker@HEAD~1                      another learner or meta-learner of a revision
    a submission of ledger.csv         the meta-learner behind it, at the recorded commit; the names above come first

The predictions of a revision come from the DVC cache or a remote; nothing is run.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.drawings.words import Words, load_words
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.git import git, why_no_commit
from pipeline.foundation.places import PARAMS, places
from pipeline.predictions.metrics import CHUNK, top3
from pipeline.raw.columns import written_id
from pipeline.stacking.scoreboard import SUPER
from pipeline.submissions import ledger
from pipeline.submissions.sources import BALANCED, mapped


@dataclass(frozen=True)
class Candidate:
    """A candidate of a comparison: A or B.

    Attributes:
        name: as the user wrote it.
        guesses: (N, min(3, num_words)) int64 guessed labels of each out-of-fold row, best first.
        key_ids: (N,) int64 of the rows.
        labels: (N,) int64 true labels.
        folds: (N,) int64 the fold of each row.
        words: the words; a label is a word's position in them.
    """

    name: str
    guesses: np.ndarray
    key_ids: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    words: Words


def candidate(asked: str) -> Candidate:
    """Read the candidate that a name or a revision stands for.

    Raises:
        SketchstackError: the name is unknown, its predictions are not available, or a prediction failed.
    """
    name, _, revision = asked.partition("@")
    if not revision and name in names_here():
        return read(asked, name, Path())
    if not revision:
        name, revision = recorded(asked) or (SUPER, asked)
    commit = git("rev-parse", "--verify", "--quiet", f"{experiment(revision) or revision}^{{commit}}")
    if not commit:
        if trouble := why_no_commit(revision):
            known = ", ".join(names_here()) or "this run (there is none)"
            raise SketchstackError(
                f"{asked!r} cannot be compared: it is not one of {known}, and revisions cannot be looked up. {trouble}"
            )
        raise SketchstackError(
            f"{asked!r} cannot be compared: it is not one of {', '.join(names_here()) or 'this run (there is none)'}, "
            f"not a submission in {ledger.LEDGER}, not an experiment and not a git revision. Write a name, a revision, "
            f"or name@revision."
        )
    with predictions_of(commit, name) as home:
        return read(asked, name, home)


def experiment(name: str) -> str | None:
    """The git reference of the experiment that `dvc exp run` saved under this name."""
    kept = git("for-each-ref", "--format=%(refname)", "refs/exps").splitlines()
    return next((ref for ref in kept if ref.rpartition("/")[2] == name), None)


def names_here() -> list[str]:
    """The learners and meta-learners of the run in the working directory."""
    found = [
        path.name
        for base in (places().base, places().meta)
        if base.is_dir()
        for path in base.iterdir()
        if path.is_dir()
    ]
    return sorted(found)


def recorded(name: str) -> tuple[str, str] | None:
    """The meta-learner and the commit of the last submission of that name in the ledger."""
    entries = [entry for entry in ledger.read_ledger() if entry.name == name]
    return (name.removesuffix(BALANCED), entries[-1].commit) if entries else None


def read(asked: str, name: str, home: Path) -> Candidate:
    """Read the out-of-fold guesses of a learner or meta-learner.

    Args:
        asked: the candidate's name in the comparison.
        name: of the learner or meta-learner.
        home: the folder that holds folds/ and models/.

    Raises:
        SketchstackError: a file is missing, its rows are not those of the stack, or a prediction failed.
    """
    where = places(home)
    words = load_words(home / where.folds)
    key_ids, labels, folds = (mapped(home / where.meta / f"{of}.npy") for of in ("rows", "labels", "folds"))
    if (home / where.base / name).is_dir():
        models = [home / where.base / name / f"fold{fold}" for fold in np.unique(folds)]
        own_rows = np.concatenate([mapped(model / "rows.npy") for model in models])
        parts = [mapped(model / "oof.npy") for model in models]
    else:
        own_rows, parts = key_ids, [mapped(home / where.meta / name / "oof.npy")]
    if not np.array_equal(own_rows, key_ids) or sum(map(len, parts)) != len(key_ids):
        raise SketchstackError(
            f"{asked}: its predictions are not of the rows in {where.meta}; run `dvc repro -f stack`."
        )
    if {part.shape[1] for part in parts} != {len(words)}:
        raise SketchstackError(f"{asked}: its predictions do not have {len(words)} words; run `dvc repro`.")
    guesses, start = [], 0
    for part in parts:
        check_numbers(asked, part, key_ids[start : start + len(part)])
        guesses.append(top3(part))
        start += len(part)
    return Candidate(
        asked, np.concatenate(guesses), np.asarray(key_ids), labels.astype(np.int64), folds.astype(np.int64), words
    )


def check_numbers(name: str, probabilities: np.ndarray, key_ids: np.ndarray) -> None:
    """Refuse rows whose prediction failed: a probability is not a finite number."""
    for start in range(0, len(key_ids), CHUNK):
        failed = ~np.isfinite(probabilities[start : start + CHUNK]).all(axis=1)
        if failed.any():
            row = start + int(failed.argmax())
            raise SketchstackError(
                f"{name}: the prediction of key_id {written_id(key_ids[row])} failed: it is not a number, so its rank "
                f"would be random; remove the folder of {name} below models/ and run `dvc repro`."
            )


@contextmanager
def predictions_of(commit: str, name: str) -> Iterator[Path]:
    """A temporary folder with the words, the stacked rows and the out-of-fold predictions of `name` at a commit.

    Raises:
        SketchstackError: a file is neither in the DVC cache nor in a remote.
    """
    from dvc.api import DVCFileSystem

    with tempfile.TemporaryDirectory(prefix="sketchstack-compare-") as folder:
        tree, home = DVCFileSystem(".", rev=commit), Path(folder)
        fetch = functools.partial(_fetch, tree, home, commit)
        fetch(PARAMS)
        where = places(home)  # that commit may have another profile
        fetch(where.folds / "words.json")
        for of in ("rows", "labels", "folds"):
            fetch(where.meta / f"{of}.npy")
        if tree.isdir(f"/{where.base / name}"):
            for place in sorted(tree.ls(f"/{where.base / name}", detail=False)):
                for of in ("rows", "oof"):
                    fetch(Path(str(place).strip("/")) / f"{of}.npy")
        else:
            fetch(where.meta / name / "oof.npy")
        yield home


def _fetch(tree: Any, home: Path, commit: str, path: Path) -> None:
    """Copy a file of a commit from git, the DVC cache or a remote to `home`."""
    place = home / path
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        tree.get_file(f"/{path.as_posix()}", str(place))
    except Exception as error:  # errors of DVC and of its remotes share no base class
        raise SketchstackError(
            f"{path} of commit {commit[:12]} is not available ({error}); it must be in the DVC cache or in a remote: "
            f"run `dvc push` on the machine that made it."
        ) from None
