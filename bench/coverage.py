"""How often the 95% interval of a comparison covers the true difference, over simulated pairs of learners."""

from __future__ import annotations

import argparse
import sys

import numpy as np

from bench.tables import RESULTS, Bar, Measured, Row, record, show
from pipeline.comparison.candidates import Candidate
from pipeline.comparison.statistics import compare
from pipeline.drawings.words import Words
from pipeline.foundation.errors import one_paragraph_errors

WORDS = Words.from_names(f"word{number:03}" for number in range(20))
PAIRS, ROWS, FOLDS = 1000, 4000, 5
SPREAD = (
    5.0  # of the rows' difficulty: two learners of a skill then differ in one first guess of eight, as real ones do
)
PRECISION = np.array([1, 1 / 2, 1 / 3, 0])  # of a row whose word is the first, second or third guess, or none


def places(difficulty: np.ndarray, skill: float) -> np.ndarray:
    """Probability that the true word is the first, second, third or no guess, (N, 4), for rows of difficulty (N,)."""
    first = 1 / (1 + np.exp(difficulty - skill))
    rest = (1 - first)[:, None] * np.array([0.45, 0.2, 0.35])
    return np.column_stack([first, rest])


def made_up(
    name: str, labels: np.ndarray, difficulty: np.ndarray, skill: float, random: np.random.Generator, folds: int = FOLDS
) -> Candidate:
    """A simulated learner that guesses rows by their difficulty, its skill and chance.

    Args:
        name: its name.
        labels: (N,) of the rows.
        difficulty: (N,) of the rows, the same for all learners.
        skill: the difficulty at which half of the first guesses are right.
        random: random generator.
        folds: of equal size.
    """
    reached = (random.random((len(labels), 1)) > places(difficulty, skill).cumsum(axis=1)).sum(axis=1)
    wrong = (labels[:, None] + 1 + np.arange(3)) % len(WORDS)
    guesses = np.where(np.arange(3) == reached[:, None], labels[:, None], wrong)
    rows = np.arange(len(labels))
    return Candidate(name, guesses, rows, labels, rows * folds // len(labels), WORDS)


def expected(skill: float, random: np.random.Generator) -> float:
    """The expected MAP@3 of a skill over rows of normally distributed difficulty."""
    return float((places(random.normal(0, SPREAD, 2_000_000), skill) @ PRECISION).mean())


def measure(pairs: int = PAIRS) -> Measured:
    """Compare simulated pairs whose true difference is known."""
    random = np.random.default_rng(0)
    skills = np.linspace(3.4, 3.8, 5)
    truth = {skill: expected(skill, np.random.default_rng(1)) for skill in skills}
    held = []
    for _ in range(pairs):
        labels, difficulty = random.integers(0, len(WORDS), ROWS), random.normal(0, SPREAD, ROWS)
        a, b = random.choice(skills, 2)
        found = compare(made_up("a", labels, difficulty, a, random), made_up("b", labels, difficulty, b, random))
        held.append(found.low <= truth[b] - truth[a] <= found.high)
    row = Row(
        f"intervals that hold the truth, of {pairs}", "share", [float(np.mean(held))],
        bars=(Bar("ours", "≥", 0.9), Bar("ours", "≤", 0.99)),
    )  # fmt: skip
    notes = [f"Each of {ROWS:,} rows; learners share how difficult a row is, and have chance of their own."]
    return Measured("coverage", "The 95% interval of a comparison", [row], notes)


@one_paragraph_errors
def main() -> None:
    """Measure the coverage of the interval of a comparison."""
    argparse.ArgumentParser(description=main.__doc__).parse_args()
    measured = measure()
    show(measured)
    print(f"Recorded in {record(measured, sys.argv[1:], RESULTS)}.")


if __name__ == "__main__":
    main()
