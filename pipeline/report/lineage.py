"""The sections about lineage: inputs and environment of a run, its times, the ledger."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from scipy.stats import spearmanr

from pipeline.drawings.shards import SUMMARY
from pipeline.foundation.artefacts import file_hash
from pipeline.foundation.environment import environment
from pipeline.foundation.git import git
from pipeline.foundation.logs import seconds_of
from pipeline.foundation.nested import flattened
from pipeline.foundation.places import places
from pipeline.report.blocks import Block, Chart, Missing, Palette, Table, filled
from pipeline.report.charts import figure, label_points
from pipeline.report.run import Run
from pipeline.submissions import ledger

LOCK = Path("dvc.lock")
HASH = 12  # digits shown
SENT = ("submission", "MAP@3", "public", "private", "95% interval", "competition", "commit")  # columns
LONGEST_LABEL = 44  # characters of an axis label


def lineage(run: Run) -> list[Block]:
    """The inputs, environment, params, times and price of the run."""
    made_from = [["commit", _commit()], ["profile", run.params.profile], ["seed", str(run.params.seed)]]
    made_from += [[name, value[:HASH]] for name, value in _data_hashes(run)]
    machine = [[name, value] for name, value in environment().items()]
    params = [[name, value] for name, value in _flat(run)]
    return [
        Table("Inputs; data by the first digits of their hashes", ["what", "value"], made_from, text=True),
        _costs(run),
        Table("Environment", ["what", "version"], machine, text=True),
        Table("Params in force, without unused learners", ["param", "value"], params, wide=True, text=True),
    ]


def _data_hashes(run: Run) -> Iterator[tuple[str, str]]:
    """The hash of the raw files by DVC, and the hash of the folds' list of shards."""
    raw, pointer = run.params.data.folder, Path(f"{run.params.data.folder}.dvc")
    if pointer.exists():
        yield raw, yaml.safe_load(pointer.read_text())["outs"][0]["md5"]
    elif LOCK.exists():
        shuffled = yaml.safe_load(LOCK.read_text()).get("stages", {}).get("shuffle", {})
        yield from ((dep["path"], dep["md5"]) for dep in shuffled.get("deps", []) if dep["path"] == raw)
    if (places().folds / SUMMARY).exists():
        yield "folds", file_hash(places().folds / SUMMARY)


def _flat(run: Run) -> Iterator[tuple[str, str]]:
    """Params by their dotted names, without those of unused learners."""
    params = run.params.model_dump()
    taking_part = {*run.params.ensemble, *run.params.pseudo.learners}
    params["learners"] = {name: block for name, block in params["learners"].items() if name in taking_part}
    yield from ((name, json.dumps(value, ensure_ascii=False)) for name, value in flattened(params))


def _commit() -> str:
    commit = git("rev-parse", f"--short={HASH}", "HEAD")
    return f"{commit} and changes" if commit and git("status", "--porcelain") else commit or "none"


def _costs(run: Run) -> Table:
    """The time of each stage, its share, and its price if the price of an hour is known."""
    times = list(_times(run))
    total = sum(seconds for _, seconds in times if seconds is not None)
    rows = []
    for name, seconds in [*times, ("all", total)]:
        if seconds is None:
            rows.append([name, "not in logs/", "", ""])
        else:
            price = "" if run.hourly is None else f"{seconds / 3600 * run.hourly:,.2f}"
            rows.append([name, f"{seconds:,.0f}", f"{seconds / max(total, 1e-9):.1%}", price])
    columns = ["stage", "seconds", "share"]
    caption = "Wall time of the slow stages, from their last run in logs/"
    if run.hourly is None:
        return Table(caption, columns, [row[:-1] for row in rows], frozenset({len(times)}))
    columns, caption = [*columns, "price"], f"{caption}, and its price at {run.hourly:g} an hour"
    return Table(caption, columns, rows, frozenset({len(times)}))


def _times(run: Run) -> Iterator[tuple[str, float | None]]:
    """Seconds of the last run of each stage that logs them; None if logs/ has none."""
    shuffled, stacked = places().logs / "shuffle.json", places().logs / "stack" / "seconds.json"
    yield "shuffle", seconds_of(shuffled).get("seconds")
    for name in run.params.base_learners:
        spent = run.seconds(name)
        yield f"train {name}, all folds", sum(spent.values()) if spent else None
    yield "stack", sum(seconds_of(stacked).values()) or None


def against_the_leaderboard(run: Run) -> list[Block]:
    """Out-of-fold scores against the leaderboard: the ledger, and the test labels if they are known."""
    entries = ledger.read_ledger()
    blocks: list[Block] = []
    for number, competition in enumerate(dict.fromkeys(entry.competition for entry in entries)):
        scored = [entry for entry in entries if entry.competition == competition and entry.public]
        points = [(entry.name, float(entry.oof_map3), float(entry.public)) for entry in scored]
        if len(points) > 1:
            blocks.append(_against(f"ledger{number or ''}", points, f"public MAP@3, {competition}"))
    tested = [(name, oof, run.test_scores[name]) for name, oof in _oof_scores() if name in run.test_scores]
    if len(tested) > 1:
        blocks.append(_against("test", tested, "MAP@3 on the test set"))
    if entries:
        rows = [
            [entry.name, entry.oof_map3, entry.public, entry.private, f"{entry.low}–{entry.high}", entry.competition,
             entry.commit[:HASH]]
            for entry in entries
        ]  # fmt: skip
        columns, rows = filled(SENT, rows)
        caption = f"Submissions in {ledger.LEDGER}, oldest first; MAP@3 and its interval are out of fold."
        left = frozenset(columns.index(name) for name in ("competition", "commit"))
        blocks.append(Table(caption, columns, rows, wide=True, left=left))
    else:
        blocks.append(Missing(f"{ledger.LEDGER} has no submission yet: `make submit` sends the best one."))
    return blocks


def _oof_scores() -> Iterator[tuple[str, float]]:
    """Name and MAP@3 out of fold of each submission, if they are scored."""
    file = places().reports / "out_of_fold.json"
    if file.exists():
        yield from json.loads(file.read_text()).items()


def _against(name: str, points: Sequence[tuple[str, float, float]], label: str) -> Chart:
    """Two scores of each of two or more submissions against each other."""
    ordered = sorted(points, key=lambda point: -point[2])

    def draw(palette: Palette) -> Any:
        made, axes = figure(palette, 3.4)
        axes.scatter([x for _, x, _ in points], [y for _, _, y in points], color=palette.series[0], s=22)
        axes.set_xlabel("MAP@3 out of fold")
        axes.set_ylabel(textwrap.shorten(label, LONGEST_LABEL, placeholder=" …"))
        axes.margins(x=0.3, y=0.1)
        axes.grid(color=palette.faint, linewidth=0.6)
        label_points(axes, ordered, palette)
        return made

    best, rank = ordered[0], _rank_correlation(points)
    alt = f"{label} against MAP@3 out of fold, {len(points)} submissions; best is {best[0]} with {best[2]:.4f}{rank}."
    caption = f"{len(points)} submissions{rank}. One point per submission; named where there is room."
    return Chart(f"against-{name}", alt, caption, draw)


def _rank_correlation(points: Sequence[tuple[str, float, float]]) -> str:
    """The rank correlation of both scores, as text; empty if one score is the same for all submissions."""
    _, oof, other = zip(*points, strict=True)
    if len(points) < 3 or len(set(oof)) == 1 or len(set(other)) == 1:
        return ""
    return f", rank correlation {spearmanr(oof, other).statistic:.2f}"
