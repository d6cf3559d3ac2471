"""Scores of submissions on known labels: MAP@3 and top-1, with the out-of-fold score for comparison.

sketchstack score submissions/synthetic/super_learner.csv data/synthetic/test_labels.csv
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pipeline.drawings.words import spell
from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import load_params
from pipeline.foundation.places import places
from pipeline.predictions.metrics import GUESSES, map_at_3
from pipeline.raw.columns import read_columns, read_key_ids, row_place, written_ids
from pipeline.submissions.files import read_manifests


def read_labels(path: Path) -> dict[int, str]:
    """True words by key_id.

    Raises:
        SketchstackError: the file is missing or not a CSV of key_id and word, or a row has no word.
    """
    columns = read_columns(path, ["key_id", "word"])
    for row, word in enumerate(columns["word"], 1):
        if not word.strip():
            raise SketchstackError(f"{path} {row_place(row)} has no word; write the row's true word or remove the row.")
    key_ids = read_key_ids(path, columns["key_id"])
    return dict(zip(written_ids(key_ids).tolist(), (spell(word.strip()) for word in columns["word"]), strict=True))


def read_guesses(path: Path) -> dict[int, list[str]]:
    """One to three guesses by key_id, best first.

    Raises:
        SketchstackError: the file is missing or not a CSV of key_id and word, or a row has no guess or more than three.
    """
    columns = read_columns(path, ["key_id", "word"])
    guesses = [text.split() for text in columns["word"]]
    for row, guessed in enumerate(guesses, 1):
        if not 1 <= len(guessed) <= GUESSES:
            raise SketchstackError(
                f"{path} {row_place(row)} has {len(guessed)} guesses; write one to three words separated by spaces, "
                f"with underscores for spaces inside a word."
            )
    key_ids = read_key_ids(path, columns["key_id"])
    return dict(zip(written_ids(key_ids).tolist(), guesses, strict=True))


def score(submission: Path, labels: Path) -> tuple[float, float]:
    """MAP@3 and top-1 of a submission; rows are matched by key_id, in any order.

    Raises:
        SketchstackError: a file cannot be read, or one file has a row that the other does not have.
    """
    guesses, truth = read_guesses(submission), read_labels(labels)
    for file, rows, other, others in ((submission, guesses, labels, truth), (labels, truth, submission, guesses)):
        lacking = [(row, key_id) for row, key_id in enumerate(rows, 1) if key_id not in others]
        if lacking:
            row, key_id = lacking[0]
            raise SketchstackError(
                f"{file} {row_place(row)} has key_id {key_id}, which {other} lacks ({len(lacking)} such rows); a "
                f"submission and its labels must have the same rows."
            )
    if not guesses:
        raise SketchstackError(f"{submission} has no rows; name a submission with guesses.")
    ranked = np.array([[*guesses[key_id], "", ""][:GUESSES] for key_id in truth])
    words = np.array(list(truth.values()))
    return map_at_3(ranked, words), float((ranked[:, 0] == words).mean())


def scores_of(manifests: list[dict[str, Any]], labels: Path | None) -> dict[str, dict[str, float]]:
    """Each submission's score out of fold and, if labels are known, on the test set."""
    found = {}
    for manifest in manifests:
        found[manifest["name"]] = {"oof_map3": manifest["oof"]["map3"]}
        if labels:
            map3, top1 = score(places().submissions / f"{manifest['name']}.csv", labels)
            found[manifest["name"]] |= {"test_map3": round(map3, 6), "test_top1": round(top1, 6)}
    return found


def draw_table(manifests: list[dict[str, Any]], scores: dict[str, dict[str, float]]) -> str:
    """A table of all submissions as text, the best out of fold first; the best three have a star."""
    table = Table("", "submission", title="MAP@3 of the submissions", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("out of fold", "95% interval", "test", "test top-1"):
        table.add_column(heading, justify="right")
    for known in manifests:
        oof, found = known["oof"], scores[known["name"]]
        test = [f"{found[of]:.4f}" if of in found else "not known" for of in ("test_map3", "test_top1")]
        star = "★" if known["best_three"] else ""
        table.add_row(star, known["name"], f"{oof['map3']:.4f}", f"{oof['low']:.4f}–{oof['high']:.4f}", *test)
    text = io.StringIO()
    Console(file=text, width=100).print(table)
    return text.getvalue()


def score_all() -> None:
    """The stage: submissions and labels → MAP@3 by submission, out of fold and on the test set, and a table."""
    params, manifests = load_params(), read_manifests()
    scores = scores_of(manifests, params.labels_path)
    table = draw_table(manifests, scores)
    if params.labels_path is None:
        table += f"The test labels of the profile {params.profile!r} are not known: scores are out of fold only.\n"
    for name, score_name in (("out_of_fold.json", "oof_map3"), ("test.json", "test_map3")):
        known = {submission: found[score_name] for submission, found in scores.items() if score_name in found}
        with whole_file(places().reports / name) as file:
            file.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    with whole_file(places().reports / "scores.txt") as file:
        file.write_text(table, encoding="utf-8")
    print(table, end="")
