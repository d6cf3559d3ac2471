from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.browser import Findings, checked, chromium, opened
from bench.report import LARGEST
from pipeline.commands import relabel
from pipeline.commands import report as report_command
from pipeline.drawings.shards import Shard, Shards
from pipeline.drawings.words import spell
from pipeline.foundation.contents import seal
from pipeline.foundation.params import load_params
from pipeline.raw.corrections import Correction, record
from pipeline.report import charts, html, markdown, words
from pipeline.report import page as report
from pipeline.report.blocks import Chart, Missing, Paragraph, Picture, Pictures, Section, Table
from pipeline.report.run import Run
from pipeline.report.scores import calibration_error_of
from pipeline.report.statistics import STATISTICS, statistics_of, two_sample_test
from pipeline.report.suspects import mislabelled, outlying
from pipeline.stacking.calibration import calibration_error
from pipeline.stages import report as report_stage
from pipeline.stages import shuffle as shuffle_stage
from pipeline.submissions.files import read_manifests
from pipeline.submissions.ledger import Entry
from pipeline.submissions.ledger import record as record_entry
from tests.conftest import failing_main, run_main

TITLES = tuple(title for title, _ in report.SECTIONS)
in_a_browser = pytest.mark.skipif(chromium() is None, reason="there is no Chromium on the PATH")


