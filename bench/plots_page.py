"""Makes .dvc/plots.html, the page of `dvc plots show` and `dvc plots diff`, which holds Vega and needs no network.

python -m bench.plots_page      # with a network: fetches the npm packages, checks their hashes, writes the page
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from pathlib import Path

import requests

from pipeline.foundation.artefacts import whole_file
from pipeline.foundation.errors import SketchstackError, one_paragraph_errors

PLACE = Path(".dvc/plots.html")
REGISTRY = "https://registry.npmjs.org"
PACKAGES = {  # with the SHA-256 of each archive
    ("vega", "5.33.0"): "7b61f992d1a1e196e7f2eeb3d6176e5694949d0d4bbfea237a842d523dd6e1f3",
    ("vega-lite", "5.23.0"): "e4cbfdd8f6f1abe381c59cd558fd6a559c12b1496bfdf2e0c3295263a40fe4da",
    ("vega-embed", "6.29.0"): "ecf1ee709c2bac9e0a4ead6908114b05b62c71493e10a8a4308109bb070f8eb1",
}
HEAD = """<!DOCTYPE html>
<!--
The page of `dvc plots show` and `dvc plots diff`: DVC puts its plots into it (`plots.html_template` in .dvc/config).
DVC's own page loads Vega from a CDN; this one holds Vega, so it needs no network, and its policy forbids requests.
Vega 5.33.0, Vega-Lite 5.23.0 and Vega-Embed 6.29.0, the files build/*.min.js of their npm packages, without the
comments about source maps. Vega-Lite 5 is the schema of DVC's templates and of those in .dvc/plots.

The licence of the three, the BSD 3-Clause License:

LICENCE
-->
<html lang="en">
<head>
{refresh_tag}
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval';
 style-src 'unsafe-inline'; img-src 'self' data: blob: file:">
<link rel="icon" href="data:,">
<title>DVC plots</title>
<style>
body { margin: 16px; background: #fdfcf9; color: #26241f; font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.3rem; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 460px), 1fr)); gap: 24px 12px; }
main > div { overflow-x: auto; min-width: 0; }
@media (prefers-color-scheme: dark) { body { background: #191815; color: #ece8de; } }
</style>
"""
TAIL = """<script>
{
  // The menu of a plot has no "Open in Vega Editor", which would send its data to another host.
  const embed = window.vegaEmbed, dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const actions = { export: true, source: true, compiled: false, editor: false };
  const config = { background: "transparent", axis: dark ? { gridColor: "#4a463e" } : {} };
  const options = { actions, config, logLevel: vega.Error, theme: dark ? "dark" : undefined };
  window.vegaEmbed = (element, spec) => embed(element, spec, options);
}
</script>
</head>
<body>
<h1>DVC plots</h1>
<main>
{plot_divs}
</main>
</body>
</html>
"""


def fetched(name: str, version: str, sha256: str) -> tuple[str, str]:
    """The minified script of an npm package, and its licence.

    Raises:
        SketchstackError: the registry gives other bytes.
    """
    answer = requests.get(f"{REGISTRY}/{name}/-/{name}-{version}.tgz", timeout=60)
    answer.raise_for_status()
    if hashlib.sha256(answer.content).hexdigest() != sha256:
        raise SketchstackError(f"{answer.url} has another SHA-256 than bench/plots_page.py names: see what changed.")
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        texts = []
        for member in (f"package/build/{name}.min.js", "package/LICENSE"):
            file = archive.extractfile(member)
            assert file is not None
            texts.append(file.read().decode())
    return re.sub(r"\n//# sourceMappingURL=.*", "", texts[0]).strip(), texts[1]


@one_paragraph_errors
def main() -> None:
    """Write the page."""
    found = [fetched(name, version, sha256) for (name, version), sha256 in PACKAGES.items()]
    licence = found[0][1].strip().replace("--", "- -")
    scripts = "".join(f"<script>{script}</script>\n" for script, _ in found)
    with whole_file(PLACE) as file:
        file.write_text(HEAD.replace("LICENCE", licence) + scripts + TAIL, encoding="utf-8")


if __name__ == "__main__":
    main()
