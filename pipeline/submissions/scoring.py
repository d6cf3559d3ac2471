"""Scores of submissions on known labels: MAP@3 and top-1, with the out-of-fold score for comparison.

sketchstack score submissions/synthetic/super_learner.csv data/synthetic/test_labels.csv
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pipeline.drawings.spellings import Spellings
from pipeline.drawings.words import Words, spell
from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import Params, load_params
from pipeline.foundation.places import places
from pipeline.foundation.spreadsheets import rounded, why_unknown
from pipeline.predictions.metrics import GUESSES, map_at_3
from pipeline.raw.columns import read_columns, read_key_ids, row_place, written_ids
from pipeline.raw.listing import training_files
from pipeline.submissions.files import read_manifests, words_beside


def every_word(params: Params) -> Words:
    """All words of the raw folder, those too that `shuffle.words` leaves out."""
    shuffle = params.shuffle.model_copy(update={"words": "all"})
    return training_files(params.model_copy(update={"shuffle": shuffle}))[0]


def _known_words(params: Params) -> Words | None:
    """The words of the competition; None without its training files, or without labels."""
    train = Path(params.data.folder, params.data.train)
    there = train.is_dir() or train.with_name(f"{train.name}.zip").is_file()
    return every_word(params) if there and params.labels_path else None


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


def true_words(labels: Path, key_ids: Iterable[int], asking: Path, words: Words | None) -> dict[int, str]:
    """True words by key_id, each in the spelling of the competition.

    Args:
        labels: the file of true words.
        key_ids: of the rows that must have one, no others may.
        asking: the file of these rows: a submission or a sample submission.
        words: of the competition; None if they are not known, then the words stay as they are.

    Raises:
        SketchstackError: the file cannot be read, has other rows, or has a word that the competition does not have.
    """
    truth, asked = read_labels(labels), dict.fromkeys(key_ids)
    for file, rows, other, others in ((asking, asked, labels, truth), (labels, truth, asking, asked)):
        lacking = [(row, key_id) for row, key_id in enumerate(rows, 1) if key_id not in others]
        if lacking:
            row, key_id = lacking[0]
            at_fault = [key_id for _, key_id in lacking] if not rounded(others) else list(others)
            raise SketchstackError(
                f"{file} {row_place(row)} has key_id {key_id}, which {other} lacks ({len(lacking)} such rows); a "
                f"submission and its labels must have the same rows.{why_unknown(at_fault)}"
            )
    return _spelled(labels, truth, words) if words else truth


def _spelled(labels: Path, truth: dict[int, str], words: Words) -> dict[int, str]:
    """The true words in the spelling of the competition."""
    spellings, found = Spellings(words.names), dict[int, str]()
    for row, (key_id, word) in enumerate(truth.items(), 1):
        known = spellings.find(word)
        if known is None:
            unknown = [each for each in truth.values() if spellings.find(each) is None]
            raise SketchstackError(
                f"{labels} {row_place(row)} has the word {word!r}, which is none of the {len(words)} words of the "
                f"competition (similar: {spellings.similar(word)}); {len(unknown)} of its {len(truth)} rows have "
                f"such a word. Write the words as the training files are named."
            )
        found[key_id] = known
    return found


def score(submission: Path, labels: Path, words: Words | None = None) -> tuple[float, float]:
    """MAP@3 and top-1 of a submission; rows are matched by key_id, in any order, words in any spelling.

    Args:
        submission: its CSV.
        labels: the CSV of true words.
        words: of the competition; None for those of the training files beside the labels, if there are any.

    Raises:
        SketchstackError: a file cannot be read, one file has a row that the other does not have, or a label is no word
            of the competition.
    """
    guesses = read_guesses(submission)
    if not guesses:
        raise SketchstackError(f"{submission} has no rows; name a submission with guesses.")
    known = words or words_beside(labels)
    truth = true_words(labels, guesses, submission, known)
    spellings = Spellings(known.names if known else {guess for row in guesses.values() for guess in row})
    ranked = [[spellings.find(guess) or guess for guess in guesses[key_id]] for key_id in truth]
    true = [spellings.find(word) or word for word in truth.values()]
    _tell_spellings(submission, sum(row != guesses[key_id] for row, key_id in zip(ranked, truth, strict=True)))
    if not known and not {guess for row in ranked for guess in row} & set(true):
        print(
            f"Warning: no word of {labels} is guessed anywhere in {submission} (its first is {true[0]!r}, the first "
            f"guess {ranked[0][0]!r}): the two may be of different competitions.",
            flush=True,
        )
    best = np.array([[*row, "", ""][:GUESSES] for row in ranked])
    return map_at_3(best, np.array(true)), float((best[:, 0] == np.array(true)).mean())


def _tell_spellings(submission: Path, rows: int) -> None:
    if rows:
        print(
            f"Warning: {rows} rows of {submission} spell a guess otherwise than the competition does. They are scored "
            f"all the same, but Kaggle would count such a guess as wrong: `sketchstack submit --check {submission}` "
            f"names them.",
            flush=True,
        )


def scores_of(
    manifests: list[dict[str, Any]], labels: Path | None, words: Words | None = None
) -> dict[str, dict[str, float]]:
    """Each submission's score out of fold and, if labels are known, on the test set."""
    found = {}
    for manifest in manifests:
        found[manifest["name"]] = {"oof_map3": manifest["oof"]["map3"]}
        if labels:
            map3, top1 = score(places().submissions / f"{manifest['name']}.csv", labels, words)
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
    scores = scores_of(manifests, params.labels_path, _known_words(params))
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
