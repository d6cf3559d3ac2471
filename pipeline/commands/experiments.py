"""Experiments saved by `dvc exp run`, with their commit: scores, and the params that differ (`make experiments`).

`dvc exp show` has a column for every param, input file and score, about two hundred; this table has only what people
compare.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pipeline.foundation.commandline import Parser
from pipeline.foundation.errors import SketchstackError, one_paragraph_errors
from pipeline.foundation.git import git_trouble
from pipeline.foundation.nested import changed, flattened
from pipeline.foundation.places import PARAMS
from pipeline.stacking.scoreboard import SUPER
from pipeline.submissions.sources import BALANCED, MEAN

OOF, TEST = "out_of_fold.json", "test.json"  # of reports/<profile>/


class Experiment(NamedTuple):
    """A run saved by DVC: a commit, or an experiment based on one.

    Attributes:
        name: of the experiment, or the branch or hash of the commit.
        created: date and time as DVC writes them.
        oof, test: MAP@3 by submission; empty if there is none.
        changes: params that differ from those of the commit, as text.
    """

    name: str
    created: str
    oof: Mapping[str, float]
    test: Mapping[str, float]
    changes: list[str]

    @property
    def score(self) -> float:
        """The out-of-fold score of the SuperLearner; lower than any score if there is none."""
        return self.oof.get(SUPER, -1.0)

    @property
    def best_learner(self) -> tuple[str, float] | None:
        """The base learner with the best score."""
        base = {name: score for name, score in self.oof.items() if not name.endswith(BALANCED)}
        found = [(score, name) for name, score in base.items() if name not in (SUPER, MEAN)]
        return (max(found)[1], max(found)[0]) if found else None


def experiments(shown: list[dict[str, Any]]) -> Iterator[list[Experiment]]:
    """Groups of runs from `dvc exp show --json`: each commit, followed by the experiments based on it.

    Args:
        shown: the parsed list; its first entry, the work tree, is skipped.
    """
    for commit in shown[1:]:
        before = _params(commit)
        kept = [revs[0] for each in commit.get("experiments") or [] if (revs := each.get("revs"))]
        yield [_experiment(entry, before) for entry in (commit, *kept)]


def _experiment(entry: dict[str, Any], before: Mapping[str, Any]) -> Experiment:
    data = entry.get("data") or {}
    metrics = data.get("metrics") or {}
    oof, test = (_scores(metrics, name) for name in (OOF, TEST))
    changes = changed(before, _params(entry))
    return Experiment(entry.get("name") or entry["rev"][:7], str(data.get("timestamp") or "")[:16], oof, test, changes)


def _scores(metrics: Mapping[str, Any], name: str) -> dict[str, float]:
    """MAP@3 by submission from the metrics file of that name, for any profile."""
    found = [value for place, value in metrics.items() if Path(place).name == name]
    return (found[0] or {}).get("data") or {} if found else {}


def _params(entry: dict[str, Any]) -> dict[str, Any]:
    params = ((entry.get("data") or {}).get("params") or {}).get(str(PARAMS)) or {}
    return dict(flattened(params.get("data") or {}))


def draw(groups: Iterable[list[Experiment]]) -> Table:
    """A line per experiment: each commit, then the experiments based on it, best first, with the gain over it."""
    table = Table(title="Experiments: MAP@3", title_justify="left", box=SIMPLE_HEAD)
    for heading, number in (
        ("experiment", False), ("created", False), ("SuperLearner", True), ("gain", True), ("best learner", False),
        ("test", True), ("params", False),
    ):  # fmt: skip
        table.add_column(heading, justify="right" if number else "left", overflow="fold", no_wrap=number)
    for first, *rest in groups:
        for each in (first, *sorted(rest, key=lambda one: -one.score)):
            best, known = each.best_learner, SUPER in each.oof
            table.add_row(
                each.name,
                each.created[len("2026-") :].replace("T", " "),
                f"{each.score:.4f}" if known else "none",
                f"{each.score - first.score:+.4f}" if each is not first and known and SUPER in first.oof else "",
                f"{best[0]} {best[1]:.4f}" if best else "",
                f"{each.test[SUPER]:.4f}" if SUPER in each.test else "",
                "; ".join(each.changes) or "as committed",
            )
    return table


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Show the experiments of this commit."""
    parser = Parser("experiments", main.__doc__, "sketchstack experiments --commits 3")
    parser.add_argument("--commits", type=int, default=1, help="the number of commits to show (%(default)s)")
    given: Any = parser.parse_args(arguments)
    if trouble := git_trouble():
        raise SketchstackError(f"experiments are commits of git: {trouble}.")
    dvc = shutil.which("dvc", path=str(Path(sys.executable).parent)) or "dvc"
    command = [dvc, "exp", "show", "--json", "--num", str(given.commits)]
    asked = subprocess.run(command, check=False, capture_output=True, text=True)
    if asked.returncode:
        raise SketchstackError(f"`dvc exp show` failed: {' '.join(asked.stderr.split())}")
    found = list(experiments(json.loads(asked.stdout)))
    if not found:
        raise SketchstackError("there is no commit yet to base an experiment on; commit the project first.")
    Console().print(draw(found))


if __name__ == "__main__":
    main()
