"""The section about verification: how well a probability tells whether a drawing is of the word that it claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.stats import norm

from pipeline.predictions.verification import FALSE_ACCEPTS, ErrorRates, Scores, accepted_claims, count_scores
from pipeline.report.blocks import Block, Chart, Palette, Paragraph, Table
from pipeline.report.charts import figure
from pipeline.report.run import Run
from pipeline.report.scores import missing
from pipeline.stacking.scoreboard import SUPER

SHOWN = 10  # hardest words
LEAST, MOST = (1e-4, 1e-3), (0.5, 0.95)  # limits of the DET chart: false-accept rate, false-reject rate
FALSE_ACCEPT_TICKS = (0.0001, 0.001, 0.01, 0.05, 0.2, 0.5)
FALSE_REJECT_TICKS = (0.002, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95)
FINENESS = 50  # points of a drawn curve per unit of the normal deviate
DASHES = ("-", "--", "-.", ":")


def verification(run: Run) -> list[Block]:
    """The error rates of the SuperLearner and of the best learner, and the hardest words."""
    names = [SUPER, max(run.learners, key=lambda name: run.scores[name]["map3"])]
    counted = {name: count_scores(run.oof(name), run.labels, run.words) for name in run.readable(names)}
    lost = list(missing(run, names))
    if SUPER not in counted:
        return [*lost]
    return [
        Paragraph(
            "Is a drawing of the word that it claims to be? A claim is accepted if the probability of the claimed word "
            "is at least a threshold. FAR is the share of false claims that are accepted, FRR the share of true claims "
            "that are rejected; at the EER both are the same. Each word counts the same. "
            "`sketchstack verify --out DIR` writes every word."
        ),
        Table(
            f"All words, out of fold, {len(run.labels):,} rows: the EER, and the FRR where the FAR is 1 in 100, 1,000 "
            f"and 10,000.",
            ["name", "EER", "95% interval", *map(one_in, FALSE_ACCEPTS)],
            [_line(name, scores, run.params.seed) for name, scores in counted.items()],
            wide=True,
        ),
        det_chart({name: scores.pooled for name, scores in counted.items()}),
        _hardest(counted[SUPER], run),
        _accepted(counted[SUPER], run),
        *lost,
    ]


def _line(name: str, scores: Scores, seed: int) -> list[str]:
    low, high = scores.intervals(np.random.default_rng([seed, 96]))["eer"]
    frr = (percent(point.frr) for point in scores.pooled_points())
    return [name, percent(float(scores.pooled.eer)), f"{low:.1%}–{high:.1%}", *frr]


def _hardest(scores: Scores, run: Run) -> Table:
    """The words with the highest EER, with the threshold of the least strict operating point."""
    rate = one_in(FALSE_ACCEPTS[0])
    rows = []
    for label in scores.hardest_first()[:SHOWN]:
        point = scores.points(label)[0]
        figures = [percent(float(scores.eers[label])), percent(point.frr), threshold_text(point.threshold)]
        rows.append([run.words.names[label], f"{scores.rows[label]:,}", *figures])
    caption = (
        f"The hardest words to verify, by the SuperLearner, with the FRR and the threshold where the FAR is {rate}."
    )
    return Table(caption, ["word", "rows", "EER", "FRR", "threshold"], rows)


def _accepted(scores: Scores, run: Run) -> Table:
    """The pairs of a drawn and a claimed word whose false claims are accepted most often."""
    accepted = accepted_claims(run.oof(SUPER), run.labels, scores.thresholds(FALSE_ACCEPTS[0]))
    shares = accepted / np.maximum(scores.rows, 1)[:, None]
    np.fill_diagonal(shares, 0)
    names, rows = run.words.names, []
    for place in np.argsort(-shares, axis=None, kind="stable")[:SHOWN]:
        drawn, claimed = divmod(int(place), len(names))
        if shares[drawn, claimed]:
            rows.append([names[drawn], names[claimed], percent(shares[drawn, claimed])])
    caption = f"False claims that are accepted most often, at the thresholds of {one_in(FALSE_ACCEPTS[0])}."
    return Table(caption, ["drawing of", "as", "accepted"], rows)


def one_in(rate: float) -> str:
    """A false-accept rate as text: 1 in 1,000."""
    return f"1 in {1 / rate:,.0f}"


def percent(share: float) -> str:
    """A rate as text; a dash where it is not known."""
    return "–" if np.isnan(share) else f"{share:.1%}"


def threshold_text(threshold: float) -> str:
    """A threshold as text."""
    return f"{threshold:.4f}" if np.isfinite(threshold) else "above 1"


def det_chart(curves: Mapping[str, ErrorRates]) -> Chart:
    """The DET curves of some names: FRR over FAR, both on normal-deviate axes."""
    eers = {name: percent(float(rates.eer)) for name, rates in curves.items()}

    def draw(palette: Palette) -> Any:
        made, axes = figure(palette, 3.6)
        low, high = norm.ppf(LEAST), norm.ppf(MOST)
        axes.plot(norm.ppf([LEAST[1], MOST[0]]), norm.ppf([LEAST[1], MOST[0]]), color=palette.faint, linewidth=1)
        for number, (name, rates) in enumerate(curves.items()):
            style = {"color": palette.series[number % len(palette.series)], "linestyle": DASHES[number % len(DASHES)]}
            axes.plot(*_thinned(rates), label=f"{name}, EER {eers[name]}", linewidth=1.6, **style)
        for axis, ticks, label in (
            (axes.xaxis, FALSE_ACCEPT_TICKS, "false-accept rate"),
            (axes.yaxis, FALSE_REJECT_TICKS, "false-reject rate"),
        ):
            axis.set_ticks(norm.ppf(ticks), [f"{tick * 100:g}%" for tick in ticks])
            axis.set_label_text(label)
        axes.set_xlim(low[0], high[0])
        axes.set_ylim(low[1], high[1])
        axes.grid(color=palette.faint, linewidth=0.6)
        axes.legend(frameon=False, labelcolor=palette.ink, loc="upper right")
        return made

    said = ", ".join(f"{name} {eer}" for name, eer in eers.items())
    alt = f"False-reject rate by false-accept rate, on normal-deviate axes. Equal error rates: {said}."
    caption = "DET curve, all words pooled. Lower is better; the EER is where a curve crosses the diagonal."
    return Chart("det", alt, caption, draw)


def _thinned(rates: ErrorRates) -> tuple[np.ndarray, np.ndarray]:
    """The normal deviates of a curve's rates, (P,) each, with the points that a reader can tell apart."""
    inside = (rates.far > 0) & (rates.far < 1) & (rates.frr > 0) & (rates.frr < 1)
    deviates = norm.ppf([rates.far[inside], rates.frr[inside]])
    moved = np.diff(np.round(deviates * FINENESS), axis=1, prepend=np.inf).any(axis=0)
    return deviates[0, moved], deviates[1, moved]
