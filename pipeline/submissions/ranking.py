"""Stage `submit`: probabilities → checked, ranked top-3 submissions.

A submission is ranked by its out-of-fold MAP@3. Its 95% interval resamples the rows (bootstrap), so it covers the
uncertainty from the choice of drawings, not from fitting the networks. The gain of balancing is measured on out-of-fold
rows drawn like the test set, each word equally often: the same draw is scored unbalanced and balanced, the mean gain of
several draws is added to the unbalanced score, and both the rows and the draws widen the interval. A fold's rows are
predicted by one model and the test rows by the mean over the fold models, so the test score of a base learner should be
a little higher than its out-of-fold score.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pipeline.drawings.words import Words, load_words
from pipeline.foundation.artefacts import file_hash, whole_folder
from pipeline.foundation.environment import record_environment
from pipeline.foundation.errors import SketchstackError
from pipeline.foundation.params import Params, learner_of
from pipeline.foundation.places import places
from pipeline.predictions.bootstrap import interval, resampled_means
from pipeline.predictions.metrics import CHUNK, guesses_a_row, precision_at_3, top3
from pipeline.raw.packing import packed_beside
from pipeline.submissions.balance import balanced_guesses, check_drawable, draw_evenly, gains, uniform
from pipeline.submissions.files import check_submission, known_words, read_manifests, sample_key_ids, write_submission
from pipeline.submissions.others import RANKING, others
from pipeline.submissions.sources import BALANCED, COMBINATIONS, Source, StackedRows, open_sources, read_stacked_rows

BEST = 3  # number of submissions to mark
DRAWS = 5  # draws that measure the gain of balancing
ENOUGH_DRAWN = 1000  # rows of a draw from which its gain counts as it is; of fewer rows, a gain beyond chance
BEYOND_CHANCE = 3.0  # standard errors
RESAMPLES = 2000  # bootstrap samples per interval
BOOTSTRAP = 95  # part of the bootstrap's random seed


@dataclass(frozen=True)
class Entry:
    """A submission before it is written.

    Attributes:
        name: of its file, without suffix.
        source: of its probabilities.
        guesses: (T, 3) labels of the test rows, best first; (T, 2) where there are two words.
        oof: its out-of-fold score with interval, as in the manifest.
        balance: result of balancing the test probabilities, as in the manifest; None if it is not balanced.
    """

    name: str
    source: Source
    guesses: np.ndarray
    oof: dict[str, Any]
    balance: dict[str, Any] | None


def oof_precision(source: Source, labels: np.ndarray) -> np.ndarray:
    """Each out-of-fold row's average precision at 3, (N,) float64, read in chunks."""
    starts = range(0, len(labels), CHUNK)
    chunks = [np.arange(start, min(start + CHUNK, len(labels))) for start in starts]
    found = [precision_at_3(top3(source.oof(rows)), labels[rows]) for rows in chunks]
    return np.concatenate(found)


