"""The pictures that the README and docs/compare.md show: the report and a comparison of the run in this folder."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from bench.browser import Findings, Scheme, opened
from bench.tables import RESULTS
from pipeline.comparison.candidates import candidate
from pipeline.comparison.plot import draw
from pipeline.comparison.statistics import compare
from pipeline.foundation.errors import one_paragraph_errors
from pipeline.foundation.places import places

WIDTH, HEIGHT, ABOVE = 1000, 1240, 20  # pixels of each half, and above a section
SMALL = (cv2.IMWRITE_PNG_COMPRESSION, 9)
# Sections of each half, and the most pixels of each section.
LIGHT = (("header", 300), ("Leaderboard", 640), ("Folds", 600))
DARK = (("Calibration", 760), ("Suspected mislabels", 640))


def half(page: Path, scheme: Scheme, sections: tuple[tuple[str, int], ...]) -> np.ndarray:
    """Sections of a report below each other as a picture, (HEIGHT, WIDTH, 3) uint8."""
    parts: list[np.ndarray] = []
    with opened(page, Findings(), WIDTH, scheme) as tab:
        for title, most in sections:
            place = tab.locator(title if title == "header" else f'section:has(h2:text-is("{title}"))')
            box = place.bounding_box()
            top = max(0, box["y"] - ABOVE)
            clip = {"x": 0, "y": top, "width": WIDTH, "height": min(box["y"] + box["height"] - top, most)}
            shot = tab.screenshot(full_page=True, clip=clip)
            part = cv2.imdecode(np.frombuffer(shot, np.uint8), cv2.IMREAD_COLOR)
            assert part is not None
            parts.append(part)
    picture = np.concatenate(parts)[:HEIGHT]
    return np.pad(picture, ((0, HEIGHT - len(picture)), (0, 0), (0, 0)), mode="edge")


@one_paragraph_errors
def main() -> None:
    """Draw report.png and compare.png from the run in the working directory and its report."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--a", default="strokenet", help="of the comparison (%(default)s)")
    parser.add_argument("--b", default="super_learner", help="of the comparison (%(default)s)")
    asked = parser.parse_args()
    page = places().reports / "report.html"
    cv2.imwrite(str(RESULTS / "report.png"), np.hstack([half(page, "light", LIGHT), half(page, "dark", DARK)]), SMALL)
    draw(compare(candidate(asked.a), candidate(asked.b)), RESULTS / "compare.png")
    print(f"Drawn: {RESULTS}/report.png and {RESULTS}/compare.png.")


if __name__ == "__main__":
    main()
