"""The scores of a finished run as a table in results/<profile>.md, and its best submission beside it.

The run's own params.yaml, models/, submissions/ and logs/ tell all of it.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bench.competition import seconds_of
from bench.tables import RESULTS, ROOT, commit, hardware, markdown_table, mean_and_spread
from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.errors import SketchstackError, one_paragraph_errors
from pipeline.foundation.params import Params, load_params
from pipeline.foundation.places import places


def of_folds(home: Path) -> str:
    """Each learner's and meta-learner's MAP@3, best first: mean ± standard deviation over folds, each fold, top-1."""
    df = pd.read_csv(home / places(home).meta / "fold_scores.csv")
    folds = sorted(df.fold.unique())
    rows = []
    for (name, kind), group in df.groupby(["name", "kind"], sort=False):
        by_fold = group.set_index("fold")
        cells = [mean_and_spread([*by_fold.map3], ".4f"), *(f"{by_fold.map3[fold]:.4f}" for fold in folds)]
        rows.append((by_fold.map3.mean(), [str(name), str(kind), *cells, f"{by_fold.top1.mean():.4f}"]))
    header = ["", "kind", "mean ± std", *(f"fold {fold}" for fold in folds), "top-1"]
    return markdown_table(header, [cells for _, cells in sorted(rows, reverse=True)])


def of_submissions(home: Path) -> str:
    """Each submission's MAP@3 out of fold with its interval, best first, and the hash of its bytes."""
    header = ["submission", "MAP@3", "95% interval", "SHA-256 of the CSV"]
    rows = []
    for line in pd.read_csv(home / places(home).submissions / "ranking.csv").itertuples():
        interval = f"{line.low:.4f} to {line.high:.4f}"
        rows.append([str(line.name), f"{line.oof_map3:.4f}", interval, f"`{str(line.sha256)[:16]}…`"])
    return markdown_table(header, rows)


def of_time(home: Path, params: Params) -> str:
    """Seconds of fitting and predicting, a row a base learner, and the sum of its folds.

    Raises:
        SketchstackError: a stage has left no times.
    """
    rows = []
    for name in params.base_learners:
        spent = [sum(seconds_of(home, name, fold).values()) for fold in params.folds]
        rows.append([name, *(f"{seconds:,.0f}" for seconds in spent), f"{sum(spent):,.0f}"])
    return markdown_table(["seconds", *(f"fold {fold}" for fold in params.folds), "all"], rows)


def page(home: Path, params: Params, notes: Sequence[str]) -> str:
    """All tables of a run.

    Args:
        home: where it ran.
        params: those of the run.
        notes: what else a reader should know, a paragraph each.
    """
    summary = json.loads((home / places(home).folds / "summary.json").read_text())
    rows = sum(summary["rows_out"][f"fold{fold}"] for fold in params.folds)
    parts = [
        f"# The {params.profile} profile: {len(summary['rows_a_word'])} words, {rows:,} drawings",
        f"{len(params.folds)} folds × {len(params.base_learners)} base learners, profiles/{params.profile}.yaml at "
        f"commit {commit()}. {hardware()}.",
        *notes,
        "MAP@3 out of fold; the meta-learners and the SuperLearner are fitted on the other folds' rows.",
        of_folds(home),
        f"Submissions; the first is `{params.profile}_submission.csv.gz`.",
        of_submissions(home),
        "Fitting and predicting, by the clock:",
        of_time(home, params),
    ]
    return "\n\n".join(parts) + "\n"


def store(home: Path, notes: Sequence[str], folder: Path = RESULTS) -> Path:
    """Write the page and the best submission; the page's place.

    Raises:
        SketchstackError: the run is not finished, or not of a profile.
    """
    for path in (places(home).meta / "fold_scores.csv", places(home).submissions / "ranking.csv"):
        if not (home / path).exists():
            raise SketchstackError(f"{home / path} is absent: run `dvc repro` in {home} first.")
    params = load_params(home / "params.yaml")
    profile = ROOT / "profiles" / f"{params.profile}.yaml"
    if params != load_params(profile):
        raise SketchstackError(
            f"{home / 'params.yaml'} is not {profile}, so nobody could repeat the run; adopt its params."
        )
    text, best = page(home, params, notes), pd.read_csv(home / places(home).submissions / "ranking.csv").name[0]
    manifest = json.loads((home / places(home).submissions / f"{best}.json").read_text())
    made_from = manifest["params"]["learners"]
    if made_from != {name: params.learner(name).model_dump() for name in made_from}:
        raise SketchstackError(f"{home}/submissions were made with other params; run `dvc repro` there first.")
    path = folder / f"{params.profile}.md"
    with whole_file(folder / f"{params.profile}_submission.csv.gz") as file:
        file.write_bytes(gzip.compress((home / places(home).submissions / f"{best}.csv").read_bytes(), mtime=0))
    with whole_file(path) as file:
        file.write_text(text, encoding="utf-8")
    return path


@one_paragraph_errors
def main() -> None:
    """Record the scores of a finished run."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--home", type=Path, default=Path(), help="where it ran (the working directory)")
    parser.add_argument("--note", action="append", default=[], help="a paragraph for the page; may come again")
    asked = parser.parse_args()
    print(f"Recorded in {store(asked.home, asked.note)}.")


if __name__ == "__main__":
    main()
