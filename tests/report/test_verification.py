"""The report's section about verification."""

from __future__ import annotations

import contextlib
import re
import shutil

import numpy as np
import pytest
from scipy.stats import norm

from bench.browser import checked, chromium
from pipeline.drawings.words import Words
from pipeline.foundation.params import load_params
from pipeline.predictions.verification import ErrorRates, count_scores
from pipeline.report import charts, html
from pipeline.report import page as report
from pipeline.report.blocks import LIGHT, Chart, Missing, Section, Table
from pipeline.report.run import Run
from pipeline.report.verification import det_chart


def section() -> Section:
    return next(each for each in report.sections_of(Run(load_params())) if each.title == "Verification")


def of_kind(found: Section, kind: type) -> list:
    return [block for block in found.blocks if isinstance(block, kind)]


@pytest.fixture(scope="module")
def made(finished_run) -> Section:
    """The section of a finished run."""
    with contextlib.chdir(finished_run.home):
        return section()


def test_it_shows_the_super_learner_and_the_best_learner(made, finished_run, monkeypatch):
    monkeypatch.chdir(finished_run.home)
    run = Run(load_params())
    pooled, hardest, accepted = of_kind(made, Table)
    assert [row[0] for row in pooled.rows] == ["super_learner", "seresnet"]
    for name, line in zip(("super_learner", "seresnet"), pooled.rows, strict=True):
        scores = count_scores(run.oof(name), run.labels, run.words)
        assert line[1] == f"{float(scores.pooled.eer):.1%}"
        assert line[3] == f"{float(scores.pooled.frr_at(0.01)):.1%}"
        low, high = (float(end.rstrip("%")) for end in line[2].split("–"))
        assert low <= float(line[1].rstrip("%")) <= high
    scores = count_scores(run.oof("super_learner"), run.labels, run.words)
    names = [run.words.names[label] for label in scores.hardest_first()[:10]]
    assert [row[0] for row in hardest.rows] == names
    assert all(row[0] != row[1] for row in accepted.rows)
    shares = [float(row[2].rstrip("%")) for row in accepted.rows]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0


def test_the_chart_says_the_equal_error_rates(made):
    (chart,) = of_kind(made, Chart)
    (table, *_) = of_kind(made, Table)
    assert chart.alt.endswith(f"super_learner {table.rows[0][1]}, seresnet {table.rows[1][1]}.")
    assert "var(--series-0)" in chart.drawn


def test_it_is_the_same_each_time(made, finished_run, monkeypatch):
    monkeypatch.chdir(finished_run.home)
    again = section()
    assert of_kind(again, Table) == of_kind(made, Table)
    assert [chart.drawn for chart in of_kind(again, Chart)] == [chart.drawn for chart in of_kind(made, Chart)]


def test_without_a_stack_it_says_what_makes_it(copied_run):
    shutil.rmtree("models/synthetic/meta")
    assert "`dvc repro stack` makes it" in of_kind(section(), Missing)[0].text


def test_without_the_best_learner_the_super_learner_is_shown(copied_run):
    shutil.rmtree("models/synthetic/base/seresnet/fold1")
    found = section()
    assert [row[0] for row in of_kind(found, Table)[0].rows] == ["super_learner"]
    assert "seresnet" in of_kind(found, Missing)[0].text
    assert not of_kind(found, Missing)[0].text.startswith(report.FAILED)


def test_without_the_super_learner_nothing_else_is_shown(copied_run):
    shutil.rmtree("models/synthetic/meta/super_learner")
    found = section()
    assert [type(block) for block in found.blocks] == [Missing]
    assert "super_learner/oof.npy" in of_kind(found, Missing)[0].text


def rates(probabilities: np.ndarray, labels: np.ndarray) -> ErrorRates:
    words = Words(tuple(f"word{number}" for number in range(probabilities.shape[1])))
    return count_scores([probabilities], labels, words).pooled


LABELS = np.arange(600) % 3
RANDOM = np.random.default_rng(0)
MODELS = {
    "perfect": np.eye(3)[LABELS],
    "constant": np.full((600, 3), 1 / 3),
    "random": RANDOM.random((600, 3)),
    "inverted": 1 - np.eye(3)[LABELS],
    "good": np.clip(np.eye(3)[LABELS] * 0.4 + RANDOM.random((600, 3)) * 0.6, 0, 1),
}


@pytest.mark.parametrize("name", MODELS)
def test_any_curve_can_be_drawn(name):
    chart = det_chart({name: rates(MODELS[name], LABELS)})
    assert charts.svg(chart).startswith("<svg")
    assert charts.png(chart)[:4] == b"\x89PNG"


def test_a_drawn_curve_is_short_and_falls():
    random = np.random.default_rng(0)
    labels = random.integers(0, 5, 20_000)
    probabilities = np.clip(np.eye(5)[labels] * 0.3 + random.random((20_000, 5)) * 0.7, 0, 1)
    found = rates(probabilities, labels)
    axes = det_chart({"a": found}).draw(LIGHT).axes[0]
    far, frr = axes.lines[1].get_data()
    assert 50 < len(far) < 1000
    assert (np.diff(far) <= 0).all()
    assert (np.diff(frr) >= 0).all()
    at = np.interp(0, (frr - far), far)  # where it crosses the diagonal, as the reader sees it
    assert norm.cdf(at) == pytest.approx(float(found.eer), abs=0.003)


def test_many_names_have_lines_of_their_own():
    found = rates(MODELS["good"], LABELS)
    axes = det_chart({f"name{number}": found for number in range(4)}).draw(LIGHT).axes[0]
    styles = {(line.get_color(), line.get_linestyle()) for line in axes.lines[1:]}
    assert len(styles) == 4
    assert len(axes.get_legend().get_texts()) == 4


@pytest.mark.skipif(chromium() is None, reason="there is no Chromium on the PATH")
def test_a_browser_finds_nothing_wrong_with_it(made, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(html.page("Verification", "A section", [made]), encoding="utf-8")
    assert checked(page).all() == []
    assert len(re.findall("<svg", page.read_text())) == 1
