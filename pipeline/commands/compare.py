"""Is B better than A? Fold scores, their difference with its interval, and the odds, in the terminal and as a picture.

    sketchstack compare strokenet seresnet          two learners of this run
    sketchstack compare HEAD~1 super_learner        the SuperLearner before a change and after it

See pipeline/comparison/candidates.py for what else can be compared.

    reports/compare/A_B.json  everything that is shown, and the scores of each word
                A_B.png   fold scores and the posterior
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.comparison.candidates import candidate
from pipeline.comparison.statistics import PAIR, ROPE, Comparison, compare
from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.commandline import Parser
from pipeline.foundation.errors import SketchstackError, one_paragraph_errors
from pipeline.foundation.places import places

SHOWN = 5  # words that gained most, and as many that lost most


def show(found: Comparison, console: Console) -> None:
    """Print a comparison."""
    table = _empty_table(f"MAP@3 out of fold, {found.rows:,} rows", "fold", found)
    lines = [(str(fold), int(of["rows"]), of["a"], of["b"]) for fold, of in found.folds.items()]
    for name, rows, a, b in [*lines, ("all", found.rows, found.map3["a"], found.map3["b"])]:
        table.add_row(name, f"{rows:,}", f"{a:.4f}", f"{b:.4f}", f"{b - a:+.4f}", style="bold" if name == "all" else "")
    console.print(table)
    console.print(
        f"Difference {found.difference:+.4f}, 95% interval {found.low:+.4f} to {found.high:+.4f}, paired over rows."
    )
    console.print(verdict(found))
    first, three = found.first_guess, found.among_three
    console.print(
        f"First guess: only {found.a} is right in {first['only_a']:,} rows, only {found.b} in {first['only_b']:,}, "
        f"both in {first['both']:,}, neither in {first['neither']:,}; McNemar's p {found.p_value:.2g}. Three guesses: "
        f"only {found.a} has the word in {three['only_a']:,} rows, only {found.b} in {three['only_b']:,}."
    )
    words = _empty_table("Words that gained and lost most", "word", found)
    gained = [word for word in found.words[:SHOWN] if word.b > word.a]
    lost = [word for word in found.words[-SHOWN:] if word.b < word.a]
    for number, word in enumerate([*gained, *lost]):
        words.add_row(
            word.word, f"{word.rows:,}", f"{word.a:.4f}", f"{word.b:.4f}", f"{word.b - word.a:+.4f}",
            end_section=number == len(gained) - 1,
        )  # fmt: skip
    console.print(words)


def _empty_table(title: str, of: str, found: Comparison) -> Table:
    """A table with the scores of A and B, one row per fold or word."""
    table = Table(title=title, title_justify="left")
    table.add_column(of, no_wrap=True)
    for heading in ("rows", found.a, found.b, "difference"):
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def verdict(found: Comparison) -> str:
    """What the folds say, in a sentence."""
    if found.odds is None:
        return "No odds with a single fold: they need the variation between folds."
    odds = found.odds
    return (
        f"Over {len(found.folds)} folds: {found.a} better with probability {odds.a:.3f}, practically equal (within "
        f"{found.rope:g}) {odds.equal:.3f}, {found.b} better {odds.b:.3f}."
    )


def write(found: Comparison, folder: Path | None = None) -> tuple[Path, Path]:
    """Write the comparison as JSON and as a picture; returns both paths."""
    from pipeline.comparison.plot import draw

    folder = folder or places().reports / "compare"

    name = re.sub(r"[^\w.-]+", "-", f"{found.a}_{found.b}")
    text, picture = folder / f"{name}.json", folder / f"{name}.png"
    with whole_file(text) as file:
        file.write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")
    with whole_file(picture) as file:
        draw(found, file)
    return text, picture


@one_paragraph_errors
def main(arguments: list[str] | None = None) -> None:
    """Compare two learners, meta-learners, submissions or revisions, row by row and fold by fold."""
    parser = Parser(
        "compare", main.__doc__, "sketchstack compare strokenet seresnet", "sketchstack compare HEAD~1 super_learner"
    )
    for name in PAIR:
        parser.add_argument(name, help="a learner, a meta-learner, a submission, REVISION or NAME@REVISION")
    parser.add_argument("--rope", type=float, default=ROPE, help="differences up to this count as equal (%(default)s)")
    given: Any = parser.parse_args(arguments)
    if not 0 < given.rope < 1:
        raise SketchstackError(f"--rope is {given.rope}; give a difference of MAP@3 between 0 and 1, such as 0.005.")
    found = compare(candidate(given.a), candidate(given.b), given.rope)
    console = Console(width=120)
    show(found, console)
    text, picture = write(found)
    console.print(f"Written to {text} and {picture}.")


if __name__ == "__main__":
    main()