def plain_score(precision: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    """MAP@3 of rows with these precisions (N,), and its 95% interval over rows."""
    return _score(precision.mean(), resampled_means(precision, RESAMPLES, rng), len(precision))


def balanced_score(precision: np.ndarray, drawn: list[np.ndarray], rng: np.random.Generator) -> dict[str, Any]:
    """MAP@3 after balancing: the unbalanced score plus the mean gain of several draws, and its 95% interval.

    Each bootstrap sample uses the gain of one resampled draw and not of all, so the interval is conservative. A gain
    that chance explains, of few rows, is told and not added: else the luckiest of many balanced submissions would rank
    first.

    Args:
        precision: (N,) of all out-of-fold rows, not balanced.
        drawn: for each draw, the gain of balancing in the precision of each of its rows.
        rng: random generator.
    """
    plain = resampled_means(precision, RESAMPLES, rng)
    gain = np.concatenate([resampled_means(rows, RESAMPLES // len(drawn), rng) for rows in drawn])
    means = np.array([rows.mean() for rows in drawn])
    added = means.mean() if _counts(drawn) else 0.0
    score = _score(np.clip(precision.mean() + added, 0, 1), plain + gain, len(precision))
    spread = {"gain": round(means.mean(), 6), "gain_std": round(means.std(ddof=1), 6)}
    found = {**score, **spread, "draws": len(drawn), "draw_rows": len(drawn[0])}
    if not _counts(drawn):  # the interval has the gain, and so may miss the score without it
        found |= {"low": min(found["low"], found["map3"]), "high": max(found["high"], found["map3"])}
        found["gain_counts"] = False
    return found


def _counts(drawn: list[np.ndarray]) -> bool:
    """Whether the gain of balancing, in each row of each draw, is measured well enough to rank by it."""
    rows = len(drawn[0])
    if rows >= ENOUGH_DRAWN:
        return True
    every = np.concatenate(drawn)
    # A quarter of a row whose gain is another guards against rows that are all alike; draws share their rows.
    error = np.sqrt((every.var() + 0.25 / rows) / rows)
    return bool(abs(every.mean()) > BEYOND_CHANCE * error)


def _score(map3: float, resampled: np.ndarray, rows: int) -> dict[str, Any]:
    low, high = interval(resampled)
    return {"map3": round(float(map3), 6), "low": round(low, 6), "high": round(high, 6), "rows": rows}


def enter(source: Source, rows: StackedRows, words: Words, params: Params) -> Iterator[Entry]:
    """The submissions of a source: unbalanced, and balanced if params give the prior of the test set.

    A test set with fewer rows than words cannot have each word equally often, so it gets no balanced submission.
    """
    precision = oof_precision(source, rows.labels)
    test = source.test()
    plain = plain_score(precision, np.random.default_rng([params.seed, BOOTSTRAP]))
    yield Entry(source.name, source, top3(test), plain, None)
    if params.submit.prior is None or len(rows.test) < len(words):
        return
    most = len(rows.test) // len(words)
    drawn = []
    for seed in range(DRAWS):  # the same draws for every source
        draw = draw_evenly(rows.labels, len(words), most, np.random.default_rng([params.seed, seed]))
        drawn.append(gains(source.oof(draw), rows.labels[draw], params.submit.balance))
    score = balanced_score(precision, drawn, np.random.default_rng([params.seed, BOOTSTRAP]))
    balanced = balanced_guesses(test, uniform(len(words)), params.submit.balance)
    yield Entry(
        f"{source.name}{BALANCED}", source, balanced.best, score, {"prior": params.submit.prior, **balanced.done}
    )


def rank(entries: list[Entry]) -> list[Entry]:
    """Best out-of-fold MAP@3 first, ties by name."""
    return sorted(entries, key=lambda entry: (-entry.oof["map3"], entry.name))


def in_sample_order(
    guesses: np.ndarray, test: np.ndarray, sample: np.ndarray, num_words: int
) -> tuple[np.ndarray, int]:
    """Arrange guesses in the order of the sample submission, and fill in guesses for rejected drawings.

    A row without a prediction gets the three words that are guessed most often, ties in label order.

    Args:
        guesses: (T, 3) labels.
        test: (T,) key_ids of their rows.
        sample: (N,) key_ids of the sample submission.
        num_words: how many words there are.

    Returns:
        (N, 3) labels, and the number of rows without a prediction.

    Raises:
        SketchstackError: there are predictions for rows that are not in the sample.
    """
    if len(unasked := test[~np.isin(test, sample)]):
        raise SketchstackError(
            f"the sample submission lacks key_id {unasked[0]} and {len(unasked) - 1} more of the test drawings, so the "
            f"two files are of different competitions; see data.test and data.sample_submission in params.yaml."
        )
    arranged = np.tile(_commonest(guesses, num_words), (len(sample), 1))
    order = np.argsort(test)
    predicted = np.isin(sample, test)
    arranged[predicted] = guesses[order[np.searchsorted(test, sample[predicted], sorter=order)]]
    return arranged, int((~predicted).sum())


def _commonest(guesses: np.ndarray, num_words: int) -> np.ndarray:
    """The most frequent labels among guesses (T, 3), as many as a row has; ties in label order."""
    counts = np.bincount(guesses.ravel(), minlength=num_words)
    return np.argsort(-counts, kind="stable")[: guesses_a_row(num_words)]


def write_entry(
    folder: Path, entry: Entry, place: int, *, test: np.ndarray, asked: np.ndarray, words: Words, params: Params
) -> None:
    """Write one submission, check it as it is on disk, and write its manifest.

    Args:
        folder: takes both.
        entry: the submission.
        place: its rank, from 1.
        test: (T,) key_ids of the rows of its guesses.
        asked: (N,) key_ids that the sample submission asks for, in order.
        words: the words of its labels.
        params: those in force.
    """
    guesses, missing = in_sample_order(entry.guesses, test, asked, len(words))
    file = folder / f"{entry.name}.csv"
    write_submission(file, asked, guesses, words)
    check_submission(file, asked, known_words(params.sample_path))
    written = file_hash(file)
    shared = {str(path): file_hash(path) for path in (places().folds / "words.json", packed_beside(params.sample_path))}
    manifest = {
        "name": entry.name,
        "rank": place,
        "best_three": place <= BEST,
        "oof": entry.oof,
        "balance": entry.balance,
        "sha256": written,
        "rows": len(asked),
        "rows_without_prediction": missing,
        "inputs": {**shared, **entry.source.hashes},
        "params": made_from(entry.source, params),
    }
    file.with_suffix(".json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def made_from(source: Source, params: Params) -> dict[str, Any]:
    """The params that a submission depends on."""
    shared = params.model_dump(include={"profile", "seed", "threads", "devices", "folds", "shuffle", "oof", "submit"})
    taught = any(name != learner_of(name) for name in source.learners)
    names = [learner_of(name) for name in source.learners] + [params.pseudo.teacher] * taught
    learners = {name: params.learners[name].model_dump() for name in names}
    pseudo = {"pseudo": params.pseudo.model_dump(exclude={"learners"})} if taught else {}
    stack = {"stack": params.stack.model_dump()} if source.name in COMBINATIONS else {}
    return {**shared, "learners": learners, **pseudo, **stack}


def keep_others(former: Path, folder: Path) -> None:
    """Copy what is not of an earlier run: a submission of one's own stays; one that has left the ensemble goes."""
    for path in others(former):
        if not (folder / path.name).exists():
            copy = shutil.copytree if path.is_dir() else shutil.copy2
            copy(path, folder / path.name)


def write_ranking(folder: Path, manifests: list[dict[str, Any]]) -> None:
    """Write ranking.csv: a line per submission, best first."""
    columns = "rank,name,oof_map3,low,high,best_three,sha256"
    lines = [
        f"{known['rank']},{known['name']},{known['oof']['map3']:.6f},{known['oof']['low']:.6f},{known['oof']['high']:.6f},"
        f"{str(known['best_three']).lower()},{known['sha256']}"
        for known in manifests
    ]
    (folder / RANKING).write_text("\n".join([columns, *lines, ""]), encoding="utf-8")


def print_ranking(manifests: list[dict[str, Any]]) -> None:
    """Print all submissions, best first; the best three have a star."""
    table = Table("", "submission", title="Submissions, by MAP@3 out of fold", box=SIMPLE_HEAD, title_justify="left")
    for heading in ("MAP@3", "95% interval", "gain of balancing", "rows", "no prediction"):
        table.add_column(heading, justify="right")
    for known in manifests:
        oof = known["oof"]
        gain = f"{oof['gain']:+.4f} ± {oof['gain_std']:.4f}" if "gain" in oof else ""
        gain += "" if oof.get("gain_counts", True) else " (chance)"
        table.add_row(
            "★" if known["best_three"] else "", known["name"],
            f"{oof['map3']:.4f}", f"{oof['low']:.4f}–{oof['high']:.4f}", gain,
            str(known["rows"]), str(known["rows_without_prediction"]),
        )  # fmt: skip
    Console(width=110).print(table)


def write_submissions(params: Params) -> None:
    """The stage: probabilities → submissions, manifests, ranking."""
    words, rows, asked = load_words(places().folds), read_stacked_rows(), sample_key_ids(params.sample_path)
    if params.submit.prior and len(rows.test) >= len(words):
        check_drawable(rows.labels, words)
    if params.submit.prior and len(rows.test) < len(words):
        print(f"No balanced submissions: {len(rows.test)} test drawings cannot show {len(words)} words equally often.")
    sources = list(open_sources(params, words, rows))
    entries = rank([entry for source in sources for entry in enter(source, rows, words, params)])
    with whole_folder(places().submissions) as folder:
        for place, entry in enumerate(entries, 1):
            write_entry(folder, entry, place, test=rows.test, asked=asked, words=words, params=params)
        manifests = read_manifests(folder)
        write_ranking(folder, manifests)
        keep_others(places().submissions, folder)
    record_environment([manifest["sha256"] for manifest in manifests])
    print_ranking(manifests)
