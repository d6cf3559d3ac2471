from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.comparison import plot
from pipeline.comparison.plot import LONGEST, picture, shortened
from pipeline.comparison.statistics import Comparison, Odds
from tests.report.texts import boxes, outside, overlapping


def comparison(a: str, b: str, difference: float, *, folds: int = 3, scale: float = 0.002, rope: float = 0.005):
    scores = {
        fold: {"rows": 900, "a": 0.8 + 0.003 * fold, "b": 0.8 + 0.003 * fold + difference} for fold in range(folds)
    }
    better = 0.99 if difference > 0 else 0.01
    odds = Odds(difference, scale, folds - 1, 1 - better, 0.0, better) if folds > 1 else None
    return Comparison(
        a=a, b=b, rows=900 * folds, folds=scores, map3={"a": 0.8, "b": 0.8 + difference}, difference=difference,
        low=difference - 0.001, high=difference + 0.001, rope=rope, odds=odds, first_guess={}, among_three={},
        p_value=0.5, words=[],
    )  # fmt: skip


LONG = "transformer_with_a_long_name_balanced@3f2a9c1d77ab"
CASES = {
    "short names": comparison("a", "b", 0.003),
    "names of learners": comparison("geometric_mean", "super_learner", 0.0113, scale=0.0006),
    "revisions": comparison("strokenet@0733f5325cb05da468e8", "strokenet@HEAD~12", -0.02),
    "very long names": comparison(LONG, LONG[::-1], 0.0001),
    "wide names": comparison("W" * 60, "M" * 60, 0.01),
    "far apart": comparison("gru", "super_learner", 0.41, scale=0.05),
    "nearly the same": comparison("gru", "lstm", 1e-6, scale=1e-7, rope=1e-6),
    "one fold": comparison("gru", "super_learner", 0.01, folds=1),
    "twenty folds": comparison("gru", "super_learner", 0.01, folds=20),
    "the same in all folds": comparison("gru", "super_learner", 0.02, scale=0.0),
    "odd letters": comparison("$x_1$ & <b>", "плюшевый_мишка_с_длинным_именем_и_хвостом", -0.004),
}


@pytest.mark.parametrize("name", CASES)
def test_no_label_of_the_picture_overlaps_another_or_is_cut_off(name):
    made = picture(CASES[name])
    assert overlapping(made) == []
    assert outside(made) == []


def test_labels_that_overlap_or_are_cut_off_are_found(monkeypatch):
    monkeypatch.setattr(plot, "LONGEST", 32)
    assert outside(picture(CASES["wide names"]))
    made = picture(CASES["names of learners"])
    made.axes[1].text(0.15, 1.05, "super_learner is better", transform=made.axes[1].transAxes)
    assert any("super_learner is better" in pair for pair in overlapping(made))


def test_the_picture_says_what_was_found():
    texts = [text for text, _ in boxes(picture(CASES["names of learners"]))]
    for said in ("99.0%: super_learner is better", "1.0%: geometric_mean is better", "0.0%: equal within 0.005",
                 "+0.0103 to +0.0123: 95% interval over rows", "fold 2", "all rows"):  # fmt: skip
        assert said in texts
    alone = [text for text, _ in boxes(picture(CASES["one fold"]))]
    assert not any("better" in text for text in alone)


def test_the_interval_is_inside_the_picture():
    made = picture(replace(CASES["names of learners"], low=-0.3, high=0.4))
    low, high = made.axes[1].get_xlim()
    assert low <= -0.3
    assert high >= 0.4


@pytest.mark.parametrize("name", ["gru", "a" * LONGEST, "a" * (LONGEST + 1), LONG, "plain " * 40])
def test_a_long_name_keeps_its_start_and_its_end(name):
    short = shortened(name)
    assert len(short) <= LONGEST
    assert short[:8] == name[:8]
    assert short[-8:] == name[-8:]
    assert (short == name) == (len(name) <= LONGEST)
