"""What can be compared: the out-of-fold guesses of a learner or a meta-learner, of this run or of a revision's.

    strokenet, ranker, super_learner   of the run that is there
    HEAD~1, v1                         the SuperLearner of a revision
    ranker@HEAD~1                      another name of a revision
    a submission of ledger.csv         what it was made from, at the commit of its line; the names above come first

What a revision predicted comes from the DVC cache, or from a remote; nothing is run.
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
from pipeline.foundation.git import git
from pipeline.foundation.places import PARAMS, places
from pipeline.predictions.metrics import CHUNK, GUESSES, top3
from pipeline.stacking.scoreboard import SUPER
from pipeline.submissions import ledger
from pipeline.submissions.sources import BALANCED, mapped


@dataclass(frozen=True)
class Contender:
    """A candidate of a comparison: A or B.

    Attributes:
        name: as it was asked for.
        guesses: (N, 3) labels of each out-of-fold row, best first.
        key_ids: (N,) int64 of the rows.
        labels: (N,) int64 true labels.
        folds: (N,) int64 the fold of each row.
        words: that the labels number.
    """

    name: str
    guesses: np.ndarray
    key_ids: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    words: Words


def contender(asked: str) -> Contender:
    """Find what a name or a revision stands for, and read it.

    Raises:
        SketchstackError: it is unknown, its predictions cannot be had, or a prediction failed.
    """
    name, _, revision = asked.partition("@")
    if not revision and name in names_here():
        return read(asked, name, Path())
    if not revision:
        name, revision = recorded(asked) or (SUPER, asked)
    commit = git("rev-parse", "--verify", "--quiet", f"{experiment(revision) or revision}^{{commit}}")
    if not commit:
        raise SketchstackError(
            f"{asked!r} is nothing to compare: neither one of {', '.join(names_here()) or 'this run (there is none)'}, "
            f"nor a submission in {ledger.LEDGER}, nor an experiment, nor a revision that git knows. Write a name, a "
            f"revision, or name@revision."
        )
    with predictions_of(commit, name) as home:
        return read(asked, name, home)


def experiment(name: str) -> str | None:
    """The git reference of an experiment that `dvc exp run` has kept under this name."""
    kept = git("for-each-ref", "--format=%(refname)", "refs/exps").splitlines()
    return next((ref for ref in kept if ref.rpartition("/")[2] == name), None)


def names_here() -> list[str]:
    """The learners and meta-learners of the run that is there."""
    found = [
        path.name
        for base in (places().base, places().meta)
        if base.is_dir()
        for path in base.iterdir()
        if path.is_dir()
    ]
    return sorted(found)


def recorded(name: str) -> tuple[str, str] | None:
    """What the last submission of that name in the ledger was made from, and at which commit."""
    entries = [entry for entry in ledger.read_ledger() if entry.name == name]
    return (name.removesuffix(BALANCED), entries[-1].commit) if entries else None


def read(asked: str, name: str, home: Path) -> Contender:
    """Read the out-of-fold guesses of a learner or meta-learner.

    Args:
        asked: what to call it.
        name: its own.
        home: where folds/ and models/ are.

    Raises:
        SketchstackError: a file is missing or of other rows than the stack, or a prediction failed.
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
            f"{asked}: its predictions are of other rows than {where.meta}; run `dvc repro -f stack`."
        )
    if {part.shape[1] for part in parts} != {len(words)}:
        raise SketchstackError(f"{asked}: its predictions are not of the {len(words)} words; run `dvc repro`.")
    guesses, start = np.empty((len(key_ids), GUESSES), np.int64), 0
    for part in parts:
        check_numbers(asked, part, key_ids[start : start + len(part)])
        guesses[start : start + len(part)] = top3(part)
        start += len(part)
    return Contender(asked, guesses, np.asarray(key_ids), labels.astype(np.int64), folds.astype(np.int64), words)


def check_numbers(name: str, probabilities: np.ndarray, key_ids: np.ndarray) -> None:
    """Refuse rows whose prediction failed."""
    for start in range(0, len(key_ids), CHUNK):
        failed = ~np.isfinite(probabilities[start : start + CHUNK]).all(axis=1)
        if failed.any():
            row = start + int(failed.argmax())
            raise SketchstackError(
                f"{name}: the prediction of key_id {key_ids[row]} is not a number, so it failed, and its rank would be "
                f"chance; remove its folder below models/ and run `dvc repro`."
            )


@contextmanager
def predictions_of(commit: str, name: str) -> Iterator[Path]:
    """A folder with the words, the stacked rows and one name's out-of-fold predictions of a commit.

    Raises:
        SketchstackError: DVC has them neither in its cache nor in a remote.
    """
    from dvc.api import DVCFileSystem

    with tempfile.TemporaryDirectory(prefix="sketchstack-compare-") as folder:
        tree, home = DVCFileSystem(".", rev=commit), Path(folder)
        fetch = functools.partial(_fetch, tree, home, commit)
        fetch(PARAMS)
        where = places(home)  # that commit's profile may be another
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
    """Bring a file of a commit, out of git, the DVC cache or a remote."""
    place = home / path
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        tree.get_file(f"/{path.as_posix()}", str(place))
    except Exception as error:  # DVC's and those of its remotes, which share no class
        raise SketchstackError(
            f"{path} of commit {commit[:12]} cannot be had ({error}); it must be in the DVC cache here or in a remote: "
            f"`dvc push` it where it was made."
        ) from None
