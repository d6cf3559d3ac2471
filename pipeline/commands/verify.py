"""How well a probability answers "is this drawing of the word that it claims to be?", for all words and by word.

    sketchstack verify                                  the SuperLearner of this run
    sketchstack verify --model strokenet --out verified a learner, with every word in files

A claim is accepted if the probability of the claimed word is at least a threshold. FAR is the share of false claims
that are accepted, FRR the share of true claims that are rejected, EER the rate at which both are the same.

    DIR/verification.json  all figures
        verification.csv   a row per word
        det.png            the DET curve
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.drawings.words import Words, load_words
from pipeline.foundation.commandline import Parser, nearest
from pipeline.foundation.contents import check_replaceable, own_folder
from pipeline.foundation.errors import SketchstackError, one_paragraph_errors
from pipeline.foundation.params import Params, load_params
from pipeline.foundation.places import places
from pipeline.foundation.spreadsheets import safe_row
from pipeline.predictions.metrics import CHUNK
from pipeline.predictions.verification import FALSE_ACCEPTS, LEAST_ACCEPTED, OperatingPoint, Scores, count_scores
from pipeline.report.charts import png
from pipeline.report.verification import det_chart, one_in, percent, threshold_text
from pipeline.stacking.combination import SUPER, models_of
from pipeline.submissions.sources import Source, StackedRows, open_source, read_stacked_rows

SHOWN = 5  # hardest words, and as many easiest
JSON, CSV, PICTURE = "verification.json", "verification.csv", "det.png"


def open_model(name: str, params: Params, words: Words, rows: StackedRows) -> Source:
    """The out-of-fold predictions of a learner, a meta-learner or the SuperLearner.

    Raises:
        SketchstackError: the name is unknown, or its predictions are missing, stale or damaged.
    """
    if name not in (known := models_of(params)):
        raise SketchstackError(
            f"--model {name} is not in params.yaml, which names {', '.join(known)}{nearest(name, known)}"
        )
    return open_source(name, params, words, rows)


def chunks(source: Source, rows: int) -> Iterator[np.ndarray]:
    """The out-of-fold probabilities of all rows, (n, num_words) at a time."""
    for start in range(0, rows, CHUNK):
        yield source.oof(np.arange(start, min(start + CHUNK, rows)))


def show(name: str, scores: Scores, words: Words, seed: int, console: Console) -> None:
    """Print the figures of all words pooled, and of the hardest and easiest words."""
    intervals = scores.intervals(np.random.default_rng([seed, 96]))
    low, high = intervals["eer"]
    console.print(
        f"Verification by {name}, out of fold: {scores.rows.sum():,} rows of {(scores.rows > 0).sum()} words, "
        f"{scores.impostors.sum():,} false claims. EER {percent(float(scores.pooled.eer))}, 95% interval "
        f"{percent(low)} to {percent(high)}."
    )
    console.print(_points_table(scores, intervals))
    console.print(_words_table(scores, words, seed))
    if any(scores.is_rough(rate) for rate in FALSE_ACCEPTS):
        console.print(f"~ rough: fewer than {LEAST_ACCEPTED} accepted false claims stand behind this threshold.")
    if any(scores.is_pooled(label, rate) for label in range(len(words)) for rate in FALSE_ACCEPTS[:2]):
        console.print(
            f"* at the threshold of all words: fewer than {LEAST_ACCEPTED} accepted false claims would stand behind "
            f"the word's own."
        )


def _points_table(scores: Scores, intervals: dict[str, tuple[float, float]]) -> Table:
    table = _empty_table("All words pooled, each of the same weight", "FAR", "threshold", "FRR", "95% interval")
    for point in scores.pooled_points():
        low, high = intervals[f"frr at {point.false_accept}"]
        mark = " ~" if scores.is_rough(point.false_accept) else ""
        threshold = f"{threshold_text(point.threshold)}{mark}"
        table.add_row(one_in(point.false_accept), threshold, percent(point.frr), f"{percent(low)} to {percent(high)}")
    return table


def _words_table(scores: Scores, words: Words, seed: int) -> Table:
    """The hardest words, then the easiest."""
    first, second = map(one_in, FALSE_ACCEPTS[:2])
    table = _empty_table(
        "The hardest words, then the easiest", "word", "rows", "EER", "95% interval", f"FRR at {first}",
        f"FRR at {second}", f"threshold at {first}",
    )  # fmt: skip
    order = scores.hardest_first()
    shown = order if len(order) <= 2 * SHOWN else [*order[:SHOWN], *order[-SHOWN:]]
    for number, label in enumerate(shown, 1):
        points = scores.points(label)
        low, high = scores.eer_interval(label, np.random.default_rng([seed, 97, label]))
        frr = [f"{percent(point.frr)}{' *' if point.pooled else ''}" for point in points[:2]]
        table.add_row(
            escape(words.names[label]), f"{scores.rows[label]:,}", percent(float(scores.eers[label])),
            f"{percent(low)} to {percent(high)}", *frr, threshold_text(points[0].threshold),
            end_section=number == SHOWN < len(shown),
        )  # fmt: skip
    return table


def _empty_table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first, no_wrap=True)
    for heading in others:
        table.add_column(heading, justify="right")
    return table


def write(name: str, scores: Scores, words: Words, params: Params, folder: Path) -> None:
    """Write verification.json, verification.csv and det.png into a folder.

    Raises:
        SketchstackError: the folder holds something that this program did not write.
    """
    intervals = scores.intervals(np.random.default_rng([params.seed, 96]))
    lines = [_word_line(scores, words, label, params.seed) for label in range(len(words))]
    points = [
        asdict(point)
        | {"rough": scores.is_rough(point.false_accept), "frr_interval": intervals[f"frr at {point.false_accept}"]}
        for point in scores.pooled_points()
    ]
    content = {
        "profile": params.profile,
        "model": name,
        "rows": int(scores.rows.sum()),
        "false_claims": int(scores.impostors.sum()),
        "all": {
            "eer": float(scores.pooled.eer),
            "eer_interval": intervals["eer"],
            "eer_threshold": float(scores.pooled.eer_threshold),
            "points": points,
        },
        "words": lines,
    }
    with own_folder(folder) as made:
        text = json.dumps(_finite(content), indent=1, ensure_ascii=False, allow_nan=False)
        (made / JSON).write_text(text + "\n", encoding="utf-8")
        with (made / CSV).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            rows = [_cells(line) for line in lines]
            writer.writerow(rows[0])
            writer.writerows(safe_row(row.values()) for row in rows)
        (made / PICTURE).write_bytes(png(det_chart({name: scores.pooled})))


def _word_line(scores: Scores, words: Words, label: int, seed: int) -> dict[str, Any]:
    """The figures of a word."""
    rows, random = int(scores.rows[label]), np.random.default_rng([seed, 97, label])
    low, high = scores.eer_interval(label, random) if rows else (np.nan, np.nan)
    return {
        "word": words.names[label],
        "rows": rows,
        "false_claims": int(scores.impostors[label]),
        "eer": float(scores.eers[label]),
        "eer_low": low,
        "eer_high": high,
        "points": [asdict(point) for point in scores.points(label)],
    }


def _cells(line: dict[str, Any]) -> dict[str, Any]:
    """A word's line as a row of the CSV: columns named far_100 for the point of 1 in 100."""
    cells = {column: value for column, value in line.items() if column != "points"}
    for point in (OperatingPoint(**each) for each in line["points"]):
        of = f"{1 / point.false_accept:.0f}"
        threshold = point.threshold if np.isfinite(point.threshold) else "above 1"
        cells |= {f"threshold_{of}": threshold, f"far_{of}": point.far, f"frr_{of}": point.frr}
        cells[f"threshold_of_{of}"] = "all words" if point.pooled else "word"
    return {column: "" if isinstance(value, float) and np.isnan(value) else value for column, value in cells.items()}


def _finite(value: Any) -> Any:
    """A value for JSON, with null for numbers that are not known and for thresholds above 1."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Say how well a probability tells whether a drawing is of the word that it claims to be."""
    parser = Parser("verify", main.__doc__, "sketchstack verify", "sketchstack verify --model strokenet --out verified")
    parser.add_argument("--model", default=SUPER, metavar="NAME", help="a learner or a meta-learner (%(default)s)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write every word as JSON and CSV, and the DET curve")
    given: Any = parser.parse_args(arguments)
    if given.out is not None:
        check_replaceable(given.out)
    params = load_params()
    words = load_words(places().folds)
    rows = read_stacked_rows()
    source = open_model(given.model, params, words, rows)
    scores = count_scores(chunks(source, len(rows.oof)), rows.labels, words)
    show(given.model, scores, words, params.seed, Console(width=120))
    if given.out is not None:
        write(given.model, scores, words, params, given.out)
        print(f"Written to {given.out}: {JSON}, {CSV}, {PICTURE}.")


if __name__ == "__main__":
    main()