@pytest.fixture(scope="module")
def page(finished_run) -> Path:
    """The report of a finished run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(finished_run.home)
        run_main(report_stage)
    return finished_run.home / Path("reports/synthetic/report.html")


def missing(sections: list[Section]) -> dict[str, str]:
    """What is missing, by section."""
    return {each.title: block.text for each in sections for block in each.blocks if isinstance(block, Missing)}


def test_a_finished_run_has_every_section_and_misses_only_the_ledger(page):
    text = page.read_text()
    headings = re.findall(r"<h([1-6])[^>]*>([^<]*)<", text)
    assert headings == [("1", "Sketchstack, the synthetic profile"), *(("2", title) for title in TITLES)]
    assert text.count('class="missing"') == 1
    assert "ledger.csv has no submission yet" in text
    assert page.stat().st_size < LARGEST * 1e6
    for name in ("gru", "seresnet", "geometric_mean", "convex_weights", "super_learner"):
        assert f'<th scope="row"><span>{html.breakable(name)}</span></th>' in text


@in_a_browser
def test_a_browser_finds_nothing_wrong_with_it_light_or_dark_at_a_desk_or_on_a_phone(page):
    assert checked(page).all() == []


@in_a_browser
def test_a_browser_finds_what_is_wrong(tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!doctype html><html><body><h1>first</h1><h3 style='color:#ddd;background:#eee'>pale</h3><img src='gone.png'>"
        "<figure><svg height='0'></svg></figure><div style='width:2000px'>wide</div>"
        "<script>console.error('wrong')</script><img alt='a' src='http://localhost:9/x.png'></body></html>"
    )
    found = checked(bad)
    assert "wrong" in found.console
    assert any("localhost:9" in url for url in found.requests)
    assert any("gone.png" in src for src in found.pictures)
    assert any(said.startswith("<svg") for said in found.pictures)
    assert any("390 pixels" in said for said in found.scroll)
    for rule in ("color-contrast", "image-alt", "heading-order", "html-has-lang"):
        assert any(rule in said for said in found.accessibility), rule


@in_a_browser
def test_charts_have_the_colours_of_the_page(page):
    def ink(scheme: str) -> set[str]:
        with opened(page, Findings(), scheme=scheme) as tab:  # type: ignore[arg-type]
            of_texts = "[...document.querySelectorAll('figure svg text')].map(t => getComputedStyle(t).fill)"
            return set(tab.evaluate(of_texts))

    assert ink("light") == {"rgb(38, 36, 31)"}
    assert ink("dark") == {"rgb(236, 232, 222)"}


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("models/synthetic/meta", {"Leaderboard": "`dvc repro stack` makes it", "Folds": "`dvc repro stack` makes it"}),
        ("models/synthetic/curves/gru", {"Learning curves": "gru has no learning curve yet"}),
        ("folds", {"Data": "`dvc repro shuffle` makes it", "Leaderboard": "dvc repro"}),
    ],
)
def test_of_a_half_finished_run_it_shows_what_there_is_and_says_what_is_missing(copied_run, gone, said, capsys):
    shutil.rmtree(copied_run / gone)
    run_main(report_stage)
    run = Run(load_params())
    sections = list(report.sections_of(run))
    found = missing(sections)
    assert len(sections) == len(TITLES)
    assert {each.title for each in sections} == set(TITLES)
    for title, text in said.items():
        assert text in found[title], found
    assert (copied_run / Path("reports/synthetic/report.html")).exists()


def test_nothing_at_all_is_a_report_too(copied_run):
    for name in ("folds", "models", "logs", "reports", "submissions"):
        shutil.rmtree(copied_run / name, ignore_errors=True)
    run_main(report_stage)
    text = (copied_run / Path("reports/synthetic/report.html")).read_text()
    assert "Not finished: " in text
    assert text.count('class="missing"') >= len(TITLES) - 2


def test_a_word_without_rows_in_a_fold_is_shown(copied_run):
    place = copied_run / "models/synthetic/meta/labels.npy"
    labels = np.load(place)
    gone = labels[0]
    labels[labels == gone] = (gone + 1) % 30
    np.save(place, labels)
    seal(place.parent)
    sections = {each.title: each for each in report.sections_of(Run(load_params()))}
    (table,) = sections["Words"].blocks
    assert isinstance(table, Table)
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [row["MAP@3"] for row in rows if row["rows"] == "0"] == ["no rows"]


def test_a_failed_prediction_is_named_in_its_place(copied_run):
    place = copied_run / "models/synthetic/base/gru/fold0/oof.npy"
    oof = np.load(place)
    oof[3] = np.nan
    np.save(place, oof)
    seal(place.parent)
    found = missing(list(report.sections_of(Run(load_params()))))
    assert "gru: the prediction of key_id" in found["Leaderboard"]


def test_suspects_are_what_was_mislabelled(finished_run, monkeypatch):
    monkeypatch.chdir(finished_run.home)
    run = Run(load_params())
    rows, key_ids = mislabelled(run), run.guesses("super_learner").key_ids
    shows = [run.words.index[spell(finished_run.shown[key])] for key in key_ids.tolist()]
    wrong = run.labels != shows
    assert sum(wrong) > 10
    assert np.mean(wrong[rows[: sum(wrong) // 2]]) > 0.9
    assert np.mean(np.isin(np.flatnonzero(wrong), rows)) > 0.7


def test_outliers_are_drawings_unlike_the_others_of_their_word(finished_run, monkeypatch):
    monkeypatch.chdir(finished_run.home)
    run = Run(load_params())
    statistics = statistics_of(run.shards)
    statistics[77] *= 12  # a scribble
    monkeypatch.setattr("pipeline.report.suspects.statistics_of", lambda _: statistics)
    far = outlying(run)
    assert far.shape == run.labels.shape
    assert far.argmax() == 77


def test_folds_of_other_rows_than_the_stack_show_no_drawing_under_a_wrong_word(copied_run, capsys):
    key_id = Run(load_params()).guesses("super_learner").key_ids[5]
    word = Run(load_params()).words.names[Run(load_params()).labels[5]]
    record([Correction("data/synthetic", int(key_id), word, "drop")])
    run_main(shuffle_stage)
    run_main(report_stage)
    found = missing(list(report.sections_of(Run(load_params()))))
    assert set(found) == {*(title for title in TITLES if "draw" in title or "pairs" in title), "Suspected mislabels",
                          "Outliers", "Out of fold against the leaderboard"}  # fmt: skip
    other = "folds/synthetic holds other rows than models/synthetic/meta"
    assert all(other in text for text in list(found.values())[:-1])
    assert "folds/synthetic holds other rows" in failing_main(relabel, "--export", "look")


def test_a_learner_that_is_gone_takes_nothing_else_with_it(copied_run):
    shutil.rmtree(copied_run / "models/synthetic/base/gru/fold1")
    sections = {each.title: each for each in report.sections_of(Run(load_params()))}
    found = missing(list(sections.values()))
    assert set(found) == {"Leaderboard", "Errors in common", "Calibration", "Most disputed drawings", TITLES[-1]}
    table = next(block for block in sections["Leaderboard"].blocks if isinstance(block, Table))
    assert [row[0] for row in table.rows if not row[table.columns.index("95% interval")]] == ["gru"]


def test_what_is_wrong_with_one_section_leaves_the_others(copied_run, monkeypatch, capsys):
    monkeypatch.setattr("pipeline.report.words.PAIRS", "six")
    with pytest.raises(SystemExit, match="A section could not be made"):
        run_main(report_stage)
    text = (copied_run / Path("reports/synthetic/report.html")).read_text()
    assert text.count("This section could not be made (TypeError") == 1
    assert text.count("<h2") == len(TITLES)
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "written", [b"\0" * 200, b"", b"epoch,loss\n1,2.0\n", b"\x89PNG", b"epoch,learning_rate,loss,top1\n1,x,y,z\n"]
)
def test_a_damaged_learning_curve_costs_its_section_and_is_named(copied_run, written):
    (copied_run / "models/synthetic/curves/gru/fold1.csv").write_bytes(written)
    run_main(report_stage)
    text = (copied_run / Path("reports/synthetic/report.html")).read_text()
    assert "models/synthetic/curves/gru/fold1.csv is damaged" in text
    assert text.count("<h2") == len(TITLES)


def test_calibration_errors_are_over_all_rows_whichever_fold_they_are_of(finished_run, monkeypatch):
    monkeypatch.chdir(finished_run.home)
    run = Run(load_params())
    together = np.concatenate([np.asarray(part, np.float32) for part in run.oof("gru")])
    assert calibration_error_of(run, "gru") == pytest.approx(calibration_error(together, run.labels), abs=1e-12)


def test_statistics_by_hand():
    shards = Shards([Shard.from_lists([[([0, 30], [0, 40]), ([10], [10])], [([5, 5, 5], [1, 3, 9])]])])
    found = dict(zip(STATISTICS, statistics_of(shards).T.tolist(), strict=True))
    assert found == {
        "strokes": [2, 1], "points": [3, 3], "seconds": [0, 0], "length": [50, 8], "width": [30, 0], "height": [40, 8],
    }  # fmt: skip
    assert statistics_of(Shards([])).shape == (0, len(STATISTICS))


def test_the_two_sample_test_tells_a_shift_and_nothing_where_there_is_none():
    random = np.random.default_rng(0)
    one, other = random.normal(size=(2, 1000, 4))
    other[:, 3] = one[:, 3] = 7  # a column that never varies
    alike = [two_sample_test(one, random.permutation(other), seed)[1] for seed in range(1, 9)]
    assert np.median(alike) > 0.05
    assert two_sample_test(one, other + np.array([0.3, 0, 0, 0]), 1)[1] < 1e-3
    for seed in (0, 1, 2**40):
        assert two_sample_test(one, other, seed) == two_sample_test(one, other, seed)
    assert two_sample_test(one, one, 1) == (0, 1)
    with pytest.raises(ValueError, match="needs 100 rows"):
        two_sample_test(one[:50], other, 1)


def blocks(drawn) -> list[Section]:
    """A report of one block of each kind, with what could be taken for HTML or Markdown."""

    def draw(palette):
        made, axes = charts.figure(palette, 2)
        axes.plot([1, 2], color=palette.series[0])
        return made

    line = Chart("line", "It rises <up>", "A line", draw)
    png = bytes.fromhex("89504e470d0a1a0a")
    return [
        Section(
            "One <b>",
            [
                Paragraph("`a < b` & <i>"),
                Table("All <td>", ["name", "score"], [["x<y|z", "1"], ["z", "2"]], strong=frozenset({1})),
                replace(line, drawn=drawn(line)),
                Pictures("cats", "Two cats", [Picture(png, "A <cat>", ["cat", "key_id 7"])]),
                Missing("Not there: run `make`"),
            ],
        )
    ]


def test_text_stays_text_in_html():
    page = html.page("T <t>", "S", blocks(charts.svg))
    for tag in ("<b>", "<i>", "<up>", "<cat>", "<t>"):
        assert tag not in page
    assert "<code>a &lt; b</code> &amp; &lt;i&gt;" in page
    assert 'alt="A &lt;cat&gt;"' in page
    assert '<tr class="strong"><th scope="row"><span>z</span></th>' in page


def test_the_same_chart_is_the_same_svg_and_has_no_colour_of_its_own():
    (chart,) = (block for block in blocks(charts.svg)[0].blocks if isinstance(block, Chart))
    svg = charts.svg(chart)
    assert svg == charts.svg(chart)
    assert "var(--series-0)" in svg
    assert not any(colour in svg for colour in charts.STAND_INS.values())
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", svg)


def test_markdown_has_the_same_with_pictures_beside_it(tmp_path):
    markdown.write("T", "S", blocks(charts.png), tmp_path)
    text = (tmp_path / markdown.PAGE).read_text()
    assert "| **z** | **2** |" in text
    assert r"| x\<y\|z | 1 |" in text
    assert r"## One \<b\>" in text
    assert {path.name for path in tmp_path.iterdir()} == {"report.md", "line.png", "cats-0.png"}
    for name in re.findall(r"\]\(([^)]+)\)", text):
        assert (tmp_path / name).exists()
    assert (tmp_path / "line.png").read_bytes()[:4] == b"\x89PNG"


def test_the_whole_report_as_markdown(copied_run):
    run_main(report_command, "--markdown", "post", "--hourly", "36")
    text = (copied_run / "post" / markdown.PAGE).read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == list(TITLES)
    for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
        assert (copied_run / "post" / name).stat().st_size > 100
    assert "its price at 36 an hour" in text
    assert "| train gru, all folds | 12 |" in text
    assert re.search(r"train gru, all folds \| 12 \| \d+\.\d% \| 0\.12 \|", text)


def test_a_typo_in_the_params_ends_in_one_paragraph(copied_run):
    (copied_run / "params.yaml").write_text((copied_run / "params.yaml").read_text().replace("threads:", "threds:"))
    assert "threds" in failing_main(report_stage)


def test_scores_of_the_test_set_are_set_against_those_out_of_fold(copied_run):
    sections = {each.title: each for each in report.sections_of(Run(load_params()))}
    chart = sections["Out of fold against the leaderboard"].blocks[0]
    assert isinstance(chart, Chart)
    scores = json.loads((copied_run / "reports/synthetic/test.json").read_text())
    assert f"best is {max(scores, key=lambda name: scores[name])}" in chart.alt


def leaderboard() -> list[Table]:
    sections = {each.title: each for each in report.sections_of(Run(load_params()))}
    return [block for block in sections["Leaderboard"].blocks if isinstance(block, Table)]


def lines_of(table: Table) -> dict[str, dict[str, str]]:
    """The lines of a table by their first cell."""
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


def test_the_leaderboard_has_the_submissions_and_their_scores_on_the_test_set_and_at_kaggle(copied_run):
    manifests = read_manifests(copied_run / "submissions/synthetic")
    scores = json.loads((copied_run / "reports/synthetic/test.json").read_text())
    sent, other = manifests[2], manifests[0]
    entry = Entry("doodles", sent["name"], sent["sha256"], "c" * 40, "", "", "", "0.9", "0.8", "1.0", "0.87654", "0.85")
    stale = replace(entry, name=other["name"], sha256="0" * 64, public="0.11111")
    for each in (entry, stale):
        record_entry(each)
    learners, submissions = (lines_of(table) for table in leaderboard())
    assert learners["gru"]["test MAP@3"] == f"{scores['gru']:.4f}"
    assert learners["geometric_mean"]["test MAP@3"] == ""
    assert list(submissions) == [each["name"] for each in manifests]
    assert {name: line["test MAP@3"] for name, line in submissions.items()} == {
        name: f"{score:.4f}" for name, score in scores.items()
    }
    assert (submissions[sent["name"]]["public"], submissions[sent["name"]]["private"]) == ("0.87654", "0.85")
    assert submissions[other["name"]]["public"] == ""  # the ledger's file of this name has other bytes


@pytest.mark.parametrize("gone", ["reports/synthetic/test.json", "submissions/synthetic"])
def test_a_leaderboard_without_test_scores_or_submissions_has_no_empty_columns(copied_run, gone):
    place = copied_run / gone
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()
    tables = leaderboard()
    assert len(tables) == (2 if place.suffix else 1)
    assert all(any(row[number] for row in table.rows) for table in tables for number in range(len(table.columns)))
    assert ("test MAP@3" in tables[0].columns) == (not place.suffix)


@pytest.mark.parametrize("written", [b"", b"[1]", b"{", b'{"gru": "high"}', b'{"gru": null}', b"\xff\xfe", b"7"])
def test_damaged_scores_of_the_test_set_are_named(copied_run, written):
    (copied_run / "reports/synthetic/test.json").write_bytes(written)
    found = missing(list(report.sections_of(Run(load_params()))))
    assert "test.json is damaged; `dvc repro -f score` writes it again." in found["Leaderboard"]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({}, ""),
        ({"held_out_loss": ("2.5", "1.75")}, "held-out loss 1.750"),
        ({"held_out_map3": ("0.5", "0.625")}, "held-out MAP@3 0.625"),
        ({"held_out_loss": ("2.5", ""), "held_out_top1": ("", "0.5")}, "held-out loss 2.500; held-out top-1 0.500"),
        ({"held_out_map3": ("0.5", "0.6"), "held_out_top1": ("0.4", "0.45")}, "MAP@3 0.600; held-out top-1 0.450"),
        ({"seconds": ("1", "2")}, ""),
    ],
)
def test_scores_of_held_out_rows_are_drawn_if_a_learning_curve_has_them(copied_run, columns, said):
    plain = ["epoch,learning_rate,loss,top1", "1,0.01,3.0,0.2", "2,0.001,2.0,0.4"]
    lines = [
        ",".join([line, *(name if number == 0 else values[number - 1] for name, values in columns.items())])
        for number, line in enumerate(plain)
    ]
    (copied_run / "models/synthetic/curves/gru/fold1.csv").write_text("\n".join(lines) + "\n")
    sections = {each.title: each for each in report.sections_of(Run(load_params()))}
    chart = next(block for block in sections["Learning curves"].blocks if block.caption == "gru")  # type: ignore[union-attr]
    assert isinstance(chart, Chart)
    assert said in chart.alt
    shown = [name for name in ("held-out loss", "held-out MAP@3", "held-out top-1") if name in str(chart.drawn)]
    assert len(shown) == sum(name.startswith("held_out") for name in columns)


@pytest.mark.parametrize("most", [0, 1])
def test_the_guesses_of_many_learners_are_counted(finished_run, monkeypatch, most):
    monkeypatch.chdir(finished_run.home)
    monkeypatch.setattr("pipeline.report.words.NAMED", most)
    run = Run(load_params())
    (picture,) = words.pictures(run, [5], ["gru", "seresnet"])
    assert len(picture.lines) == 2 + most
    guesses = {run.words.names[run.guesses(name).guesses[5, 0]] for name in ("gru", "seresnet")}
    assert all(line.split(": ")[0] in guesses and line.endswith(" of 2") for line in picture.lines[1:-1])


def test_competitions_of_the_ledger_are_not_mixed_in_a_plot(copied_run):
    entry = Entry("doodles", "gru", "0" * 64, "c" * 40, "", "", "", "0.9", "0.8", "1.0", "0.8", "")
    for number, competition in enumerate(("doodles", "doodles", "test labels of mini", "doodles", "other", "other")):
        record_entry(replace(entry, competition=competition, sha256=f"{number:064}", public=f"0.{number + 1}"))
    sections = {each.title: each for each in report.sections_of(Run(load_params()))}
    blocks = sections[TITLES[-1]].blocks
    named = [block.alt.split(" against")[0] for block in blocks if isinstance(block, Chart)]
    assert named == ["public MAP@3, doodles", "public MAP@3, other", "MAP@3 on the test set"]
    (table,) = (block for block in blocks if isinstance(block, Table))
    assert len(table.rows) == 6
    assert "private" not in table.columns
