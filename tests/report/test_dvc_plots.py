"""`dvc plots show` and `dvc plots diff` without a network: their page holds Vega."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc_render.vega_templates import TEMPLATES  # type: ignore[import-untyped]

from bench.browser import DESK, PHONE, Findings, chromium, opened
from tests.conftest import ROOT

in_a_browser = pytest.mark.skipif(chromium() is None, reason="there is no Chromium on the PATH")
PAGE = ROOT / ".dvc" / "plots.html"


@pytest.fixture(scope="module")
def plots(finished_run, tmp_path_factory) -> Path:
    """The page of all plots of a finished run."""
    home = tmp_path_factory.mktemp("plots") / "run"
    shutil.copytree(finished_run.home, home)
    (home / ".dvc").mkdir()
    for name in ("config", "plots.html"):
        shutil.copy(ROOT / ".dvc" / name, home / ".dvc")
    shutil.copytree(ROOT / ".dvc" / "plots", home / ".dvc" / "plots")
    (home / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")
    for name in ("dvc.yaml", "ledger.csv"):
        shutil.copy(ROOT / name, home)
    subprocess.run([sys.executable, "-m", "dvc", "plots", "show", "-q"], cwd=home, check=True)
    return home / "dvc_plots" / "index.html"


def test_the_page_refers_to_no_other_host(plots):
    text = plots.read_text()
    assert re.findall(r"""\b(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//[^>]*""", text) == []
    assert "cdn" not in text
    assert "default-src 'none'" in text
    assert not re.findall(r"\{(scripts|plot_divs|refresh_tag)\}", text)


def test_the_schema_of_all_templates_is_that_of_the_vega_in_the_page():
    ours = [json.loads(path.read_text())["$schema"] for path in (ROOT / ".dvc" / "plots").glob("*.json")]
    theirs = [template.DEFAULT_CONTENT["$schema"] for template in TEMPLATES]
    assert {*ours, *theirs} == {"https://vega.github.io/schema/vega-lite/v5.json"}
    assert "Vega-Lite 5." in PAGE.read_text()


COUNTS = """
() => {
    const canvases = [...document.querySelectorAll('main > div canvas')]
    const inked = canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(v => v)
    return [document.querySelectorAll('main > div').length, canvases.filter(inked).length]
}
"""


@in_a_browser
@pytest.mark.parametrize(("width", "scheme"), [(DESK, "light"), (PHONE, "dark")])
def test_every_plot_is_drawn_without_a_network(plots, width, scheme):
    findings = Findings()
    with opened(plots, findings, width, scheme) as tab:
        tab.wait_for_function("document.querySelectorAll('main > div canvas').length >= 9", timeout=20_000)
        blocks, inked = tab.evaluate(COUNTS)
        wide = tab.evaluate("document.documentElement.scrollWidth")
    assert blocks == inked == 3 + 2 * 3  # three of the run, and the curves of two learners on three folds
    assert findings.requests == []
    assert [said for said in findings.console if not said.startswith("WARN")] == []
    assert wide <= width


@in_a_browser
def test_the_page_of_dvc_itself_draws_nothing_without_a_network(plots, tmp_path):
    text = re.sub(r"<script>(?!\s*var spec).*?</script>\n", "", plots.read_text(), count=4, flags=re.DOTALL)
    text = re.sub(r"<meta http-equiv[^>]*>", '<script src="https://cdn.jsdelivr.net/npm/vega@5.20.2"></script>', text)
    (tmp_path / "index.html").write_text(text)
    findings = Findings()
    with opened(tmp_path / "index.html", findings) as tab:
        assert tab.evaluate(COUNTS)[1] == 0
    assert any("cdn.jsdelivr.net" in asked for asked in findings.requests)
    assert findings.console
