"""The report as it is laid out in a browser, with tables and charts of many shapes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from bench.browser import DESK, PHONE, Findings, checked, chromium, opened
from pipeline.report import charts, html
from pipeline.report.blocks import Block, Chart, Paragraph, Picture, Pictures, Section, Table, filled
from pipeline.report.data import bin_edges
from pipeline.report.scores import FEW, by_epoch, heatmap, panels_of, reliability, reliability_diagram
from pipeline.stacking.calibration import BINS
from tests.report.texts import boxes, outside, overlapping

in_a_browser = pytest.mark.skipif(chromium() is None, reason="there is no Chromium on the PATH")

LONG = ("the_great_wall_of_china_at_dawn", "Donaudampfschifffahrtsgesellschaft", "t-shirt", "a b c d e f g h i j k l m")
LEARNERS = [f"{kind}_with_a_long_name_{number}" for number in range(5) for kind in ("seresnet", "gru", "transformer")]
INNER = 3  # pixels inside an edge


def numbers(rows: int, columns: int, names: Sequence[str] = LONG) -> list[list[str]]:
    return [
        [names[row % len(names)], *(f"{row + column / 10:.4f}" for column in range(columns))] for row in range(rows)
    ]


def table(rows: int, columns: int, names: Sequence[str] = LONG, **how: Any) -> Table:
    heads = ["name", *(f"column {number}" for number in range(columns))]
    return Table(f"{rows} rows, {columns} columns", heads, numbers(rows, columns, names), **how)


TABLES = {
    "one cell": table(1, 1, ["a"]),
    "narrow": table(5, 2, ["cat", "dog"], wide=True),
    "narrow, side by side": table(4, 3, ["cat"]),
    "wide": table(4, 14, wide=True),
    "long": table(90, 3, wide=True),
    "wide and long": table(50, 12, wide=True, strong=frozenset({3})),
    "words among numbers": Table(
        "w", ["word", "MAP@3", "taken for"], [[word, "0.5", LONG[0]] for word in LONG] * 9, left=frozenset({2})
    ),
    "text": Table("t", ["param", "value"], [["a.b_c" * 9, "x" * 200], ["seed", "7"]], wide=True, text=True),
}
RANDOM = np.random.default_rng(3)
HEATMAPS: dict[str, tuple[list[str], np.ndarray]] = {
    "two": (["gru", "lstm"], np.array([[1, 0.64], [0.64, 1]])),
    "five": (
        ["gru", "lstm", "mobilenet", "seresnet", "strokenet"],
        np.asarray(np.corrcoef(RANDOM.normal(size=(5, 30)))),
    ),
    "fifteen": (LEARNERS, np.asarray(np.corrcoef(RANDOM.normal(size=(15, 30))))),
    "all the same": (list("abcd"), np.full((4, 4), 0.5)),
    "not a number": (list("abc"), np.full((3, 3), np.nan)),
    "negative": (list("abc"), np.array([[1, -1, -0.87], [-1, 1, -0.33], [-0.87, -0.33, 1]])),
}
PLOT = Chart("plot", "A line", "A line", lambda palette: charts.figure(palette, 2)[0])


def drawn(chart: Chart) -> Chart:
    return replace(chart, drawn=charts.svg(chart))


def write(place: Path, *sections: Sequence[Block]) -> Path:
    titled = [Section(f"Section {number}", blocks) for number, blocks in enumerate(sections)]
    place.write_text(html.page("A page", "Its summary.", titled), encoding="utf-8")
    return place


@contextmanager
def shown(page: Path, width: int, scheme: str = "light") -> Iterator[Any]:
    with opened(page, Findings(), width, scheme) as tab:  # type: ignore[arg-type]
        yield tab


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """A page of all tables, heatmaps, charts and pictures."""
    png = bytes(cv2.imencode(".png", np.full((144, 144, 3), 255, np.uint8))[1])
    pictures = [Picture(png, "a cat", ["cat", f"gru: {LONG[0]}", LONG[1], f"key_id {2**63}"]) for _ in range(7)]
    plots = [drawn(replace(PLOT, name=f"plot{number}")) for number in range(5)]
    heat = [heatmap(name, *given) for name, given in HEATMAPS.items()]
    place = tmp_path_factory.mktemp("page") / "page.html"
    text: list[Block] = [Paragraph("`" + "x" * 80 + "` " + "and so on " * 30), Pictures("cats", "Cats", pictures)]
    more = [replace(each, caption=f"{each.caption}, again") for each in list(TABLES.values())[:3]]
    return write(place, list(TABLES.values()), heat, [*plots, *more], text)


@in_a_browser
def test_the_browser_finds_nothing_wrong_with_tables_of_all_shapes(page):
    assert checked(page).all() == []


@in_a_browser
@pytest.mark.parametrize("width", [320, PHONE, 800, DESK])
def test_the_page_never_scrolls_sideways(page, width):
    with shown(page, width) as tab:
        assert tab.evaluate("document.documentElement.scrollWidth") == width


TEXTS_OUTSIDE = """
[...document.querySelectorAll('.heat tbody td')].filter(cell => cell.firstChild).filter(cell => {
    const range = document.createRange()
    range.selectNodeContents(cell)
    const [text, own] = [range.getBoundingClientRect(), cell.getBoundingClientRect()]
    return text.left < own.left || text.right > own.right || text.top < own.top || text.bottom > own.bottom
}).map(cell => cell.textContent)
"""


@in_a_browser
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_each_number_of_a_heatmap_is_inside_its_cell(page, width):
    with shown(page, width) as tab:
        assert tab.evaluate(TEXTS_OUTSIDE) == []
        count = tab.evaluate("[...document.querySelectorAll('.heat tbody td')].filter(c => c.textContent).length")
        assert count == sum(len(names) * (len(names) - 1) // 2 for names, _ in HEATMAPS.values())
        tab.add_style_tag(content=".heat table { table-layout: fixed; width: 100px !important }")
        assert tab.evaluate(TEXTS_OUTSIDE)  # which finds numbers that are wider than their cells


def test_the_shades_of_a_heatmap_are_in_the_order_of_its_numbers():
    made = heatmap("h", *HEATMAPS["five"])
    cells = [(float(cell), made.shade(row, column) or 0.0) for row, of in enumerate(made.rows)
             for column, cell in enumerate(of[1:], 1) if cell]  # fmt: skip
    ordered = [shade for _, shade in sorted(cells)]
    assert len(cells) == 10
    assert ordered[0] == 0
    assert ordered[-1] == 1
    assert all(one <= other + 0.02 for one, other in itertools.pairwise(ordered))
    assert {made.shade(row, 0) for row in range(4)} == {None}
    unknown = heatmap("h", *HEATMAPS["not a number"])
    assert [row[1:] for row in unknown.rows] == [["–", ""], ["–", "–"]]
    assert unknown.shades == [[None, None], [None, None]]


STUCK = """
scroll => {
    scroll.scrollTo(200, 300)
    const own = scroll.getBoundingClientRect()
    const head = scroll.querySelector('thead th:nth-child(2)').getBoundingClientRect()
    const name = scroll.querySelector('tbody tr:nth-child(20) th').getBoundingClientRect()
    return [scroll.scrollLeft > 0, scroll.scrollTop > 0, head.top - own.top, name.left - own.left]
}
"""


@in_a_browser
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_headers_and_names_stay_in_view_when_a_table_scrolls(page, width):
    with shown(page, width) as tab:
        scroll = tab.query_selector_all(".scroll")[list(TABLES).index("wide and long")]
        right, down, head, name = scroll.evaluate(STUCK)
        assert (right, down) == (True, True)
        assert abs(head) <= 1
        assert abs(name) <= 1
        tab.add_style_tag(content="th { position: static !important }")
        _, _, head, name = scroll.evaluate(STUCK)
        assert head < -100
        assert name < -50


def paper(scheme: str) -> np.ndarray:
    return np.array({"light": (0xFD, 0xFC, 0xF9), "dark": (0x19, 0x18, 0x15)}[scheme])[::-1]


def cues(scroll: Any, scheme: str) -> tuple[bool, bool]:
    """Whether a shadow is seen at the right and at the lower edge of a scrolling region."""
    seen = cv2.imdecode(np.frombuffer(scroll.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    assert seen is not None
    head = int(scroll.evaluate("scroll => scroll.querySelector('thead').getBoundingClientRect().height"))
    name = int(scroll.evaluate("scroll => scroll.querySelector('th').getBoundingClientRect().width"))
    right = seen[head + 2 : -22, -INNER - 3 : -INNER]
    below = seen[-INNER - 3 : -INNER, name + 2 : -36]
    return tuple(bool(np.abs(np.median(edge, axis=(0, 1)) - paper(scheme)).max() > 12) for edge in (right, below))  # type: ignore[return-value]


OVERFLOWS = "s => [s.scrollWidth > s.clientWidth + 1, s.scrollHeight > s.clientHeight + 1]"


@in_a_browser
@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_table_shows_a_cue_exactly_at_the_edges_behind_which_it_goes_on(page, width, scheme):
    with shown(page, width, scheme) as tab:
        met = set()
        for name, scroll in zip(TABLES, tab.query_selector_all(".scroll"), strict=False):
            overflows = tuple(scroll.evaluate(OVERFLOWS))
            met.add(overflows)
            if name != "one cell":  # which is too small to look at its edges
                assert cues(scroll, scheme) == overflows, name
            scroll.evaluate("scroll => scroll.scrollTo(9999, 99999)")
            assert name == "one cell" or cues(scroll, scheme) == (False, False), name
        assert {(False, False), (True, False), (False, True), (True, True)} <= met | {(False, True)}


@in_a_browser
def test_a_phone_shows_the_first_columns_and_the_others_by_scrolling(tmp_path):
    names = ("super_learner", "geometric_mean", *LEARNERS)
    page = write(tmp_path / "page.html", [table(17, 10, names, wide=True)])
    with shown(page, PHONE) as tab:
        right = "number => document.querySelectorAll('tbody tr:first-child > *')[number].getBoundingClientRect().right"
        assert tab.evaluate(right, 2) <= PHONE
        assert tab.evaluate(right, 10) > PHONE
        tab.evaluate("document.querySelector('.scroll').scrollTo(9999, 0)")
        assert tab.evaluate(right, 10) <= PHONE
        assert tab.evaluate(right, 0) > 0  # the name stays


HOLES = """
[...document.querySelectorAll('.columns')].map(columns => {
    const own = columns.getBoundingClientRect()
    const filled = [...columns.querySelectorAll('.cell')].map(cell => cell.getBoundingClientRect())
    return filled.reduce((sum, cell) => sum + cell.width * cell.height, 0) / (own.width * own.height)
})
"""


@in_a_browser
def test_blocks_side_by_side_leave_no_hole(tmp_path):
    rows = (5, 1, 3, 2, 10), (4, 8, 26), (7, 5, 5, 5, 5), (6, 6)
    page = write(tmp_path / "page.html", *([table(count, 2, ["cat"]) for count in of] for of in rows))
    with shown(page, DESK) as tab:
        assert min(tab.evaluate(HOLES)) > 0.7
        tab.add_style_tag(content=".columns { display: grid; grid-template-columns: repeat(3, 1fr); columns: auto }")
        assert min(tab.evaluate(HOLES)) < 0.65


@pytest.mark.parametrize(
    ("rows", "expected"), [((1,), 1), ((5, 5), 2), ((5, 5, 5), 3), ((5, 8, 26), 2), ((3, 3, 3, 3), 2), ((2,) * 9, 3)]
)
def test_the_number_of_columns(rows, expected):
    assert html.columns([table(count, 2) for count in rows]) == expected


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("super_learner", "super_<wbr>learner"),
        ("data.sample_submission", "data.<wbr>sample_<wbr>submission"),
        ("a/b-c", "a/<wbr>b-<wbr>c"),
        ("0.9073", "0.9073"),
        ("<b>_x", "&lt;b&gt;_x"),
        ("плюш_мишка", "плюш_<wbr>мишка"),
        ("_", "_"),
        ("", ""),
    ],
)
def test_long_names_may_be_broken_between_their_parts(text, broken):
    assert html.breakable(text) == broken


def test_columns_that_are_empty_in_all_rows_are_left_out():
    assert filled(("a", "b", "c"), [["x", "", "1"], ["y", "", ""]]) == (["a", "c"], [["x", "1"], ["y", ""]])


CLOUDS = {
    "one place": [(f"submission_{number}", 0.9, 0.9) for number in range(9)],
    "a line": [(f"a_long_submission_{number}", number / 20, number / 20) for number in range(20)],
    "two": [("gru", 0.8, 0.7), ("lstm", 0.8, 0.9)],
    "a cloud": [(f"s{number}", *RANDOM.normal(size=2)) for number in range(60)],
    "a row": [(f"super_learner_{number}", number, 0.5) for number in range(5)],
}


@pytest.mark.parametrize("name", CLOUDS)
def test_names_of_points_never_overlap(name):
    def scatter(label: bool) -> Any:
        made, axes = charts.figure(charts.LIGHT, 3.4)
        points = CLOUDS[name]
        axes.scatter([x for _, x, _ in points], [y for _, _, y in points], s=22)
        axes.margins(x=0.3, y=0.1)
        if label:
            charts.label_points(axes, points, charts.LIGHT)
        else:
            for said, x, y in points:
                axes.annotate(said, (x, y), (5, -3), textcoords="offset points", fontsize=7.5)
        return made

    made = scatter(label=True)
    assert overlapping(made) == []
    assert outside(made) == []
    named = {said for said, _ in boxes(made)} & {said for said, *_ in CLOUDS[name]}
    assert CLOUDS[name][0][0] in named or name == "a cloud"
    assert name not in ("one place", "a cloud") or overlapping(scatter(label=False))


def test_a_reliability_diagram_has_the_number_of_rows_of_each_bin():
    sure = np.array([0.21] * 3 + [0.55] * 40 + [0.99] * 1234)
    probabilities = np.column_stack([sure, *[(1 - sure) / 9] * 9])
    labels = np.where(np.arange(len(sure)) % 2, 0, 9)
    found = reliability(probabilities, labels)
    assert found.rows.tolist() == [3, 40, 1234]
    assert found.bins.tolist() == [3, 8, BINS - 1]
    np.testing.assert_allclose(found.sure, [0.21, 0.55, 0.99])
    np.testing.assert_allclose(found.right, [1 / 3, 0.5, 0.5])
    made = reliability_diagram(charts.LIGHT, [("unscaled", 1, found), ("scaled", 0, found)])
    texts = [text for text, _ in boxes(made)]
    assert {"3", "40", "1,234"} <= set(texts)
    assert overlapping(made) == []
    assert outside(made) == []
    hollow = [line for line in made.axes[0].lines if line.get_markerfacecolor() == charts.LIGHT.paper]
    assert [line.get_xdata().tolist() for line in hollow] == [[0.21], [0.21]]
    assert found.rows[0] < FEW <= found.rows[1]


@pytest.mark.parametrize("rows", [[1], [29] * 15, [10**6] * 15, [1, 10**7], [5, 3, 1, 900]])
def test_a_reliability_diagram_has_room_for_the_numbers_of_any_bins(rows):
    sure = np.concatenate([np.full(1, (number + 0.5) / BINS) for number in range(BINS)])[-len(rows) :]
    found = reliability(np.column_stack([sure, 1 - sure]), np.zeros(len(sure), int))
    bins = np.arange(BINS - len(rows), BINS)
    found = found._replace(rows=np.array(rows), bins=bins, sure=(bins + 0.5) / BINS, right=np.linspace(0, 1, len(rows)))
    made = reliability_diagram(charts.LIGHT, [("unscaled", 1, found)])
    assert overlapping(made) == []
    assert outside(made) == []


HELD_OUT: dict[str, Any] = {"held_out_loss": [3.1, 2.5], "held_out_map3": [0.5, 0.6], "held_out_top1": [0.4, 0.45]}


def curve(epochs: int = 2, **columns: Sequence[float]) -> pd.DataFrame:
    steps = np.arange(1, epochs + 1)
    return pd.DataFrame({"epoch": steps, "learning_rate": 0.01, "loss": 3 / steps, "top1": 0.1 * steps} | columns)


@pytest.mark.parametrize(
    ("curves", "panels"),
    [
        ({0: curve()}, 1),
        ({fold: curve(**HELD_OUT) for fold in range(3)}, 2),
        ({0: curve(), 1: curve(**HELD_OUT)}, 2),
        ({fold: curve(30) for fold in range(12)}, 1),
        ({0: curve(held_out_map3=[np.nan, 0.5])}, 2),
        ({0: curve(held_out_loss=[np.nan, np.nan])}, 1),
        ({0: curve(1)}, 1),
    ],
)
def test_learning_curves_of_any_columns_and_folds_are_drawn_without_collisions(curves, panels):
    made = by_epoch(charts.LIGHT, curves, panels_of(curves))
    assert len(made.axes) == panels
    assert overlapping(made) == []
    assert outside(made) == []
    texts = [text for text, _ in boxes(made)]
    assert [str(fold) for fold in curves if str(fold) not in texts] == []
    columns = {column for each in curves.values() for column in each if column.startswith("held_out")}
    assert sum("held-out" in text for text in texts) == len(columns)


@pytest.mark.parametrize(
    ("low", "top", "first", "last", "most"),
    [(1, 15, 0.5, 15.5, 15), (2, 131, 1.5, 131, 40), (0, 0, 0, 1, 5), (0.0, 3.5, 0, 3.5, 5), (7, 2364, 6.5, 2364, 41)],
)
def test_bins_of_a_histogram_hold_equally_many_integers(low, top, first, last, most):
    edges = bin_edges(low, top)
    assert edges[0] == first
    assert edges[-1] >= last
    assert 5 <= len(edges) - 1 <= most + 1
    if top - low >= 5:
        assert len({sum(one < value < other for value in range(3000)) for one, other in
                    itertools.pairwise(edges)}) == 1  # fmt: skip
